//! A line in full: how the parties are called, who the task is and whose child.

use super::super::Engine;
use super::super::rule::{Draft, DraftKind};
use crate::model::facts::EntityId;
use crate::model::isolation::Pair;
use crate::model::output::{EntityKind, Finding, Head, IotaChange, Party, TaskInfo, Witness};
use crate::model::{Confidence, Tier, text};
use auditor_common::hook::{Attach, HOOKS};
use auditor_common::record::{TaskKey, kernel_str};

/// Parents named in a finding.
const ANCESTRY: usize = 3;

impl Engine {
    pub(super) fn finding(
        &mut self,
        mut draft: Draft,
        pair: &Pair,
        task: Option<TaskInfo>,
        hook: u16,
        mut witness: Witness,
        iota_before: Option<Option<bool>>,
    ) -> Finding {
        if let Some(tool) = self.config.imported_from {
            tool.clone_into(&mut witness.hook);
            draft.confidence = Confidence::Inferred;
        }
        let audit = draft.kind == DraftKind::Audit;
        let number = |iota: Option<bool>| iota.map(u8::from);
        let iota = (!audit && draft.subject != draft.object).then(|| IotaChange {
            before: number(iota_before.unwrap_or(pair.iota)),
            after: number(pair.iota),
        });
        let mut subject = self.told(draft.subject);
        subject.task = task;
        let object = self.told(draft.object);
        Finding {
            // A line gets its number and time when it leaves.
            head: Head::default(),
            tier: tier_of(hook),
            rule: draft.rule,
            transition: draft.transition,
            dimension: draft.dimension,
            severity: draft.severity,
            verdict: if audit { None } else { draft.verdict },
            iota,
            pair_class: (draft.subject != draft.object).then_some(pair.class),
            confidence: draft.confidence,
            subject,
            object,
            expected: draft.expected,
            observed: draft.observed,
            witness,
            weakening: Vec::new(),
            explained_by: Vec::new(),
            unexplained: false,
            message: draft.message,
            suppressed: 0,
            lost_events: self.may_have_missed(),
        }
    }

    /// One side of a finding, as it is called.
    #[must_use]
    pub fn party(&self, id: EntityId) -> Party {
        let entity = self.world.entities.get(&id);
        let profile = self.index.profile(id);
        let pod = entity
            .and_then(|e| e.answer.as_ref())
            .and_then(|a| a.pod.as_ref())
            .and_then(|p| match (&p.namespace, &p.name) {
                (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
                _ => p.uid.clone().or_else(|| p.name.clone()),
            });
        Party {
            entity: entity.map_or(EntityKind::Container, |e| e.kind),
            id: entity.map_or_else(|| "gone".to_owned(), |e| e.key.clone()),
            name: profile.and_then(|p| p.name.clone()),
            runtime: profile.and_then(|p| p.runtime.clone()),
            image: profile.and_then(|p| p.image.clone()),
            pod,
            incarnation: entity
                .filter(|e| e.kind != EntityKind::Host)
                .map(|e| e.init.start_boottime_ns),
            task: None,
        }
    }

    /// A party as a line has it: without what its id says already.
    pub(super) fn told(&self, id: EntityId) -> Party {
        let mut party = self.party(id);
        let prefix = party.id.split_once(':').map(|(runtime, _)| runtime);
        party.runtime = party.runtime.filter(|r| prefix != Some(r.as_str()));
        party
    }

    pub(in crate::engine) fn task_info(&self, key: &TaskKey) -> Option<TaskInfo> {
        let task = self.world.task(key)?;
        let state = &task.state;
        let mut ancestry = Vec::new();
        let mut at = state.parent;
        while ancestry.len() < ANCESTRY {
            let Some(parent) = self.world.task(&at) else {
                break;
            };
            ancestry.push(text::escape(kernel_str(&parent.state.comm)));
            if parent.state.parent == at {
                break;
            }
            at = parent.state.parent;
        }
        Some(TaskInfo {
            pid: state.key.tgid,
            tid: (state.key.tid != state.key.tgid).then_some(state.key.tid),
            start_boottime_ns: state.key.start_boottime_ns,
            comm: text::escape(kernel_str(&state.comm)),
            exe: task.exe.as_deref().map(str::to_owned),
            uid: state.creds.uid,
            ancestry,
        })
    }
}

/// In which tier a hook works.
#[must_use]
pub fn tier_of(hook: u16) -> Tier {
    match HOOKS.get(usize::from(hook)).map(|h| h.attach) {
        Some(Attach::Fentry(_) | Attach::Fexit(_)) => Tier::Trampoline,
        Some(Attach::Agent) | None => Tier::Scan,
        Some(
            Attach::TpBtf(_)
            | Attach::SyscallEnter(_)
            | Attach::SyscallExit(_)
            | Attach::CgroupSysctl
            | Attach::Iter(_),
        ) => Tier::Tracepoint,
    }
}
