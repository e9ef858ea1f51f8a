//! Which lines are wanted. Filters choose lines only: the engine sees everything, whatever is asked for.

use crate::cli::failure::Failure;
use crate::cli::moment::Moment;
use crate::model::output::{Party, Record};
use crate::model::{RuleId, Severity};
use std::collections::BTreeSet;

/// Digits of an id that are enough to name an entity by.
const ID_DIGITS: usize = 6;

/// What was asked for. All of it must hold; what is empty holds always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Not before.
    pub since: Option<Moment>,
    /// Not after.
    pub until: Option<Moment>,
    /// One of these rules.
    pub rules: BTreeSet<RuleId>,
    /// One of these entities, as subject or object.
    pub entities: Vec<String>,
    /// This bad at least.
    pub severity: Option<Severity>,
}

impl Choice {
    const fn needs_end(&self) -> bool {
        matches!(self.since, Some(Moment::BeforeEnd(_)))
            || matches!(self.until, Some(Moment::BeforeEnd(_)))
    }
}

/// What was asked for, in the time of one stream.
#[derive(Clone, Debug)]
pub struct Filter {
    choice: Choice,
    /// Nanoseconds since boot, both included.
    from_ns: i128,
    to_ns: i128,
    named: Vec<bool>,
}

impl Filter {
    /// For a stream whose clock, since boot, is so many nanoseconds behind the one since 1970, and whose last event
    /// `end_ns` finds out if it must be known.
    ///
    /// # Errors
    /// Those of `end_ns`.
    pub fn new(
        choice: &Choice,
        offset_ns: i64,
        end_ns: impl FnOnce() -> Result<Option<u64>, Failure>,
    ) -> Result<Self, Failure> {
        let end_ns = if choice.needs_end() { end_ns()? } else { None };
        let boottime_ns = |moment: Moment| match moment {
            Moment::At { unix_ns } => i128::from(unix_ns) - i128::from(offset_ns),
            // A stream without a time has no line with one.
            Moment::BeforeEnd(duration) => {
                i128::from(end_ns.unwrap_or(0)) - i128::try_from(duration.as_nanos()).unwrap_or(0)
            }
        };
        Ok(Self {
            from_ns: choice.since.map_or(i128::MIN, boottime_ns),
            to_ns: choice.until.map_or(i128::MAX, boottime_ns),
            named: vec![false; choice.entities.len()],
            choice: choice.clone(),
        })
    }

    /// Whether a line is wanted.
    pub fn takes(&mut self, record: &Record) -> bool {
        let at_ns = i128::from(record.head().boottime_ns);
        if at_ns < self.from_ns || at_ns > self.to_ns {
            return false;
        }
        let Choice {
            since: _,
            until: _,
            rules,
            entities,
            severity,
        } = &self.choice;
        if rules.is_empty() && entities.is_empty() && severity.is_none() {
            return true;
        }
        // What is about no rule is not asked for by one.
        let Some((rule, bad, parties)) = about(record) else {
            return false;
        };
        let is_named = name(&mut self.named, entities, parties);
        (rules.is_empty() || rules.contains(&rule))
            && severity.is_none_or(|least| bad.is_some_and(|bad| bad >= least))
            && is_named
    }

    /// Of the entities asked for, in their order: whether a line named them.
    #[must_use]
    pub fn named(&self) -> &[bool] {
        &self.named
    }
}

fn about(record: &Record) -> Option<(RuleId, Option<Severity>, [&Party; 2])> {
    match record {
        Record::Violation(f) | Record::Audit(f) | Record::Drift(f) => {
            Some((f.rule, Some(f.severity), [&f.subject, &f.object]))
        }
        Record::Resolved(r) => Some((r.rule, None, [&r.subject, &r.object])),
        _ => None,
    }
}

/// Whether one of the names stands for one of the parties; notes which.
fn name(named: &mut [bool], names: &[String], parties: [&Party; 2]) -> bool {
    let mut any = names.is_empty();
    for (name, named) in names.iter().zip(named) {
        if parties.iter().any(|party| is_called(party, name)) {
            (any, *named) = (true, true);
        }
    }
    any
}

/// Whether an entity is called so: by its id, its name, or the start of its hexadecimal id.
fn is_called(party: &Party, name: &str) -> bool {
    if party.id == name || party.name.as_deref() == Some(name) {
        return true;
    }
    let Some((runtime, id)) = party.id.split_once(':') else {
        return false;
    };
    let name = match name.split_once(':') {
        Some((of, name)) if of == runtime => name,
        Some(_) => return false,
        None => name,
    };
    let hexadecimal = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    id == name
        || name.len() >= ID_DIGITS && hexadecimal(name) && hexadecimal(id) && id.starts_with(name)
}

#[cfg(test)]
mod tests {
    use super::{Choice, Filter, is_called};
    use crate::cli::moment::Moment;
    use crate::model::output::Record;
    use crate::model::{RuleId, Severity};
    use crate::sink::samples;

    /// Of a machine that booted a second after 1970.
    fn filter(choice: Choice) -> Filter {
        Filter::new(&choice, 1_000_000_000, || Ok(None)).unwrap()
    }

    fn types(choice: Choice) -> Vec<&'static str> {
        let mut filter = filter(choice);
        let all = samples::all();
        let taken = all.iter().filter(|record| filter.takes(record));
        let kind = |record: &Record| match record {
            Record::Violation(_) => "violation",
            Record::Audit(_) => "audit",
            Record::Drift(_) => "drift",
            Record::Resolved(_) => "resolved",
            _ => "other",
        };
        taken.map(kind).collect()
    }

    /// Goal: without a question every line comes; with one about findings, only findings.
    #[test]
    fn questions_are_about_findings() {
        assert_eq!(types(Choice::default()).len(), samples::all().len());
        let severity = Some(Severity::Info);
        let found = types(Choice {
            severity,
            ..Choice::default()
        });
        assert!(
            found.contains(&"violation") && !found.contains(&"other"),
            "{found:?}"
        );
        assert!(!found.contains(&"resolved"), "{found:?}");
        let rules = [RuleId::NamespaceJoin].into();
        let found = types(Choice {
            rules,
            ..Choice::default()
        });
        assert!(found.contains(&"resolved"), "{found:?}");
        let rules = [RuleId::NamespaceNest].into();
        assert_eq!(
            types(Choice {
                rules,
                ..Choice::default()
            }),
            [""; 0]
        );
    }

    /// Goal: both ends of a time belong to it, in the clock of the machine that recorded.
    #[test]
    fn times_include_their_ends() {
        let at_ns = samples::violation().head().boottime_ns;
        let at = |ns: u64| {
            Some(Moment::At {
                unix_ns: ns + 1_000_000_000,
            })
        };
        let takes = |since, until| {
            let choice = Choice {
                since,
                until,
                ..Choice::default()
            };
            filter(choice).takes(&samples::violation())
        };
        assert!(takes(at(at_ns), at(at_ns)));
        assert!(!takes(at(at_ns + 1), None));
        assert!(!takes(None, at(at_ns - 1)));
    }

    /// Goal: an entity is found by each of its names, and no other one is.
    #[test]
    fn entities_have_several_names() {
        let web = samples::web();
        for name in [web.id.as_str(), "web", "9f2c4e", "runc:9f2c4e0a7b1d"] {
            assert!(is_called(&web, name), "{name}");
        }
        for name in [
            "",
            "we",
            "webs",
            "9f2c",
            "docker:9f2c4e0a7b1d",
            "runc",
            "host",
        ] {
            assert!(!is_called(&web, name), "{name}");
        }
        let mut hook = web;
        (hook.id, hook.name) = ("runc:webhook".to_owned(), None);
        assert!(is_called(&hook, "webhook") && is_called(&hook, "runc:webhook"));
        assert!(!is_called(&hook, "web") && !is_called(&hook, "runc:web"));
        assert!(is_called(&samples::host(), "host"));
    }

    /// Goal: which of the names were met is known afterwards.
    #[test]
    fn names_that_nobody_has_are_known() {
        let entities = vec!["web".to_owned(), "wbe".to_owned()];
        let mut filter = filter(Choice {
            entities,
            ..Choice::default()
        });
        assert!(filter.takes(&samples::violation()));
        assert_eq!(filter.named(), [true, false]);
    }
}
