//! Runs scenarios against one auditor session and compares what came out with what had to.
//!
//! Every container has an id of its own, so a line that comes late, or for the wrong reason, is still charged to the
//! scenario that caused it. Expected lines are awaited while the state is held; everything else is judged when the
//! session has ended.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::act::{Act, Kind};
use crate::bundle::{self, Bundle, Given, Programs};
use crate::identity::{Entity, container_id, entity};
use crate::interrupt;
use crate::outcome::Report;
use crate::runtime::{Layout, Running, Runtime};
use crate::scenario::{
    Container, Deed, Expect, Hierarchy, LineKind, Need, Net, Object, Scenario, Session, Step, Whom,
};
use crate::silence;
use crate::stream::{Auditor, Ended};
use crate::{sys, table};

/// What to run, with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The auditor, or none to see whether the acts succeed.
    pub auditor: Option<PathBuf>,
    /// What the containers run.
    pub programs: Programs,
    /// The runtimes.
    pub runtimes: Vec<Runtime>,
    /// Only scenarios whose name contains one of these, if any.
    pub only: Vec<String>,
    /// Start/stop cycles per runtime in the silence suite.
    pub cycles: u32,
    /// How long an expected line, or the absence of one, is waited for.
    pub patience: Duration,
    /// Where bundles go.
    pub work: PathBuf,
    /// First part of every container's id.
    pub prefix: String,
    /// Whether the auditor's lines are printed too.
    pub show: Show,
}

/// What goes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Nothing.
    Nothing,
    /// Violations that name our containers, as they were printed.
    Violations,
}

impl Options {
    /// Whether a scenario of that name was asked for.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// The parent of every leaf cgroup.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        format!("/auditor-tests-{}", self.prefix)
    }
}

/// Runs everything.
///
/// # Errors
/// When the surroundings fail; a failed case is an outcome.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let done = run_sessions(options, report);
    remove_cgroups(&options.cgroup_parent());
    done
}

fn run_sessions(options: &Options, report: &mut Report) -> Result<()> {
    for session in Session::ALL {
        let scenarios: Vec<Scenario> = table::scenarios()
            .into_iter()
            .filter(|scenario| scenario.session == session && options.wants(scenario.id))
            .collect();
        let silence = session == Session::Default && options.wants("silence");
        if scenarios.is_empty() && !silence {
            continue;
        }
        let mut stage = Stage::open(options, session)?;
        for runtime in &options.runtimes {
            for scenario in &scenarios {
                interrupt::check()?;
                if let Err(error) = stage.play(scenario, runtime, report) {
                    let case = format!("{}/{}", runtime.name, scenario.id);
                    report.check(case, Duration::ZERO, Some(format!("{error:#}")))?;
                }
            }
        }
        if silence {
            silence::run(options, report)?;
        }
        stage.close(report)?;
    }
    Ok(())
}

/// One auditor session.
struct Stage<'a> {
    options: &'a Options,
    session: Session,
    auditor: Option<Auditor>,
    /// Indexes of lines that some step expected.
    claimed: BTreeSet<usize>,
    /// Case names and the ids of their containers.
    played: Vec<(String, BTreeSet<String>)>,
}

impl<'a> Stage<'a> {
    fn open(options: &'a Options, session: Session) -> Result<Self> {
        let mut arguments = Vec::new();
        if let Some(policy) = session.policy() {
            let path = options.work.join(format!("{}.toml", session.name()));
            std::fs::write(&path, policy).with_context(|| format!("write {}", path.display()))?;
            arguments.extend(["--policy".to_owned(), path.display().to_string()]);
        }
        let start = |binary: &PathBuf| Auditor::start(binary, &arguments, options.patience * 10);
        let auditor = options.auditor.as_ref().map(start).transpose()?;
        Ok(Self {
            options,
            session,
            auditor,
            claimed: BTreeSet::new(),
            played: Vec::new(),
        })
    }

    fn play(&mut self, scenario: &Scenario, runtime: &Runtime, report: &mut Report) -> Result<()> {
        let name = format!("{}/{}", runtime.name, scenario.id);
        let mut cast = Cast::new(self.options, scenario, runtime)?;
        let ids = cast
            .running
            .iter()
            .map(|container| container.id.clone())
            .collect();
        self.played.push((name.clone(), ids));
        for step in &scenario.steps {
            let case = format!("{name}/{}", step.id);
            if let Some(missing) = step.needs.iter().find(|need| !is_met(**need, runtime)) {
                report.skip(case, format!("needs {missing:?}"))?;
                continue;
            }
            let started = Instant::now();
            let problem = match cast.perform(step)? {
                Some(problem) => Some(problem),
                None => self.await_lines(step, &cast),
            };
            report.check(case, started.elapsed(), problem)?;
        }
        cast.leave()
    }

    /// Waits for a step's lines; says which did not come.
    fn await_lines(&mut self, step: &Step, cast: &Cast<'_>) -> Option<String> {
        let auditor = self.auditor.as_ref()?;
        let mut missing: Vec<&Expect> = step.expects.iter().collect();
        let mut claimed = std::mem::take(&mut self.claimed);
        auditor.wait(Instant::now() + self.options.patience, |lines| {
            missing.retain(|expect| {
                let fits = |(index, line): (usize, &Value)| {
                    (!claimed.contains(&index) && cast.matches(step, expect, line)).then_some(index)
                };
                let found = lines.iter().enumerate().find_map(fits);
                claimed.extend(found);
                found.is_none()
            });
            missing.is_empty()
        });
        self.claimed = claimed;
        let words: Vec<String> = missing.iter().map(ToString::to_string).collect();
        (!words.is_empty()).then(|| format!("did not come: {}", words.join("; ")))
    }

    fn close(self, report: &mut Report) -> Result<()> {
        let Self {
            options,
            session,
            auditor,
            claimed,
            played,
        } = self;
        let Some(auditor) = auditor else {
            return Ok(());
        };
        let started = Instant::now();
        // What was not expected gets as long to appear as what was.
        std::thread::sleep(options.patience / 2);
        let ended = auditor.stop(options.patience * 10)?;
        let took = started.elapsed();
        if options.show == Show::Violations {
            let ours =
                |line: &&Value| is_type(line, "violation") && concerns_us(line, &options.prefix);
            ended
                .lines
                .iter()
                .filter(ours)
                .for_each(|line| println!("{line}"));
        }
        let unexpected: Vec<&Value> = (ended.lines.iter().enumerate())
            .filter(|(index, line)| is_type(line, "violation") && !claimed.contains(index))
            .map(|(_, line)| line)
            .collect();
        for (name, ids) in &played {
            let own: Vec<&Value> = unexpected
                .iter()
                .copied()
                .filter(|line| names_any(line, ids))
                .collect();
            report.check(format!("{name}/nothing-else"), took, describe(&own))?;
        }
        let all_ids: BTreeSet<String> = played.into_iter().flat_map(|(_, ids)| ids).collect();
        let others: Vec<&Value> = (unexpected.into_iter())
            .filter(|line| !names_any(line, &all_ids) && concerns_us(line, &options.prefix))
            .collect();
        report.check(
            format!("{}/silence", session.name()),
            took,
            describe(&others),
        )?;
        report.check(
            format!("{}/ends-well", session.name()),
            took,
            end_problem(&ended),
        )
    }
}

fn is_type(line: &Value, kind: &str) -> bool {
    line.get("type").and_then(Value::as_str) == Some(kind)
}

fn parties(line: &Value) -> [Entity; 2] {
    ["subject", "object"].map(|key| entity(line.get(key).unwrap_or(&Value::Null)))
}

fn names_any(line: &Value, ids: &BTreeSet<String>) -> bool {
    parties(line)
        .iter()
        .any(|party| matches!(party, Entity::Container(id) if ids.contains(id)))
}

/// Another user's containers on the same machine are none of our business; the host and our own are.
fn concerns_us(line: &Value, prefix: &str) -> bool {
    match &parties(line)[0] {
        Entity::Container(id) => id.starts_with(prefix),
        Entity::Host | Entity::Other(_) => true,
    }
}

fn describe(lines: &[&Value]) -> Option<String> {
    const SHOWN: usize = 5;
    if lines.is_empty() {
        return None;
    }
    let shown: Vec<String> = lines
        .iter()
        .take(SHOWN)
        .map(|line| (*line).to_string())
        .collect();
    Some(format!(
        "{} unexpected:\n    {}",
        lines.len(),
        shown.join("\n    ")
    ))
}

fn end_problem(ended: &Ended) -> Option<String> {
    if !ended.status.success() {
        return Some(format!("the auditor ended with {}", ended.status));
    }
    if let Some(line) = ended.bad.first() {
        return Some(format!("not a JSON line: {line:?}"));
    }
    let last = ended.lines.last()?;
    if is_type(last, "stop") {
        None
    } else {
        Some(format!("the last line is not a stop line: {last}"))
    }
}

fn is_met(need: Need, runtime: &Runtime) -> bool {
    match need {
        Need::TimeNamespace => Path::new("/proc/self/ns/time").exists(),
        Need::Unified => runtime.has_unified_leaf(),
        Need::Pids => Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists(),
    }
}

/// The containers of one scenario while it plays.
struct Cast<'a> {
    runtime: &'a Runtime,
    running: Vec<Running>,
    bundles: Vec<Bundle>,
    net: Option<PreparedNet>,
    /// The task that holds a container's last state, by container.
    last: Vec<i32>,
}

impl<'a> Cast<'a> {
    fn new(options: &Options, scenario: &Scenario, runtime: &'a Runtime) -> Result<Self> {
        let prepared = scenario
            .containers
            .iter()
            .any(|container| container.net != Net::Fresh);
        let net = prepared
            .then(|| PreparedNet::new(&options.work))
            .transpose()?;
        let mut cast = Self {
            runtime,
            running: Vec::new(),
            bundles: Vec::new(),
            net,
            last: Vec::new(),
        };
        for container in &scenario.containers {
            cast.add(options, scenario, container)?;
        }
        Ok(cast)
    }

    fn add(&mut self, options: &Options, scenario: &Scenario, container: &Container) -> Result<()> {
        let id = container_id(
            &options.prefix,
            &self.runtime.name,
            scenario.id,
            container.name,
        );
        let given = Given {
            id: &id,
            args: &["/bin/actor", "serve"],
            net_path: self.net.as_ref().map(|net| net.path.as_path()),
            cgroup_namespace: self.runtime.layout == Layout::Unified,
            cgroup_parent: &options.cgroup_parent(),
        };
        let bundle = bundle::write(&options.work, &options.programs, container, &given)?;
        let inherited = (container.net == Net::Inherited)
            .then_some(self.net.as_ref())
            .flatten();
        self.running.push(
            self.runtime
                .start(&bundle, inherited.map(|net| &net.file))?,
        );
        self.bundles.push(bundle);
        self.last.push(0);
        Ok(())
    }

    /// Performs a step; says why the act failed, if it did.
    fn perform(&mut self, step: &Step) -> Result<Option<String>> {
        let Some(act) = self.act(step)? else {
            return Ok(None);
        };
        let answer = self.running[step.who].act(&act)?;
        self.last[step.who] = answer.pid;
        let error = std::io::Error::from_raw_os_error(answer.errno);
        Ok((answer.errno != 0).then(|| format!("the act failed: {}: {error}", answer.what)))
    }

    fn act(&self, step: &Step) -> Result<Option<Act>> {
        let pid = |whom| self.pid_of(whom, step.who);
        Ok(Some(match step.deed {
            Deed::Nothing => return Ok(None),
            Deed::JoinByFd(kind, Whom::Own) => Act::JoinByFd {
                path: format!("/proc/self/ns/{}", kind.name()),
                kind,
            },
            Deed::JoinByFd(Kind::Time, Whom::Neighbour) => {
                let holder = self.running[1].host_pid(self.last[1]);
                let pid = holder.context("the neighbour's task with a time namespace is gone")?;
                Act::JoinByFd {
                    path: format!("/hostproc/{pid}/ns/time"),
                    kind: Kind::Time,
                }
            }
            Deed::JoinByFd(kind, whom) => Act::JoinByFd {
                path: format!("/hostproc/{}/ns/{}", pid(whom), kind.name()),
                kind,
            },
            Deed::JoinByPidfd(kinds, whom) => Act::JoinByPidfd {
                pid: pid(whom),
                kinds: kinds.to_vec(),
            },
            Deed::Unshare(kind) => Act::Unshare { kind },
            Deed::Clone(kind) => Act::Clone { kind },
            Deed::MoveCgroup(hierarchy, whom) => Act::MoveCgroup {
                directory: self.cgroup(hierarchy, whom, step.who),
            },
            Deed::CloneIntoCgroup(whom) => Act::CloneIntoCgroup {
                directory: self.cgroup(Hierarchy::Unified, whom, step.who),
            },
            Deed::Chroot(whom) => Act::Chroot {
                path: self.directory(whom, step.who),
            },
            Deed::ChrootByFd(whom) => Act::ChrootByFd {
                path: self.directory(whom, step.who),
            },
            Deed::Chdir(whom) => Act::Chdir {
                path: self.directory(whom, step.who),
            },
            Deed::DropUser => Act::DropUser,
            Deed::ExecSetuid => Act::ExecAsUser {
                path: "/bin/actor-setuid".into(),
            },
            Deed::ExecCapable => Act::ExecAsUser {
                path: "/bin/actor-capable".into(),
            },
            Deed::UnshareUserAsUser => Act::UnshareUserAsUser,
        }))
    }

    /// A pid as the acting container sees it: its own first process is 1, others are seen through the host's /proc or
    /// pid namespace.
    fn pid_of(&self, whom: Whom, who: usize) -> i32 {
        match whom {
            Whom::Host => std::process::id() as i32,
            Whom::Neighbour => self.running[1 - who.min(1)].pid,
            Whom::Own => 1,
        }
    }

    fn directory(&self, whom: Whom, who: usize) -> String {
        match whom {
            Whom::Own => "/tmp".into(),
            Whom::Host | Whom::Neighbour => format!("/hostproc/{}/root", self.pid_of(whom, who)),
        }
    }

    fn cgroup(&self, hierarchy: Hierarchy, whom: Whom, who: usize) -> String {
        let mount = match (hierarchy, self.runtime.layout) {
            (Hierarchy::Pids, _) => "/hostcgroup/pids",
            (Hierarchy::Unified, Layout::Unified) => "/hostcgroup",
            (Hierarchy::Unified, Layout::Hybrid | Layout::Legacy) => "/hostcgroup/unified",
        };
        match whom {
            Whom::Host => mount.to_owned(),
            Whom::Neighbour => format!("{mount}{}", self.bundles[1 - who.min(1)].cgroup),
            Whom::Own => format!("{mount}{}/inner", self.bundles[who].cgroup),
        }
    }

    fn matches(&self, step: &Step, expect: &Expect, line: &Value) -> bool {
        let text = |key: &str| line.get(key).and_then(Value::as_str);
        let kind = match expect.kind {
            LineKind::Violation => "violation",
            LineKind::Audit => "audit",
        };
        let fits = |wanted: Option<&str>, key: &str| wanted.is_none() || text(key) == wanted;
        is_type(line, kind)
            && text("rule") == Some(expect.rule)
            && fits(expect.dimension, "dimension")
            && fits(expect.severity, "severity")
            && self.parties_fit(step, expect.object, parties(line))
    }

    fn parties_fit(&self, step: &Step, object: Object, [subject, named]: [Entity; 2]) -> bool {
        let container = |index: usize| {
            self.running
                .get(index)
                .map(|container| Entity::Container(container.id.clone()))
        };
        let acting = Some(&subject) == container(step.who).as_ref();
        match object {
            Object::Any => acting,
            Object::Host => acting && named == Entity::Host,
            Object::Neighbour => acting && Some(named) == container(1),
            Object::Pair => {
                let found = [Some(subject), Some(named)];
                let pair = [container(0), container(1)];
                found == pair || found == [pair[1].clone(), pair[0].clone()]
            }
        }
    }

    fn leave(self) -> Result<()> {
        let Self {
            running,
            bundles,
            net,
            ..
        } = self;
        for container in running {
            container.stop()?;
        }
        for bundle in bundles {
            std::fs::remove_dir_all(&bundle.directory)
                .with_context(|| format!("remove {}", bundle.directory.display()))?;
        }
        drop(net);
        Ok(())
    }
}

/// A network namespace without a process, kept by a bind mount as `ip netns` does.
struct PreparedNet {
    file: File,
    path: PathBuf,
}

impl PreparedNet {
    fn new(work: &Path) -> Result<Self> {
        let made = std::thread::spawn(|| -> Result<File> {
            sys::unshare(libc::CLONE_NEWNET).context("make a network namespace")?;
            File::open("/proc/thread-self/ns/net").context("open the network namespace")
        });
        let file = made
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        let path = work.join("netns");
        File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let source = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        sys::mount(&source, &path, "", libc::MS_BIND, "")
            .with_context(|| format!("bind {}", path.display()))?;
        Ok(Self { file, path })
    }
}

impl Drop for PreparedNet {
    fn drop(&mut self) {
        // The directory is temporary; a mount that stays would be seen when it is removed.
        let _ = sys::umount_detach(&self.path);
    }
}

/// Removes the parents of leaf cgroups, in every hierarchy.
fn remove_cgroups(parent: &str) {
    let name = parent.trim_start_matches('/');
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        // Most hierarchies do not have it.
        let _ = std::fs::remove_dir(hierarchy.join(name));
    }
}
