//! The first process of a guest: mounts what a distribution would, runs the scenarios, powers off.
//!
//! The image is unpacked into the kernel's initial root, which nothing can pivot away from. So the tree is bound onto
//! itself and moved over `/` before any runtime starts.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::sys;

/// Where the host reads results: the second serial port.
const RESULTS: &str = "/dev/ttyS1";
/// Where it reads traces: the third.
const TRACES: &str = "/dev/ttyS2";

/// Version 1 hierarchies of the hybrid layout, as systemd mounts them. A kernel may lack some.
const LEGACY: [&str; 9] = [
    "cpu,cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls,net_prio",
    "perf_event",
];

/// Never returns: the machine is powered off.
pub fn main() -> ! {
    let code = match live() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("guest: {error:#}");
            1
        }
    };
    let last = format!("{{\"exit\":{code}}}\n");
    if let Err(error) = std::fs::write(RESULTS, last) {
        eprintln!("guest: {RESULTS}: {error}");
    }
    sys::power_off()
}

fn live() -> Result<i32> {
    leave_initial_root()?;
    let plain = |kind: &str, target: &str| mount(kind, target, "");
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        plain(kind, target)?;
    }
    // Some security modules resolve the name of a file that is executed by descriptor.
    for (name, target) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        std::os::unix::fs::symlink(format!("/proc/self/{target}"), format!("/dev/{name}"))
            .with_context(|| format!("link /dev/{name}"))?;
    }
    let parameters = std::fs::read_to_string("/proc/cmdline").context("read /proc/cmdline")?;
    let parameter = |name: &str| {
        let words = parameters.split_whitespace();
        words
            .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .next_back()
    };
    for (kind, target) in [
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("mqueue", "/dev/mqueue"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("tracefs", "/sys/kernel/tracing"),
        ("bpf", "/sys/fs/bpf"),
        ("securityfs", "/sys/kernel/security"),
    ] {
        if let Err(error) = plain(kind, target) {
            eprintln!("guest: {error:#}");
        }
    }
    mount_cgroups(parameter("guest.cgroup") == Some("hybrid"))?;
    std::fs::write("/proc/sys/kernel/hostname", "guest").context("name the host")?;
    // Debian's own value refuses who has no privilege before anybody else is asked. This is everybody else's.
    std::fs::write("/proc/sys/kernel/perf_event_paranoid", "2").context("let perf ask")?;
    for port in [RESULTS, TRACES] {
        let file = File::options().read(true).write(true).open(port);
        let file = file.with_context(|| format!("open {port}"))?;
        sys::make_raw(file.as_fd()).with_context(|| format!("make {port} raw"))?;
    }
    load_modules();
    // Checkpoints connect to themselves.
    if let Err(error) = run(&["ip", "link", "set", "lo", "up"]) {
        eprintln!("guest: {error:#}");
    }
    let words = parameter("guest.run")
        .unwrap_or("/bin/sh")
        .split(',')
        .collect::<Vec<_>>();
    run(&words)
}

fn leave_initial_root() -> Result<()> {
    let bind = Path::new("/initial-root");
    std::fs::create_dir(bind).context("create a mount point")?;
    sys::mount("/", bind, "", libc::MS_BIND, "").context("bind the root")?;
    std::env::set_current_dir(bind).context("enter the bind")?;
    sys::mount(".", Path::new("/"), "", libc::MS_MOVE, "").context("move the root")?;
    std::os::unix::fs::chroot(".").context("change the root")?;
    std::env::set_current_dir("/").context("enter the root")
}

fn mount(kind: &str, target: &str, data: &str) -> Result<()> {
    let target = Path::new(target);
    if !target.is_dir() {
        std::fs::create_dir_all(target).with_context(|| format!("create {}", target.display()))?;
    }
    sys::mount(kind, target, kind, 0, data)
        .with_context(|| format!("mount {kind} at {}", target.display()))
}

fn mount_cgroups(hybrid: bool) -> Result<()> {
    if !hybrid {
        return mount("cgroup2", "/sys/fs/cgroup", "");
    }
    mount("tmpfs", "/sys/fs/cgroup", "mode=755")?;
    mount("cgroup2", "/sys/fs/cgroup/unified", "")?;
    mount("cgroup", "/sys/fs/cgroup/systemd", "none,name=systemd")?;
    for controllers in LEGACY {
        if let Err(error) = mount(
            "cgroup",
            &format!("/sys/fs/cgroup/{controllers}"),
            controllers,
        ) {
            eprintln!("guest: {error:#}");
            // A directory without a mount would look like a hierarchy.
            let _ = std::fs::remove_dir(format!("/sys/fs/cgroup/{controllers}"));
        }
    }
    for (name, target) in [("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct")] {
        std::os::unix::fs::symlink(target, format!("/sys/fs/cgroup/{name}"))
            .context("link a controller")?;
    }
    Ok(())
}

/// Loads what the image carries for this kernel.
fn load_modules() {
    let modules = std::fs::read_dir("/lib/guest-modules");
    let modules = modules.into_iter().flatten().flatten();
    let mut modules: Vec<_> = modules.map(|module| module.path()).collect();
    // Some need others: they are numbered.
    modules.sort();
    for module in modules {
        match Command::new("insmod").arg(&module).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("guest: insmod {}: {other:?}", module.display()),
        }
    }
}

/// Runs the command and, as the first process must, reaps every orphan meanwhile.
fn run(words: &[&str]) -> Result<i32> {
    let [program, arguments @ ..] = words else {
        anyhow::bail!("an empty command")
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PATH", "/bin:/usr/sbin:/sbin:/usr/bin");
    let child = command
        .spawn()
        .with_context(|| format!("start {program}"))?;
    loop {
        let (pid, status) = sys::waitpid(-1).context("wait for a child")?;
        if pid == child.id() as i32 {
            return Ok(if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                128
            });
        }
    }
}
