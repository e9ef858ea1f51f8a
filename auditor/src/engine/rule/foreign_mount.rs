//! `foreign-mount` (T4): a container's mount table gains what is not the container's: a file system of a device, a
//! directory of the host or of another container, cgroup v1, the machine's device nodes, a proc or sysfs without the masks that it started with.
//!
//! Whose a superblock is follows from who had it before: the container itself by its first table, else the other
//! containers by theirs, else the host by its own. What nobody had (a tmpfs, an overlay of its own) is its own.

use super::{Deed, Draft, DraftKind, name, possessive};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Evidence;
use crate::model::setup::{Mount, SetUp, is_below};
use crate::model::{Confidence, Dimension, RuleId, Severity, Transition, Verdict, text};
use std::collections::BTreeMap;

/// Findings from one look: the rest is of the same kind.
const MAX_DRAFTS: usize = 32;

/// File systems of which there is one for the whole machine, whoever mounts it, and what is in them.
const SINGLE: [(&str, &str); 8] = [
    ("devtmpfs", "device nodes"),
    ("debugfs", "kernel for debugging"),
    ("tracefs", "tracing"),
    ("securityfs", "security modules"),
    ("selinuxfs", "security policy"),
    ("configfs", "kernel objects"),
    ("pstore", "records of crashes"),
    ("efivarfs", "firmware variables"),
];

/// The tables that matter.
#[derive(Debug)]
pub struct Tables<'a> {
    /// The host's.
    pub host: &'a SetUp,
    /// What the container started with.
    pub baseline: &'a SetUp,
    /// The same table as it was seen last.
    pub before: &'a SetUp,
    /// As it is now.
    pub now: &'a SetUp,
    /// What other containers started with.
    pub others: Vec<(EntityId, &'a SetUp)>,
}

/// Whose table changed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    /// The container.
    pub label: EntityId,
    /// It changed the table itself, as far as anybody can tell.
    pub by_container: bool,
    /// The task has a pid namespace of its own within the container.
    pub own_pid: bool,
    /// The task has a user namespace of its own within the container.
    pub own_user: bool,
    /// The table is that of the container's own mount namespace, not of one that it made.
    pub own_mounts: bool,
    /// How sure.
    pub confidence: Confidence,
}

impl Changed {
    const fn who(&self) -> (EntityId, Confidence) {
        (self.label, self.confidence)
    }
}

/// What is wrong with a mount.
struct Wrong {
    object: EntityId,
    severity: Severity,
    /// The end of the sentence "container web …".
    says: String,
    flags: &'static [&'static str],
}

/// Drafts a finding for each mount that is new and not the container's.
#[must_use]
pub fn detect(tables: &Tables<'_>, changed: &Changed, world: &World) -> Vec<Draft> {
    let mut out = Vec::new();
    for mount in &tables.now.mounts {
        if out.len() >= MAX_DRAFTS {
            return out;
        }
        let was = before(tables.before, mount);
        if was.is_some_and(|was| is_same(was, mount)) || !may_judge(changed, mount, was) {
            continue;
        }
        if let Some(wrong) = judge(tables, mount, was, world) {
            out.push(draft(changed.who(), mount, &mount.point, wrong, world));
        }
    }
    for exposed in newly_exposed(tables) {
        let was = before(tables.before, exposed.mount);
        if out.len() >= MAX_DRAFTS || changed.own_user || !may_judge(changed, exposed.mount, was) {
            continue;
        }
        out.push(exposed_draft(changed, &exposed, world));
    }
    out
}

/// Drafts a finding for a device that the container gets at, if it is not its own. Where it will be mounted is not known
/// yet.
#[must_use]
pub fn detect_device(
    tables: &Tables<'_>,
    deed: &Deed<'_>,
    mount: &Mount,
    world: &World,
) -> Option<Draft> {
    let mut had = tables.baseline.mounts.iter();
    if had.any(|m| m.covers(mount.dev, &mount.root)) {
        return None;
    }
    let wrong = foreign(tables, mount, world)?;
    let who = (deed.label, deed.confidence);
    Some(draft(who, mount, &mount.point, wrong, world))
}

/// Without an act of the container, what is new came from outside; what grew weaker did not.
const fn may_judge(changed: &Changed, mount: &Mount, was: Option<&Mount>) -> bool {
    let received = mount.master != 0 && matches!(changed.confidence, Confidence::Sampled);
    was.is_some() || changed.by_container && !received
}

/// The mount of a table that stood where this one is.
#[must_use]
pub fn before<'a>(table: &'a SetUp, mount: &Mount) -> Option<&'a Mount> {
    let same = |m: &&Mount| m.dev == mount.dev && m.root == mount.root && m.point == mount.point;
    table.mounts.iter().rfind(same)
}

fn is_same(was: &Mount, mount: &Mount) -> bool {
    was.read_only == mount.read_only && was.shared == mount.shared
}

fn judge(tables: &Tables<'_>, mount: &Mount, was: Option<&Mount>, world: &World) -> Option<Wrong> {
    let covers = |m: &&Mount| m.covers(mount.dev, &mount.root);
    let mut had = tables.baseline.mounts.iter().filter(covers).peekable();
    let pseudo = matches!(mount.fs_type.as_str(), "proc" | "sysfs");
    if had.peek().is_some() {
        let read_only = had.all(|m| m.read_only);
        if read_only && !mount.read_only && !pseudo {
            let severity = match mount.fs_type.as_str() {
                "cgroup" => Severity::High,
                _ => Severity::Medium,
            };
            return Some(Wrong {
                object: HOST,
                severity,
                says: format!(
                    "made {} writable, which it started with read-only",
                    mount.point
                ),
                flags: &["read_write"],
            });
        }
        return shared(tables, mount, was);
    }
    foreign(tables, mount, world).or_else(|| shared(tables, mount, was))
}

/// Whether a mount of a superblock that the container did not start with is somebody else's.
fn foreign(tables: &Tables<'_>, mount: &Mount, world: &World) -> Option<Wrong> {
    let of_host = tables.host.mounts.iter().any(|m| m.dev == mount.dev);
    let host_root = tables.host.at("/").is_some_and(|m| m.dev == mount.dev);
    let owner = tables.others.iter().find(|(_, table)| {
        let root = table.mounts.iter().rfind(|m| m.point == "/");
        root.is_some_and(|root| root.covers(mount.dev, &mount.root))
    });
    let wrong = |object, severity, says: String| {
        Some(Wrong {
            object,
            severity,
            says,
            flags: &[],
        })
    };
    let fs_type = &mount.fs_type;
    let at = match mount.point.as_str() {
        "" => String::new(),
        point => format!(" at {point}"),
    };
    if let Some((other, _)) = owner {
        let whose = possessive(world, *other);
        return wrong(
            *other,
            Severity::Medium,
            format!("mounted {whose} file system{at}"),
        );
    }
    if fs_type == "cgroup" {
        let says = format!("mounted a cgroup hierarchy of version 1{at}");
        return wrong(HOST, Severity::High, says);
    }
    if let Some((_, what)) = SINGLE.iter().find(|(single, _)| fs_type == single) {
        let says = format!("mounted the machine's {what} ({fs_type}){at}");
        return wrong(HOST, Severity::High, says);
    }
    // Devices without a number of their own are of file systems that need none.
    if mount.dev >> 20 != 0 {
        let (major, minor) = (mount.dev >> 20, mount.dev & 0x000f_ffff);
        let says = format!("mounted the device {major}:{minor} ({fs_type}){at}");
        return wrong(HOST, Severity::Critical, says);
    }
    if !of_host {
        return None;
    }
    let (severity, what) = match fs_type.as_str() {
        _ if host_root => (Severity::Critical, "the host's root file system"),
        "proc" => (Severity::High, "the host's proc"),
        "sysfs" => (Severity::High, "the host's sysfs"),
        _ => (Severity::Medium, "a file system of the host"),
    };
    wrong(HOST, severity, format!("mounted {what} ({fs_type}){at}"))
}

/// Whether a mount has joined a peer group of the host's.
fn shared(tables: &Tables<'_>, mount: &Mount, was: Option<&Mount>) -> Option<Wrong> {
    let joins = |table: &SetUp| table.mounts.iter().any(|m| m.shared == mount.shared);
    let stays = was.is_some_and(|was| was.shared == mount.shared);
    if mount.shared == 0 || stays || !joins(tables.host) || joins(tables.baseline) {
        return None;
    }
    Some(Wrong {
        object: HOST,
        severity: Severity::Medium,
        says: format!("shares mounts below {} with the host", mount.point),
        flags: &["shared"],
    })
}

fn draft(
    who: (EntityId, Confidence),
    mount: &Mount,
    point: &str,
    wrong: Wrong,
    world: &World,
) -> Draft {
    let (subject, confidence) = who;
    let flags = wrong.flags.iter().map(|&flag| flag.to_owned()).collect();
    Draft {
        kind: DraftKind::Violation,
        rule: RuleId::ForeignMount,
        transition: Some(Transition::T4),
        dimension: Dimension::Mounts,
        severity: wrong.severity,
        confidence,
        subject,
        object: wrong.object,
        object_id: object_id(mount, point),
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: None,
        observed: Some(Evidence::Mount {
            point: point.to_owned(),
            root: mount.root.clone(),
            fs_type: mount.fs_type.clone(),
            dev: mount.dev,
            flags,
        }),
        message: format!("{} {}", name(world, subject), wrong.says),
    }
}

/// The same mount at the same place is the same object.
fn object_id(mount: &Mount, point: &str) -> u64 {
    let dev = mount.dev.to_le_bytes();
    let bytes = dev.iter().chain(mount.root.as_bytes());
    text::stable_hash(bytes.chain(&[0]).chain(point.as_bytes()))
}

/// A place in proc or sysfs that the container started with masked or read-only: seen from the root of that file
/// system.
struct Protection<'a> {
    fs_type: &'a str,
    path: String,
    masked: bool,
}

/// A proc or sysfs in a table that shows what was protected.
struct Exposed<'a> {
    mount: &'a Mount,
    /// The first place that is open, as a path of the container.
    place: String,
    masked: bool,
    writable: bool,
    /// It is another mount than the container started with.
    fresh: bool,
}

fn protections(baseline: &SetUp) -> Vec<Protection<'_>> {
    let is_whole = |m: &&Mount| matches!(m.fs_type.as_str(), "proc" | "sysfs") && m.root == "/";
    let mut all = Vec::new();
    for whole in baseline.mounts.iter().filter(is_whole) {
        for mount in baseline.mounts.iter().filter(|m| m.protects()) {
            let Some(rest) = mount.point.strip_prefix(whole.point.as_str()) else {
                continue;
            };
            let of_it = mount.mask || mount.dev == whole.dev;
            if of_it && is_below(&mount.point, &whole.point) && whole.point != "/" {
                all.push(Protection {
                    fs_type: &whole.fs_type,
                    path: if rest.is_empty() {
                        "/".to_owned()
                    } else {
                        rest.to_owned()
                    },
                    masked: mount.mask,
                });
            }
        }
    }
    all
}

/// Where a mount of a file system shows a path of it; `None` where it does not.
fn place_of(mount: &Mount, path: &str) -> Option<String> {
    if is_below(path, &mount.root) {
        let rest = path.strip_prefix(mount.root.trim_end_matches('/'))?;
        let point = mount.point.trim_end_matches('/');
        let rest = rest.trim_end_matches('/');
        return Some([point, rest].concat());
    }
    is_below(&mount.root, path).then(|| mount.point.clone())
}

/// What a table shows of what is protected, by mount and path.
fn exposures<'a>(
    table: &'a SetUp,
    protections: &[Protection<'_>],
) -> BTreeMap<(&'a str, String), (&'a Mount, bool)> {
    let mut all = BTreeMap::new();
    let pseudo = |m: &&Mount| matches!(m.fs_type.as_str(), "proc" | "sysfs");
    for mount in table.mounts.iter().filter(pseudo) {
        if table.at(&mount.point).is_some_and(|top| top.id != mount.id) {
            continue;
        }
        for protection in protections.iter().filter(|p| p.fs_type == mount.fs_type) {
            let Some(place) = place_of(mount, &protection.path) else {
                continue;
            };
            let Some(there) = table.at(&place).filter(pseudo) else {
                continue;
            };
            let open = match protection.masked {
                true => !there.mask,
                false => !there.protects(),
            };
            if open && there.id == mount.id {
                all.insert((mount.point.as_str(), place), (mount, protection.masked));
            }
        }
    }
    all
}

/// One for each mount.
fn newly_exposed<'a>(tables: &Tables<'a>) -> Vec<Exposed<'a>> {
    let protections = protections(tables.baseline);
    let before = exposures(tables.before, &protections);
    let mut all: Vec<Exposed<'a>> = Vec::new();
    for ((point, place), (mount, masked)) in exposures(tables.now, &protections) {
        if before.contains_key(&(point, place.clone())) {
            continue;
        }
        match all.last_mut().filter(|last| last.mount.id == mount.id) {
            Some(last) => {
                last.masked |= masked;
                last.writable |= !masked;
            }
            None => all.push(Exposed {
                mount,
                place,
                masked,
                writable: !masked,
                fresh: !tables.before.mounts.iter().any(|m| m.id == mount.id),
            }),
        }
    }
    all
}

fn exposed_draft(changed: &Changed, exposed: &Exposed<'_>, world: &World) -> Draft {
    let Exposed { mount, place, .. } = exposed;
    let says = match (exposed.fresh, exposed.masked) {
        (true, _) => format!(
            "mounted {} at {} without the protection that it started with",
            mount.fs_type, mount.point
        ),
        (false, true) => format!("uncovered {place}, which it started with masked"),
        (false, false) => format!("made {place} writable, which it started with read-only"),
    };
    let flags: &[&str] = match (exposed.masked, exposed.writable) {
        (true, true) => &["read_write", "unmasked"],
        (true, false) => &["unmasked"],
        _ => &["read_write"],
    };
    let wrong = Wrong {
        object: HOST,
        severity: Severity::High,
        says,
        flags,
    };
    let draft = draft(changed.who(), mount, place, wrong, world);
    // How sandboxes within a container begin: what their processes see is theirs, the kernel's knobs are not.
    let sandbox = !changed.own_mounts && changed.own_pid && mount.fs_type == "proc";
    if sandbox {
        return Draft {
            kind: DraftKind::Audit,
            severity: Severity::Low,
            verdict: None,
            ..draft
        };
    }
    draft
}
