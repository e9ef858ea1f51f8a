//! Finds a compiler for BPF, or brings it.
//!
//! Debian ships a stable compiler with a prebuilt core library for BPF, which needs neither a nightly compiler nor the
//! sources of core. Elsewhere a nightly of rustup with `rust-src` does. Both need bpf-linker, built against the LLVM of
//! the compiler.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::remap;
use crate::project;

/// The programs' crate in mangled names, with the end of its disambiguator.
const CRATE: &str = "_12auditor_ebpf";
const TARGET: &str = "bpfel-unknown-none";
const LINKER_VERSION: &str = "0.13.0";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
const DEBIAN_PACKAGES: [&str; 4] = [
    "rustc-web",
    "libstd-rust-web-dev-bpf",
    "llvm-22-dev",
    "llvm-22",
];

/// Where the compiler comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Debian's packages.
    Debian,
    /// A nightly of rustup.
    Nightly,
}

/// A complete tool chain.
pub(super) struct Toolchain {
    origin: Origin,
    rustc: String,
    linker: PathBuf,
    objcopy: PathBuf,
    names: [String; 3],
}

impl Toolchain {
    /// Looks for a tool chain.
    pub(super) fn find() -> Result<Self> {
        let origin = match (debian(), nightly()) {
            (true, _) => Origin::Debian,
            (false, true) => Origin::Nightly,
            (false, false) => bail!(
                "no compiler for BPF: install {} (Debian), or a nightly with rust-src (rustup toolchain install \
                 nightly --component rust-src)",
                DEBIAN_PACKAGES.join(" ")
            ),
        };
        Self::of(origin)
    }

    /// Looks for a tool chain, and installs what is missing.
    pub(super) fn find_or_install() -> Result<Self> {
        // SAFETY: geteuid has no preconditions.
        let root = unsafe { libc::geteuid() } == 0;
        if !debian() && !nightly() && root && project::find("apt-get").is_some() {
            install_packages()?;
        }
        if find_linker().is_none() {
            install_linker()?;
        }
        Self::find()
    }

    fn of(origin: Origin) -> Result<Self> {
        let linker = find_linker().with_context(|| {
            format!("no bpf-linker {LINKER_VERSION}: cargo install bpf-linker --version {LINKER_VERSION} --locked")
        })?;
        let rustc = match origin {
            Origin::Debian => DEBIAN_RUSTC.to_owned(),
            Origin::Nightly => {
                let path = project::output(Command::new("rustup").args([
                    "which",
                    "--toolchain",
                    "nightly",
                    "rustc",
                ]))?;
                path.trim().to_owned()
            }
        };
        let version = project::output(Command::new(&rustc).arg("-vV"))?;
        let line = |start: &str| {
            version
                .lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_default()
                .to_owned()
        };
        let linker_version = project::output(Command::new(&linker).arg("--version"))?
            .trim()
            .to_owned();
        Ok(Self {
            origin,
            objcopy: find_objcopy(&rustc)?,
            names: [
                line("rustc "),
                linker_version,
                line("LLVM version: ").replace("version: ", ""),
            ],
            rustc,
            linker,
        })
    }

    /// Versions of compiler, linker and LLVM, as the sidecar records them.
    pub(super) fn names(&self) -> [String; 3] {
        self.names.clone()
    }

    /// The command that builds the programs below `target`.
    pub(super) fn cargo(&self, target: &Path) -> Result<Command> {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
        let registry = home.context("no home directory")?.join("registry/src");
        let flags = [
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            remap(project::root(), "/auditor"),
            remap(&registry, "/registry"),
        ];
        let mut cargo = project::cargo();
        cargo
            .current_dir(project::root().join("auditor-ebpf"))
            .args([
                "build",
                "--release",
                "--locked",
                "--quiet",
                "--target",
                TARGET,
            ])
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            .env("RUSTC", &self.rustc)
            .env_remove("RUSTC_WORKSPACE_WRAPPER");
        match self.origin {
            // Inline assembly for BPF is unstable in name only; no other crate may use unstable features.
            Origin::Debian => cargo.env("RUSTC_BOOTSTRAP", "aya_ebpf,auditor_ebpf"),
            Origin::Nightly => cargo.arg("-Zbuild-std=core"),
        };
        Ok(cargo)
    }

    /// The command that drops what only a debugger needs, and from symbols the hash of where the sources lie; the
    /// kernel's type information stays.
    pub(super) fn strip(&self, from: &Path, to: &Path) -> Result<Command> {
        let object = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
        let mut command = Command::new(&self.objcopy);
        command.arg("--strip-debug");
        for symbol in mangled(&object) {
            command.arg(format!("--redefine-sym={symbol}={}", without_hash(symbol)));
        }
        command.arg(from).arg(to);
        Ok(command)
    }
}

/// Mangled names in a string table: cargo hashes the place of a path dependency into them.
fn mangled(object: &[u8]) -> BTreeSet<&str> {
    object
        .split(|&byte| byte == 0)
        .filter_map(|text| std::str::from_utf8(text).ok())
        .filter(|text| text.starts_with("_R") && text.contains(CRATE))
        .collect()
}

/// Removes the crate's disambiguator (`Cs…_` becomes `C`): still a valid name.
fn without_hash(symbol: &str) -> String {
    let Some((before, after)) = symbol.split_once(CRATE) else {
        return symbol.to_owned();
    };
    match before.rsplit_once("Cs") {
        Some((start, hash)) if hash.chars().all(|c| c.is_ascii_alphanumeric()) => {
            format!("{start}C{}{after}", &CRATE[1..])
        }
        _ => symbol.to_owned(),
    }
}

fn debian() -> bool {
    let asked = project::output(Command::new(DEBIAN_RUSTC).args([
        "--print",
        "target-libdir",
        "--target",
        TARGET,
    ]));
    asked.is_ok_and(|libraries| Path::new(libraries.trim()).is_dir())
}

fn nightly() -> bool {
    let asked = project::output(
        Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]),
    );
    asked.is_ok_and(|root| {
        Path::new(root.trim())
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
    })
}

fn find_linker() -> Option<PathBuf> {
    let installed = std::env::home_dir().map(|home| home.join(".cargo/bin/bpf-linker"));
    let linker = project::find("bpf-linker").or_else(|| installed.filter(|path| path.is_file()))?;
    let version = project::output(Command::new(&linker).arg("--version")).ok()?;
    version
        .split_whitespace()
        .any(|word| word == LINKER_VERSION)
        .then_some(linker)
}

fn find_objcopy(rustc: &str) -> Result<PathBuf> {
    let root = project::output(Command::new(rustc).args(["--print", "sysroot"]))?;
    let own = Path::new(root.trim())
        .join("lib/rustlib")
        .join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH));
    [
        Path::new(DEBIAN_LLVM).join("bin/llvm-objcopy"),
        own.join("bin/rust-objcopy"),
    ]
    .into_iter()
    .find(|path| path.is_file())
    .or_else(|| project::find("llvm-objcopy"))
    .context("no llvm-objcopy: install llvm")
}

fn install_packages() -> Result<()> {
    eprintln!("installing {}", DEBIAN_PACKAGES.join(" "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["--quiet", "--yes"])
            .args(arguments);
        project::run(&mut command)
    };
    apt(&["update"])?;
    apt(&[
        &["install", "--no-install-recommends"][..],
        &DEBIAN_PACKAGES[..],
    ]
    .concat())
}

fn install_linker() -> Result<()> {
    let llvm = Path::new(DEBIAN_LLVM);
    ensure!(
        llvm.is_dir(),
        "no bpf-linker {LINKER_VERSION}, and no LLVM in {DEBIAN_LLVM} to build it with"
    );
    eprintln!("building bpf-linker {LINKER_VERSION}; this takes some minutes, once");
    project::run(
        project::cargo()
            .args([
                "install",
                "bpf-linker",
                "--version",
                LINKER_VERSION,
                "--locked",
                "--quiet",
            ])
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", llvm)
            .env("LLVM_SYS_221_PREFIX", llvm)
            .env("CARGO_TARGET_DIR", project::target().join("tools")),
    )
}

#[cfg(test)]
mod tests {
    //! Goal: a symbol says nothing about where it was built. Method: one real name, and one without a hash.

    use super::without_hash;

    #[test]
    fn hashes_leave_names() {
        let name = "_RINvNtCset38kPewahp_12auditor_ebpf6record4fillEB6_";
        assert_eq!(without_hash(name), "_RINvNtC12auditor_ebpf6record4fillEB6_");
        assert_eq!(
            without_hash("_RNvC12auditor_ebpf4fill"),
            "_RNvC12auditor_ebpf4fill"
        );
    }
}
