//! The sensor alone, without engine or policy: attaches what this kernel allows, compares the iterator with
//! /proc, lets the self-test helper act, and says what came of it. For work on the kernel programs:
//! `cargo run --example sensor`, as root. Arguments: `--tracepoints` attaches those of the tracepoint tier
//! as well, `--tiny` takes the smallest rings, anything else is a shell command to watch.

use anyhow::{Context as _, Result, ensure};
use auditor::sensor::attach::Types;
use auditor::sensor::cgroupfs::{CgroupTree, slot_of};
use auditor::sensor::clock::Machine;
use auditor::sensor::load::{Ring, Sensor, Setup};
use auditor::sensor::procfs::ProcFs;
use auditor::sensor::resolve::{load_btf, resolve};
use auditor::sensor::selftest::compare::compare;
use auditor::sensor::selftest::helper::{
    EXIT_ARGUMENT, HELPER_COMMAND, HelperReport, run_helper, spawn_and_wait,
};
use auditor::sensor::snapshot::Snapshot;
use auditor_common::fields::FIELDS;
use auditor_common::hook::{HOOKS, Tier};
use auditor_common::record::{
    CgroupRecord, ExecRecord, ExitRecord, RecordHeader, TaskRecord, kernel_str, kind, ns,
};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use zerocopy::FromBytes as _;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == EXIT_ARGUMENT) {
        return Ok(());
    }
    if arguments.iter().any(|argument| argument == HELPER_COMMAND) {
        return Ok(run_helper()?);
    }
    let machine = Machine::read()?;
    println!("kernel {}", machine.kernel_release);
    let resolved = resolve(&load_btf(None)?, FIELDS)?;
    for row in &resolved.missing {
        println!("missing {}", row.symbol);
    }
    let tree = CgroupTree::read()?;
    let mut setup = Setup {
        v1_slots: v1_slots(&tree),
        ..Setup::default()
    };
    if has_argument("--tiny") {
        (setup.events_bytes, setup.bulk_bytes) = (4096, 4096);
    }
    let mut sensor = Sensor::load(&resolved, &setup)?;
    let attached = attach(&mut sensor)?;
    iterate(
        &mut sensor,
        &ProcFs::open(Path::new("/proc"), machine.kernel)?,
        &tree,
    )?;
    let report = spawn_and_wait()?;
    for command in arguments
        .iter()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
    {
        let status = Command::new("/bin/sh").args(["-c", command]).status()?;
        println!("command: {status}");
    }
    std::thread::sleep(Duration::from_millis(300));
    drain(&mut sensor, &report)?;
    for (spec, count) in HOOKS.iter().zip(sensor.counts()?) {
        if count != auditor::sensor::load::HookCount::default() {
            println!("count {} {count:?}", spec.name);
        }
    }
    ensure!(attached, "no hook attached");
    println!("done");
    Ok(())
}

fn has_argument(wanted: &str) -> bool {
    std::env::args().any(|argument| argument == wanted)
}

fn v1_slots(tree: &CgroupTree) -> u32 {
    let controllers = tree
        .hierarchies()
        .flat_map(|hierarchy| &hierarchy.controllers);
    controllers
        .filter_map(|controller| slot_of(controller))
        .fold(0, |slots, slot| slots | 1 << slot)
}

fn attach(sensor: &mut Sensor) -> Result<bool> {
    let types = Types::from_kernel()?;
    let mut outcome = sensor.attach_all(&types);
    if has_argument("--tracepoints") {
        // Those that stand in for a trampoline are there already.
        for (index, spec) in (0u16..).zip(HOOKS) {
            if spec.tier == Tier::Tracepoint && !outcome.contains_key(&index) {
                outcome.insert(index, sensor.attach(&types, index));
            }
        }
    }
    for (index, result) in &outcome {
        let program = HOOKS[usize::from(*index)].program;
        match result {
            Ok(()) => println!(
                "hook {program}: attached, {:?} verified",
                sensor.verified_instructions(*index)
            ),
            Err(error) => {
                let text = format!("{:#}", anyhow::anyhow!("{error:?}"));
                let tail = text.replace("\\n", "\n").replace("\\t", " ");
                let tail: Vec<&str> = tail.lines().rev().take(25).collect();
                println!("hook {program}: {error}");
                for line in tail.iter().rev() {
                    println!("    {line}");
                }
            }
        }
    }
    Ok(outcome.values().any(Result::is_ok))
}

fn iterate(sensor: &mut Sensor, proc: &ProcFs, tree: &CgroupTree) -> Result<()> {
    let before = Snapshot::read(proc, tree)?;
    let mut bytes = Vec::new();
    let started = std::time::Instant::now();
    sensor
        .iterate()
        .context("iterator")?
        .read_to_end(&mut bytes)?;
    let took = started.elapsed();
    let after = Snapshot::read(proc, tree)?;
    let records: Vec<TaskRecord> = bytes
        .chunks(size_of::<TaskRecord>())
        .map(|chunk| {
            TaskRecord::read_from_bytes(chunk).map_err(|_| anyhow::anyhow!("a partial record"))
        })
        .collect::<Result<_>>()?;
    let comparison = compare(&before.tasks, &records, &after.tasks);
    println!(
        "iterator: {} records in {took:?}, {} compared, {} skipped, {} absent, {} disagreements",
        records.len(),
        comparison.compared,
        comparison.skipped,
        comparison.absent.len(),
        comparison.disagreements.len()
    );
    for disagreement in comparison.disagreements.iter().take(20) {
        println!("    {disagreement}");
    }
    for key in &comparison.absent {
        println!("    absent {}/{}", key.tgid, key.tid);
    }
    if let Some(own) = records
        .iter()
        .find(|record| record.state.key.tid == std::process::id())
    {
        println!("own {:?}", own.state);
    }
    Ok(())
}

fn drain(sensor: &mut Sensor, report: &HelperReport) -> Result<()> {
    for ring in [Ring::Events, Ring::Bulk] {
        let mut buffer = sensor.take_ring(ring).context("ring was taken")??;
        let mut seen = 0;
        while let Some(item) = buffer.next() {
            seen += 1;
            show(&item, report)?;
        }
        println!("ring {}: {seen} records", ring.map());
    }
    println!("acts {:?}", report.acts);
    Ok(())
}

fn show(bytes: &[u8], report: &HelperReport) -> Result<()> {
    let (header, _) =
        RecordHeader::read_from_prefix(bytes).map_err(|_| anyhow::anyhow!("short record"))?;
    ensure!(
        usize::from(header.size) == bytes.len(),
        "record of {} bytes says {}",
        bytes.len(),
        header.size
    );
    let hook = HOOKS[usize::from(header.hook)].name;
    let at = format!("{hook} cpu {} seq {}", header.cpu, header.cpu_seq);
    match header.kind {
        kind::TASK => show_task(&at, bytes, "", report),
        kind::EXEC => {
            let (record, _) =
                ExecRecord::read_from_prefix(bytes).map_err(|_| anyhow::anyhow!("short exec"))?;
            show_task(
                &at,
                bytes,
                &String::from_utf8_lossy(kernel_str(&record.filename)),
                report,
            );
        }
        kind::EXIT => {
            let (record, _) =
                ExitRecord::read_from_prefix(bytes).map_err(|_| anyhow::anyhow!("short exit"))?;
            println!("{at}: {} code {}", record.key.tid, record.exit_code);
        }
        kind::CGROUP => {
            let (record, _) = CgroupRecord::read_from_prefix(bytes)
                .map_err(|_| anyhow::anyhow!("short cgroup"))?;
            let path =
                String::from_utf8_lossy(&record.path[..record.path_len as usize]).into_owned();
            println!(
                "{at}: op {} id {} parent {} hierarchy {} actor {} {path}",
                record.op, record.id, record.parent_id, record.hierarchy, record.actor.tid
            );
        }
        other => println!("{at}: kind {other}"),
    }
    Ok(())
}

fn show_task(at: &str, bytes: &[u8], filename: &str, report: &HelperReport) {
    let Ok((record, _)) = TaskRecord::read_from_prefix(bytes) else {
        return;
    };
    let state = &record.state;
    let mine = [state.key.tgid, record.actor.tgid].contains(&report.pid)
        || report.children.contains(&state.key.tgid);
    println!(
        "{at}: {} task {}/{} {} actor {} cause {} syscall {} args {:#x} {:#x} known {:#x} uts {} mnt {} user {} eff {:x} cgroup {} root {:?} cwd {:?} {filename}",
        if mine { "helper" } else { "other" },
        state.key.tgid,
        state.key.tid,
        String::from_utf8_lossy(kernel_str(&state.comm)),
        record.actor.tid,
        record.cause,
        record.syscall,
        record.arg0,
        record.arg1,
        state.known,
        state.ns[ns::UTS].inum,
        state.ns[ns::MNT].inum,
        state.ns[ns::USER].inum,
        state.creds.cap_effective,
        state.cgroups[0],
        (state.root.mnt_ns_inum, state.root.mnt_id, state.root.ino),
        (state.cwd.mnt_ns_inum, state.cwd.mnt_id, state.cwd.ino),
    );
}
