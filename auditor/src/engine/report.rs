//! From drafts to records: policy, ι, folding, rate limits, names.
//!
//! The first of its kind is never delayed. Repeats, and floods of ever new objects, are told by lines
//! that stand for many (see [`limit`]). Nothing disappears: every finding that has no line of its own is
//! in some line's `suppressed` and in the counters.

mod chain;
mod finding;
mod limit;
mod standing;

use super::rule::{Change, Deed, Draft, DraftKind};
use super::{Config, Engine};
use crate::model::facts::{EntityId, HOST};
use crate::model::isolation::Pair;
use crate::model::output::{Finding, Head, Record, SCHEMA, TaskInfo, Witness};
use crate::model::policy::PrivilegeGain;
use crate::model::{NsKind, RuleId, Verdict, text};
use auditor_common::hook::HOOKS;
use auditor_common::record::{TaskKey, cause};
use chain::{Chains, Moment};
pub use finding::tier_of;
use limit::{Key, Limits, Ruling};
use standing::PairState;
use std::collections::{BTreeMap, BTreeSet};

/// Sequence, limits, pairs, what weakened whom.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    seq: u64,
    limits: Limits,
    pairs: BTreeMap<(EntityId, EntityId), PairState>,
    chains: Chains,
}

impl Reporter {
    /// Without the boot id, which not every record has.
    pub(super) fn head(&mut self, config: &Config, boottime_ns: u64) -> Head {
        self.seq += 1;
        Head {
            schema: SCHEMA.to_owned(),
            seq: self.seq,
            time: text::rfc3339(i128::from(boottime_ns) + i128::from(config.realtime_offset_ns)),
            boottime_ns,
            node: config.node.clone(),
            boot_id: String::new(),
        }
    }

    /// An entity is gone: nothing more will be said about it than what waits already.
    /// `around` is the one that it was nested in, or the host.
    pub(super) fn forget(&mut self, id: EntityId, around: EntityId) {
        self.pairs.retain(|(a, b), _| *a != id && *b != id);
        self.limits.forget(id);
        self.chains.forget(id, around);
    }

    /// Folds, buckets, pairs and chains kept.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 4] {
        let [folds, buckets] = self.limits.sizes();
        [folds, buckets, self.pairs.len(), self.chains.len()]
    }
}

/// A finding with everything that must be taken at its moment.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) draft: Draft,
    pair: Pair,
    task: Option<TaskInfo>,
    hook: u16,
    witness: Witness,
    iota_before: Option<Option<bool>>,
    moment: Moment,
    /// How subject and object were called then.
    pub(super) named: (String, String),
}

/// ι of the pairs with a subject, before a change.
pub(super) type Iotas = BTreeMap<EntityId, Option<bool>>;

impl Engine {
    /// ι of everything that a change of `subject` may touch, before the change.
    pub(super) fn iotas_before(
        &self,
        subject: EntityId,
        ids: &super::world::namespaces::NsIds,
        state: &auditor_common::record::TaskState,
    ) -> Iotas {
        let mut iotas = Iotas::new();
        if subject == HOST {
            return iotas;
        }
        let mut others = BTreeSet::from([HOST]);
        others.extend(ids.iter().map(|&id| super::rule::owner(&self.world, id)));
        for inum in [state.root.mnt_ns_inum, state.cwd.mnt_ns_inum] {
            if let Some(id) = self.world.ns.by_inum(NsKind::Mnt, inum) {
                others.insert(super::rule::owner(&self.world, id));
            }
        }
        for other in others {
            if other != subject {
                iotas.insert(other, self.index.pair(subject, other).iota);
            }
        }
        iotas
    }

    /// Drafts become records, or counts.
    pub(super) fn report(
        &mut self,
        drafts: Vec<Draft>,
        change: &Change<'_>,
        before: &Iotas,
        out: &mut Vec<Record>,
    ) {
        for draft in drafts {
            // A birth or a move is the deed of who acted.
            let by_actor = matches!(change.record.cause, cause::FORK | cause::ATTACH);
            let who = if by_actor {
                change.record.actor
            } else {
                change.record.state.key
            };
            let witness = self.witness(change);
            let iota = before.get(&draft.object).copied();
            self.emit(draft, who, witness, iota, out);
        }
    }

    /// As [`Self::report`], for what changes no state.
    pub(super) fn report_deed(
        &mut self,
        drafts: Vec<Draft>,
        deed: &Deed<'_>,
        before: &Iotas,
        out: &mut Vec<Record>,
    ) {
        for draft in drafts {
            let record = deed.record;
            let witness = self.seen_by(record.header.hook, record.syscall, deed.event);
            let iota = before.get(&draft.object).copied();
            self.emit(draft, deed.state.key, witness, iota, out);
        }
    }

    fn witness(&self, change: &Change<'_>) -> (u16, Witness) {
        let record = change.record;
        self.seen_by(record.header.hook, record.syscall, change.event)
    }

    pub(super) fn seen_by(&self, hook: u16, syscall: i32, event: u64) -> (u16, Witness) {
        let name = HOOKS.get(usize::from(hook)).map_or("unknown", |h| h.name);
        let witness = Witness {
            hook: name.to_owned(),
            syscall: (self.config.syscalls)(syscall).map(str::to_owned),
            events: vec![event],
        };
        (hook, witness)
    }

    pub(super) fn emit(
        &mut self,
        mut draft: Draft,
        who: TaskKey,
        (hook, witness): (u16, Witness),
        iota_before: Option<Option<bool>>,
        out: &mut Vec<Record>,
    ) {
        let pair = self.index.pair(draft.subject, draft.object);
        if draft.by_iota {
            let verdict = pair
                .dimension(draft.dimension)
                .map_or(Verdict::Isolated, |d| d.verdict);
            if verdict != Verdict::Violated {
                self.counters.allowed += 1;
                return;
            }
            draft.verdict = Some(verdict);
        }
        // What is told here is not told again as a standing violation. A drift is none: what it found is
        // told beside it, as the violation that it is.
        if draft.by_iota
            || matches!(
                draft.rule,
                RuleId::ForeignCwd | RuleId::ForeignFile | RuleId::CgroupMigration
            )
        {
            self.remember(&draft);
        }
        self.note_thing(&draft, &who, witness.syscall.as_deref());
        let task = self.task_info(&who).or_else(|| self.late.doer(&who));
        let moment = self.moment(&who, hook, self.event);
        let named = (
            super::rule::name(&self.world, draft.subject),
            super::rule::name(&self.world, draft.object),
        );
        let held = Held {
            draft,
            pair,
            task,
            hook,
            witness,
            iota_before,
            moment,
            named,
        };
        if let Some(held) = self.hold(held) {
            self.publish(held, out);
        }
    }

    /// A finding whose parties have names: policy, folding, rate, line.
    pub(super) fn publish(&mut self, held: Held, out: &mut Vec<Record>) {
        let Held {
            mut draft,
            pair,
            task,
            hook,
            witness,
            iota_before,
            moment,
            named: _,
        } = held;
        if draft.rule == RuleId::PrivilegeGain {
            draft.kind = match self.index.policy().privilege_gain {
                PrivilegeGain::Audit => DraftKind::Audit,
                PrivilegeGain::Violation => DraftKind::Violation,
                PrivilegeGain::Ignore => return,
            };
        }
        let allowed = self.index.profile(draft.subject).is_some_and(|subject| {
            let object = self.index.profile(draft.object);
            self.index
                .policy()
                .allows(draft.rule, subject, object, draft.dimension)
                .is_some()
        });
        if allowed {
            self.counters.allowed += 1;
            return;
        }
        let key = Key::of(&draft);
        let ruling = self.reporter.limits.rule_on(key, self.now_ns);
        if ruling != Ruling::Counted {
            let chain = self.chain(&draft, moment);
            let finding = Finding {
                weakening: chain.weakening,
                explained_by: chain.explained_by,
                unexplained: chain.unexplained,
                ..self.finding(draft, &pair, task, hook, witness, iota_before)
            };
            match ruling {
                Ruling::Tell(suppressed) => self.push(key, finding, suppressed, out),
                _ => self.reporter.limits.keep(key, finding),
            }
        }
        self.counters.suppressed = self.reporter.limits.suppressed();
    }

    fn push(&mut self, key: Key, mut finding: Finding, suppressed: u64, out: &mut Vec<Record>) {
        finding.suppressed = suppressed;
        finding.lost_events = self.may_have_missed();
        finding.head = self.head();
        self.note(&key, &finding);
        let finding = Box::new(finding);
        out.push(match key.kind {
            DraftKind::Violation => {
                self.counters.violations += 1;
                Record::Violation(finding)
            }
            DraftKind::Audit => {
                self.counters.audits += 1;
                Record::Audit(finding)
            }
            DraftKind::Drift => {
                self.counters.drifts += 1;
                Record::Drift(finding)
            }
        });
    }

    /// Tells what was put off and is due (all, at the end of a stream).
    pub(super) fn tell_put_off(&mut self, out: &mut Vec<Record>, all: bool) {
        let (now_ns, window_ns) = (self.now_ns, self.config.fold_ns);
        let due = self.reporter.limits.due(now_ns, window_ns, all);
        for told in due.told {
            self.push(told.key, told.finding, told.suppressed, out);
        }
        for (a, b) in due.pairs {
            self.report_pair(a, b, out);
        }
    }
}
