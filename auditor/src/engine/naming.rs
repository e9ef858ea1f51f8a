//! Waiting for names.
//!
//! A runtime may write down who a container is only a moment after its first program runs. A finding
//! that comes in that moment must not be attributed to nobody: it waits, at most for
//! [`ATTEMPTS`] ticks, until the inventory knows. What is still unknown then is an unknown compartment
//! and is reported as one. The verdict is that of the moment of the finding; only its names wait.

use super::Engine;
use super::event::Query;
use super::label::Pending;
use super::report::Held;
use super::rule;
use crate::inventory::container::ContainerAnswer;
use crate::model::facts::{EntityId, HOST, ObjectKey};
use crate::model::output::Record;
use auditor_common::record::{TaskKey, ns};

/// How often the inventory is asked about one compartment, a tick apart.
const ATTEMPTS: u8 = 10;
/// Compartments that wait at once. More are reported as unknown.
const MAX_RETRIES: usize = 1024;
/// Findings that wait at once. More are reported as they are.
const MAX_HELD: usize = 4096;

/// A compartment that nobody knew yet.
#[derive(Clone, Debug)]
struct Retry {
    pending: Pending,
    cgroup_path: String,
    init_pid: Option<u32>,
    left: u8,
    /// The question is open.
    asked: Option<u64>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Naming {
    retries: Vec<Retry>,
    held: Vec<Held>,
    /// What waited and is ready.
    ready: Vec<Record>,
}

impl Engine {
    /// Nobody knows the compartment: it is asked about again.
    pub(super) fn ask_again(
        &mut self,
        pending: Pending,
        cgroup_path: String,
        init_pid: Option<u32>,
    ) {
        if self.naming.retries.len() < MAX_RETRIES {
            if let Pending::Start(compartment) = &pending {
                self.expect(compartment);
            }
            self.naming.retries.push(Retry {
                pending,
                cgroup_path,
                init_pid,
                left: ATTEMPTS,
                asked: None,
            });
        }
    }

    /// Asks what is due. Once a tick.
    pub(super) fn retry_names(&mut self) {
        let mut retries = std::mem::take(&mut self.naming.retries);
        for retry in &mut retries {
            if retry.asked.is_none() && retry.left > 0 {
                retry.left -= 1;
                self.ask_about(retry);
            }
        }
        self.naming.retries.append(&mut retries);
    }

    /// Asks about a first process before it is due.
    pub(super) fn ask_now(&mut self, key: &TaskKey) {
        let is_it = |retry: &Retry| {
            let waits = retry.asked.is_none() && retry.left > 0;
            waits && matches!(&retry.pending, Pending::Start(of) if of.key() == *key)
        };
        if let Some(place) = self.naming.retries.iter().position(is_it) {
            let mut retry = self.naming.retries[place].clone();
            self.ask_about(&mut retry);
            self.naming.retries[place] = retry;
        }
    }

    fn ask_about(&mut self, retry: &mut Retry) {
        let id = self.next_query;
        self.next_query += 1;
        retry.asked = Some(id);
        self.queries.push_back(Query {
            id,
            cgroup_path: retry.cgroup_path.clone(),
            init_pid: retry.init_pid,
        });
    }

    /// Takes the answer to a question asked again; false if it is none of those.
    pub(super) fn answer_retry(&mut self, query: u64, answer: Option<&ContainerAnswer>) -> bool {
        let place = self
            .naming
            .retries
            .iter()
            .position(|r| r.asked == Some(query));
        let Some(place) = place else { return false };
        let answer = match self.naming.retries[place].pending {
            Pending::Name(id) => answer.filter(|a| !self.is_about_another(id, a)),
            Pending::Start(of) => answer.filter(|a| !self.is_anothers(&of, a)),
            Pending::Resumed(_) | Pending::Found(_) => answer,
        };
        if answer.is_none() && self.naming.retries[place].left > 0 {
            self.naming.retries[place].asked = None;
            return true;
        }
        let retry = self.naming.retries.swap_remove(place);
        match retry.pending {
            Pending::Start(compartment) => match answer {
                Some(answer) => self.start_late(&compartment, answer),
                None => self.give_up(&compartment.key()),
            },
            Pending::Resumed(_) | Pending::Found(_) => {}
            Pending::Name(id) => {
                self.rename(id, answer);
                self.release_held(id);
            }
        }
        true
    }

    /// Whether the name of an entity is still asked for.
    pub(super) fn is_unnamed(&self, id: EntityId) -> bool {
        id != HOST
            && self
                .naming
                .retries
                .iter()
                .any(|r| matches!(r.pending, Pending::Name(of) if of == id))
    }

    /// Keeps a finding until its parties have names; gives it back when it must not wait.
    pub(super) fn hold(&mut self, held: Held) -> Option<Held> {
        let waits = self.is_unnamed(held.draft.subject) || self.is_unnamed(held.draft.object);
        if !waits || self.naming.held.len() >= MAX_HELD {
            return Some(held);
        }
        self.naming.held.push(held);
        None
    }

    /// An entity has its name, or will never have one, or is about to end.
    pub(super) fn release_held(&mut self, id: EntityId) {
        self.naming
            .retries
            .retain(|r| !matches!(r.pending, Pending::Name(of) if of == id));
        self.judge_named(id);
        for held in std::mem::take(&mut self.naming.held) {
            if let Some(mut held) = self.hold(held) {
                held.draft.message = held
                    .draft
                    .message
                    .replace(&held.named.0, &rule::name(&self.world, held.draft.subject));
                held.draft.message = held
                    .draft
                    .message
                    .replace(&held.named.1, &rule::name(&self.world, held.draft.object));
                let mut ready = std::mem::take(&mut self.naming.ready);
                self.publish(held, &mut ready);
                self.naming.ready = ready;
            }
        }
    }

    /// All that waits is told now: the stream ends.
    pub(super) fn release_all(&mut self) {
        self.naming.retries.clear();
        self.judge_unnamed();
        self.release_held(HOST);
    }

    /// To be told at the end of this step.
    pub(super) fn tell_later(&mut self, mut records: Vec<Record>) {
        self.naming.ready.append(&mut records);
    }

    /// What waited and is ready, after what the event itself brought.
    pub(super) fn drain_ready(&mut self, out: &mut Vec<Record>) {
        out.append(&mut self.naming.ready);
    }

    /// A container that is known already gets its name, and its spec says how it came by what it has.
    pub(super) fn rename(&mut self, id: EntityId, answer: Option<&ContainerAnswer>) {
        let (Some(answer), Some(entity)) = (answer, self.world.entities.get(&id)) else {
            return;
        };
        let (ids, around, before) = (entity.ns, entity.parent, entity.origins);
        let sets: Vec<_> = entity.sets.keys().copied().collect();
        let origins = self.origins(&ids, around, answer.spec.as_ref(), Some(id));
        if let Some(entity) = self.world.entities.get_mut(&id) {
            if entity.key.starts_with("unknown:") {
                entity.key = format!("{}:{}", answer.runtime.as_str(), answer.id);
            }
            entity.answer = Some(Box::new(answer.clone()));
            entity.origins = origins;
        }
        for set in sets {
            self.judge_set_again(id, set);
        }
        let root = ObjectKey::Root(ids[ns::MNT]);
        self.index.hold(id, root, origins[ns::MNT]);
        self.index.release(id, root, before[ns::MNT]);
        self.index.insert_entity(id, self.profile(id));
        self.judge_grant(id);
        if answer.spec.is_some() {
            self.look_at(id, true);
        }
    }
}
