//! Goal: what other tools recorded is judged as far as it goes, and nothing in a log can hurt.
//! Method: logs in the tools' own formats through importer, player and engine; and lines that no tool
//! would write.

mod bounds;
mod properties;
mod silence;
mod stories;

use super::{Importer, Input, Player, Summary, Tool};
use crate::engine::Engine;
use crate::model::output::{Finding, Record};
use crate::model::policy::Policy;
use crate::model::{Confidence, Dimension, RuleId};
use proptest::prelude::ProptestConfig;

/// A log in the form of a tool, with a story.
macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../fixtures/", $name, ".jsonl"))
    };
}
use fixture;

/// What came of a log.
struct Story {
    out: Vec<Record>,
    summary: Summary,
    engine: Engine,
    inputs: Vec<Input>,
}

impl Story {
    fn of(tool: Tool, log: &str) -> Self {
        Self::of_lines(tool, log.lines().map(str::as_bytes))
    }

    fn of_lines<'a>(tool: Tool, lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut engine = Engine::new(tool.config(), &Policy::default());
        let (mut player, mut out, mut inputs) = (Player::default(), Vec::new(), Vec::new());
        let mut importer = Importer::new(tool, None);
        let mut sink = |input: Input| {
            player.play(&input, &mut engine, &mut out);
            inputs.push(input);
        };
        for line in lines {
            importer.line(line, &mut sink);
        }
        let summary = importer.finish(&mut sink);
        engine.stop(0, "end", &mut out);
        Self {
            out,
            summary,
            engine,
            inputs,
        }
    }

    fn violations(&self) -> Vec<&Finding> {
        let mut violations = Vec::new();
        for record in &self.out {
            if let Record::Violation(finding) = record {
                violations.push(&**finding);
            }
        }
        violations
    }

    fn audits(&self) -> Vec<&Finding> {
        let mut audits = Vec::new();
        for record in &self.out {
            if let Record::Audit(finding) = record {
                audits.push(&**finding);
            }
        }
        audits
    }

    fn losses(&self) -> u64 {
        let loss = |record: &Record| match record {
            Record::Loss(loss) => loss.count,
            _ => 0,
        };
        self.out.iter().map(loss).sum()
    }

    fn not_judged(&self) -> Vec<Dimension> {
        let list = self.summary.not_evaluated.iter();
        list.map(|n| n.dimension).collect()
    }

    /// Ids of containers.
    fn containers(&self) -> Vec<&str> {
        let entities = self.engine.world().entities.values();
        entities.map(|e| e.key.as_str()).skip(1).collect()
    }
}

/// Rule, object, dimension.
fn facts<'a>(findings: &[&'a Finding]) -> Vec<(RuleId, &'a str, Dimension)> {
    let fact = |f: &&'a Finding| (f.rule, f.object.id.as_str(), f.dimension);
    findings.iter().map(fact).collect()
}

/// As many cases as `PROPTEST_CASES` says, else these.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        default
    } else {
        ProptestConfig { cases, ..default }
    }
}
