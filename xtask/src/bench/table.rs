//! Numbers and their goals, for people: a Markdown table.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Which side of a goal is good.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
    None,
}

/// One number, as the benchmark prints it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Measure {
    name: String,
    value: f64,
    unit: String,
    goal: Goal,
}

impl Measure {
    /// Reads one line.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("a number like {line:?}"))
    }

    fn goal(&self) -> (String, &'static str) {
        let mark = |met| if met { "yes" } else { "no" };
        match self.goal {
            Goal::AtMost(limit) => (format!("≤ {limit}"), mark(self.value <= limit)),
            Goal::AtLeast(limit) => (format!("≥ {limit}"), mark(self.value >= limit)),
            Goal::None => (String::new(), ""),
        }
    }
}

/// The table.
pub(crate) fn render(all: &[Measure]) -> String {
    let mut text = String::from("| number | value | unit | goal | met |\n|---|---:|---|---|---|\n");
    for measure in all {
        let (goal, met) = measure.goal();
        let Measure {
            name, value, unit, ..
        } = measure;
        let digits = if value.abs() < 100.0 { 3 } else { 0 };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {value:.digits$} | {unit} | {goal} | {met} |"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Measure, render};

    /// Goal: a number stands beside its goal. Method: one line that meets it, one that misses it, one without.
    #[test]
    fn goals_are_compared() {
        let lines = [
            r#"{"name":"a","value":2.5,"unit":"s","goal":{"at_least":2.0}}"#,
            r#"{"name":"b","value":200.4,"unit":"ns","goal":{"at_most":45.0}}"#,
            r#"{"name":"c","value":1.0,"unit":"×","goal":"none"}"#,
        ];
        let all: Vec<Measure> = lines
            .iter()
            .map(|line| Measure::parse(line).unwrap())
            .collect();
        let table = render(&all);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| a | 2.500 | s | ≥ 2 | yes |",
                "| b | 200 | ns | ≤ 45 | no |",
                "| c | 1.000 | × |  |  |"
            ]
        );
    }
}
