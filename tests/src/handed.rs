//! What containers hold together, as a scan tells it: without kernel programs, from /proc, by comparing open files, and by
//! asking the kernel which ends of connections belong together.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use auditor::model::output::Evidence;
use auditor::model::{Dimension, Verdict};
use auditor::report::scan::ScanReport;

use crate::act::Act;
use crate::act::handle::{HandleAct, Made};
use crate::act::socket::SocketAct;
use crate::cast::Cast;
use crate::interrupt;
use crate::outcome::Report;
use crate::runner::Options;
use crate::runtime::Runtime;
use crate::scenario::{Container, Scenario, Session};

/// Scans until one shows what was done just before.
const SCANS: usize = 5;
const CONNECTION: &str = "/share/scanned.sock";
const PASSED: &str = "/share/passed.sock";

fn scene() -> Scenario {
    let share = |name| Container {
        share: true,
        ..Container::plain(name)
    };
    Scenario {
        id: "handed",
        does: "two containers are connected, two have one open file, and one has what all have",
        session: Session::Default,
        containers: ["a", "b", "c", "d", "e"].map(share).to_vec(),
        steps: Vec::new(),
    }
}

/// Runs the suite with every runtime, if it was asked for.
///
/// # Errors
/// When the surroundings fail; a failed case is an outcome.
pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let Some(auditor) = options
        .auditor
        .as_deref()
        .filter(|_| options.wants("handed"))
    else {
        return Ok(());
    };
    for runtime in options.runtimes_of("handed") {
        interrupt::check()?;
        let started = Instant::now();
        let case = |name: &str| format!("{}/handed/{name}", runtime.name);
        let seen = match play(options, auditor, runtime) {
            Ok(seen) => seen,
            Err(error) => {
                report.check(case("runs"), started.elapsed(), Some(format!("{error:#}")))?;
                continue;
            }
        };
        let took = started.elapsed();
        for (name, pair, kind, asked) in [
            ("connection", [0, 1], Some("socket"), "sock_diag"),
            ("file", [2, 3], Some("file"), "kcmp"),
            ("connection-neighbour", [0, 4], None, ""),
            ("file-neighbour", [2, 4], None, ""),
            ("strangers", [0, 2], None, ""),
        ] {
            let blind = |said: &String| !asked.is_empty() && said.contains(asked);
            if seen.scan.may_miss.iter().any(blind) {
                report.skip(case(name), format!("needs {asked}"))?;
                continue;
            }
            let problem = compare(&seen, pair, kind).err();
            report.check(case(name), took, problem.map(|error| format!("{error:#}")))?;
        }
    }
    Ok(())
}

struct Seen {
    ids: Vec<String>,
    scan: ScanReport,
}

fn play(options: &Options, auditor: &Path, runtime: &Runtime) -> Result<Seen> {
    let scene = scene();
    let mut cast = Cast::new(options, &scene, runtime)?;
    let offer = HandleAct::Offer {
        path: PASSED.to_owned(),
        what: Made::File,
    };
    let accept = HandleAct::Accept {
        path: CONNECTION.to_owned(),
    };
    let take = HandleAct::Take {
        path: PASSED.to_owned(),
    };
    let connect = SocketAct::Connect {
        name: CONNECTION.to_owned(),
    };
    act(&mut cast, 1, &Act::Handle(accept))?;
    act(&mut cast, 0, &Act::Socket(connect))?;
    act(&mut cast, 3, &Act::Handle(offer))?;
    act(&mut cast, 2, &Act::Handle(take))?;
    let ids = cast.running.iter();
    let ids: Vec<String> = ids
        .map(|container| format!("{}:{}", runtime.name, container.id))
        .collect();
    let mut seen = Seen {
        scan: scan(auditor)?,
        ids,
    };
    for _ in 1..SCANS {
        // Who accepts does so in his own time.
        let shows = |pair, kind| compare(&seen, pair, Some(kind)).is_ok();
        if shows([0, 1], "socket") && shows([2, 3], "file") {
            break;
        }
        seen.scan = scan(auditor)?;
    }
    cast.leave()?;
    Ok(seen)
}

fn act(cast: &mut Cast<'_>, who: usize, act: &Act) -> Result<()> {
    let answer = cast.running[who].act(act)?;
    let error = std::io::Error::from_raw_os_error(answer.errno);
    ensure!(answer.errno == 0, "{}: {error}", answer.what);
    Ok(())
}

fn scan(auditor: &Path) -> Result<ScanReport> {
    let output = Command::new(auditor)
        .args(["scan", "--format", "json"])
        .output()
        .context("start a scan")?;
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("read a scan ({}): {said}", output.status))
}

/// Whether a scan says of two containers that they hold something of this kind together; `None`: nothing.
fn compare(seen: &Seen, pair: [usize; 2], kind: Option<&str>) -> Result<()> {
    let [a, b] = pair.map(|index| &seen.ids[index]);
    for id in [a, b] {
        let known = seen.scan.entities.iter().any(|entity| entity.id == *id);
        ensure!(known, "the scan does not know {id}");
    }
    let mut pairs = seen.scan.pairs.iter();
    let pair = pairs.find(|pair| [&pair.a, &pair.b] == [a, b] || [&pair.b, &pair.a] == [a, b]);
    let found = pair.and_then(|pair| {
        let mut dimensions = pair.dimensions.iter();
        dimensions.find(|found| found.dimension == Dimension::Handles)
    });
    let found = found.filter(|found| found.verdict != Verdict::Isolated);
    let witness = found.and_then(|found| match &found.witness.as_ref()?.object {
        Evidence::Handle { kind, .. } => Some(kind.as_str()),
        _ => None,
    });
    ensure!(
        found.is_some() == kind.is_some() && witness == kind,
        "{a} and {b}: {found:?}, not {kind:?}"
    );
    Ok(())
}
