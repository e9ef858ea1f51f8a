//! What a machine does that the agent's hooks may make slower.
//!
//! Each load is one short batch of the same work, and says what one piece of it cost. Batches are short so that
//! many of them are not interrupted at all.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use auditor_tests::bundle::{self, Bundle, Given, Programs};
use auditor_tests::runtime::{Layout, Runtime};
use auditor_tests::scenario::Container;
use auditor_tests::sys;

use crate::measure::{processor_seconds, processor_seconds_of_children};

/// As [`calls`], by a task of the host.
pub(crate) fn getppid() -> Result<f64> {
    Ok(calls())
}

/// As [`calls`], by one that is taken for a container's.
pub(crate) fn container_getppid() -> Result<f64> {
    apart(calls)
}

/// Nanoseconds of processor time of one getppid, by a batch of many.
fn calls() -> f64 {
    const CALLS: u32 = 100_000;
    let started = processor_seconds();
    for _ in 0..CALLS {
        // SAFETY: getppid has no arguments and cannot fail. The libc function may not be a system call.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    (processor_seconds() - started) * 1e9 / f64::from(CALLS)
}

/// Opens a file and closes it.
pub(crate) fn open_and_close(path: &CStr, flags: i32) {
    // SAFETY: the path ends with a NUL; the descriptor is ours alone. Where there is none, closing it is refused.
    unsafe {
        let file = libc::open(path.as_ptr(), flags | libc::O_CLOEXEC);
        libc::close(file);
    }
}

/// Nanoseconds of processor time of one open and close, by a batch of many.
pub(crate) fn open() -> Result<f64> {
    const CALLS: u32 = 20_000;
    let started = processor_seconds();
    for _ in 0..CALLS {
        open_and_close(c"/bin/busybox", libc::O_RDONLY);
    }
    Ok((processor_seconds() - started) * 1e9 / f64::from(CALLS))
}

/// A check of a capability, and little else: a host name that is too long is refused after the kernel looked whether the
/// task may change it.
pub(crate) fn check() {
    const TOO_LONG: libc::c_long = 1 << 20;
    // SAFETY: the kernel does not read a name of this length.
    unsafe { libc::syscall(libc::SYS_sethostname, 0_usize, TOO_LONG) };
}

/// Nanoseconds of processor time of one check of a capability, by a batch of many.
fn checks() -> f64 {
    const CALLS: u32 = 100_000;
    let started = processor_seconds();
    for _ in 0..CALLS {
        check();
    }
    (processor_seconds() - started) * 1e9 / f64::from(CALLS)
}

/// As [`checks`], by a task of the host.
pub(crate) fn host_checks() -> Result<f64> {
    Ok(checks())
}

/// As [`checks`], by one that is taken for a container's.
pub(crate) fn container_checks() -> Result<f64> {
    apart(checks)
}

/// Nanoseconds of processor time of a piece of work with one check of a capability, by one that is taken for a
/// container's.
pub(crate) fn paced_checks(steps: u32) -> Result<f64> {
    const PIECES: u32 = 10_000;
    apart(|| {
        let started = processor_seconds();
        for _ in 0..PIECES {
            check();
            compute(steps);
        }
        (processor_seconds() - started) * 1e9 / f64::from(PIECES)
    })
}

/// How long a piece of work is for 100,000 checks a second, in steps of [`compute`].
pub(crate) fn steps_of_a_check() -> u32 {
    const PIECE_NS: f64 = 9_800.0;
    const STEPS: u32 = 20_000_000;
    let started = processor_seconds();
    compute(STEPS);
    let step_ns = (processor_seconds() - started) * 1e9 / f64::from(STEPS);
    (PIECE_NS / step_ns) as u32
}

fn compute(steps: u32) {
    let mut value = 0;
    for step in 0..steps {
        value = std::hint::black_box(u64::rotate_left(value, 5) ^ u64::from(step));
    }
}

/// Measures in a child that has left the host's mount namespace, which the hooks take for a container's.
pub(crate) fn apart(measure: impl Fn() -> f64) -> Result<f64> {
    let mut ends = [0_i32; 2];
    // SAFETY: the array has room for both descriptors.
    ensure!(unsafe { libc::pipe(ends.as_mut_ptr()) } == 0, "make a pipe");
    // SAFETY: the kernel just gave us these descriptors.
    let [reader, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    let pid = sys::fork().context("fork")?;
    if pid == 0 {
        let done = sys::unshare(libc::CLONE_NEWNS)
            .and_then(|()| File::from(writer).write_all(&measure().to_ne_bytes()));
        sys::exit_now(i32::from(done.is_err()));
    }
    drop(writer);
    let mut bytes = [0; 8];
    File::from(reader)
        .read_exact(&mut bytes)
        .context("the child that leaves the mount namespace")?;
    sys::waitpid(pid).context("wait for the child")?;
    Ok(f64::from_ne_bytes(bytes))
}

/// Nanoseconds of fork, exec of a program that does nothing, and wait.
pub(crate) fn exec() -> Result<f64> {
    timed(40, || {
        let status = Command::new("/bin/true")
            .status()
            .context("run /bin/true")?;
        ensure!(status.success(), "/bin/true: {status}");
        Ok(())
    })
}

/// Nanoseconds of a new UTS namespace, made and left.
pub(crate) fn unshare() -> Result<f64> {
    timed(200, || sys::unshare(libc::CLONE_NEWUTS).context("unshare"))
}

/// Time of one piece of `count` pieces, in nanoseconds.
fn timed(count: u32, mut piece: impl FnMut() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    for _ in 0..count {
        piece()?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e9 / f64::from(count))
}

/// Units of a build.
const UNITS: u32 = 300;
/// Headers that each unit reads.
const HEADERS: u32 = 40;

/// A prepared bundle whose container ends at once.
pub(crate) struct Short {
    runtime: Runtime,
    bundle: Bundle,
    /// Removed at the end.
    _directory: tempfile::TempDir,
}

impl Short {
    /// Prepares it.
    pub(crate) fn prepare() -> Result<Self> {
        Self::prepare_with(&["/bin/true"])
    }

    fn prepare_with(args: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir().context("create a directory for a bundle")?;
        let actor = std::env::current_exe()
            .context("find this program")?
            .with_file_name("actor");
        let programs = Programs {
            actor,
            busybox: PathBuf::from("/bin/busybox"),
        };
        let id = format!("bench-{}", std::process::id());
        let layout = Layout::detect();
        let given = Given {
            id: &id,
            args,
            net_path: None,
            cgroup_namespace: layout == Layout::Unified,
            cgroup_parent: "/auditor-bench",
            share: None,
        };
        let bundle = bundle::write(
            directory.path(),
            &programs,
            &Container::plain("bench"),
            &given,
        )?;
        let runtime = Runtime {
            name: "runc".to_owned(),
            layout,
            patience: std::time::Duration::from_secs(10),
        };
        Ok(Self {
            runtime,
            bundle,
            _directory: directory,
        })
    }

    /// As [`Self::prepare`], for a container that builds something: each unit reads all headers, in two new programs, and
    /// writes one file. A compiler opens fewer files in its time.
    pub(crate) fn prepare_build() -> Result<Self> {
        let script = format!(
            "i=0; while [ $i -lt {UNITS} ]; do cat /src/*.h | /bin/busybox gzip > /tmp/$i.gz; \
             /bin/true; i=$((i+1)); done"
        );
        let short = Self::prepare_with(&["/bin/sh", "-c", &script])?;
        let source = short.bundle.directory.join("rootfs/src");
        std::fs::create_dir_all(&source).context("make a directory of headers")?;
        for number in 0..HEADERS {
            let line = format!("int declared_in_{number}(struct thing *, unsigned long);\n");
            let path = source.join(format!("{number}.h"));
            std::fs::write(&path, line.repeat(40))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(short)
    }

    /// Nanoseconds of processor time that runtime and container take, and on the clock.
    pub(crate) fn run_build(&self) -> Result<[f64; 2]> {
        let before = processor_seconds_of_children();
        let started = Instant::now();
        self.run_once()?;
        let clock = started.elapsed().as_secs_f64();
        let processor = processor_seconds_of_children() - before;
        Ok([processor * 1e9, clock * 1e9])
    }

    /// Nanoseconds from its start to its end.
    pub(crate) fn run(&self) -> Result<f64> {
        timed(3, || self.run_once())
    }

    fn run_once(&self) -> Result<()> {
        let status = self
            .runtime
            .command(None)
            .args(["run", "--bundle"])
            .arg(&self.bundle.directory)
            .arg(&self.bundle.id)
            .stdin(Stdio::null())
            .status()
            .context("start runc")?;
        ensure!(status.success(), "runc run: {status}");
        Ok(())
    }
}
