//! Refuses to build an agent whose kernel programs are older than their sources.
//!
//! The object is committed, so that a build needs no BPF tool chain. A stale one would disagree with the agent
//! about the layout of records, and nothing would notice. `EBPF_OBJECT_DIR` names another directory, relative to the
//! repository's root, that `cargo xtask ebpf build` has filled; the same holds for what is in there.

#[path = "ebpf/sources.rs"]
mod sources;

use std::path::Path;
use std::process::ExitCode;

const DIRECTORY: &str = "EBPF_OBJECT_DIR";
const ADVICE: &str = "run `cargo xtask ebpf build` and commit auditor/ebpf";

fn main() -> ExitCode {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().unwrap_or(manifest);
    for source in sources::SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let directory = std::env::var_os(DIRECTORY).filter(|name| !name.is_empty());
    let directory = directory.map_or_else(|| manifest.join("ebpf"), |name| root.join(name));
    println!("cargo::rerun-if-env-changed={DIRECTORY}");
    println!("cargo::rerun-if-changed={}", directory.display());
    let object = directory.join("auditor.bpf.o");
    println!("cargo::rustc-env=EBPF_OBJECT={}", object.display());
    match check(root, &directory.join("auditor.bpf.toml")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}; {ADVICE}");
            ExitCode::FAILURE
        }
    }
}

fn check(root: &Path, sidecar: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(sidecar)
        .map_err(|error| format!("cannot read {}: {error}", sidecar.display()))?;
    let recorded = sources::value(&text, "sources_sha256").unwrap_or("nothing");
    let now = sources::hash(root)
        .map_err(|error| format!("cannot hash the kernel programs' sources: {error}"))?;
    if recorded == now {
        Ok(())
    } else {
        Err(format!(
            "auditor.bpf.o is stale: built from {recorded}, sources are {now}"
        ))
    }
}
