//! Files that are no good: told by name and place, never followed, never a panic.

use std::fs::File;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Survival;
use crate::act::Kind;
use crate::identity::is_type;
use crate::runtime::Runtime;
use crate::sys;

/// The running kernel's types.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

const ALLOWING: &str =
    "[[allow]]\nrule = \"namespace-nest\"\nsubject = \"*\"\nreason = \"builds\"\n";

/// Goal: a state that is damaged, or that others could have written, is told and not believed; the watch goes on.
pub(super) fn damaged_state(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "damaged-state")?;
    for (kind, content, mode, complaint) in [
        (Kind::Net, "{\"boot_id\":", 0o700, "is not a state file"),
        (Kind::Uts, "{}", 0o777, "can be written by others"),
    ] {
        let state = survival.path("state");
        std::fs::create_dir(&state).context("make a directory")?;
        let file = state.join("labels.json");
        std::fs::write(&file, content).context("write a state file")?;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).context("close it")?;
        std::fs::set_permissions(&state, PermissionsExt::from_mode(mode)).context("open it")?;
        let path = state.display().to_string();
        let watch = survival.watch(&["--state-dir", &path])?;
        watch.expect_log(complaint, 1)?;
        container.join_host(kind)?;
        watch.expect("the join", container.broke("namespace-join", kind.name()))?;
        survival.stop(watch, 0)?;
        let now = std::fs::read_to_string(&file).context("read the state")?;
        let replaced = now.contains(container.id());
        ensure!(replaced == (mode == 0o700), "the state is now {now}");
    }
    container.end()
}

/// Goal: types that are none are refused by name, and are no matter to a scan. Method: five bad files.
pub(super) fn bad_types(survival: &Survival<'_>, _: &Runtime) -> Result<()> {
    let types = std::fs::read(TYPES).context(TYPES)?;
    let directory = survival.path("directory");
    std::fs::create_dir(&directory).context("make a directory")?;
    let cases = [
        ("empty", survival.file("empty", b"")?),
        (
            "text",
            survival.file("text", b"not the types of a kernel\n")?,
        ),
        ("cut", survival.file("cut", &types[..types.len() / 2])?),
        ("header", survival.file("header", &types[..24])?),
        ("directory", directory),
        ("missing", survival.path("missing")),
    ];
    for (name, path) in cases {
        let path = path.display().to_string();
        let ran = survival.run(&["watch", "--no-state", "--duration", "1s", "--btf", &path])?;
        ensure!(
            ran.code == Some(2) && ran.log.contains(&path) && !ran.log.contains("panicked"),
            "{name}: {:?}: {}",
            ran.code,
            ran.log
        );
        ensure!(ran.lines.is_empty(), "{name}: lines in spite of it");
        let words = ["watch", "--no-state", "--tier", "scan", "--duration", "1s"];
        let ran = survival.run(&[&words[..], &["--btf", &path]].concat())?;
        survival.validate(&ran.lines, &ran.bad);
        ensure!(ran.code == Some(0), "{name}, scan: {}", ran.log);
        let doctor = survival.run(&["doctor", "--format", "json", "--btf", &path])?;
        ensure!(
            !doctor.log.contains("panicked") && doctor.code == Some(3),
            "{name}, doctor: {:?} {}",
            doctor.code,
            doctor.log
        );
    }
    Ok(())
}

/// Goal: a bad policy is refused before anything starts, with its place. Method: bad syntax, key, value, rule.
pub(super) fn bad_policy(survival: &Survival<'_>, _: &Runtime) -> Result<()> {
    let cases = [
        ("syntax", "[defaults\n", "1:10"),
        ("key", "[defaults]\n\nrequird = []\n", "3:1"),
        ("value", "[defaults]\nprivilege_gain = \"maybe\"\n", "2:18"),
        (
            "rule",
            "[[allow]]\nrule = \"no-such\"\nsubject = \"*\"\nreason = \"x\"\n",
            "2:8",
        ),
    ];
    for (name, text, place) in cases {
        let path = survival.file("bad.toml", text.as_bytes())?;
        let path = path.display().to_string();
        for words in [
            &["watch", "--no-state", "--policy", &path][..],
            &["scan", "--policy", &path],
            &["policy", "check", &path],
        ] {
            let ran = survival.run(words)?;
            ensure!(
                ran.code == Some(2) && ran.log.contains(&format!("{path}:{place}")),
                "{name}, {words:?}: {:?}: {}",
                ran.code,
                ran.log
            );
        }
    }
    Ok(())
}

/// Writes a policy in place and leaves the file's time as it was: only a signal tells of it.
fn write_unseen(path: &Path, text: &str) -> Result<()> {
    let time = std::fs::metadata(path).and_then(|meta| meta.modified());
    let time: SystemTime = time.context("look at the policy")?;
    let file = File::options()
        .write(true)
        .truncate(true)
        .open(path)
        .context("open the policy")?;
    std::io::Write::write_all(&mut &file, text.as_bytes()).context("write the policy")?;
    file.set_modified(time).context("set the policy's time")
}

/// Goal: only good policies take effect, by a change of the file and by a signal. Method: nests that are allowed or not.
pub(super) fn policy_changes(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "policy")?;
    let path = survival.file("policy.toml", b"")?;
    let text = path.display().to_string();
    let watch = survival.watch(&["--policy", &text])?;
    let nest = |dimension| container.broke("namespace-nest", dimension);
    let start = watch
        .seen(|line| is_type(line, "start"))
        .context("no start line")?;
    let default = &start["policy_digest"];
    let is_back = |line: &Value| is_type(line, "policy") && line["policy_digest"] == *default;
    let is_another = |line: &Value| is_type(line, "policy") && line["policy_digest"] != *default;
    let [uts, ipc, net, mnt] = ["uts", "ipc", "net", "mnt"].map(nest);

    container.unshare(Kind::Uts)?;
    watch.expect("a nest under the default", uts)?;

    // Bad, by a changed file and by a signal: refused twice, the default stays.
    let next = survival.file("next.toml", b"[defaults]\nrequird = []\n")?;
    std::fs::rename(&next, &path).context("replace the policy")?;
    watch.expect_log("the old policy stays in force", 1)?;
    watch.signal(libc::SIGHUP)?;
    watch.expect_log("the old policy stays in force", 2)?;
    ensure!(
        watch.log().contains(&format!("{text}:2:1")),
        "the place is not said: {}",
        watch.log()
    );
    container.unshare(Kind::Ipc)?;
    watch.expect("a nest under the old one", ipc)?;

    // Good, by a changed file.
    let next = survival.file("next.toml", ALLOWING.as_bytes())?;
    std::fs::rename(&next, &path).context("replace the policy")?;
    watch.expect("another policy", is_another)?;
    container.unshare(Kind::Net)?;
    container.join_host(Kind::Net)?;
    watch.expect("a join", container.broke("namespace-join", "net"))?;
    ensure!(watch.seen(net).is_none(), "the changed file had no effect");

    // Good, by a signal alone.
    write_unseen(&path, "[defaults]\nprivilege_gain = \"audit\"\n")?;
    watch.signal(libc::SIGHUP)?;
    watch.expect("the default again", is_back)?;
    container.unshare(Kind::Mnt)?;
    watch.expect("a nest that is allowed no more", mnt)?;
    container.end()?;
    let lines = survival.stop(watch, 0)?;
    let changes: Vec<&Value> = (lines.iter().filter(|line| is_type(line, "policy"))).collect();
    let [first, second] = changes[..] else {
        bail!("not two changes: {changes:?}");
    };
    ensure!(
        is_another(first)
            && first["previous_digest"] == *default
            && is_back(second)
            && second["previous_digest"] == first["policy_digest"],
        "each is to name the one before: {start}, {first}, {second}"
    );
    Ok(())
}

/// Goal: a policy that takes the place of another while the auditor starts is noticed. Method: the first one comes through
/// a pipe, and does not end before the second is in its place.
pub(super) fn policy_at_start(survival: &Survival<'_>, _: &Runtime) -> Result<()> {
    let path = survival.path("policy.toml");
    sys::make_pipe(&path).context("make a pipe")?;
    let next = survival.file("next.toml", ALLOWING.as_bytes())?;
    let deadline = Instant::now() + survival.options.patience * 10;
    let replace = || -> Result<()> {
        let read = open_when_read(&path, deadline)?;
        std::fs::rename(&next, &path).context("replace the policy")?;
        drop(read);
        Ok(())
    };
    let text = path.display().to_string();
    let watch = std::thread::scope(|scope| {
        let replaced = scope.spawn(replace);
        let watch = survival.watch(&["--policy", &text]);
        match replaced.join() {
            Ok(replaced) => replaced.and(watch),
            Err(_) => bail!("a thread panicked"),
        }
    })?;
    let start = watch
        .seen(|line| is_type(line, "start"))
        .context("no start line")?;
    let is_another =
        |line: &Value| is_type(line, "policy") && line["previous_digest"] == start["policy_digest"];
    watch.expect("the second policy", is_another)?;
    survival.stop(watch, 0).map(drop)
}

/// Opens a named pipe for writing when somebody reads it.
fn open_when_read(path: &Path, deadline: Instant) -> Result<File> {
    loop {
        let opened = File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        match opened {
            Err(error)
                if error.raw_os_error() == Some(libc::ENXIO) && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened.context("open the pipe"),
        }
    }
}
