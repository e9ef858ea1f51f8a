//! What would be different: two reports of one state, before and after something is supposed.

use super::privileges::capability_name;
use super::scan::{ScanDimension, ScanEntity, ScanPair, ScanPower, ScanReport, ScanSummary};
use super::words::{self, pad};
use crate::model::privileges::{First, Way};
use crate::model::{Dimension, NsKind, PairClass, Verdict};
use crate::sink::human::{Paint, Style, printable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The value of `type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhatIfType {
    /// The only one.
    #[default]
    WhatIf,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhatIfReport {
    /// Always `auditor/1`.
    pub schema: String,
    /// Always `what_if`.
    #[serde(rename = "type")]
    pub kind: WhatIfType,
    /// What is supposed, in words.
    pub supposed: Vec<String>,
    /// Pairs of which something would be different.
    pub pairs: Vec<WhatIfPair>,
    /// Containers whose privileges would be different.
    pub privileges: Vec<WhatIfPrivileges>,
    /// What was seen in use and would not be there any more; null where nobody watched.
    pub would_break: Option<Vec<WhatIfUse>>,
    /// What this cannot tell, in sentences.
    pub may_miss: Vec<String>,
    /// Counts over all pairs as they are.
    pub before: ScanSummary,
    /// The report of a scan as it would be.
    pub after: ScanReport,
}

/// A pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhatIfPair {
    /// Id of the lesser.
    pub a: String,
    /// Id of the greater.
    pub b: String,
    /// What they are to each other.
    pub class: PairClass,
    /// ι as it is, and as it would be.
    pub iota: Change<Option<u8>>,
    /// Dimensions with another verdict.
    pub dimensions: Vec<WhatIfDimension>,
}

/// Before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change<T> {
    /// As it is.
    pub before: T,
    /// As it would be.
    pub after: T,
}

/// A dimension of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhatIfDimension {
    /// Which.
    pub dimension: Dimension,
    /// Its verdict; `isolated` also where a scan has nothing to say of it.
    pub verdict: Change<Verdict>,
    /// By what it is as it is.
    pub witness: Option<String>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhatIfPrivileges {
    /// Its id.
    pub id: String,
    /// Capabilities that it would not have any more: permitted, or in the bounding set.
    pub lost: Vec<String>,
    /// Power over others that its capabilities would not give any more.
    pub powers: Vec<ScanPower>,
    /// Whether they would no longer be over the machine's initial user namespace.
    pub own_user_namespace: bool,
}

/// A capability in use that would be missed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhatIfUse {
    /// The container.
    pub id: String,
    /// Name, without `CAP_`.
    pub capability: String,
    /// The system call that asked for it first; null: not known.
    pub syscall: Option<String>,
    /// Command name of the task that did.
    pub comm: String,
}

impl WhatIfUse {
    /// From a container's account.
    #[must_use]
    pub fn of(id: &str, way: &Way, first: &First) -> Self {
        Self {
            id: id.to_owned(),
            capability: capability_name(way.capability),
            syscall: first.syscall.as_deref().map(str::to_owned),
            comm: first.comm.clone(),
        }
    }
}

/// Puts two reports of one state side by side. Of `pairs`, as they are and as they would be, all is known.
#[must_use]
pub fn compare(
    supposed: Vec<String>,
    pairs: &[(ScanPair, ScanPair)],
    before: &ScanReport,
    after: ScanReport,
) -> WhatIfReport {
    WhatIfReport {
        schema: after.schema.clone(),
        kind: WhatIfType::WhatIf,
        supposed,
        pairs: pairs.iter().filter_map(|(x, y)| pair(x, y)).collect(),
        privileges: privileges(before, &after),
        would_break: None,
        may_miss: Vec::new(),
        before: before.summary,
        after,
    }
}

fn pair(before: &ScanPair, after: &ScanPair) -> Option<WhatIfPair> {
    let found = |of: &ScanPair, dimension| {
        let mut all = of.dimensions.iter();
        all.find(|d| d.dimension == dimension).cloned()
    };
    let named = before.dimensions.iter().chain(&after.dimensions);
    let named: BTreeSet<Dimension> = named.map(|d| d.dimension).collect();
    let verdict = |d: Option<&ScanDimension>| d.map_or(Verdict::Isolated, |d| d.verdict);
    let dimensions = named.into_iter().filter_map(|dimension| {
        let (was, is) = (found(before, dimension), found(after, dimension));
        let verdict = Change {
            before: verdict(was.as_ref()),
            after: verdict(is.as_ref()),
        };
        let witness = was.and_then(|d| d.witness).map(|witness| witness.message);
        let one = WhatIfDimension {
            dimension,
            verdict,
            witness,
        };
        (verdict.before != verdict.after).then_some(one)
    });
    let dimensions: Vec<WhatIfDimension> = dimensions.collect();
    let iota = Change {
        before: before.iota,
        after: after.iota,
    };
    let differs = iota.before != iota.after || !dimensions.is_empty();
    differs.then(|| WhatIfPair {
        a: before.a.clone(),
        b: before.b.clone(),
        class: before.class,
        iota,
        dimensions,
    })
}

fn privileges(before: &ScanReport, after: &ScanReport) -> Vec<WhatIfPrivileges> {
    let had = |entity: &ScanEntity| -> BTreeSet<String> {
        let sets = ["permitted", "bounding"].map(|set| entity.capabilities.get(set));
        sets.into_iter().flatten().flatten().cloned().collect()
    };
    let is_initial = |entity: &ScanEntity| {
        let user = entity.namespaces.get(&NsKind::User);
        user.is_some_and(|user| user.initial)
    };
    let is = |id: &str| after.entities.iter().find(|entity| entity.id == id);
    let both = before.entities.iter().filter_map(|e| Some((e, is(&e.id)?)));
    both.map(|(was, is)| WhatIfPrivileges {
        id: was.id.clone(),
        lost: had(was).difference(&had(is)).cloned().collect(),
        powers: (was.powers.iter())
            .filter(|power| !is.powers.contains(power))
            .cloned()
            .collect(),
        own_user_namespace: is_initial(was) && !is_initial(is),
    })
    .filter(|p| !p.lost.is_empty() || !p.powers.is_empty() || p.own_user_namespace)
    .collect()
}

impl WhatIfReport {
    /// The report as text.
    #[must_use]
    pub fn table(&self, style: Style) -> String {
        let mut out = String::new();
        let supposed = self.supposed.join("; ");
        let heading = format!("If {}", printable(&supposed));
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "{}\n", style.paint(Paint::Strong, &heading));
        if self.pairs.is_empty() && self.privileges.is_empty() {
            let _ = writeln!(out, "  nothing that is evaluated would be different");
        }
        self.pair_lines(style, &mut out);
        self.privilege_lines(style, &mut out);
        self.use_lines(style, &mut out);
        for sentence in &self.may_miss {
            let text = format!("may be missed: {}", printable(sentence));
            let _ = writeln!(out, "{}", style.paint(Paint::Dim, &text));
        }
        let counts = |s: &ScanSummary| {
            format!(
                "{} isolated, {} violated, {} unknown",
                s.isolated, s.violated, s.unknown
            )
        };
        let (was, is) = (counts(&self.before), counts(&self.after.summary));
        let _ = writeln!(out, "\n{} pairs: {was}; then {is}", self.before.pairs);
        out
    }

    fn pair_lines(&self, style: Style, out: &mut String) {
        for pair in &self.pairs {
            let WhatIfPair { a, b, iota, .. } = pair;
            let (was, is) = (words::iota(iota.before), words::iota(iota.after));
            let arrow = match was == is {
                true => format!("ι {was}"),
                false => format!("ι {was} → {is}"),
            };
            let paint = match (iota.before, iota.after) {
                (Some(0), Some(1) | None) => Paint::Good,
                (_, Some(0)) => Paint::Bad,
                _ => Paint::Strong,
            };
            let (a, b) = (self.after.name_of(a), self.after.name_of(b));
            let _ = writeln!(out, "  {a} – {b}: {}", style.paint(paint, &arrow));
            for d in &pair.dimensions {
                let Change { before, after } = d.verdict;
                let why = d
                    .witness
                    .as_deref()
                    .map_or_else(String::new, |why| format!(", where {}", printable(why)));
                let dimension = pad(d.dimension.as_str(), 16);
                let _ = writeln!(out, "    {dimension} {before} → {after}{why}");
            }
        }
    }

    fn privilege_lines(&self, style: Style, out: &mut String) {
        for p in &self.privileges {
            let name = self.after.name_of(&p.id);
            if !p.lost.is_empty() {
                let _ = writeln!(out, "  {name} would not have {}", p.lost.join(", "));
            }
            if p.own_user_namespace {
                let _ = writeln!(
                    out,
                    "  {name} would have no capability over the machine's initial user namespace"
                );
            }
            for power in &p.powers {
                let (severity, words) = (style.severity(power.severity), printable(&power.power));
                let _ = writeln!(
                    out,
                    "  {severity} {name} could no longer {words} ({})",
                    power.capability
                );
            }
        }
    }

    fn use_lines(&self, style: Style, out: &mut String) {
        let Some(uses) = &self.would_break else {
            let text = "What would break is not known here: nobody watched what is used. \
                        Give recorded traces with --from";
            let _ = writeln!(out, "\n{}", style.paint(Paint::Warn, text));
            return;
        };
        if uses.is_empty() {
            let _ = writeln!(out, "\nNothing that was seen in use would be missed");
            return;
        }
        let _ = writeln!(out, "\n{}", style.paint(Paint::Bad, "Would be missed"));
        for one in uses {
            let name = self.after.name_of(&one.id);
            let call = one.syscall.as_deref().unwrap_or("a system call");
            let (call, comm) = (printable(call), printable(&one.comm));
            let _ = writeln!(out, "  {name} used {}: {call}, by {comm}", one.capability);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what differs between two reports is told, and nothing else. Method: the sample of a scan, changed.

    use super::*;
    use crate::model::Severity;
    use crate::report::scan::tests::sample;

    fn use_of(id: &str) -> WhatIfUse {
        WhatIfUse {
            id: id.to_owned(),
            capability: "CHOWN".to_owned(),
            syscall: Some("chown".to_owned()),
            comm: "sh".to_owned(),
        }
    }

    #[test]
    fn nothing_differs_from_itself() {
        let pairs: Vec<_> = (sample().pairs.iter())
            .map(|p| (p.clone(), p.clone()))
            .collect();
        let report = compare(vec!["web so".into()], &pairs, &sample(), sample());
        assert!(report.pairs.is_empty() && report.privileges.is_empty());
        let text = report.table(Style::Plain);
        assert!(text.starts_with("If web so\n"), "{text}");
        assert!(
            text.contains("nothing that is evaluated would be different"),
            "{text}"
        );
        assert!(
            text.contains("What would break is not known here"),
            "{text}"
        );
    }

    #[test]
    fn what_differs_is_told() {
        let (mut before, mut after) = (sample(), sample());
        let power = ScanPower {
            capability: "CHOWN".to_owned(),
            severity: Severity::High,
            power: "own files".to_owned(),
        };
        before.entities[3].powers.push(power.clone());
        let entity = &mut after.entities[3];
        entity.capabilities.insert("permitted".to_owned(), vec![]);
        let user = entity.namespaces.get_mut(&NsKind::User).unwrap();
        user.initial = false;
        let had = before.entities[3].capabilities["effective"].clone();
        before.entities[3]
            .capabilities
            .insert("permitted".to_owned(), had);
        after.pairs[1].iota = Some(1);
        after.pairs[1].dimensions.clear();
        let pairs = [(before.pairs[1].clone(), after.pairs[1].clone())];
        let report = WhatIfReport {
            would_break: Some(vec![use_of("runc:web")]),
            may_miss: vec!["all".into()],
            ..compare(vec![], &pairs, &before, after)
        };
        let [pair] = report.pairs.as_slice() else {
            panic!("{:?}", report.pairs)
        };
        assert_eq!((pair.iota.before, pair.iota.after), (Some(0), Some(1)));
        let [d] = pair.dimensions.as_slice() else {
            panic!("{pair:?}")
        };
        let verdicts = (d.verdict.before, d.verdict.after);
        assert_eq!(verdicts, (Verdict::Violated, Verdict::Isolated));
        let [privileges] = report.privileges.as_slice() else {
            panic!("{:?}", report.privileges)
        };
        assert_eq!(privileges.lost, ["CHOWN"]);
        assert_eq!(privileges.powers, [power]);
        assert!(privileges.own_user_namespace);
        let text = report.table(Style::Plain);
        for said in [
            "db – web: ι 0 → 1",
            "net              violated → isolated, where both are in",
            "web would not have CHOWN",
            "web could no longer own files (CHOWN)",
            "web used CHOWN: chown, by sh",
            "may be missed: all",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }

    #[test]
    fn validates_against_its_schema() {
        let report = WhatIfReport {
            would_break: Some(vec![use_of("runc:web")]),
            ..compare(vec!["x".into()], &[], &sample(), sample())
        };
        let schema = serde_json::to_value(schemars::schema_for!(WhatIfReport)).unwrap();
        let value = serde_json::to_value(&report).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        validator.validate(&value).unwrap();
        assert_eq!(
            serde_json::from_value::<WhatIfReport>(value).unwrap(),
            report
        );
    }
}
