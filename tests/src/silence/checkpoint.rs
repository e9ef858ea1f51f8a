//! Checkpoints: of a process of the host, and of a container that goes on elsewhere in time.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::tool::{Done, Ids, Place, Service, command, expect, output};
use super::{discard, prepare, text};
use crate::bundle::Bundle;
use crate::runner::Options;
use crate::runtime::{Layout, Runtime};
use crate::stream::{Auditor, START};
use crate::sys;

/// Why nothing can be restored here, if so: criu must know the kernel.
fn obstacle(options: &Options) -> Option<Done> {
    let error = output(command("criu").arg("check"), options).err()?;
    let said = format!("{error:#}");
    let last = said.lines().last().unwrap_or_default();
    Some(Done::Impossible(format!("criu does not work here: {last}")))
}

/// A process of the host.
pub(super) fn process(options: &Options, _ids: &mut Ids) -> Result<Done> {
    if let Some(done) = obstacle(options) {
        return Ok(done);
    }
    let place = Place::new(options, "criu")?;
    let mut sleeper = std::process::Command::new("setsid");
    sleeper
        .args(["sleep", "1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut service = Service(sleeper.stderr(Stdio::null()).spawn()?);
    let pid = service.0.id().to_string();
    // Until it leads its session, it cannot be dumped without the one that it left.
    let deadline = Instant::now() + options.patience * 10;
    while !is_leader(&pid)? {
        ensure!(Instant::now() < deadline, "the process has no session");
        std::thread::sleep(Duration::from_millis(5));
    }
    let images = place.path.display().to_string();
    output(
        command("criu").args(["dump", "-t", &pid, "-D", &images]),
        options,
    )?;
    service.0.wait()?;
    output(
        command("criu").args(["restore", "-d", "-D", &images]),
        options,
    )?;
    sys::kill(pid.parse()?, libc::SIGKILL)?;
    Ok(Done::Ran)
}

/// Whether a process leads a session, and runs what it was started for.
fn is_leader(pid: &str) -> Result<bool> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("look at it")?;
    let (name, rest) = stat.rsplit_once(") ").context("read what it is")?;
    // State, parent, group, session.
    Ok(name.ends_with("(sleep") && rest.split(' ').nth(3) == Some(pid))
}

/// A container. Once it is restored, an auditor that watches knows it again, under its name and as another life of it.
pub(super) fn container(options: &Options, ids: &mut Ids) -> Result<Done> {
    if let Some(done) = obstacle(options) {
        return Ok(done);
    }
    let runtime = Runtime {
        name: "runc".to_owned(),
        layout: Layout::detect(),
        patience: options.patience * 10,
    };
    let bundle = prepare(options, &runtime, "restored", &["/bin/sleep", "1000"])?;
    ids.insert(bundle.id.clone());
    let alone = ["--no-state".to_owned()];
    let start = |binary| Auditor::start(binary, &alone, options.patience * START);
    let auditor = options.auditor.as_deref().map(start).transpose()?;
    let done = live_twice(options, &bundle, auditor.as_ref());
    // After a failure it may be in any state, and runc says no if it is in none.
    let _ = runtime.delete(&bundle.id);
    done?;
    discard(&bundle)?;
    Ok(Done::Ran)
}

/// A criu that locks the network by itself: the other way is by programs that a small guest does not have. runc cannot say
/// it, and this one (3.17) dies of configuration files that do.
const LOCKS_BY_ITSELF: &str = "#!/bin/sh
exec criu --network-lock nftables \"$@\"
";

/// Writes it into the bundle.
fn write_criu(bundle: &Bundle) -> Result<()> {
    let path = bundle.directory.join("criu");
    let write = || {
        std::fs::write(&path, LOCKS_BY_ITSELF)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o755))
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn live_twice(options: &Options, bundle: &Bundle, auditor: Option<&Auditor>) -> Result<()> {
    let id = &bundle.id;
    let directory = text(&bundle.directory)?;
    write_criu(bundle)?;
    let runc = |arguments: &[&str], log: &str| runc(options, bundle, arguments, log);
    let images = bundle.directory.join("images");
    let images = ["--image-path", text(&images)?, "--work-path", directory];
    runc(&["run", "--detach", "--bundle", directory, id], "")?;
    await_lives(options, auditor, id, 1)?;
    runc(&[&["checkpoint"], &images[..], &[id]].concat(), "dump.log")?;
    let restore = ["restore", "--detach", "--bundle", directory];
    runc(&[&restore, &images[..], &[id]].concat(), "restore.log")?;
    await_lives(options, auditor, id, 2)?;
    expect(options, &format!("runc:{id}"), &[("runtime", "runc")])?;
    runc(&["exec", id, "/bin/true"], "")?;
    runc(&["delete", "--force", id], "")
}

/// Runs runc, with nothing of the host's as standard streams: they could not be restored.
fn runc(options: &Options, bundle: &Bundle, arguments: &[&str], log: &str) -> Result<()> {
    let at = |name: &str| bundle.directory.join(name);
    let mut command = command("sh");
    command
        .args(["-c", "exec \"$0\" \"$@\" >/dev/null 2>&1", "runc", "--log"])
        .arg(at("runc.log"))
        .arg("--criu")
        .arg(at("criu"))
        .args(arguments);
    let said = || {
        let logs = ["runc.log", log].map(|log| std::fs::read_to_string(at(log)));
        logs.map(Result::unwrap_or_default).join("\n")
    };
    output(&mut command, options).map(drop).with_context(said)
}

/// Waits until the auditor has told how so many lives of a container stand: it does so once for each.
fn await_lives(options: &Options, auditor: Option<&Auditor>, id: &str, count: usize) -> Result<()> {
    let Some(auditor) = auditor else {
        return Ok(());
    };
    let key = format!("runc:{id}");
    let lives = |lines: &[Value]| {
        lines
            .iter()
            .filter(|line| line["rule"] == "dangerous-capability")
            .filter(|line| line["subject"]["id"] == key.as_str())
            .filter_map(|line| line["subject"]["incarnation"].as_u64())
            .collect::<BTreeSet<_>>()
            .len()
    };
    let deadline = Instant::now() + options.patience * 10;
    ensure!(
        auditor.wait(deadline, |lines| lives(lines) >= count),
        "the auditor knows {} of {count} lives of {key}",
        auditor.with_lines(lives)
    );
    Ok(())
}
