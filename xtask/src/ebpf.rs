//! Builds the kernel programs into the committed object, and checks that the object is what its sources give.
//!
//! The same sources and tool chain give the same bytes wherever they lie: paths are remapped, and what is not
//! needed to load the object is stripped. So a reviewer's rebuild proves the committed binary.

mod compiler;
#[path = "../../auditor/ebpf/sources.rs"]
mod sources;
mod toolchain;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::project;
use compiler::{Compiler, Origin};
use toolchain::Toolchain;

const OBJECT: &str = "auditor.bpf.o";
const SIDECAR: &str = "auditor.bpf.toml";
/// Arguments of cargo for programs that log.
const DEBUG_LOG: [&str; 2] = ["--features", "debug-log"];

/// Build, check or lint the kernel programs.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Build the object and its sidecar; installs the tool chain where it is missing (Debian, as root).
    Build(Build),
    /// Rebuild and compare with the committed object.
    Check,
    /// Lint the programs.
    Clippy,
}

#[derive(clap::Args)]
struct Build {
    /// Programs that log, for an agent with the feature debug-log; never into auditor/ebpf.
    #[arg(long)]
    debug_log: bool,
    /// Where the compiler comes from, instead of the first that is there.
    #[arg(long, value_name = "ORIGIN")]
    compiler: Option<Origin>,
    /// Directory for object and sidecar, instead of auditor/ebpf.
    #[arg(long, value_name = "DIR", conflicts_with = "debug_log")]
    output: Option<PathBuf>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.action {
        Action::Build(args) => build(args),
        Action::Check => check(),
        Action::Clippy => clippy(),
    }
}

/// Debian's packages that linting the programs needs and that are not there.
pub(crate) fn missing_packages() -> Vec<&'static str> {
    compiler::missing_for_clippy()
}

/// Lints the programs, with and without their logs.
pub(crate) fn clippy() -> Result<()> {
    let compiler = Compiler::find(None)?;
    for features in [&[][..], &DEBUG_LOG[..]] {
        let mut command = compiler.clippy(&target())?;
        project::run(command.args(features).args(["--", "--deny", "warnings"]))?;
    }
    Ok(())
}

/// The directory of the committed object.
fn committed() -> PathBuf {
    project::root().join("auditor/ebpf")
}

fn target() -> PathBuf {
    project::target().join("ebpf")
}

fn build(args: &Build) -> Result<()> {
    let (directory, features) = match &args.output {
        _ if args.debug_log => (target().join("debug-log"), &DEBUG_LOG[..]),
        Some(directory) => (directory.clone(), &[][..]),
        None => (committed(), &[][..]),
    };
    let toolchain = Toolchain::find_or_install(args.compiler)?;
    let bytes = compile(&toolchain, features)?;
    // After the build, which may have updated the lock file.
    let text = describe(&toolchain, &bytes, &sources::hash(project::root())?);
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let write = |name: &str, contents: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, contents).with_context(|| format!("write {}", path.display()))
    };
    write(OBJECT, &bytes)?;
    write(SIDECAR, text.as_bytes())?;
    println!(
        "{}: {} bytes",
        directory.join(OBJECT).display(),
        bytes.len()
    );
    Ok(())
}

/// Compares the committed object with its sidecar, its sources and, where the tool chain is the same, its rebuild.
pub(crate) fn check() -> Result<()> {
    let read = |name: &str| {
        let path = committed().join(name);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    };
    let text = String::from_utf8(read(SIDECAR)?).context("the sidecar is no text")?;
    let recorded = |key: &str| sources::value(&text, key).unwrap_or_default().to_owned();
    let object = read(OBJECT)?;
    ensure!(
        digest(&object) == recorded("object_sha256"),
        "the object is not the one that its sidecar names"
    );
    ensure!(
        sources::hash(project::root())? == recorded("sources_sha256"),
        "the object is stale: run `cargo xtask ebpf build`"
    );
    let by = ["rustc", "linker", "llvm"].map(recorded);
    match same(&by) {
        Ok(toolchain) => {
            ensure!(
                compile(&toolchain, &[])? == object,
                "the rebuilt object differs from the committed one"
            );
            println!("the committed object is bit for bit what its sources give");
        }
        Err(others) => println!(
            "the sources match; bits are not compared, because the object was built with {}; here: {others}",
            by.join(", ")
        ),
    }
    Ok(())
}

/// The tool chain of these names, or in words what is there instead.
fn same(names: &[String; 3]) -> Result<Toolchain, String> {
    let mut others = Vec::new();
    for origin in Origin::ALL {
        match Compiler::of(origin).and_then(Toolchain::of) {
            Ok(toolchain) if toolchain.names() == *names => return Ok(toolchain),
            Ok(toolchain) => others.push(toolchain.names().join(", ")),
            Err(error) => others.push(format!("{error:#}")),
        }
    }
    Err(others.join("; "))
}

/// Builds and strips.
fn compile(toolchain: &Toolchain, features: &[&str]) -> Result<Vec<u8>> {
    let built = toolchain.build(&target(), features)?;
    let stripped = target().join(OBJECT);
    toolchain.strip(&built, &stripped)?;
    fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))
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
