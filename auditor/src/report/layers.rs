//! What stands between a container and each capability, as reports have it.

use super::words::pad;
use crate::model::capability;
use crate::model::layers::{Devices, Layer, Layers, Seccomp};
use crate::model::lsm::Label;
use crate::model::setup::{DeviceRule, IdRange};
use crate::model::surfaces::{Surface, SurfaceKind};
use crate::sink::human::{Paint, Style, printable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Flags of `securebits`, by bit.
const SECUREBITS: [&str; 12] = [
    "NOROOT",
    "NOROOT_LOCKED",
    "NO_SETUID_FIXUP",
    "NO_SETUID_FIXUP_LOCKED",
    "KEEP_CAPS",
    "KEEP_CAPS_LOCKED",
    "NO_CAP_AMBIENT_RAISE",
    "NO_CAP_AMBIENT_RAISE_LOCKED",
    "EXEC_RESTRICT_FILE",
    "EXEC_RESTRICT_FILE_LOCKED",
    "EXEC_DENY_INTERACTIVE",
    "EXEC_DENY_INTERACTIVE_LOCKED",
];

/// More names than this are counted in a table.
const FEW: usize = 8;
/// Columns of the words before a row.
const WORD: usize = 13;

/// All layers of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayersReport {
    /// Layers that surely block something, each with all that it blocks, whatever the others do.
    pub blocks: Vec<Blocks>,
    /// Of what is granted, what no layer blocks; null: not known.
    pub remaining: Option<Vec<String>>,
    /// Whether no exec can give its first task anything; null: not known.
    pub no_new_privs: Option<bool>,
    /// Which user ids are which in the initial user namespace; null: not known.
    pub uid_map: Option<Vec<IdRange>>,
    /// As `uid_map`, of groups.
    pub gid_map: Option<Vec<IdRange>>,
    /// Flags of its first task (`SECBIT_`…); null: not known.
    pub securebits: Option<Vec<String>>,
    /// Filters of system calls of its first task; null: not known.
    pub seccomp: Option<SeccompLayer>,
    /// Who was seen to restrict itself by Landlock: `first_task`, or `some_task`; null: nobody was, but no kernel tells who
    /// did before.
    pub landlock: Option<String>,
    /// Label of its first task; null: not known.
    pub lsm: Option<LsmLayer>,
    /// Devices that its cgroup lets it reach; null: not known.
    pub devices: Option<DeviceLayer>,
    /// What of the host's it has mounted and can write, and its devices; null: not known.
    pub surfaces: Option<Vec<Surface>>,
    /// Surfaces that did not fit.
    pub surfaces_omitted: u64,
    /// Layers that there may be and that could not be read: `landlock` (unless somebody was seen),
    /// `securebits`, `device_rules`, `seccomp_profile`.
    pub not_shown: Vec<String>,
}

/// Layers of several containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TogetherLayers {
    /// What is the same for all of them. What differs, or is not known of one, is null or empty; `blocks` has what is blocked
    /// in each.
    #[serde(flatten)]
    pub same: LayersReport,
    /// What differs, by the names of fields: containers of one image that are confined in different ways.
    pub differs: Vec<String>,
}

/// What one layer blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blocks {
    /// `bounding`, `no_new_privs`, `user_namespace`, `seccomp` or `devices`.
    pub layer: String,
    /// Names without `CAP_`.
    pub capabilities: Vec<String>,
}

/// Filters of system calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeccompLayer {
    /// `off`, `strict` or `filter`.
    pub mode: String,
    /// Filters installed.
    pub filters: u32,
    /// Of the system calls that capabilities are asked for by, those that the profile of its spec refuses; null: none is
    /// known.
    pub refuses: Option<Vec<String>>,
}

/// Label of a Linux security module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LsmLayer {
    /// `none`, `apparmor`, `selinux` or `other`.
    pub module: String,
    /// As the kernel has it.
    pub label: Option<String>,
    /// AppArmor: the profile.
    pub profile: Option<String>,
    /// AppArmor: its mode.
    pub mode: Option<String>,
    /// SELinux: the type.
    pub domain: Option<String>,
    /// SELinux: categories; empty: none.
    pub categories: Option<String>,
    /// Whether it forbids anything; null: the label does not tell.
    pub confines: Option<bool>,
}

/// What a container may do with devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceLayer {
    /// `kernel`: the rules of its cgroup; `spec`: what was declared.
    pub from: String,
    /// Whether it may reach every device.
    pub all: bool,
    /// What it may; null: not known one by one.
    pub rules: Option<Vec<DeviceRule>>,
}

impl LayersReport {
    /// Writes layers down.
    #[must_use]
    pub fn of(layers: &Layers) -> Self {
        let blocks = |layer: &Layer| Blocks {
            layer: layer.as_str().to_owned(),
            capabilities: names(layers.blocked(*layer)),
        };
        let worn = layers.worn.as_ref();
        Self {
            blocks: Layer::ALL
                .iter()
                .map(blocks)
                .filter(|blocks| !blocks.capabilities.is_empty())
                .collect(),
            remaining: layers.remaining().map(names),
            no_new_privs: layers.granted.map(|granted| granted.no_new_privs),
            uid_map: worn.map(|worn| worn.uid_map.clone()),
            gid_map: worn.map(|worn| worn.gid_map.clone()),
            securebits: layers.confined.securebits.map(securebits),
            seccomp: layers.confined.seccomp.map(|seccomp| SeccompLayer {
                mode: mode(seccomp.mode).to_owned(),
                filters: seccomp.filters,
                refuses: layers.refused.clone(),
            }),
            landlock: layers.confined.landlock.map(|who| who.as_str().to_owned()),
            lsm: worn.map(|worn| LsmLayer::of(worn.lsm.as_deref())),
            devices: DeviceLayer::of(&layers.devices),
            surfaces: worn.map(|worn| worn.surfaces.list.clone()),
            surfaces_omitted: worn.map_or(0, |worn| worn.surfaces.omitted as u64),
            not_shown: not_shown(layers),
        }
    }

    /// Lines of a table, behind so many spaces.
    pub(super) fn rows(&self, indent: usize, style: Style, out: &mut String) {
        let rows = [
            ("blocked by", self.blocked_in_words()),
            ("confined by", self.confined_in_words()),
            ("can write", self.surfaces_in_words()),
        ];
        for (word, says) in rows.iter().filter(|(_, says)| !says.is_empty()) {
            let word = style.paint(Paint::Dim, &pad(word, WORD));
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:indent$}{word}  {says}", "");
        }
    }

    /// Which layer blocks what; empty where none is known to.
    fn blocked_in_words(&self) -> String {
        let mut told: Vec<&str> = Vec::new();
        let mut words = Vec::new();
        for Blocks {
            layer,
            capabilities,
        } in &self.blocks
        {
            // What a layer before it blocks already stands there.
            let fresh: Vec<&str> = capabilities.iter().map(String::as_str).collect();
            let fresh: Vec<&str> = fresh.into_iter().filter(|c| !told.contains(c)).collect();
            told.extend(&fresh);
            match fresh.len() {
                0 => {}
                few if few <= FEW => words.push(format!("{layer}: {}", fresh.join(" "))),
                many => words.push(format!("{layer}: {many} capabilities")),
            }
        }
        words.join("; ")
    }

    /// What confines it besides capabilities.
    fn confined_in_words(&self) -> String {
        let mut words = Vec::new();
        if self.no_new_privs == Some(true) {
            words.push("no_new_privs".to_owned());
        }
        if let Some(seccomp) = &self.seccomp {
            words.push(match seccomp.filters {
                0 => format!("seccomp {}", seccomp.mode),
                1 => "seccomp with 1 filter".to_owned(),
                more => format!("seccomp with {more} filters"),
            });
        }
        if let Some(lsm) = &self.lsm {
            words.push(match &lsm.label {
                Some(label) => format!("{} {}", lsm.module, printable(label)),
                None => "no LSM".to_owned(),
            });
        }
        match self.landlock.as_deref() {
            Some("first_task") => words.push("Landlock".to_owned()),
            Some(_) => words.push("Landlock for some of its tasks".to_owned()),
            None => {}
        }
        let root = self
            .uid_map
            .iter()
            .flatten()
            .find(|range| range.inside == 0);
        if let Some(root) = root.filter(|range| range.outside != 0) {
            words.push(format!("its root is user {}", root.outside));
        }
        if let Some(bits) = self.securebits.as_ref().filter(|bits| !bits.is_empty()) {
            words.push(format!("securebits {}", bits.join(" ")));
        }
        if self.devices.as_ref().is_some_and(|devices| devices.all) {
            words.push("every device".to_owned());
        }
        words.join(", ")
    }

    /// What of the host's it can write, but for what is there for it alone.
    fn surfaces_in_words(&self) -> String {
        let surfaces = self.surfaces.iter().flatten().filter(|s| !s.own);
        let one = |surface: &Surface| match surface.kind {
            SurfaceKind::Kernel => printable(&surface.path).into_owned(),
            SurfaceKind::Host => format!(
                "{} (the host's {})",
                printable(&surface.path),
                printable(&surface.of)
            ),
            SurfaceKind::Device => {
                format!("{} ({})", printable(&surface.path), printable(&surface.of))
            }
        };
        let mut words: Vec<String> = surfaces.map(one).collect();
        if self.surfaces_omitted > 0 {
            words.push(format!("{} more", self.surfaces_omitted));
        }
        words.join(", ")
    }
}

impl TogetherLayers {
    /// Of these containers; `None` where there are none.
    #[must_use]
    pub fn of(all: &[LayersReport]) -> Option<Self> {
        let mut same = all.first()?.clone();
        let mut differs = Vec::new();
        macro_rules! known {
            ($($field:ident)+) => { $(
                if all.iter().any(|one| one.$field.is_none()) {
                    same.$field = None;
                } else if all.iter().any(|one| one.$field != same.$field) {
                    same.$field = None;
                    differs.push(stringify!($field).to_owned());
                }
            )+ };
        }
        for blocks in &mut same.blocks {
            let layer = &blocks.layer;
            let is_blocked = |one: &LayersReport, name: &String| {
                let mut same = one.blocks.iter().filter(|blocks| blocks.layer == *layer);
                same.any(|blocks| blocks.capabilities.contains(name))
            };
            let by_all = |name: &String| all.iter().all(|one| is_blocked(one, name));
            blocks.capabilities.retain(by_all);
        }
        same.blocks.retain(|blocks| !blocks.capabilities.is_empty());
        // What is there for one alone is another one's neither.
        let shared = |one: &LayersReport| -> Option<Vec<Surface>> {
            let list = one.surfaces.as_ref()?.iter();
            Some(list.filter(|surface| !surface.own).cloned().collect())
        };
        let all: Vec<LayersReport> = all
            .iter()
            .map(|one| LayersReport {
                surfaces: shared(one),
                ..one.clone()
            })
            .collect();
        same.surfaces = shared(&same);
        known! {
            remaining no_new_privs uid_map gid_map securebits seccomp landlock lsm devices surfaces
        }
        same.surfaces_omitted = all.iter().map(|one| one.surfaces_omitted).max()?;
        for name in all.iter().flat_map(|one| &one.not_shown) {
            if !same.not_shown.contains(name) {
                same.not_shown.push(name.clone());
            }
        }
        Some(Self { same, differs })
    }

    /// Lines of a table, behind so many spaces.
    pub(super) fn rows(&self, indent: usize, style: Style, out: &mut String) {
        self.same.rows(indent, style, out);
        if !self.differs.is_empty() {
            let word = style.paint(Paint::Dim, &pad("differ in", WORD));
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:indent$}{word}  {}", "", self.differs.join(", "));
        }
    }
}

impl LsmLayer {
    fn of(label: Option<&str>) -> Self {
        let Some(text) = label else {
            return Self {
                module: "none".to_owned(),
                confines: Some(false),
                ..Self::default()
            };
        };
        let label = Label::parse(text);
        let (mut profile, mut mode, mut domain) = (None, None, None);
        let module = match label {
            Label::AppArmor {
                profile: its_profile,
                mode: its_mode,
            } => {
                (profile, mode) = (Some(its_profile), Some(its_mode));
                "apparmor"
            }
            Label::Unconfined => {
                profile = Some(text);
                "apparmor"
            }
            Label::Selinux { kind, .. } => {
                domain = Some(kind);
                "selinux"
            }
            Label::Other(_) => "other",
        };
        Self {
            module: module.to_owned(),
            label: Some(text.to_owned()),
            profile: profile.map(str::to_owned),
            mode: mode.map(str::to_owned),
            domain: domain.map(str::to_owned),
            categories: label.categories().map(str::to_owned),
            confines: label.confines(),
        }
    }
}

impl DeviceLayer {
    fn of(devices: &Devices) -> Option<Self> {
        let rules = match devices {
            Devices::Rules(rules) => Some(rules.clone()),
            _ => None,
        };
        Some(Self {
            from: if rules.is_some() { "kernel" } else { "spec" }.to_owned(),
            all: devices.all()?,
            rules,
        })
    }
}

fn not_shown(layers: &Layers) -> Vec<String> {
    let filtered = matches!(layers.confined.seccomp, Some(Seccomp { mode: 2, .. }));
    let all = [
        ("landlock", layers.confined.landlock.is_none()),
        ("securebits", layers.confined.securebits.is_none()),
        ("device_rules", !matches!(layers.devices, Devices::Rules(_))),
        ("seccomp_profile", filtered && layers.refused.is_none()),
    ];
    let hidden = all.iter().filter(|(_, hidden)| *hidden);
    hidden.map(|(name, _)| (*name).to_owned()).collect()
}

fn names(set: u64) -> Vec<String> {
    let names = capability::names(set).into_iter();
    names.map(str::to_owned).collect()
}

fn securebits(bits: u32) -> Vec<String> {
    let set = |bit: &u32| bits >> bit & 1 == 1;
    let name = |bit: u32| match SECUREBITS.get(bit as usize) {
        Some(name) => (*name).to_owned(),
        None => bit.to_string(),
    };
    (0..u32::BITS).filter(set).map(name).collect()
}

const fn mode(seccomp: u32) -> &'static str {
    match seccomp {
        0 => "off",
        1 => "strict",
        _ => "filter",
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the report says what is known, and says so where nothing is; the rows tell each capability once.

    use super::{DeviceLayer, LayersReport, LsmLayer, TogetherLayers};
    use crate::model::capability::{self, ALL};
    use crate::model::layers::{Confined, Devices, Landlock, Layers, Seccomp};
    use crate::model::privileges::Granted;
    use crate::model::setup::DeviceRule;
    use crate::sink::human::Style;

    #[test]
    fn what_is_not_known_is_not_said() {
        let report = LayersReport::of(&Layers::default());
        assert_eq!((report.blocks.len(), report.remaining), (0, None));
        assert_eq!((report.lsm, report.surfaces), (None, None));
        assert_eq!(report.not_shown, ["landlock", "securebits", "device_rules"]);
        let mut out = String::new();
        LayersReport::of(&Layers::default()).rows(2, Style::Plain, &mut out);
        assert_eq!(out, "");
    }

    #[test]
    fn each_capability_stands_at_one_layer_of_a_row() {
        let layers = Layers {
            granted: Some(Granted {
                permitted: ALL & !1,
                bounding: ALL & !1,
                no_new_privs: true,
                initial: false,
            }),
            confined: Confined {
                securebits: Some(0b101 | 1 << 20),
                seccomp: Some(Seccomp {
                    mode: 2,
                    filters: 3,
                }),
                landlock: Some(Landlock::Some),
            },
            refused: Some(vec!["acct".to_owned(), "bpf".to_owned()]),
            devices: Devices::Rules(vec![DeviceRule {
                write: true,
                mknod: true,
                ..DeviceRule::default()
            }]),
            worn: None,
        };
        let report = LayersReport::of(&layers);
        let mut out = String::new();
        report.rows(2, Style::Plain, &mut out);
        let want = "  \
  blocked by     bounding: CHOWN; user_namespace: 14 capabilities; seccomp: BPF
  confined by    no_new_privs, seccomp with 3 filters, Landlock for some of its tasks, securebits NOROOT NO_SETUID_FIXUP 20, every device
";
        assert_eq!(out, want);
        let layers: Vec<_> = report.blocks.iter().map(|b| b.layer.as_str()).collect();
        assert_eq!(
            layers,
            ["bounding", "no_new_privs", "user_namespace", "seccomp"]
        );
        assert_eq!(report.blocks[3].capabilities, ["SYS_PACCT", "BPF"]);
        let remaining = report.remaining.unwrap();
        assert_eq!(remaining.len(), capability::NAMES.len() - 16);
        assert!(report.not_shown.is_empty());
    }

    #[test]
    fn labels_are_told_by_part() {
        let none = LsmLayer::of(None);
        assert_eq!((none.module.as_str(), none.confines), ("none", Some(false)));
        let apparmor = LsmLayer::of(Some("web (complain)"));
        assert_eq!(apparmor.profile.as_deref(), Some("web"));
        assert_eq!(apparmor.mode.as_deref(), Some("complain"));
        let selinux = LsmLayer::of(Some("u:r:container_t:s0:c1,c2"));
        assert_eq!(selinux.domain.as_deref(), Some("container_t"));
        assert_eq!(selinux.categories.as_deref(), Some("c1,c2"));
        let unconfined = LsmLayer::of(Some("unconfined"));
        assert_eq!(unconfined.profile.as_deref(), Some("unconfined"));
        assert_eq!(unconfined.confines, Some(false));
    }

    #[test]
    fn a_rule_about_all_is_one_that_names_none() {
        let all = |devices| DeviceLayer::of(&devices).map(|layer| layer.all);
        let rule = DeviceRule {
            write: true,
            ..DeviceRule::default()
        };
        let blocks = DeviceRule {
            block: Some(true),
            ..rule
        };
        assert_eq!(all(Devices::Rules(vec![rule])), Some(true));
        assert_eq!(all(Devices::Rules(vec![blocks])), Some(false));
        assert_eq!(all(Devices::Declared { all: true }), Some(true));
        assert_eq!(all(Devices::Unknown), None);
    }

    /// What is the same for all is said, what differs is named, and what is not known of one is not said.
    #[test]
    fn several_are_taken_together() {
        let null = DeviceRule {
            major: Some(1),
            minor: Some(3),
            read: true,
            ..DeviceRule::default()
        };
        let one = |filters, devices| {
            LayersReport::of(&Layers {
                confined: Confined {
                    seccomp: Some(Seccomp { mode: 2, filters }),
                    ..Confined::default()
                },
                devices,
                ..Layers::default()
            })
        };
        let rules = || Devices::Rules(vec![null]);
        assert_eq!(TogetherLayers::of(&[]), None);
        let same = [one(1, rules()), one(1, rules())];
        let together = TogetherLayers::of(&same).unwrap();
        assert_eq!(
            (together.same, together.differs.len()),
            (same[0].clone(), 0)
        );
        let other = [one(1, rules()), one(2, rules()), one(1, Devices::Unknown)];
        let together = TogetherLayers::of(&other).unwrap();
        assert_eq!(together.differs, ["seccomp"]);
        assert_eq!(
            (&together.same.seccomp, &together.same.devices),
            (&None, &None)
        );
        assert!(together.same.not_shown.contains(&"device_rules".to_owned()));
        // That a rule forbids to make nodes is known of two.
        assert_eq!((same[0].blocks.len(), together.same.blocks.len()), (1, 0));
        let mut out = String::new();
        together.rows(2, Style::Plain, &mut out);
        assert_eq!(out, "  differ in      seccomp\n");
    }
}
