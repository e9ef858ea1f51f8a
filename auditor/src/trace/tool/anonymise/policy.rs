//! Policies under other names.
//!
//! A policy matches names. Where it says one exactly, the pseudonym stands for it; `*` matches pseudonyms as it matched
//! names. Any other pattern cannot follow its names, and a policy that silently means something else would make the
//! replay a lie: it is refused.

use super::answer::is_any_of_runtime;
use super::pseudonym::Pseudonyms;
use crate::model::policy::{Allow, Endpoint, Matcher, Policy, Role, Share};

/// A pattern that cannot follow the names that it matches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the policy's pattern \"{pattern}\" matches names that change: give --drop-policy to leave all policies out, \
     or anonymise a recording that was made under a policy with exact names"
)]
pub struct Unfollowable {
    pattern: String,
}

impl Pseudonyms {
    /// The policy that says the same of the other names.
    ///
    /// # Errors
    /// When a pattern in it cannot follow.
    pub(super) fn policy(&self, policy: &Policy) -> Result<Policy, Unfollowable> {
        let Policy {
            required,
            privilege_gain,
            roles,
            shares,
            allows,
        } = policy;
        Ok(Policy {
            required: required.clone(),
            privilege_gain: *privilege_gain,
            roles: roles
                .iter()
                .map(|r| self.role(r))
                .collect::<Result<_, _>>()?,
            shares: shares
                .iter()
                .map(|s| self.share(s))
                .collect::<Result<_, _>>()?,
            allows: allows
                .iter()
                .map(|a| self.allow(a))
                .collect::<Result<_, _>>()?,
        })
    }

    fn role(&self, role: &Role) -> Result<Role, Unfollowable> {
        let Role {
            name,
            matcher: Matcher { fields, labels },
            capabilities,
        } = role;
        let field = |(key, pattern): (&String, &String)| {
            let other = match key.as_str() {
                // Words of ours, and numbers, which stay.
                "kind" | "runtime" | "uid" => pattern.clone(),
                "id" => self.id_pattern(pattern)?,
                _ => self.pattern(pattern)?,
            };
            Ok((key.clone(), other))
        };
        let label =
            |(key, pattern): (&String, &String)| Ok((self.label(key), self.pattern(pattern)?));
        Ok(Role {
            name: self.word(name.as_bytes()),
            matcher: Matcher {
                fields: fields.iter().map(field).collect::<Result<_, _>>()?,
                labels: labels.iter().map(label).collect::<Result<_, _>>()?,
            },
            capabilities: *capabilities,
        })
    }

    fn share(&self, share: &Share) -> Result<Share, Unfollowable> {
        let Share {
            between: [a, b],
            dimensions,
            reason,
        } = share;
        let mut between = [self.endpoint(a)?, self.endpoint(b)?];
        between.sort();
        Ok(Share {
            between,
            dimensions: dimensions.clone(),
            reason: self.word(reason.as_bytes()),
        })
    }

    fn allow(&self, allow: &Allow) -> Result<Allow, Unfollowable> {
        let Allow {
            rule,
            subject,
            object,
            dimension,
            reason,
        } = allow;
        Ok(Allow {
            rule: *rule,
            subject: self.endpoint(subject)?,
            object: object.as_ref().map(|o| self.endpoint(o)).transpose()?,
            dimension: *dimension,
            reason: self.word(reason.as_bytes()),
        })
    }

    fn endpoint(&self, endpoint: &Endpoint) -> Result<Endpoint, Unfollowable> {
        Ok(match endpoint {
            Endpoint::Host => Endpoint::Host,
            Endpoint::Role(name) => Endpoint::Role(self.word(name.as_bytes())),
            Endpoint::Id(pattern) => Endpoint::Id(self.id_pattern(pattern)?),
        })
    }

    /// For a text: a name, an image.
    fn pattern(&self, pattern: &str) -> Result<String, Unfollowable> {
        if is_everything(pattern) {
            return Ok(pattern.to_owned());
        }
        exact(pattern).map(|name| self.word(name.as_bytes()))
    }

    /// For a stable id, or for what stands behind its runtime.
    fn id_pattern(&self, pattern: &str) -> Result<String, Unfollowable> {
        if is_everything(pattern) || is_any_of_runtime(pattern) {
            return Ok(pattern.to_owned());
        }
        exact(pattern).map(|id| self.key_or_id(id))
    }
}

fn is_everything(pattern: &str) -> bool {
    !pattern.is_empty() && pattern.bytes().all(|b| b == b'*')
}

fn exact(pattern: &str) -> Result<&str, Unfollowable> {
    match pattern.contains(['*', '?']) {
        true => Err(Unfollowable {
            pattern: pattern.to_owned(),
        }),
        false => Ok(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::Pseudonyms;
    use crate::model::policy::{Endpoint, Policy};

    /// Goal: exact names follow, and so do those parts of a policy that name none.
    #[test]
    fn exact_names_follow() {
        let names = Pseudonyms::new(b"key");
        let policy = Policy::parse(
            r#"
            [[role]]
            name = "front"
            match = { image = "acme/web:1", runtime = "do*", id = "docker:*", label.tier = "front" }
            [[share]]
            between = ["role:front", "runc:web"]
            dimensions = ["net"]
            reason = "acme says so"
            [[allow]]
            rule = "namespace-nest"
            subject = "web"
            reason = "acme"
            "#,
            "test",
        )
        .unwrap();
        let other = names.policy(&policy).unwrap();
        let (web, role) = (names.id(b"web"), names.word(b"front"));
        assert_eq!(other.roles[0].name, role);
        let fields = &other.roles[0].matcher.fields;
        assert_eq!(fields["image"], names.word(b"acme/web:1"));
        assert_eq!(
            (fields["runtime"].as_str(), fields["id"].as_str()),
            ("do*", "docker:*")
        );
        assert_eq!(other.roles[0].matcher.labels[&names.word(b"tier")], role);
        let mut between = [Endpoint::Role(role), Endpoint::Id(format!("runc:{web}"))];
        between.sort();
        assert_eq!(other.shares[0].between, between);
        assert_eq!(other.allows[0].subject, Endpoint::Id(web));
        let text = serde_json::to_string(&other).unwrap();
        assert!(!text.contains("acme"), "{text}");
        assert_eq!(names.policy(&Policy::default()).unwrap(), Policy::default());
    }

    /// Goal: a pattern that cannot follow is refused by name.
    #[test]
    fn patterns_are_refused() {
        let names = Pseudonyms::new(b"key");
        for (key, pattern) in [("image", "nginx*"), ("name", "we?"), ("id", "runc:9f*")] {
            let text = format!("[[role]]\nname = \"a\"\nmatch = {{ {key} = \"{pattern}\" }}\n");
            let policy = Policy::parse(&text, "test").unwrap();
            let error = names.policy(&policy).unwrap_err().to_string();
            assert!(
                error.contains(pattern) && error.contains("--drop-policy"),
                "{error}"
            );
        }
    }
}
