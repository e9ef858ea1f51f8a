//! What of containers' mounts others have too: directories of the host, and peer groups. Nothing of it is a line of a
//! watch: a scan tells who has what with whom, and by which mount.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use auditor::model::output::Evidence;
use auditor::model::{Dimension, Verdict};
use auditor::report::scan::{ScanReport, ScanWitness};
use serde_json::{Value, json};

use crate::bundle::{self, Bundle, Given};
use crate::host_side::Mounted;
use crate::identity::container_id;
use crate::interrupt;
use crate::outcome::Report;
use crate::runner::Options;
use crate::runtime::{Layout, Running, Runtime};
use crate::scenario::Container;

/// Where a container has it.
const POINT: &str = "/data";

/// A directory of the host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Nothing is special about it.
    Plain,
    /// It is a mount that shares with others what is mounted below it.
    Shared,
}

/// A container that has a directory of the host at [`POINT`].
struct Guest {
    name: &'static str,
    source: Source,
    options: [&'static str; 3],
    /// How its root propagates: mounts get it from there.
    root: &'static str,
    /// Its spec says so.
    declared: bool,
}

const GUESTS: [Guest; 9] = [
    bound("given", "rw", true),
    bound("unsaid", "rw", false),
    bound("unsaid-too", "rw", false),
    bound("reader", "ro", true),
    peer("peer", "rshared", true),
    peer("peer-unsaid", "rshared", false),
    peer("peer-unsaid-too", "rshared", false),
    peer("receiver", "rslave", true),
    peer("private", "rprivate", true),
];

const fn bound(name: &'static str, access: &'static str, declared: bool) -> Guest {
    Guest {
        name,
        source: Source::Plain,
        options: ["rbind", access, "rprivate"],
        root: "rprivate",
        declared,
    }
}

/// Read-only, so that nothing but the propagation is shared.
const fn peer(name: &'static str, propagation: &'static str, declared: bool) -> Guest {
    Guest {
        name,
        source: Source::Shared,
        options: ["rbind", "ro", propagation],
        root: propagation,
        declared,
    }
}

const HOST: &str = "host";
const DECLARED: Verdict = Verdict::DeclaredShared;
const UNSAID: Verdict = Verdict::Degraded;
const NOTHING: Verdict = Verdict::Isolated;

/// What lies between two.
struct Expected(
    /// The case.
    &'static str,
    /// Who.
    [&'static str; 2],
    /// The verdict of the dimension `mounts`.
    Verdict,
    /// What is said of the mount that proves it.
    &'static [&'static str],
);

const EXPECTED: [Expected; 14] = [
    Expected("declared", ["given", "unsaid"], DECLARED, &[]),
    Expected("declared-host", ["given", HOST], DECLARED, &[]),
    Expected("unsaid", ["unsaid", "unsaid-too"], UNSAID, &[]),
    Expected("unsaid-host", ["unsaid", HOST], UNSAID, &[]),
    Expected("read-only", ["given", "reader"], NOTHING, &[]),
    Expected("read-only-host", ["reader", HOST], NOTHING, &[]),
    Expected("peers", ["peer", "peer-unsaid"], DECLARED, &["shared"]),
    Expected("peers-host", ["peer", HOST], DECLARED, &["shared"]),
    Expected(
        "peers-unsaid",
        ["peer-unsaid", "peer-unsaid-too"],
        UNSAID,
        &["shared"],
    ),
    Expected(
        "peers-unsaid-host",
        ["peer-unsaid", HOST],
        UNSAID,
        &["shared"],
    ),
    Expected("receiver-host", ["receiver", HOST], DECLARED, &["slave"]),
    Expected("receiver", ["receiver", "peer"], NOTHING, &[]),
    Expected("private", ["private", "peer"], NOTHING, &[]),
    Expected("private-host", ["private", HOST], NOTHING, &[]),
];

/// Runs the suite with every runtime, if it was asked for.
///
/// # Errors
/// When the surroundings fail; a failed case is an outcome.
pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let Some(auditor) = options
        .auditor
        .as_deref()
        .filter(|_| options.wants("sharing"))
    else {
        return Ok(());
    };
    for runtime in options.runtimes_of("sharing") {
        interrupt::check()?;
        let started = Instant::now();
        let seen = match play(options, auditor, runtime) {
            Ok(seen) => seen,
            Err(error) => {
                let case = format!("{}/sharing/runs", runtime.name);
                report.check(case, started.elapsed(), Some(format!("{error:#}")))?;
                continue;
            }
        };
        for expected in &EXPECTED {
            let problem = compare(options, runtime, &seen, expected).err();
            report.check(
                format!("{}/sharing/{}", runtime.name, expected.0),
                started.elapsed(),
                problem.map(|error| format!("{error:#}")),
            )?;
        }
    }
    Ok(())
}

/// What a scan says, and what is so.
struct Seen {
    scan: ScanReport,
    /// Whose directory propagates to the host's or from it. crun (1.8) gives what it binds a peer group of its own,
    /// whatever the spec says.
    propagating: Vec<&'static str>,
}

/// Has all of them run at once, and looks.
fn play(options: &Options, auditor: &Path, runtime: &Runtime) -> Result<Seen> {
    let directories = Directories::new(options)?;
    let mut running: Vec<(Running, Bundle)> = Vec::new();
    for guest in &GUESTS {
        let bundle = write(options, runtime, guest, directories.of(guest.source))?;
        running.push((runtime.start(&bundle, None)?, bundle));
    }
    let group = group_of(std::process::id(), directories.shared.path(), "shared:")
        .context("the shared directory is in no peer group")?;
    let mut propagating = Vec::new();
    for (guest, (container, _)) in GUESTS.iter().zip(&running) {
        let of = |field| group_of(container.pid as u32, Path::new(POINT), field);
        if [of("shared:"), of("master:")].contains(&Some(group)) {
            propagating.push(guest.name);
        }
    }
    let output = Command::new(auditor)
        .args(["scan", "--format", "json"])
        .output()
        .context("start a scan")?;
    for (container, bundle) in running {
        container.stop()?;
        std::fs::remove_dir_all(&bundle.directory)
            .with_context(|| format!("remove {}", bundle.directory.display()))?;
    }
    directories.remove()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let scan = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("read a scan ({}): {said}", output.status))?;
    ensure!(
        runtime.name == "crun" || propagating.contains(&"peer"),
        "{} lets nothing propagate",
        runtime.name
    );
    Ok(Seen { scan, propagating })
}

/// Number of the peer group of a mount, as a field of a process's table tells it.
fn group_of(pid: u32, point: &Path, field: &str) -> Option<u32> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let point = point.to_str()?;
    let mount = table
        .lines()
        .find(|line| line.split(' ').nth(4) == Some(point))?;
    let mut fields = mount.split(' ');
    fields.find_map(|word| word.strip_prefix(field)?.parse().ok())
}

/// The host's.
struct Directories {
    plain: PathBuf,
    shared: Mounted,
}

impl Directories {
    fn new(options: &Options) -> Result<Self> {
        let make = |name: &str| -> Result<PathBuf> {
            let path = options.work.join(name);
            std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
            Ok(path)
        };
        Ok(Self {
            plain: make("plain")?,
            shared: Mounted::new(make("shared")?)?,
        })
    }

    fn of(&self, source: Source) -> &Path {
        match source {
            Source::Plain => &self.plain,
            Source::Shared => self.shared.path(),
        }
    }

    fn remove(self) -> Result<()> {
        let Self { plain, shared } = self;
        let shared_path = shared.path().to_owned();
        drop(shared);
        for path in [plain, shared_path] {
            std::fs::remove_dir(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }
}

fn id(options: &Options, runtime: &Runtime, name: &str) -> String {
    container_id(&options.prefix, &runtime.name, "sharing", name)
}

fn write(options: &Options, runtime: &Runtime, guest: &Guest, source: &Path) -> Result<Bundle> {
    let given = Given {
        id: &id(options, runtime, guest.name),
        args: &["/bin/actor", "serve"],
        net_path: None,
        cgroup_namespace: runtime.layout == Layout::Unified,
        cgroup_parent: &options.cgroup_parent(),
        share: None,
    };
    let container = Container::plain(guest.name);
    let bundle = bundle::write(&options.work, &options.programs, &container, &given)?;
    std::fs::create_dir_all(bundle.directory.join("rootfs").join(&POINT[1..]))
        .with_context(|| format!("create {POINT}"))?;
    // So many containers at once are much for a guest that holds them in memory.
    for unused in ["actor-setuid", "actor-capable"] {
        let path = bundle.directory.join("rootfs/bin").join(unused);
        std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    let path = bundle.directory.join("config.json");
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let unsaid: Value = serde_json::from_slice(&text)?;
    let mut config = unsaid.clone();
    config["linux"]["rootfsPropagation"] = json!(guest.root);
    let mount = json!({
        "destination": POINT, "type": "bind", "source": source, "options": guest.options,
    });
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(mount);
    }
    if guest.declared {
        std::fs::write(&path, serde_json::to_vec_pretty(&config)?)
            .with_context(|| format!("write {}", path.display()))?;
    } else {
        bundle::replace_config(&bundle, &options.programs, config, &unsaid)?;
    }
    Ok(bundle)
}

/// Whether a scan says of two what it must.
fn compare(
    options: &Options,
    runtime: &Runtime,
    Seen { scan, propagating }: &Seen,
    &Expected(_, pair, wanted, of_mount): &Expected,
) -> Result<()> {
    let propagates = |name: &&str| *name == HOST || propagating.contains(name);
    let wanted = match of_mount.is_empty() || pair.iter().all(propagates) {
        true => wanted,
        false => NOTHING,
    };
    let [a, b] = pair.map(|name| match name {
        HOST => HOST.to_owned(),
        name => format!("{}:{}", runtime.name, id(options, runtime, name)),
    });
    for id in [&a, &b] {
        let known = scan.entities.iter().any(|entity| entity.id == *id);
        ensure!(known, "the scan does not know {id}");
    }
    let mut pairs = scan.pairs.iter();
    let pair = pairs.find(|pair| pair.a == a && pair.b == b || pair.a == b && pair.b == a);
    let found = pair.and_then(|pair| {
        let mut dimensions = pair.dimensions.iter();
        dimensions.find(|found| found.dimension == Dimension::Mounts)
    });
    let verdict = found.map_or(Verdict::Isolated, |found| found.verdict);
    ensure!(
        verdict == wanted,
        "{a} and {b}: {verdict:?}, not {wanted:?}, by {:?}",
        found.map(|found| &found.witness)
    );
    let Some(found) = found else {
        return Ok(());
    };
    let Some(ScanWitness {
        object: Evidence::Mount { point, flags, .. },
        ..
    }) = &found.witness
    else {
        anyhow::bail!("{a} and {b}: no mount is the witness: {found:?}");
    };
    // Of a directory of two containers no place is told: it may be another one in each.
    ensure!(
        (point == POINT || point.is_empty()) && flags == of_mount,
        "{a} and {b}: the witness is {:?}",
        found.witness
    );
    Ok(())
}
