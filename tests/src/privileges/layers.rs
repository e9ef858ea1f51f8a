//! What the auditor says of a container's layers, against what the kernel and the tools of libcap say of its first
//! process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use auditor::model::capability;
use auditor::model::setup::IdRange;
use auditor::model::surfaces::SurfaceKind;
use auditor::report::layers::LayersReport;
use auditor::report::privileges::ContainerPrivileges;
use auditor::report::scan::{ScanEntity, ScanReport};

use super::is_set;
use crate::act::capability::has_landlock;
use crate::scenario::Container;

/// A container of root whose filter refuses calls: all that make nodes, and one of two that change the root. Nothing of
/// its own can be written, a directory of the host's can.
pub(super) const FILTERED: Container = Container {
    share: true,
    patch: Some(
        r#"{
            "root": { "readonly": true },
            "linux": { "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    { "names": ["mknod", "mknodat", "chroot"], "action": "SCMP_ACT_ERRNO" },
                    { "names": ["reboot"], "action": "SCMP_ACT_ERRNO",
                      "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }] }
                ]
            } }
        }"#,
    ),
    ..Container::plain("f")
};

/// A container of an ordinary user that no exec gives anything.
pub(super) const SEALED: Container = Container {
    ordinary_user: true,
    patch: Some(r#"{ "process": { "noNewPrivileges": true } }"#),
    ..Container::plain("n")
};

/// Names of the five sets: in a scan, in /proc, and the flag that getpcaps has for it.
const SETS: [(&str, &str, Option<char>); 5] = [
    ("effective", "CapEff:", Some('e')),
    ("permitted", "CapPrm:", Some('p')),
    ("inheritable", "CapInh:", Some('i')),
    ("bounding", "CapBnd:", None),
    ("ambient", "CapAmb:", None),
];

/// What `/proc/PID/status` says.
struct Status(String);

impl Status {
    fn of(pid: i32) -> Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"));
        text.map(Self).context("read a status")
    }

    fn field(&self, name: &str) -> Result<&str> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).with_context(|| format!("no {name}"))
    }
}

/// What a scan says.
pub(super) fn scan(auditor: &Path) -> Result<ScanReport> {
    let output = Command::new(auditor)
        .args(["scan", "--format", "json"])
        .output()
        .context("start a scan")?;
    // Its status says what it found.
    serde_json::from_slice(&output.stdout).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("understand the scan: {said}")
    })
}

/// The five sets of a container's first process, by the kernel and by every tool that this machine has.
pub(super) fn sets_agree(entity: &ScanEntity, pid: i32) -> Result<()> {
    let status = Status::of(pid)?;
    let told = by_getpcaps(pid)?;
    for (name, field, flag) in SETS {
        let have = entity.capabilities.get(name);
        let have = have.with_context(|| format!("no {name} set"))?;
        let hexadecimal = status.field(field)?;
        let mask = u64::from_str_radix(hexadecimal, 16).context("a set that is no number")?;
        is_set(name, have, &capability::names(mask))?;
        if let Some(decoded) = by_capsh(hexadecimal)? {
            let decoded: Vec<&str> = decoded.iter().map(String::as_str).collect();
            is_set(&format!("{name} by capsh"), have, &decoded)?;
        }
        if let (Some(told), Some(flag)) = (&told, flag) {
            let told = told.get(&flag).cloned().unwrap_or_default();
            let told: Vec<&str> = told.iter().map(String::as_str).collect();
            is_set(&format!("{name} by getpcaps"), have, &told)?;
        }
    }
    Ok(())
}

/// Whether a tool of libcap is here; others are proven without.
fn tool(program: &str, argument: &str) -> Result<Option<String>> {
    let output = match Command::new(program).arg(argument).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("start {program}")),
    };
    ensure!(output.status.success(), "{program}: {}", output.status);
    // Older ones write to the standard error.
    let text = [output.stdout, output.stderr].concat();
    Ok(Some(String::from_utf8_lossy(&text).trim().to_owned()))
}

fn bare(name: &str) -> String {
    let upper = name.trim().to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

/// `capsh --decode=…`: `0x…=cap_chown,cap_kill`.
fn by_capsh(hexadecimal: &str) -> Result<Option<Vec<String>>> {
    let Some(text) = tool("capsh", &format!("--decode={hexadecimal}"))? else {
        return Ok(None);
    };
    let (_, list) = text.split_once('=').context("capsh says nothing")?;
    let names = list.split(',').filter(|name| !name.is_empty());
    Ok(Some(names.map(bare).collect()))
}

/// `getpcaps PID`: `PID: cap_chown,cap_kill=ep cap_mknod+i`, in the text form of cap_from_text(3).
fn by_getpcaps(pid: i32) -> Result<Option<BTreeMap<char, BTreeSet<String>>>> {
    let Some(text) = tool("getpcaps", &pid.to_string())? else {
        return Ok(None);
    };
    let (_, clauses) = text.split_once(':').context("getpcaps says nothing")?;
    let mut sets: BTreeMap<char, BTreeSet<String>> = BTreeMap::new();
    for clause in clauses.split_whitespace() {
        let at = clause
            .find(['=', '+', '-'])
            .with_context(|| format!("no operator in {clause}"))?;
        let (names, operation) = clause.split_at(at);
        let names: Vec<String> = match names {
            "" | "all" => capability::NAMES.map(str::to_owned).to_vec(),
            names => names.split(',').map(bare).collect(),
        };
        let mut adds = true;
        for letter in operation.chars() {
            match letter {
                '=' => {
                    for set in sets.values_mut() {
                        set.retain(|name| !names.contains(name));
                    }
                    adds = true;
                }
                '+' => adds = true,
                '-' => adds = false,
                flag if adds => sets.entry(flag).or_default().extend(names.iter().cloned()),
                flag => sets
                    .entry(flag)
                    .or_default()
                    .retain(|name| !names.contains(name)),
            }
        }
    }
    Ok(Some(sets))
}

/// Everything about a container's layers that the kernel shows of its first process.
pub(super) fn layers_agree(layers: &LayersReport, pid: i32) -> Result<()> {
    let status = Status::of(pid)?;
    let seccomp = layers.seccomp.as_ref().context("no seccomp")?;
    let mode = match status.field("Seccomp:")? {
        "0" => "off",
        "1" => "strict",
        _ => "filter",
    };
    let filters: u32 = match status.field("Seccomp_filters:") {
        Ok(filters) => filters.parse().context("a number of filters")?,
        Err(_) => seccomp.filters,
    };
    ensure!(
        (seccomp.mode.as_str(), seccomp.filters) == (mode, filters),
        "{seccomp:?}, the kernel says {mode} and {filters}"
    );
    for (map, file) in [(&layers.uid_map, "uid_map"), (&layers.gid_map, "gid_map")] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).context("read a map")?;
        let map = map.as_ref().with_context(|| format!("no {file}"))?;
        let numbers = |range: &IdRange| [range.inside, range.outside, range.count];
        let have: Vec<u32> = map.iter().flat_map(numbers).collect();
        let want = text.split_whitespace().map(str::parse);
        let want = want.collect::<Result<Vec<u32>, _>>().context("a map")?;
        ensure!(have == want, "{file}: {map:?} instead of {want:?}");
    }
    let label = std::fs::read(format!("/proc/{pid}/attr/current")).unwrap_or_default();
    let label = String::from_utf8_lossy(&label);
    let label = label.trim_end_matches(['\0', '\n']);
    let lsm = layers.lsm.as_ref().context("no LSM")?;
    ensure!(
        lsm.label.as_deref().unwrap_or_default() == label,
        "{lsm:?} instead of {label}"
    );
    ensure!(layers.devices.is_some(), "nothing of devices");
    Ok(())
}

/// A task of the second has restricted itself, where that is possible; nobody of the first has.
pub(super) fn is_restricted(free: &ContainerPrivileges, other: &ContainerPrivileges) -> Result<()> {
    let who = |of: &ContainerPrivileges| of.layers.landlock.clone();
    let want = has_landlock().then(|| "some_task".to_owned());
    ensure!(
        (who(free), who(other)) == (None, want.clone()),
        "{:?} and {:?}, not {want:?}",
        who(free),
        who(other)
    );
    let hides = other.layers.not_shown.iter().any(|name| name == "landlock");
    ensure!(hides == want.is_none(), "{:?}", other.layers.not_shown);
    Ok(())
}

/// What a layer blocks.
fn blocked<'a>(layers: &'a LayersReport, layer: &str) -> &'a [String] {
    let found = layers.blocks.iter().find(|blocks| blocks.layer == layer);
    found.map_or(&[], |blocks| &blocks.capabilities)
}

/// What the filter blocks, and what it does not.
pub(super) fn is_filtered(container: &ContainerPrivileges, share: &Path) -> Result<()> {
    let layers = &container.layers;
    is_set("by seccomp", blocked(layers, "seccomp"), &["MKNOD"])?;
    let seccomp = layers.seccomp.as_ref().context("no seccomp")?;
    let refuses = seccomp.refuses.as_deref().context("no profile")?;
    is_set("refused", refuses, &["chroot", "mknod", "mknodat"])?;
    let granted = container.capabilities.granted.as_ref();
    let granted = granted.context("no grant")?.iter().map(String::as_str);
    let want: Vec<&str> = granted.filter(|name| *name != "MKNOD").collect();
    let remaining = layers.remaining.as_deref().context("nothing remains")?;
    is_set("remaining", remaining, &want)?;
    let surfaces = layers.surfaces.as_deref().context("no surfaces")?;
    match surfaces {
        [only] if only.kind == SurfaceKind::Host => ensure!(
            only.path == "/share" && Path::new(&only.of) == share,
            "{only:?}, not {}",
            share.display()
        ),
        other => bail!("surfaces: {other:?}"),
    }
    Ok(())
}

/// No exec gives it anything, and it has nothing.
pub(super) fn is_sealed(container: &ContainerPrivileges) -> Result<()> {
    let layers = &container.layers;
    is_set(
        "remaining",
        layers.remaining.as_deref().unwrap_or(&["?".to_owned()]),
        &[],
    )?;
    let by = blocked(layers, "no_new_privs");
    ensure!(
        by.len() == capability::NAMES.len(),
        "by no_new_privs: {by:?}"
    );
    Ok(())
}

/// Its user namespace keeps it from what is the machine's.
pub(super) fn is_within(container: &ContainerPrivileges) -> Result<()> {
    let layers = &container.layers;
    let by = blocked(layers, "user_namespace");
    ensure!(by.iter().any(|c| c == "SYS_MODULE"), "not by it: {by:?}");
    let remaining = layers.remaining.as_deref().context("nothing remains")?;
    let has = |name: &str| remaining.iter().any(|c| c == name);
    ensure!(
        has("NET_ADMIN") && !has("MKNOD"),
        "remaining: {remaining:?}"
    );
    Ok(())
}

/// Nothing blocks an ordinary container but its own sets, and nothing of the host's is open to it.
pub(super) fn is_plain(container: &ContainerPrivileges) -> Result<()> {
    let layers = &container.layers;
    let by: Vec<&str> = layers.blocks.iter().map(|b| b.layer.as_str()).collect();
    ensure!(by == ["bounding"], "blocked by {by:?}");
    ensure!(
        layers.remaining == container.capabilities.granted,
        "remaining: {:?}",
        layers.remaining
    );
    ensure!(
        layers.surfaces.as_deref() == Some(&[]),
        "surfaces: {:?}",
        layers.surfaces
    );
    Ok(())
}
