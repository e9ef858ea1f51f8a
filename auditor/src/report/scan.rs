//! One look at the machine: who is there, which pairs are not isolated and by what.
//!
//! `pairs` and `shared` grow with what is wrong and with objects, never with n²: a pair that has
//! nothing to say is not listed, and what everybody shares stands once in `shared`.

use super::layers::LayersReport;
use super::words::{self, pad};
use crate::model::output::{EntityKind, Evidence};
use crate::model::{Dimension, NsKind, PairClass, Severity, Tier, Verdict};
use crate::sink::human::{Paint, Style, printable, short_id};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// More entities than this do not fit a matrix on a screen.
const MATRIX_MAX: usize = 40;

/// The value of `type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScanType {
    /// The only one.
    #[default]
    Scan,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScanReport {
    /// Always `auditor/1`.
    pub schema: String,
    /// Always `scan`.
    #[serde(rename = "type")]
    pub kind: ScanType,
    /// Name of the machine.
    pub node: String,
    /// UTC with nanoseconds.
    pub time: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// How it was looked at: `scan` for one look, otherwise the best tier of the watch.
    pub tier: Tier,
    /// Digest (SHA-256, hexadecimal) of the effective policy.
    pub policy_digest: String,
    /// The host, then every container.
    pub entities: Vec<ScanEntity>,
    /// Pairs with something to say, a < b.
    pub pairs: Vec<ScanPair>,
    /// Objects that several entities share, each once.
    pub shared: Vec<SharedObject>,
    /// Dimensions that nothing evaluates here.
    pub not_evaluated: Vec<Dimension>,
    /// What else may be missing, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_miss: Vec<String>,
    /// Counts.
    pub summary: ScanSummary,
}

/// One entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScanEntity {
    /// Its kind.
    pub entity: EntityKind,
    /// Stable id.
    pub id: String,
    /// Human name.
    pub name: Option<String>,
    /// Runtime.
    pub runtime: Option<String>,
    /// Image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its init, in the initial pid namespace.
    pub pid: Option<u32>,
    /// Living tasks.
    pub tasks: u64,
    /// Namespaces of its init.
    pub namespaces: BTreeMap<NsKind, ScanNs>,
    /// Cgroup path (v2 where there is one).
    pub cgroup: Option<String>,
    /// Capability sets of its init: `effective`, `permitted`, `inheritable`, `bounding`, `ambient`,
    /// each with names.
    pub capabilities: BTreeMap<String, Vec<String>>,
    /// `off`, `strict`, `filter`; null: not readable.
    pub seccomp: Option<String>,
    /// no_new_privs of its init; null: not readable.
    pub no_new_privs: Option<bool>,
    /// What stands between it and each capability; absent for the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<LayersReport>,
    /// What its capabilities let it do to the host or to other containers; see the rule `dangerous-capability`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub powers: Vec<ScanPower>,
}

/// What a capability lets an entity do to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScanPower {
    /// Name of the capability.
    pub capability: String,
    /// How bad.
    pub severity: Severity,
    /// What, as words behind "can".
    pub power: String,
}

/// A namespace as an entity has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScanNs {
    /// Its inode number on nsfs.
    pub inum: u32,
    /// Whether it is the machine's initial one.
    pub initial: bool,
}

/// Two entities and what lies between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScanPair {
    /// Id of the lesser.
    pub a: String,
    /// Id of the greater.
    pub b: String,
    /// What they are to each other.
    pub class: PairClass,
    /// 1, 0, or null where a required dimension is unknown or not evaluated.
    pub iota: Option<u8>,
    /// Dimensions with something to say.
    pub dimensions: Vec<ScanDimension>,
}

/// One dimension of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScanDimension {
    /// Which.
    pub dimension: Dimension,
    /// How it is.
    pub verdict: Verdict,
    /// How bad that is.
    pub severity: Severity,
    /// By what; null where nothing is shared.
    pub witness: Option<ScanWitness>,
}

/// By what a verdict of a pair is proven.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScanWitness {
    /// The kernel object.
    pub object: Evidence,
    /// One sentence.
    pub message: String,
}

/// An object with several holders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SharedObject {
    /// The kernel object.
    pub object: Evidence,
    /// In which dimension it counts.
    pub dimension: Dimension,
    /// The worst verdict between two of its holders.
    pub verdict: Verdict,
    /// Ids of the entities that hold it.
    pub members: Vec<String>,
    /// Ids of those that took it, or that have it although their spec does not say so; of `processes` those that
    /// reach others.
    pub offenders: Vec<String>,
}

/// Counts over all pairs, listed or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScanSummary {
    /// Entities, the host included.
    pub entities: u64,
    /// Pairs: n·(n−1)/2.
    pub pairs: u64,
    /// Pairs with ι = 1.
    pub isolated: u64,
    /// Pairs with ι = 0.
    pub violated: u64,
    /// Pairs with ι = null.
    pub unknown: u64,
}

impl ScanReport {
    /// ι of two entities by id, in either order. Null also where the pair is not listed and the pairs
    /// that are not listed differ in ι.
    #[must_use]
    pub fn iota(&self, a: &str, b: &str) -> Option<u8> {
        match self.pair(a, b) {
            Some(pair) => pair.iota,
            None => self.unlisted_iota(),
        }
    }

    /// ι of the pairs that are not listed, by the difference between the summary and the list: where
    /// one value remains, it is theirs.
    #[must_use]
    pub fn unlisted_iota(&self) -> Option<u8> {
        let listed = |iota| self.pairs.iter().filter(|p| p.iota == iota).count() as u64;
        let rest = |all: u64, iota| all.saturating_sub(listed(iota));
        let ScanSummary {
            entities: _,
            pairs: _,
            isolated: _,
            violated,
            unknown,
        } = self.summary;
        match (
            rest(violated, Some(0)),
            rest(unknown, None),
            rest(self.summary.isolated, Some(1)),
        ) {
            (0, 0, _) => Some(1),
            (_, 0, 0) => Some(0),
            _ => None,
        }
    }

    /// The listed pair of two ids, in either order.
    #[must_use]
    pub fn pair(&self, a: &str, b: &str) -> Option<&ScanPair> {
        self.pairs
            .iter()
            .find(|p| (p.a == a && p.b == b) || (p.a == b && p.b == a))
    }

    /// How people call this id.
    #[must_use]
    pub fn name_of(&self, id: &str) -> String {
        match self
            .entities
            .iter()
            .find(|e| e.id == id)
            .and_then(|e| e.name.as_deref())
        {
            Some(name) => printable(name).into_owned(),
            None => short_id(id),
        }
    }

    /// The report as text: the matrix, then one line per witness, worst first.
    #[must_use]
    pub fn table(&self, style: Style) -> String {
        let mut out = String::new();
        self.matrix(style, &mut out);
        self.witnesses(style, &mut out);
        self.shared_lines(style, &mut out);
        self.powers(style, &mut out);
        self.layer_lines(style, &mut out);
        self.last_lines(style, &mut out);
        out
    }

    // Writing to a String cannot fail, here and below.
    fn matrix(&self, style: Style, out: &mut String) {
        let shown = self.shown();
        let names: Vec<String> = shown.iter().map(|e| self.name_of(&e.id)).collect();
        let width = names
            .iter()
            .map(|n| n.chars().count())
            .max()
            .unwrap_or(0)
            .min(32);
        let digits = shown.len().to_string().len();
        let _ = write!(
            out,
            "{} ",
            style.paint(Paint::Strong, &pad("ι", digits + 1 + width))
        );
        for column in 1..=shown.len() {
            let _ = write!(out, " {column:>digits$}");
        }
        let _ = writeln!(out);
        for (row, a) in shown.iter().enumerate() {
            let name: String = names[row].chars().take(width).collect();
            let _ = write!(out, "{:>digits$} {} ", row + 1, pad(&name, width));
            for (column, b) in shown.iter().enumerate() {
                let symbol = if row == column {
                    '·'
                } else {
                    words::iota(self.iota(&a.id, &b.id))
                };
                let paint = match symbol {
                    '0' => Paint::Bad,
                    '1' => Paint::Good,
                    '?' => Paint::Warn,
                    _ => Paint::Dim,
                };
                let _ = write!(
                    out,
                    " {}",
                    style.paint(paint, &format!("{symbol:>digits$}"))
                );
            }
            let _ = writeln!(out);
        }
        let hidden = self.entities.len() - shown.len();
        if hidden > 0 {
            let _ = writeln!(
                out,
                "{hidden} more entities are not shown (--format json lists all): \
                 the matrix has those with something to say"
            );
        }
    }

    /// All entities, or those of the worst pairs where all do not fit.
    fn shown(&self) -> Vec<&ScanEntity> {
        if self.entities.len() <= MATRIX_MAX {
            return self.entities.iter().collect();
        }
        let mut pairs: Vec<&ScanPair> = self.pairs.iter().filter(|p| p.iota != Some(1)).collect();
        pairs.sort_by_key(|p| (p.iota.unwrap_or(1), Reverse(p.dimensions.len())));
        let mut ids = BTreeSet::new();
        for id in pairs.iter().flat_map(|p| [p.a.as_str(), p.b.as_str()]) {
            if ids.len() < MATRIX_MAX {
                ids.insert(id);
            }
        }
        self.entities
            .iter()
            .filter(|e| ids.contains(e.id.as_str()))
            .collect()
    }

    fn witnesses(&self, style: Style, out: &mut String) {
        let mut lines: Vec<_> = self
            .pairs
            .iter()
            .flat_map(|p| p.dimensions.iter().map(move |d| (p, d)))
            .filter_map(|(p, d)| d.witness.as_ref().map(|w| (p, d, w)))
            .collect();
        if lines.is_empty() {
            return;
        }
        lines.sort_by_key(|(p, d, _)| {
            (
                Reverse(d.verdict == Verdict::Violated),
                Reverse(d.severity),
                &p.a,
                &p.b,
                d.dimension,
            )
        });
        let _ = writeln!(out);
        for (pair, dimension, witness) in lines {
            let _ = writeln!(
                out,
                "{} {} {} {} – {} {}: {}",
                style.severity(dimension.severity),
                words::verdict(dimension.verdict, style),
                pad(dimension.dimension.as_str(), 10),
                self.name_of(&pair.a),
                self.name_of(&pair.b),
                style.paint(Paint::Dim, &format!("({})", pair.class)),
                printable(&witness.message)
            );
        }
    }

    fn shared_lines(&self, style: Style, out: &mut String) {
        if self.shared.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{}", style.paint(Paint::Strong, "Shared objects"));
        for shared in &self.shared {
            let members: Vec<String> = shared.members.iter().map(|id| self.name_of(id)).collect();
            let _ = writeln!(
                out,
                "  {} {} {}: {}",
                words::verdict(shared.verdict, style),
                pad(shared.dimension.as_str(), 10),
                words::evidence(&shared.object),
                words::names(&members)
            );
        }
    }

    fn powers(&self, style: Style, out: &mut String) {
        let mut powers = self
            .entities
            .iter()
            .flat_map(|e| e.powers.iter().map(move |power| (e, power)))
            .peekable();
        if powers.peek().is_some() {
            let title = "Power over others by capabilities";
            let _ = writeln!(out, "\n{}", style.paint(Paint::Strong, title));
        }
        for (entity, power) in powers {
            let _ = writeln!(
                out,
                "  {} {} {} can {}",
                style.severity(power.severity),
                pad(&power.capability, 18),
                self.name_of(&entity.id),
                printable(&power.power)
            );
        }
    }

    /// Of each container that the matrix shows, what confines it.
    fn layer_lines(&self, style: Style, out: &mut String) {
        let shown = self.shown();
        let all = shown
            .iter()
            .filter_map(|e| Some((self.name_of(&e.id), e.layers.as_ref()?)));
        let mut heading = Some(style.paint(Paint::Strong, "Layers"));
        for (name, layers) in all {
            if let Some(heading) = heading.take() {
                let _ = writeln!(out, "\n{heading}");
            }
            let _ = writeln!(out, "  {name}");
            layers.rows(4, style, out);
        }
    }

    fn last_lines(&self, style: Style, out: &mut String) {
        let ScanSummary {
            entities,
            pairs,
            isolated,
            violated,
            unknown,
        } = self.summary;
        let _ = writeln!(
            out,
            "\n{entities} entities, {pairs} pairs: {isolated} isolated, {violated} violated, \
             {unknown} unknown (claim: structural)"
        );
        if !self.not_evaluated.is_empty() {
            let names: Vec<String> = self.not_evaluated.iter().map(ToString::to_string).collect();
            let text = format!("not evaluated here: {}", names.join(", "));
            let _ = writeln!(out, "{}", style.paint(Paint::Dim, &text));
        }
        for sentence in &self.may_miss {
            let text = format!("may be missed: {}", printable(sentence));
            let _ = writeln!(out, "{}", style.paint(Paint::Dim, &text));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{
        ScanDimension, ScanEntity, ScanNs, ScanPair, ScanPower, ScanReport, ScanSummary, ScanType,
        ScanWitness, SharedObject,
    };
    use crate::model::output::{EntityKind, Evidence, SCHEMA};
    use crate::model::{Dimension, NsKind, PairClass, Severity, Tier, Verdict};
    use crate::sink::human::Style;
    use std::collections::BTreeMap;

    fn entity(kind: EntityKind, id: &str, name: Option<&str>, net: u32) -> ScanEntity {
        let ns = |inum, initial| ScanNs { inum, initial };
        ScanEntity {
            entity: kind,
            id: id.to_owned(),
            name: name.map(str::to_owned),
            runtime: None,
            image: None,
            pod: None,
            pid: Some(1),
            tasks: 3,
            namespaces: BTreeMap::from([
                (NsKind::Net, ns(net, net == 1)),
                (NsKind::User, ns(7, true)),
            ]),
            cgroup: Some("/".to_owned()),
            capabilities: BTreeMap::from([("effective".to_owned(), vec!["CHOWN".to_owned()])]),
            seccomp: Some("filter".to_owned()),
            no_new_privs: Some(false),
            powers: Vec::new(),
            layers: None,
        }
    }

    fn pair(a: &str, b: &str, iota: Option<u8>, dimension: ScanDimension) -> ScanPair {
        ScanPair {
            a: a.to_owned(),
            b: b.to_owned(),
            class: PairClass::K2,
            iota,
            dimensions: vec![dimension],
        }
    }

    fn net(verdict: Verdict, severity: Severity) -> ScanDimension {
        ScanDimension {
            dimension: Dimension::Net,
            verdict,
            severity,
            witness: Some(ScanWitness {
                object: Evidence::Ns {
                    kind: NsKind::Net,
                    inum: 9,
                    initial: false,
                },
                message: format!("both are in network namespace 9 ({severity})"),
            }),
        }
    }

    pub(crate) fn sample() -> ScanReport {
        ScanReport {
            schema: SCHEMA.to_owned(),
            kind: ScanType::Scan,
            node: "n1".to_owned(),
            time: "2026-11-23T10:30:00.123456789Z".to_owned(),
            boot_id: "b".to_owned(),
            tier: Tier::Scan,
            policy_digest: "00".repeat(32),
            entities: vec![
                entity(EntityKind::Host, "host", None, 1),
                entity(EntityKind::Container, "runc:db", Some("db"), 9),
                entity(EntityKind::Container, "runc:lone", Some("lone"), 10),
                entity(EntityKind::Container, "runc:web", Some("web"), 9),
            ],
            pairs: vec![
                pair(
                    "host",
                    "runc:db",
                    Some(1),
                    net(Verdict::DeclaredShared, Severity::Info),
                ),
                pair(
                    "runc:db",
                    "runc:web",
                    Some(0),
                    net(Verdict::Violated, Severity::High),
                ),
                pair(
                    "host",
                    "runc:lone",
                    None,
                    net(Verdict::Unknown, Severity::Low),
                ),
            ],
            shared: vec![SharedObject {
                object: Evidence::Ns {
                    kind: NsKind::User,
                    inum: 7,
                    initial: true,
                },
                dimension: Dimension::User,
                verdict: Verdict::BaselineShared,
                members: vec![
                    "host".to_owned(),
                    "runc:db".to_owned(),
                    "runc:web".to_owned(),
                ],
                offenders: vec![],
            }],
            not_evaluated: vec![Dimension::References],
            may_miss: vec!["handles: not all".to_owned()],
            summary: ScanSummary {
                entities: 4,
                pairs: 6,
                isolated: 4,
                violated: 1,
                unknown: 1,
            },
        }
    }

    /// Goal: the matrix is right in all four symbols, and the worst witness comes first.
    #[test]
    fn the_table_shows_matrix_and_witnesses() {
        let text = sample().table(Style::Plain);
        let rows: Vec<&str> = text.lines().take(5).collect();
        assert_eq!(
            rows,
            [
                "ι       1 2 3 4",
                "1 host  · 1 ? 1",
                "2 db    1 · 1 0",
                "3 lone  ? 1 · 1",
                "4 web   1 0 1 ·"
            ]
        );
        let lines: Vec<&str> = text.lines().filter(|l| l.contains("both are in")).collect();
        assert!(
            lines[0].starts_with("high     violated        net        db – web"),
            "{text}"
        );
        assert!(lines[2].starts_with("info"), "{text}");
        assert!(
            text.contains("user namespace 7 (the machine's initial one): host, db, web"),
            "{text}"
        );
        assert!(
            text.contains("4 entities, 6 pairs: 4 isolated, 1 violated, 1 unknown"),
            "{text}"
        );
        assert!(text.contains("not evaluated here: references"), "{text}");
        assert!(
            text.ends_with("may be missed: handles: not all\n"),
            "{text}"
        );
    }

    /// Goal: powers stand in a section of their own, and only where somebody has one.
    #[test]
    fn powers_have_a_section() {
        let mut report = sample();
        assert!(!report.table(Style::Plain).contains("Power over others"));
        report.entities[1].powers.push(ScanPower {
            capability: "SYS_MODULE".to_owned(),
            severity: Severity::High,
            power: "load code into the kernel".to_owned(),
        });
        let text = report.table(Style::Plain);
        let section = text.split("Power over others by capabilities\n").nth(1);
        let line = section.unwrap().lines().next().unwrap();
        assert!(
            line.ends_with("SYS_MODULE         db can load code into the kernel"),
            "{line}"
        );
    }

    /// Goal: a pair that is not listed gets its ι from the counts, and `?` where they leave it open.
    #[test]
    fn unlisted_pairs() {
        let mut report = sample();
        assert_eq!(report.unlisted_iota(), Some(1));
        report.summary.unknown = 3;
        assert_eq!(report.unlisted_iota(), None);
        (
            report.summary.isolated,
            report.summary.violated,
            report.summary.unknown,
        ) = (1, 4, 1);
        assert_eq!(report.unlisted_iota(), Some(0));
    }

    /// Goal: a thousand containers still fit a screen, and those that matter are on it.
    #[test]
    fn a_large_matrix_shows_what_matters() {
        let mut report = sample();
        for i in 0..1000 {
            let id = format!("runc:c{i}");
            report
                .entities
                .push(entity(EntityKind::Container, &id, None, 100 + i));
        }
        let text = report.table(Style::Plain);
        assert!(text.contains("1000 more entities are not shown"), "{text}");
        assert!(text.contains(" web "), "{text}");
        assert!(text.lines().count() < 40, "{text}");
    }

    /// Goal: JSON and schema agree.
    #[test]
    fn validates_against_its_schema() {
        let schema = serde_json::to_value(schemars::schema_for!(ScanReport)).unwrap();
        let value = serde_json::to_value(sample()).unwrap();
        jsonschema::validator_for(&schema)
            .unwrap()
            .validate(&value)
            .unwrap();
        assert_eq!(
            serde_json::from_value::<ScanReport>(value).unwrap(),
            sample()
        );
    }
}
