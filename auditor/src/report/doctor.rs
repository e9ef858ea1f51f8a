//! What this kernel and these permissions allow: the answer of `auditor doctor`.
//!
//! The point of the report is its last part: a tool that watches must say what it cannot see.

use super::words::pad;
use crate::model::output::HookState;
use crate::model::{Dimension, Tier};
use crate::sink::human::{Paint, Style, printable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The value of `type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DoctorType {
    /// The only one.
    #[default]
    Doctor,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    /// Always `auditor/1`.
    pub schema: String,
    /// Always `doctor`.
    #[serde(rename = "type")]
    pub kind: DoctorType,
    /// Version of the auditor.
    pub version: String,
    /// Version of the kernel/user ABI of the object.
    pub abi: u32,
    /// Name of the machine.
    pub node: String,
    /// UTC with nanoseconds.
    pub time: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture.
    pub arch: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Where the kernel's types come from.
    pub btf: BtfSource,
    /// Best live tier that works; null: none, only `scan`.
    pub tier: Option<Tier>,
    /// Kernel lockdown: `none`, `integrity`, `confidentiality`; null where the kernel has none.
    pub lockdown: Option<String>,
    /// Every hook, tried.
    pub hooks: Vec<HookState>,
    /// Every capability that something needs here, or that was used while all was tried.
    pub capabilities: Vec<CapabilityState>,
    /// Capabilities that it has, and neither needs nor used; null: no hook saw uses.
    #[serde(default)]
    pub excess: Option<Vec<String>>,
    /// The layout of the cgroup hierarchies.
    pub cgroups: CgroupLayout,
    /// Kernel fields that this kernel does not have.
    pub fields_missing: Vec<MissingField>,
    /// Dimensions that nothing evaluates here.
    pub not_evaluated: Vec<Dimension>,
    /// What will not be seen, in sentences.
    pub not_seen: Vec<String>,
    /// What to do about it, in sentences.
    pub advice: Vec<String>,
}

/// Where the kernel's types come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BtfSource {
    /// Path of the file that was tried.
    pub path: String,
    /// Why it cannot be used; null: it can.
    pub error: Option<String>,
}

/// One capability of the auditor's own process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapabilityState {
    /// `CAP_BPF` and so on.
    pub name: String,
    /// Whether it is effective.
    pub have: bool,
    /// What needs it.
    pub needed_for: String,
    /// The system calls by which it was used while all was tried; `?`: not known. None: it was not.
    #[serde(default)]
    pub used_by: Vec<String>,
}

/// How cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CgroupMode {
    /// One v1 hierarchy per controller.
    V1,
    /// The unified hierarchy only.
    V2,
    /// Both.
    Hybrid,
    /// None is mounted, or none is visible.
    None,
}

/// The cgroup hierarchies of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupLayout {
    /// In short.
    pub mode: CgroupMode,
    /// Where v2 is mounted.
    pub v2_mount: Option<String>,
    /// The v1 hierarchies.
    pub v1: Vec<CgroupV1>,
}

/// One v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupV1 {
    /// Its controllers, or its name (`name=systemd`).
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: String,
}

/// A field that the kernel lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingField {
    /// `type.member`.
    pub field: String,
    /// What is not seen without it.
    pub not_seen: String,
}

impl DoctorReport {
    /// The report as text.
    #[must_use]
    pub fn table(&self, style: Style) -> String {
        let mut out = String::new();
        self.machine(style, &mut out);
        self.hook_table(style, &mut out);
        self.capability_table(style, &mut out);
        let missing: Vec<String> = self
            .fields_missing
            .iter()
            .map(|f| {
                format!(
                    "{}: not seen: {}",
                    printable(&f.field),
                    printable(&f.not_seen)
                )
            })
            .collect();
        section(&mut out, style, "Kernel fields missing", &missing);
        let dims: Vec<String> = self.not_evaluated.iter().map(ToString::to_string).collect();
        section(
            &mut out,
            style,
            "Dimensions that nothing evaluates here",
            &dims,
        );
        section(&mut out, style, "What will not be seen", &self.not_seen);
        section(&mut out, style, "Advice", &self.advice);
        out
    }

    // Writing to a String cannot fail, here and below.
    fn machine(&self, style: Style, out: &mut String) {
        let tier = match self.tier {
            Some(tier) => style.paint(Paint::Good, tier.as_str()),
            None => style.paint(Paint::Bad, "none: only \"auditor scan\" works here"),
        };
        let btf = match &self.btf.error {
            None => printable(&self.btf.path).into_owned(),
            Some(e) => format!("{}: {}", printable(&self.btf.path), printable(e)),
        };
        let rows = [
            (
                "auditor",
                format!("{} (ABI {})", printable(&self.version), self.abi),
            ),
            ("node", printable(&self.node).into_owned()),
            (
                "kernel",
                format!("{} ({})", printable(&self.kernel), printable(&self.arch)),
            ),
            ("boot", printable(&self.boot_id).into_owned()),
            ("kernel types", btf),
            (
                "lockdown",
                printable(self.lockdown.as_deref().unwrap_or("not built in")).into_owned(),
            ),
            ("cgroups", self.cgroups.in_words()),
            ("live tier", tier),
        ];
        for (key, value) in rows {
            let _ = writeln!(out, "{} {value}", style.paint(Paint::Strong, &pad(key, 13)));
        }
    }

    fn hook_table(&self, style: Style, out: &mut String) {
        if self.hooks.is_empty() {
            return;
        }
        heading(out, style, "Hooks");
        let width = self
            .hooks
            .iter()
            .map(|h| h.hook.chars().count())
            .max()
            .unwrap_or(0);
        for hook in &self.hooks {
            let paint = match hook.state.as_str() {
                "fires" => Paint::Good,
                "attached" | "not_needed" => Paint::Dim,
                _ => Paint::Bad,
            };
            let state = style.paint(paint, &pad(&printable(&hook.state), 10));
            let module = if hook.module {
                " as a security module"
            } else {
                ""
            };
            let _ = write!(
                out,
                "  {} {:<10} {state}{module}",
                pad(&hook.hook, width),
                hook.tier
            );
            if let Some(error) = &hook.error {
                let _ = write!(out, " {}", printable(error));
            }
            if let Some(not_seen) = &hook.not_seen {
                let _ = write!(out, " (not seen: {})", printable(not_seen));
            }
            let _ = writeln!(out);
        }
    }

    fn capability_table(&self, style: Style, out: &mut String) {
        if self.capabilities.is_empty() {
            return;
        }
        heading(out, style, "Capabilities");
        for capability in &self.capabilities {
            let (paint, mark) = if capability.have {
                (Paint::Good, "have   ")
            } else {
                (Paint::Warn, "missing")
            };
            let mut why = printable(&capability.needed_for).into_owned();
            if !capability.used_by.is_empty() {
                let used_by = capability.used_by.join(" ");
                let _ = write!(why, " (used: {})", printable(&used_by));
            }
            let _ = writeln!(
                out,
                "  {} {} {why}",
                style.paint(paint, mark),
                pad(&printable(&capability.name), 24),
            );
        }
        let excess = match self.excess.as_deref() {
            None => "not known: no hook sees uses".to_owned(),
            Some([]) => "none".to_owned(),
            Some(names) => names.join(" "),
        };
        let _ = writeln!(out, "  excess  {}", printable(&excess));
    }
}

impl CgroupLayout {
    fn in_words(&self) -> String {
        let v2 = self
            .v2_mount
            .as_deref()
            .map(|m| format!("v2 on {}", printable(m)));
        let v1 = (!self.v1.is_empty()).then(|| format!("{} v1 hierarchies", self.v1.len()));
        match (v2, v1) {
            (Some(v2), Some(v1)) => format!("hybrid: {v2}, {v1}"),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => "none visible".to_owned(),
        }
    }
}

fn heading(out: &mut String, style: Style, text: &str) {
    let _ = writeln!(out, "\n{}", style.paint(Paint::Strong, text));
}

fn section(out: &mut String, style: Style, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    heading(out, style, title);
    for line in lines {
        let _ = writeln!(out, "  - {}", printable(line));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{
        BtfSource, CapabilityState, CgroupLayout, CgroupMode, CgroupV1, DoctorReport, DoctorType,
        MissingField,
    };
    use crate::model::output::{HookState, SCHEMA};
    use crate::model::{Dimension, Tier};
    use crate::sink::human::Style;

    pub(crate) fn sample() -> DoctorReport {
        DoctorReport {
            schema: SCHEMA.to_owned(),
            kind: DoctorType::Doctor,
            version: "0.1.0".to_owned(),
            abi: 1,
            node: "n1".to_owned(),
            time: "2026-11-23T10:30:00.123456789Z".to_owned(),
            kernel: "6.12.9".to_owned(),
            arch: "x86_64".to_owned(),
            boot_id: "5f3a1c52-77be-4c0e-9d34-0a9f3b6f2c11".to_owned(),
            btf: BtfSource {
                path: "/sys/kernel/btf/vmlinux".to_owned(),
                error: None,
            },
            tier: Some(Tier::Tracepoint),
            lockdown: None,
            hooks: vec![HookState {
                hook: "set_fs_root".to_owned(),
                tier: Tier::Trampoline,
                state: "failed".to_owned(),
                module: false,
                error: Some("operation not permitted".to_owned()),
                not_seen: Some("chroot".to_owned()),
            }],
            capabilities: vec![CapabilityState {
                name: "CAP_SYS_ADMIN".to_owned(),
                have: false,
                needed_for: "syscall tracepoints".to_owned(),
                used_by: vec!["bpf".to_owned()],
            }],
            excess: Some(vec!["CAP_CHOWN".to_owned()]),
            cgroups: CgroupLayout {
                mode: CgroupMode::Hybrid,
                v2_mount: Some("/sys/fs/cgroup/unified".to_owned()),
                v1: vec![CgroupV1 {
                    controllers: vec!["cpu".to_owned(), "cpuacct".to_owned()],
                    mount: "/sys/fs/cgroup/cpu,cpuacct".to_owned(),
                }],
            },
            fields_missing: vec![MissingField {
                field: "nsproxy.time_ns".to_owned(),
                not_seen: "time namespaces".to_owned(),
            }],
            not_evaluated: vec![Dimension::References],
            not_seen: vec!["A directory descriptor passed over a socket.".to_owned()],
            advice: vec!["Boot without lockdown to get the trampoline tier.".to_owned()],
        }
    }

    /// Goal: the table says everything that the JSON says, and is plain where asked.
    #[test]
    fn the_table_is_complete() {
        let text = sample().table(Style::Plain);
        for part in [
            "6.12.9",
            "tracepoint",
            "set_fs_root",
            "operation not permitted",
            "not seen: chroot",
            "missing CAP_SYS_ADMIN",
            "(used: bpf)",
            "excess  CAP_CHOWN",
            "hybrid: v2 on /sys/fs/cgroup/unified, 1 v1 hierarchies",
            "nsproxy.time_ns",
            "references",
            "passed over a socket",
            "Boot without lockdown",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    /// Goal: JSON and schema agree.
    #[test]
    fn validates_against_its_schema() {
        let schema = serde_json::to_value(schemars::schema_for!(DoctorReport)).unwrap();
        let value = serde_json::to_value(sample()).unwrap();
        jsonschema::validator_for(&schema)
            .unwrap()
            .validate(&value)
            .unwrap();
        assert_eq!(
            serde_json::from_value::<DoctorReport>(value).unwrap(),
            sample()
        );
    }
}
