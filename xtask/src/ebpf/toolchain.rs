//! A compiler for BPF and what makes an object of its output: bpf-linker, built with the compiler's LLVM or a newer
//! one, and objcopy. Brings what is missing, where it can.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::compiler::{Compiler, Origin};
use crate::project;

/// The programs' crate in mangled names, with the end of its disambiguator.
const CRATE: &str = "_12auditor_ebpf";
const LINKER_VERSION: &str = "0.13.0";

/// A complete tool chain.
pub(super) struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
    objcopy: PathBuf,
}

impl Toolchain {
    /// Completes the first compiler that is there, or the wanted one; installs what is missing.
    pub(super) fn find_or_install(wanted: Option<Origin>) -> Result<Self> {
        let compiler = Compiler::find_or_install(wanted)?;
        let llvm = Llvm::of(&compiler);
        if (find_linker().is_none() || find_objcopy(&compiler).is_err()) && !llvm.is_installed() {
            project::install(&[&llvm.package(), &format!("{}-dev", llvm.package())])?;
        }
        if find_linker().is_none() {
            llvm.install_linker()?;
        }
        Self::of(compiler)
    }

    /// Completes this compiler with what is there.
    pub(super) fn of(compiler: Compiler) -> Result<Self> {
        compiler.needs_sources()?;
        let linker = find_linker().with_context(|| {
            format!(
                "no bpf-linker {LINKER_VERSION}: cargo install bpf-linker --version {LINKER_VERSION} --locked \
                 --no-default-features --features {}",
                Llvm::of(&compiler).package()
            )
        })?;
        Ok(Self {
            objcopy: find_objcopy(&compiler)?,
            linker,
            compiler,
        })
    }

    /// Versions of compiler, linker and LLVM, as the sidecar records them.
    pub(super) fn names(&self) -> [String; 3] {
        [
            self.compiler.name().to_owned(),
            format!("bpf-linker {LINKER_VERSION}"),
            format!("LLVM {}", self.compiler.llvm()),
        ]
    }

    /// Builds the programs below `target`; gives the path of the result.
    pub(super) fn build(&self, target: &Path, features: &[&str]) -> Result<PathBuf> {
        let mut command = self.compiler.build(target, &self.linker)?;
        project::run(command.args(features)).with_context(|| {
            format!(
                "build with {} and {}, whose LLVM must not be older than the compiler's {}",
                self.compiler.name(),
                self.linker.display(),
                self.compiler.llvm()
            )
        })?;
        Ok(target.join("bpfel-unknown-none/release/auditor-ebpf"))
    }

    /// Drops what only a debugger needs, and from symbols the hash of where the sources lie; the kernel's type
    /// information stays.
    pub(super) fn strip(&self, from: &Path, to: &Path) -> Result<()> {
        let object = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
        let names: String = mangled(&object)
            .into_iter()
            .map(|symbol| format!("{symbol} {}\n", without_hash(symbol)))
            .collect();
        let list = to.with_extension("symbols");
        std::fs::write(&list, names).with_context(|| format!("write {}", list.display()))?;
        let mut command = Command::new(&self.objcopy);
        command.args(["--strip-debug", "--redefine-syms"]).arg(list);
        if self.compiler.origin == Origin::Nightly {
            // Its tools do not find its LLVM by themselves.
            command.env("LD_LIBRARY_PATH", self.compiler.libraries());
        }
        project::run(command.arg(from).arg(to))
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

/// The LLVM of a compiler, as Debian packages it.
struct Llvm {
    major: String,
}

impl Llvm {
    fn of(compiler: &Compiler) -> Self {
        let major = compiler.llvm().split('.').next().unwrap_or_default();
        Self {
            major: major.to_owned(),
        }
    }

    /// The name of the package, which is that of bpf-linker's feature too.
    fn package(&self) -> String {
        format!("llvm-{}", self.major)
    }

    fn prefix(&self) -> PathBuf {
        Path::new("/usr/lib").join(self.package())
    }

    /// Whether one can build with it.
    fn is_installed(&self) -> bool {
        self.prefix().join("include").is_dir() && self.prefix().join("bin/llvm-objcopy").is_file()
    }

    fn install_linker(&self) -> Result<()> {
        let prefix = self.prefix();
        ensure!(
            self.is_installed(),
            "no bpf-linker {LINKER_VERSION}, and no LLVM in {} to build it with",
            prefix.display()
        );
        eprintln!("building bpf-linker {LINKER_VERSION}; this takes some minutes, once");
        project::run(
            project::cargo()
                .args(["install", "bpf-linker", "--version", LINKER_VERSION])
                .args(["--locked", "--quiet", "--no-default-features"])
                .args(["--features", &self.package()])
                .env("LLVM_PREFIX", &prefix)
                .env(format!("LLVM_SYS_{}1_PREFIX", self.major), &prefix)
                .env("CARGO_TARGET_DIR", project::target().join("tools")),
        )
    }
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

fn find_objcopy(compiler: &Compiler) -> Result<PathBuf> {
    let debian = Llvm::of(compiler).prefix().join("bin/llvm-objcopy");
    [compiler.objcopy(), debian]
        .into_iter()
        .find(|path| path.is_file())
        .or_else(|| project::find("llvm-objcopy"))
        .context("no llvm-objcopy: install llvm")
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
