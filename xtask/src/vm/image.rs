//! The guest's root: the scenario runner as first process, the runtimes, the agent and the libraries they need.
//!
//! It is not compressed: under emulation, unpacking costs more than loading.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::kernels::{self, Kernel, Ready};
use crate::project::{self, Artifacts};

/// Programs from the host, by name.
const HOST_PROGRAMS: [&str; 7] = [
    "runc", "crun", "busybox", "ip", "mke2fs", "getpcaps", "capsh",
];

/// What scripts, hooks, other programs and a curious engineer call.
const APPLETS: [&str; 16] = [
    "sh", "true", "cat", "ls", "ps", "mount", "dmesg", "sleep", "id", "insmod", "grep", "head",
    "tail", "find", "setsid", "gzip",
];

const DIRECTORIES: [&str; 9] = [
    "proc", "sys", "dev", "run", "tmp", "etc", "root", "var", "var/tmp",
];

/// Modules that Debian does not build in, each after those that it needs.
const MODULES: [&str; 5] = ["veth", "af_alg", "algif_hash", "loop", "unix_diag"];

/// The same for checkpoints: how sockets are found, what a network is locked with, and its connections.
const CHECKPOINT_MODULES: [&str; 14] = [
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "netlink_diag",
    "af_packet_diag",
    "libcrc32c",
    "nfnetlink",
    "nf_tables",
    "nf_defrag_ipv6",
    "nf_defrag_ipv4",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "tun",
];

/// Where the guest loads modules from.
const MODULE_DIRECTORY: &str = "lib/guest-modules";

/// Makes the archive for one kernel.
pub(crate) fn build(
    artifacts: &Artifacts,
    kernel: &Kernel,
    ready: &Ready,
    path: &Path,
) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut tree = Tree {
        archive: Archive::new(BufWriter::new(file)),
        known: BTreeSet::new(),
    };
    for directory in DIRECTORIES {
        tree.directory(directory)?;
    }
    tree.archive.console()?;
    tree.program("bin/scenarios", &artifacts.scenarios)?;
    tree.archive.link("init", "bin/scenarios")?;
    tree.program("bin/actor", &artifacts.actor)?;
    if let Some(bench) = &artifacts.bench {
        tree.program("bin/bench", bench)?;
    }
    tree.program("bin/auditor", &artifacts.auditor)?;
    let (programs, modules): (&[&str], &[&str]) = match kernel.checkpoints {
        true => (&["criu", "tar"], &CHECKPOINT_MODULES),
        false => (&[], &[]),
    };
    for &name in HOST_PROGRAMS.iter().chain(programs) {
        let found = project::find(name).with_context(|| format!("{name} is not installed"))?;
        tree.program(&format!("bin/{name}"), &found)?;
    }
    for applet in APPLETS {
        tree.archive.link(&format!("bin/{applet}"), "busybox")?;
    }
    for (index, module) in MODULES.iter().chain(modules).enumerate() {
        if let Some(found) = kernels::find_module(&ready.tree, module) {
            tree.file(
                &format!("{MODULE_DIRECTORY}/{index:02}-{module}.ko"),
                &plain_module(&found)?,
            )?;
        }
    }
    tree.archive
        .finish()
        .and_then(|mut output| output.flush())
        .context("write the archive")
}

/// An archive that remembers what it has.
struct Tree {
    archive: Archive<BufWriter<File>>,
    known: BTreeSet<String>,
}

impl Tree {
    fn directory(&mut self, path: &str) -> Result<()> {
        if self.known.insert(path.to_owned()) {
            self.archive
                .directory(path)
                .with_context(|| format!("add {path}"))?;
        }
        Ok(())
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        for (slash, _) in path.match_indices('/') {
            self.directory(&path[..slash])?;
        }
        Ok(())
    }

    fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        if !self.known.insert(path.to_owned()) {
            return Ok(());
        }
        self.parents(path)?;
        self.archive
            .program(path, content)
            .with_context(|| format!("add {path}"))
    }

    /// Adds a program and the libraries it needs, where the dynamic loader looks for them.
    fn program(&mut self, path: &str, source: &Path) -> Result<()> {
        let read =
            |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
        self.file(path, &read(source)?)?;
        for library in libraries(source) {
            let name = library.to_str().context("a library's path is not text")?;
            self.file(name.trim_start_matches('/'), &read(&library)?)?;
        }
        Ok(())
    }
}

/// What the dynamic loader would map; nothing for a static program.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let Ok(text) = project::output(Command::new("ldd").arg(program)) else {
        return Vec::new();
    };
    text.split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// A module's bytes, without the compression of its distribution.
fn plain_module(path: &Path) -> Result<Vec<u8>> {
    let unpacker = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return std::fs::read(path).with_context(|| format!("read {}", path.display())),
    };
    let output = Command::new(unpacker)
        .args(["--decompress", "--stdout"])
        .arg(path)
        .output()
        .with_context(|| format!("start {unpacker}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{unpacker} {}: {}",
        path.display(),
        output.status
    );
    Ok(output.stdout)
}
