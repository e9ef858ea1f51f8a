//! The auditor with just the capabilities that its unit gives it: it works as with all of them, and uses every one.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use auditor::model::capability;
use serde_json::{Value, json};

use crate::act::Kind;
use crate::cast::Cast;
use crate::interrupt;
use crate::outcome::Report;
use crate::runner::Options;
use crate::runtime::Runtime;
use crate::scenario::{Container, Deed, Expect, Scenario, Session, Step, Whom};
use crate::stream::{Auditor, START};
use crate::table;

/// What `docs/install.md` gives a service.
const GIVEN: [&str; 5] = [
    "BPF",
    "PERFMON",
    "SYS_PTRACE",
    "DAC_READ_SEARCH",
    "SYS_ADMIN",
];
/// What it needs more before Linux 5.11.
const GIVEN_BEFORE_5_11: &str = "SYS_RESOURCE";
/// A user with a directory for rootless containers.
const USER: u32 = 4242;
/// Heartbeats, one a second, until it has looked at everything again.
const SWEEPS: usize = 3;

/// Runs the suite with the first runtime, if it was asked for.
///
/// # Errors
/// When the surroundings fail; a failed case is an outcome.
pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let (Some(auditor), Some(runtime)) = (options.auditor.as_deref(), options.runtimes.first())
    else {
        return Ok(());
    };
    if !options.wants("self-audit") {
        return Ok(());
    }
    interrupt::check()?;
    let started = Instant::now();
    let user = UserDirectory::make()?;
    let problem = play(options, auditor, runtime).err();
    drop(user);
    let problem = problem.map(|error| format!("{error:#}"));
    report.check("self-audit/least", started.elapsed(), problem)
}

fn play(options: &Options, auditor: &Path, runtime: &Runtime) -> Result<()> {
    let all = Auditor::start(
        auditor,
        &["--no-state".to_owned()],
        options.patience * START,
    )?;
    let with_all = hooks(&all)?;
    all.stop(options.patience * 10)?;

    let given = given();
    let state = options.work.join("self-audit-state");
    let least = start(auditor, &given, &state, options.patience * START)?;
    let with_least = hooks(&least)?;
    for (hook, state) in &with_all {
        let least_state = with_least.iter().find(|(name, _)| name == hook);
        let least_state = least_state.map_or("missing", |(_, state)| state.as_str());
        ensure!(
            is_as_good(least_state, state),
            "{hook} is {least_state}, and {state} with all capabilities"
        );
    }
    let scenario = scenario();
    let mut cast = Cast::new(options, &scenario, runtime)?;
    let [step] = &scenario.steps[..] else {
        anyhow::bail!("one step is played");
    };
    let failed = cast.perform(step)?;
    ensure!(failed.is_none(), "{failed:?}");
    let deadline = Instant::now() + options.patience * 4;
    let found = least.wait(deadline, |lines| {
        let is_it = |line: &Value| cast.matches(step, &step.expects[0], line, lines);
        lines.iter().any(is_it)
    });
    let heartbeats = |lines: &[Value]| lines.iter().filter(|l| l["type"] == "heartbeat").count();
    let until = least.with_lines(heartbeats) + SWEEPS;
    let swept = least.wait(Instant::now() + options.patience * 10, |lines| {
        heartbeats(lines) >= until
    });
    ensure!(swept, "it does not sweep");
    let id = format!("{}:{}", runtime.name, cast.running[0].id);
    cast.leave()?;
    let ended = least.stop(options.patience * 10)?;
    ensure!(found, "the break-out was not seen");
    let stop = ended.lines.last().context("no line")?;
    ensure!(stop["type"] == "stop", "it ends with {stop}");
    judge(&stop["self"], &given)?;
    is_kept(&state, &id)
}

/// Whether a hook works with few capabilities if it works with all. Whether it was seen firing may differ: what the
/// auditor may not act by itself it cannot see, and a cgroup's release may come too late, in either of the two.
fn is_as_good(least: &str, all: &str) -> bool {
    let works = |state: &str| matches!(state, "fires" | "attached");
    least == all || (works(least) && works(all))
}

/// What the container used is kept for advice.
fn is_kept(state: &Path, id: &str) -> Result<()> {
    let text = std::fs::read(state.join("privileges.json")).context("read what is kept")?;
    let kept: Value = serde_json::from_slice(&text).context("understand what is kept")?;
    let used = kept["learned"][id]["used"].as_array();
    ensure!(
        used.is_some_and(|ways| !ways.is_empty()),
        "nothing is kept of {id}: {kept}"
    );
    Ok(())
}

/// What it says of itself in the end.
fn judge(own: &Value, given: &[&str]) -> Result<()> {
    ensure!(own.is_object(), "it says nothing of itself");
    let set = |key: &str| -> BTreeSet<String> {
        match &own[key] {
            Value::Array(names) => names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            Value::Object(names) => names.keys().cloned().collect(),
            _ => BTreeSet::new(),
        }
    };
    let given: BTreeSet<String> = given.iter().map(|name| (*name).to_owned()).collect();
    ensure!(set("granted") == given, "it was given {}", own["granted"]);
    ensure!(set("kept").is_subset(&given), "it kept {}", own["kept"]);
    for key in ["excess", "kept_in_vain"] {
        ensure!(own[key].is_array(), "{key} is not known: {own}");
        ensure!(set(key).is_empty(), "{key}: {own}");
    }
    ensure!(set("used") == given, "it used {}", own["used"]);
    // Whoever writes to a tmpfs reserves memory, and that probes for SYS_ADMIN. Not every hook says that it is a probe.
    let is_probe = |name: &str| name == "SYS_ADMIN" && own["refused"][name] == json!(["write"]);
    let refused: Vec<String> = set("refused")
        .into_iter()
        .filter(|n| !is_probe(n))
        .collect();
    ensure!(
        !refused.iter().any(|name| given.contains(name)),
        "it was refused what it needs: {}",
        own["refused"]
    );
    Ok(())
}

/// A container from which a task gets into the host's mount namespace.
fn scenario() -> Scenario {
    let out = Step {
        id: "mnt".to_owned(),
        who: 0,
        deed: Deed::JoinByFd(Kind::Mnt, Whom::Host),
        needs: Vec::new(),
        expects: vec![expected()],
    };
    Scenario {
        id: "self-audit",
        does: "a task joins the host's mount namespace",
        session: Session::Default,
        containers: vec![Container {
            host_proc: true,
            ..Container::plain("a")
        }],
        steps: vec![out],
    }
}

fn expected() -> Expect {
    table::join(Kind::Mnt, Whom::Host)
}

fn given() -> Vec<&'static str> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|n| n.parse::<u32>().ok());
    let mut given = GIVEN.to_vec();
    if number()
        .zip(number())
        .is_some_and(|version| version < (5, 11))
    {
        given.push(GIVEN_BEFORE_5_11);
    }
    given
}

/// Starts it as systemd does with a bounding set: whoever executes a file as root then gets no more.
fn start(auditor: &Path, given: &[&str], state: &Path, patience: Duration) -> Result<Auditor> {
    let given: BTreeSet<u32> = (0..64)
        .filter(|bit| {
            let name = capability::names(1 << bit);
            name.first().is_some_and(|name| given.contains(name))
        })
        .collect();
    let mut command = Command::new(auditor);
    command
        .args(["watch", "--heartbeat", "1s", "--state-dir"])
        .arg(state);
    let cut = move || {
        for bit in (0..64).filter(|bit| !given.contains(bit)) {
            // SAFETY: no memory is passed. A number that the kernel does not know is refused.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(bit), 0, 0, 0) };
        }
        Ok(())
    };
    // SAFETY: it makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(cut) };
    Auditor::start_command(&mut command, patience)
}

/// Name and state of each hook.
fn hooks(auditor: &Auditor) -> Result<Vec<(String, String)>> {
    let of = |hook: &Value| {
        let text = |key: &str| hook[key].as_str().map(str::to_owned);
        text("hook").zip(text("state"))
    };
    let hooks = auditor.with_lines(|lines| {
        let hooks = lines.first()?["hooks"].as_array()?;
        Some(hooks.iter().filter_map(of).collect())
    });
    hooks.context("no hooks in the start line")
}

/// The runtime directory of a user who runs rootless containers, which nobody else may enter.
struct UserDirectory {
    made: Vec<PathBuf>,
}

impl UserDirectory {
    fn make() -> Result<Self> {
        let mut user = Self { made: Vec::new() };
        for path in [
            "/run/user".to_owned(),
            format!("/run/user/{USER}"),
            format!("/run/user/{USER}/runc"),
        ] {
            let path = PathBuf::from(path);
            if !path.exists() {
                std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
                user.made.push(path);
            }
        }
        let path = PathBuf::from(format!("/run/user/{USER}"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
            .context("close a directory")?;
        chown(&path, Some(USER), Some(USER)).context("give a directory away")?;
        Ok(user)
    }
}

impl Drop for UserDirectory {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            // It may have gone with the user.
            let _ = std::fs::remove_dir(path);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a hook that is lost with few capabilities is told, one that is only not seen firing is not.

    use super::is_as_good;

    #[test]
    fn lost_and_not_seen_firing_differ() {
        for least in ["fires", "attached"] {
            assert!(is_as_good(least, "fires"));
            assert!(is_as_good(least, "attached"));
        }
        assert!(is_as_good("not_needed", "not_needed"));
        for least in ["silent", "failed", "not_needed", "missing"] {
            assert!(!is_as_good(least, "fires"), "{least}");
            assert!(!is_as_good(least, "attached"), "{least}");
        }
    }
}
