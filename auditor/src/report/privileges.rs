//! What containers may do, what they were seen to do, and what is left over: the answer of `auditor privileges`.
//!
//! What was not seen is not proof that it is not needed, so the report ends with what it may have missed.

use super::confidence::{AdviceConfidence, Evidence};
use super::history::{History, Learned};
use super::layers::{LayersReport, TogetherLayers};
use super::syscalls::SyscallsMade;
use super::words::pad;
use crate::model::calls::Calls;
use crate::model::capability;
use crate::model::privileges::{Account, First, Privileges, Way};
use crate::model::text::{rfc3339, short_id};
use crate::model::touched::Thing;
use crate::sink::human::{Paint, Style, printable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

/// The value of `type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrivilegesType {
    /// The only one.
    #[default]
    Privileges,
}

/// How uses were seen.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// Not at all.
    #[default]
    None,
    /// Without knowing which were probes.
    Uses,
    /// With what the kernel only probed for.
    Probes,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrivilegesReport {
    /// Always `auditor/1`.
    pub schema: String,
    /// Always `privileges`.
    #[serde(rename = "type")]
    pub kind: PrivilegesType,
    /// Each container, by node, and the order in which they began.
    pub containers: Vec<ContainerPrivileges>,
    /// Several containers of one image, or of one id, taken together.
    pub together: Vec<TogetherPrivileges>,
    /// What may be missing in this report, in sentences.
    pub may_miss: Vec<String>,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerPrivileges {
    /// Name of the machine.
    pub node: String,
    /// Stable id.
    pub id: String,
    /// Human name, where one is known.
    pub name: Option<String>,
    /// Image, where it is known.
    pub image: Option<String>,
    /// Pod, where there is one.
    pub pod: Option<String>,
    /// Thread group id of its first task.
    pub pid: u32,
    /// Start of its first task, nanoseconds since boot.
    pub incarnation: Option<u64>,
    /// Whether it has ended.
    pub ended: bool,
    /// Its capabilities.
    #[serde(flatten)]
    pub capabilities: CapabilitySets,
    /// What stands between it and each capability.
    pub layers: LayersReport,
}

/// Several containers, taken together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TogetherPrivileges {
    /// The image that they have in common, or the id.
    pub of: String,
    /// Whether that is an image.
    pub is_image: bool,
    /// How many there are.
    pub containers: usize,
    /// In how many runs or recordings they were seen.
    pub runs: usize,
    /// Their capabilities.
    #[serde(flatten)]
    pub capabilities: CapabilitySets,
    /// What confines them all; null: only what they used was kept, of earlier runs.
    pub layers: Option<TogetherLayers>,
}

/// What was granted, used, and left over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CapabilitySets {
    /// Over which user namespace it is granted: `initial` or `own`; null: not known.
    pub user_namespace: Option<String>,
    /// What the container has, or can get by executing files that give capabilities; null: not known.
    pub granted: Option<Vec<String>>,
    /// Permitted capabilities of the first task at the start; null: not known.
    pub permitted: Option<Vec<String>>,
    /// Its bounding set; null: not known.
    pub bounding: Option<Vec<String>>,
    /// Whether no exec can give it anything; null: not known.
    pub no_new_privs: Option<bool>,
    /// What was used of the grant.
    pub used: Vec<String>,
    /// What was granted and not seen in use; null: nothing could be seen, or it is not known what was granted.
    pub excess: Option<Vec<String>>,
    /// What was used without having been granted: somebody came in who had more.
    pub beyond: Vec<String>,
    /// What was asked for and refused.
    pub refused: Vec<String>,
    /// What the kernel only probed for: it does without, but may do less.
    pub probed: Vec<String>,
    /// What was used over user namespaces of the container's making, which takes no grant.
    pub inner: Vec<String>,
    /// Every way in which a capability was asked for, with its first time.
    pub uses: Vec<CapabilityUse>,
    /// What else was reached: namespaces that are not its own, devices that not every container has, settings of the machine.
    #[serde(default)]
    pub touched: Vec<ThingTouched>,
    /// The system calls that were made; null: nobody looked, see --syscalls.
    pub syscalls: Option<SyscallsMade>,
    /// For how long it was observed.
    pub observed_ns: u64,
    /// Execs seen.
    pub execs: u64,
    /// Whether it was observed from its start on.
    pub from_start: bool,
    /// How many containers were seen to start.
    pub starts: usize,
    /// How far advice from this can be believed.
    pub confidence: AdviceConfidence,
    /// How uses were seen.
    pub sight: Sight,
}

/// A thing that was reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThingTouched {
    /// `namespace` (joined), `device` (opened, or a node made for it), `knob` (opened for writing).
    pub kind: String,
    /// Kind of namespace and whose; `character 10:229`; name of the setting.
    pub name: String,
    /// When first: UTC with nanoseconds.
    pub time: String,
    /// The system call; null: not known.
    pub syscall: Option<String>,
    /// Thread group id of the task.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// The file that it had executed; null: not known.
    pub exe: Option<String>,
}

/// One way in which a capability was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CapabilityUse {
    /// Name, without `CAP_`; its number where it has no name yet.
    pub capability: String,
    /// Over which user namespace: `initial`, `container` (its own), `inner` (one that was made in it), `other`.
    pub scope: String,
    /// Whether the task had it.
    pub granted: bool,
    /// Whether the kernel only probed.
    pub probe: bool,
    /// Whether that is inferred from the system call, for the kernel did not say.
    pub inferred: bool,
    /// When first: UTC with nanoseconds.
    pub time: String,
    /// The system call that asked; null: not known.
    pub syscall: Option<String>,
    /// Thread group id of the task.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// The file that it had executed; null: not known.
    pub exe: Option<String>,
}

/// A container, and what is needed to tell of it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Name of the machine.
    pub node: String,
    /// Boot id.
    pub boot_id: String,
    /// What to add to nanoseconds since boot to get nanoseconds since 1970 (UTC).
    pub realtime_offset_ns: i64,
    /// How uses were seen.
    pub sight: Sight,
    /// The run that saw it: the same for all traces of one recording.
    pub run: String,
    /// Until when, nanoseconds since 1970.
    pub until_ns: u64,
    /// The container.
    pub privileges: Privileges,
}

impl Observed {
    /// What it is a replica of: its image; its id, where none is known.
    #[must_use]
    pub fn of(&self) -> &str {
        let party = &self.privileges.party;
        party.image.as_deref().unwrap_or(&party.id)
    }

    /// Its account with times in nanoseconds since 1970, so that those of several boots can be compared.
    #[must_use]
    pub fn at_realtime(&self) -> Account {
        let mut account = self.privileges.account.clone();
        account.used.shift(self.realtime_offset_ns);
        account.touched.shift(self.realtime_offset_ns);
        account
    }

    fn evidence(&self) -> Evidence {
        let account = &self.privileges.account;
        Evidence {
            observed_ns: account.observed_ns,
            starts: account.whole.into(),
            sight: self.sight,
        }
    }
}

/// What was observed, in all.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Containers. The same one may stand here more than once, as it was known at different times.
    pub containers: Vec<Observed>,
    /// Ended containers that were forgotten.
    pub forgotten: u64,
    /// Events that were lost.
    pub lost_events: u64,
    /// How often kernel programs were left out.
    pub skipped: u64,
}

impl Observation {
    /// Takes all of it into a history.
    pub fn note_in(&self, history: &mut History) {
        for observed in &self.containers {
            history.note(observed);
        }
    }

    /// Makes the report; with names, of the containers that they mean; with a history, of all that is known of each image.
    #[must_use]
    pub fn report(
        self,
        schema: &str,
        names: &[String],
        history: Option<&History>,
    ) -> PrivilegesReport {
        let Self {
            containers,
            forgotten,
            lost_events,
            skipped,
        } = self;
        let mut containers = unique(containers);
        let strangers = strangers(&containers, names, history);
        containers.retain(|observed| {
            names.is_empty() || names.iter().any(|name| is_meant(observed, name))
        });
        let together = match history {
            Some(history) => learned(history, &containers, names),
            None => together(&containers),
        };
        let mut may_miss = may_miss(&containers, forgotten, lost_events);
        may_miss.extend(strangers);
        if skipped > 0 {
            may_miss.push(format!(
                "the kernel left its programs out {skipped} times: what was done then was not seen"
            ));
        }
        if history.is_some_and(|history| history.incomplete) {
            may_miss.push("there was no room in the state file for all images".to_owned());
        }
        PrivilegesReport {
            schema: schema.to_owned(),
            kind: PrivilegesType::Privileges,
            may_miss,
            together,
            containers: containers.iter().map(container).collect(),
        }
    }
}

/// Names that mean none of these containers, and no image of earlier runs; and who is there instead.
fn strangers(containers: &[Observed], names: &[String], history: Option<&History>) -> Vec<String> {
    let mut known = BTreeSet::new();
    for one in containers {
        let party = &one.privileges.party;
        known.insert(party.name.as_ref().unwrap_or(&party.id).as_str());
    }
    let mut seen: Vec<&str> = known.iter().take(SHOWN).copied().collect();
    let more = format!("{} more", known.len() - seen.len());
    match known.len() {
        0 => seen.push("nobody"),
        many if many > SHOWN => seen.push(&more),
        _ => {}
    }
    let is_strange = |name: &&String| {
        let is_kept = history.is_some_and(|history| history.learned.contains_key(*name));
        !is_kept && !containers.iter().any(|one| is_meant(one, name))
    };
    let says = |name| {
        format!(
            "no container is called \"{name}\" (seen: {})",
            seen.join(", ")
        )
    };
    names.iter().filter(is_strange).map(says).collect()
}

/// What is known of the images of containers, and, without names, of all others.
fn learned(
    history: &History,
    containers: &[Observed],
    names: &[String],
) -> Vec<TogetherPrivileges> {
    let here: BTreeSet<&str> = containers.iter().map(Observed::of).collect();
    let is_wanted =
        |of: &str| names.is_empty() || here.contains(of) || names.iter().any(|name| name == of);
    let wanted = history.learned.iter().filter(|(of, _)| is_wanted(of));
    let one = |(of, learned): (&String, &Learned)| TogetherPrivileges {
        of: of.clone(),
        is_image: learned.is_image,
        containers: learned.containers(),
        runs: learned.runs(),
        capabilities: sets(&learned.account(), learned.evidence(), 0),
        layers: None,
    };
    wanted.map(one).collect()
}

/// Accounts of one container at different times become one: the later holds what the earlier counted.
fn unique(containers: Vec<Observed>) -> Vec<Observed> {
    let mut places = BTreeMap::new();
    let mut all: Vec<Observed> = Vec::new();
    for observed in containers {
        let party = &observed.privileges.party;
        let key = (
            observed.node.clone(),
            observed.boot_id.clone(),
            party.id.clone(),
            party.incarnation,
        );
        let place = *places.entry(key).or_insert(all.len());
        match all.get_mut(place) {
            Some(before) => {
                let mut account = observed.privileges.account.clone();
                let earlier = &before.privileges.account;
                account.used.merge(&earlier.used);
                account.touched.merge(&earlier.touched);
                Calls::merge_known(&mut account.calls, earlier.calls.as_ref());
                account.granted = earlier.granted.or(account.granted);
                account.whole |= earlier.whole;
                account.execs = account.execs.max(earlier.execs);
                account.observed_ns = account.observed_ns.max(earlier.observed_ns);
                let sight = observed.sight.min(before.sight);
                let seen = std::mem::take(&mut before.privileges.layers);
                *before = observed;
                (before.privileges.account, before.sight) = (account, sight);
                if before.privileges.layers.worn.is_none() {
                    before.privileges.layers = seen;
                }
            }
            None => all.push(observed),
        }
    }
    all
}

/// Whether a container is meant by a name, an id, or the start of an id.
fn is_meant(observed: &Observed, name: &str) -> bool {
    const LEAST_DIGITS: usize = 6;
    let party = &observed.privileges.party;
    let bare = party.id.split_once(':').map_or("", |(_, id)| id);
    let starts = |id: &str| name.len() >= LEAST_DIGITS && id.starts_with(name);
    party.name.as_deref() == Some(name)
        || party.id == name
        || bare == name
        || starts(bare)
        || starts(&party.id)
}

fn container(observed: &Observed) -> ContainerPrivileges {
    let Privileges {
        party,
        account,
        layers,
        init,
        ended,
        earlier: _,
    } = &observed.privileges;
    ContainerPrivileges {
        node: observed.node.clone(),
        id: party.id.clone(),
        name: party.name.clone(),
        image: party.image.clone(),
        pod: party.pod.clone(),
        pid: *init,
        incarnation: party.incarnation,
        ended: *ended,
        capabilities: sets(account, observed.evidence(), observed.realtime_offset_ns),
        layers: LayersReport::of(layers),
    }
}

/// Containers that run the same image are replicas; one id again is a container that was started again.
fn together(containers: &[Observed]) -> Vec<TogetherPrivileges> {
    let mut groups: BTreeMap<&str, Vec<&Observed>> = BTreeMap::new();
    for observed in containers {
        groups.entry(observed.of()).or_default().push(observed);
    }
    let several = groups.into_iter().filter(|(_, members)| members.len() > 1);
    let joined = |(of, members): (&str, Vec<&Observed>)| {
        let (first, others) = members.split_first()?;
        let mut account = first.at_realtime();
        for other in others {
            account.merge(&other.at_realtime());
        }
        let evidence = members.iter().map(|member| member.evidence());
        let evidence = evidence.reduce(Evidence::and).unwrap_or_default();
        let layers = members
            .iter()
            .map(|member| LayersReport::of(&member.privileges.layers));
        let layers: Vec<LayersReport> = layers.collect();
        let runs: BTreeSet<&str> = members.iter().map(|member| member.run.as_str()).collect();
        Some(TogetherPrivileges {
            of: of.to_owned(),
            is_image: first.privileges.party.image.is_some(),
            containers: members.len(),
            runs: runs.len(),
            capabilities: sets(&account, evidence, 0),
            layers: TogetherLayers::of(&layers),
        })
    };
    several.filter_map(joined).collect()
}

fn sets(account: &Account, evidence: Evidence, offset_ns: i64) -> CapabilitySets {
    let granted = account.granted;
    let sight = evidence.sight;
    let seen = sight != Sight::None;
    CapabilitySets {
        user_namespace: granted.map(|g| if g.initial { "initial" } else { "own" }.to_owned()),
        granted: granted.map(|g| names(g.may())),
        permitted: granted.map(|g| names(g.permitted)),
        bounding: granted.map(|g| names(g.bounding)),
        no_new_privs: granted.map(|g| g.no_new_privs),
        used: names(account.used.used()),
        excess: granted.filter(|_| seen).map(|_| names(account.excess())),
        beyond: names(account.beyond()),
        refused: names(account.used.refused()),
        probed: names(account.used.probed()),
        inner: names(account.used.inner()),
        uses: account
            .used
            .iter()
            .map(|(way, first)| one_use(way, first, offset_ns))
            .collect(),
        touched: account
            .touched
            .iter()
            .map(|(thing, first)| one_thing(thing, first, offset_ns))
            .collect(),
        syscalls: account.calls.as_ref().map(SyscallsMade::of),
        observed_ns: account.observed_ns,
        execs: account.execs,
        from_start: account.whole,
        starts: evidence.starts,
        confidence: evidence.confidence(),
        sight,
    }
}

fn names(set: u64) -> Vec<String> {
    let numbers = (0..64).filter(|bit| capability::unnamed(set) >> bit & 1 == 1);
    let named = capability::names(set).into_iter().map(str::to_owned);
    named
        .chain(numbers.map(|bit: u32| bit.to_string()))
        .collect()
}

pub(super) fn capability_name(capability: u8) -> String {
    names(1_u64.checked_shl(u32::from(capability)).unwrap_or(0))
        .pop()
        .unwrap_or_default()
}

fn one_thing(thing: &Thing, first: &First, offset_ns: i64) -> ThingTouched {
    ThingTouched {
        kind: thing.kind.as_str().to_owned(),
        name: thing.name.clone(),
        time: rfc3339(i128::from(first.boottime_ns) + i128::from(offset_ns)),
        syscall: first.syscall.as_deref().map(str::to_owned),
        pid: first.pid,
        comm: first.comm.clone(),
        exe: first.exe.clone(),
    }
}

fn one_use(way: &Way, first: &First, offset_ns: i64) -> CapabilityUse {
    CapabilityUse {
        capability: capability_name(way.capability),
        scope: way.scope.as_str().to_owned(),
        granted: way.granted,
        probe: way.probe,
        inferred: first.inferred,
        time: rfc3339(i128::from(first.boottime_ns) + i128::from(offset_ns)),
        syscall: first.syscall.as_deref().map(str::to_owned),
        pid: first.pid,
        comm: first.comm.clone(),
        exe: first.exe.clone(),
    }
}

fn may_miss(containers: &[Observed], forgotten: u64, lost_events: u64) -> Vec<String> {
    let mut said = Vec::new();
    let of = |fits: fn(&Observed) -> bool| containers.iter().filter(|o| fits(o)).count();
    let longest = containers.iter().map(|o| o.privileges.account.observed_ns);
    if let Some(longest) = longest.max() {
        said.push(format!(
            "no container was observed for longer than {}; a longer window may show more",
            span(longest)
        ));
    }
    let late = of(|o| !o.privileges.account.whole);
    if late > 0 {
        said.push(format!(
            "{late} of {} containers ran before they were observed: what they used at their start is not known",
            containers.len()
        ));
    }
    let unseen = of(|o| o.sight == Sight::None);
    if unseen > 0 {
        said.push(format!(
            "no hook saw capabilities of {unseen} containers: nothing is known of what they use"
        ));
    }
    if of(|o| o.sight == Sight::Uses) > 0 {
        said.push(
            "the kernel did not say which checks were probes: those of system calls that usually probe are taken for \
             such"
            .to_owned(),
        );
    }
    if lost_events > 0 {
        said.push(format!("{lost_events} events were lost"));
    }
    if forgotten > 0 {
        said.push(format!("{forgotten} containers that ended are left out"));
    }
    said
}

pub(super) fn span(ns: u64) -> String {
    let seconds = Duration::from_nanos(ns).as_secs();
    match seconds {
        0 => "a second".to_owned(),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

impl PrivilegesReport {
    /// The report as text.
    #[must_use]
    pub fn table(&self, style: Style) -> String {
        let mut out = String::new();
        let nodes = self.containers.iter().map(|c| &c.node);
        let several_nodes = nodes.clone().any(|node| Some(node) != nodes.clone().next());
        for container in &self.containers {
            let mut title = title(container, style);
            if several_nodes {
                title = format!("{title} on {}", printable(&container.node));
            }
            section(&title, &container.capabilities, style, &mut out);
            container.layers.rows(2, style, &mut out);
            let _ = writeln!(out);
        }
        for group in &self.together {
            let of = style.paint(Paint::Strong, &printable(&group.of));
            let title = format!("{of}: {}", group.in_words());
            section(&title, &group.capabilities, style, &mut out);
            if let Some(layers) = &group.layers {
                layers.rows(2, style, &mut out);
            }
            let _ = writeln!(out);
        }
        if self.containers.is_empty() {
            let _ = writeln!(out, "no container was seen");
        }
        // Writing to a String cannot fail, here and below.
        if !self.may_miss.is_empty() {
            let heading = "What this may miss";
            let _ = writeln!(out, "{}", style.paint(Paint::Strong, heading));
        }
        for sentence in &self.may_miss {
            let _ = writeln!(out, "  {}", printable(sentence));
        }
        out
    }
}

impl TogetherPrivileges {
    /// Who was taken together.
    #[must_use]
    pub fn in_words(&self) -> String {
        let containers = match self.containers {
            1 => "1 container".to_owned(),
            count => format!("{count} containers"),
        };
        match self.runs {
            0 | 1 => format!("{containers} taken together"),
            runs => format!("{containers} of {runs} runs taken together"),
        }
    }
}

fn title(container: &ContainerPrivileges, style: Style) -> String {
    let short = short_id(&container.id);
    let called = container.name.as_deref().unwrap_or(&short);
    let mut more = Vec::new();
    if container.name.is_some() {
        more.push(printable(&short).into_owned());
    }
    if let Some(image) = &container.image {
        more.push(format!("image {}", printable(image)));
    }
    if container.ended {
        more.push("ended".to_owned());
    }
    let called = style.paint(Paint::Strong, &printable(called));
    match more.is_empty() {
        true => called,
        false => format!("{called} ({})", more.join(", ")),
    }
}

/// Whether a use belongs into a row.
type Fits = fn(&CapabilityUse) -> bool;

/// Columns of the words before a list.
const WORD: usize = 9;
/// Names that are listed where one is not found.
const SHOWN: usize = 8;

fn section(title: &str, sets: &CapabilitySets, style: Style, out: &mut String) {
    let began = match sets.from_start {
        true => ", from its start",
        false => "",
    };
    let _ = writeln!(
        out,
        "{title}: observed for {}{began}, execs: {}, confidence: {}",
        span(sets.observed_ns),
        sets.execs,
        sets.confidence.as_str()
    );
    let mut row = |paint: Paint, word: &str, items: &[String], more: &str| {
        let list = match items.is_empty() {
            true => "–".to_owned(),
            false => items.join(" "),
        };
        let word = style.paint(paint, &pad(word, WORD));
        let _ = writeln!(out, "  {word} {:>3}  {list}{more}", items.len());
    };
    let over = match sets.user_namespace.as_deref() {
        Some("initial") => ", over the machine's initial user namespace",
        Some(_) => ", over a user namespace of its own",
        None => "",
    };
    let told = |set: &[String], fits: Fits| told(sets, set, fits);
    match &sets.granted {
        Some(granted) => row(Paint::Strong, "granted", granted, over),
        None => row(Paint::Strong, "granted", &[], " (not known)"),
    }
    let used = |u: &CapabilityUse| u.granted && !u.probe && u.scope != "inner";
    row(Paint::Good, "used", &told(&sets.used, used), "");
    match &sets.excess {
        Some(excess) => row(Paint::Warn, "excess", excess, ""),
        None => row(Paint::Warn, "excess", &[], " (not known)"),
    }
    let optional: [(&str, &[String], Fits); 4] = [
        ("beyond", &sets.beyond, used),
        ("refused", &sets.refused, |u| !u.granted && !u.probe),
        ("probed", &sets.probed, |u| u.probe),
        ("inner", &sets.inner, |u| {
            u.granted && !u.probe && u.scope == "inner"
        }),
    ];
    for (word, set, fits) in optional {
        if !set.is_empty() {
            row(Paint::Dim, word, &told(set, fits), "");
        }
    }
    if !sets.touched.is_empty() {
        let things: Vec<String> = sets.touched.iter().map(words_of).collect();
        let word = style.paint(Paint::Warn, &pad("touched", WORD));
        let _ = writeln!(out, "  {word} {:>3}  {}", things.len(), things.join("; "));
    }
    if let Some(made) = &sets.syscalls {
        let mut names: Vec<&str> = made.used.iter().map(String::as_str).collect();
        if made.unnamed {
            names.push("(and some without a name)");
        }
        let word = style.paint(Paint::Dim, &pad("syscalls", WORD));
        let list = printable(&names.join(" ")).into_owned();
        let _ = writeln!(out, "  {word} {:>3}  {list}", made.used.len());
    }
}

/// A thing with the call and the command that reached it first.
fn words_of(thing: &ThingTouched) -> String {
    let call = thing.syscall.as_deref().unwrap_or("?");
    let (call, comm) = (printable(call), printable(&thing.comm));
    format!("{} {} ({call}, {comm})", thing.kind, printable(&thing.name))
}

/// Capabilities, each with the call and the command that asked first.
fn told(sets: &CapabilitySets, set: &[String], fits: Fits) -> Vec<String> {
    let one = |name: &String| {
        let uses = sets.uses.iter();
        let of_it = uses.filter(|u| u.capability == *name && fits(u));
        match of_it.min_by(|a, b| a.time.cmp(&b.time)) {
            Some(first) => {
                let call = first.syscall.as_deref().unwrap_or("?");
                format!("{name} ({}, {})", printable(call), printable(&first.comm))
            }
            None => name.clone(),
        }
    };
    set.iter().map(one).collect()
}

#[cfg(test)]
pub(crate) mod tests;
