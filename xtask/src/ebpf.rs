//! Builds the kernel programs into the committed object, and checks that the object is what its sources give.
//!
//! The same sources and tool chain give the same bytes wherever they lie: paths are remapped, and what is not
//! needed to load the object is stripped. So a reviewer's rebuild proves the committed binary.

#[path = "../../auditor/ebpf/sources.rs"]
mod sources;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::project;
use toolchain::Toolchain;

/// Build or check the kernel programs.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Build the object and its sidecar; installs the tool chain where it is missing (Debian, as root).
    Build,
    /// Rebuild and compare with the committed object.
    Check,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<()> {
    match args.action {
        Action::Build => build(),
        Action::Check => check(),
    }
}

fn directory() -> PathBuf {
    project::root().join("auditor/ebpf")
}

fn object() -> PathBuf {
    directory().join("auditor.bpf.o")
}

fn sidecar() -> PathBuf {
    directory().join("auditor.bpf.toml")
}

fn build() -> Result<()> {
    let toolchain = Toolchain::find_or_install()?;
    let built = compile(&toolchain)?;
    let bytes = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    // After the build, which may have updated the lock file.
    let text = describe(&toolchain, &bytes, &sources::hash(project::root())?);
    fs::write(object(), &bytes).with_context(|| format!("write {}", object().display()))?;
    fs::write(sidecar(), text).with_context(|| format!("write {}", sidecar().display()))?;
    println!("{}: {} bytes", object().display(), bytes.len());
    Ok(())
}

fn check() -> Result<()> {
    let text =
        fs::read_to_string(sidecar()).with_context(|| format!("read {}", sidecar().display()))?;
    let recorded = |key: &str| sources::value(&text, key).unwrap_or_default();
    let committed = fs::read(object()).with_context(|| format!("read {}", object().display()))?;
    ensure!(
        digest(&committed) == recorded("object_sha256"),
        "the object is not the one that its sidecar names"
    );
    ensure!(
        sources::hash(project::root())? == recorded("sources_sha256"),
        "the object is stale: run `cargo xtask ebpf build`"
    );
    let toolchain = match Toolchain::find() {
        Ok(toolchain)
            if toolchain.names()
                == ["rustc", "linker", "llvm"].map(|key| recorded(key).to_owned()) =>
        {
            toolchain
        }
        Ok(toolchain) => {
            println!(
                "sources match; cannot compare bits: built by another tool chain than {:?}",
                toolchain.names()
            );
            return Ok(());
        }
        Err(error) => {
            println!("sources match; cannot compare bits: {error:#}");
            return Ok(());
        }
    };
    let rebuilt = fs::read(compile(&toolchain)?)?;
    ensure!(
        rebuilt == committed,
        "the rebuilt object differs from the committed one"
    );
    println!("the committed object is bit for bit what its sources give");
    Ok(())
}

/// Builds and strips; gives the path of the result.
fn compile(toolchain: &Toolchain) -> Result<PathBuf> {
    let target = project::target().join("ebpf");
    project::run(&mut toolchain.cargo(&target)?)?;
    let built = target.join("bpfel-unknown-none/release/auditor-ebpf");
    let stripped = target.join("auditor.bpf.o");
    project::run(&mut toolchain.strip(&built, &stripped)?)?;
    Ok(stripped)
}

fn describe(toolchain: &Toolchain, object: &[u8], sources: &str) -> String {
    let [rustc, linker, llvm] = toolchain.names();
    format!(
        "# Written by `cargo xtask ebpf build`: what auditor.bpf.o is, and from what it was built.\n\
         object_sha256 = \"{}\"\nsources_sha256 = \"{sources}\"\n\
         rustc = \"{rustc}\"\nlinker = \"{linker}\"\nllvm = \"{llvm}\"\n",
        digest(object)
    )
}

fn digest(bytes: &[u8]) -> String {
    sources::hex(&Sha256::digest(bytes))
}

/// Flags that make a build independent of where it lies.
fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}
