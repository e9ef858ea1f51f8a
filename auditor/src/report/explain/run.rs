//! Lines about the run itself: how it began and ended, by which policy, what it lost.

use super::super::words;
use super::{heading, paragraph, place, title};
use crate::model::output::{Counters, Heartbeat, Loss, PolicyChange, Start, Stop};
use crate::sink::human::{Style, printable};
use std::fmt::Write;

// Writing to a String cannot fail, here and below.
pub(super) fn policy(p: &PolicyChange, style: Style) -> String {
    let mut out = title(
        "policy",
        "Another policy took the place of the one that was in force",
        style,
    );
    paragraph(&mut out, &printable(&p.message), "  ");
    place(&mut out, &p.head);
    let _ = writeln!(out, "  policy digest {}", printable(&p.policy_digest));
    let _ = writeln!(out, "  before it     {}", printable(&p.previous_digest));
    out
}

pub(super) fn loss(l: &Loss, style: Style) -> String {
    let mut out = title(
        "loss",
        "Evidence was lost: what happened meanwhile may be missing from the stream",
        style,
    );
    paragraph(&mut out, &printable(&l.message), "  ");
    place(&mut out, &l.head);
    let _ = writeln!(
        out,
        "  place: {}; {} now, {} since the start",
        printable(&l.place),
        l.count,
        l.total
    );
    for (hook, count) in &l.by_hook {
        let _ = writeln!(out, "  hook {}: {count}", printable(hook));
    }
    for (cpu, count) in &l.by_cpu {
        let _ = writeln!(out, "  CPU {cpu}: {count}");
    }
    let unknown: Vec<String> = l.unknown.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        out,
        "  unknown until the next sweep: {}",
        words::names(&unknown)
    );
    heading(&mut out, style, "What to do");
    let step = match l.place.as_str() {
        "sink" => {
            "The reader of the output was too slow, or its disk full. Write to a file (--output) or make \
                   room; the model itself is complete."
        }
        _ => {
            "The kernel made events faster than they were read. Enlarge the buffer (--ring-size) or give the \
              auditor more CPU time; the sweep (--sweep) repairs the model and reports what it finds as drift."
        }
    };
    paragraph(&mut out, step, "  ");
    out
}

pub(super) fn start(s: &Start, style: Style) -> String {
    let mut out = title(
        "start",
        "First line of a run: who looks, with what, and what it cannot see",
        style,
    );
    place(&mut out, &s.head);
    let (version, kernel, arch) = (
        printable(&s.version),
        printable(&s.kernel),
        printable(&s.arch),
    );
    let _ = writeln!(
        out,
        "  auditor {version} on kernel {kernel} ({arch}), tier {}",
        s.tier
    );
    let _ = writeln!(
        out,
        "  {} entities and {} tasks in the first snapshot",
        s.entities, s.tasks
    );
    let _ = writeln!(out, "  policy digest {}", printable(&s.policy_digest));
    let _ = writeln!(out, "  what every verdict claims: {}", printable(&s.claim));
    for hook in &s.hooks {
        if let Some(not_seen) = &hook.not_seen {
            let (name, state) = (printable(&hook.hook), printable(&hook.state));
            let _ = writeln!(
                out,
                "  hook {name} {state}: not seen: {}",
                printable(not_seen)
            );
        }
    }
    let dims: Vec<String> = s.not_evaluated.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        out,
        "  dimensions that nothing evaluates here: {}",
        words::names(&dims)
    );
    out
}

pub(super) fn heartbeat(h: &Heartbeat, style: Style) -> String {
    let mut out = title(
        "heartbeat",
        "The auditor lives; its counters since the start",
        style,
    );
    place(&mut out, &h.head);
    counters(&mut out, &h.counters);
    let _ = writeln!(out, "  model digest {}", printable(&h.model_digest));
    out
}

pub(super) fn stop(s: &Stop, style: Style) -> String {
    let mut out = title("stop", "Last line of a run that ended in order", style);
    place(&mut out, &s.head);
    let _ = writeln!(out, "  reason: {}", printable(&s.reason));
    counters(&mut out, &s.counters);
    out
}

fn counters(out: &mut String, counters: &Counters) {
    let Counters {
        events,
        lost_events,
        violations,
        audits,
        drifts,
        suppressed,
        repaired,
        entities,
        tasks,
        allowed,
    } = counters;
    let _ = writeln!(out, "  {events} kernel events, {lost_events} lost");
    let _ = writeln!(
        out,
        "  {violations} violations, {audits} audit records, {drifts} drifts; {suppressed} folded, \
         {allowed} allowed by the policy, {repaired} states repaired by sweeps"
    );
    let _ = writeln!(out, "  {entities} entities and {tasks} tasks live");
}
