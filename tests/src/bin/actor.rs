//! The actor: the only program of ours inside a test container. It does one namespaced act when told to.
//!
//! `actor serve` reads [`Act`]s from standard input and answers on standard output. `actor here` joins namespaces itself
//! and goes on. `actor reboot` asks for a capability, and restarts nothing. `actor forks`, `nests`, `same-id` and `walk` do one thing many times. `actor held …` is what a
//! privileged copy of the file executes. `actor enter PID`, `actor unit ROOT`, `actor sandbox` and `actor listen PATH` are run on the host: an
//! administrator who enters a container, a service in its own mount namespace, a host program that isolates itself, and a daemon.
//! busybox cannot do most of this (no pidfd, no clone3), hence a program.

use std::fs::File;
use std::io::{BufRead, Error, ErrorKind, Read, Result, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use auditor_tests::act::capability::CapabilityAct;
use auditor_tests::act::compat;
use auditor_tests::act::{Act, Answer, Kind, Tried, tried};
use auditor_tests::sys;

/// The unprivileged user of every container.
const USER: u32 = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve"] => serve(),
        ["here"] => here(),
        ["life"] => life(),
        ["reboot"] => CapabilityAct::Reboot.perform().map_err(|(_, error)| error),
        ["forks", count] => forks(count),
        ["nests", count, flags @ ..] => nests(count, flags),
        ["same-id", ids, count] => same_id(ids, count),
        ["walk", path] => walk(path),
        ["held", answer, hold] => held(answer, hold, None),
        ["held", answer, hold, act] => held(answer, hold, Some(act)),
        ["enter", pid, program] => enter(pid, program),
        ["unit", root] => unit(Path::new(root)),
        ["sandbox"] => sandbox(),
        ["listen", path] => listen(Path::new(path)),
        _ => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("unknown arguments {words:?}"),
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("actor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A child that keeps the state of one act until its pipe is closed.
struct Held {
    pid: i32,
    _keep: OwnedFd,
}

/// A daemon that listens and does nothing else.
fn listen(path: &Path) -> Result<()> {
    let _listener = std::os::unix::net::UnixListener::bind(path)?;
    loop {
        std::thread::park();
    }
}

fn serve() -> Result<()> {
    let mut held: Vec<Held> = Vec::new();
    let mut output = std::io::stdout();
    writeln!(
        output,
        "{}",
        encode(&Answer {
            errno: 0,
            what: "ready".into(),
            pid: 0
        })
    )?;
    output.flush()?;
    for line in std::io::stdin().lock().lines() {
        let act: Act = serde_json::from_str(&line?).map_err(Error::other)?;
        let answer = match act {
            Act::Release => {
                release(&mut held);
                Answer {
                    errno: 0,
                    what: String::new(),
                    pid: 0,
                }
            }
            other => start(&other, &mut held)?,
        };
        writeln!(output, "{}", encode(&answer))?;
        output.flush()?;
    }
    release(&mut held);
    Ok(())
}

fn encode(answer: &Answer) -> String {
    serde_json::to_string(answer).expect("an answer has no map and no float")
}

fn release(held: &mut Vec<Held>) {
    for Held { pid, _keep: keep } in held.drain(..) {
        drop(keep);
        // A child that died early was reaped by nobody else; there is nothing to do about an error.
        let _ = sys::waitpid(pid);
    }
}

/// Forks, lets the child act, and waits for its answer.
fn start(act: &Act, held: &mut Vec<Held>) -> Result<Answer> {
    let (answer_reader, answer_writer) = pipe()?;
    let (hold_reader, hold_writer) = pipe()?;
    let pid = sys::fork()?;
    if pid == 0 {
        drop((answer_reader, hold_writer));
        // The pipes of earlier acts would keep their children alive.
        for other in held.drain(..) {
            drop(other);
        }
        let code = i32::from(child(act, &answer_writer, &hold_reader).is_err());
        sys::exit_now(code);
    }
    drop((answer_writer, hold_reader));
    held.push(Held {
        pid,
        _keep: hold_writer,
    });
    let mut text = String::new();
    let mut reader = File::from(answer_reader);
    let mut byte = [0_u8];
    while reader.read(&mut byte)? == 1 && byte[0] != b'\n' {
        text.push(char::from(byte[0]));
    }
    if text.is_empty() {
        return Ok(Answer {
            errno: -1,
            what: "the acting child died".into(),
            pid,
        });
    }
    serde_json::from_str(&text).map_err(Error::other)
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0_i32; 2];
    // SAFETY: the array has room for both descriptors. They survive exec on purpose (see `Act::ExecAsUser`).
    if unsafe { libc::pipe(ends.as_mut_ptr()) } < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the kernel just gave us these descriptors.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

fn child(act: &Act, answer: &OwnedFd, hold: &OwnedFd) -> Result<()> {
    match perform(act, answer, hold) {
        Ok(Done::Here) => hold_on(answer, hold),
        Ok(Done::InChild(pid)) => sys::waitpid(pid).map(drop),
        Err((what, error)) => {
            let errno = error.raw_os_error().unwrap_or(-1);
            say(
                answer,
                &Answer {
                    errno,
                    what,
                    pid: std::process::id() as i32,
                },
            )
        }
    }
}

fn say(answer: &OwnedFd, message: &Answer) -> Result<()> {
    File::from(answer.try_clone()?).write_all(format!("{}\n", encode(message)).as_bytes())
}

/// Says that the act succeeded and waits to be released.
fn hold_on(answer: &OwnedFd, hold: &OwnedFd) -> Result<()> {
    say(
        answer,
        &Answer {
            errno: 0,
            what: String::new(),
            pid: std::process::id() as i32,
        },
    )?;
    File::from(hold.try_clone()?).read(&mut [0_u8]).map(drop)
}

/// Where the new state is.
enum Done {
    /// In this task.
    Here,
    /// In a child, which answered.
    InChild(i32),
}

fn perform(act: &Act, answer: &OwnedFd, hold: &OwnedFd) -> Tried<Done> {
    match act {
        Act::JoinByFd { path, kind } => {
            let file = tried(format!("open {path}"), File::open(path))?;
            tried("setns", sys::setns(file.as_fd(), kind.flag()))?;
            settle(kind.takes_fork(), answer, hold)
        }
        Act::JoinByPidfd { pid, kinds } => {
            let task = tried(format!("pidfd_open {pid}"), sys::pidfd_open(*pid))?;
            let flags = kinds.iter().fold(0, |flags, kind| flags | kind.flag());
            tried("setns", sys::setns(task.as_fd(), flags))?;
            settle(kinds.iter().any(|kind| kind.takes_fork()), answer, hold)
        }
        Act::Unshare { kind } => {
            tried("unshare", sys::unshare(kind.flag()))?;
            settle(kind.takes_fork(), answer, hold)
        }
        Act::Clone { kind } => born(
            tried("clone3", sys::clone3(kind.flag() as u64, None))?,
            answer,
            hold,
        ),
        Act::MoveCgroup { directory } => {
            let directory = Path::new(directory);
            if !directory.is_dir() {
                tried(
                    format!("mkdir {}", directory.display()),
                    std::fs::create_dir(directory),
                )?;
            }
            let procs = directory.join("cgroup.procs");
            tried(
                format!("write {}", procs.display()),
                std::fs::write(&procs, "0"),
            )?;
            Ok(Done::Here)
        }
        Act::CloneIntoCgroup { directory } => {
            let cgroup = tried(format!("open {directory}"), File::open(directory))?;
            born(
                tried("clone3", sys::clone3(0, Some(cgroup.as_fd())))?,
                answer,
                hold,
            )
        }
        Act::Chroot { path } => {
            tried(format!("chroot {path}"), std::os::unix::fs::chroot(path))?;
            Ok(Done::Here)
        }
        Act::ChrootByFd { path } => {
            let directory = tried(format!("open {path}"), File::open(path))?;
            // SAFETY: no memory is passed.
            let moved = unsafe { libc::fchdir(directory.as_raw_fd()) };
            tried(
                "fchdir",
                if moved < 0 {
                    Err(Error::last_os_error())
                } else {
                    Ok(())
                },
            )?;
            tried("chroot .", std::os::unix::fs::chroot("."))?;
            Ok(Done::Here)
        }
        Act::Chdir32 { path } => {
            tried(format!("chdir {path}"), compat::chdir(path))?;
            Ok(Done::Here)
        }
        Act::Chdir { path } => {
            tried(format!("chdir {path}"), std::env::set_current_dir(path))?;
            Ok(Done::Here)
        }
        Act::DropUser => {
            tried("setuid", sys::become_user(USER))?;
            Ok(Done::Here)
        }
        Act::ExecAsUser { path } => {
            tried("setuid", sys::become_user(USER))?;
            let words = [answer.as_raw_fd().to_string(), hold.as_raw_fd().to_string()];
            let error = Command::new(path).arg("held").args(words).exec();
            Err((format!("exec {path}"), error))
        }
        Act::JoinBySetuid { path, kind } => {
            let (path, kind) = (path.clone(), *kind);
            let act = serde_json::to_string(&Act::JoinByFd { path, kind });
            let act = tried("encode", act.map_err(Error::other))?;
            let words = [answer.as_raw_fd().to_string(), hold.as_raw_fd().to_string()];
            let file = "/bin/actor-setuid";
            let error = Command::new(file).arg("held").args(words).arg(act).exec();
            Err((format!("exec {file}"), error))
        }
        Act::UnshareUserAsUser => {
            tried("setuid", sys::become_user(USER))?;
            tried("unshare", sys::unshare(Kind::User.flag()))?;
            Ok(Done::Here)
        }
        Act::SwitchUser => {
            tried("seteuid", sys::set_effective_user(USER))?;
            tried("seteuid back", sys::set_effective_user(0))?;
            Ok(Done::Here)
        }
        Act::SwitchCapabilities => {
            let permitted = tried("capget", sys::permitted())?;
            // The lowest one goes for good.
            let fewer = permitted & permitted.wrapping_sub(1);
            tried("capset", sys::set_capabilities(0, permitted))?;
            tried("capset back", sys::set_capabilities(fewer, fewer))?;
            Ok(Done::Here)
        }
        Act::File(act) => act.perform().map(|()| Done::Here),
        Act::Capability(act) => act.perform().map(|()| Done::Here),
        Act::Kernel(act) => act.perform().map(|()| Done::Here),
        Act::Process(act) => act.perform().map(|()| Done::Here),
        Act::Mount(act) => act.perform().map(|()| Done::Here),
        Act::Noise(act) => act.perform().map(|()| Done::Here),
        Act::Socket(act) => act.perform().map(|()| Done::Here),
        Act::Handle(act) => act.perform().map(|()| Done::Here),
        Act::Release => Ok(Done::Here),
    }
}

/// Pid and time namespaces take effect in the next child.
fn settle(takes_fork: bool, answer: &OwnedFd, hold: &OwnedFd) -> Tried<Done> {
    if !takes_fork {
        return Ok(Done::Here);
    }
    born(tried("fork", sys::fork())?, answer, hold)
}

/// After a fork: the child holds the state and answers, the parent waits for it.
fn born(pid: i32, answer: &OwnedFd, hold: &OwnedFd) -> Tried<Done> {
    if pid == 0 {
        let code = i32::from(hold_on(answer, hold).is_err());
        sys::exit_now(code);
    }
    Ok(Done::InChild(pid))
}

/// The privileged copy: checks that it gained something, acts if it is told to, then holds.
fn held(answer: &str, hold: &str, act: Option<&str>) -> Result<()> {
    let number = |text: &str| text.parse::<i32>().map_err(Error::other);
    // SAFETY: the parent passed these two descriptors over exec for us alone.
    let (answer, hold) = unsafe {
        (
            OwnedFd::from_raw_fd(number(answer)?),
            OwnedFd::from_raw_fd(number(hold)?),
        )
    };
    let status = std::fs::read_to_string("/proc/self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .map_or("0", str::trim);
    if effective.trim_start_matches('0').is_empty() {
        let what = "nothing was gained (no_new_privs, or a nosuid mount)".to_owned();
        return say(
            &answer,
            &Answer {
                errno: libc::EPERM,
                what,
                pid: 0,
            },
        );
    }
    match act {
        Some(act) => child(
            &serde_json::from_str(act).map_err(Error::other)?,
            &answer,
            &hold,
        ),
        None => hold_on(&answer, &hold),
    }
}

/// One task that joins one namespace after the other.
fn here() -> Result<()> {
    let say = |errno: i32, what: &str| {
        let pid = std::process::id() as i32;
        let what = what.to_owned();
        println!("{}", encode(&Answer { errno, what, pid }));
    };
    say(0, "ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let joined = match serde_json::from_str(&line).map_err(Error::other)? {
            Act::JoinByFd { path, kind } => {
                File::open(path).and_then(|file| sys::setns(file.as_fd(), kind.flag()))
            }
            other => Err(Error::other(format!("not done here: {other:?}"))),
        };
        match joined {
            Ok(()) => say(0, ""),
            Err(error) => say(error.raw_os_error().unwrap_or(-1), &line),
        }
    }
    Ok(())
}

fn parse<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: &str,
) -> Result<T> {
    text.parse().map_err(Error::other)
}

/// An ordinary life; what was refused is named.
fn life() -> Result<()> {
    for refused in auditor_tests::act::life::live() {
        println!("refused: {refused}");
    }
    Ok(())
}

/// A storm of short lives.
fn forks(count: &str) -> Result<()> {
    for _ in 0..parse::<u32>(count)? {
        let pid = sys::fork()?;
        if pid == 0 {
            sys::exit_now(0);
        }
        sys::waitpid(pid)?;
    }
    Ok(())
}

/// Leaves again and again, for one kind of namespace after the other.
fn nests(count: &str, kinds: &[&str]) -> Result<()> {
    let flags = |name: &&str| {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == *name);
        kind.map(Kind::flag)
            .ok_or_else(|| Error::other(format!("no kind {name}")))
    };
    let flags: Vec<i32> = kinds.iter().map(flags).collect::<Result<_>>()?;
    for _ in 0..parse::<u32>(count)? {
        for flag in &flags {
            sys::unshare(*flag)?;
        }
    }
    Ok(())
}

/// Changes directory to everything in a directory.
fn walk(path: &str) -> Result<()> {
    for entry in std::fs::read_dir(path)? {
        std::env::set_current_dir(entry?.path())?;
    }
    Ok(())
}

/// Children that all have the same id, each with a UTS namespace of its own. `ids` are those of each pid namespace,
/// the innermost first.
fn same_id(ids: &str, count: &str) -> Result<()> {
    let ids: Vec<i32> = ids.split(',').map(parse).collect::<Result<_>>()?;
    for _ in 0..parse::<u32>(count)? {
        let pid = sys::clone_with_ids(&ids)?;
        if pid == 0 {
            sys::exit_now(i32::from(sys::unshare(libc::CLONE_NEWUTS).is_err()));
        }
        if sys::waitpid(pid)?.1 != 0 {
            return Err(Error::other("the child could not leave"));
        }
    }
    Ok(())
}

/// `nsenter --all`: joins every namespace of a container's process, then runs a program there.
fn enter(pid: &str, program: &str) -> Result<()> {
    let task = sys::pidfd_open(pid.parse().map_err(Error::other)?)?;
    let kinds = [
        Kind::Cgroup,
        Kind::Ipc,
        Kind::Uts,
        Kind::Net,
        Kind::Pid,
        Kind::Mnt,
    ];
    sys::setns(
        task.as_fd(),
        kinds.iter().fold(0, |flags, kind| flags | kind.flag()),
    )?;
    let status = Command::new(program).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::other(format!("{program}: {status}")))
    }
}

/// A service with `PrivateTmp`, `PrivateNetwork` and `RootDirectory`.
fn unit(root: &Path) -> Result<()> {
    sys::unshare(Kind::Mnt.flag() | Kind::Net.flag() | Kind::Ipc.flag())?;
    // Entered first: the root may lie below /tmp.
    std::env::set_current_dir(root)?;
    sys::mount(
        "none",
        Path::new("/"),
        "",
        libc::MS_REC | libc::MS_SLAVE,
        "",
    )?;
    sys::mount("tmpfs", Path::new("/tmp"), "tmpfs", libc::MS_NOSUID, "")?;
    std::os::unix::fs::chroot(".")?;
    std::env::set_current_dir("/")?;
    sys::become_user(USER)?;
    Err(Command::new("/bin/true").exec())
}

/// A host program that isolates itself, as browsers and bubblewrap do.
fn sandbox() -> Result<()> {
    sys::unshare(Kind::ALL.iter().fold(0, |flags, kind| flags | kind.flag()))?;
    let pid = sys::fork()?;
    if pid == 0 {
        sys::exit_now(0);
    }
    sys::waitpid(pid).map(drop)
}
