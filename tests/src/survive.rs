//! What the auditor must survive: lost events, a kill, files that are no good, a reader that does not read, storms, ids
//! that come again.
//!
//! Each case has an auditor of its own, with the options that the case is about. Lines are awaited, never slept for, and
//! every line that any of these auditors printed is held against the schema that the same binary prints.

mod ending;
mod losing;
mod recording;
mod refusing;
mod restarting;
mod reusing;
mod supposing;
mod watch;

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::act::{Act, Answer, Kind};
use crate::bundle::{self, Bundle, Given};
use crate::identity::{Entity, container_id, is_type, parties};
use crate::interrupt;
use crate::outcome::Report;
use crate::runner::Options;
use crate::runtime::{Layout, Running, Runtime};
use crate::scenario::{Container, Leaked};
use watch::{Ran, Watch};

type Case = fn(&Survival<'_>, &Runtime) -> Result<()>;

/// What does not depend on the runtime, run with the first one.
const CASES: [(&str, Case); 27] = [
    ("stalled-reader", losing::stalled_reader),
    ("start-in-storm", losing::start_in_storm),
    ("closed-output", losing::closed_output),
    ("unread-output", losing::unread_output),
    ("full-disk", losing::full_disk),
    ("flood", losing::flood),
    ("storm", losing::storm),
    ("killed", restarting::killed),
    ("forgetful", restarting::forgetful),
    ("damaged-state", refusing::damaged_state),
    ("bad-types", refusing::bad_types),
    ("bad-policy", refusing::bad_policy),
    ("policy-changes", refusing::policy_changes),
    ("policy-at-start", refusing::policy_at_start),
    ("folded", reusing::folded),
    ("same-pid", reusing::same_pid),
    ("exit-on", ending::exit_on),
    ("duration", ending::duration),
    ("signals", ending::signals),
    ("capabilities", ending::capabilities),
    ("reports", ending::reports),
    ("matrix", ending::matrix),
    ("what-if", supposing::what_if),
    ("recorder-killed", recording::killed),
    ("recorder-full-disk", recording::full_disk),
    ("recorder-directory", recording::foreign_directory),
    ("recorder-pipe", recording::piped),
];

/// What is done with every runtime.
const RUNTIME_CASES: [(&str, Case); 2] = [
    ("started-after", restarting::started_after),
    ("found-together", restarting::found_together),
];

/// Runs every case that was asked for.
///
/// # Errors
/// When the surroundings fail; a failed case is an outcome.
pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let wanted = |name: &str| options.wants(&format!("survive/{name}"));
    let (Some(auditor), Some(first)) = (&options.auditor, options.runtimes.first()) else {
        return Ok(());
    };
    let once = CASES.iter().map(|case| (first, case));
    let each = (options.runtimes.iter())
        .flat_map(|runtime| RUNTIME_CASES.iter().map(move |case| (runtime, case)));
    let cases: Vec<_> = once
        .chain(each)
        .filter(|(_, (name, _))| wanted(name))
        .collect();
    if cases.is_empty() {
        return Ok(());
    }
    let survival = Survival::new(options, auditor)?;
    for (runtime, (name, case)) in cases {
        interrupt::check()?;
        let started = Instant::now();
        let problem = case(&survival, runtime)
            .err()
            .map(|error| format!("{error:#}"));
        report.check(
            format!("{}/survive/{name}", runtime.name),
            started.elapsed(),
            problem,
        )?;
    }
    let invalid = survival.invalid.take();
    let lines = survival.lines.get();
    eprintln!("     {lines} lines held against the schema");
    let problem = invalid
        .first()
        .map(|first| format!("{} of {lines} lines: {first}", invalid.len()));
    report.check("host/survive/lines-are-valid", Duration::ZERO, problem)
}

/// What all cases share.
struct Survival<'a> {
    options: &'a Options,
    auditor: &'a Path,
    schema: jsonschema::Validator,
    lines: Cell<usize>,
    invalid: RefCell<Vec<String>>,
    files: Cell<u32>,
}

impl<'a> Survival<'a> {
    fn new(options: &'a Options, auditor: &'a Path) -> Result<Self> {
        let output = Command::new(auditor)
            .arg("schema")
            .output()
            .context("run auditor schema")?;
        let schema = serde_json::from_slice(&output.stdout).context("read the schema")?;
        Ok(Self {
            options,
            auditor,
            schema: jsonschema::validator_for(&schema).context("compile the schema")?,
            lines: Cell::new(0),
            invalid: RefCell::new(Vec::new()),
            files: Cell::new(0),
        })
    }

    /// A path in the work directory that nobody else has.
    fn path(&self, name: &str) -> PathBuf {
        let number = self.files.replace(self.files.get() + 1);
        self.options.work.join(format!("{number}-{name}"))
    }

    fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Starts `auditor watch`, without state unless told otherwise.
    fn watch(&self, arguments: &[&str]) -> Result<Watch> {
        let mut command = self.command(&["watch"]);
        command.args(arguments);
        if !arguments.contains(&"--state-dir") {
            command.arg("--no-state");
        }
        Watch::start(&mut command, self.path("log"), self.options.patience)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.auditor);
        command.args(arguments);
        command
    }

    /// Runs a command of the auditor to its end.
    fn run(&self, arguments: &[&str]) -> Result<Ran> {
        watch::run(
            &mut self.command(arguments),
            &self.path("ran"),
            self.options.patience * 10,
        )
    }

    /// Holds lines against the schema. What is wrong is told at the end, once.
    fn validate(&self, lines: &[Value], bad: &[String]) {
        self.lines.set(self.lines.get() + lines.len() + bad.len());
        let mut invalid = self.invalid.borrow_mut();
        invalid.extend(bad.iter().map(|line| format!("not JSON: {line:?}")));
        for line in lines {
            if let Err(error) = self.schema.validate(line) {
                invalid.push(format!("{error}: {line}"));
            }
        }
    }

    /// Ends a watch by SIGTERM and checks that it ended with this code.
    fn stop(&self, watch: Watch, code: i32) -> Result<Vec<Value>> {
        watch.signal(libc::SIGTERM)?;
        self.ended(watch, code)
    }

    /// Waits for the end of a watch and checks that it ended with this code, by a stop line.
    fn ended(&self, watch: Watch, code: i32) -> Result<Vec<Value>> {
        let ran = watch.finish()?;
        self.validate(&ran.lines, &ran.bad);
        ensure!(
            ran.code == Some(code),
            "ended with {:?} instead of {code}: {}",
            ran.code,
            ran.log
        );
        let last = ran.lines.last().context("no line at all")?;
        ensure!(is_type(last, "stop"), "the last line is {last}");
        Ok(ran.lines)
    }

    /// A container that sees the host's /proc.
    fn container(&self, runtime: &Runtime, name: &str) -> Result<Contained> {
        self.container_as(runtime, name, Leaked::Nothing)
    }

    /// The same, with something that is left to it when it starts.
    fn container_as(&self, runtime: &Runtime, name: &str, leaked: Leaked) -> Result<Contained> {
        let bundle = self.bundle(runtime, name, leaked)?;
        Contained::start(runtime, bundle)
    }

    /// The same, in the pid namespace of another.
    fn container_beside(
        &self,
        runtime: &Runtime,
        name: &str,
        other: &Contained,
    ) -> Result<Contained> {
        let bundle = self.bundle(runtime, name, Leaked::Nothing)?;
        let path = bundle.directory.join("config.json");
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let mut config: Value = serde_json::from_slice(&text).context("parse config.json")?;
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        for namespace in namespaces.into_iter().flatten() {
            if namespace["type"] == "pid" {
                namespace["path"] = format!("/proc/{}/ns/pid", other.running.pid).into();
            }
        }
        std::fs::write(&path, config.to_string())
            .with_context(|| format!("write {}", path.display()))?;
        Contained::start(runtime, bundle)
    }

    fn bundle(&self, runtime: &Runtime, name: &str, leaked: Leaked) -> Result<Bundle> {
        let id = container_id(&self.options.prefix, &runtime.name, "survive", name);
        let given = Given {
            id: &id,
            args: &["/bin/actor", "serve"],
            net_path: None,
            cgroup_namespace: runtime.layout == Layout::Unified,
            cgroup_parent: &self.options.cgroup_parent(),
            share: None,
        };
        let watcher = Container {
            host_proc: true,
            leaked,
            ..Container::plain("survivor")
        };
        bundle::write(&self.options.work, &self.options.programs, &watcher, &given)
    }

    /// Runs the actor on the host.
    fn on_host(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.options.programs.actor);
        crate::runtime::finish(command.args(arguments), self.options.patience * 10)
    }

    /// Whether a line is about one of our containers.
    fn is_ours(&self, line: &Value) -> bool {
        let ours = |party: &Entity| matches!(party, Entity::Container(id) if id.starts_with(&self.options.prefix));
        parties(line).iter().any(ours)
    }

    /// Refuses lines of a type that are about our containers.
    fn none(&self, lines: &[Value], kind: &str) -> Result<()> {
        let mut found = lines
            .iter()
            .filter(|line| is_type(line, kind) && self.is_ours(line));
        found
            .next()
            .map_or(Ok(()), |line| Err(anyhow::anyhow!("unexpected: {line}")))
    }
}

/// A container of a case.
struct Contained {
    running: Running,
    runtime: Runtime,
    bundle: Bundle,
}

impl Contained {
    fn start(runtime: &Runtime, bundle: Bundle) -> Result<Self> {
        Ok(Self {
            running: runtime.start(&bundle, None)?,
            runtime: runtime.clone(),
            bundle,
        })
    }

    fn id(&self) -> &str {
        &self.running.id
    }

    fn act(&mut self, act: &Act) -> Result<Answer> {
        let answer = self.running.act(act)?;
        ensure!(
            answer.errno == 0,
            "the act failed: {}: {}",
            answer.what,
            std::io::Error::from_raw_os_error(answer.errno)
        );
        Ok(answer)
    }

    /// A task of it joins the host's namespace of this kind and stays there.
    fn join_host(&mut self, kind: Kind) -> Result<()> {
        self.act(&join_host(kind)).map(drop)
    }

    fn unshare(&mut self, kind: Kind) -> Result<()> {
        self.act(&Act::Unshare { kind }).map(drop)
    }

    /// Runs the actor in it, by the runtime's exec.
    fn exec(&self, arguments: &[&str]) -> Result<()> {
        let words = [&["exec", self.id(), "/bin/actor"], arguments].concat();
        self.runtime.run(&words, None)
    }

    /// Whether a line is a violation of this rule by this container.
    fn broke(&self, rule: &str, dimension: &str) -> impl Fn(&Value) -> bool + use<> {
        let subject = Entity::Container(self.id().to_owned());
        let (rule, dimension) = (rule.to_owned(), dimension.to_owned());
        move |line| {
            is_type(line, "violation")
                && line["rule"] == rule.as_str()
                && line["dimension"] == dimension.as_str()
                && parties(line)[0] == subject
        }
    }

    fn end(self) -> Result<()> {
        self.running.stop()?;
        let directory = &self.bundle.directory;
        std::fs::remove_dir_all(directory)
            .with_context(|| format!("remove {}", directory.display()))
    }
}

fn join_host(kind: Kind) -> Act {
    Act::JoinByFd {
        path: format!("/hostproc/{}/ns/{}", std::process::id(), kind.name()),
        kind,
    }
}

/// One task in a container that acts more than once.
struct Wanderer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
    /// Its id, as the host numbers it.
    pid: i32,
}

impl Wanderer {
    fn start(container: &Contained) -> Result<Self> {
        let mut child = container
            .runtime
            .command(None)
            .args(["exec", container.id(), "/bin/actor", "here"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a task in the container")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("its output is not piped")?);
        let mut wanderer = Self {
            child,
            input,
            output,
            pid: 0,
        };
        let inner = wanderer.answer()?.pid;
        let pid = container.running.host_pid(inner);
        wanderer.pid = pid.context("the task cannot be found on the host")?;
        Ok(wanderer)
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("read an answer")?;
        let answer: Answer =
            serde_json::from_str(&line).with_context(|| format!("the task answered {line:?}"))?;
        ensure!(answer.errno == 0, "the task could not: {}", answer.what);
        Ok(answer)
    }

    fn join_host(&mut self, kind: Kind) -> Result<()> {
        let input = self.input.as_mut().context("the task was told to end")?;
        writeln!(input, "{}", serde_json::to_string(&join_host(kind))?)
            .context("write to the task")?;
        self.answer().map(drop)
    }

    /// The host moves it to the root of every hierarchy.
    fn move_to_root(&self) -> Result<()> {
        let root = Path::new("/sys/fs/cgroup");
        let below = std::fs::read_dir(root).context("list the hierarchies")?;
        let directories = below.flatten().map(|entry| entry.path());
        let moved = directories
            .chain([root.to_owned()])
            .map(|directory| directory.join("cgroup.procs"))
            // A directory of a version 2 hierarchy is no hierarchy.
            .filter(|procs| {
                procs.exists()
                    && (procs.parent() == Some(root) || !root.join("cgroup.procs").exists())
            })
            .filter(|procs| std::fs::write(procs, self.pid.to_string()).is_ok())
            .count();
        ensure!(moved > 0, "the task could not be moved");
        Ok(())
    }
}

impl Drop for Wanderer {
    fn drop(&mut self) {
        // It ends with its input; a runtime that does not is ours to end.
        drop(self.input.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
