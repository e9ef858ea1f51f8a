//! What the cases with real tools share: how they are listed, skipped, run and judged.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{checkpoint, containerd, host, inside, lxc, podman, sandbox};
use crate::interrupt;
use crate::outcome::Report;
use crate::runner::Options;
use crate::sys;

/// Ids of containers whose lines a case answers for.
pub(super) type Ids = BTreeSet<String>;

/// One case.
struct Case {
    name: &'static str,
    /// Programs without which it is left out.
    needs: &'static [&'static str],
    run: fn(&Options, &mut Ids) -> Result<Done>,
}

/// How a case ended that did not fail.
pub(super) enum Done {
    /// All was done.
    Ran,
    /// It turned out to be impossible here.
    Impossible(String),
}

const CASES: [Case; 14] = [
    Case {
        name: "podman",
        needs: podman::NEEDS,
        run: podman::containers,
    },
    Case {
        name: "podman-pod",
        needs: podman::NEEDS,
        run: podman::pod,
    },
    Case {
        name: "containerd-cri",
        needs: containerd::NEEDS,
        run: containerd::pods,
    },
    Case {
        name: "lxc",
        needs: lxc::NEEDS,
        run: lxc::container,
    },
    Case {
        name: "lxc-scope",
        needs: lxc::NEEDS,
        run: lxc::scope,
    },
    Case {
        name: "bubblewrap",
        needs: &["bwrap"],
        run: sandbox::bubblewrap,
    },
    Case {
        name: "nspawn",
        needs: &["systemd-nspawn"],
        run: sandbox::nspawn,
    },
    Case {
        name: "criu",
        needs: &["criu"],
        run: checkpoint::process,
    },
    Case {
        name: "criu-runc",
        needs: &["criu", "runc"],
        run: checkpoint::container,
    },
    Case {
        name: "packages",
        needs: &["runc", "dpkg-deb"],
        run: inside::packages,
    },
    Case {
        name: "compiler",
        needs: &["runc", "cc"],
        run: inside::compiler,
    },
    Case {
        name: "backup",
        needs: &["runc", "tar"],
        run: host::backup,
    },
    Case {
        name: "monitoring",
        needs: &["runc"],
        run: host::monitoring,
    },
    Case {
        name: "namespace-tests",
        needs: &["unshare", "nsenter"],
        run: host::namespace_tests,
    },
];

/// Runs every case; gives what each answers for.
///
/// # Errors
/// When the surroundings fail; a failed case is an outcome.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<Vec<(String, Ids)>> {
    let mut played = Vec::new();
    for case in &CASES {
        interrupt::check()?;
        let name = format!("tool/silence/{}", case.name);
        if let Some(missing) = case.needs.iter().find(|program| find(program).is_none()) {
            report.skip(name, format!("no {missing} here"))?;
            continue;
        }
        let started = Instant::now();
        let mut ids = Ids::new();
        let done = (case.run)(options, &mut ids);
        // What a failed case started is answered for all the same.
        played.push((name.clone(), ids));
        match done {
            Ok(Done::Ran) => report.check(name, started.elapsed(), None)?,
            Ok(Done::Impossible(why)) => report.skip(name, why)?,
            Err(error) => report.check(name, started.elapsed(), Some(format!("{error:#}")))?,
        }
    }
    Ok(played)
}

/// Finds a program as a shell would, or where root's are.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// A command that is found as [`find`] does.
pub(super) fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| program.into()))
}

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// With its standard error, when it fails or takes too long.
pub(super) fn output(command: &mut Command, options: &Options) -> Result<String> {
    let mut printed = tempfile::tempfile().context("create a temporary file")?;
    let shared = printed.try_clone().context("share a temporary file")?;
    finish_into(command, shared, options)?;
    printed.rewind().context("rewind a temporary file")?;
    let mut text = String::new();
    printed
        .read_to_string(&mut text)
        .context("read a temporary file")?;
    Ok(text.trim().to_owned())
}

fn finish_into(command: &mut Command, printed: File, options: &Options) -> Result<()> {
    let what = format!("{command:?}");
    let mut errors = tempfile::tempfile().context("create a temporary file")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(printed)
        .stderr(errors.try_clone().context("share a temporary file")?)
        .spawn()
        .with_context(|| format!("start {what}"))?;
    let deadline = Instant::now() + options.patience * 10;
    let status = loop {
        if let Some(status) = child.try_wait().context("wait for a child")? {
            break status;
        }
        if Instant::now() > deadline {
            // It is ours, and it had its time.
            let _ = child.kill();
            let _ = child.wait();
            anyhow::bail!("{what}: still running");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut text = String::new();
    errors.rewind().context("rewind a temporary file")?;
    errors
        .read_to_string(&mut text)
        .context("read a temporary file")?;
    ensure!(status.success(), "{what}: {status}: {}", text.trim());
    Ok(())
}

/// A directory of a case below the work directory, which goes with all that is mounted in it.
pub(super) struct Place {
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Place {
    /// Makes it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new(options: &Options, name: &str) -> Result<Self> {
        let path = options.work.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path })
    }

    /// A path in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let mut ours: Vec<&Path> = points
            .map(Path::new)
            .filter(|point| point.starts_with(&self.path))
            .collect();
        ours.reverse();
        for point in ours {
            // Below one that is gone already.
            let _ = sys::umount_detach(point);
        }
        // What stays is removed with the work directory, or keeps that from going: both can be seen.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A service of the test's own, which ends with it.
pub(super) struct Service(pub(super) Child);

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = sys::kill(self.0.id() as i32, libc::SIGTERM);
        let _ = self.0.wait();
    }
}

/// What a scan says of one container.
///
/// # Errors
/// When the scan fails or knows no such container.
fn scanned(options: &Options, id: &str) -> Result<Option<serde_json::Value>> {
    let Some(auditor) = &options.auditor else {
        return Ok(None);
    };
    let output = Command::new(auditor)
        .args(["scan", "--format", "json"])
        .output()
        .context("start a scan")?;
    let text = String::from_utf8(output.stdout).context("read a scan")?;
    let scan: serde_json::Value = serde_json::from_str(&text).with_context(|| {
        format!(
            "read a scan ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let entities = scan["entities"]
        .as_array()
        .context("a scan without entities")?;
    let known = |entity: &&serde_json::Value| entity["id"].as_str() == Some(id);
    let found = entities.iter().find(known).cloned();
    let all = || {
        entities
            .iter()
            .map(|entity| entity["id"].to_string())
            .collect::<Vec<_>>()
    };
    found
        .map(Some)
        .with_context(|| format!("a scan knows no {id}, but {}", all().join(" ")))
}

/// Waits until a scan says of a container what it must: it begins when its first program runs, and the tool may be back
/// before that.
///
/// # Errors
/// When it does not.
pub(super) fn expect(options: &Options, id: &str, fields: &[(&str, &str)]) -> Result<()> {
    let deadline = Instant::now() + options.patience * 4;
    loop {
        match is_as_expected(options, id, fields) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            done => return done,
        }
    }
}

fn is_as_expected(options: &Options, id: &str, fields: &[(&str, &str)]) -> Result<()> {
    let Some(entity) = scanned(options, id)? else {
        return Ok(());
    };
    for (field, value) in fields {
        ensure!(
            entity[*field].as_str() == Some(value),
            "{id}: {field} is {}, not {value}",
            entity[*field]
        );
    }
    Ok(())
}
