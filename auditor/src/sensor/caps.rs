//! Which capabilities the sensor needs for what on this kernel, which it has, and how it gets rid of the rest.
//!
//! An auditor that keeps full root for its whole life is itself the best way out of a container. Everything
//! is loaded and attached with what the process was started with; then [`drop_all_but`] leaves what reading
//! other tasks needs.
//!
//! Capability sets belong to threads, and a thread inherits them from its maker. Invariant: the drop
//! happens before any other thread exists; it refuses to run later, because the other threads would
//! silently keep everything.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use thiserror::Error;

use super::clock::KernelVersion;

/// What stays after attaching: reading other tasks' links in /proc and directories that belong to containers' users. Before
/// 6.5 each bpf(2) asks for `CAP_BPF`, those for iterators and the agent's own maps included, and older kernels may refuse
/// them without. With `writes_into_foreign_directory`, writing there.
#[must_use]
pub fn kept(kernel: KernelVersion, writes_into_foreign_directory: bool) -> Vec<Capability> {
    let mut kept = vec![Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];
    kept.extend((kernel < KernelVersion::new(6, 5)).then_some(Capability::CAP_BPF));
    kept.extend(writes_into_foreign_directory.then_some(Capability::CAP_DAC_OVERRIDE));
    kept
}

/// One thing the sensor does, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// What it is for.
    pub purpose: &'static str,
    /// All of these are needed…
    pub all: Vec<Capability>,
    /// …or this one alone, where the kernel accepts it instead.
    pub instead: Option<Capability>,
}

impl Requirement {
    /// Those of [`Requirement::all`] that are lacking; none when the requirement is met.
    #[must_use]
    pub fn lacking(&self, held: &CapsHashSet) -> Vec<Capability> {
        let met_instead = self.instead.is_some_and(|one| held.contains(&one));
        let lacking = self
            .all
            .iter()
            .filter(|cap| !met_instead && !held.contains(cap));
        lacking.copied().collect()
    }
}

/// What needs which capabilities on a kernel. `perf_event_paranoid` as the sysctl says; `None` counts as
/// the strictest.
///
/// Only what the sensor does today: a row for what it might do would have `doctor` ask for too much.
#[must_use]
pub fn requirements(kernel: KernelVersion, perf_event_paranoid: Option<i32>) -> Vec<Requirement> {
    use Capability::{
        CAP_BPF, CAP_DAC_READ_SEARCH, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_RESOURCE,
    };
    let strict = perf_event_paranoid.is_none_or(|level| level > 2);
    let with_admin = |mut all: Vec<Capability>| {
        all.extend(strict.then_some(CAP_SYS_ADMIN));
        all
    };
    let row = |purpose, all, instead| Requirement {
        purpose,
        all,
        instead,
    };
    let mut rows = vec![
        row(
            "typed programs and iterators",
            vec![CAP_BPF, CAP_PERFMON],
            Some(CAP_SYS_ADMIN),
        ),
        row(
            "system call tracepoints: reading tracefs",
            vec![CAP_DAC_READ_SEARCH],
            None,
        ),
        row(
            "system call tracepoints: attaching",
            with_admin(vec![CAP_PERFMON]),
            Some(CAP_SYS_ADMIN),
        ),
        row(
            "namespaces, root and cwd of other tasks",
            vec![CAP_SYS_PTRACE],
            None,
        ),
        row(
            "directories of other users",
            vec![CAP_DAC_READ_SEARCH],
            None,
        ),
    ];
    // Maps and programs count against RLIMIT_MEMLOCK until memory cgroups took over in 5.11.
    if kernel < KernelVersion::new(5, 11) {
        rows.push(row("raising RLIMIT_MEMLOCK", vec![CAP_SYS_RESOURCE], None));
    }
    rows
}

/// Reads the sysctl for [`requirements`].
#[must_use]
pub fn perf_event_paranoid() -> Option<i32> {
    let text = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?;
    text.trim().parse().ok()
}

/// Why capabilities cannot be read or dropped.
#[derive(Debug, Error)]
pub enum DropError {
    /// There are other threads, which would keep their capabilities.
    #[error("capabilities must be dropped before threads start, but {count} threads exist")]
    Threads {
        /// Number of threads.
        count: usize,
    },
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was attempted.
        what: &'static str,
        /// What the kernel said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel reported success, yet something is still there.
    #[error("capabilities {left:?} are still in the {set:?} set after the drop")]
    Left {
        /// The set.
        set: CapSet,
        /// What is left in it.
        left: Vec<Capability>,
    },
}

/// What a drop achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// What the process still has, ordered.
    pub kept: Vec<Capability>,
    /// Whether the bounding set was cut as well; that takes CAP_SETPCAP. Without it, no_new_privs
    /// still keeps an exec from gaining anything.
    pub bounding: bool,
}

/// The effective capabilities of this thread.
///
/// # Errors
/// When the kernel does not tell.
pub fn effective() -> Result<CapsHashSet, DropError> {
    read(CapSet::Effective)
}

/// The permitted capabilities of this thread, as a set of bits; 0 where the kernel does not tell.
#[must_use]
pub fn permitted() -> u64 {
    let held = read(CapSet::Permitted).unwrap_or_default();
    held.iter().fold(0, |set, cap| set | cap.bitmask())
}

/// Drops every capability but `keep` from this process and sets no_new_privs.
///
/// Inheritable and ambient sets end up empty. What is in `keep` but was never held is not gained.
///
/// # Errors
/// When other threads exist, or the kernel refuses. The process then is in an unknown state and should end.
pub fn drop_all_but(keep: &[Capability]) -> Result<Dropped, DropError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(failed("list own threads"))?;
    match threads.count() {
        1 => drop_in_thread(keep),
        count => Err(DropError::Threads { count }),
    }
}

/// As [`drop_all_but`], for the calling thread alone.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_in_thread(keep: &[Capability]) -> Result<Dropped, DropError> {
    rustix::thread::set_no_new_privs(true).map_err(|errno| DropError::Kernel {
        what: "set no_new_privs",
        source: io::Error::from(errno).into(),
    })?;
    let held = read(CapSet::Permitted)?;
    let kept: CapsHashSet = keep
        .iter()
        .copied()
        .filter(|cap| held.contains(cap))
        .collect();

    // The bounding set first: that takes CAP_SETPCAP, which is about to go.
    let bounding = read(CapSet::Effective)?.contains(&Capability::CAP_SETPCAP);
    if bounding {
        for cap in read(CapSet::Bounding)?.difference(&keep.iter().copied().collect()) {
            caps::drop(None, CapSet::Bounding, *cap).map_err(failed("cut the bounding set"))?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(failed("clear the ambient set"))?;
    let empty = CapsHashSet::new();
    // Effective before permitted: the kernel wants the one within the other at every step.
    let sets = [
        (CapSet::Effective, &kept),
        (CapSet::Permitted, &kept),
        (CapSet::Inheritable, &empty),
    ];
    for (set, wanted) in sets {
        caps::set(None, set, wanted).map_err(failed("drop capabilities"))?;
    }
    for (set, wanted) in sets {
        let left: Vec<Capability> = read(set)?.difference(wanted).copied().collect();
        if !left.is_empty() {
            return Err(DropError::Left { set, left });
        }
    }
    let mut kept: Vec<Capability> = kept.into_iter().collect();
    kept.sort_unstable_by_key(Capability::index);
    Ok(Dropped { kept, bounding })
}

fn read(set: CapSet) -> Result<CapsHashSet, DropError> {
    caps::read(None, set).map_err(failed("read capabilities"))
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    what: &'static str,
) -> impl FnOnce(E) -> DropError {
    move |source| DropError::Kernel {
        what,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: after the drop only what was asked for is left, and a late drop is refused. Method: the test
    //! binary runs itself again, so that the drop happens in a process of its own.

    use std::process::Command;

    use super::super::procfs::parse_status;
    use super::*;

    const CHILD: &str = "AUDITOR_TEST_DROP_CAPABILITIES";

    #[test]
    fn drop_leaves_only_what_was_asked_for() {
        if std::env::var_os(CHILD).is_some() {
            return drop_and_check();
        }
        let own = std::env::current_exe().unwrap();
        let mut child = Command::new(own);
        child.args([
            "--exact",
            "sensor::caps::tests::drop_leaves_only_what_was_asked_for",
        ]);
        let output = child.env(CHILD, "1").output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }

    fn drop_and_check() {
        let held = effective().unwrap();
        let keep = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];
        let want: Vec<Capability> = [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE]
            .into_iter()
            .filter(|cap| held.contains(cap))
            .collect();
        let bits = want.iter().fold(0, |bits, cap| bits | cap.bitmask());

        let dropped = drop_in_thread(&keep).unwrap();
        assert_eq!(dropped.kept, want);
        let status = std::fs::read("/proc/thread-self/status").unwrap();
        let status = parse_status(&status).unwrap();
        assert!(status.no_new_privs);
        let creds = status.creds;
        assert_eq!((creds.cap_effective, creds.cap_permitted), (bits, bits));
        assert_eq!((creds.cap_inheritable, creds.cap_ambient), (0, 0));
        if dropped.bounding {
            let allowed = keep.iter().fold(0, |bits, cap| bits | cap.bitmask());
            assert_eq!(creds.cap_bounding & !allowed, 0);
        }
        assert_eq!(
            drop_in_thread(&keep).unwrap().kept,
            want,
            "again is the same"
        );
    }

    #[test]
    fn late_drop_is_refused() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(matches!(
            drop_all_but(&kept(KernelVersion::new(6, 1), false)),
            Err(DropError::Threads { count: 2.. })
        ));
        drop(stop);
        assert!(other.join().unwrap().is_err());
    }

    #[test]
    fn requirements_follow_kernel_and_sysctl() {
        let row = |kernel, paranoid, purpose: &str| {
            requirements(kernel, paranoid)
                .into_iter()
                .find(|row| row.purpose.contains(purpose))
        };
        let (old, new) = (KernelVersion::new(5, 10), KernelVersion::new(6, 1));
        assert!(row(old, None, "MEMLOCK").is_some() && row(new, None, "MEMLOCK").is_none());
        let none = CapsHashSet::new();
        let attach = |paranoid| {
            row(new, paranoid, "attaching")
                .unwrap()
                .lacking(&none)
                .len()
        };
        assert_eq!((attach(Some(2)), attach(Some(3)), attach(None)), (1, 2, 2));
        let admin = CapsHashSet::from([Capability::CAP_SYS_ADMIN]);
        assert!(
            row(new, Some(2), "typed")
                .unwrap()
                .lacking(&admin)
                .is_empty()
        );
        assert_eq!(
            row(new, Some(2), "tracefs").unwrap().lacking(&admin).len(),
            1
        );
    }
}
