//! Where things are, and how tasks run other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Cargo, as it was called.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command with the terminal's output; its failure is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {}", name(command)))?;
    ensure!(status.success(), "{} failed: {status}", name(command));
    Ok(())
}

/// Runs a command and gives its standard output; its failure is an error with its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", name(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed: {}: {}",
            name(command),
            output.status,
            errors.trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of {}", name(command)))
}

fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether this task can install Debian's packages.
pub(crate) fn can_install() -> bool {
    // SAFETY: geteuid has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    root && find("apt-get").is_some()
}

/// Installs Debian's packages.
pub(crate) fn install<S: AsRef<str>>(packages: &[S]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
    ensure!(
        can_install(),
        "missing packages: {}; install them, or run this task as root",
        names.join(" ")
    );
    eprintln!("installing {}", names.join(" "));
    let apt = || {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["--quiet", "--yes"])
            // The machine may be looking for updates by itself: seconds to wait for that.
            .args(["--option", "DPkg::Lock::Timeout=300"]);
        command
    };
    let _quiet = NoServices::new()?;
    run(apt().arg("update"))?;
    run(apt()
        .args(["install", "--no-install-recommends"])
        .args(names))
}

/// Keeps packages from starting what they bring, by the answer that Debian asks for before it does. An answer that is
/// there already stays.
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn new() -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = Path::new("/usr/sbin/policy-rc.d");
        let made = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(path);
        match made {
            Ok(mut file) => {
                let kept = Self(Some(path));
                std::io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n")
                    .with_context(|| format!("write {}", path.display()))?;
                Ok(kept)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self(None)),
            Err(error) => Err(error).with_context(|| format!("create {}", path.display())),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // Only ours is removed; somebody else may have done so.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Finds a program as a shell would, or where Debian keeps those of root.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fixed = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(fixed)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// What one release build gives to hosts and guests alike.
pub(crate) struct Artifacts {
    /// The agent.
    pub(crate) auditor: PathBuf,
    /// The program inside test containers.
    pub(crate) actor: PathBuf,
    /// The scenario runner.
    pub(crate) scenarios: PathBuf,
    /// The benchmarks, where they were asked for.
    pub(crate) bench: Option<PathBuf>,
}

/// Builds all but the benchmarks.
pub(crate) fn build() -> Result<Artifacts> {
    build_these(&["auditor", "actor", "scenarios"])
}

/// Builds all.
pub(crate) fn build_with_bench() -> Result<Artifacts> {
    let artifacts = build_these(&["auditor", "actor", "scenarios", "bench"])?;
    let bench = Some(artifacts.actor.with_file_name("bench"));
    Ok(Artifacts { bench, ..artifacts })
}

fn build_these(programs: &[&str]) -> Result<Artifacts> {
    let mut command = cargo();
    command.args(["build", "--release", "--quiet"]);
    command.args(["--package", "auditor", "--package", "auditor-tests"]);
    for program in programs {
        command.args(["--bin", program]);
    }
    run(&mut command)?;
    let binary = |name: &str| target().join("release").join(name);
    Ok(Artifacts {
        auditor: binary("auditor"),
        actor: binary("actor"),
        scenarios: binary("scenarios"),
        bench: None,
    })
}
