//! `foreign-file` (T3): a container's task opens, receives, maps or holds a file on a mount that belongs to somebody
//! else. A directory is a way into the whole tree below it.

use super::{Deed, Draft, DraftKind, name, ns_evidence, owner, possessive};
use crate::engine::world::World;
use crate::model::facts::{HOST, NsId};
use crate::model::output::Evidence;
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Transition, Verdict, text};
use auditor_common::record::{ActRecord, FileRef, act, ns, path_flags};

/// `NSFS_MAGIC`: a namespace's file, which is a reference to the namespace and to no mount.
const NSFS: u32 = 0x6e73_6673;
/// Descriptors up to this one are given to a program by whoever starts it.
const LAST_STREAM: u32 = 2;
/// `FMODE_READ` and `FMODE_WRITE`, in `file.f_mode`.
const READ: u64 = 0x1;
const WRITE: u64 = 0x2;

/// Types of files, in `inode.i_mode`.
mod mode {
    pub(super) const TYPE: u32 = 0xf000;
    pub(super) const CHAR: u32 = 0x2000;
    pub(super) const DIRECTORY: u32 = 0x4000;
}

/// Whether it is a way into a whole tree.
#[must_use]
pub const fn is_directory(file: &FileRef) -> bool {
    file.mode & mode::TYPE == mode::DIRECTORY
}

/// Whether a file is the device null, zero, full, random or urandom: the same wherever it is opened.
const fn is_harmless(file: &FileRef) -> bool {
    file.mode & mode::TYPE == mode::CHAR
        && file.rdev >> 20 == 1
        && matches!(file.rdev & 0xf_ffff, 3 | 5 | 7 | 8 | 9)
}

/// Whether whoever started the task gave it the file as one of its standard streams.
#[must_use]
pub const fn is_stream(record: &ActRecord) -> bool {
    let held = record.act == act::HOLD && record.target.tid <= LAST_STREAM;
    (held || record.object.flags & path_flags::STREAM != 0) && !is_directory(&record.object)
}

/// The mount namespace that a file's mount belongs to, if it is neither the actor's container's, nor one that is
/// nested in it or made by it, nor nobody's, nor unknown.
#[must_use]
pub fn foreign_mount_ns(deed: &Deed<'_>, world: &World) -> Option<NsId> {
    let (record, file) = (deed.record, &deed.record.object);
    if file.flags & path_flags::DETACHED != 0
        || file.mnt_ns_inum == 0
        || file.fs_magic == NSFS
        || is_harmless(file)
        || is_stream(record)
    {
        return None;
    }
    let id = world.ns.by_inum(NsKind::Mnt, file.mnt_ns_inum)?;
    let object = owner(world, id);
    let entity = world.entities.get(&deed.label)?;
    if object != HOST && world.contains(deed.label, object) || entity.ns[ns::MNT] == id {
        return None;
    }
    Some(id)
}

/// What was done, and how bad it is.
fn weigh(record: &ActRecord) -> (Vec<String>, Severity) {
    let mut access = Vec::new();
    if record.arg1 & READ != 0 {
        access.push("read".to_owned());
    }
    let writes = record.arg1 & WRITE != 0;
    if writes {
        access.push("write".to_owned());
    }
    if matches!(record.act, act::EXEC | act::MAP) {
        access.push("execute".to_owned());
    }
    if access.is_empty() {
        access.push("hold".to_owned());
    }
    match is_directory(&record.object) || writes {
        true => (access, Severity::Critical),
        false => (access, Severity::High),
    }
}

/// A file as evidence.
#[must_use]
pub fn evidence(record: &ActRecord, access: Vec<String>) -> Evidence {
    let path = text::file_path(record.name());
    Evidence::File {
        dev: record.object.dev,
        ino: record.object.ino,
        mnt_ns: record.object.mnt_ns_inum,
        path: (!path.is_empty()).then_some(path),
        access,
    }
}

/// A number that no other file gets.
#[must_use]
pub const fn object_id(file: &FileRef) -> u64 {
    file.ino ^ (file.dev as u64) << 32
}

/// Drafts the finding that a container's task reached a file in `id`.
#[must_use]
pub fn draft(deed: &Deed<'_>, world: &World, id: NsId) -> Draft {
    let record = deed.record;
    let object = owner(world, id);
    let (access, severity) = weigh(record);
    let (verb, sure) = match record.act {
        act::RECEIVE => ("received", Confidence::Exact),
        act::HOLD => ("holds", Confidence::Sampled),
        act::MAP => ("mapped", Confidence::Exact),
        act::EXEC => ("executed", Confidence::Exact),
        _ => ("opened", Confidence::Exact),
    };
    let what = match is_directory(&record.object) {
        true => "a directory",
        false => "a file",
    };
    let entity = world.entities.get(&deed.label);
    Draft {
        kind: DraftKind::Violation,
        rule: RuleId::ForeignFile,
        transition: Some(Transition::T3),
        dimension: Dimension::References,
        severity,
        confidence: sure.max(deed.confidence),
        subject: deed.label,
        object,
        object_id: object_id(&record.object),
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: entity.and_then(|e| ns_evidence(world, NsKind::Mnt, e.ns[ns::MNT])),
        observed: Some(evidence(record, access)),
        message: format!(
            "{} {verb} {what} on {} mounts",
            name(world, deed.label),
            possessive(world, object)
        ),
    }
}
