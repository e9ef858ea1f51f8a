//! All maps and their sizes.
//!
//! Ring sizes are defaults; the loader sets them. Names are unique within the kernel's 15 characters.

use auditor_common::hook::HOOKS;
use auditor_common::limits::{CALL_LIMIT, PID_LIMIT};
use auditor_common::record::{ActRecord, CodeRecord, HandleRecord, TaskRecord};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use core::arch::asm;
use core::cell::UnsafeCell;

/// Tasks that can be between the making of their fresh namespaces and the switch to them.
const MAX_UNSHARING: u32 = 4096;
/// Threads whose credentials are remembered, to tell changes from calls.
const MAX_CREDS: u32 = 16384;

/// Threads of which is remembered what namespaces were told.
const MAX_TOLD: u32 = 16384;

/// Threads that can be in a syscall whose arguments are kept.
const MAX_ENTERED: u32 = 8192;
/// Pairs of a process and a datagram socket that are remembered.
const MAX_SENT: u32 = 4096;
/// Groups of tasks whose use of capabilities is remembered.
const MAX_USERS: u32 = 4096;
/// Questions for capabilities that are remembered as they were asked.
pub const RECENT_LEN: usize = 1024;
/// Ways in which the agent asks for capabilities.
const MAX_OWN_USES: u32 = 1024;

/// State-bearing events.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Frequent events that may be lost without losing state: a sweep repairs them.
#[map]
pub static BULK: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Events per hook that did not fit into their ring.
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(HOOKS.len() as u32, 0);

/// Hooks of which [`LOST`] counts something: what the agent looks at first, in one call.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.losing")]
pub static LOSING: Flags<{ HOOKS.len().next_power_of_two() }> = Flags::CLEAR;

/// Events per hook that were written.
#[map]
pub static EMITTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(HOOKS.len() as u32, 0);

/// Hooks that held something back, known not to matter: a filter's silence is no dead hook. A section of its own is a
/// map of its own, and a variable in it needs no look-up.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.filtered")]
pub static FILTERED: Flags<{ HOOKS.len().next_power_of_two() }> = Flags::CLEAR;

/// Hooks beside whose program another one tells what was allowed: set by the agent once that is attached.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.beside")]
pub static BESIDE: Flags<{ HOOKS.len().next_power_of_two() }> = Flags::CLEAR;

/// Hooks in whose name calls are told when they end: set by the agent.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.at_exit")]
pub static AT_EXIT: Flags<{ HOOKS.len().next_power_of_two() }> = Flags::CLEAR;

/// What was told of threads, each in a place that many share: a short way to answer for [`TOLD`].
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.told")]
pub static RECENT_TOLD: RecentTold = RecentTold(UnsafeCell::new([[0; 2]; RECENT_LEN]));

/// Number of the next event on each CPU.
#[map]
pub static CPU_SEQ: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Fresh namespaces that a task made and has not switched to yet, by `pid_tgid`.
#[map]
pub static UNSHARING: HashMap<u64, Unsharing> = HashMap::with_max_entries(MAX_UNSHARING, 0);

/// What marked threads asked for in the syscall that they are in, by `pid_tgid`. The oldest make room: who dies in a
/// syscall never leaves it.
#[map]
pub static ENTERED: LruHashMap<u64, Entered> = LruHashMap::with_max_entries(MAX_ENTERED, 0);

/// When a process last sent to a datagram socket: by its id, and the socket's address, which never leaves the kernel.
#[map]
pub static SENT: LruHashMap<[u64; 2], u64> = LruHashMap::with_max_entries(MAX_SENT, 0);

/// Which capabilities were asked for by whom. A group that has made room for others is told of once more.
#[map]
pub static USES: LruHashMap<User, Uses> = LruHashMap::with_max_entries(MAX_USERS, 0);

/// What was asked last and told before: a short way to answer for [`USES`]. The agent clears it when it empties that.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.recent")]
pub static RECENT: Recent = Recent(UnsafeCell::new([[0; 4]; RECENT_LEN]));

/// Which system calls were made by whom. A group that has made room for others is told of once more.
#[map]
pub static CALLS: LruHashMap<User, Calls> = LruHashMap::with_max_entries(MAX_USERS, 0);

/// What was called last and told before: a short way to answer for [`CALLS`], as [`RECENT`] is.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.calls")]
pub static RECENT_CALLS: Recent = Recent(UnsafeCell::new([[0; 4]; RECENT_LEN]));

/// Which capabilities the agent and its helper asked for, and how: see [`auditor_common::record::capable::own`].
#[map]
pub static OWN_USES: HashMap<u32, u8> = HashMap::with_max_entries(MAX_OWN_USES, 0);

/// Address of the credentials last seen, by thread id. It never leaves the kernel.
#[map]
pub static LAST_CRED: LruHashMap<u32, u64> = LruHashMap::with_max_entries(MAX_CREDS, 0);

/// What a thread was when its state was last told, by its id. Only where programs are left out.
#[map]
pub static TOLD: LruHashMap<u32, Told> = LruHashMap::with_max_entries(MAX_TOLD, 0);

/// Whether credentials are remembered at birth and exec, whose records tell them: 1 once the syscall tracepoints that
/// compare with them are attached.
#[map]
pub static KEEP_CREDS: Array<u32> = Array::with_max_entries(1, 0);

/// 1 once the agent has walked over all tasks: who was born before has a mark from then on.
#[map]
pub static SETTLED: Array<u32> = Array::with_max_entries(1, 0);

/// Threads that are not, or once were not, in the host's first namespaces, or descend from such a one, by id; see
/// [`crate::marks`]. Thread ids are below [`PID_LIMIT`], so there is always room.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.marks")]
pub static MARKS: Flags<PID_LIMIT> = Flags::CLEAR;

/// Where the iterator builds its record: it has no ring, and the stack is too small. One agent thread reads the
/// iterator, so two walks never share a CPU's slot.
#[map]
pub static SCRATCH: PerCpuArray<TaskRecord> = PerCpuArray::with_max_entries(1, 0);

/// As [`SCRATCH`], for the iterator over files.
#[map]
pub static SCRATCH_ACT: PerCpuArray<ActRecord> = PerCpuArray::with_max_entries(1, 0);

/// As [`SCRATCH`], for the iterator over device programs.
#[map]
pub static SCRATCH_CODE: PerCpuArray<CodeRecord> = PerCpuArray::with_max_entries(1, 0);

/// The task whose device programs are asked for.
#[map]
pub static LOOKED_AT: Array<u32> = Array::with_max_entries(1, 0);

/// As [`SCRATCH`], for the iterators over handles.
#[map]
pub static SCRATCH_HANDLE: PerCpuArray<HandleRecord> = PerCpuArray::with_max_entries(1, 0);

/// Flags that programs on all CPUs read and write: a byte each.
#[repr(transparent)]
pub struct Flags<const LEN: usize>(UnsafeCell<[u8; LEN]>);

// SAFETY: only whole bytes are read and written, and no order between them matters.
unsafe impl<const LEN: usize> Sync for Flags<LEN> {}

impl<const LEN: usize> Flags<LEN> {
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "it is what each map begins with, never one that is shared"
    )]
    const CLEAR: Self = {
        assert!(LEN.is_power_of_two());
        Self(UnsafeCell::new([0; LEN]))
    };

    /// The byte of a flag. The mask is what the verifier knows the bounds by.
    #[inline(always)]
    fn at(&self, index: u32) -> *mut u8 {
        let place = index as usize & (LEN - 1);
        self.0.get().cast::<u8>().wrapping_add(place)
    }

    /// Whether a flag is set.
    #[inline(always)]
    pub fn has(&self, index: u32) -> bool {
        self.get(index) != 0
    }

    /// Sets a flag, or clears it.
    #[inline(always)]
    pub fn set(&self, index: u32, value: bool) {
        self.put(index, u8::from(value));
    }

    /// What a flag is; 0: not set.
    #[inline(always)]
    pub fn get(&self, index: u32) -> u8 {
        // SAFETY: within the array.
        unsafe { core::ptr::read_volatile(self.at(index)) }
    }

    /// Sets a flag to what it is to say.
    #[inline(always)]
    pub fn put(&self, index: u32, value: u8) {
        // SAFETY: within the array.
        unsafe { core::ptr::write_volatile(self.at(index), value) };
    }
}

/// Questions as they were asked, each in a place that many share.
#[repr(transparent)]
pub struct Recent(UnsafeCell<[Asked; RECENT_LEN]>);

/// A question: ids of the thread and how it asked; and two addresses, which never leave the kernel: of the credentials and the
/// user namespace asked about, or of the nsproxy and the credentials.
pub type Asked = [u64; 4];

// SAFETY: only whole words are read and written. Of two that write one place at a time something may stay that neither
// wrote; it holds until the agent has all told anew.
unsafe impl Sync for Recent {}

impl Recent {
    /// The four words of a place. The mask is what the verifier knows the bounds by: it must be the last that happens to the
    /// number, whatever the compiler knows.
    #[inline(always)]
    pub fn at(&self, place: u64) -> *mut u64 {
        let mut place = place as usize;
        // SAFETY: nothing but the register is touched.
        unsafe {
            asm!("{0} &= {1}", inout(reg) place, const RECENT_LEN - 1, options(pure, nomem, nostack));
        }
        self.0.get().cast::<Asked>().wrapping_add(place).cast()
    }
}

/// What changes only by what must be told of.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Address of the nsproxy. It never leaves the kernel.
    pub nsproxy: u64,
    /// Number of the task's exec: its lower half.
    pub exec_id: u64,
}

/// Threads of which something was told: the address of the nsproxy, and the thread's id above the number of its exec.
#[repr(transparent)]
pub struct RecentTold(UnsafeCell<[[u64; 2]; RECENT_LEN]>);

// SAFETY: only whole words are read and written. Of two threads of which something is told at a time, one place may keep an
// address of one and the other's number: then a switch of namespaces that was left out, to just that address, is missed.
unsafe impl Sync for RecentTold {}

impl RecentTold {
    /// Whether just this was told of a thread, by its ids.
    #[inline(always)]
    pub fn has(&self, id: u64, told: &Told) -> bool {
        let place = self.at(id);
        // SAFETY: within bounds.
        let [address, number] = unsafe { [place.read_volatile(), place.add(1).read_volatile()] };
        told.nsproxy == address && Self::number(id, told) == number
    }

    /// This was told.
    #[inline(always)]
    pub fn put(&self, tid: u32, told: &Told) {
        let id = u64::from(tid);
        let place = self.at(id);
        // SAFETY: within bounds.
        unsafe {
            place.write_volatile(told.nsproxy);
            place.add(1).write_volatile(Self::number(id, told));
        }
    }

    /// The mask is what the verifier knows the bounds by: it must be the last that happens to the number.
    #[inline(always)]
    fn at(&self, id: u64) -> *mut u64 {
        let mut place = id as usize;
        // SAFETY: nothing but the register is touched.
        unsafe {
            asm!("{0} &= {1}", inout(reg) place, const RECENT_LEN - 1, options(pure, nomem, nostack));
        }
        self.0.get().cast::<[u64; 2]>().wrapping_add(place).cast()
    }

    #[inline(always)]
    const fn number(id: u64, told: &Told) -> u64 {
        id << 32 | told.exec_id
    }
}

/// Key of [`USES`]: tasks that nothing but fork separates. They have the same label, for whoever enters or leaves a
/// container has other namespaces or another program. The addresses never leave the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct User {
    /// Address of the nsproxy: it is shared by fork only.
    pub nsproxy: u64,
    /// What tells a mount namespace from those before it: addresses are used again.
    pub mnt: u64,
    /// Address of the user namespace that the asked credentials belong to.
    pub user_ns: u64,
    /// The mark: see [`crate::marks`].
    pub mark: u64,
}

/// Value of [`USES`]: sets of capabilities by how they were asked for.
pub type Uses = [u64; USES_WAYS];

/// Ways to ask for a capability: four scopes, granted or not, known to be a probe or not.
pub const USES_WAYS: usize = 16;

/// Value of [`CALLS`]: a bit for each number.
pub type Calls = [u64; CALL_LIMIT / 64];

/// Value of [`UNSHARING`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Unsharing {
    /// Address of the fresh nsproxy, to be sure that the switch is to it.
    pub nsproxy: u64,
    /// Flags of the unshare.
    pub flags: u64,
    /// Address of the `fs_struct` that the task will have; 0: the one it has.
    pub fs: u64,
    /// Address of the credentials that the task will have; 0: those it has.
    pub cred: u64,
}

/// Value of [`ENTERED`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Entered {
    /// Number of the syscall.
    pub number: u64,
    /// Its first four arguments.
    pub args: [u64; 4],
}
