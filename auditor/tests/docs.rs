//! The documentation holds what it shows: examples are valid, links lead somewhere, nothing is missing.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test"
)]

use auditor::cli::Cli;
use auditor::cli::config::FileOptions;
use auditor::model::output::{Changed, MEDIAN_BYTES, Record};
use auditor::model::policy::Policy;
use auditor::model::{RuleId, Transition};
use auditor::report::{explain, rules};
use auditor::sink::human::Style;
use auditor::sink::jsonl;
use clap::CommandFactory;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All pages: the ones at the top and those in docs/.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    let mut open = vec![root().join("docs")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                pages.push(path);
            }
        }
    }
    for name in [
        "README",
        "ARCHITECTURE",
        "CONTRIBUTING",
        "CHANGELOG",
        "SECURITY",
    ] {
        pages.push(root().join(name).with_extension("md"));
    }
    pages.sort();
    pages.into_iter().map(|p| (p.clone(), read(&p))).collect()
}

/// Fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    text.split(&open as &str)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

fn rule_page(rule: RuleId) -> String {
    read(&root().join(rules::page(rule)))
}

/// Goal: every rule has a page with an example line that is one of its own and valid, and the page
/// names the transition that the words name.
#[test]
fn every_rule_has_a_page() {
    let schema = serde_json::to_value(schemars::schema_for!(Record)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let index = read(&root().join("docs/rules/README.md"));
    let mut sizes = Vec::new();
    for &rule in RuleId::ALL {
        let page = rule_page(rule);
        assert!(page.starts_with(&format!("# `{rule}`\n")), "{rule}");
        assert!(
            index.contains(&format!("[`{rule}`]({rule}.md)")),
            "{rule} is not in the index"
        );
        let transition = rules::words(rule)
            .transition
            .map_or("–", Transition::as_str);
        assert!(
            page.contains(&format!("| {transition} |")),
            "{rule} cites {transition}"
        );
        let examples = blocks(&page, "json");
        assert_eq!(examples.len(), 1, "{rule}");
        let line = examples[0].trim_end();
        let record = jsonl::decode(line).unwrap_or_else(|e| panic!("{rule}: {e}"));
        let (Record::Violation(finding) | Record::Audit(finding) | Record::Drift(finding)) =
            &record
        else {
            panic!("{rule}: {line}")
        };
        assert_eq!(finding.rule, rule);
        assert_eq!(finding.transition, rules::words(rule).transition, "{rule}");
        validator
            .validate(&line.parse().unwrap())
            .unwrap_or_else(|e| panic!("{rule}: {e}"));
        assert_eq!(
            jsonl::encode(&record).unwrap(),
            line,
            "{rule}: not as it is written"
        );
        sizes.push(line.len());
    }
    sizes.sort_unstable();
    assert!(sizes[sizes.len() / 2] <= MEDIAN_BYTES, "{sizes:?} bytes");
    assert!(sizes.last().is_some_and(|&s| s <= 1100), "{sizes:?} bytes");
    let files = std::fs::read_dir(root().join("docs/rules"))
        .unwrap()
        .count();
    assert_eq!(files, RuleId::ALL.len() + 1, "a page without a rule");
}

/// Goal: the policy that a page or `explain` recommends is one that is accepted, and it expects the
/// rule that it is about.
#[test]
fn recommended_policies_are_valid() {
    for &rule in RuleId::ALL {
        let page = rule_page(rule);
        for block in blocks(&page, "toml") {
            let policy = Policy::parse(block, rule.as_str()).unwrap_or_else(|e| panic!("{e}"));
            let named = policy.allows.iter().any(|a| a.rule == rule);
            assert!(named || !policy.shares.is_empty(), "{rule}");
        }
        let how = rules::words(rule).declare;
        assert_eq!(
            blocks(&page, "toml").is_empty(),
            how == rules::Declare::NotNeeded,
            "{rule}"
        );
        let record = jsonl::decode(blocks(&page, "json")[0].trim_end()).unwrap();
        if let Record::Violation(finding) | Record::Drift(finding) = &record {
            let text = explain::declare(finding, how);
            Policy::parse(&text, "explain").unwrap_or_else(|e| panic!("{rule}: {e}\n{text}"));
        }
        // Long ones are broken into lines.
        let text = explain::record(&record, Style::Plain);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&finding_message(&record)), "{rule}: {text}");
    }
    let page = read(&root().join("docs/policy.md"));
    for block in blocks(&page, "toml") {
        Policy::parse(block, "docs/policy.md").unwrap_or_else(|e| panic!("{e}\n{block}"));
    }
}

fn finding_message(record: &Record) -> String {
    match record {
        Record::Violation(f) | Record::Audit(f) | Record::Drift(f) => f.message.clone(),
        _ => String::new(),
    }
}

/// Goal: docs/commands.md names every command and every option, and its options file is accepted.
#[test]
fn commands_are_documented() {
    let page = read(&root().join("docs/commands.md"));
    for block in blocks(&page, "toml") {
        FileOptions::parse(block, Path::new("docs/commands.md")).unwrap();
    }
    let cli = Cli::command();
    for command in cli.get_subcommands().filter(|c| !c.is_hide_set()) {
        assert!(
            page.contains(&format!("## `auditor {}", command.get_name())),
            "{}",
            command.get_name()
        );
        let nested = command.get_subcommands();
        let args = nested
            .chain([command])
            .flat_map(clap::Command::get_arguments);
        for long in args.filter_map(|arg| arg.get_long()) {
            let named = long == "help" || page.contains(&format!("`--{long}"));
            assert!(named, "{} --{long}", command.get_name());
        }
    }
}

/// Goal: docs/output.md names every field of every record.
#[test]
fn fields_are_documented() {
    let page = read(&root().join("docs/output.md"));
    let schemas = [
        schemars::schema_for!(Record),
        schemars::schema_for!(Changed),
    ]
    .map(|schema| serde_json::to_value(schema).unwrap());
    let mut open = Vec::from_iter(&schemas);
    while let Some(value) = open.pop() {
        if let Some(properties) = value
            .get("properties")
            .and_then(serde_json::Value::as_object)
        {
            for name in properties.keys() {
                assert!(page.contains(&format!("`{name}`")), "field {name}");
            }
        }
        match value {
            serde_json::Value::Object(map) => open.extend(map.values()),
            serde_json::Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
}

/// Goal: no link within the documentation is dead.
#[test]
fn links_lead_somewhere() {
    for (path, text) in pages() {
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let full = path.parent().unwrap().join(file);
            assert!(full.exists(), "{} links to {target}", path.display());
        }
    }
}
