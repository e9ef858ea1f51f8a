//! The containers of one scenario: brought up, told what to do, compared with what a line says, taken down.
//!
//! Here a symbolic deed meets real pids and paths.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::act::kernel::KernelAct;
use crate::act::{Act, Kind};
use crate::bundle::{self, Bundle, Given};
use crate::host_side::HostSide;
use crate::identity::{Entity, container_id, is_type, parties};
use crate::runner::Options;
use crate::runtime::{Layout, Running, Runtime};
use crate::scenario::{
    Because, Container, Deed, Expect, Hierarchy, Net, Object, Places, Scenario, Script, Step,
    Tamper, Whom,
};
use crate::sys;
use crate::tamper::Tampering;

/// The containers of one scenario while it plays.
pub(crate) struct Cast<'a> {
    /// Before the containers: dropped first, it restores what they need for their end.
    tampering: Option<Tampering>,
    /// The tasks whose memory was changed, as the host numbers them, the last one last.
    tampered: Vec<i32>,
    options: &'a Options,
    runtime: &'a Runtime,
    pub(crate) running: Vec<Running>,
    bundles: Vec<Bundle>,
    net: Option<PreparedNet>,
    /// After the containers, which have its directory bound into them.
    host: HostSide,
    /// The task that holds a container's last state, by container.
    last: Vec<i32>,
}

impl<'a> Cast<'a> {
    pub(crate) fn new(
        options: &'a Options,
        scenario: &Scenario,
        runtime: &'a Runtime,
    ) -> Result<Self> {
        let prepared = scenario
            .containers
            .iter()
            .any(|container| container.net != Net::Fresh);
        let net = prepared
            .then(|| PreparedNet::new(&options.work))
            .transpose()?;
        let host = HostSide::new(options, scenario, runtime)?;
        let mut cast = Self {
            host,
            tampering: None,
            tampered: Vec::new(),
            options,
            runtime,
            running: Vec::new(),
            bundles: Vec::new(),
            net,
            last: Vec::new(),
        };
        for container in &scenario.containers {
            cast.add(scenario, container)?;
        }
        Ok(cast)
    }

    fn add(&mut self, scenario: &Scenario, container: &Container) -> Result<()> {
        let options = self.options;
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
            share: self.host.directory(),
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

    /// The directory that is bound at /share, as the host sees it.
    pub(crate) fn shared(&self) -> Option<&Path> {
        self.host.directory()
    }

    /// Performs a step; says why the act failed, if it did.
    pub(crate) fn perform(&mut self, step: &Step) -> Result<Option<String>> {
        if let Some(act) = self.act(step)? {
            let answer = self.running[step.who].act(&act)?;
            self.last[step.who] = answer.pid;
            if answer.errno != 0 {
                let error = std::io::Error::from_raw_os_error(answer.errno);
                return Ok(Some(format!("the act failed: {}: {error}", answer.what)));
            }
        }
        match step.deed {
            Deed::Tamper(what) => self.tamper(step.who, what)?,
            Deed::RuntimeExec(options, argument) => {
                let words = [self.running[step.who].id.as_str(), "/bin/actor", argument];
                let words = [&["exec"], options, &words].concat();
                self.runtime.run(&words, None)?;
            }
            Deed::HostRuns => {
                let program = format!("/proc/{}/root/bin/true", self.running[step.who].pid);
                let status = std::process::Command::new(&program).status();
                let status = status.with_context(|| format!("execute {program}"))?;
                anyhow::ensure!(status.success(), "{program}: {status}");
            }
            Deed::HostRunsCopy(place, path) => {
                let bundle = &self.bundles[step.who].directory;
                let (place, path) = (bundle.join(place), bundle.join(path));
                std::fs::copy(&self.options.programs.busybox, &place)
                    .with_context(|| format!("copy busybox to {}", place.display()))?;
                let status = std::process::Command::new(&path).status();
                let status = status.with_context(|| format!("execute {}", path.display()))?;
                anyhow::ensure!(status.success(), "{}: {status}", path.display());
            }
            Deed::Restore => self.tampering.as_mut().map_or(Ok(()), Tampering::restore)?,
            _ => {}
        }
        Ok(None)
    }

    /// Changes the memory of the task that acted last, or of the container's first where that is meant.
    fn tamper(&mut self, who: usize, what: Tamper) -> Result<()> {
        let container = &self.running[who];
        let pid = match what {
            Tamper::HostName | Tamper::First => container.pid,
            _ => container
                .host_pid(self.last[who])
                .context("the task to change is gone")?,
        };
        let tampering = match &mut self.tampering {
            Some(tampering) => tampering,
            none => {
                let requests = self.options.memory.as_ref();
                let requests = requests.context("nobody writes this machine's memory")?;
                none.insert(Tampering::new(requests, self.options.patience)?)
            }
        };
        self.tampered.push(pid);
        tampering.change(pid, what)
    }

    fn act(&self, step: &Step) -> Result<Option<Act>> {
        let pid = |whom| self.pid_of(whom, step.who);
        Ok(Some(match step.deed {
            Deed::Do(Script(act)) => act(&Sight {
                cast: self,
                who: step.who,
            }),
            Deed::Nothing
            | Deed::Restore
            | Deed::HostRuns
            | Deed::HostRunsCopy(..)
            | Deed::RuntimeExec(..)
            | Deed::Tamper(Tamper::HostName | Tamper::First) => return Ok(None),
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
            Deed::OpenCgroup(hierarchy, whom, setting) => Act::Kernel(KernelAct::OpenToWrite {
                path: format!("{}/{setting}", self.cgroup(hierarchy, whom, step.who)),
            }),
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
            Deed::DropUser | Deed::Tamper(_) => Act::DropUser,
            Deed::SwitchUser => Act::SwitchUser,
            Deed::SwitchCapabilities => Act::SwitchCapabilities,
            Deed::JoinBySetuid(kind, whom) => Act::JoinBySetuid {
                path: match whom {
                    Whom::Own => format!("/proc/self/ns/{}", kind.name()),
                    _ => format!("/hostproc/{}/ns/{}", pid(whom), kind.name()),
                },
                kind,
            },
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

    /// Whether `line`, one of `lines`, is what a step must bring.
    pub(crate) fn matches(
        &self,
        step: &Step,
        expect: &Expect,
        line: &Value,
        lines: &[Value],
    ) -> bool {
        let text = |key: &str| line.get(key).and_then(Value::as_str);
        let fits = |wanted: Option<&str>, key: &str| wanted.is_none() || text(key) == wanted;
        is_type(line, expect.kind.name())
            && text("rule") == Some(expect.rule)
            && fits(expect.dimension, "dimension")
            && fits(expect.severity, "severity")
            && self.parties_fit(step, expect.object, parties(line))
            && self.task_fits(step, line)
            && because_fits(expect.because, line, lines)
    }

    /// What was done to a task's memory must be said of that task, whichever others the container has.
    fn task_fits(&self, step: &Step, line: &Value) -> bool {
        let named = line.pointer("/subject/task/pid").and_then(Value::as_i64);
        let is_named = |pid: &i32| named == Some(i64::from(*pid));
        match step.deed {
            Deed::Tamper(_) => self.tampered.last().is_some_and(is_named),
            Deed::Restore => self.tampered.iter().any(is_named),
            _ => true,
        }
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
            Object::ByHost => {
                subject == Entity::Host && Some(&named) == container(step.who).as_ref()
            }
            Object::Pair => {
                let found = [Some(subject), Some(named)];
                let pair = [container(0), container(1)];
                found == pair || found == [pair[1].clone(), pair[0].clone()]
            }
        }
    }

    pub(crate) fn leave(self) -> Result<()> {
        let Self {
            tampering,
            running,
            bundles,
            net,
            host,
            ..
        } = self;
        drop(tampering);
        let leaves: Vec<&str> = bundles
            .iter()
            .map(|bundle| bundle.cgroup.as_str())
            .collect();
        for (index, container) in running.into_iter().enumerate() {
            let shared = leaves.iter().filter(|leaf| **leaf == leaves[index]).count() > 1;
            // Some runtimes kill whatever else is in the leaf when a container ends.
            container
                .stop()
                .or_else(|error| if shared { Ok(()) } else { Err(error) })?;
        }
        for mut bundle in bundles {
            drop(bundle.overlay.take());
            std::fs::remove_dir_all(&bundle.directory)
                .with_context(|| format!("remove {}", bundle.directory.display()))?;
        }
        drop(net);
        host.leave()
    }
}

/// What a line says of what made it possible, and nothing besides.
fn because_fits(because: Because, line: &Value, lines: &[Value]) -> bool {
    let list = |key: &str| line[key].as_array().map_or(&[][..], Vec::as_slice);
    let (weakening, configured) = (list("weakening"), list("explained_by"));
    let unexplained = line["unexplained"] == Value::Bool(true);
    let is_of = |seq: &Value, rule: &str| {
        let mut named = lines.iter().filter(|line| line["seq"] == *seq);
        named.any(|line| line["rule"] == rule)
    };
    match because {
        Because::Any => true,
        Because::Weakened(rule) => {
            weakening.iter().any(|seq| is_of(seq, rule)) && configured.is_empty() && !unexplained
        }
        Because::Configured(what) => {
            configured.iter().any(|word| word == what) && weakening.is_empty() && !unexplained
        }
        Because::Unexplained => unexplained && weakening.is_empty() && configured.is_empty(),
    }
}

/// What one of the containers sees.
struct Sight<'a> {
    cast: &'a Cast<'a>,
    who: usize,
}

impl Places for Sight<'_> {
    fn pid(&self, whom: Whom) -> i32 {
        self.cast.pid_of(whom, self.who)
    }

    fn directory(&self, whom: Whom) -> String {
        self.cast.directory(whom, self.who)
    }

    fn sleeper(&self) -> i32 {
        self.cast.host.sleeper()
    }

    fn shared(&self) -> String {
        let directory = self.cast.shared().unwrap_or(Path::new("/"));
        directory.to_string_lossy().into_owned()
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
