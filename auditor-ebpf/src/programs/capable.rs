//! Which capabilities tasks ask the kernel for.
//!
//! The kernel asks thousands of times a second. What a group of tasks asked for before is one look into a map; only a
//! first time is told. A time is a first one until it was told: what did not fit into the ring is told the next time.

use super::act::Deed;
use crate::emit;
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::{
    CRED_EFF, CRED_EUID, CRED_PRM, CRED_USERNS, MNT_INUM, MNT_UNIQUE, NSPROXY_MNT, TASK_CRED,
    TASK_NSPROXY, USERNS_INUM, USERNS_LEVEL, USERNS_OWNER, USERNS_PARENT, has, is_habit,
};
use crate::kernel::{Access, Direct, Ptr};
use crate::maps::{Asked, OWN_USES, RECENT, RECENT_LEN, USES, USES_WAYS, User, Uses};
use crate::marks;
use auditor_common::hook;
use auditor_common::limits::PID_LIMIT;
use auditor_common::record::act;
use auditor_common::record::capable::{self, own};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{btf_tracepoint, fentry};
use aya_ebpf::programs::{BtfTracePointContext, FEntryContext};
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

/// `-EPERM`.
const EPERM: i32 = -1;
/// How deep user namespaces nest, the initial one included (`create_user_ns` refuses more).
const USER_NAMESPACES: u32 = 34;

/// What the kernel was asked, and by whom.
struct Question {
    hook: u16,
    mark: u8,
    cred: Ptr,
    target: Ptr,
    capability: u32,
    result: i32,
    /// [`capable::KNOWN`] and [`capable::PROBE`].
    audit: u64,
}

/// The kernel has decided whether credentials have a capability over a user namespace (6.14).
#[btf_tracepoint(function = "cap_capable")]
pub fn capable(ctx: BtfTracePointContext) -> i32 {
    if is_new::<true>(ctx.as_ptr()) {
        answer_tracepoint(ctx.as_ptr());
    }
    0
}

/// The kernel is asked, before there was a tracepoint. In front of the function and not behind it, where the kernel's way to
/// a program is longer by half: the answer follows from what is asked. See [`decide`].
#[fentry(function = "cap_capable")]
pub fn capable_entry(ctx: FEntryContext) -> i32 {
    if is_new::<false>(ctx.as_ptr()) {
        answer_entry(ctx.as_ptr());
    }
    0
}

/// The short way: whether somebody asks who may be a container's, and asks what is not known. It hands nothing on, so that it
/// keeps nothing.
#[inline(always)]
fn is_new<const TRACEPOINT: bool>(ctx: *mut c_void) -> bool {
    let id = current::pid_tgid();
    let mark = marks::of_thread(id);
    if marks::is_marked(mark) {
        return !Call::<TRACEPOINT>::new(ctx, id, mark).is_recent();
    }
    !marks::is_blank(marks::or_own(mark, id))
}

/// What is not answered at once. A subprogram of its own, so that the short way needs no stack.
#[inline(never)]
fn answer_tracepoint(ctx: *mut c_void) {
    let call = Call::<true>::of_current(ctx);
    let question = Question {
        hook: hook::CAPABLE,
        mark: call.mark,
        cred: call.cred(),
        target: call.target(),
        capability: call.capability() as u32,
        result: call.argument(4) as i32,
        audit: 0,
    };
    // SAFETY: current is typed where Direct needs it, and so are the tracepoint's arguments, always.
    if unsafe { on_current!(answer, &question) } {
        call.keep();
    }
}

/// As [`answer_tracepoint`].
#[inline(never)]
fn answer_entry(ctx: *mut c_void) {
    let call = Call::<false>::of_current(ctx);
    let (cred, target, capability) = (call.cred(), call.target(), call.capability() as u32);
    if cred.is_null() || target.is_null() {
        return;
    }
    let audit = match call.argument(3) as u32 & NO_AUDIT {
        0 => capable::KNOWN,
        _ => capable::KNOWN | capable::PROBE,
    };
    // SAFETY: current is typed where Direct needs it, and so are the function's arguments, always; they are not null.
    let is_told = unsafe {
        let question = Question {
            hook: hook::CAPABLE_ENTRY,
            mark: call.mark,
            cred,
            target,
            capability,
            result: decide(cred, target, capability),
            audit,
        };
        on_current!(answer, &question)
    };
    if is_told {
        call.keep();
    }
}

/// What a program was called with: by the tracepoint, or in front of the function.
struct Call<const TRACEPOINT: bool> {
    arguments: *const u64,
    /// The running thread's and process's ids.
    id: u64,
    mark: u8,
}

impl<const TRACEPOINT: bool> Call<TRACEPOINT> {
    #[inline(always)]
    const fn new(ctx: *mut c_void, id: u64, mark: u8) -> Self {
        Self {
            arguments: ctx.cast_const().cast(),
            id,
            mark,
        }
    }

    /// The running task's, with the mark of its process or of the agent.
    #[inline(always)]
    fn of_current(ctx: *mut c_void) -> Self {
        let id = current::pid_tgid();
        Self::new(ctx, id, marks::or_own(marks::of_thread(id), id))
    }

    /// An argument; the upper half of one that is an integer is garbage. Volatile, so that it is read where it is needed:
    /// each register that is kept for it costs as much as reading it.
    #[inline(always)]
    fn argument(&self, index: usize) -> u64 {
        // SAFETY: the verifier knows how many there are.
        unsafe { read_volatile(self.arguments.wrapping_add(index)) }
    }

    #[inline(always)]
    fn cred(&self) -> Ptr {
        self.argument(0) as usize as Ptr
    }

    #[inline(always)]
    fn target(&self) -> Ptr {
        self.argument(1) as usize as Ptr
    }

    #[inline(always)]
    fn capability(&self) -> u64 {
        self.argument(if TRACEPOINT { 3 } else { 2 })
    }

    /// Where a question is kept. For one thread it tells the capabilities apart.
    #[inline(always)]
    fn place(&self) -> *mut u64 {
        const { assert!(RECENT_LEN == 64 << 4) };
        RECENT.at(self.id ^ self.capability() << 4)
    }

    /// Who asks, and how: above the process's id there is room for the mark, and the options' lowest bits
    /// ([`NO_AUDIT`] among them).
    #[inline(always)]
    fn who(&self) -> u64 {
        const { assert!(PID_LIMIT <= 1 << 22) };
        let options = if TRACEPOINT { 0 } else { self.argument(3) };
        self.id | u64::from(self.mark) << 54 | options << 62
    }

    /// What the answer depends on beside addresses, which other credentials may have had before: itself, or the effective
    /// set.
    #[inline(always)]
    fn answer(&self) -> u64 {
        if TRACEPOINT {
            return self.argument(4) & 0xff;
        }
        // SAFETY: a function's arguments are typed.
        unsafe { Direct::u64(self.cred(), &CRED_EFF) }
    }

    /// Whether just this was asked, and told, before. A thread that gets other credentials or another program asks something
    /// else; that it may be in other namespaces, with the same credentials, makes it no other container's.
    #[inline(always)]
    fn is_recent(&self) -> bool {
        let kept = self.place();
        // SAFETY: within the place.
        let word = |index: usize| unsafe { read_volatile(kept.wrapping_add(index)) };
        word(0) == self.who()
            && word(1) == self.cred() as u64
            && word(2) == self.target() as u64
            && word(3) == self.answer()
    }

    /// Keeps a question that was told.
    #[inline(always)]
    fn keep(&self) {
        let kept = self.place();
        let words: Asked = [
            self.who(),
            self.cred() as u64,
            self.target() as u64,
            self.answer(),
        ];
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: within the place.
            unsafe { write_volatile(kept.wrapping_add(index), word) };
        }
    }
}

/// Whether a capability is in the effective set of credentials.
#[inline(always)]
unsafe fn is_effective(cred: Ptr, capability: u32) -> bool {
    // SAFETY: the caller's pointer is typed.
    unsafe { Direct::u64(cred, &CRED_EFF) >> (capability & 63) & 1 == 1 }
}

/// What `cap_capable` is about to answer (`security/commoncap.c`; the rule is the same in every kernel that has user
/// namespaces). All of it is in credentials and user namespaces, neither of which changes.
#[inline(always)]
unsafe fn decide(cred: Ptr, target: Ptr, capability: u32) -> i32 {
    // SAFETY: the caller's pointers are typed and not null, and from a namespace below another one its parents lead there.
    unsafe {
        let own = Direct::ptr(cred, &CRED_USERNS);
        let own_level = Direct::u32(own, &USERNS_LEVEL);
        let mut scope = target;
        for _ in 0..USER_NAMESPACES {
            if scope as u64 == own as u64 {
                return if is_effective(cred, capability) {
                    0
                } else {
                    EPERM
                };
            }
            if Direct::u32(scope, &USERNS_LEVEL) <= own_level {
                return EPERM;
            }
            if is_made_by(cred, own, scope) {
                return 0;
            }
            scope = Direct::ptr(scope, &USERNS_PARENT);
        }
        EPERM
    }
}

/// Whether credentials' user made a user namespace, in the one that is the credentials'.
#[inline(always)]
unsafe fn is_made_by(cred: Ptr, own: Ptr, namespace: Ptr) -> bool {
    // SAFETY: the caller's pointers are typed and not null.
    unsafe {
        Direct::ptr(namespace, &USERNS_PARENT) as u64 == own as u64
            && has(&USERNS_OWNER)
            && Direct::u32(namespace, &USERNS_OWNER) == Direct::u32(cred, &CRED_EUID)
    }
}

/// Tells what was not told before. Says whether it was, so that the question may be kept.
#[inline(always)]
unsafe fn answer<A: Access>(task: Ptr, question: &Question) -> bool {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        if question.mark & marks::OWN != 0 {
            if !question.target.is_null() && !is_others::<A>(task, question.cred) {
                note_own(question);
            }
            if !marks::is_marked(question.mark) {
                return false;
            }
        }
        let proxy = A::ptr(task, &TASK_NSPROXY);
        if proxy.is_null() {
            return false;
        }
        if question.cred.is_null() || question.target.is_null() {
            return false;
        }
        let user_ns = Direct::ptr(question.cred, &CRED_USERNS);
        let user = User {
            nsproxy: proxy as u64,
            mnt: mount_namespace::<A>(proxy),
            user_ns: user_ns as u64,
            mark: u64::from(question.mark),
        };
        let scope = scope(question, user_ns);
        let mut way = scope as usize;
        if question.result != 0 {
            way |= REFUSED;
        }
        let is_habitual = is_habitual(question);
        if question.audit & capable::PROBE != 0 || is_habitual {
            way |= PROBE;
        }
        let bit = 1_u64 << (question.capability & 63);
        if let Some(uses) = USES.get_ptr_mut(user) {
            // SAFETY: within the map's value.
            if read_volatile(set_of(uses, way)) & bit != 0 {
                // The short way does not know by which call is asked, so it has nothing that another call would not probe for.
                return question.mark & marks::OWN == 0 && !is_habitual;
            }
        }
        if !is_others::<A>(task, question.cred) && !current::is_own() && tell(question, scope) {
            remember(&user, way, bit);
        }
        false
    }
}

/// Whether this hook does not know, and the call usually only probes. What is asked in earnest later must be told then, so
/// one is not remembered as the other.
#[inline(always)]
fn is_habitual(question: &Question) -> bool {
    question.audit & capable::KNOWN == 0
        && HABITUAL >> (question.capability & 63) & 1 == 1
        && is_habit(current::syscall())
}

/// Notes what the agent asks for itself. What it may not note is as if nobody had asked: the map is larger than that.
#[inline(always)]
unsafe fn note_own(question: &Question) {
    // SAFETY: the caller's promise: the target is typed and not null.
    if unsafe { Direct::u32(question.target, &USERNS_LEVEL) } != 0 {
        return;
    }
    let mut way = question.capability & 0xff | (current::syscall() as u32) << own::SYSCALL_SHIFT;
    if question.result == 0 {
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
        (*record).result = question.result;
        (*record).arg0 = u64::from(question.capability);
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
        if is_made_by(question.cred, own, target) {
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
