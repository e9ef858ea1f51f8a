//! What a replay costs: a simulated node is recorded, and its trace goes through reader, engine and encoder.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use auditor::agent::replay::Replay;
use auditor::engine::Event;
use auditor::model::policy::Policy;
use auditor::sink::jsonl;
use auditor::trace::{Answer, Header, Item, TraceReader, TraceWriter};
use auditor_tests::node::{self, Node};

use crate::measure::{Goal, median, processor_seconds, say};

/// Containers that live while others come and go.
const LIVING: usize = 100;
/// Units of churn between two sweeps.
const UNITS: usize = 100;
/// Sweeps of a trace: a million records.
const CHUNKS: usize = 100;
const TURNS: usize = 5;

/// A trace of a node, and how many kernel records it holds.
fn record(path: &Path, name: &str, chunks: usize) -> Result<u64> {
    let header = Header::new(&node::config(name), 1, Policy::default().digest());
    let file = BufWriter::new(File::create_new(path).context("make a trace")?);
    let mut trace = TraceWriter::new(file, &header)?;
    let mut engine = node::engine();
    let (mut out, mut count) = (Vec::new(), 0);
    let mut take = |event: Event<'_>| {
        count += 1;
        // The file system is this benchmark's own.
        let mut push = |item: &Item<'_>| trace.push(item).expect("there is room for a trace");
        push(&Item::Event(event));
        engine.step(event, &mut out);
        while let Some(query) = engine.next_query() {
            let answer = node::named(&query.cgroup_path);
            push(&Item::Answer(Answer {
                cgroup_path: &query.cgroup_path,
                init_pid: query.init_pid,
                answer: Some(&answer),
            }));
            let event = Event::Answer {
                query: query.id,
                answer: Some(&answer),
            };
            engine.step(event, &mut out);
        }
        out.clear();
    };
    let mut node = Node::new(500);
    node.sweep(&mut take);
    for _ in 0..LIVING {
        node.start(4);
    }
    let mut seed = 0;
    for _ in 0..chunks {
        for _ in 0..UNITS {
            seed += 1;
            node.churn(seed);
        }
        node.sweep(&mut take);
    }
    trace.push(&Item::Stop {
        boottime_ns: node.now_ns(),
        reason: "duration",
    })?;
    trace.finish()?;
    Ok(count)
}

/// Processor seconds from file to lines, on this thread.
fn replay(path: &Path) -> Result<f64> {
    let started = processor_seconds();
    let file = BufReader::with_capacity(1 << 18, File::open(path).context("open a trace")?);
    let mut trace = TraceReader::open(file)?;
    let mut replay = Replay::new(trace.header(), None);
    let (mut out, mut bytes) = (Vec::new(), 0);
    while let Some(item) = trace.next_item()? {
        replay.take(&item, &mut out);
        for record in out.drain(..) {
            bytes += jsonl::encode(&record)?.len();
        }
    }
    ensure!(bytes > 0, "the replay said nothing");
    Ok(processor_seconds() - started)
}

/// Wall-clock seconds and the largest resident set, in KiB, of the program over these files.
fn run(auditor: &Path, traces: &[&PathBuf]) -> Result<(f64, f64)> {
    let started = Instant::now();
    let child = Command::new(auditor)
        .args(["replay", "--format", "json"])
        .args(traces)
        .stdout(Stdio::null())
        .spawn()
        .context("start a replay")?;
    let mut status = 0;
    // SAFETY: a plain C structure, all zero is a valid one; the child is ours and not waited for elsewhere.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        let done = libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage);
        ensure!(done > 0, "wait for a replay");
        usage
    };
    ensure!(libc::WIFEXITED(status), "the replay was killed");
    Ok((started.elapsed().as_secs_f64(), usage.ru_maxrss as f64))
}

/// Events per second, scaling over two files, memory by length.
pub(crate) fn main(auditor: &Path) -> Result<()> {
    let directory = tempfile::tempdir().context("make a directory")?;
    let path = |name: &str| directory.path().join(name);
    let (long, other, short) = (path("a.atrace"), path("b.atrace"), path("c.atrace"));
    let events = record(&long, "a", CHUNKS)?;
    record(&other, "b", CHUNKS)?;
    record(&short, "c", CHUNKS / 10)?;
    let mut rates = Vec::new();
    for _ in 0..TURNS {
        rates.push(events as f64 / replay(&long)?);
    }
    let rate = median(rates);
    say(
        "replay.rate",
        rate / 1e6,
        "million events/s",
        Goal::AtLeast(3.0),
    );
    say("replay.event", 1e9 / rate, "ns", Goal::None);
    let size = std::fs::metadata(&long).context("look at a trace")?.len();
    say(
        "replay.bytes",
        size as f64 / events as f64,
        "bytes/event",
        Goal::None,
    );
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let (mut short_kb, mut long_kb) = (0.0_f64, 0.0_f64);
    for _ in 0..TURNS {
        let (seconds, kilobytes) = run(auditor, &[&long])?;
        one.push(seconds);
        long_kb = long_kb.max(kilobytes);
        two.push(run(auditor, &[&long, &other])?.0);
        short_kb = short_kb.max(run(auditor, &[&short])?.1);
    }
    say(
        "replay.two",
        median(two) / median(one),
        "×",
        Goal::AtMost(1.2),
    );
    say("replay.memory", long_kb / 1024.0, "MiB", Goal::AtMost(60.0));
    say("replay.longer", long_kb / short_kb, "×", Goal::AtMost(1.1));
    Ok(())
}
