//! One look at the machine: the same engine, fed with one snapshot from /proc.

use super::live::{at_rest, config};
use super::{Sources, step};
use crate::cli::failure::Failure;
use crate::engine::rule::{name, ns_evidence, ns_words, owner};
use crate::engine::{Engine, Event, Facts};
use crate::model::facts::{EntityId, HOST, ObjectKey};
use crate::model::isolation::{Matrix, MatrixPair, Means};
use crate::model::output::{Evidence, SCHEMA};
use crate::model::policy::Policy;
use crate::model::power::Power;
use crate::model::{Dimension, NsKind, Tier, Verdict, capability, text};
use crate::report::layers::LayersReport;
use crate::report::scan::{
    ScanDimension, ScanEntity, ScanNs, ScanPair, ScanPower, ScanReport, ScanSummary, ScanType,
    ScanWitness, SharedObject,
};
use crate::sensor::cgroupfs::CgroupTree;
use crate::sensor::clock::Machine;
use crate::sensor::handles::looked;
use crate::sensor::procfs::ProcFs;
use crate::sensor::snapshot::Snapshot;
use crate::sensor::{files, handles};
use auditor_common::record::{TaskState, known, task_flags};
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two looks at files. A stream that a shell saves while it redirects is not there for longer.
const BETWEEN: Duration = Duration::from_millis(100);

/// What one look at the machine shows, and when it was over.
///
/// # Errors
/// A [`Failure`] when /proc or the cgroups cannot be read.
pub fn look(policy: &Policy) -> anyhow::Result<(Engine, u64)> {
    let machine = Machine::read().map_err(|e| {
        Failure::new("cannot tell which machine this is", "mount /proc").caused_by(e)
    })?;
    let (proc, tree) = at_rest(&machine)?;
    let engine = Engine::new(config(&machine, &tree, None, Duration::ZERO), policy);
    let mut scan = Scan {
        engine,
        sources: Sources::system(),
        proc,
        tree,
    };
    let (mut files, mut end_ns) = scan.sweep()?;
    // The first sweep only finds out who is a container's. After it directories are told at first sight, other files at
    // the second.
    for _ in 0..2 {
        if files > 0 {
            std::thread::sleep(BETWEEN);
            (files, end_ns) = scan.sweep()?;
        }
    }
    Ok((scan.engine, end_ns))
}

/// A look that goes on.
struct Scan {
    engine: Engine,
    sources: Sources,
    proc: ProcFs,
    tree: CgroupTree,
}

impl Scan {
    fn step(&mut self, event: Event<'_>) {
        // What is told of it is of no interest, only what is known then.
        let mut records = Vec::new();
        step(
            &mut self.engine,
            &mut self.sources,
            None,
            None,
            event,
            &mut records,
        );
    }

    /// Gives the engine all that /proc tells; says how many foreign files are held, and when it was over.
    fn sweep(&mut self) -> anyhow::Result<(usize, u64)> {
        let snapshot = Snapshot::read(&self.proc, &self.tree)
            .map_err(|e| Failure::new("cannot read /proc", "run as root").caused_by(e))?;
        let Snapshot {
            cgroups,
            tasks,
            begin_ns,
            end_ns,
            cgroups_unseen: _,
            unreadable,
            tasks_left_out,
            mounts,
        } = &snapshot;
        for cgroup in cgroups {
            self.step(Event::Cgroup(cgroup));
        }
        let files = files::read(&self.proc, tasks, mounts, *end_ns);
        let held = handles::at_rest::read(&self.proc, tasks);
        let shared = handles::at_rest::shared(&held, tasks);
        self.step(Event::SweepBegin {
            boottime_ns: *begin_ns,
        });
        tasks.iter().for_each(|task| self.step(Event::Task(task)));
        let acts = files.iter().chain(&shared);
        acts.for_each(|act| self.step(Event::Act(act)));
        self.step(Event::SweepEnd {
            boottime_ns: *end_ns,
            complete: *tasks_left_out == 0,
        });
        if !unreadable.is_empty() {
            tracing::warn!("{} tasks could not be read", unreadable.len());
        }
        if held.unreadable > 0 {
            tracing::warn!("what {} processes hold could not be read", held.unreadable);
        }
        Ok((files.len(), *end_ns))
    }
}

/// What an engine knows, as a report.
#[must_use]
pub fn report(engine: &Engine, boottime_ns: u64) -> ScanReport {
    let Matrix {
        entities: _,
        pairs,
        shared,
        summary,
    } = engine.index().matrix();
    let config = engine.config();
    let unix_ns = i128::from(boottime_ns) + i128::from(config.realtime_offset_ns);
    let key = |id: EntityId| engine.party(id).id;
    ScanReport {
        schema: SCHEMA.to_owned(),
        kind: ScanType::Scan,
        node: config.node.clone(),
        time: text::rfc3339(unix_ns),
        boot_id: config.boot_id.clone(),
        tier: config.tier,
        policy_digest: engine.index().policy().digest(),
        entities: engine
            .facts()
            .into_iter()
            .map(|facts| entity(engine, &facts))
            .collect(),
        pairs: pairs.iter().map(|pair| scan_pair(engine, pair)).collect(),
        shared: shared
            .into_iter()
            .filter_map(|object| {
                Some(SharedObject {
                    object: evidence(engine, object.object)?,
                    dimension: object.dimension,
                    verdict: object.verdict,
                    members: object.members.into_iter().map(key).collect(),
                    offenders: object.offenders.into_iter().map(key).collect(),
                })
            })
            .collect(),
        not_evaluated: config.not_evaluated.clone(),
        may_miss: may_miss(engine),
        summary: ScanSummary {
            entities: summary.entities,
            pairs: summary.pairs,
            isolated: summary.isolated,
            violated: summary.violated,
            unknown: summary.unknown,
        },
    }
}

/// What is evaluated in part only.
fn may_miss(engine: &Engine) -> Vec<String> {
    if engine.config().tier != Tier::Scan {
        return Vec::new();
    }
    let looked = engine.looked_at_handles();
    let all = [
        (
            looked::OPEN_FILES,
            "handles: not all open files could be compared (kcmp)",
        ),
        (
            looked::PEERS,
            "handles: the kernel did not say everywhere which ends of unix connections belong together (sock_diag)",
        ),
    ];
    let missing = all.iter().filter(|(bit, _)| looked & bit == 0);
    let always =
        "handles: what has no inode of its own (eventfd, epoll and their like) is not compared";
    let missing = missing.map(|(_, sentence)| *sentence);
    missing.chain([always]).map(str::to_owned).collect()
}

fn entity(engine: &Engine, facts: &Facts) -> ScanEntity {
    let party = engine.party(facts.id);
    let init = facts.init.as_ref();
    let confined = init.filter(|s| s.known & known::CONFINEMENT != 0);
    ScanEntity {
        entity: party.entity,
        id: party.id,
        name: party.name,
        runtime: party.runtime,
        image: party.image,
        pod: party.pod,
        pid: init.map(|s| s.key.tgid),
        tasks: u64::from(facts.tasks),
        namespaces: facts
            .namespaces
            .iter()
            .map(|n| {
                (
                    n.kind,
                    ScanNs {
                        inum: n.inum,
                        initial: n.initial,
                    },
                )
            })
            .collect(),
        cgroup: (facts.id != HOST).then(|| facts.cgroup.clone()),
        capabilities: init.map(capabilities).unwrap_or_default(),
        seccomp: confined.map(|s| seccomp(s.seccomp_mode).to_owned()),
        no_new_privs: confined.map(|s| s.task_flags & task_flags::NO_NEW_PRIVS != 0),
        layers: engine.layers(facts.id).as_ref().map(LayersReport::of),
        powers: powers(engine, facts.id),
    }
}

fn powers(engine: &Engine, id: EntityId) -> Vec<ScanPower> {
    let found = engine.powers(id).map_or_else(Vec::new, |p| p.powers);
    let power = |power: &Power| ScanPower {
        capability: capability::name(power.capability).to_owned(),
        severity: power.severity,
        power: power.words.to_owned(),
    };
    found.into_iter().map(power).collect()
}

fn capabilities(state: &TaskState) -> BTreeMap<String, Vec<String>> {
    if state.known & known::CREDS == 0 {
        return BTreeMap::new();
    }
    let creds = &state.creds;
    [
        ("ambient", creds.cap_ambient),
        ("bounding", creds.cap_bounding),
        ("effective", creds.cap_effective),
        ("inheritable", creds.cap_inheritable),
        ("permitted", creds.cap_permitted),
    ]
    .into_iter()
    .map(|(set, mask)| {
        (
            set.to_owned(),
            capability::names(mask)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        )
    })
    .collect()
}

const fn seccomp(mode: u32) -> &'static str {
    match mode {
        0 => "off",
        1 => "strict",
        _ => "filter",
    }
}

/// All that is to be said of a pair.
pub(super) fn scan_pair(engine: &Engine, listed: &MatrixPair) -> ScanPair {
    let says = |v: Verdict| !matches!(v, Verdict::Isolated | Verdict::NotEvaluated);
    let dimensions = listed
        .pair
        .dimensions
        .iter()
        .filter(|d| says(d.verdict))
        .map(|d| ScanDimension {
            dimension: d.dimension,
            verdict: d.verdict,
            severity: d.severity,
            witness: d.object.and_then(|object| {
                let message = sentence(engine, listed, d.dimension, object);
                Some(ScanWitness {
                    object: evidence(engine, object)?,
                    message,
                })
            }),
        })
        .collect();
    ScanPair {
        a: engine.party(listed.a).id,
        b: engine.party(listed.b).id,
        class: listed.pair.class,
        iota: listed.pair.iota.map(u8::from),
        dimensions,
    }
}

fn sentence(engine: &Engine, pair: &MatrixPair, dimension: Dimension, object: ObjectKey) -> String {
    let world = engine.world();
    let (a, b) = (name(world, pair.a), name(world, pair.b));
    match object {
        ObjectKey::Ns(_, id) if dimension == Dimension::Ownership => {
            let whose = name(world, owner(world, id));
            format!("{a} or {b} could enter the other from the user namespace of {whose}")
        }
        ObjectKey::Ns(..) if dimension == Dimension::Processes => {
            let reach = |x, y| engine.index().reach(x, y);
            let could = |who: &str, means, whom: &str| {
                let verb = match means {
                    Means::Trace => "trace",
                    Means::Signal => "signal",
                };
                format!("{who} sees {whom}'s processes and could {verb} them")
            };
            match (reach(pair.a, pair.b), reach(pair.b, pair.a)) {
                (Some(x), Some(y)) if x == y => format!("{}, and vice versa", could(&a, x, &b)),
                (Some(x), Some(y)) => format!("{}; {}", could(&a, x, &b), could(&b, y, &a)),
                (Some(x), None) => could(&a, x, &b),
                (None, Some(y)) => could(&b, y, &a),
                (None, None) => format!("{a} and {b} no longer reach each other"),
            }
        }
        ObjectKey::Ns(_, id) => {
            let kind = world.ns.get(id).map_or(NsKind::Mnt, |n| n.kind);
            format!("{a} and {b} are in one {}", ns_words(kind))
        }
        ObjectKey::Territory(_) => format!("{a} and {b} sit in one cgroup subtree"),
        ObjectKey::Root(_) => format!("{a} and {b} have root directories in one mount namespace"),
        ObjectKey::Cwd(_) => format!("{a} and {b} have working directories in one mount namespace"),
        ObjectKey::Reference(_) => format!("{a} and {b} have open files of one mount namespace"),
        ObjectKey::Tree(_) => format!("{a} and {b} can write the same directory"),
        ObjectKey::Peer(id) => match engine.peer_is_mutual(id) {
            true => format!("mounts of {a} and {b} propagate to each other"),
            false => format!("mounts of one of {a} and {b} propagate to the other"),
        },
        ObjectKey::Handle(id) => {
            let what = engine.handle_words(id).unwrap_or("handle");
            format!("{a} and {b} hold one {what}")
        }
    }
}

fn evidence(engine: &Engine, object: ObjectKey) -> Option<Evidence> {
    let world = engine.world();
    match object {
        ObjectKey::Ns(dimension, id) => {
            let kind = world.ns.get(id)?.kind;
            let shown = if dimension == Dimension::PidForChildren {
                NsKind::PidForChildren
            } else {
                kind
            };
            ns_evidence(world, shown, id)
        }
        ObjectKey::Root(id) | ObjectKey::Cwd(id) | ObjectKey::Reference(id) => {
            ns_evidence(world, NsKind::Mnt, id)
        }
        ObjectKey::Tree(id) => engine.tree_evidence(id),
        ObjectKey::Peer(id) => engine.peer_evidence(id),
        ObjectKey::Handle(id) => engine.handle_evidence(id),
        ObjectKey::Territory(entity) => {
            let home = &world.entities.get(&entity)?.home;
            Some(Evidence::Cgroup {
                path: Some(home.clone()),
                id: 0,
                hierarchy: 0,
            })
        }
    }
}
