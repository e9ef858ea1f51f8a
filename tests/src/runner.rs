//! Runs scenarios against one auditor session and compares what came out with what had to.
//!
//! Every container has an id of its own, so a line that comes late, or for the wrong reason, is still charged to the
//! scenario that caused it. Expected lines are awaited while the state is held; everything else is judged when the
//! session has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use auditor::model::output::MEDIAN_BYTES;
use serde_json::Value;

use crate::bundle::Programs;
use crate::cast::Cast;
use crate::disk::Disk;
use crate::identity::{Entity, is_type, parties};
use crate::outcome::{Report, Shown};
use crate::runtime::{Layout, Runtime};
use crate::scenario::{LineKind, Need, Requires, STANDING, Scenario, Session, Step};
use crate::stream::{Auditor, Ended, START};
use crate::{
    contract, coverage, handed, interrupt, own, privileges, sharing, silence, survive, table,
};

/// What to run, with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The auditor, or none to see whether the acts succeed.
    pub auditor: Option<PathBuf>,
    /// What the containers run.
    pub programs: Programs,
    /// The runtimes.
    pub runtimes: Vec<Runtime>,
    /// Has each scenario played with one of the runtimes only, by turns. Another number makes others of them.
    pub turn: Option<usize>,
    /// Only scenarios whose name contains one of these, if any.
    pub only: Vec<String>,
    /// Scenarios to leave out, by parts of their names.
    pub without: Vec<String>,
    /// Start/stop cycles per runtime in the silence suite.
    pub cycles: u32,
    /// How long an expected line, or the absence of one, is waited for.
    pub patience: Duration,
    /// Where bundles go.
    pub work: PathBuf,
    /// First part of every container's id.
    pub prefix: String,
    /// Where to ask for changes of this machine's memory, if somebody outside hears.
    pub memory: Option<PathBuf>,
    /// Where sessions' traces and lines are handed over, for a replay on another machine.
    pub hand_over: Option<PathBuf>,
    /// Whether the auditor's lines are printed too.
    pub show: Show,
}

/// What goes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Nothing.
    Nothing,
    /// Violations that name our containers, as they were printed.
    Violations,
}

impl Options {
    /// Whether a scenario of that name was asked for.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        let among = |parts: &[String]| parts.iter().any(|part| name.contains(part.as_str()));
        (self.only.is_empty() || among(&self.only)) && !among(&self.without)
    }

    /// The runtimes with which a scenario of that name is played.
    pub fn runtimes_of(&self, name: &str) -> impl Iterator<Item = &Runtime> {
        let only = self
            .turn
            .map(|turn| whose_turn(name, turn, self.runtimes.len()));
        let all = self.runtimes.iter().enumerate();
        all.filter(move |(index, _)| only.is_none_or(|only| only == *index))
            .map(|(_, runtime)| runtime)
    }

    /// The parent of every leaf cgroup.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        format!("/auditor-tests-{}", self.prefix)
    }
}

/// Which of so many runtimes plays a scenario of that name in a turn.
fn whose_turn(name: &str, turn: usize, runtimes: usize) -> usize {
    let letters: usize = name.bytes().map(usize::from).sum();
    (letters + turn) % runtimes.max(1)
}

/// Runs everything.
///
/// # Errors
/// When the surroundings fail; a failed case is an outcome.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let done = run_sessions(options, report);
    remove_cgroups(&options.cgroup_parent());
    done
}

fn run_sessions(options: &Options, report: &mut Report) -> Result<()> {
    let mut bytes = Vec::new();
    let mut best = None;
    for session in Session::ALL {
        let scenarios: Vec<Scenario> = table::scenarios()
            .into_iter()
            .filter(|scenario| scenario.session == session && options.wants(scenario.id))
            .collect();
        let silence = session == Session::Default && options.wants("silence");
        if scenarios.is_empty() && !silence {
            continue;
        }
        if session == Session::Unborn && !kernel_is_at_least(7, 0) {
            let why = "needs a kernel that interrupts tasks within programs, so that births are made up for";
            report.skip(session.name(), why.to_owned())?;
            continue;
        }
        if session
            .tier()
            .is_some_and(|tier| best.as_deref() == Some(tier))
        {
            report.skip(session.name(), "no better tier works here".to_owned())?;
            continue;
        }
        let mut stage = Stage::open(options, session)?;
        report.on = stage.auditor.as_ref().and_then(coverage::machine);
        if session.tier().is_none() {
            best = report.on.as_ref().map(|on| on.tier.clone());
        }
        // What is seen by other hooks has nothing to do with who started the container.
        let of_one = session.tier().is_some();
        for (index, runtime) in options.runtimes.iter().enumerate() {
            let is_its = |scenario: &&Scenario| match of_one {
                true => index == 0,
                false => options
                    .runtimes_of(scenario.id)
                    .any(|of| of.name == runtime.name),
            };
            for scenario in scenarios.iter().filter(is_its) {
                interrupt::check()?;
                if let Err(error) = stage.play(scenario, runtime, report) {
                    let case = format!("{}/{}", runtime.name, scenario.id);
                    report.check(case, Duration::ZERO, Some(format!("{error:#}")))?;
                }
            }
        }
        if silence {
            stage.played.extend(silence::run(options, report)?);
        }
        bytes.extend(stage.close(report)?);
    }
    // A part of the scenarios has lines of one kind.
    if options.only.is_empty() {
        check_median(bytes, report)?;
    }
    privileges::run(options, report)?;
    sharing::run(options, report)?;
    handed::run(options, report)?;
    own::run(options, report)?;
    survive::run(options, report)
}

/// Holds the lines of all sessions against the budget, if they are enough to have a median that says something. What
/// `survive` makes is left out: its floods are of one rule.
fn check_median(mut bytes: Vec<usize>, report: &mut Report) -> Result<()> {
    const ENOUGH: usize = 50;
    const CASE: &str = "lines/median";
    bytes.sort_unstable();
    let (Some(longest), lines) = (bytes.last(), bytes.len()) else {
        return Ok(());
    };
    if lines < ENOUGH {
        return report.skip(CASE, format!("needs {ENOUGH} violations, not {lines}"));
    }
    let median = bytes[lines / 2];
    eprintln!("     {lines} violations: {median} bytes in the median, {longest} at most");
    let problem = (median > MEDIAN_BYTES).then(|| format!("{median} bytes"));
    report.check(CASE, Duration::ZERO, problem)
}

/// One auditor session.
struct Stage<'a> {
    options: &'a Options,
    session: Session,
    auditor: Option<Auditor>,
    /// Indexes of lines that some step expected.
    claimed: BTreeSet<usize>,
    /// Case names and the ids of their containers.
    played: Vec<(String, BTreeSet<String>)>,
    /// Ids of containers that acted in a scenario about a standing rule, by rule.
    standing: BTreeMap<&'static str, BTreeSet<String>>,
}

impl<'a> Stage<'a> {
    fn open(options: &'a Options, session: Session) -> Result<Self> {
        let mut arguments = Vec::new();
        if let Some(policy) = session.policy() {
            let path = options.work.join(format!("{}.toml", session.name()));
            std::fs::write(&path, policy).with_context(|| format!("write {}", path.display()))?;
            arguments.extend(["--policy".to_owned(), path.display().to_string()]);
        }
        for hook in session.without() {
            arguments.extend(["--without-hook".to_owned(), (*hook).to_owned()]);
        }
        if let Some(tier) = session.tier() {
            arguments.extend(["--tier".to_owned(), tier.to_owned()]);
        }
        arguments.extend(contract::arguments(&traces_of(options, session))?);
        let start = |binary: &PathBuf| Auditor::start(binary, &arguments, options.patience * START);
        let auditor = options.auditor.as_ref().map(start).transpose()?;
        Ok(Self {
            options,
            session,
            auditor,
            claimed: BTreeSet::new(),
            played: Vec::new(),
            standing: BTreeMap::new(),
        })
    }

    fn play(&mut self, scenario: &Scenario, runtime: &Runtime, report: &mut Report) -> Result<()> {
        let name = format!("{}/{}", runtime.name, scenario.id);
        let mut cast = Cast::new(self.options, scenario, runtime)?;
        let ids = cast
            .running
            .iter()
            .map(|container| container.id.clone())
            .collect();
        self.played.push((name.clone(), ids));
        for step in &scenario.steps {
            let case = format!("{name}/{}", step.id);
            if let Some(missing) = step.needs.iter().find(|need| !self.is_met(**need, runtime)) {
                report.skip(case, format!("needs {missing:?}"))?;
                continue;
            }
            let acting = cast.running.get(step.who).map(|of| of.id.clone());
            for rule in STANDING.into_iter().filter(|rule| scenario.is_about(rule)) {
                self.standing
                    .entry(rule)
                    .or_default()
                    .extend(acting.clone());
            }
            let started = Instant::now();
            let (problem, shown) = match cast.perform(step)? {
                Some(problem) => (Some(problem), Vec::new()),
                None => self.await_lines(step, &cast),
            };
            report.check_lines(case, started.elapsed(), problem, shown)?;
        }
        cast.leave()
    }

    fn is_met(&self, need: Need, runtime: &Runtime) -> bool {
        match need {
            Need::TimeNamespace => Path::new("/proc/self/ns/time").exists(),
            Need::Unified => runtime.has_unified_leaf(),
            Need::CgroupNamespace => runtime.layout == Layout::Unified,
            Need::Pids => Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists(),
            Need::UnlimitedMaps => kernel_is_at_least(5, 11),
            Need::Overlay => crate::bundle::has_overlays(),
            Need::TimerList => Path::new("/proc/timer_list").exists(),
            Need::MountSetattr => kernel_is_at_least(5, 12),
            Need::BpfIsAsked => kernel_is_at_least(6, 5),
            Need::PerfIsAsked => {
                let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
                paranoid.is_ok_and(|level| level.trim() == "2")
            }
            Need::CryptoSockets => crate::act::kernel::has_crypto_sockets(),
            Need::Calls32 => crate::act::compat::getpid().is_ok(),
            Need::Disk => Disk::is_possible(),
            Need::Modules => Path::new("/proc/modules").exists(),
            Need::Kexec => Path::new("/sys/kernel/kexec_loaded").exists(),
            Need::Labels => labels_tasks(),
            Need::NoLabels => !labels_tasks(),
            Need::KernelMemory => self.options.memory.is_some(),
        }
    }

    /// Waits for a step's lines; says which did not come, and what the others show.
    fn await_lines(&mut self, step: &Step, cast: &Cast<'_>) -> (Option<String>, Vec<Shown>) {
        let Some(auditor) = &self.auditor else {
            return (None, Vec::new());
        };
        let mut missing = Vec::new();
        let mut shown = Vec::new();
        for expect in &step.expects {
            match is_seen(auditor, expect.requires) {
                Ok(true) => missing.push(expect),
                // If it came all the same, it would be one that nobody expected.
                Ok(false) => shown.push(coverage::unseen(expect)),
                Err(problem) => return (Some(problem), Vec::new()),
            }
        }
        let mut claimed = std::mem::take(&mut self.claimed);
        auditor.wait(Instant::now() + self.options.patience * 4, |lines| {
            missing.retain(|expect| {
                let fits = |(index, line): (usize, &Value)| {
                    (!claimed.contains(&index) && cast.matches(step, expect, line, lines))
                        .then_some(index)
                };
                let found = lines.iter().enumerate().find_map(fits);
                claimed.extend(found);
                shown.extend(found.map(|index| coverage::shown(expect, &lines[index])));
                found.is_none()
            });
            missing.is_empty()
        });
        self.claimed = claimed;
        let words: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let problem = (!words.is_empty()).then(|| format!("did not come: {}", words.join("; ")));
        (problem, shown)
    }

    /// Ends the session and judges what is left; gives the lengths of all violations.
    fn close(self, report: &mut Report) -> Result<Vec<usize>> {
        let Self {
            options,
            session,
            auditor,
            claimed,
            played,
            standing,
        } = self;
        let Some(auditor) = auditor else {
            return Ok(Vec::new());
        };
        let started = Instant::now();
        // What was not expected gets as long to appear as what was.
        std::thread::sleep(options.patience / 2);
        let ended = auditor.stop(options.patience * 10)?;
        let took = started.elapsed();
        if options.show == Show::Violations {
            let ours =
                |line: &&Value| is_type(line, "violation") && concerns_us(line, &options.prefix);
            ended
                .lines
                .iter()
                .filter(ours)
                .for_each(|line| println!("{line}"));
        }
        let last = ended.lines.last();
        let end_ns = last.map_or(u64::MAX, |line| line["boottime_ns"].as_u64().unwrap_or(0));
        let unexpected: Vec<&Value> = (ended.lines.iter().enumerate())
            .filter(|(index, line)| {
                must_be_expected(line, &standing)
                    && !claimed.contains(index)
                    && !claimed.iter().any(|&at| {
                        let first = &ended.lines[at];
                        let between = ended.lines.get(at..*index).unwrap_or_default();
                        is_repeat(first, line, end_ns)
                            || comes_again(first, line, between)
                            || follows_from(first, line)
                    })
            })
            .map(|(_, line)| line)
            .collect();
        for (name, ids) in &played {
            let own: Vec<&Value> = unexpected
                .iter()
                .copied()
                .filter(|line| names_any(line, ids))
                .collect();
            report.check(format!("{name}/nothing-else"), took, describe(&own))?;
        }
        let all_ids: BTreeSet<String> = played.into_iter().flat_map(|(_, ids)| ids).collect();
        let others: Vec<&Value> = (unexpected.into_iter())
            .filter(|line| !names_any(line, &all_ids) && concerns_us(line, &options.prefix))
            .collect();
        report.check(
            format!("{}/silence", session.name()),
            took,
            describe(&others),
        )?;
        report.check(
            format!("{}/told-once", session.name()),
            took,
            told_twice(&ended.lines),
        )?;
        report.check(
            format!("{}/ends-well", session.name()),
            took,
            end_problem(&ended),
        )?;
        let case = format!("{}/hooks-agree", session.name());
        report.check(case, took, coverage::disagreement(&ended.lines))?;
        let has_trampolines = ended
            .lines
            .first()
            .is_some_and(|line| line["tier"] == "trampoline");
        if has_trampolines && kernel_is_at_least(7, 0) {
            // These kernels always interrupt tasks within programs.
            let case = format!("{}/modules", session.name());
            report.check(case, took, coverage::left_to_chance(&ended.lines))?;
        }
        let traces = traces_of(options, session);
        if let Some(auditor) = &options.auditor {
            let started = Instant::now();
            let problem = match contract::differs(auditor, &traces, &ended.raw)? {
                None => contract::too_large(&traces, events(&ended))?,
                problem => problem,
            };
            let case = format!("{}/replays", session.name());
            report.check(case, started.elapsed(), problem)?;
        }
        if let Some(path) = &options.hand_over {
            let file = std::fs::File::options()
                .append(true)
                .open(path)
                .with_context(|| format!("open {}", path.display()))?;
            let mut out = std::io::BufWriter::new(file);
            contract::Bundle::send(session.name(), &traces, &ended.raw, &mut out)?;
        }
        std::fs::remove_dir_all(&traces).with_context(|| format!("remove {}", traces.display()))?;
        Ok(violation_bytes(&ended))
    }
}

/// Whether a security module has a label for this process.
fn labels_tasks() -> bool {
    std::fs::read("/proc/self/attr/current").is_ok_and(|label| !label.is_empty())
}

/// Whether the running kernel is of this version or a later one.
fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|part| part.parse::<u32>().ok());
    numbers.next().zip(numbers.next()) >= Some((major, minor))
}

/// Whether one of the hooks that a line rests on works. Where none does, the start line must say so.
fn is_seen(auditor: &Auditor, requires: Requires) -> Result<bool, String> {
    let hooks = requires.hooks();
    let states: Vec<Value> = hooks.iter().filter_map(|name| auditor.hook(name)).collect();
    if states.len() < hooks.len() {
        return Err(format!("the start line does not name all of {hooks:?}"));
    }
    let works = |state: &Value| state["state"] == "fires" || state["state"] == "attached";
    if hooks.is_empty() || states.iter().any(works) {
        return Ok(true);
    }
    if states.iter().any(|state| state["not_seen"].is_string()) {
        return Ok(false);
    }
    Err(format!(
        "of {hooks:?} none works, and the start line does not say what is not seen"
    ))
}

fn traces_of(options: &Options, session: Session) -> PathBuf {
    options.work.join(format!("{}-traces", session.name()))
}

/// Events of the kernel that the auditor took in.
fn events(ended: &Ended) -> u64 {
    let last = ended.lines.last();
    last.and_then(|line| line.get("events"))
        .and_then(Value::as_u64)
        .unwrap_or(0)
}

/// The length of each violation, as it was printed, without the newline.
fn violation_bytes(ended: &Ended) -> Vec<usize> {
    let both = ended.lines.iter().zip(&ended.raw);
    both.filter(|(line, _)| is_type(line, "violation"))
        .map(|(_, raw)| raw.len())
        .collect()
}

/// Whether a line may only appear where a step expects it. Others are for the record.
fn must_be_expected(line: &Value, standing: &BTreeMap<&str, BTreeSet<String>>) -> bool {
    let is = |kind: LineKind| is_type(line, kind.name());
    let rule = line["rule"].as_str().unwrap_or_default();
    let is_about = |ids| names_any(line, ids);
    is(LineKind::Violation)
        || is(LineKind::Drift)
        || is(LineKind::Audit) && matches!(rule, "shared-handle" | "privilege-escalation")
        || is(LineKind::Audit) && standing.get(rule).is_some_and(is_about)
}

/// How a container stands is told once, whoever's it is.
fn told_twice(lines: &[Value]) -> Option<String> {
    let mut seen = BTreeSet::new();
    let of = |line: &Value, part: &str| line.pointer(part).map(Value::to_string);
    let twice = lines.iter().find(|line| {
        let rule = line["rule"].as_str().unwrap_or_default();
        let parts = ["/subject/id", "/subject/incarnation", "/message"];
        STANDING.contains(&rule) && !seen.insert((rule, parts.map(|part| of(line, part))))
    });
    twice.map(|line| format!("again: {line}"))
}

/// Whether a line folds repeats of an earlier one: the same finding, a fold window (a minute) later, or when the stream
/// ended.
fn is_repeat(first: &Value, line: &Value, end_ns: u64) -> bool {
    const WINDOW_NS: u64 = 60_000_000_000;
    let when = |line: &Value| line["boottime_ns"].as_u64().unwrap_or(0);
    is_alike(first, line) && when(line) >= end_ns.min(when(first) + WINDOW_NS)
}

/// Whether a line tells anew what was resolved meanwhile: a sweep came between two of many acts.
fn comes_again(first: &Value, line: &Value, between: &[Value]) -> bool {
    let is_resolved = |one: &Value| is_type(one, "resolved") && is_alike(first, one);
    is_alike(first, line) && between.iter().any(is_resolved)
}

/// Whether two lines are about the same parties, by one rule in one dimension.
fn is_alike(one: &Value, other: &Value) -> bool {
    ["/rule", "/dimension", "/subject/id", "/object/id"]
        .iter()
        .all(|part| one.pointer(part) == other.pointer(part))
}

/// Whether a line tells what another one brings about for a moment: a descriptor that was fetched from another's process is
/// held by both until the act is over, and a sweep may come in between.
fn follows_from(first: &Value, line: &Value) -> bool {
    first["rule"] == "process-control"
        && line["rule"] == "shared-handle"
        && ["/subject/id", "/object/id"]
            .iter()
            .all(|part| first.pointer(part) == line.pointer(part))
}

fn names_any(line: &Value, ids: &BTreeSet<String>) -> bool {
    parties(line)
        .iter()
        .any(|party| matches!(party, Entity::Container(id) if ids.contains(id)))
}

/// Another user's containers on the same machine are none of our business; the host and our own are.
fn concerns_us(line: &Value, prefix: &str) -> bool {
    match &parties(line)[0] {
        // Nobody knows what a path names: it may be ours.
        Entity::Container(id) => id.starts_with(prefix) || id.starts_with('/'),
        Entity::Host | Entity::Other(_) => true,
    }
}

fn describe(lines: &[&Value]) -> Option<String> {
    const SHOWN: usize = 5;
    if lines.is_empty() {
        return None;
    }
    let shown: Vec<String> = lines
        .iter()
        .take(SHOWN)
        .map(|line| (*line).to_string())
        .collect();
    Some(format!(
        "{} unexpected:\n    {}",
        lines.len(),
        shown.join("\n    ")
    ))
}

fn end_problem(ended: &Ended) -> Option<String> {
    if !ended.status.success() {
        return Some(format!("the auditor ended with {}", ended.status));
    }
    if let Some(line) = ended.bad.first() {
        return Some(format!("not a JSON line: {line:?}"));
    }
    let last = ended.lines.last()?;
    if is_type(last, "stop") {
        None
    } else {
        Some(format!("the last line is not a stop line: {last}"))
    }
}

/// Removes the parents of leaf cgroups, in every hierarchy.
fn remove_cgroups(parent: &str) {
    let name = parent.trim_start_matches('/');
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        remove_tree(&hierarchy.join(name));
    }
}

/// Removes a cgroup and those below it. Most hierarchies do not have it.
fn remove_tree(cgroup: &Path) {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(cgroup);
}

#[cfg(test)]
mod tests {
    use super::{table, whose_turn};

    /// Goal: whatever is played by turns is played with each runtime, and each turn has both. Method: the scenarios' names.
    #[test]
    fn turns_leave_nobody_out() {
        let first = |turn| {
            let scenarios = table::scenarios().into_iter();
            scenarios
                .filter(|scenario| whose_turn(scenario.id, turn, 2) == 0)
                .count()
        };
        let all = table::scenarios().len();
        for turn in 0..4 {
            assert_eq!(first(turn) + first(turn + 1), all);
            assert!((all / 4..all - all / 4).contains(&first(turn)), "{turn}");
        }
    }
}
