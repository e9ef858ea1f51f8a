//! Small pieces of text that several reports share.

use crate::model::output::{Evidence, Holder};
use crate::model::{Dimension, NsKind, Verdict};
use crate::sink::human::{Paint, Style, printable};

/// A namespace kind as people say it.
pub(super) const fn ns_kind(kind: NsKind) -> &'static str {
    match kind {
        NsKind::Mnt => "mount namespace",
        NsKind::Pid => "pid namespace",
        NsKind::PidForChildren => "pid namespace for children",
        NsKind::Net => "network namespace",
        NsKind::Ipc => "IPC namespace",
        NsKind::Uts => "UTS namespace",
        NsKind::Cgroup => "cgroup namespace",
        NsKind::Time => "time namespace",
        NsKind::TimeForChildren => "time namespace for children",
        NsKind::User => "user namespace",
    }
}

/// What sharing a dimension means, as a half sentence.
pub(super) const fn dimension(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Mnt => "they see and change the same tree of mounts",
        Dimension::Pid => "they see each other's processes and may signal or trace them",
        Dimension::PidForChildren => "processes born by one appear among the other's",
        Dimension::Net => "they share interfaces, ports, loopback and abstract unix sockets",
        Dimension::Ipc => "they share System V IPC and POSIX message queues",
        Dimension::Uts => "one can change the other's host name",
        Dimension::Cgroup => "one counts against the other's limits, or escapes its own",
        Dimension::Root => "one's root directory lies in the other's mounts",
        Dimension::Cwd => "one's working directory lies in the other's mounts",
        Dimension::References => "one holds open files of the other's mounts",
        Dimension::User => "the same user ids mean the same users on both sides",
        Dimension::Time => "they share clock offsets",
        Dimension::CgroupNs => "they see the same cgroup root",
        Dimension::Ownership => "one owns a namespace of the other and may enter it",
        Dimension::Privilege => "credentials reach beyond what was given",
        Dimension::Mounts => "one reaches the other's files through a mount",
        Dimension::Processes => "one reaches the other's processes, to signal or to trace them",
        Dimension::Sockets => "one talks to the other through a unix socket",
        Dimension::Kernel => "one changes the kernel that both run on",
        Dimension::Devices => "one reaches a device that is not its own",
        Dimension::Handles => "they hold one open file, pipe, socket or piece of memory",
        Dimension::Setup => "one runs with less confinement than its spec says",
    }
}

/// A verdict in its colour, padded to a column.
pub(super) fn verdict(verdict: Verdict, style: Style) -> String {
    let paint = match verdict {
        Verdict::Isolated => Paint::Good,
        Verdict::DeclaredShared | Verdict::BaselineShared | Verdict::NotEvaluated => Paint::Dim,
        Verdict::Degraded | Verdict::Unknown => Paint::Warn,
        Verdict::Violated => Paint::Bad,
    };
    style.paint(paint, &format!("{verdict:<15}"))
}

/// ι as one character: 1, 0, or `?` where it cannot be said.
pub(super) const fn iota(value: Option<u8>) -> char {
    match value {
        Some(0) => '0',
        Some(_) => '1',
        None => '?',
    }
}

/// A piece of evidence in words.
pub(super) fn evidence(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Ns {
            kind,
            inum,
            initial,
        } => {
            let whose = if *initial {
                " (the machine's initial one)"
            } else {
                ""
            };
            format!("{} {inum}{whose}", ns_kind(*kind))
        }
        Evidence::Cgroup {
            path,
            id,
            hierarchy,
        } => {
            let path = path.as_deref().map_or("of unknown path".into(), printable);
            format!("cgroup {path} (id {id}, hierarchy {hierarchy})")
        }
        Evidence::File {
            dev,
            ino,
            mnt_ns,
            path,
            access,
        } => {
            let mount = match mnt_ns {
                0 => "a mount that belongs to no mount namespace, or to an unknown one".to_owned(),
                inum => format!("a mount of mount namespace {inum}"),
            };
            let path = path
                .as_deref()
                .map_or_else(String::new, |path| format!("{}, ", printable(path)));
            format!(
                "{path}inode {ino} on device {}:{}, {mount}{}",
                dev >> 20,
                dev & 0xf_ffff,
                how(access)
            )
        }
        Evidence::Task {
            pid,
            tid: _,
            start_boottime_ns: _,
            comm,
            access,
            refused,
        } => {
            let comm = comm.as_deref().map_or("a task".into(), printable);
            let refused = refused.as_deref().map_or_else(String::new, |error| {
                format!(", refused: {}", printable(error))
            });
            format!("{comm} (pid {pid}): {}{refused}", printable(access))
        }
        Evidence::Mount {
            point,
            root,
            fs_type,
            dev,
            flags,
        } => format!(
            "{} of {} on device {}:{}, mounted at {}{}",
            printable(root),
            printable(fs_type),
            dev >> 20,
            dev & 0xf_ffff,
            printable(point),
            how(flags)
        ),
        Evidence::Socket {
            name,
            peer_pid,
            peer_comm,
        } => format!(
            "socket {} of {} (pid {peer_pid})",
            name.as_deref().map_or("without a name".into(), printable),
            peer_comm.as_deref().map_or("a process".into(), printable)
        ),
        Evidence::Device {
            kind,
            major,
            minor,
            path,
            access,
        } => format!(
            "{kind} device {major}:{minor}{}{}",
            path.as_deref()
                .map_or_else(String::new, |path| format!(" at {}", printable(path))),
            how(access)
        ),
        Evidence::Knob { name, value } => match value {
            Some(value) => format!("{} = {}", printable(name), printable(value)),
            None => printable(name).into_owned(),
        },
        Evidence::Setup { part, value } => format!("{part} {}", printable(value)),
        Evidence::Kernel { what, detail } => match detail {
            Some(detail) => format!("{what} {}", printable(detail)),
            None => what.clone(),
        },
        Evidence::Handle {
            kind,
            dev,
            ino,
            name,
            holders,
        } => {
            let name = name
                .as_deref()
                .map_or_else(String::new, |name| format!(" {}", printable(name)));
            let of = |holder: &Holder| {
                let comm = holder.comm.as_deref().map_or("a task".into(), printable);
                let place = match holder.descriptor {
                    Some(number) => format!("descriptor {number}"),
                    None => "mapping".to_owned(),
                };
                let id = printable(&holder.id);
                format!("{place} of {comm} (pid {}) in {id}", holder.pid)
            };
            let holders: Vec<String> = holders.iter().map(of).collect();
            format!(
                "{kind}{name}, inode {ino} on device {}:{}: {}",
                dev >> 20,
                dev & 0xf_ffff,
                holders.join(", ")
            )
        }
        Evidence::Creds {
            uid,
            euid,
            permitted,
            effective,
            user_ns,
        } => format!(
            "uid {uid}, euid {euid}, permitted {}, effective {}, in user namespace {user_ns}",
            names(permitted),
            names(effective.as_ref().unwrap_or(permitted))
        ),
    }
}

/// The ways in which something was used, as the end of a sentence.
fn how(ways: &[String]) -> String {
    match ways.is_empty() {
        true => String::new(),
        false => format!(" ({})", names(ways)),
    }
}

/// Names in one line; long lists are counted.
pub(super) fn names(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|n| printable(n)).collect();
    match names.len() {
        0 => "none".to_owned(),
        n if n <= SHOWN => shown.join(", "),
        n => format!("{} and {} more", shown.join(", "), n - SHOWN),
    }
}

/// The text padded to this many characters.
pub(super) fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}
