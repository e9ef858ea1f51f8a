//! Tasks in a compartment of their own: asking who they are, until one is known to be a container's init.

use super::Engine;
use crate::engine::apply::record_of;
use crate::engine::event::Query;
use crate::engine::rule::{self, Change};
use crate::engine::world::namespaces::{NO_NS, NsIds};
use crate::engine::world::{Entity, Task};
use crate::inventory::cgroup_path;
use crate::inventory::container::ContainerAnswer;
use crate::model::Confidence;
use crate::model::facts::{EntityId, HOST};
use auditor_common::hook;
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{TaskKey, TaskState, cause, known, ns};

/// Questions that may be open at once. A driver answers each before the next event, so more are a bug
/// of the driver; they are dropped and their compartments stay the host's.
pub(super) const MAX_PENDING: usize = 1024;

/// How often one cgroup's tasks are asked about in vain.
const MAX_ASKS: u32 = 64;

/// Living containers at most: beyond it new ones are not modelled (and counted as ignored).
const MAX_ENTITIES: usize = 1 << 16;

/// A compartment that waits for its name.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Pending {
    /// It becomes a container, or does not.
    Start(Compartment),
    /// The same, of one that has executed nothing.
    Resumed(Compartment),
    /// The same, of one that a sweep found.
    Found(Compartment),
    /// It is one already.
    Name(EntityId),
}

/// A task in a compartment of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Compartment {
    key: TaskKey,
    label: EntityId,
    /// It has a pid namespace of its own.
    own_pid: bool,
}

impl Compartment {
    /// Its task.
    pub(in crate::engine) const fn key(&self) -> TaskKey {
        self.key
    }

    /// Whose it is, until it is a container.
    pub(super) const fn label(&self) -> EntityId {
        self.label
    }

    /// Whether it has a pid namespace of its own.
    pub(super) const fn has_own_pid(&self) -> bool {
        self.own_pid
    }
}

/// Whether an answer is about another container in the same cgroup: its first process is another than this one,
/// which is the first of its pid namespace. A runtime may write this container down only later.
fn names_another(answer: &ContainerAnswer, state: &TaskState) -> bool {
    state.ns_tid == 1 && answer.init_pid.is_some_and(|pid| pid != state.key.tgid)
}

impl Engine {
    /// Whether an answer is about another container in the same cgroup than this compartment's. Where the task's number
    /// says nothing, that container must be known, and the task none of it.
    pub(in crate::engine) fn is_anothers(
        &self,
        compartment: &Compartment,
        answer: &ContainerAnswer,
    ) -> bool {
        let Some(task) = self.world.task(&compartment.key) else {
            return false;
        };
        if compartment.own_pid {
            return names_another(answer, &task.state);
        }
        let init = answer.init_pid.and_then(|pid| self.world.tasks.get(&pid));
        init.is_some_and(|init| {
            let of = self.world.entities.get(&init.label);
            init.label != task.label && of.is_some_and(|of| of.init == init.state.key)
        })
    }

    /// Whether an answer is about another container than this one, see [`names_another`].
    pub(in crate::engine) fn is_about_another(
        &self,
        id: EntityId,
        answer: &ContainerAnswer,
    ) -> bool {
        let Some(entity) = self.world.entities.get(&id) else {
            return false;
        };
        let around = self.world.entities.get(&entity.parent);
        let own_pid = around.is_some_and(|p| p.ns[ns::PID] != entity.ns[ns::PID]);
        let init = self.world.task(&entity.init);
        own_pid && init.is_some_and(|task| names_another(answer, &task.state))
    }

    /// After an exec: is this the first program of a container?
    pub(in crate::engine) fn consider(&mut self, tid: u32) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        if let Some(compartment) = self.compartment(task) {
            self.ask(Pending::Start(compartment), &compartment);
        }
    }

    /// Asks who a compartment is.
    pub(super) fn ask(&mut self, pending: Pending, compartment: &Compartment) {
        let Some(task) = self.world.task(&compartment.key) else {
            return;
        };
        let state = task.state;
        if !compartment.own_pid {
            // Services of the host with a private mount namespace look like this too, and exec often:
            // a cgroup whose tasks nobody knows is not asked about for ever.
            let slot = (0..CGROUP_SLOTS).find_map(|slot| self.world.cgroup_key(&state, slot));
            if let Some(key) = slot {
                let asked = self.asked.entry(key).or_insert(0);
                if *asked >= MAX_ASKS {
                    return;
                }
                *asked += 1;
            }
        }
        if self.pending.len() >= MAX_PENDING {
            return;
        }
        if matches!(pending, Pending::Found(_)) {
            self.found.note_question();
        }
        let id = self.next_query;
        self.next_query += 1;
        self.pending.insert(id, pending);
        if compartment.label != HOST {
            // What a container calls its own containers is its claim: runtimes of the host know nothing
            // of them, and a name that one forges must not be looked up.
            self.on_answer(id, None);
            return;
        }
        let cgroup_path = self.home_of(&state);
        self.queries.push_back(Query {
            id,
            cgroup_path,
            init_pid: Some(state.key.tgid),
        });
    }

    /// The path that names a compartment.
    pub(super) fn home_of(&self, state: &TaskState) -> String {
        let paths = self.world.cgroup_paths(state);
        if let [only] = paths[..] {
            return only.to_owned();
        }
        match cgroup_path::identify_any(paths.iter().copied()) {
            Some((index, _)) => paths[index].to_owned(),
            None => self.world.home_path(state).to_owned(),
        }
    }

    /// Whether a task has a mount namespace that neither its entity nor another one started with.
    pub(in crate::engine) fn is_apart(&self, task: &Task, around: &Entity) -> bool {
        let (own, theirs) = (self.world.ns.ids(task.set)[ns::MNT], around.ns[ns::MNT]);
        if own == theirs || own == NO_NS || theirs == NO_NS {
            return false;
        }
        // If it is somebody's, the task entered a container that is known already, or left its own for the host.
        let namespace = self.world.ns.get(own);
        namespace.is_none_or(|n| n.entity.is_none() && !n.initial)
    }

    /// Whether a task lives in a compartment of its own that no container is known for.
    pub(super) fn compartment(&self, task: &Task) -> Option<Compartment> {
        let around = self.world.entities.get(&task.label)?;
        if !self.is_apart(task, around) {
            return None;
        }
        let root = (task.state.root.dev, task.state.root.ino);
        let left = task.pivoted || task.state.known & known::ROOT != 0 && root != around.root;
        let pid = self.world.ns.ids(task.set)[ns::PID];
        left.then_some(Compartment {
            key: task.state.key,
            label: task.label,
            own_pid: pid != around.ns[ns::PID] && pid != NO_NS,
        })
    }

    /// The inventory answered.
    pub(in crate::engine) fn on_answer(&mut self, query: u64, answer: Option<&ContainerAnswer>) {
        if self.answer_retry(query, answer) {
            return;
        }
        match self.pending.remove(&query) {
            Some(Pending::Start(compartment)) => self.start(&compartment, answer),
            Some(Pending::Resumed(compartment)) => self.resume(&compartment, answer),
            Some(Pending::Found(compartment)) => self.find(&compartment, answer),
            Some(Pending::Name(id)) => {
                let answer = answer.filter(|a| !self.is_about_another(id, a));
                self.rename(id, answer);
            }
            None => {}
        }
    }

    /// A compartment becomes a container, if its task is the init of one.
    pub(in crate::engine) fn start(
        &mut self,
        pending: &Compartment,
        answer: Option<&ContainerAnswer>,
    ) {
        let Some(task) = self.world.task(&pending.key) else {
            return;
        };
        if task.label != pending.label {
            return;
        }
        let state = task.state;
        let ids = *self.world.ns.ids(task.set);
        let answer = answer.filter(|a| !self.is_anothers(pending, a));
        let pid_is_anothers = self
            .world
            .ns
            .get(ids[ns::PID])
            .is_some_and(|n| n.entity.is_some());
        let named = answer
            .and_then(|a| a.init_pid)
            .is_some_and(|pid| pid == state.key.tgid);
        let first = named || state.ns_tid == 1 || pid_is_anothers;
        let is_init = match answer {
            // Hooks of the runtime run inside before the init does.
            Some(a) if pending.own_pid => first || a.init_pid.is_none() && state.ns_tid == 0,
            Some(a) => named || a.init_pid.is_none(),
            None => pending.own_pid,
        };
        if is_init && self.world.entities.len() < MAX_ENTITIES {
            self.freeze(&state, pending.label, answer);
            self.report_first_exec(&state, pending.label, ids);
            if let Some(slot) =
                (0..CGROUP_SLOTS).find_map(|slot| self.world.cgroup_key(&state, slot))
            {
                self.asked.remove(&slot);
            }
        }
        if answer.is_none() && pending.label == HOST {
            let home = self.home_of(&state);
            let label = self.world.label(&pending.key);
            let unnamed = self
                .world
                .entities
                .get(&label)
                .is_some_and(|e| e.answer.is_none());
            if label == HOST {
                self.ask_again(Pending::Start(*pending), home, Some(state.key.tgid));
            } else if unnamed {
                self.ask_again(Pending::Name(label), home, Some(state.key.tgid));
            }
        }
    }

    /// What the container's first program brought with it: a root or working directory that leaked.
    fn report_first_exec(&mut self, state: &TaskState, around: EntityId, ids: NsIds) {
        let label = self.world.label(&state.key);
        if label == around || !self.started {
            return;
        }
        let record = record_of(state, cause::EXEC, -1, hook::SCHED_EXEC, self.now_ns);
        let change = Change {
            label_before: around,
            actor: around,
            ..Change::of(&record, self.event, label, ids, Confidence::Exact)
        };
        let mut drafts = Vec::new();
        rule::foreign_root::detect(&change, &self.world, &mut drafts);
        rule::foreign_cwd::detect(&change, &self.world, &mut drafts);
        if drafts.is_empty() {
            return;
        }
        let before = self.iotas_before(label, &ids, state);
        let mut out = Vec::new();
        self.report(drafts, &change, &before, &mut out);
        self.tell_later(out);
    }
}
