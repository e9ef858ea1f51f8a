//! `shared-namespace`, `shared-cgroup`: two entities share what neither their specs nor the policy
//! declare, since one of them started. Nobody *did* anything; the set-up is wrong.

use super::{Draft, DraftKind, name, ns_evidence, ns_words, possessive};
use crate::engine::world::World;
use crate::model::facts::{EntityId, ObjectKey};
use crate::model::output::Evidence;
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity};

/// Drafts the finding for one shared object of a pair.
#[must_use]
pub fn draft(
    world: &World,
    a: EntityId,
    b: EntityId,
    dimension: Dimension,
    object: ObjectKey,
    severity: Severity,
) -> Option<Draft> {
    let (rule, evidence, object_id, what) = match object {
        ObjectKey::Ns(_, id) => {
            let kind = world.ns.get(id)?.kind;
            let shown = if dimension == Dimension::PidForChildren {
                NsKind::PidForChildren
            } else {
                kind
            };
            let evidence = ns_evidence(world, shown, id);
            (
                RuleId::SharedNamespace,
                evidence,
                world.ns.serial(id),
                format!("a {}", ns_words(shown)),
            )
        }
        ObjectKey::Territory(entity) => {
            let path = world.entities.get(&entity).map(|e| e.home.clone());
            let evidence = Some(Evidence::Cgroup {
                path,
                id: 0,
                hierarchy: 0,
            });
            (
                RuleId::SharedCgroup,
                evidence,
                u64::from(entity.0),
                "a cgroup".to_owned(),
            )
        }
        // A foreign root or cwd has an act behind it, and the act is reported.
        ObjectKey::Root(_)
        | ObjectKey::Cwd(_)
        | ObjectKey::Reference(_)
        | ObjectKey::Tree(_)
        | ObjectKey::Peer(_)
        | ObjectKey::Handle(_) => return None,
    };
    Some(Draft {
        kind: DraftKind::Violation,
        rule,
        transition: None,
        dimension,
        severity,
        confidence: Confidence::Exact,
        subject: a,
        object: b,
        object_id,
        by_iota: true,
        verdict: None,
        expected: None,
        observed: evidence,
        message: format!(
            "{} shares {what} with {}, which no spec and no policy declares",
            name(world, a),
            possessive(world, b).trim_end_matches("'s")
        ),
    })
}
