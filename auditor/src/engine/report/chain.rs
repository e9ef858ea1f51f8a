//! What made a violation possible: the lines that came before it, and what the container had from the start.
//!
//! A container that is confined cannot reach others, so before it does, something must have weakened it. That is
//! checked in its precedence form: each compromise has an earlier line of this stream that weakened the same
//! container, or a configuration that lets it do such a thing, or it is *unexplained*: something happened that nobody
//! saw. Precedence is no proof of a cause; a line lists what a reader has to look at first.
//!
//! Kept per entity and bounded: the newest [`STEPS`] different weakenings, of at most [`ENTITIES`] entities.

use super::super::Engine;
use super::super::rule::{Draft, DraftKind};
use super::limit::Key;
use crate::inventory::container::SpecSummary;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::{Evidence, Finding};
use crate::model::{NsKind, RuleId, Severity, Transition, capability, text};
use auditor_common::hook;
use auditor_common::record::{TaskKey, known, ns};
use std::collections::{BTreeMap, VecDeque};

/// Weakenings remembered of one entity.
const STEPS: usize = 16;
/// Weakenings that one line lists.
const LISTED: usize = 8;
/// Entities with weakenings remembered at once. Beyond it the oldest entity's are forgotten.
const ENTITIES: usize = 4096;
/// Characters of a path in an explanation.
const PATH: usize = 32;

/// One told line that weakened somebody.
#[derive(Clone, Copy, Debug)]
struct Step {
    seq: u64,
    /// Number of the event that it rests on.
    event: u64,
    rule: RuleId,
    /// Against whom the entity became stronger. The host: against everybody.
    towards: EntityId,
    object_id: u64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Chains {
    steps: BTreeMap<EntityId, VecDeque<Step>>,
}

impl Chains {
    /// Remembers a told line. Of repeats the first one stands.
    pub(super) fn note(&mut self, key: &Key, severity: Severity, seq: u64, event: u64) {
        if !weakens(key.rule, severity) {
            return;
        }
        let step = |towards| Step {
            seq,
            event,
            rule: key.rule,
            towards,
            object_id: key.object_id,
        };
        if key.subject != HOST {
            self.add(key.subject, step(key.object));
        }
        // Whoever was reached into is in others' hands: what it does next may be their doing. A set-up that two
        // share weakens both.
        if key.object != HOST && (severity == Severity::Critical || is_set_up(key.rule)) {
            let towards = if is_set_up(key.rule) {
                key.subject
            } else {
                HOST
            };
            self.add(key.object, step(towards));
        }
    }

    fn add(&mut self, id: EntityId, step: Step) {
        let steps = self.steps.entry(id).or_default();
        // One call may make many namespaces, or join them: the first line stands for all.
        let is_repeat = |s: &Step| {
            (s.rule, s.towards) == (step.rule, step.towards)
                && (s.object_id == step.object_id || s.event == step.event)
        };
        if steps.iter().any(is_repeat) {
            return;
        }
        if steps.len() == STEPS {
            steps.pop_front();
        }
        steps.push_back(step);
        if self.steps.len() > ENTITIES {
            self.steps.pop_first();
        }
    }

    /// An entity is gone. What weakened a nested one weakened the one around it, and stays known there.
    pub(super) fn forget(&mut self, id: EntityId, around: EntityId) {
        let steps = self.steps.remove(&id).unwrap_or_default();
        if around == HOST {
            return;
        }
        for step in steps {
            // What it did to the one around it says nothing of that one.
            if step.towards != around {
                self.add(around, step);
            }
        }
    }

    /// Entities with steps.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }
}

/// Whether a line of this rule says that its subject can do more than before.
fn weakens(rule: RuleId, severity: Severity) -> bool {
    match rule {
        // Everyday work of administrators.
        RuleId::ContainerEnter | RuleId::SharedHandle => false,
        // What it has from the start is its configuration, which explains by itself.
        RuleId::DangerousCapability | RuleId::WeakConfinement => false,
        // What was lost does not weaken.
        RuleId::Drift => severity >= Severity::High,
        // Who signals gains nothing; who traces does.
        RuleId::ProcessControl => severity == Severity::Critical,
        _ => severity > Severity::Info,
    }
}

/// Whether the rule finds set-ups that nobody brought about.
const fn is_set_up(rule: RuleId) -> bool {
    matches!(rule, RuleId::SharedNamespace | RuleId::SharedCgroup)
}

/// Transitions by which a container reaches somebody else. The others change what it can do, and weaken.
const fn is_compromise(transition: Option<Transition>) -> bool {
    use Transition::{T1, T3, T5, T6, T8, T9, T10, T13};
    matches!(transition, Some(T1 | T3 | T5 | T6 | T8 | T9 | T10 | T13))
}

/// What lets a container make a transition without any weakening.
struct Leave {
    /// Capabilities, over whoever is in the same user namespace or below.
    capabilities: &'static [&'static str],
    /// Namespaces that are shared with the other side.
    shared: &'static [NsKind],
    /// Directories of the host that are bound into it, or lie in one that is. `None`: any.
    binds: Option<&'static [&'static str]>,
    /// No path of /proc is read-only.
    unmasked: bool,
    /// The other side runs under the same user id.
    same_user: bool,
}

const NO_LEAVE: Leave = Leave {
    capabilities: &[],
    shared: &[],
    binds: Some(&[]),
    unmasked: false,
    same_user: false,
};

/// What explains a transition.
const fn leave(transition: Option<Transition>) -> Leave {
    match transition {
        // The owner of a user namespace may enter it.
        Some(Transition::T1) => Leave {
            capabilities: &["SYS_ADMIN"],
            same_user: true,
            ..NO_LEAVE
        },
        // /proc/PID/root of a process under the same user id needs no capability. A file handle finds any file.
        Some(Transition::T3) => Leave {
            capabilities: &["SYS_ADMIN", "DAC_READ_SEARCH"],
            shared: &[NsKind::Mnt, NsKind::Pid],
            binds: Some(&["/proc"]),
            ..NO_LEAVE
        },
        Some(Transition::T5) => Leave {
            capabilities: &["SYS_ADMIN"],
            shared: &[NsKind::Mnt],
            binds: Some(&["/proc", "/sys"]),
            unmasked: true,
            ..NO_LEAVE
        },
        Some(Transition::T6) => Leave {
            capabilities: &["SYS_ADMIN"],
            shared: &[NsKind::Mnt],
            binds: None,
            ..NO_LEAVE
        },
        // See [`leave_for`].
        Some(Transition::T8) => Leave {
            shared: &[NsKind::Mnt, NsKind::Net],
            binds: None,
            ..NO_LEAVE
        },
        Some(Transition::T9) => Leave {
            shared: &[NsKind::Pid],
            binds: Some(&["/proc"]),
            ..NO_LEAVE
        },
        Some(Transition::T10) => Leave {
            capabilities: &["SYS_ADMIN", "SYS_MODULE", "SYS_BOOT", "BPF", "PERFMON"],
            ..NO_LEAVE
        },
        Some(Transition::T13) => Leave {
            capabilities: &["SYS_ADMIN"],
            binds: Some(&["/sys/fs/cgroup"]),
            ..NO_LEAVE
        },
        _ => NO_LEAVE,
    }
}

/// What explains a finding. A socket that has a path is reached by a mount, and one that has an abstract name by a network.
fn leave_for(draft: &Draft) -> Leave {
    let all = leave(draft.transition);
    match socket_name(draft) {
        Some(name) if name.starts_with('@') => Leave {
            shared: &[NsKind::Net],
            binds: Some(&[]),
            ..all
        },
        Some(_) => Leave {
            shared: &[NsKind::Mnt],
            ..all
        },
        None => all,
    }
}

fn socket_name(draft: &Draft) -> Option<&str> {
    match &draft.observed {
        Some(Evidence::Socket { name, .. }) => name.as_deref(),
        _ => None,
    }
}

/// What came before a finding.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) weakening: Vec<u64>,
    pub(super) explained_by: Vec<String>,
    pub(super) unexplained: bool,
}

/// What of a violation's moment its explanation needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Number of the event.
    pub(super) event: u64,
    /// Capabilities of who acted, and the user namespace that they hold in.
    capabilities: Option<(u64, u32)>,
    /// It was there when the run began: what led to it was before.
    from_before: bool,
}

impl Engine {
    /// A line has its number: it may be what weakened its parties.
    pub(super) fn note(&mut self, key: &Key, finding: &Finding) {
        let event = finding.witness.events.last().copied().unwrap_or(u64::MAX);
        // A line that was put off may come after the end of who it is about.
        let gone = |id| !self.world.entities.contains_key(&id);
        if gone(key.subject) || gone(key.object) {
            return;
        }
        let chains = &mut self.reporter.chains;
        chains.note(key, finding.severity, finding.head.seq, event);
    }

    /// What will be asked about the moment of a finding.
    pub(super) fn moment(&self, who: &TaskKey, hook: u16, event: u64) -> Moment {
        let state = self.world.task(who).map(|task| &task.state);
        let found = hook == hook::ITER_TASK || hook == hook::PROC;
        Moment {
            event,
            capabilities: state
                .filter(|state| state.known & known::CREDS != 0)
                .map(|state| (state.creds.cap_permitted, state.ns[ns::USER].inum)),
            from_before: found && self.now_ns <= self.folded_until_ns,
        }
    }

    /// What made a violation possible.
    pub(super) fn chain(&self, draft: &Draft, moment: Moment) -> Chain {
        if draft.kind != DraftKind::Violation
            || draft.severity != Severity::Critical
            || draft.transition.is_none()
        {
            return Chain::default();
        }
        // Where the host does it, it is the container's doing that it does.
        let (who, whom) = if draft.subject == HOST {
            (draft.object, HOST)
        } else {
            (draft.subject, draft.object)
        };
        let weakening = self.weakening(draft.rule, who, whom, moment.event);
        if who == HOST || !is_compromise(draft.transition) {
            return Chain {
                weakening,
                ..Chain::default()
            };
        }
        let leave = leave_for(draft);
        let mut explained_by = self.configured(&leave, who, whom, socket_name(draft));
        if weakening.is_empty()
            && explained_by.is_empty()
            && let Some((set, user_ns)) = moment.capabilities
            && self.rules_over(user_ns, whom)
        {
            // Whoever sent it in gave it more than the container has, or the policy expects that it gains.
            explained_by = named(set, leave.capabilities);
        }
        let unexplained = weakening.is_empty()
            && explained_by.is_empty()
            && !moment.from_before
            && self.config.imported_from.is_none();
        Chain {
            weakening,
            explained_by,
            unexplained,
        }
    }

    /// Numbers of the lines that weakened an entity, one around it, or one in it, towards another.
    fn weakening(&self, rule: RuleId, who: EntityId, whom: EntityId, event: u64) -> Vec<u64> {
        let world = &self.world;
        let chains = &self.reporter.chains.steps;
        let family = |id: EntityId| world.contains(id, who) || world.contains(who, id);
        let mut seqs: Vec<u64> = chains
            .iter()
            .filter(|(id, _)| who != HOST && family(**id))
            .flat_map(|(_, steps)| steps)
            .filter(|step| step.rule != rule && step.event < event)
            .filter(|step| step.towards == HOST || step.towards == whom || family(step.towards))
            .map(|step| step.seq)
            .collect();
        seqs.sort_unstable();
        seqs.dedup();
        seqs.split_off(seqs.len().saturating_sub(LISTED))
    }

    /// What an entity's configuration has of what explains a transition, by a path that it has inside if that is known.
    fn configured(
        &self,
        leave: &Leave,
        who: EntityId,
        whom: EntityId,
        path: Option<&str>,
    ) -> Vec<String> {
        let Some(entity) = self.world.entities.get(&who) else {
            return Vec::new();
        };
        let mut words = Vec::new();
        let user_ns = self.world.ns.get(entity.ns[ns::USER]).map(|ns| ns.inum);
        if user_ns.is_some_and(|inum| self.rules_over(inum, whom)) {
            words.extend(named(entity.permitted, leave.capabilities));
        }
        let other = self.world.entities.get(&whom);
        for kind in leave.shared {
            let id = entity.ns[kind.slot()];
            let shared = if whom == HOST {
                self.world.ns.get(id).is_some_and(|ns| ns.initial)
            } else {
                other.is_some_and(|other| other.ns[kind.slot()] == id)
                    || self.world.ns.get(id).is_some_and(|ns| ns.initial)
            };
            if shared {
                words.push(kind.as_str().to_owned());
            }
        }
        let uid = |id| self.index.profile(id).and_then(|profile| profile.uid);
        if leave.same_user && whom != HOST && uid(who) == uid(whom) && uid(who) > Some(0) {
            words.push("user".to_owned());
        }
        if let Some(spec) = entity.answer.as_ref().and_then(|a| a.spec.as_ref()) {
            words.extend(bound(spec, leave.binds, path));
            if leave.unmasked && spec.readonly_paths.is_empty() {
                words.push("unmasked".to_owned());
            }
        }
        words
    }

    /// Whether capabilities in a user namespace count against somebody.
    fn rules_over(&self, user_ns: u32, whom: EntityId) -> bool {
        let Some(id) = self.world.ns.by_inum(NsKind::User, user_ns) else {
            return false;
        };
        self.world.ns.get(id).is_some_and(|ns| ns.initial)
            || whom != HOST && self.world.entity(whom).ns[ns::USER] == id
    }
}

/// Which of these capabilities are in a set.
fn named(set: u64, wanted: &[&str]) -> Vec<String> {
    let has = |name: &str| capability::parse(name).is_some_and(|bit| set >> bit & 1 == 1);
    let names = wanted.iter().filter(|name| has(name));
    names.map(|&name| name.to_owned()).collect()
}

/// The directory of the host that a spec binds and that is, holds, or lies in one of these: the one that a path inside lies
/// in. The path may have led over a symbolic link: then one that has its name, else the first.
fn bound(spec: &SpecSummary, wanted: Option<&[&str]>, path: Option<&str>) -> Option<String> {
    let fits = |source: &str| {
        wanted.is_none_or(|wanted| wanted.iter().any(|w| is_in(source, w) || is_in(w, source)))
    };
    let mut best: Option<(usize, &str)> = None;
    for mount in spec.mounts.iter().filter(|mount| mount.is_bind()) {
        let source = mount.source.as_deref().filter(|s| s.starts_with('/'));
        let Some(source) = source.filter(|source| fits(source)) else {
            continue;
        };
        let place = mount.destination.as_str();
        let closeness = match path {
            Some(path) if is_in(path, place) => 1 + place.len(),
            Some(path) if file_name(path) == file_name(place) => 1,
            _ => 0,
        };
        if best.is_none_or(|(before, _)| closeness > before) {
            best = Some((closeness, source));
        }
    }
    best.map(|(_, source)| {
        let short: String = source.chars().take(PATH).collect();
        format!("bind {}", text::escape(short.as_bytes()))
    })
}

/// Whether a path is another one, or lies in it.
fn is_in(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
