//! What the scenarios showed: which rule on which kernel, by which hook, proven by which scenario.
//!
//! Runs leave results; [`rows`] takes from them what they prove, [`merge`] keeps it by machine and scenario, and
//! [`table`] writes it as a page. The page and the scenarios as they are now must agree, which a test sees to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use auditor_common::hook::{HOOKS, MODULES};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outcome::{Machine, Outcome, Shown, Verdict};
use crate::scenario::Expect;
use crate::stream::Auditor;
use crate::table::scenarios;

/// What is proven of one rule, or of silence, by one scenario on one machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Row {
    /// Where.
    #[serde(flatten)]
    pub on: Machine,
    /// The rule; none for what must stay silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The scenario, or the silent case.
    pub scenario: String,
    /// The hooks that the lines name as their witnesses. None of a rule: its lines cannot be seen there, and the start
    /// line says so.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hooks: BTreeSet<String>,
}

impl Row {
    /// Whether rows say what this one says. Where several hooks can be the first to see something, one of those that were it
    /// on any kernel, in the same tier, is enough: which it is depends on what else the machine does.
    #[must_use]
    pub fn is_among(&self, rows: &[Self]) -> bool {
        let is_empty = self.hooks.is_empty();
        let mut here = rows.iter().filter(|row| row.key() == self.key());
        let mut alike = rows.iter().filter(|row| {
            row.on.tier == self.on.tier && row.rule == self.rule && row.scenario == self.scenario
        });
        here.any(|row| row.hooks.is_empty() == is_empty)
            && (is_empty || alike.any(|row| !row.hooks.is_disjoint(&self.hooks)))
    }

    fn key(&self) -> (Machine, Option<String>, String) {
        (self.on.clone(), self.rule.clone(), self.scenario.clone())
    }
}

/// Where an auditor runs, by its first line.
#[must_use]
pub fn machine(auditor: &Auditor) -> Option<Machine> {
    auditor.with_lines(|lines| {
        let first = lines.first()?;
        Some(Machine::new(
            first["kernel"].as_str()?,
            first["tier"].as_str()?,
        ))
    })
}

/// An expected line that came.
#[must_use]
pub fn shown(expect: &Expect, line: &Value) -> Shown {
    let hook = line.pointer("/witness/hook").and_then(Value::as_str);
    Shown {
        rule: expect.rule.to_owned(),
        hook: Some(hook.unwrap_or("a comparison").to_owned()),
    }
}

/// An expected line that cannot come here.
#[must_use]
pub fn unseen(expect: &Expect) -> Shown {
    Shown {
        rule: expect.rule.to_owned(),
        hook: None,
    }
}

/// Says which line names a witness that does not work, by the start line.
#[must_use]
pub fn disagreement(lines: &[Value]) -> Option<String> {
    let hooks = lines.first()?["hooks"].as_array()?;
    let works = |name: &str| {
        let named = hooks.iter().find(|hook| hook["hook"] == name);
        named.is_some_and(|hook| hook["state"] == "fires" || hook["state"] == "attached")
    };
    let witness = |line: &Value| Some(line.pointer("/witness/hook")?.as_str()?.to_owned());
    let wrong = lines.iter().filter_map(witness).find(|name| !works(name))?;
    Some(format!(
        "{wrong} witnessed a line, and does not work by the start line"
    ))
}

/// Says which hooks the kernel may leave out although it could ask their programs as security modules, by the start line.
#[must_use]
pub fn left_to_chance(lines: &[Value]) -> Option<String> {
    let hooks = lines.first()?["hooks"].as_array()?;
    let is_module = |name: &str| {
        hooks
            .iter()
            .any(|hook| hook["hook"] == name && hook["module"] == true)
    };
    let names = MODULES
        .iter()
        .map(|module| HOOKS[usize::from(module.hook)].name);
    let missing: Vec<&str> = names.filter(|name| !is_module(name)).collect();
    (!missing.is_empty()).then(|| format!("not asked as security modules: {}", missing.join(", ")))
}

/// What results prove. What failed proves nothing.
#[must_use]
pub fn rows(outcomes: &[Outcome]) -> Vec<Row> {
    let mut found: BTreeMap<_, Row> = BTreeMap::new();
    let passed = outcomes
        .iter()
        .filter(|outcome| outcome.verdict == Verdict::Passed);
    for outcome in passed {
        let (Some(on), [who, scenario, step]) = (&outcome.on, parts(&outcome.case)) else {
            continue;
        };
        if scenario == "silence" && is_silent(outcomes, &outcome.case) {
            let row = Row {
                on: on.clone(),
                rule: None,
                scenario: format!("{who}: {step}"),
                hooks: BTreeSet::new(),
            };
            found.insert(row.key(), row);
        }
        for shown in &outcome.lines {
            let row = Row {
                on: on.clone(),
                rule: Some(shown.rule.clone()),
                scenario: scenario.to_owned(),
                hooks: BTreeSet::new(),
            };
            let row = found.entry(row.key()).or_insert(row);
            row.hooks.extend(shown.hook.clone());
        }
    }
    found.into_values().collect()
}

/// `RUNTIME/SCENARIO/STEP`; empty where a case has another form.
fn parts(case: &str) -> [&str; 3] {
    let mut parts = case.splitn(3, '/');
    let [who, scenario, step] =
        [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
    if step.contains('/') {
        [""; 3]
    } else {
        [who, scenario, step]
    }
}

/// Whether nothing is known against a silent case: neither its own lines, nor any that no case answers for.
fn is_silent(outcomes: &[Outcome], case: &str) -> bool {
    let own = format!("{case}/nothing-else");
    let failed = |outcome: &Outcome| outcome.verdict == Verdict::Failed;
    !(outcomes.iter().filter(|outcome| failed(outcome)))
        .any(|outcome| outcome.case == own || outcome.case == "default/silence")
}

/// Puts news in the place of what was known, and drops what no scenario shows any more.
#[must_use]
pub fn merge(old: Vec<Row>, new: Vec<Row>) -> Vec<Row> {
    let claims = claims();
    let mut all: BTreeMap<_, Row> = BTreeMap::new();
    for row in old.into_iter().chain(new) {
        let Row { rule, scenario, .. } = &row;
        let is_claimed = |rule: &String| claims.contains(&(rule.clone(), scenario.clone()));
        if rule.as_ref().is_none_or(is_claimed) {
            all.insert(row.key(), row);
        }
    }
    all.into_values().collect()
}

/// The rules and the scenarios that must show them.
fn claims() -> BTreeSet<(String, String)> {
    let mut claims = BTreeSet::new();
    for scenario in scenarios() {
        for expect in scenario.steps.iter().flat_map(|step| &step.expects) {
            claims.insert((expect.rule.to_owned(), scenario.id.to_owned()));
        }
    }
    claims
}

/// The page.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let machines: Vec<&Machine> = {
        let mut all: Vec<&Machine> = rows.iter().map(|row| &row.on).collect();
        all.sort_by_key(|machine| (machine.tier.clone(), machine.version()));
        all.dedup();
        all
    };
    let mut page = INTRODUCTION.to_owned();
    for machines in machines.chunk_by(|a, b| a.tier == b.tier) {
        let tier = machines.first().map_or("", |machine| machine.tier.as_str());
        let _ = write!(page, "## In the {tier} tier\n\n");
        claimed(&mut page, rows, machines);
        page.push('\n');
    }
    page.push_str(SILENCE);
    let named = machines.iter().map(|m| format!("{}, {}", m.kernel, m.tier));
    heading(&mut page, &["case"], &named.collect::<Vec<_>>());
    let silent: BTreeSet<&str> = (rows.iter())
        .filter(|row| row.rule.is_none())
        .map(|row| row.scenario.as_str())
        .collect();
    for case in silent {
        let _ = write!(page, "| {case} |");
        for machine in &machines {
            let is_shown =
                |row: &&Row| &row.on == *machine && row.scenario == case && row.rule.is_none();
            let word = if rows.iter().any(|row| is_shown(&row)) {
                "silent"
            } else {
                "–"
            };
            let _ = write!(page, " {word} |");
        }
        page.push('\n');
    }
    page
}

/// What is proven of each rule on some machines.
fn claimed(page: &mut String, rows: &[Row], machines: &[&Machine]) {
    let kernels = machines.iter().map(|machine| machine.kernel.clone());
    heading(page, &["rule", "scenario"], &kernels.collect::<Vec<_>>());
    for (rule, scenario) in claims() {
        let shown = |machine: &&Machine| {
            let is_it = |row: &&Row| {
                &row.on == *machine && row.scenario == scenario && row.rule.as_ref() == Some(&rule)
            };
            rows.iter().find(is_it)
        };
        let _ = write!(page, "| [`{rule}`](rules/{rule}.md) | `{scenario}` |");
        for machine in machines {
            let _ = write!(
                page,
                " {} |",
                shown(machine).map_or_else(|| "–".to_owned(), witnesses)
            );
        }
        page.push('\n');
    }
}

fn witnesses(row: &Row) -> String {
    if row.hooks.is_empty() {
        return "not seen".to_owned();
    }
    let names: Vec<String> = row.hooks.iter().map(|hook| format!("`{hook}`")).collect();
    names.join(", ")
}

fn heading(page: &mut String, columns: &[&str], machines: &[String]) {
    let _ = write!(page, "| {} |", columns.join(" | "));
    for machine in machines {
        let _ = write!(page, " {machine} |");
    }
    page.push_str("\n|");
    page.push_str(&" --- |".repeat(columns.len() + machines.len()));
    page.push('\n');
}

const INTRODUCTION: &str = "# Coverage

What is proven of each rule, on which kernel and in which tier: the hooks that witnessed the lines which a scenario made.
`not seen`: the hooks that these lines rest on do not work there, and the start line says what is not seen. `–`: not
shown there; a scenario may need what that machine does not have, such as somebody outside who writes its memory.

This page is generated from results of scenarios: `cargo xtask coverage`. Do not edit it.

";

const SILENCE: &str = "\
## What stays silent

Real tools and ordinary life, during which nothing that concerns them may be a violation. `–`: not run there; guests do
not have the tools.

";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{HOOKS, MODULES, Row, left_to_chance, merge, parts, rows, table};
    use crate::outcome::{Machine, Outcome, Shown, Verdict};

    /// One hook that is not asked as a module is named, and nothing else.
    #[test]
    fn modules_are_counted() {
        let names = MODULES
            .iter()
            .map(|module| HOOKS[usize::from(module.hook)].name);
        let mut hooks: Vec<_> = names
            .map(|name| serde_json::json!({"hook": name, "module": true}))
            .collect();
        let start = |hooks: &[serde_json::Value]| [serde_json::json!({ "hooks": hooks })];
        assert_eq!(left_to_chance(&start(&hooks)), None);
        hooks.retain(|hook| hook["hook"] != "security_bpf");
        let problem = left_to_chance(&start(&hooks)).unwrap();
        assert_eq!(problem, "not asked as security modules: security_bpf");
    }

    fn outcome(case: &str, verdict: Verdict, lines: Vec<Shown>) -> Outcome {
        Outcome {
            case: case.to_owned(),
            verdict,
            detail: String::new(),
            millis: 0,
            on: Some(Machine::new("6.1.0-50-cloud-amd64", "trampoline")),
            lines,
        }
    }

    /// Goal: which of several hooks was the first is no news, and one that never was is. Method: a row against others.
    #[test]
    fn witnesses_of_a_tier_count() {
        let row = |kernel: &str, tier: &str, hooks: &[&str]| Row {
            on: Machine::new(kernel, tier),
            rule: Some("foreign-mount".to_owned()),
            scenario: "mount-propagate".to_owned(),
            hooks: hooks.iter().map(ToString::to_string).collect(),
        };
        let kept = [
            row("6.1.0", "trampoline", &["first"]),
            row("6.12.0", "trampoline", &["second"]),
            row("6.12.0", "tracepoint", &["third"]),
        ];
        for (hooks, is_among) in [(["first"], true), (["second"], true), (["third"], false)] {
            assert_eq!(row("6.1.0", "trampoline", &hooks).is_among(&kept), is_among);
        }
        assert!(!row("6.1.0", "trampoline", &[]).is_among(&kept));
        assert!(!row("5.10.0", "trampoline", &["first"]).is_among(&kept));
    }

    /// Goal: what passed is proof, by scenario, and what failed is none. Method: results by hand.
    #[test]
    fn results_become_rows() {
        let shown = |hook: Option<&str>| Shown {
            rule: "process-control".to_owned(),
            hook: hook.map(str::to_owned),
        };
        let results = [
            outcome("runc/signal/host", Verdict::Passed, vec![shown(Some("a"))]),
            outcome(
                "crun/signal/host",
                Verdict::Passed,
                vec![shown(Some("b")), shown(None)],
            ),
            outcome("crun/signal/other", Verdict::Failed, vec![shown(Some("c"))]),
            outcome("runc/signal/nothing-else", Verdict::Passed, Vec::new()),
            outcome("tool/silence/podman", Verdict::Passed, Vec::new()),
            outcome("tool/silence/lxc", Verdict::Passed, Vec::new()),
            outcome("tool/silence/lxc/nothing-else", Verdict::Failed, Vec::new()),
        ];
        let found = rows(&results);
        let [silent, signal] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(
            (silent.rule.as_deref(), silent.scenario.as_str()),
            (None, "tool: podman")
        );
        assert_eq!(signal.scenario, "signal");
        assert_eq!(signal.hooks.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(signal.on.kernel, "6.1");
        assert_eq!(merge(found.clone(), found.clone()), found);
        assert_eq!(parts("a/b"), ["a", "b", ""]);
    }

    /// Goal: the page says what was shown of the scenarios as they are. Method: write it again from what is kept.
    #[test]
    fn the_page_is_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let kept = std::fs::read_to_string(root.join("tests/fixtures/coverage.jsonl")).unwrap();
        let kept: Vec<Row> = kept
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let page = std::fs::read_to_string(root.join("docs/coverage.md")).unwrap();
        let again = table(&merge(kept, Vec::new()));
        assert!(
            page == again,
            "docs/coverage.md is not up to date: cargo xtask coverage"
        );
    }
}
