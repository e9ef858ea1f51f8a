//! `control-socket` and `foreign-socket` (T8): a container's task talks to a unix socket of somebody else. Who controls
//! containers by a socket can make one that is not isolated at all, so that is another rule than a socket of anybody.
//!
//! Who listens says whose a socket is. Where nobody does, or it has ended, whoever bound it left the mount namespace that
//! it was in. Where neither is known, nothing is said.

use super::{Deed, Draft, DraftKind, name, owner, possessive};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST};
use crate::model::isolation::IsolationIndex;
use crate::model::output::Evidence;
use crate::model::{Dimension, NsKind, PairClass, RuleId, Severity, Transition, Verdict, text};
use auditor_common::record::{FileRef, act, kernel_str};

/// Command names of daemons and shims that run containers. The kernel keeps fifteen bytes.
const CONTROLLERS: &[&str] = &[
    "dockerd",
    "containerd",
    "containerd-shim",
    "crio",
    "podman",
    "conmon",
    "kubelet",
    "cri-dockerd",
    "buildkitd",
    "lxd",
    "incusd",
    "libvirtd",
    "virtqemud",
];

/// Last components of the paths of sockets by which containers, or all of a machine, are controlled. A service manager
/// listens on behalf of daemons, so the listening process is not enough.
const CONTROL_PATHS: &[&str] = &[
    "docker.sock",
    "containerd.sock",
    "containerd.sock.ttrpc",
    "crio.sock",
    "cri-dockerd.sock",
    "podman.sock",
    "kubelet.sock",
    "buildkitd.sock",
    "system_bus_socket",
    "libvirt-sock",
    "systemd/private",
    "lxd/unix.socket",
    "incus/unix.socket",
];

/// Last components of the sockets by which a service manager, or a runtime on its behalf, hears that a container is
/// ready. Nothing comes back from them.
const NOTIFY_PATHS: &[&str] = &["notify.sock", "systemd/notify", "notify/notify"];

/// Drafts a finding when the listener is neither of the actor's own container nor of one nested in it, of the same pod,
/// or shared by declaration.
pub fn detect(deed: &Deed<'_>, world: &World, index: &IsolationIndex, out: &mut Vec<Draft>) {
    let record = deed.record;
    let Some(object) = listener(deed, world) else {
        return;
    };
    if object == deed.label || object != HOST && world.contains(deed.label, object) {
        return;
    }
    let named = socket_name(record.name());
    let ends_with = |ends: &[&str]| {
        let named = named.as_deref().unwrap_or_default();
        ends.iter().any(|end| {
            named
                .strip_suffix(end)
                .is_some_and(|rest| rest.ends_with('/'))
        })
    };
    if record.act == act::SEND && object == HOST && ends_with(NOTIFY_PATHS) {
        return;
    }
    let task = world.tasks.get(&record.target.tgid);
    let comm = task.map(|task| text::escape(kernel_str(&task.state.comm)));
    let listens = comm
        .as_deref()
        .is_some_and(|comm| CONTROLLERS.contains(&comm));
    let controls = listens || ends_with(CONTROL_PATHS);
    if !controls && may_talk(index, deed.label, object) {
        return;
    }
    let (rule, severity, what) = if controls {
        (RuleId::ControlSocket, Severity::Critical, "control socket")
    } else {
        (RuleId::ForeignSocket, Severity::Medium, "unix socket")
    };
    let did = if record.act == act::SEND {
        "sent to"
    } else {
        "connected to"
    };
    let call = named
        .as_deref()
        .map(|n| format!(" {n}"))
        .unwrap_or_default();
    out.push(Draft {
        kind: DraftKind::Violation,
        rule,
        transition: Some(Transition::T8),
        dimension: Dimension::Sockets,
        severity,
        confidence: deed.confidence,
        subject: deed.label,
        object,
        object_id: fold(&record.object, record.target.tgid, record.name()),
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: None,
        observed: Some(Evidence::Socket {
            name: named.clone(),
            peer_pid: record.target.tgid,
            peer_comm: comm,
        }),
        message: format!(
            "{} {did} {} {what}{call}",
            name(world, deed.label),
            possessive(world, object)
        ),
    });
}

/// Whether two were put together to talk: containers of one pod, and those that share a network by declaration. A common
/// directory alone says nothing of a socket in it.
fn may_talk(index: &IsolationIndex, a: EntityId, b: EntityId) -> bool {
    let pair = index.pair(a, b);
    let net = pair.dimension(Dimension::Net);
    pair.class == PairClass::K1 || net.is_some_and(|net| net.verdict == Verdict::DeclaredShared)
}

/// Whose the socket is; `None` where that is not known.
fn listener(deed: &Deed<'_>, world: &World) -> Option<EntityId> {
    let record = deed.record;
    let inum = record.object.mnt_ns_inum;
    let bound = world.ns.by_inum(NsKind::Mnt, inum);
    let bound = bound.filter(|_| inum != 0).map(|id| owner(world, id));
    // A socket that was bound in the container is its own, whoever listens for it.
    if bound.is_some_and(|by| by != HOST && world.contains(deed.label, by)) {
        return None;
    }
    let listens = world.tasks.get(&record.target.tgid).map(|task| {
        // Somebody of the host that entered a container listens there.
        task.entered
            .filter(|_| task.label == HOST)
            .unwrap_or(task.label)
    });
    listens.or(bound)
}

/// How a socket is called: its path, or `@` and its abstract name.
fn socket_name(name: &[u8]) -> Option<String> {
    match name {
        [] => None,
        [0, rest @ ..] => Some(format!("@{}", text::escape(rest))),
        path => Some(text::escape(kernel_str(path))),
    }
}

/// A number for the socket: its file where it has one, else its name, and who listens.
fn fold(object: &FileRef, tgid: u32, name: &[u8]) -> u64 {
    let id = (u64::from(object.dev) << 32) ^ object.ino ^ (u64::from(tgid) << 40);
    if object.ino != 0 {
        return id;
    }
    text::stable_hash(name) ^ id
}
