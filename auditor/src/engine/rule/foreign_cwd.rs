//! `foreign-cwd` (T3): a container's task has a working directory on another mount namespace's mount:
//! everything it opens by a relative path is foreign. At a container's first exec it is the mark of a
//! directory descriptor that leaked from the runtime.

use super::directory::Directory;
use super::{Change, Draft};
use crate::engine::world::World;
use crate::model::facts::HOST;
use auditor_common::record::cause;

/// Drafts a finding when the working directory became foreign.
pub fn detect(change: &Change<'_>, world: &World, out: &mut Vec<Draft>) {
    if change.label == HOST {
        return;
    }
    // A task that is about to become part of a container still has the runtime's cwd; what counts
    // is what it carries into the container's program.
    let state = &change.record.state;
    let executes = change.record.cause == cause::EXEC;
    let entering = change.label != change.label_before;
    if entering && !executes {
        return;
    }
    let Some(id) = Directory::Cwd.foreign_mount_ns(world, state) else {
        return;
    };
    let was_so = change
        .before
        .is_some_and(|b| b.cwd == state.cwd && Directory::Cwd.foreign_mount_ns(world, b).is_some());
    if executes || !was_so {
        out.extend(Directory::Cwd.draft(world, change.label, state, id, change.confidence));
    }
}
