//! What the tests need on a Debian machine that has only Rust.
//!
//! Each need is looked for first, so a prepared machine is left alone and needs neither root nor a network.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{ebpf, project};

/// Install what the tests need.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only say what is missing.
    #[arg(long)]
    check: bool,
}

/// A program, by name or path, and the Debian package that brings it.
struct Need {
    program: &'static str,
    package: &'static str,
}

const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

const PROGRAMS: [Need; 20] = [
    need("runc", "runc"),
    need("crun", "crun"),
    need("busybox", "busybox-static"),
    need("qemu-system-x86_64", "qemu-system-x86"),
    need("ip", "iproute2"),
    need("mke2fs", "e2fsprogs"),
    need("curl", "curl"),
    need("xz", "xz-utils"),
    need("zstd", "zstd"),
    need("dpkg-deb", "dpkg"),
    // What must stay silent.
    need("podman", "podman"),
    need("conmon", "conmon"),
    need("containerd", "containerd"),
    // Podman comes with them or with something else; containerd needs them.
    need("/usr/lib/cni/loopback", "containernetworking-plugins"),
    need("bwrap", "bubblewrap"),
    need("systemd-nspawn", "systemd-container"),
    need("lxc-start", "lxc"),
    need("criu", "criu"),
    need("unshare", "util-linux"),
    // What capabilities are compared with.
    need("getpcaps", "libcap2-bin"),
];

/// A cargo tool, its version, and how it is asked for it.
struct Tool {
    name: &'static str,
    version: &'static str,
}

const TOOLS: [Tool; 1] = [Tool {
    name: "cargo-deny",
    version: "0.20.2",
}];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check {
        let missing = missing_packages();
        let tools = TOOLS
            .iter()
            .filter(|tool| !is_installed(tool))
            .map(|tool| tool.name);
        let all: Vec<&str> = missing
            .into_iter()
            .chain(ebpf::missing_packages())
            .chain(tools)
            .collect();
        ensure!(all.is_empty(), "missing: {}", all.join(" "));
        return Ok(());
    }
    packages()?;
    tools()
}

/// Installs the missing packages.
pub(crate) fn packages() -> Result<()> {
    project::install(&missing_packages())?;
    // By themselves: not every release has them.
    project::install(&ebpf::missing_packages())
}

/// Installs the missing cargo tools, at their pinned versions.
pub(crate) fn tools() -> Result<()> {
    for tool in TOOLS.iter().filter(|tool| !is_installed(tool)) {
        let Tool { name, version } = tool;
        eprintln!("building {name} {version}; this takes a few minutes, once");
        project::run(
            project::cargo()
                .args(["install", "--locked", "--quiet", "--version", version, name])
                // Away from ours: other features, other profiles.
                .env("CARGO_TARGET_DIR", project::target().join("tools")),
        )?;
    }
    Ok(())
}

fn missing_packages() -> Vec<&'static str> {
    PROGRAMS
        .iter()
        .filter(|need| project::find(need.program).is_none())
        .map(|need| need.package)
        .collect()
}

fn is_installed(tool: &Tool) -> bool {
    let Some(path) = project::find(tool.name) else {
        return false;
    };
    project::output(Command::new(path).arg("--version"))
        .is_ok_and(|text| text.split_whitespace().any(|word| word == tool.version))
}
