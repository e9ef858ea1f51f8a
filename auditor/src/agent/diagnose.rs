//! The diagnosis: everything is tried, nothing is assumed, nothing stays attached.

use super::live::at_rest;
use super::sensing::{Sensor, load_options, not_evaluated};
use crate::cli::config::TierChoice;
use crate::cli::failure::Failure;
use crate::cli::sight::Sight;
use crate::model::output::{HookState, SCHEMA};
use crate::model::own::{OwnLedger, OwnPrivileges};
use crate::model::{Dimension, Tier, syscalls, text};
use crate::report::doctor::{
    BtfSource, CapabilityState, CgroupLayout, CgroupMode, CgroupV1, DoctorReport, DoctorType,
    MissingField,
};
use crate::sensor::caps;
use crate::sensor::cgroupfs::CgroupTree;
use crate::sensor::clock::{self, Machine};
use crate::sensor::preemption;
use crate::sensor::procfs::ProcFs;
use crate::sensor::resolve::{VMLINUX_BTF, load_btf};
use std::collections::BTreeMap;

/// Tries everything and tells.
///
/// # Errors
/// A [`Failure`] when not even the machine can be named.
pub fn doctor(options: &Sight) -> anyhow::Result<DoctorReport> {
    let machine = Machine::read().map_err(|e| {
        Failure::new("cannot tell which machine this is", "mount /proc").caused_by(e)
    })?;
    let (proc, tree) = at_rest(&machine)?;
    let btf = BtfSource {
        path: options
            .btf
            .as_ref()
            .map_or_else(|| VMLINUX_BTF.to_owned(), |p| p.display().to_string()),
        error: load_btf(options.btf.as_deref())
            .err()
            .map(|e| e.to_string()),
    };
    let mut own = OwnLedger::default();
    own.grant(caps::permitted(), false);
    let (mut sensor, refused) = attempt(options, &proc, &tree);
    for by in sensor
        .as_mut()
        .map(Sensor::take_own_uses)
        .unwrap_or_default()
    {
        let syscall = syscalls::all_of(&machine.arch)(by.syscall);
        own.note(by.capability, by.granted, by.probe, syscall);
    }
    let hooks = sensor
        .as_ref()
        .map(|s| s.states().to_vec())
        .unwrap_or_default();
    let fields_missing = sensor
        .iter()
        .flat_map(|s| &s.fields().missing)
        .map(|field| MissingField {
            field: field
                .tried
                .iter()
                .map(|(path, _)| *path)
                .collect::<Vec<_>>()
                .join(" or "),
            not_seen: field.sees.to_owned(),
        });
    let fields_missing = fields_missing.collect();
    let tier = sensor.as_ref().filter(|s| s.is_live()).map(Sensor::tier);
    let not_evaluated = not_evaluated(sensor.as_ref());
    let sees_uses = sensor.as_ref().is_some_and(Sensor::sees_uses);
    drop(sensor);
    let own = own.report(sees_uses, true).unwrap_or_default();
    let capabilities = capabilities(&machine, &own);
    let excess = own
        .excess
        .as_ref()
        .map(|names| excess(names, &capabilities));
    let unix_ns = i128::from(clock::boottime_ns()) + i128::from(clock::realtime_offset_ns());
    Ok(DoctorReport {
        schema: SCHEMA.to_owned(),
        kind: DoctorType::Doctor,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi: auditor_common::ABI_VERSION,
        node: machine.node,
        time: text::rfc3339(unix_ns),
        kernel: machine.kernel_release,
        arch: machine.arch,
        boot_id: machine.boot_id,
        advice: advice(tier, &hooks, &capabilities, refused.as_deref()),
        not_seen: not_seen(tier, &hooks, refused.as_deref(), &not_evaluated),
        btf,
        tier,
        lockdown: lockdown(),
        hooks,
        capabilities,
        excess,
        cgroups: cgroups(&tree),
        fields_missing,
        not_evaluated,
    })
}

fn attempt(options: &Sight, proc: &ProcFs, tree: &CgroupTree) -> (Option<Sensor>, Option<String>) {
    if options.tier == TierChoice::Scan {
        return (None, None);
    }
    let load = load_options(options, 1 << 20);
    match Sensor::open(&load, proc, tree) {
        Ok(sensor) => (Some(sensor), None),
        Err(error) => (None, Some(error.to_string())),
    }
}

/// What is left of capabilities that were not used, without those that are needed.
fn excess(unused: &[String], needed: &[CapabilityState]) -> Vec<String> {
    let full = unused.iter().map(|name| full(name));
    full.filter(|name| needed.iter().all(|capability| capability.name != *name))
        .collect()
}

/// As this report spells it.
fn full(name: &str) -> String {
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => name.to_owned(),
        false => format!("CAP_{name}"),
    }
}

fn capabilities(machine: &Machine, own: &OwnPrivileges) -> Vec<CapabilityState> {
    let held = caps::effective().unwrap_or_default();
    let mut needs: BTreeMap<String, (bool, Vec<&str>)> = BTreeMap::new();
    for requirement in caps::requirements(machine.kernel, caps::perf_event_paranoid()) {
        for cap in &requirement.all {
            let entry = needs
                .entry(cap.to_string())
                .or_insert((held.contains(cap), Vec::new()));
            entry.1.push(requirement.purpose);
        }
    }
    for name in own.used.keys() {
        needs.entry(full(name)).or_insert((true, Vec::new()));
    }
    let state = |(name, (have, purposes)): (String, (bool, Vec<&str>))| CapabilityState {
        used_by: name
            .strip_prefix("CAP_")
            .and_then(|bare| own.used.get(bare))
            .cloned()
            .unwrap_or_default(),
        name,
        have,
        needed_for: purposes.join("; "),
    };
    needs.into_iter().map(state).collect()
}

/// The kernel says `none [integrity] confidentiality`.
fn lockdown() -> Option<String> {
    let text = std::fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode.to_owned())
}

fn cgroups(tree: &CgroupTree) -> CgroupLayout {
    let path = |bytes: &[u8]| text::escape(bytes);
    let v2 = tree
        .hierarchies()
        .find(|h| h.id == 0)
        .map(|h| path(&h.mount_point));
    let v1: Vec<CgroupV1> = tree
        .hierarchies()
        .filter(|h| h.id != 0)
        .map(|h| CgroupV1 {
            controllers: match &h.name {
                Some(name) => vec![format!("name={name}")],
                None => h.controllers.clone(),
            },
            mount: path(&h.mount_point),
        })
        .collect();
    let mode = match (v2.is_some(), v1.is_empty()) {
        (true, true) => CgroupMode::V2,
        (true, false) => CgroupMode::Hybrid,
        (false, false) => CgroupMode::V1,
        (false, true) => CgroupMode::None,
    };
    CgroupLayout {
        mode,
        v2_mount: v2,
        v1,
    }
}

fn not_seen(
    tier: Option<Tier>,
    hooks: &[HookState],
    refused: Option<&str>,
    not_evaluated: &[Dimension],
) -> Vec<String> {
    let mut unseen = Vec::new();
    if let Some(why) = refused {
        unseen.push(format!("everything as it happens: {why}"));
    } else if tier.is_none() {
        unseen.push("changes as they happen: only what a sweep finds".to_owned());
    }
    unseen.extend(hooks.iter().filter_map(|h| {
        Some(format!(
            "{} ({} does not work)",
            h.not_seen.as_ref()?,
            h.hook
        ))
    }));
    if tier.is_some() && preemption::is_preemptible() {
        unseen.push(
            "what a task does while another one is interrupted in the same program on its CPU: the kernel leaves the \
             program out, unless it is asked as a security module, and a line says so (loss)"
                .to_owned(),
        );
    }
    if hooks.iter().any(|hook| hook.module) {
        unseen.push(
            "what another security module refuses, at most hooks that are asked as one".to_owned(),
        );
    }
    if tier.is_none() || !not_evaluated.is_empty() {
        unseen.push("open files of other containers and of the host (references)".to_owned());
    }
    unseen
}

fn advice(
    tier: Option<Tier>,
    hooks: &[HookState],
    capabilities: &[CapabilityState],
    refused: Option<&str>,
) -> Vec<String> {
    let mut advice = Vec::new();
    let lacking: Vec<&str> = capabilities
        .iter()
        .filter(|c| !c.have)
        .map(|c| c.name.as_str())
        .collect();
    if tier != Some(Tier::Trampoline) && !lacking.is_empty() {
        advice.push(format!("give the process {}", lacking.join(", ")));
    }
    if refused.is_some_and(|why| why.contains("BTF") || why.contains("btf")) {
        advice
            .push("use a kernel with CONFIG_DEBUG_INFO_BTF, or give its BTF with --btf".to_owned());
    }
    let refused_by_policy = |h: &HookState| {
        h.tier == Tier::Trampoline
            && h.error
                .as_ref()
                .is_some_and(|e| e.contains("Operation not permitted"))
    };
    if tier == Some(Tier::Tracepoint) && hooks.iter().any(refused_by_policy) {
        advice.push(
            "this kernel refuses trampolines; the tracepoint tier sees the same, at a small cost for every syscall"
                .to_owned(),
        );
    }
    if tier == Some(Tier::Trampoline)
        && preemption::is_preemptible()
        && !preemption::asks_programs()
    {
        advice.push(
            "add bpf to the kernel's list of security modules (lsm= on its command line): its programs are never left out"
                .to_owned(),
        );
    }
    if tier.is_none() {
        advice.push("without a live tier: auditor watch --tier scan, auditor scan".to_owned());
    }
    advice
}
