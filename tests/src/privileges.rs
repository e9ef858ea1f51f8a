//! What `auditor privileges` says of containers whose use of capabilities is known, live and from its own recording.

mod calls;
mod devices;
mod layers;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use auditor::model::capability;
use auditor::report::privileges::{ContainerPrivileges, PrivilegesReport, Sight};
use serde_json::Value;

use crate::act::Act;
use crate::act::capability::CapabilityAct;
use crate::cast::Cast;
use crate::interrupt;
use crate::outcome::Report;
use crate::runner::Options;
use crate::runtime::Runtime;
use crate::scenario::{Container, Scenario, Session};
use crate::stream::START;

/// How often the suite is played where the kernel left programs out, and the reports say so.
const ATTEMPTS: u32 = 3;
/// How often something is looked at that cannot be waited for.
const POLL: Duration = Duration::from_millis(5);

/// Containers that run before the auditor does.
const EARLY: Scene = Scene {
    id: "privileges-early",
    containers: || vec![Container::plain("e")],
};

/// Containers that are seen to start: an ordinary one, one with a user namespace, one of an ordinary user, one that
/// mounts, two that other layers hold, and one that may reach every device.
const SCENE: Scene = Scene {
    id: "privileges",
    containers: || {
        vec![
            Container::plain("a"),
            Container {
                user_namespace: true,
                ..Container::plain("u")
            },
            Container {
                ordinary_user: true,
                ..Container::plain("o")
            },
            Container::plain("m"),
            layers::FILTERED,
            layers::SEALED,
            Container {
                all_devices: true,
                ..Container::plain("d")
            },
        ]
    },
};

/// The ordinary container again, with no more than the advice.
const ADVISED: Scene = Scene {
    id: "privileges-advised",
    containers: || vec![Container::plain("a")],
};

struct Scene {
    id: &'static str,
    containers: fn() -> Vec<Container>,
}

impl Scene {
    fn scenario(&self) -> Scenario {
        Scenario {
            id: self.id,
            does: "containers use capabilities",
            session: Session::Default,
            containers: (self.containers)(),
            steps: Vec::new(),
        }
    }
}

/// Runs the suite with every runtime, if it was asked for.
///
/// # Errors
/// When the surroundings fail; a failed case is an outcome.
pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let Some(auditor) = options
        .auditor
        .as_deref()
        .filter(|_| options.wants("privileges"))
    else {
        return Ok(());
    };
    for runtime in options.runtimes_of("privileges") {
        let started = Instant::now();
        let (mut cases, mut problem);
        let mut left = ATTEMPTS;
        loop {
            interrupt::check()?;
            left -= 1;
            cases = Cases::default();
            problem = play(options, auditor, runtime, &mut cases).err();
            let has_failed = problem.is_some() || cases.all.iter().any(|(_, p)| p.is_some());
            if !has_failed || !cases.skipped || left == 0 {
                break;
            }
        }
        let name = |case: &str| format!("{}/privileges/{case}", runtime.name);
        for (case, problem) in cases.all {
            report.check(name(case), started.elapsed(), problem)?;
        }
        let problem = problem.map(|error| format!("{error:#}"));
        report.check(name("runs"), started.elapsed(), problem)?;
    }
    Ok(())
}

/// What was checked, and what is wrong.
#[derive(Default)]
struct Cases {
    all: Vec<(&'static str, Option<String>)>,
    /// A report says that the kernel left programs out, so something may be missing in it.
    skipped: bool,
}

impl Cases {
    fn check(&mut self, case: &'static str, outcome: Result<()>) {
        let problem = outcome.err().map(|error| format!("{error:#}"));
        self.all.push((case, problem));
    }
}

fn play(options: &Options, auditor: &Path, runtime: &Runtime, cases: &mut Cases) -> Result<()> {
    let early_scene = EARLY.scenario();
    let mut early = Cast::new(options, &early_scene, runtime)?;
    act(&mut early, 0, CapabilityAct::RawSocket)?;
    act(&mut early, 0, CapabilityAct::ListenLow)?;
    let files = Files::new(options, runtime, SCENE.id)?;
    let watch = Watch::start(auditor, &files, options.patience * START)?;
    let scene = SCENE.scenario();
    let mut cast = Cast::new(options, &scene, runtime)?;
    // Known from before, and told all the same.
    act(&mut early, 0, CapabilityAct::RawSocket)?;
    work(&mut cast)?;
    // The runtime uses more to enter than the program does that it runs there.
    runtime.run(&["exec", &cast.running[0].id, "/bin/true"], None)?;
    act(&mut cast, 1, CapabilityAct::ListenLow)?;
    act(&mut cast, 1, CapabilityAct::Reboot)?;
    act(&mut cast, 2, CapabilityAct::Reboot)?;
    act(&mut cast, 1, CapabilityAct::Landlock)?;
    let path = "/sys".to_owned();
    act(&mut cast, 3, CapabilityAct::Mount { path })?;
    let called = calls::makes_32_bit_call(&mut cast, 2)?;
    let scanned = layers::scan(auditor)?;
    let report = watch.stop()?;
    cases.skipped = report
        .may_miss
        .iter()
        .any(|said| said.contains("left its programs out"));
    let of = |cast: &Cast<'_>, index: usize| -> Result<ContainerPrivileges> {
        let id = format!("{}:{}", runtime.name, cast.running[index].id);
        Ok(find(&report, &id)?.clone())
    };
    let plain = of(&cast, 0)?;
    cases.check("used", used_by_plain(&plain));
    cases.check("user-namespace", used_in_user_namespace(&of(&cast, 1)?));
    cases.check("ordinary-user", used_by_ordinary_user(&of(&cast, 2)?));
    cases.check("mounts", used_by_mounting(&of(&cast, 3)?));
    cases.check("from-before", used_from_before(&of(&early, 0)?));
    cases.check("calls", calls::of_plain(&plain));
    cases.check("calls-from-before", calls::from_before(&of(&early, 0)?));
    cases.check("calls-32-bit", calls::of_32_bit(&of(&cast, 2)?, called));
    cases.check("layers-plain", layers::is_plain(&plain));
    cases.check("layers-within", layers::is_within(&of(&cast, 1)?));
    cases.check("landlock", layers::is_restricted(&plain, &of(&cast, 1)?));
    let share = cast.shared().context("nothing is shared")?;
    let filtered = layers::is_filtered(&of(&cast, 4)?, share);
    cases.check("layers-filtered", filtered);
    cases.check("layers-sealed", layers::is_sealed(&of(&cast, 5)?));
    let first = (0..cast.running.len()).map(|index| (&cast, index));
    for (cast, index) in first.chain([(&early, 0)]) {
        let (container, pid) = (of(cast, index)?, cast.running[index].pid);
        cases.check("granted", is_granted(&container, pid));
        cases.check("layers", layers::layers_agree(&container.layers, pid));
        let agree = devices::agree(&container.layers, pid, &options.work);
        cases.check("devices", agree);
        let mut entities = scanned.entities.iter();
        let entity = entities.find(|entity| entity.id == container.id);
        let entity = entity.with_context(|| format!("no scan of {}", container.id))?;
        cases.check("sets", layers::sets_agree(entity, pid));
        let seen = entity.layers.as_ref().context("no layers in the scan")?;
        cases.check("layers-scanned", layers::layers_agree(seen, pid));
        let agree = devices::agree(seen, pid, &options.work);
        cases.check("devices-scanned", agree);
    }
    cases.check("replays", replays(auditor, &files, &report));
    cases.check("accumulates", accumulates(auditor, &files, &report));
    cast.leave()?;
    early.leave()?;
    let advised = follow(options, auditor, runtime, &files, &plain);
    cases.check("advice", advised);
    files.remove()
}

fn find<'a>(report: &'a PrivilegesReport, id: &str) -> Result<&'a ContainerPrivileges> {
    let mut all = report.containers.iter();
    let found = all.find(|container| container.id == id);
    found.with_context(|| {
        let ids: Vec<&str> = report.containers.iter().map(|c| c.id.as_str()).collect();
        format!("{id} is not among {ids:?}")
    })
}

/// What an ordinary container does.
fn work(cast: &mut Cast<'_>) -> Result<()> {
    let path = |name: &str| format!("/{name}");
    for done in [
        CapabilityAct::RawSocket,
        CapabilityAct::Chown {
            path: path("given-away"),
        },
        CapabilityAct::ListenLow,
        CapabilityAct::MountInside { path: path("bin") },
        CapabilityAct::Reboot,
    ] {
        act(cast, 0, done)?;
    }
    Ok(())
}

/// The same container with what the recording advises does the same, and uses nothing else.
fn follow(
    options: &Options,
    auditor: &Path,
    runtime: &Runtime,
    files: &Files,
    before: &ContainerPrivileges,
) -> Result<()> {
    let advice = answer(
        auditor,
        files,
        &["--format", "oci", "--container", &before.id],
    )?;
    let advice: Value = serde_json::from_slice(&advice).context("read the advice")?;
    let patch = &advice[0]["patch"];
    ensure!(patch.is_object(), "no patch: {advice}");
    let files = Files::new(options, runtime, ADVISED.id)?;
    let watch = Watch::start(auditor, &files, options.patience * START)?;
    let mut scene = ADVISED.scenario();
    for container in &mut scene.containers {
        // One for each runtime, and scenarios hold what lives as long as the program.
        container.patch = Some(patch.to_string().leak());
    }
    let mut cast = Cast::new(options, &scene, runtime)?;
    let mut worked = work(&mut cast);
    let id = format!("{}:{}", runtime.name, cast.running[0].id);
    let report = watch.stop()?;
    if worked.is_ok() {
        worked = calls::is_filtered(&mut cast, patch);
        runtime.run(&["exec", &cast.running[0].id, "/bin/true"], None)?;
    }
    cast.leave()?;
    files.remove()?;
    worked?;
    let after = &find(&report, &id)?.capabilities;
    let before: Vec<&str> = before
        .capabilities
        .used
        .iter()
        .map(String::as_str)
        .collect();
    is_set("used", &after.used, &before)?;
    is_set(
        "granted",
        after.granted.as_deref().unwrap_or_default(),
        &before,
    )?;
    is_set("refused", &after.refused, &["SYS_BOOT"])?;
    is_set("excess", after.excess.as_deref().context("no excess")?, &[])
}

/// What the recording says.
fn answer(auditor: &Path, files: &Files, flags: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(auditor)
        .arg("privileges")
        .args(flags)
        .arg("--from")
        .arg(&files.traces)
        .output()
        .context("start the replay")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {complaint}", output.status);
    Ok(output.stdout)
}

fn act(cast: &mut Cast<'_>, who: usize, act: CapabilityAct) -> Result<()> {
    let answer = cast.running[who].act(&Act::Capability(act))?;
    ensure!(
        answer.errno == 0,
        "the act failed: {}: {}",
        answer.what,
        std::io::Error::from_raw_os_error(answer.errno)
    );
    Ok(())
}

fn is_set(what: &str, have: &[String], want: &[&str]) -> Result<()> {
    let have_set: BTreeSet<&str> = have.iter().map(String::as_str).collect();
    let want_set: BTreeSet<&str> = want.iter().copied().collect();
    ensure!(have_set == want_set, "{what}: {have:?} instead of {want:?}");
    Ok(())
}

/// Whether a capability was used by this call over this user namespace.
fn is_used(
    container: &ContainerPrivileges,
    capability: &str,
    call: &str,
    scope: &str,
    granted: bool,
) -> Result<()> {
    let uses = &container.capabilities.uses;
    let fits = uses.iter().any(|u| {
        u.capability == capability
            && u.syscall.as_deref() == Some(call)
            && u.scope == scope
            && u.granted == granted
            && !u.probe
    });
    ensure!(fits, "no {capability} by {call} over {scope}: {uses:?}");
    Ok(())
}

fn used_by_plain(container: &ContainerPrivileges) -> Result<()> {
    let sets = &container.capabilities;
    ensure!(sets.from_start, "not observed from its start");
    ensure!(sets.execs >= 2, "{} execs", sets.execs);
    ensure!(sets.sight != Sight::None, "nothing was seen");
    is_set(
        "used",
        &sets.used,
        &["CHOWN", "NET_BIND_SERVICE", "NET_RAW"],
    )?;
    is_set("refused", &sets.refused, &["SYS_BOOT"])?;
    is_set("inner", &sets.inner, &["SYS_ADMIN"])?;
    is_used(container, "NET_RAW", "socket", "initial", true)?;
    is_used(container, "NET_BIND_SERVICE", "bind", "initial", true)?;
    is_used(container, "CHOWN", "chown", "initial", true)?;
    is_used(container, "SYS_ADMIN", "unshare", "inner", true)?;
    is_used(container, "SYS_BOOT", "reboot", "initial", false)?;
    let excess = sets.excess.as_deref().context("no excess")?;
    for wanted in ["SYS_ADMIN", "SYS_PTRACE", "MKNOD"] {
        ensure!(excess.iter().any(|c| c == wanted), "{wanted} is no excess");
    }
    ensure!(!excess.iter().any(|c| c == "CHOWN"), "CHOWN is excess");
    Ok(())
}

/// The kernel probes for `SYS_ADMIN` whenever memory is reserved, which must not hide this.
fn used_by_mounting(container: &ContainerPrivileges) -> Result<()> {
    let sets = &container.capabilities;
    is_set("used", &sets.used, &["SYS_ADMIN"])?;
    is_used(container, "SYS_ADMIN", "mount", "initial", true)?;
    Ok(())
}

fn used_in_user_namespace(container: &ContainerPrivileges) -> Result<()> {
    let sets = &container.capabilities;
    is_set("used", &sets.used, &["NET_BIND_SERVICE"])?;
    is_used(container, "NET_BIND_SERVICE", "bind", "container", true)?;
    is_used(container, "SYS_BOOT", "reboot", "container", false)?;
    let over = sets.user_namespace.as_deref();
    ensure!(over == Some("own"), "its user namespace is {over:?}");
    Ok(())
}

fn used_by_ordinary_user(container: &ContainerPrivileges) -> Result<()> {
    let sets = &container.capabilities;
    is_set("used", &sets.used, &[])?;
    is_used(container, "SYS_BOOT", "reboot", "initial", false)?;
    is_set(
        "permitted",
        sets.permitted.as_deref().unwrap_or_default(),
        &[],
    )
}

fn used_from_before(container: &ContainerPrivileges) -> Result<()> {
    ensure!(
        !container.capabilities.from_start,
        "said to be observed from its start"
    );
    is_set("used", &container.capabilities.used, &["NET_RAW"])
}

/// Compares what is said to be granted with what the kernel says of the first process.
fn is_granted(container: &ContainerPrivileges, pid: i32) -> Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read a status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).with_context(|| format!("no {name}"))
    };
    let set = |name: &str| -> Result<Vec<&str>> {
        Ok(capability::names(u64::from_str_radix(field(name)?, 16)?))
    };
    let sets = &container.capabilities;
    let known = |set: &Option<Vec<String>>| set.clone().context("it is not known");
    is_set("permitted", &known(&sets.permitted)?, &set("CapPrm:")?)?;
    is_set("bounding", &known(&sets.bounding)?, &set("CapBnd:")?)?;
    let no_new_privs = field("NoNewPrivs:")? == "1";
    ensure!(
        sets.no_new_privs == Some(no_new_privs),
        "no_new_privs: {:?}",
        sets.no_new_privs
    );
    ensure!(container.pid == pid.unsigned_abs(), "another pid");
    Ok(())
}

/// The recording must give the same report.
fn replays(auditor: &Path, files: &Files, live: &PrivilegesReport) -> Result<()> {
    let output = answer(auditor, files, &["--format", "json"])?;
    let again: PrivilegesReport =
        serde_json::from_slice(&output).context("read the report of the replay")?;
    ensure!(again == *live, "live {live:?}, replayed {again:?}");
    Ok(())
}

/// A recording that is merged into a state file tells of each image what it tells by itself, and no more the second time.
fn accumulates(auditor: &Path, files: &Files, live: &PrivilegesReport) -> Result<()> {
    let state = files.traces.with_extension("state");
    let path = state.to_str().context("an odd path")?;
    let again = || -> Result<PrivilegesReport> {
        let output = answer(auditor, files, &["--format", "json", "--state", path])?;
        serde_json::from_slice(&output).context("read the report with a state file")
    };
    let (first, second) = (again()?, again()?);
    std::fs::remove_file(&state).context("remove the state file")?;
    std::fs::remove_file(format!("{path}.lock")).context("remove its lock")?;
    ensure!(first == second, "once {first:?}, twice {second:?}");
    for container in &live.containers {
        let of = container.image.as_ref().unwrap_or(&container.id);
        let together = first.together.iter().find(|group| group.of == *of);
        let together = together.with_context(|| format!("nothing is kept of {of}"))?;
        let kept = &together.capabilities.used;
        let used = &container.capabilities.used;
        ensure!(
            used.iter().all(|name| kept.contains(name)),
            "{kept:?} without some of {used:?}"
        );
    }
    Ok(())
}

/// Where things are kept while a case runs.
struct Files {
    traces: PathBuf,
    report: PathBuf,
    log: PathBuf,
}

impl Files {
    fn new(options: &Options, runtime: &Runtime, of: &str) -> Result<Self> {
        let at = |what: &str| options.work.join(format!("{of}-{}-{what}", runtime.name));
        let files = Self {
            traces: at("traces"),
            report: at("report.json"),
            log: at("log"),
        };
        std::fs::create_dir_all(&files.traces).context("make a directory for traces")?;
        Ok(files)
    }

    fn remove(self) -> Result<()> {
        std::fs::remove_dir_all(&self.traces).context("remove the traces")
    }
}

/// A running `auditor privileges`.
struct Watch {
    child: Child,
    report: PathBuf,
    log: PathBuf,
    patience: Duration,
}

impl Watch {
    /// Starts it and waits until it watches.
    fn start(auditor: &Path, files: &Files, patience: Duration) -> Result<Self> {
        let create =
            |path: &Path| File::create(path).with_context(|| format!("create {}", path.display()));
        let child = Command::new(auditor)
            .args([
                "-v",
                "privileges",
                "--syscalls",
                "--window",
                "1h",
                "--format",
                "json",
                "--record",
            ])
            .arg(&files.traces)
            .stdin(Stdio::null())
            .stdout(create(&files.report)?)
            .stderr(create(&files.log)?)
            .spawn()
            .context("start auditor privileges")?;
        let watch = Self {
            child,
            report: files.report.clone(),
            log: files.log.clone(),
            patience,
        };
        let deadline = Instant::now() + patience;
        while !watch.said().contains("watching") {
            ensure!(
                Instant::now() < deadline,
                "it does not watch: {}",
                watch.said()
            );
            std::thread::sleep(POLL);
        }
        // What it forgets once it knows which containers there are, it forgets within a tick.
        std::thread::sleep(Duration::from_millis(500));
        Ok(watch)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as Ctrl-C does, and reads its report.
    fn stop(mut self) -> Result<PrivilegesReport> {
        // SAFETY: no memory is passed; the child has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        let deadline = Instant::now() + self.patience;
        let status = loop {
            match self.child.try_wait().context("wait for it")? {
                Some(status) => break status,
                None if Instant::now() > deadline => bail!("it does not end"),
                None => std::thread::sleep(POLL),
            }
        };
        ensure!(status.success(), "it ended with {status}: {}", self.said());
        let text = std::fs::read(&self.report).context("read its report")?;
        serde_json::from_slice(&text).context("understand its report")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
