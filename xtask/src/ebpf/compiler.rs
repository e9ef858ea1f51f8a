//! Finds a compiler for BPF.
//!
//! Debian ships a stable compiler with a prebuilt core library for BPF, which needs no nightly. Elsewhere a nightly of
//! rustup with `rust-src` does: it builds core along. Either has its clippy beside it, which lints for the target that
//! the programs are built for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::project;

const TARGET: &str = "bpfel-unknown-none";
/// Where a sysroot has the library's sources.
const SOURCES: &str = "lib/rustlib/src/rust";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The compiler and its core library for BPF.
const DEBIAN_COMPILER: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
const DEBIAN_SOURCES: &str = "rust-web-src";
const DEBIAN_CLIPPY: &str = "rust-web-clippy";

/// Where the compiler comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Origin {
    /// Debian's packages.
    Debian,
    /// A nightly of rustup, with rust-src.
    Nightly,
}

impl Origin {
    /// In the order of preference.
    pub(super) const ALL: [Self; 2] = [Self::Debian, Self::Nightly];
}

/// A compiler that can build the programs.
pub(super) struct Compiler {
    pub(super) origin: Origin,
    sysroot: PathBuf,
    rustc: PathBuf,
    /// What `rustc -vV` prints.
    version: String,
}

impl Compiler {
    /// The compiler from this origin; the error says what it lacks.
    pub(super) fn of(origin: Origin) -> Result<Self> {
        let (rustc, sysroot) = match origin {
            Origin::Debian => (PathBuf::from(DEBIAN_RUSTC), debian()?),
            Origin::Nightly => {
                let sysroot = nightly()?;
                (sysroot.join("bin/rustc"), sysroot)
            }
        };
        let version = project::output(Command::new(&rustc).arg("-vV"))?;
        let compiler = Self {
            origin,
            sysroot,
            rustc,
            version,
        };
        if origin == Origin::Nightly {
            // It has no core for BPF but the one that it builds.
            compiler.needs_sources()?;
        }
        Ok(compiler)
    }

    /// As [`Self::find`], for building: installs what is missing, where it can.
    pub(super) fn find_or_install(wanted: Option<Origin>) -> Result<Self> {
        let builds = |compiler: Self| compiler.needs_sources().map(|()| compiler);
        let found = Self::find(wanted).and_then(builds);
        if found.is_ok() || wanted == Some(Origin::Nightly) || !project::can_install() {
            return found;
        }
        project::install(&[&DEBIAN_COMPILER[..], &[DEBIAN_SOURCES]].concat())?;
        Self::find(wanted).and_then(builds)
    }

    /// The first that is complete, of all origins or of the wanted one.
    pub(super) fn find(wanted: Option<Origin>) -> Result<Self> {
        let mut lacking = Vec::new();
        for origin in Origin::ALL {
            if wanted.is_none_or(|wanted| wanted == origin) {
                match Self::of(origin) {
                    Ok(compiler) => return Ok(compiler),
                    Err(error) => lacking.push(format!("{error:#}")),
                }
            }
        }
        Err(anyhow!("no compiler for BPF: {}", lacking.join("; or ")))
    }

    /// Version of the compiler, as it names itself.
    pub(super) fn name(&self) -> &str {
        self.version.lines().next().unwrap_or_default()
    }

    /// Version of its LLVM, such as `22.1.8`.
    pub(super) fn llvm(&self) -> &str {
        self.version
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))
            .unwrap_or_default()
    }

    /// Fails without the sources of core. LLVM copies lines of them into the object, where it finds them: without them
    /// the same compiler gives other bytes.
    pub(super) fn needs_sources(&self) -> Result<()> {
        ensure!(
            self.sysroot.join(SOURCES).join("library/core").is_dir(),
            "the compiler in {} has no sources of core ({})",
            self.sysroot.display(),
            match self.origin {
                Origin::Debian => format!("apt-get install {DEBIAN_SOURCES}"),
                Origin::Nightly => "rustup component add rust-src --toolchain nightly".to_owned(),
            }
        );
        Ok(())
    }

    /// The directory of the libraries that it is linked with.
    pub(super) fn libraries(&self) -> PathBuf {
        self.sysroot.join("lib")
    }

    /// Its own objcopy, where rustup has brought one.
    pub(super) fn objcopy(&self) -> PathBuf {
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let tools = self.sysroot.join("lib/rustlib").join(host);
        tools.join("bin/rust-objcopy")
    }

    /// The command that builds the programs below `target`, with this linker.
    pub(super) fn build(&self, target: &Path, linker: &Path) -> Result<Command> {
        let mut command = Command::new(self.cargo());
        command.arg("build");
        self.prepare(&mut command, target)?;
        command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker);
        Ok(command)
    }

    /// The command that lints the programs.
    pub(super) fn clippy(&self, target: &Path) -> Result<Command> {
        let program = self.rustc.with_file_name("cargo-clippy");
        ensure!(
            program.is_file(),
            "no clippy beside {}: install {}",
            self.rustc.display(),
            match self.origin {
                Origin::Debian => DEBIAN_CLIPPY,
                Origin::Nightly => "it (rustup component add clippy --toolchain nightly)",
            }
        );
        let mut command = Command::new(program);
        command.arg("clippy").env("CARGO", self.cargo());
        self.prepare(&mut command, target)?;
        Ok(command)
    }

    fn cargo(&self) -> OsString {
        match self.origin {
            Origin::Debian => project::cargo().get_program().to_owned(),
            // Only a nightly's cargo builds core.
            Origin::Nightly => self.sysroot.join("bin/cargo").into_os_string(),
        }
    }

    fn prepare(&self, command: &mut Command, target: &Path) -> Result<()> {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
        let registry = home.context("no home directory")?.join("registry/src");
        let mut flags = vec![
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            remap(project::root(), "auditor"),
            remap(&registry, "registry"),
        ];
        if self.origin == Origin::Nightly {
            flags.push(remap(&self.sysroot.join(SOURCES), "rust"));
        }
        command
            .current_dir(project::root().join("auditor-ebpf"))
            .args(["--release", "--locked", "--quiet", "--target", TARGET])
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("RUSTC", &self.rustc)
            .env_remove("RUSTC_WORKSPACE_WRAPPER");
        match self.origin {
            // Inline assembly for BPF is unstable in name only; no other crate may use unstable features.
            Origin::Debian => command.env("RUSTC_BOOTSTRAP", "aya_ebpf,auditor_ebpf"),
            Origin::Nightly => command.arg("-Zbuild-std=core"),
        };
        Ok(())
    }
}

/// What Debian's packages lack for linting, where no other compiler can.
pub(super) fn missing_for_clippy() -> Vec<&'static str> {
    let lints = |origin| Compiler::of(origin).and_then(|found| found.clippy(Path::new("")));
    if Origin::ALL.into_iter().any(|origin| lints(origin).is_ok()) {
        return Vec::new();
    }
    DEBIAN_COMPILER.into_iter().chain([DEBIAN_CLIPPY]).collect()
}

/// A flag that makes a build independent of where it lies. Nothing may lie at the place that is named instead, or LLVM
/// copies lines of it.
fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}=/nonexistent/{to}", from.display())
}

/// Debian's sysroot, if its core library for BPF is there.
fn debian() -> Result<PathBuf> {
    let ask = |arguments: &[&str]| {
        project::output(Command::new(DEBIAN_RUSTC).arg("--print").args(arguments))
            .ok()
            .map(|path| PathBuf::from(path.trim()))
    };
    ask(&["target-libdir", "--target", TARGET])
        .filter(|libraries| libraries.is_dir())
        .and_then(|_| ask(&["sysroot"]))
        .with_context(|| {
            format!(
                "Debian's packages {} are not installed",
                DEBIAN_COMPILER.join(" ")
            )
        })
}

/// The nightly's sysroot.
fn nightly() -> Result<PathBuf> {
    let mut ask = Command::new("rustup");
    ask.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    let sysroot = project::output(&mut ask).map_err(|_| {
        anyhow!("rustup has no nightly (rustup toolchain install nightly --component rust-src)")
    })?;
    Ok(PathBuf::from(sysroot.trim()))
}
