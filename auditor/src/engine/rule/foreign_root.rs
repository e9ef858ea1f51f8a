//! `foreign-root` (T3): a container's task has a root directory that lies on another mount namespace's
//! mount: everything it opens by an absolute path is foreign.

use super::directory::Directory;
use super::{Change, Draft};
use crate::engine::world::World;
use crate::model::facts::HOST;

/// Drafts a finding when the root became foreign.
pub fn detect(change: &Change<'_>, world: &World, out: &mut Vec<Draft>) {
    if change.label == HOST {
        return;
    }
    let state = &change.record.state;
    let Some(id) = Directory::Root.foreign_mount_ns(world, state) else {
        return;
    };
    let was_so = change.before.is_some_and(|b| {
        b.root == state.root
            && change.label == change.label_before
            && Directory::Root.foreign_mount_ns(world, b).is_some()
    });
    if !was_so {
        out.extend(Directory::Root.draft(world, change.label, state, id, change.confidence));
    }
}
