//! What the engine costs: time per event, memory of a large node, time of a scan of it.

use std::time::Instant;

use anyhow::{Context, Result};
use auditor::agent::once;
use auditor_tests::node::{self, Node};

use crate::measure::{Goal, median, processor_seconds, say};

/// Containers that live while others come and go.
const LIVING: usize = 100;
/// Units of churn per timed chunk: about 10,000 records, as many as the reader hands over when it is behind.
const UNITS: usize = 100;
const CHUNKS: usize = 60;
/// Containers of a large node.
const MANY: usize = 1000;

/// Events per second on one core.
pub(crate) fn engine() {
    let mut engine = node::engine();
    let mut out = Vec::new();
    let mut node = Node::new(500);
    node.sweep(|event| node::step(&mut engine, event, &mut out));
    for _ in 0..LIVING {
        node.start(4);
    }
    let mut rates = Vec::new();
    let mut seed = 0;
    for _ in 0..CHUNKS {
        for _ in 0..UNITS {
            seed += 1;
            node.churn(seed);
        }
        let records = std::mem::take(&mut node.records);
        let started = processor_seconds();
        for record in &records {
            node::step(&mut engine, record.event(), &mut out);
        }
        rates.push(records.len() as f64 / (processor_seconds() - started));
        // Once a second a sweep forgets who ended.
        node.sweep(|event| node::step(&mut engine, event, &mut out));
        out.clear();
    }
    let rate = median(rates);
    say(
        "engine.rate",
        rate / 1e6,
        "million events/s",
        Goal::AtLeast(2.0),
    );
    say("engine.event", 1e9 / rate, "ns", Goal::None);
}

/// Memory of a large node, and the time of its matrix.
pub(crate) fn large() -> Result<()> {
    let before = sys_memory("VmRSS")?;
    let mut node = Node::new(500);
    let mut engine = node::engine();
    let mut out = Vec::new();
    node.sweep(|event| node::step(&mut engine, event, &mut out));
    for _ in 0..MANY {
        node.start(4);
        for record in std::mem::take(&mut node.records) {
            node::step(&mut engine, record.event(), &mut out);
        }
    }
    let entities = engine.index().entities().count();
    anyhow::ensure!(entities == MANY + 1, "the engine found {entities} entities");
    node.sweep(|event| node::step(&mut engine, event, &mut out));
    // Only the engine is to be counted.
    drop(node);
    drop(out);
    // SAFETY: malloc_trim has no preconditions and frees only what is free.
    unsafe { libc::malloc_trim(0) };
    let after = sys_memory("VmRSS")?;
    let megabytes = |kilobytes: f64| kilobytes / 1024.0;
    say(
        "memory.engine",
        megabytes(after - before),
        "MiB",
        Goal::None,
    );
    let mut times = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let report = once::report(&engine, 0);
        let json = serde_json::to_vec(&report)?;
        times.push(started.elapsed().as_secs_f64());
        anyhow::ensure!(
            report.summary.entities == entities as u64 && !json.is_empty(),
            "the report lacks entities"
        );
    }
    say("scan.report", median(times), "s", Goal::AtMost(1.0));
    Ok(())
}

/// A line of this process's status, in KiB.
fn sys_memory(name: &str) -> Result<f64> {
    memory_of("self", name)
}

/// A line of a process's status, in KiB.
pub(crate) fn memory_of(pid: &str, name: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("{path} has no {name}"))
}
