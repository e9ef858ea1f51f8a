//! From drafts to records: policy, ι, folding, rate limits, names.
//!
//! The first of its kind is never delayed. Repeats of one (rule, subject, object, kernel object) within
//! the fold window are counted and come out as one more line when the window ends; what exceeds the
//! rate of one (rule, subject) is counted too. Nothing disappears: every suppressed finding is in some
//! line's `suppressed` and in the counters.

use super::rule::directory::Directory;
use super::rule::{Change, Draft, DraftKind, shared};
use super::{Config, Engine};
use crate::model::facts::{EntityId, HOST, ObjectKey, Origin};
use crate::model::isolation::Pair;
use crate::model::output::{
    EntityKind, Finding, Head, IotaChange, Party, Record, Resolved, SCHEMA, TaskInfo, Witness,
};
use crate::model::policy::PrivilegeGain;
use crate::model::{
    Confidence, Dimension, NsKind, RuleId, Severity, Tier, Transition, Verdict, text,
};
use auditor_common::hook::{self, Attach, HOOKS};
use auditor_common::record::{TaskKey, cause, kernel_str, ns};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Folds kept at once. Beyond it findings are not folded, only limited in rate.
const MAX_FOLDS: usize = 1 << 14;
/// Lines that one (rule, subject) may emit in a burst.
const BURST: u32 = 64;
/// How long it takes until it may emit one more.
const REFILL_NS: u64 = 250_000_000;
/// Parents named in a finding.
const ANCESTRY: usize = 8;
/// Pairs whose violations are remembered until resolved.
const MAX_PAIRS: usize = 1 << 16;

type FoldKey = (RuleId, EntityId, EntityId, Dimension, u64);

#[derive(Debug)]
struct Fold {
    since_ns: u64,
    suppressed: u64,
    /// The last of the suppressed.
    last: Option<Box<(DraftKind, Finding)>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    refilled_ns: u64,
    suppressed: u64,
}

/// What was said about a pair.
#[derive(Clone, Debug, Default)]
struct PairState {
    /// Dimensions that were reported as violated and are not resolved.
    violated: BTreeMap<Dimension, RuleId>,
}

/// Sequence, folds, buckets, pairs.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    seq: u64,
    folds: BTreeMap<FoldKey, Fold>,
    buckets: BTreeMap<(RuleId, EntityId), Bucket>,
    pairs: BTreeMap<(EntityId, EntityId), PairState>,
}

impl Reporter {
    pub(super) fn head(&mut self, config: &Config, boottime_ns: u64) -> Head {
        self.seq += 1;
        Head {
            schema: SCHEMA.to_owned(),
            seq: self.seq,
            time: text::rfc3339(i128::from(boottime_ns) + i128::from(config.realtime_offset_ns)),
            boottime_ns,
            node: config.node.clone(),
            boot_id: config.boot_id.clone(),
        }
    }

    /// An entity is gone: nothing more will be said about it. Its counts are in the counters.
    pub(super) fn forget(&mut self, id: EntityId) {
        self.pairs.retain(|(a, b), _| *a != id && *b != id);
        self.buckets.retain(|(_, subject), _| *subject != id);
    }

    /// Folds, buckets and pairs kept.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.folds.len(), self.buckets.len(), self.pairs.len()]
    }

    /// Whether the rate allows a line; counts it where not.
    fn admit(&mut self, rule: RuleId, subject: EntityId, now_ns: u64) -> Option<u64> {
        let bucket = self.buckets.entry((rule, subject)).or_insert(Bucket {
            tokens: BURST,
            refilled_ns: now_ns,
            suppressed: 0,
        });
        let earned = now_ns.saturating_sub(bucket.refilled_ns) / REFILL_NS;
        if earned > 0 {
            bucket.tokens = BURST.min(
                bucket
                    .tokens
                    .saturating_add(u32::try_from(earned).unwrap_or(BURST)),
            );
            bucket.refilled_ns += earned * REFILL_NS;
        }
        if bucket.tokens == 0 {
            bucket.suppressed += 1;
            return None;
        }
        bucket.tokens -= 1;
        Some(std::mem::take(&mut bucket.suppressed))
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

    fn witness(&self, change: &Change<'_>) -> (u16, Witness) {
        let hook = change.record.header.hook;
        let name = HOOKS.get(usize::from(hook)).map_or("unknown", |h| h.name);
        let witness = Witness {
            hook: name.to_owned(),
            syscall: (self.config.syscalls)(change.record.syscall).map(str::to_owned),
            events: vec![change.event],
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
        if draft.by_iota || matches!(draft.rule, RuleId::ForeignCwd | RuleId::CgroupMigration) {
            self.remember(&draft);
        }
        let task = self.task_info(&who);
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
        let key = (
            draft.rule,
            draft.subject,
            draft.object,
            draft.dimension,
            draft.object_id,
        );
        let kind = draft.kind;
        let now_ns = self.now_ns;
        let folded = self.reporter.folds.contains_key(&key);
        let admitted = if folded {
            None
        } else {
            self.reporter.admit(draft.rule, draft.subject, now_ns)
        };
        if !folded && admitted.is_none() {
            self.counters.suppressed += 1;
            return;
        }
        let finding = self.finding(draft, &pair, task, hook, witness, iota_before);
        if let Some(fold) = self.reporter.folds.get_mut(&key) {
            fold.suppressed += 1;
            fold.last = Some(Box::new((kind, finding)));
            self.counters.suppressed += 1;
            return;
        }
        if self.reporter.folds.len() < MAX_FOLDS {
            self.reporter.folds.insert(
                key,
                Fold {
                    since_ns: now_ns,
                    suppressed: 0,
                    last: None,
                },
            );
        }
        self.push(kind, finding, admitted.unwrap_or(0), out);
    }

    fn push(
        &mut self,
        kind: DraftKind,
        mut finding: Finding,
        suppressed: u64,
        out: &mut Vec<Record>,
    ) {
        finding.suppressed = suppressed;
        finding.lost_events = self.counters.lost_events;
        finding.head = self.head();
        let finding = Box::new(finding);
        out.push(match kind {
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

    /// Ends the fold windows that are over (all, at the end of a stream).
    pub(super) fn flush_folded(&mut self, out: &mut Vec<Record>, all: bool) {
        let (now_ns, window_ns) = (self.now_ns, self.config.fold_ns);
        let over: Vec<FoldKey> = self
            .reporter
            .folds
            .iter()
            .filter(|(_, fold)| all || now_ns >= fold.since_ns.saturating_add(window_ns))
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            let Some(fold) = self.reporter.folds.remove(&key) else {
                continue;
            };
            if let Some(last) = fold.last {
                let (kind, finding) = *last;
                // The line itself stands for one of them.
                self.push(kind, finding, fold.suppressed - 1, out);
                if !all {
                    let again = Fold {
                        since_ns: now_ns,
                        suppressed: 0,
                        last: None,
                    };
                    self.reporter.folds.insert(key, again);
                }
            }
        }
    }

    fn finding(
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
        let mut subject = self.party(draft.subject);
        subject.task = task;
        let object = self.party(draft.object);
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
            claim: "structural".to_owned(),
            confidence: draft.confidence,
            subject,
            object,
            expected: draft.expected,
            observed: draft.observed,
            witness,
            message: draft.message,
            references: references(draft.rule),
            suppressed: 0,
            lost_events: self.counters.lost_events,
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

    fn task_info(&self, key: &TaskKey) -> Option<TaskInfo> {
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
            tid: state.key.tid,
            start_boottime_ns: state.key.start_boottime_ns,
            comm: text::escape(kernel_str(&state.comm)),
            exe: task.exe.as_deref().map(str::to_owned),
            uid: state.creds.uid,
            ancestry,
        })
    }

    /// A violation of this pair and dimension stands from here on.
    fn remember(&mut self, draft: &Draft) {
        let pair = (
            draft.subject.min(draft.object),
            draft.subject.max(draft.object),
        );
        if self.reporter.pairs.len() < MAX_PAIRS || self.reporter.pairs.contains_key(&pair) {
            let state = self.reporter.pairs.entry(pair).or_default();
            state.violated.insert(draft.dimension, draft.rule);
        }
    }

    /// After each event: pairs that became violated without anybody's deed, and pairs that are
    /// isolated again.
    pub(super) fn report_pairs(&mut self, out: &mut Vec<Record>) {
        if !self.started {
            return;
        }
        if !self.index.has_changed() {
            return;
        }
        let changed = self.index.changed();
        let mut pairs: BTreeSet<(EntityId, EntityId)> = changed.pairs.into_iter().collect();
        if changed.everything {
            pairs.extend(self.reporter.pairs.keys().copied());
        }
        for entity in changed.entities {
            let remembered = self.reporter.pairs.keys().copied();
            pairs.extend(remembered.filter(|(a, b)| *a == entity || *b == entity));
        }
        for (a, b) in pairs {
            if self.world.entities.contains_key(&a) && self.world.entities.contains_key(&b) {
                self.report_pair(a, b, out);
            }
        }
    }

    fn report_pair(&mut self, a: EntityId, b: EntityId, out: &mut Vec<Record>) {
        if !self.reporter.pairs.contains_key(&(a, b)) && !self.index.is_violated(a, b) {
            return;
        }
        let pair = self.index.pair(a, b);
        let said = self
            .reporter
            .pairs
            .get(&(a, b))
            .cloned()
            .unwrap_or_default();
        for component in pair
            .dimensions
            .iter()
            .filter(|d| d.verdict == Verdict::Violated)
        {
            if said.violated.contains_key(&component.dimension) {
                continue;
            }
            let Some(object) = component.object else {
                continue;
            };
            self.report_standing(a, b, component.dimension, object, component.severity, out);
        }
        for (dimension, rule) in said.violated {
            let verdict = pair
                .dimension(dimension)
                .map_or(Verdict::Isolated, |d| d.verdict);
            // What is unknown is not resolved.
            if matches!(
                verdict,
                Verdict::Violated | Verdict::Unknown | Verdict::NotEvaluated
            ) {
                continue;
            }
            if let Some(state) = self.reporter.pairs.get_mut(&(a, b)) {
                state.violated.remove(&dimension);
                if state.violated.is_empty() {
                    self.reporter.pairs.remove(&(a, b));
                }
            }
            let (subject, object) = if a == HOST { (b, a) } else { (a, b) };
            let message = format!(
                "{} and {} are isolated again in dimension {dimension}",
                super::rule::name(&self.world, subject),
                super::rule::name(&self.world, object)
            );
            let resolved = Resolved {
                head: self.head(),
                rule,
                dimension,
                iota: IotaChange {
                    before: Some(0),
                    after: pair.iota.map(u8::from),
                },
                subject: self.party(subject),
                object: self.party(object),
                ever_violated: true,
                message,
            };
            out.push(Record::Resolved(Box::new(resolved)));
        }
    }

    /// A violation that no event of ours brought: a set-up that nobody declared, or one that was there
    /// before the agent.
    fn report_standing(
        &mut self,
        a: EntityId,
        b: EntityId,
        dimension: Dimension,
        object: ObjectKey,
        severity: Severity,
        out: &mut Vec<Record>,
    ) {
        let acquirer = self
            .index
            .holders(object)
            .iter()
            .find(|(id, origin)| *origin == Origin::Acquired && (*id == a || *id == b))
            .map(|(id, _)| *id);
        let iterates = self.config.working & (1 << hook::ITER_TASK) != 0;
        let eye = if iterates {
            hook::ITER_TASK
        } else {
            hook::PROC
        };
        let witness = (
            eye,
            Witness {
                hook: HOOKS[usize::from(eye)].name.to_owned(),
                syscall: None,
                events: vec![self.event],
            },
        );
        let Some(subject) = acquirer else {
            let (subject, other) = if a == HOST { (b, a) } else { (a, b) };
            let draft = shared::draft(&self.world, subject, other, dimension, object, severity);
            if let Some(draft) = draft {
                let who = self
                    .world
                    .entities
                    .get(&subject)
                    .map_or(TaskKey::default(), |e| e.init);
                self.emit(draft, who, witness, None, out);
            }
            return;
        };
        let other = if subject == a { b } else { a };
        let id = match object {
            ObjectKey::Ns(_, id) => id,
            ObjectKey::Root(id) | ObjectKey::Cwd(id) if self.at_rest => {
                return self.report_standing_directory(subject, other, object, id, witness, out);
            }
            // As they happen, their own rules tell them.
            ObjectKey::Root(_) | ObjectKey::Cwd(_) | ObjectKey::Territory(_) => return,
        };
        if super::rule::owner(&self.world, id) != other {
            // Third parties that share the same object: the finding names the owner.
            return;
        }
        let holder = self
            .world
            .tasks
            .values()
            .filter(|t| t.label == subject && self.world.ns.ids(t.set).contains(&id))
            .map(|t| t.state.key)
            .min();
        let Some(namespace) = self.world.ns.get(id) else {
            return;
        };
        let kind = if dimension == Dimension::PidForChildren {
            NsKind::PidForChildren
        } else {
            namespace.kind
        };
        let expected = self.world.entities.get(&subject).map(|e| e.ns[kind.slot()]);
        let draft = Draft {
            kind: DraftKind::Violation,
            rule: RuleId::NamespaceJoin,
            transition: Some(Transition::T1),
            dimension,
            severity: Severity::Critical,
            confidence: Confidence::Inferred,
            subject,
            object: other,
            object_id: namespace.serial,
            by_iota: true,
            verdict: None,
            expected: expected.and_then(|id| super::rule::ns_evidence(&self.world, kind, id)),
            observed: super::rule::ns_evidence(&self.world, kind, id),
            message: format!(
                "{} is in {} {}",
                super::rule::name(&self.world, subject),
                super::rule::possessive(&self.world, other),
                super::rule::ns_words(kind)
            ),
        };
        self.emit(draft, holder.unwrap_or_default(), witness, None, out);
    }

    /// A foreign root or working directory that a sweep found.
    fn report_standing_directory(
        &mut self,
        subject: EntityId,
        other: EntityId,
        object: ObjectKey,
        id: crate::model::facts::NsId,
        witness: (u16, Witness),
        out: &mut Vec<Record>,
    ) {
        if super::rule::owner(&self.world, id) != other {
            return;
        }
        let holder = self
            .world
            .tasks
            .values()
            .filter(|t| t.label == subject && t.extra.iter().any(|(o, _)| *o == object))
            .min_by_key(|t| t.state.key);
        let Some(state) = holder.map(|t| t.state) else {
            return;
        };
        let directory = match object {
            ObjectKey::Root(_) => Directory::Root,
            _ => Directory::Cwd,
        };
        let confidence = Confidence::Inferred;
        let Some(draft) = directory.draft(&self.world, subject, &state, id, confidence) else {
            return;
        };
        self.emit(draft, state.key, witness, None, out);
    }

    /// SHA-256 over what the model says of every task and entity, first 16 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut tids: Vec<u32> = self.world.tasks.keys().copied().collect();
        tids.sort_unstable();
        for tid in tids {
            let Some(task) = self.world.tasks.get(&tid) else {
                continue;
            };
            let label = self
                .world
                .entities
                .get(&task.label)
                .map_or("", |e| e.key.as_str());
            hash.update(tid.to_le_bytes());
            hash.update(label.as_bytes());
            for kind in NsKind::ALL {
                hash.update(task.state.ns[kind.slot()].inum.to_le_bytes());
            }
            hash.update(task.state.creds.cap_permitted.to_le_bytes());
            hash.update(task.state.ns[ns::USER].inum.to_le_bytes());
        }
        for entity in self.world.entities.values() {
            hash.update(entity.key.as_bytes());
        }
        hash.finalize()
            .iter()
            .take(8)
            .map(|b| format!("{b:02x}"))
            .collect()
    }
}

/// In which tier a hook works.
#[must_use]
pub fn tier_of(hook: u16) -> Tier {
    match HOOKS.get(usize::from(hook)).map(|h| h.attach) {
        Some(Attach::Fentry(_) | Attach::Fexit(_)) => Tier::Trampoline,
        Some(Attach::Agent) | None => Tier::Scan,
        Some(Attach::TpBtf(_) | Attach::SyscallExit(_) | Attach::Iter(_)) => Tier::Tracepoint,
    }
}

/// Where to read on.
fn references(rule: RuleId) -> Vec<String> {
    let list: &[&str] = match rule {
        RuleId::NamespaceJoin | RuleId::ForeignRoot | RuleId::ForeignCwd => {
            &["seed:3.1", "mitre:T1611"]
        }
        RuleId::NamespaceNest => &["mitre:T1611"],
        RuleId::CgroupMigration => &["seed:3.1", "mitre:T1611"],
        RuleId::SilentPrivilegeChange | RuleId::Drift => &["seed:6.1", "mitre:T1068"],
        RuleId::PrivilegeGain => &["seed:6.2", "mitre:T1548"],
        RuleId::SharedNamespace | RuleId::SharedCgroup => &["seed:3.1"],
        RuleId::ContainerEnter => &["mitre:T1609"],
    };
    list.iter().map(|&s| s.to_owned()).collect()
}
