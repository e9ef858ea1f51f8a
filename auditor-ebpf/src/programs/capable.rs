//! Which capabilities tasks ask the kernel for.
//!
//! The kernel asks thousands of times a second. What a group of tasks asked for before is one look into a map; only a
//! first time is told. A time is a first one until it was told: what did not fit into the ring is told the next time.

use super::act::Deed;
use crate::emit;
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::{
    CRED_EUID, CRED_PRM, CRED_USERNS, MNT_INUM, MNT_UNIQUE, NSPROXY_MNT, TASK_CRED, TASK_NSPROXY,
    USERNS_INUM, USERNS_LEVEL, USERNS_OWNER, USERNS_PARENT, has, is_habit,
};
use crate::kernel::{Access, Direct, Ptr};
use crate::maps::{OWN_USES, RECENT, USES, USES_WAYS, User, Uses};
use crate::marks;
use auditor_common::hook;
use auditor_common::record::act;
use auditor_common::record::capable::{self, own};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{btf_tracepoint, fexit};
use aya_ebpf::programs::{BtfTracePointContext, FExitContext};
use core::arch::asm;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::{read_volatile, write_volatile};

/// `CAP_OPT_NOAUDIT` (`include/linux/security.h`).
const NO_AUDIT: u32 = 1 << 1;
/// Bit of a way to ask: refused.
const REFUSED: usize = 1 << 2;
/// Bit of a way to ask: it was a probe.
const PROBE: usize = 1 << 3;

/// `IPC_LOCK` and `SYS_ADMIN`: what calls have a habit of probing for.
const HABITUAL: u64 = 1 << 14 | 1 << 21;

/// What the kernel was asked, and by whom.
struct Question {
    hook: u16,
    short: Short,
    cred: Ptr,
    target: Ptr,
    /// [`capable::KNOWN`] and [`capable::PROBE`].
    audit: u64,
}

/// The kernel has decided whether credentials have a capability over a user namespace (6.14).
#[btf_tracepoint(function = "cap_capable")]
pub fn capable(ctx: BtfTracePointContext) -> i32 {
    let (tid, mark) = marks::of_current_or_own();
    if marks::is_blank(mark) {
        return 0;
    }
    let short = || asked_at_tracepoint(&ctx, tid, mark);
    // SAFETY: current is typed where Direct needs it.
    if !unsafe { on_current!(is_recent, short, || ctx.arg(0), || ctx.arg(1)) } {
        answer_tracepoint(ctx.as_ptr(), tid, mark);
    }
    0
}

/// The same before there was a tracepoint.
#[fexit(function = "cap_capable")]
pub fn capable_exit(ctx: FExitContext) -> i32 {
    let (tid, mark) = marks::of_current_or_own();
    if marks::is_blank(mark) {
        return 0;
    }
    let short = || asked_at_exit(&ctx, tid, mark);
    // SAFETY: current is typed where Direct needs it.
    if !unsafe { on_current!(is_recent, short, || ctx.arg(0), || ctx.arg(1)) } {
        answer_exit(ctx.as_ptr(), tid, mark);
    }
    0
}

/// What is not answered at once. A subprogram of its own, so that the short way needs no stack.
#[inline(never)]
fn answer_tracepoint(ctx: *mut c_void, tid: u32, mark: u8) {
    let ctx = BtfTracePointContext::new(ctx);
    let question = Question {
        hook: hook::CAPABLE,
        short: asked_at_tracepoint(&ctx, tid, mark),
        cred: ctx.arg(0),
        target: ctx.arg(1),
        audit: 0,
    };
    // SAFETY: current is typed where Direct needs it, and so are the tracepoint's arguments, always.
    unsafe { on_current!(answer, &question) }
}

/// As [`answer_tracepoint`].
#[inline(never)]
fn answer_exit(ctx: *mut c_void, tid: u32, mark: u8) {
    let ctx = FExitContext::new(ctx);
    let short = asked_at_exit(&ctx, tid, mark);
    let audit = match short.options & NO_AUDIT {
        0 => capable::KNOWN,
        _ => capable::KNOWN | capable::PROBE,
    };
    let question = Question {
        hook: hook::CAPABLE_EXIT,
        short,
        cred: ctx.arg(0),
        target: ctx.arg(1),
        audit,
    };
    // SAFETY: current is typed where Direct needs it, and so are the function's arguments, always.
    unsafe { on_current!(answer, &question) }
}

#[inline(always)]
fn asked_at_tracepoint(ctx: &BtfTracePointContext, tid: u32, mark: u8) -> Short {
    Short {
        tid,
        mark,
        capability: ctx.arg(3),
        options: 0,
        result: ctx.arg(4),
    }
}

#[inline(always)]
fn asked_at_exit(ctx: &FExitContext, tid: u32, mark: u8) -> Short {
    Short {
        tid,
        mark,
        capability: ctx.arg(2),
        options: ctx.arg(3),
        // The return value stands behind the four arguments; the helper for it needs 5.17.
        result: ctx.arg(4),
    }
}

/// Who asks, and how, as far as an answer depends on it and no address is in it.
struct Short {
    tid: u32,
    mark: u8,
    capability: u32,
    /// The caller's (`CAP_OPT_*`), where they are known.
    options: u32,
    result: i32,
}

impl Short {
    /// In one word: errors are below 256, and so are capabilities and options.
    #[inline(always)]
    const fn word(&self) -> u64 {
        let how = self.capability
            | (self.mark as u32) << 8
            | self.options << 16
            | (self.result as u32) << 24;
        (self.tid as u64) << 32 | how as u64
    }

    /// Where it is kept.
    #[inline(always)]
    const fn place(&self) -> u32 {
        self.tid ^ self.capability << 4
    }
}

/// Whether just this was asked, and told, before. That takes some forty instructions. A thread that gets other namespaces,
/// other credentials or another program asks something else.
#[inline(always)]
unsafe fn is_recent<A: Access>(
    task: Ptr,
    short: impl Fn() -> Short,
    cred: impl Fn() -> Ptr,
    target: impl Fn() -> Ptr,
) -> bool {
    // SAFETY: the caller's promise.
    let proxy = unsafe { A::ptr(task, &TASK_NSPROXY) };
    let short = short();
    let kept = RECENT.at(short.place());
    // SAFETY: within the place.
    let is = |word: usize, value: u64| unsafe { read_volatile(kept.wrapping_add(word)) == value };
    is(0, short.word()) && is(1, proxy as u64) && is(2, cred() as u64) && is(3, target() as u64)
}

#[inline(always)]
unsafe fn answer<A: Access>(task: Ptr, question: &Question) {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        if question.short.mark & marks::OWN != 0 {
            if !question.target.is_null() && !is_others::<A>(task, question.cred) {
                note_own(question);
            }
            if !marks::is_marked(question.short.mark) {
                return;
            }
        }
        let proxy = A::ptr(task, &TASK_NSPROXY);
        if proxy.is_null() {
            return;
        }
        if question.cred.is_null() || question.target.is_null() {
            return;
        }
        let user_ns = Direct::ptr(question.cred, &CRED_USERNS);
        let user = User {
            nsproxy: proxy as u64,
            mnt: mount_namespace::<A>(proxy),
            user_ns: user_ns as u64,
            mark: u64::from(question.short.mark),
        };
        let scope = scope(question, user_ns);
        let mut way = scope as usize;
        if question.short.result != 0 {
            way |= REFUSED;
        }
        let is_habitual = is_habitual(question);
        if question.audit & capable::PROBE != 0 || is_habitual {
            way |= PROBE;
        }
        let bit = 1_u64 << (question.short.capability & 63);
        if let Some(uses) = USES.get_ptr_mut(user) {
            // SAFETY: within the map's value.
            if read_volatile(set_of(uses, way)) & bit != 0 {
                // The short way does not know by which call is asked, so it has nothing that another call would not probe for.
                if question.short.mark & marks::OWN == 0 && !is_habitual {
                    keep(question, proxy);
                }
                return;
            }
        }
        if !is_others::<A>(task, question.cred) && !current::is_own() && tell(question, scope) {
            remember(&user, way, bit);
        }
    }
}

/// Whether this hook does not know, and the call usually only probes. What is asked in earnest later must be told then, so
/// one is not remembered as the other.
#[inline(always)]
fn is_habitual(question: &Question) -> bool {
    question.audit & capable::KNOWN == 0
        && HABITUAL >> (question.short.capability & 63) & 1 == 1
        && is_habit(current::syscall())
}

/// Keeps a question that was told for the short way.
#[inline(always)]
fn keep(question: &Question, proxy: Ptr) {
    let short = &question.short;
    let words = [
        short.word(),
        proxy as u64,
        question.cred as u64,
        question.target as u64,
    ];
    let kept = RECENT.at(short.place());
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: within the place.
        unsafe { write_volatile(kept.wrapping_add(index), word) };
    }
}

/// Notes what the agent asks for itself. What it may not note is as if nobody had asked: the map is larger than that.
#[inline(always)]
unsafe fn note_own(question: &Question) {
    // SAFETY: the caller's promise: the target is typed and not null.
    if unsafe { Direct::u32(question.target, &USERNS_LEVEL) } != 0 {
        return;
    }
    let mut way =
        question.short.capability & 0xff | (current::syscall() as u32) << own::SYSCALL_SHIFT;
    if question.short.result == 0 {
        way |= own::GRANTED;
    }
    if question.audit & capable::KNOWN != 0 {
        way |= own::KNOWN;
    }
    if question.audit & capable::PROBE != 0 {
        way |= own::PROBE;
    }
    if OWN_USES.get_ptr(way).is_none() {
        let _full = OWN_USES.insert(way, 1, 0);
    }
}

/// The set of what was asked for in a way.
#[inline(always)]
fn set_of(uses: *mut Uses, way: usize) -> *mut u64 {
    const { assert!(USES_WAYS == 16) };
    let mut way = way as u64;
    // The compiler knows the bounds, but a verifier before 5.11 forgets them on the stack: the mask must stand here.
    // SAFETY: nothing but the register is touched.
    unsafe { asm!("{0} &= 15", inout(reg) way, options(pure, nomem, nostack)) };
    uses.cast::<u64>().wrapping_add(way as usize)
}

/// Notes that a use was told. A subprogram of its own, for its stack.
#[inline(never)]
fn remember(user: &User, way: usize, bit: u64) {
    if USES.get_ptr_mut(*user).is_none() {
        let mut uses = MaybeUninit::<Uses>::uninit();
        // SAFETY: as large as it is, and then it is initialised.
        let uses = unsafe {
            emit::zero(uses.as_mut_ptr());
            uses.assume_init_ref()
        };
        // An LRU map makes room; a failure only means that the use is told again.
        let _again = USES.insert(user, uses, 0);
    }
    if let Some(uses) = USES.get_ptr_mut(*user) {
        let set = set_of(uses, way);
        // SAFETY: within the map's value. Who writes at the same time may undo this: then the use is told again.
        unsafe { write_volatile(set, read_volatile(set) | bit) };
    }
}

/// Tells the agent; says whether that was possible.
#[inline(always)]
unsafe fn tell(question: &Question, scope: u64) -> bool {
    let Some(mut deed) = Deed::begin(question.hook, act::CAPABLE) else {
        return false;
    };
    let record = deed.record();
    // SAFETY: the reservation is writable; the target is typed and not null.
    unsafe {
        let inum = Direct::u32(question.target, &USERNS_INUM);
        (*record).result = question.short.result;
        (*record).arg0 = u64::from(question.short.capability);
        (*record).arg1 = scope | question.audit | u64::from(inum) << capable::INUM_SHIFT;
    }
    deed.end();
    true
}

/// Over which user namespace it was asked for, seen from the credentials.
#[inline(always)]
unsafe fn scope(question: &Question, own: Ptr) -> u64 {
    let target = question.target;
    // SAFETY: the caller's pointers are typed and not null.
    unsafe {
        if Direct::u32(target, &USERNS_LEVEL) == 0 {
            return capable::INITIAL;
        }
        if target as u64 == own as u64 {
            return capable::OWN;
        }
        let is_child = Direct::ptr(target, &USERNS_PARENT) as u64 == own as u64;
        let user = Direct::u32(question.cred, &CRED_EUID);
        if is_child && has(&USERNS_OWNER) && Direct::u32(target, &USERNS_OWNER) == user {
            return capable::MADE;
        }
        capable::OTHER
    }
}

/// Whether credentials are not the running task's, and have more than it has: a file system asks with those of who
/// mounted it, and the kernel for what other tasks may do.
#[inline(always)]
unsafe fn is_others<A: Access>(task: Ptr, cred: Ptr) -> bool {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let real = A::ptr(task, &TASK_CRED);
        if real.is_null() || real as u64 == cred as u64 {
            return false;
        }
        Direct::ptr(cred, &CRED_USERNS) as u64 != A::ptr(real, &CRED_USERNS) as u64
            || Direct::u64(cred, &CRED_PRM) & !A::u64(real, &CRED_PRM) != 0
    }
}

/// What tells the running task's mount namespace from those before it.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub(super) unsafe fn mount_namespace<A: Access>(proxy: Ptr) -> u64 {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let mnt = A::ptr(proxy, &NSPROXY_MNT);
        if mnt.is_null() {
            return 0;
        }
        if has(&MNT_UNIQUE) {
            return A::u64(mnt, &MNT_UNIQUE);
        }
        u64::from(A::u32(mnt, &MNT_INUM))
    }
}
