//! One readable line per record, for a person who watches.
//!
//! Names in a record are chosen by the audited: a container may call its process whatever it likes,
//! escape sequences included. So no byte of a record reaches the terminal before [`printable`] has
//! taken control characters out; colour is ours alone.

use crate::model::output::{
    Counters, EntityKind, Finding, Head, Loss, Party, Record, Resolved, Start,
};
use crate::model::{Severity, text};
use std::borrow::Cow;
use std::fmt::Write;

/// Whether escape sequences may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text only.
    Plain,
    /// ANSI colours.
    Colour,
}

/// The colours in use, by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// A broken boundary.
    Bad,
    /// A weakened one.
    Warn,
    /// As it should be.
    Good,
    /// Beside the point.
    Dim,
    /// A heading.
    Strong,
}

impl Style {
    /// The text, coloured where that is allowed.
    #[must_use]
    pub fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Bad => "1;31",
            Paint::Warn => "33",
            Paint::Good => "32",
            Paint::Dim => "2",
            Paint::Strong => "1",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    /// A severity in its colour, padded to a column.
    #[must_use]
    pub fn severity(self, severity: Severity) -> String {
        let paint = match severity {
            Severity::Info => Paint::Dim,
            Severity::Low => Paint::Strong,
            Severity::Medium | Severity::High => Paint::Warn,
            Severity::Critical => Paint::Bad,
        };
        self.paint(paint, &format!("{severity:<8}"))
    }
}

/// Makes text from outside safe for a terminal: control characters and invisible direction marks
/// become `\u{…}`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_unsafe(c: char) -> bool {
    // U+202A.. and U+2066.. reorder text (CVE-2021-42574), U+200B.. and U+FEFF are invisible.
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The line, without a newline.
#[must_use]
pub fn line(record: &Record, style: Style) -> String {
    match record {
        Record::Violation(f) | Record::Drift(f) => finding(f, "", style),
        // Said, because by policy the same rule can be the one or the other.
        Record::Audit(f) => finding(f, " (audit)", style),
        Record::Resolved(r) => resolved(r, style),
        Record::Start(s) => start(s, style),
        Record::Policy(p) => {
            let digest = printable(p.policy_digest.get(..12).unwrap_or(&p.policy_digest));
            let text = format!("{} (digest {digest})", printable(&p.message));
            plain(&p.head, "policy", &text, style)
        }
        Record::Loss(l) => loss(l, style),
        Record::Heartbeat(h) => plain(&h.head, "alive", &counters(&h.counters), style),
        Record::Stop(s) => {
            let text = format!("{}; {}", printable(&s.reason), counters(&s.counters));
            plain(&s.head, "stop", &text, style)
        }
    }
}

/// How a person calls an entity: its name, else a short id.
#[must_use]
pub fn entity(party: &Party) -> String {
    match (&party.name, party.entity) {
        (_, EntityKind::Host) => "host".to_owned(),
        (Some(name), _) => printable(name).into_owned(),
        (None, _) => short_id(&party.id),
    }
}

/// An entity id, shortened and safe to print.
#[must_use]
pub fn short_id(id: &str) -> String {
    printable(&text::short_id(id)).into_owned()
}

fn finding(f: &Finding, what: &str, style: Style) -> String {
    let mut out = stamp(&f.head, style);
    let task = match &f.subject.task {
        Some(t) => format!(" {}[{}]", printable(&t.comm), t.pid),
        None => String::new(),
    };
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        " {} {}{} {}{} → {}: {}",
        style.severity(f.severity),
        style.paint(Paint::Strong, f.rule.as_str()),
        style.paint(Paint::Dim, what),
        entity(&f.subject),
        style.paint(Paint::Dim, &task),
        entity(&f.object),
        printable(&f.message)
    );
    if f.unexplained {
        let _ = write!(out, " {}", style.paint(Paint::Bad, "(unexplained)"));
    }
    if f.suppressed > 0 {
        let _ = write!(
            out,
            " {}",
            style.paint(Paint::Dim, &format!("(+{} folded)", f.suppressed))
        );
    }
    out
}

fn resolved(r: &Resolved, style: Style) -> String {
    format!(
        "{} {} {} {} → {}: {}",
        stamp(&r.head, style),
        style.paint(Paint::Good, "resolved"),
        style.paint(Paint::Strong, r.rule.as_str()),
        entity(&r.subject),
        entity(&r.object),
        printable(&r.message)
    )
}

fn start(s: &Start, style: Style) -> String {
    let dark = s.hooks.iter().filter(|h| h.not_seen.is_some()).count();
    let mut text = format!(
        "auditor {} on kernel {} ({}), tier {}, {} entities, {} tasks",
        printable(&s.version),
        printable(&s.kernel),
        printable(&s.arch),
        s.tier,
        s.entities,
        s.tasks
    );
    if dark > 0 {
        let _ = write!(text, "; {dark} hooks missing, see \"auditor doctor\"");
    }
    plain(&s.head, "start", &text, style)
}

fn loss(l: &Loss, style: Style) -> String {
    let text = format!("{} ({} in all)", printable(&l.message), l.total);
    format!(
        "{} {} {text}",
        stamp(&l.head, style),
        style.paint(Paint::Warn, "loss    ")
    )
}

fn plain(head: &Head, what: &str, text: &str, style: Style) -> String {
    format!(
        "{} {} {text}",
        stamp(head, style),
        style.paint(Paint::Dim, &format!("{what:<8}"))
    )
}

fn counters(c: &Counters) -> String {
    format!(
        "{} violations, {} events, {} lost, {} entities, {} tasks",
        c.violations, c.events, c.lost_events, c.entities, c.tasks
    )
}

/// Time of day in UTC to the millisecond: a screen has no room for more.
fn stamp(head: &Head, style: Style) -> String {
    let time = head.time.get(11..23).unwrap_or(&head.time);
    style.paint(Paint::Dim, &format!("{}Z", printable(time)))
}

#[cfg(test)]
mod tests {
    use super::{Style, line, printable};
    use crate::model::RuleId;
    use crate::model::output::Record;
    use crate::sink::samples;

    /// Goal: each record is one line, coloured only where asked for.
    #[test]
    fn one_line_per_record() {
        for record in samples::all() {
            let plain = line(&record, Style::Plain);
            assert!(!plain.contains(['\n', '\x1b']), "{plain}");
            assert!(plain.starts_with("10:30:00.123Z "), "{plain}");
            assert!(line(&record, Style::Colour).contains("\x1b["));
        }
        assert_eq!(
            line(&samples::violation(), Style::Plain),
            "10:30:00.123Z critical namespace-join web nsenter[4321] → host: \
             container web joined the host's mount namespace"
        );
    }

    /// Goal: what changes no exit code says so.
    #[test]
    fn audit_records_are_told_apart() {
        let finding = Box::new(samples::finding(RuleId::PrivilegeGain));
        assert!(!line(&Record::Violation(finding.clone()), Style::Plain).contains("(audit)"));
        let text = line(&Record::Audit(finding), Style::Plain);
        assert!(text.contains(" privilege-gain (audit) web "), "{text}");
    }

    /// Goal: a container cannot write to the watcher's terminal by its names.
    #[test]
    fn names_cannot_carry_escape_sequences() {
        let mut finding = samples::finding(RuleId::NamespaceJoin);
        let evil = "\x1b]0;owned\x07\u{202e}x\n".to_owned();
        finding.subject.name = Some(evil.clone());
        finding.subject.task.as_mut().unwrap().comm = evil.clone();
        finding.message = evil;
        let text = line(&Record::Violation(Box::new(finding)), Style::Plain);
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(!text.contains('\u{202e}'));
        assert_eq!(printable("ünïcode → fine"), "ünïcode → fine");
    }
}
