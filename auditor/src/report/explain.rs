//! A rule, or a line, for somebody who is woken by it: what happened, why it matters, what to do, how
//! to declare it as expected.

mod run;

use super::rules::{self, Declare, RuleWords};
use super::words;
use crate::model::output::{EntityKind, Finding, Head, Party, Record, Resolved};
use crate::model::{Confidence, PairClass, RuleId, Transition};
use crate::sink::human::{self, Paint, Style, printable};
use std::fmt::Write;

/// Explains a rule as such.
#[must_use]
pub fn rule(rule: RuleId, style: Style) -> String {
    let words = rules::words(rule);
    let mut out = String::new();
    let cites = words
        .transition
        .map_or(String::new(), |t| format!(" ({})", transition(t)));
    let _ = writeln!(out, "{}{cites}", style.paint(Paint::Strong, rule.as_str()));
    paragraph(&mut out, words.title, "");
    advice(&mut out, &words, style);
    heading(&mut out, style, "If this is expected");
    match words.declare {
        Declare::Allow => snippet(&mut out, &allow(rule, "role:NAME", None, None)),
        Declare::Share => snippet(&mut out, &share("role:NAME", "role:OTHER", "net")),
        Declare::NotNeeded => paragraph(
            &mut out,
            "It is never a violation; nothing to declare.",
            "  ",
        ),
    }
    read_on(&mut out, rule, style);
    out
}

/// Explains a record of any type.
#[must_use]
pub fn record(record: &Record, style: Style) -> String {
    match record {
        Record::Violation(f) => finding("violation", f, style),
        Record::Audit(f) => finding("audit record", f, style),
        Record::Drift(f) => finding("drift", f, style),
        Record::Resolved(r) => resolved(r, style),
        Record::Policy(p) => run::policy(p, style),
        Record::Loss(l) => run::loss(l, style),
        Record::Start(s) => run::start(s, style),
        Record::Heartbeat(h) => run::heartbeat(h, style),
        Record::Stop(s) => run::stop(s, style),
    }
}

// Writing to a String cannot fail, here and below.
fn finding(what: &str, f: &Finding, style: Style) -> String {
    let words = rules::words(f.rule);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} ({what}, {}): {}",
        style.paint(Paint::Strong, f.rule.as_str()),
        style.severity(f.severity).trim_end(),
        words.title
    );
    heading(&mut out, style, "What happened");
    paragraph(&mut out, &printable(&f.message), "  ");
    place(&mut out, &f.head);
    let _ = writeln!(out, "  subject: {}", party(&f.subject));
    let _ = writeln!(out, "  object:  {}", party(&f.object));
    match f.suppressed {
        0 => {}
        1 => out.push_str("  one repeat was folded into this line\n"),
        many => {
            let _ = writeln!(out, "  {many} repeats were folded into this line");
        }
    }
    evidence(&mut out, f, style);
    possible(&mut out, f, style);
    advice(&mut out, &words, style);
    heading(&mut out, style, "If this is expected");
    match words.declare {
        Declare::NotNeeded => paragraph(
            &mut out,
            "It is never a violation; nothing to declare.",
            "  ",
        ),
        Declare::Allow | Declare::Share => {
            paragraph(&mut out, "Put this into the policy and say why:", "  ");
            snippet(&mut out, &declare(f, words.declare));
        }
    }
    read_on(&mut out, f.rule, style);
    out
}

fn read_on(out: &mut String, rule: RuleId, style: Style) {
    heading(out, style, "Read on");
    let _ = writeln!(out, "  {}", rules::page(rule));
    for reference in rule.references() {
        let _ = writeln!(out, "  {reference}");
    }
}

fn evidence(out: &mut String, f: &Finding, style: Style) {
    heading(out, style, "Evidence");
    if let Some(transition_) = f.transition {
        let _ = writeln!(out, "  transition: {}", transition(transition_));
    }
    let _ = writeln!(
        out,
        "  dimension:  {}, where {}",
        f.dimension,
        words::dimension(f.dimension)
    );
    if let Some(verdict) = f.verdict {
        let _ = writeln!(out, "  verdict:    {verdict} (claim: structural)");
    }
    if let Some(iota) = f.iota {
        let (before, after) = (words::iota(iota.before), words::iota(iota.after));
        let class = f
            .pair_class
            .map_or(String::new(), |c| format!(" of {}", pair_class(c)));
        let change = match before == after {
            true => format!("is {after}, as before"),
            false => format!("went from {before} to {after}"),
        };
        let _ = writeln!(out, "  isolation:  ι{class} {change}");
    }
    for (key, evidence) in [("expected:  ", &f.expected), ("observed:  ", &f.observed)] {
        if let Some(evidence) = evidence {
            let _ = writeln!(out, "  {key} {}", words::evidence(evidence));
        }
    }
    let call = f
        .witness
        .syscall
        .as_deref()
        .map_or(String::new(), |s| format!(" in {}", printable(s)));
    let events: Vec<String> = f.witness.events.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        out,
        "  seen by:    {} (tier {}){call}; events {}",
        printable(&f.witness.hook),
        f.tier,
        if events.is_empty() {
            "none".to_owned()
        } else {
            events.join(", ")
        }
    );
    let _ = writeln!(out, "  confidence: {}", confidence(f.confidence));
    if f.lost_events > 0 {
        let _ = writeln!(
            out,
            "  {} events had been lost before this line",
            f.lost_events
        );
    }
}

/// What made a critical violation possible.
fn possible(out: &mut String, f: &Finding, style: Style) {
    if f.weakening.is_empty() && f.explained_by.is_empty() && !f.unexplained {
        return;
    }
    heading(out, style, "What made it possible");
    if !f.weakening.is_empty() {
        let seqs: Vec<String> = f.weakening.iter().map(ToString::to_string).collect();
        let text = format!(
            "Earlier lines of this run weakened the same container; read them first: seq {}.",
            seqs.join(", ")
        );
        paragraph(out, &text, "  ");
    }
    if !f.explained_by.is_empty() {
        let words: Vec<_> = f.explained_by.iter().map(|w| printable(w)).collect();
        let text = format!(
            "The container was started with what suffices for this: {}. Without it, it could not \
             have done it.",
            words.join(", ")
        );
        paragraph(out, &text, "  ");
    }
    if f.unexplained {
        let mut text = "Nothing that was seen: no earlier line weakened the container, and its \
                        configuration does not let it do this. Treat it as an escape by a flaw of \
                        the kernel or of the runtime until you know better."
            .to_owned();
        if f.lost_events > 0 {
            text += " But events had been lost, and what is missing may be among them.";
        }
        paragraph(out, &text, "  ");
    }
}

fn advice(out: &mut String, words: &RuleWords, style: Style) {
    heading(out, style, "Why it matters");
    paragraph(out, words.why, "  ");
    heading(out, style, "What to do");
    for (number, step) in (1..).zip(words.steps) {
        let text = wrap(step, 92).join("\n     ");
        let _ = writeln!(out, "  {number}. {text}");
    }
}

fn resolved(r: &Resolved, style: Style) -> String {
    let mut out = title(
        "resolved",
        "A pair that was violated is isolated again in this dimension",
        style,
    );
    paragraph(&mut out, &printable(&r.message), "  ");
    place(&mut out, &r.head);
    let _ = writeln!(out, "  subject: {}", party(&r.subject));
    let _ = writeln!(out, "  object:  {}", party(&r.object));
    let (before, after) = (words::iota(r.iota.before), words::iota(r.iota.after));
    let _ = writeln!(
        out,
        "  rule {}, dimension {}: ι went from {before} to {after}",
        r.rule, r.dimension
    );
    paragraph(
        &mut out,
        "That the state is good again does not undo what was done meanwhile: the pair remembers \
         (ever_violated). Read the violation that this line ends.",
        "  ",
    );
    out
}

/// The policy text that declares a finding as expected.
#[must_use]
pub fn declare(f: &Finding, how: Declare) -> String {
    let mut out = String::new();
    let subject = endpoint(&f.subject, &mut out);
    let object = endpoint(&f.object, &mut out);
    match how {
        Declare::Share => out += &share(&subject, &object, f.dimension.as_str()),
        Declare::Allow | Declare::NotNeeded => {
            out += &allow(f.rule, &subject, Some(&object), Some(f.dimension.as_str()));
        }
    }
    out
}

/// How the policy calls a party. An id that a runtime drew by lot says nothing tomorrow: then a role
/// is made of the image or name and put in front.
fn endpoint(party: &Party, roles: &mut String) -> String {
    if party.entity == EntityKind::Host {
        return "host".to_owned();
    }
    let bare = party
        .id
        .split_once(':')
        .map_or(party.id.as_str(), |(_, bare)| bare);
    let drawn = bare.len() >= 12 && bare.bytes().all(|b| b.is_ascii_hexdigit());
    let by = [("image", &party.image), ("name", &party.name)]
        .into_iter()
        .find_map(|(key, value)| value.as_deref().map(|value| (key, value)));
    match by {
        Some((key, value)) if drawn => {
            let role: String = party.name.as_deref().unwrap_or(value).to_owned();
            let text = format!(
                "[[role]]\nname = {}\nmatch = {{ {key} = {} }}\n\n",
                quoted(&role),
                quoted(value)
            );
            if !roles.contains(&text) {
                *roles += &text;
            }
            format!("role:{role}")
        }
        _ => party.id.clone(),
    }
}

fn allow(rule: RuleId, subject: &str, object: Option<&str>, dimension: Option<&str>) -> String {
    let mut out = format!(
        "[[allow]]\nrule = \"{rule}\"\nsubject = {}\n",
        quoted(subject)
    );
    for (key, value) in [("object", object), ("dimension", dimension)] {
        if let Some(value) = value {
            let _ = writeln!(out, "{key} = {}", quoted(value));
        }
    }
    out + "reason = \"say here why this is expected\"\n"
}

fn share(a: &str, b: &str, dimension: &str) -> String {
    format!(
        "[[share]]\nbetween = [{}, {}]\ndimensions = [{}]\nreason = \"say here why this is expected\"\n",
        quoted(a),
        quoted(b),
        quoted(dimension)
    )
}

/// A TOML string: names come from outside and may hold anything.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() || printable(c.encode_utf8(&mut [0; 4])).len() > 4 => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out + "\""
}

fn party(party: &Party) -> String {
    if party.entity == EntityKind::Host && party.task.is_none() {
        return "the host".to_owned();
    }
    let kind = match party.entity {
        EntityKind::Host => "the",
        EntityKind::Container => "container",
        EntityKind::Vm => "VM",
    };
    let mut out = format!("{kind} {}", human::entity(party));
    if party.entity != EntityKind::Host {
        let _ = write!(out, " ({})", printable(&party.id));
    }
    for (key, value) in [("image", &party.image), ("pod", &party.pod)] {
        if let Some(value) = value {
            let _ = write!(out, ", {key} {}", printable(value));
        }
    }
    if let Some(task) = &party.task {
        let _ = write!(
            out,
            ", task {}[{}] uid {}",
            printable(&task.comm),
            task.tid.unwrap_or(task.pid),
            task.uid
        );
        if let Some(exe) = &task.exe {
            let _ = write!(out, ", executable {}", printable(exe));
        }
        if !task.ancestry.is_empty() {
            let _ = write!(out, ", child of {}", words::names(&task.ancestry));
        }
    }
    out
}

const fn transition(transition: Transition) -> &'static str {
    match transition {
        Transition::T1 => "T1, joins a namespace that is not its own",
        Transition::T2 => "T2, makes a namespace",
        Transition::T3 => "T3, holds a foreign reference",
        Transition::T4 => "T4, acquires a mount",
        Transition::T5 => "T5, writes a setting of the whole machine",
        Transition::T6 => "T6, the host executes a container's file",
        Transition::T7 => "T7, silent change of credentials, namespaces or seccomp",
        Transition::T8 => "T8, uses a control socket",
        Transition::T9 => "T9, controls somebody else's process",
        Transition::T10 => "T10, loads code into the kernel",
        Transition::T11 => "T11, reaches a device",
        Transition::T12 => "T12, a step before tampering with memory",
        Transition::T13 => "T13, moves between cgroups",
        Transition::T14 => "T14, running container and its spec differ",
    }
}

/// What two entities are to each other, in words.
#[must_use]
pub const fn pair_class(class: PairClass) -> &'static str {
    match class {
        PairClass::K1 => "two containers of one pod (K1)",
        PairClass::K2 => "two unrelated containers (K2)",
        PairClass::K3 => "a container and the host (K3)",
        PairClass::K4 => "two containers that were joined on purpose (K4)",
        PairClass::K5 => "a container and one nested in it (K5)",
        PairClass::K6 => "two VMs (K6)",
        PairClass::K7 => "a VM and a container (K7)",
        PairClass::K8 => "a container and a trusted runtime (K8)",
    }
}

const fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Exact => "exact: read from the kernel at the event",
        Confidence::Sampled => "sampled: found by a periodic sweep, so the actor may be unknown",
        Confidence::Inferred => "inferred: concluded, not seen",
    }
}

fn title(what: &str, text: &str, style: Style) -> String {
    format!("{}: {text}\n", style.paint(Paint::Strong, what))
}

fn heading(out: &mut String, style: Style, text: &str) {
    let _ = writeln!(out, "\n{}", style.paint(Paint::Strong, text));
}

fn place(out: &mut String, head: &Head) {
    let _ = writeln!(
        out,
        "  {} on {}, line {} of its stream",
        printable(&head.time),
        printable(&head.node),
        head.seq
    );
}

fn snippet(out: &mut String, toml: &str) {
    let _ = writeln!(out);
    for line in toml.lines() {
        let _ = writeln!(out, "{}{line}", if line.is_empty() { "" } else { "    " });
    }
}

fn paragraph(out: &mut String, text: &str, indent: &str) {
    for line in wrap(text, 96) {
        let _ = writeln!(out, "{indent}{line}");
    }
}

/// Breaks text at spaces. Runs of spaces count as one: the texts above are wrapped in the source.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if used > 0 && used + 1 + len > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += len;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Style, declare, quoted, record, rule};
    use crate::model::RuleId;
    use crate::model::output::Record;
    use crate::report::rules::{self, Declare};
    use crate::sink::samples;

    /// Goal: every rule is explained, as such and by a line, with its page and its way out.
    #[test]
    fn every_rule_is_explained() {
        for &id in RuleId::ALL {
            let finding = samples::finding(id);
            let line = record(&Record::Violation(Box::new(finding)), Style::Plain);
            for text in [rule(id, Style::Plain), line] {
                for part in [
                    id.as_str(),
                    "Why it matters",
                    "What to do",
                    "  1. ",
                    "If this is expected",
                ] {
                    assert!(text.contains(part), "{part} is not in\n{text}");
                }
                assert!(text.contains(&rules::page(id)));
                assert!(text.lines().all(|l| l.chars().count() <= 220), "{text}");
            }
        }
    }

    /// Goal: a critical line says what made it possible. Method: one of each kind, and one of which nothing is known.
    #[test]
    fn what_made_it_possible_is_said() {
        let said = |weakening: &[u64], explained_by: &[&str], unexplained, lost_events| {
            let finding = crate::model::output::Finding {
                weakening: weakening.to_vec(),
                explained_by: explained_by.iter().map(|&w| w.to_owned()).collect(),
                unexplained,
                lost_events,
                ..samples::finding(RuleId::NamespaceJoin)
            };
            let text = record(&Record::Violation(Box::new(finding)), Style::Plain);
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(said(&[3, 9], &[], false, 0).contains("read them first: seq 3, 9."));
        assert!(said(&[], &["SYS_ADMIN", "pid"], false, 0).contains("for this: SYS_ADMIN, pid."));
        assert!(said(&[], &[], true, 0).contains("Nothing that was seen"));
        assert!(!said(&[], &[], true, 0).contains("may be among them"));
        assert!(said(&[], &[], true, 7).contains("may be among them"));
        assert!(!said(&[], &[], false, 7).contains("What made it possible"));
    }

    /// Goal: each type of record has its words, with the numbers of the line.
    #[test]
    fn every_record_is_explained() {
        for sample in samples::all() {
            let text = record(&sample, Style::Plain);
            assert!(
                text.contains("2026-11-23T10:30:00.123456789Z on worker-17"),
                "{text}"
            );
            assert!(!text.contains('\x1b'));
        }
        let text = record(&samples::violation(), Style::Plain);
        for part in [
            "nsenter[4321] uid 0, executable /bin/busybox, child of sh, runc:[2:INIT]",
            "expected:   mount namespace 4026532177",
            "observed:   mount namespace 4026531832 (the machine's initial one)",
            "went from 1 to 0",
            "in setns; events 1180, 1181",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    /// Goal: what the snippet declares is TOML that names the finding, whatever the names hold.
    #[test]
    fn snippets_are_toml() {
        let mut finding = samples::finding(RuleId::NamespaceJoin);
        finding.subject.name = Some("we\"b\n\u{202e}\\".to_owned());
        let table: toml::Table = declare(&finding, Declare::Allow).parse().unwrap();
        let role = table["role"][0]["name"].as_str().unwrap();
        assert_eq!(Some(role), finding.subject.name.as_deref());
        assert_eq!(
            table["allow"][0]["subject"].as_str().unwrap(),
            format!("role:{role}")
        );
        assert_eq!(table["allow"][0]["object"].as_str(), Some("host"));
        assert_eq!(table["allow"][0]["dimension"].as_str(), Some("mnt"));
        let table: toml::Table = declare(&finding, Declare::Share).parse().unwrap();
        assert_eq!(table["share"][0]["between"][1].as_str(), Some("host"));
        // An id that a person chose needs no role.
        finding.subject.id = "runc:web".to_owned();
        assert!(!declare(&finding, Declare::Allow).contains("[[role]]"));
        assert_eq!(quoted("ä→b"), "\"ä→b\"");
    }
}
