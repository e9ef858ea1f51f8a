//! Loads the object and attaches each of its programs, one by one.
//!
//! Every hook is tried, never assumed: a kernel refuses trampolines, lacks a function, or inlined it. So
//! one hook's failure never stops another's, and a tier is a result for each hook. Where the best way to
//! see something fails, the next best is attached in its place.

mod attach;

pub use attach::{instead_of, seen_only_by};

use super::cgroupfs::CgroupTree;
use super::clock::{KernelVersion, Machine};
#[cfg(feature = "debug-log")]
use super::debug_log::DebugLog;
use super::exits;
use super::preemption;
use super::resolve::{LoadBtfError, ResolveError, Resolved, load_btf, resolve};
use super::skipped::Skipped;
use super::uses::{OwnUse, UseMaps};
use crate::model::privileges::habits;
use crate::model::syscalls;
use auditor_common::fields::FIELDS;
use auditor_common::hook::{self, HOOKS};
use auditor_common::limits::{CGROUP_SLOTS, COMPAT_NONE};
use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use aya::programs::{Iter, ProgramError};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// The kernel programs: which object, the build script says.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("EBPF_OBJECT"));

/// Bytes of the ring for frequent events whose loss a sweep repairs.
const BULK_BYTES: u32 = 1 << 20;

/// Size of a kernel stack on x86_64 and, with 4 KiB pages, on aarch64. Only used to name the syscall in
/// a witness; where it is wrong the name is missing or wrong, never a verdict.
const THREAD_SIZE: u32 = 16 << 10;

/// Native syscall numbers: the steps of these two are told as a whole when they end.
const NR_SETNS: i32 = libc::SYS_setns as i32;
const NR_UNSHARE: i32 = libc::SYS_unshare as i32;

/// Native numbers of syscalls whose arguments a program must tell apart, by the global that has them.
const REACHING: &[(&str, i32)] = &[
    ("NR_PTRACE", libc::SYS_ptrace as i32),
    ("NR_VM_READV", libc::SYS_process_vm_readv as i32),
    ("NR_VM_WRITEV", libc::SYS_process_vm_writev as i32),
    ("NR_PIDFD_GETFD", libc::SYS_pidfd_getfd as i32),
    ("NR_KCMP", libc::SYS_kcmp as i32),
    ("NR_MADVISE", libc::SYS_process_madvise as i32),
    ("NR_MOVE_PAGES", libc::SYS_move_pages as i32),
    ("NR_MIGRATE_PAGES", libc::SYS_migrate_pages as i32),
    ("NR_SETPRIORITY", libc::SYS_setpriority as i32),
    ("NR_IOPRIO_SET", libc::SYS_ioprio_set as i32),
    ("NR_PRLIMIT", libc::SYS_prlimit64 as i32),
    ("NR_MKNODAT", libc::SYS_mknodat as i32),
    ("NR_SPLICE", libc::SYS_splice as i32),
    ("NR_SENDFILE", libc::SYS_sendfile as i32),
    ("NR_LANDLOCK", libc::SYS_landlock_restrict_self as i32),
];

/// Inum of the machine's first mount namespace; 0: not known, and every task is looked at, which is slow.
///
/// Some machines let nobody look at their first process. The kernel's own threads live in the same namespace.
fn host_mount_namespace() -> u32 {
    let of = |pid: u32| std::fs::metadata(format!("/proc/{pid}/ns/mnt"));
    let is_kernel = || std::fs::read("/proc/2/comm").is_ok_and(|comm| comm == b"kthreadd\n");
    let first = of(1).or_else(|error| if is_kernel() { of(2) } else { Err(error) });
    first.map_or(0, |file| u32::try_from(file.ino()).unwrap_or(0))
}

/// Which ways of seeing may be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// The best that works, for each hook.
    #[default]
    Auto,
    /// Trampolines only.
    Trampoline,
    /// As on a kernel that refuses trampolines.
    Tracepoint,
}

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// BTF of the running kernel, where it is not at the usual place.
    pub btf: Option<PathBuf>,
    /// Which ways of seeing.
    pub want: Want,
    /// Bytes of the ring for state-bearing events: a power of two.
    pub ring_bytes: u32,
    /// Hooks not to attach, by [`HookSpec::name`].
    pub without: BTreeSet<String>,
    /// Whether to see which system calls containers make, which everybody's calls pay for.
    pub syscalls: bool,
}

/// What became of one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// It is attached.
    Yes,
    /// It was tried and refused.
    No(String),
    /// Something better sees the same, or it was not wanted.
    NotNeeded,
    /// Left out by the user.
    LeftOut,
}

/// Why nothing can be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No usable BTF.
    #[error(transparent)]
    Btf(#[from] LoadBtfError),
    /// The kernel lacks what the programs need.
    #[error(transparent)]
    Fields(#[from] ResolveError),
    /// The kernel refused the object's maps.
    #[error("load the kernel programs: {0}")]
    Object(#[source] Box<EbpfError>),
    /// The object and this program do not fit.
    #[error("the embedded object has no {what} \"{name}\"")]
    Missing {
        /// Map or program.
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
}

/// A byte for each hook.
type Flags = [u8; FLAGS];
const FLAGS: usize = HOOKS.len().next_power_of_two();

/// The loaded programs.
pub struct Loaded {
    ebpf: Ebpf,
    btf: Option<Btf>,
    /// By index in [`HOOKS`].
    pub hooks: Vec<Attached>,
    compat: Attached,
    /// Hooks whose programs the kernel asks as a security module; `None`: it is not asked to.
    modules: Option<BTreeSet<u16>>,
    /// Fields that this kernel lacks.
    pub fields: Resolved,
    events: Option<RingBuf<MapData>>,
    bulk: Option<RingBuf<MapData>>,
    lost: PerCpuArray<MapData, u64>,
    losing: Array<MapData, Flags>,
    filtered: Array<MapData, Flags>,
    beside: Array<MapData, Flags>,
    at_exit: Array<MapData, Flags>,
    /// Whether [`EXITS`] is attached.
    sees_exits: bool,
    /// Whether the kernel interrupts tasks within programs.
    leaves_out: bool,
    keep_creds: Array<MapData, u32>,
    settled: Array<MapData, u32>,
    pub(super) looked_at: Array<MapData, u32>,
    /// What the kernel programs know of uses of capabilities, and of system calls.
    pub uses: UseMaps,
    /// What was used before they could see it.
    pub used_before: Option<OwnUse>,
    reported: BTreeMap<(u16, u32), u64>,
    /// What the kernel left out.
    pub skipped: Skipped,
    #[cfg(feature = "debug-log")]
    log: Option<DebugLog>,
}

/// Events that did not fit into their rings since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingLoss {
    /// By hook.
    pub by_hook: BTreeMap<u16, u64>,
    /// By CPU.
    pub by_cpu: BTreeMap<u32, u64>,
    /// In all.
    pub count: u64,
}

/// One bit per cgroup slot whose controller is mounted as v1.
fn v1_slots(tree: &CgroupTree) -> u32 {
    let slots = tree.slot_hierarchies();
    (1..CGROUP_SLOTS)
        .filter(|&slot| slots[slot].is_some())
        .fold(0, |mask, slot| mask | 1 << slot)
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

/// Globals that hold the key by which open files become numbers.
const FILE_KEY: [&str; 4] = ["FILE_KEY_0", "FILE_KEY_1", "FILE_KEY_2", "FILE_KEY_3"];

/// A key that nobody knows: what the standard library keys its maps with.
fn file_key() -> [u32; 4] {
    let random = || RandomState::new().build_hasher().finish();
    let (a, b) = (random(), random());
    [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
}

impl Loaded {
    /// Loads the object and attaches what can be attached.
    ///
    /// # Errors
    /// When there is no BTF, a required field is missing, or the kernel refuses the maps. A hook that
    /// fails is no error: see [`Loaded::hooks`].
    pub fn open(options: &LoadOptions, tree: &CgroupTree) -> Result<Self, LoadError> {
        let fields = resolve(&load_btf(options.btf.as_deref())?, FIELDS)?;
        let used_before = raise_memlock();
        let globals: BTreeMap<&'static str, u32> = fields.iter().collect();
        let (own, slots) = (std::process::id(), v1_slots(tree));
        let wake = options.ring_bytes / 8;
        let host_mnt = host_mount_namespace();
        let leaves_out = preemption::is_preemptible();
        let leaves_out_word = u32::from(leaves_out);
        // Typed programs name their targets by the running kernel's own types.
        let btf = Btf::from_sys_fs().ok();
        let mut loader = EbpfLoader::new();
        loader.btf(btf.as_ref());
        for (name, value) in &globals {
            loader.override_global(name, value, true);
        }
        loader
            .override_global("OWN_TGID", &own, true)
            .override_global("V1_SLOTS", &slots, true)
            .override_global("HOST_MNT", &host_mnt, true)
            .override_global("LEAVES_OUT", &leaves_out_word, true)
            .override_global("WAKE_BYTES", &wake, true)
            .override_global("THREAD_SIZE", &THREAD_SIZE, true)
            .override_global("NR_SETNS", &NR_SETNS, true)
            .override_global("NR_UNSHARE", &NR_UNSHARE, true);
        for (name, number) in REACHING {
            loader.override_global(name, number, true);
        }
        let habits = habits(syscalls::all_of(std::env::consts::ARCH));
        loader.override_global("HABITS", &habits[..], true);
        let mut foreign_calls = exits::foreign(std::env::consts::ARCH);
        let compat = if !exits::has_foreign() {
            Attached::NotNeeded
        } else if options.without.contains(hook::COMPAT.name) {
            Attached::LeftOut
        } else {
            Attached::Yes
        };
        if compat != Attached::Yes {
            foreign_calls = foreign_calls.map(|call| call & COMPAT_NONE);
        }
        let calls_at_exit = exits::at_exit(std::env::consts::ARCH, !leaves_out, &foreign_calls);
        loader.override_global("COMPAT_CALLS", &foreign_calls[..], true);
        loader.override_global("CALLS_AT_EXIT", &calls_at_exit[..], true);
        let key = file_key();
        for (name, part) in FILE_KEY.iter().zip(&key) {
            loader.override_global(name, part, true);
        }
        loader
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("BULK", BULK_BYTES.min(options.ring_bytes));
        if !leaves_out {
            loader.map_max_entries("TOLD", 1);
        }
        #[cfg(feature = "debug-log")]
        let level = DebugLog::level();
        #[cfg(feature = "debug-log")]
        loader.override_global(aya_log::LEVEL, &level, false);
        let mut ebpf = loader
            .load(OBJECT)
            .map_err(|e| LoadError::Object(Box::new(e)))?;
        let events = Some(take_ring(&mut ebpf, "EVENTS")?);
        let bulk = Some(take_ring(&mut ebpf, "BULK")?);
        let lost = ebpf
            .take_map("LOST")
            .and_then(|map| PerCpuArray::try_from(map).ok())
            .ok_or(LoadError::Missing {
                what: "map",
                name: "LOST",
            })?;
        let losing = take_array(&mut ebpf, ".bss.losing")?;
        let filtered = take_array(&mut ebpf, ".bss.filtered")?;
        let beside = take_array(&mut ebpf, ".bss.beside")?;
        let at_exit = take_array(&mut ebpf, ".bss.at_exit")?;
        let keep_creds = take_array(&mut ebpf, "KEEP_CREDS")?;
        let settled = take_array(&mut ebpf, "SETTLED")?;
        let looked_at = take_array(&mut ebpf, "LOOKED_AT")?;
        let uses = UseMaps::take(&mut ebpf)?;
        let mut loaded = Self {
            #[cfg(feature = "debug-log")]
            log: DebugLog::take(&mut ebpf),
            ebpf,
            btf,
            hooks: vec![Attached::NotNeeded; HOOKS.len()],
            compat,
            modules: None,
            fields,
            events,
            bulk,
            lost,
            losing,
            filtered,
            beside,
            at_exit,
            sees_exits: false,
            leaves_out,
            keep_creds,
            settled,
            looked_at,
            uses,
            used_before,
            reported: BTreeMap::new(),
            skipped: Skipped::default(),
        };
        loaded.attach_all(options);
        Ok(loaded)
    }

    /// What became of [`hook::COMPAT`]: it tells in the name of hooks that tell of native calls.
    #[must_use]
    pub fn compat(&self) -> Attached {
        let mut served = exits::served().map(|index| &self.hooks[usize::from(index)]);
        match served.any(|state| *state == Attached::Yes) {
            true => self.compat.clone(),
            false => Attached::NotNeeded,
        }
    }

    /// Whether a hook's program is one that the kernel asks as a security module.
    #[must_use]
    pub fn is_module(&self, index: u16) -> bool {
        self.modules
            .as_ref()
            .is_some_and(|modules| modules.contains(&index))
    }

    /// Opens an iterator, over all tasks or all open files, for one walk.
    ///
    /// # Errors
    /// When it is not loaded, or the kernel refuses.
    pub fn iterate(&mut self, iterator: u16) -> Result<std::fs::File, ProgramError> {
        let spec = &HOOKS[usize::from(iterator)];
        let program: &mut Iter = self
            .ebpf
            .program_mut(spec.program)
            .ok_or(ProgramError::NotLoaded)?
            .try_into()?;
        let id = program.attach()?;
        let link = program.take_link(id)?;
        link.into_file().map_err(|_| ProgramError::NotAttached)
    }

    /// The rings: state-bearing events and frequent ones. `None` the second time.
    pub fn take_rings(&mut self) -> Option<(RingBuf<MapData>, RingBuf<MapData>)> {
        Some((self.events.take()?, self.bulk.take()?))
    }

    /// Gives the rings back, after a test has looked into them.
    pub fn return_rings(&mut self, events: RingBuf<MapData>, bulk: RingBuf<MapData>) {
        (self.events, self.bulk) = (Some(events), Some(bulk));
    }

    /// What did not fit into the rings since the last call.
    pub fn losses(&mut self) -> RingLoss {
        let mut loss = RingLoss::default();
        let losing = self.losing.get(&0, 0).unwrap_or([1; FLAGS]);
        let losing = (0_u16..).zip(losing).filter(|&(_, flag)| flag != 0);
        for (index, _) in losing.take(HOOKS.len()) {
            let Ok(values) = self.lost.get(&u32::from(index), 0) else {
                continue;
            };
            for (cpu, &total) in (0_u32..).zip(values.iter()) {
                let seen = self.reported.entry((index, cpu)).or_default();
                let new = total.wrapping_sub(*seen);
                if new > 0 {
                    *seen = total;
                    loss.count += new;
                    *loss.by_hook.entry(index).or_default() += new;
                    *loss.by_cpu.entry(cpu).or_default() += new;
                }
            }
        }
        loss
    }

    /// Hooks that saw something and knew that it does not matter: proof that they fire.
    #[must_use]
    pub fn filtering(&self) -> BTreeSet<u16> {
        let flags = self.filtered.get(&0, 0).unwrap_or([0; FLAGS]);
        let set = (0_u16..).zip(flags).filter(|&(_, flag)| flag != 0);
        set.map(|(index, _)| index).collect()
    }

    /// Shows what the programs have logged since the last call.
    #[cfg(feature = "debug-log")]
    pub fn show_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.show();
        }
    }

    /// All is attached, and a walk over all tasks was made where there is an iterator for it. Gives back what only attaching
    /// needed: the kernel's types are large.
    pub fn settle(&mut self) {
        let walked = self.hooks[usize::from(hook::ITER_TASK)] == Attached::Yes;
        if walked && self.settled.set(0, 1, 0).is_err() {
            // Then a birth that was left out is found by the next walk only.
            tracing::debug!("births that are left out are not made up for");
        }
        self.btf = None;
        self.skipped = Skipped::new(&self.ebpf);
        // A diagnosis ends here.
        #[cfg(feature = "debug-log")]
        self.show_log();
    }
}

fn take_array<T: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<Array<MapData, T>, LoadError> {
    let map = ebpf.take_map(name);
    map.and_then(|map| Array::try_from(map).ok())
        .ok_or(LoadError::Missing { what: "map", name })
}

fn take_ring(ebpf: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>, LoadError> {
    ebpf.take_map(name)
        .and_then(|map| RingBuf::try_from(map).ok())
        .ok_or(LoadError::Missing { what: "map", name })
}

/// An error in one line: the verifier's log is for the debug log.
fn brief(error: &ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        tracing::debug!("{verifier_log}");
        return format!("the kernel refused the program: {io_error}");
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

/// Before 5.11 maps count against a limit that is small by default. Where it cannot be raised, loading says what failed.
/// That it could be raised is proof of the capability that this takes; nothing sees it yet.
fn raise_memlock() -> Option<OwnUse> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const CAP_SYS_RESOURCE: u8 = 24;
    let kernel = Machine::read().ok()?.kernel;
    if kernel >= KernelVersion::new(5, 11) {
        return None;
    }
    let is_limited = getrlimit(Resource::Memlock).maximum.is_some();
    let all = Rlimit {
        current: None,
        maximum: None,
    };
    let raised = setrlimit(Resource::Memlock, all);
    if let Err(error) = &raised {
        tracing::debug!("cannot raise RLIMIT_MEMLOCK: {error}");
    }
    is_limited.then_some(OwnUse {
        capability: CAP_SYS_RESOURCE,
        granted: raised.is_ok(),
        probe: Some(false),
        syscall: libc::SYS_prlimit64 as i32,
    })
}
