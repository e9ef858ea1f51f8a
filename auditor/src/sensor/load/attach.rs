//! Which hooks are attached, how, and in the place of which others.

use super::{Attached, LoadOptions, Loaded, Want, brief};
use crate::sensor::exits;
use crate::sensor::preemption;
use crate::sensor::resolve::VMLINUX_BTF;
use auditor_common::fields::MISSING;
use auditor_common::hook::{self, Attach, EXITS, HOOKS, MODULES, ModuleSpec};
use aya::programs::trace_point::TracePointError;
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSysctl, FEntry, FExit, Iter, Lsm, Program, ProgramError,
    TracePoint,
};
use std::collections::BTreeSet;
use std::path::Path;

/// What sees the same when the first is not there, both directions.
const INSTEAD: [(&[u16], &[u16]); 19] = [
    (
        &[hook::SWITCH_NS, hook::UNSHARE_NSPROXY],
        &[hook::EXIT_SETNS, hook::EXIT_UNSHARE],
    ),
    (&[hook::COMMIT_CREDS], &[hook::EXIT_CRED]),
    (&[hook::SET_FS_ROOT], &[hook::EXIT_CHROOT]),
    (&[hook::CHROOT_FS_REFS], &[hook::EXIT_PIVOT]),
    (&[hook::SET_FS_PWD], &[hook::EXIT_CHDIR]),
    (
        &[
            hook::PTRACE_ACCESS,
            hook::TASK_PRLIMIT,
            hook::TASK_SETSCHED,
            hook::TASK_SETNICE,
            hook::TASK_SETIOPRIO,
        ],
        &[hook::ENTER_ACCESS, hook::EXIT_ACCESS],
    ),
    (
        &[hook::UNIX_CONNECT],
        &[hook::ENTER_CONNECT, hook::EXIT_CONNECT],
    ),
    (&[hook::FILE_OPEN], &[hook::EXIT_OPEN]),
    // By itself: kernels before 5.19 do not say whose request it was.
    (&[hook::FILE_OPEN], &[hook::RING_COMPLETE]),
    (&[hook::INODE_MKNOD], &[hook::ENTER_MKNOD, hook::EXIT_MKNOD]),
    (
        &[hook::SB_MOUNT, hook::MOVE_MOUNT, hook::SB_UMOUNT],
        &[hook::EXIT_MOUNT],
    ),
    // By itself: kernels before 5.12 lack the call, and those that see the others all the same keep seeing them so.
    (&[hook::MOUNT_SETATTR], &[hook::EXIT_MOUNT]),
    (
        &[
            hook::KERNEL_BPF,
            hook::KERNEL_READ,
            hook::KERNEL_LOAD,
            hook::PERF_OPEN,
        ],
        &[hook::ENTER_KERNEL, hook::EXIT_KERNEL],
    ),
    (
        &[hook::SOCKET_CREATE, hook::SPLICE, hook::SPLICE_DIRECT],
        &[hook::ENTER_SOCKET],
    ),
    // A tracepoint that only some kernels have is cheaper than the trampoline, and works in both tiers.
    (&[hook::CAPABLE], &[hook::CAPABLE_ENTRY]),
    // Nothing sees these in the other tier. Each stands for itself: one that is refused takes no other with it.
    (&[hook::UNIX_SEND], &[]),
    (&[hook::FILE_RECEIVE], &[]),
    (&[hook::MMAP_FILE], &[]),
    (&[hook::GET_TREE], &[]),
];

/// The hooks that together see what this one sees; `None` where nothing else does.
#[must_use]
pub fn instead_of(index: u16) -> Option<&'static [u16]> {
    INSTEAD.iter().find_map(
        |&(best, next)| match (best.contains(&index), next.contains(&index)) {
            (true, _) if !next.is_empty() => Some(next),
            (_, true) => Some(best),
            _ => None,
        },
    )
}

/// Whether a hook belongs to the ways of seeing that may be tried.
fn is_wanted(index: u16, options: &LoadOptions) -> bool {
    match HOOKS[usize::from(index)].tier {
        hook::Tier::Both => true,
        hook::Tier::OnDemand => options.syscalls,
        hook::Tier::Trampoline => options.want != Want::Tracepoint,
        hook::Tier::Tracepoint => options.want != Want::Trampoline,
    }
}

/// The program that takes the place of a hook's own where that could be left out.
fn module_for(index: u16) -> Option<&'static ModuleSpec> {
    MODULES.iter().find(|module| module.hook == index)
}

/// What a hook sees that those which take its place do not.
#[must_use]
pub const fn seen_only_by(index: u16) -> Option<&'static str> {
    match index {
        hook::PTRACE_ACCESS => Some(
            "containers that read others' processes by links in /proc or by performance events",
        ),
        hook::EXIT_KERNEL => Some("containers that make a userfaultfd"),
        hook::CAPABLE_ENTRY => Some("which capabilities the kernel only probed for"),
        _ => None,
    }
}

impl Loaded {
    pub(super) fn attach_all(&mut self, options: &LoadOptions) {
        let wants_modules = self.leaves_out && preemption::asks_programs();
        self.modules = wants_modules.then(BTreeSet::new);
        // First what sees which capabilities the rest takes.
        self.attach(hook::CAPABLE, options);
        if self.hooks[usize::from(hook::CAPABLE)] != Attached::Yes
            && is_wanted(hook::CAPABLE_ENTRY, options)
        {
            self.attach(hook::CAPABLE_ENTRY, options);
        }
        for (index, spec) in (0_u16..).zip(HOOKS) {
            let is_agent = spec.attach == Attach::Agent || index == hook::CAPABLE;
            let is_for_both = matches!(spec.tier, hook::Tier::Both | hook::Tier::OnDemand);
            if is_for_both && is_wanted(index, options) && !is_agent {
                self.attach(index, options);
            }
        }
        for (best, next) in INSTEAD {
            for &index in best {
                // What both tiers have was tried above.
                if HOOKS[usize::from(index)].tier != hook::Tier::Both && is_wanted(index, options) {
                    self.attach(index, options);
                }
            }
            let missing = best.iter().any(|&i| match self.hooks[usize::from(i)] {
                Attached::Yes => false,
                Attached::NotNeeded => options.want == Want::Tracepoint,
                Attached::No(_) | Attached::LeftOut => true,
            });
            if missing {
                self.attach_instead(best, next, options);
            }
        }
    }

    fn attach_instead(&mut self, best: &[u16], next: &[u16], options: &LoadOptions) {
        let is_empty = next.is_empty();
        let next = || next.iter().copied().filter(|&i| is_wanted(i, options));
        if !is_empty && next().next().is_none() {
            return;
        }
        for &index in best {
            // Two that see the same would show each act twice.
            self.detach(index);
        }
        for index in next() {
            self.attach(index, options);
        }
        let all_attached = next().all(|i| self.hooks[usize::from(i)] == Attached::Yes);
        for &index in best {
            // That a kernel is too old for a tracepoint is no failure where a trampoline sees the same.
            let place = &mut self.hooks[usize::from(index)];
            let is_for_both = HOOKS[usize::from(index)].tier == hook::Tier::Both;
            if all_attached && is_for_both && matches!(place, Attached::No(_)) {
                *place = Attached::NotNeeded;
            }
        }
    }

    /// A hook that is attached but stays silent is as good as none: attaches what sees the same.
    pub fn replace_silent(
        &mut self,
        silent: &BTreeSet<u16>,
        options: &LoadOptions,
    ) -> BTreeSet<u16> {
        let mut replaced = BTreeSet::new();
        for (best, next) in INSTEAD {
            let wanted = next.iter().any(|&i| is_wanted(i, options));
            if best.iter().any(|i| silent.contains(i)) && (wanted || next.is_empty()) {
                self.attach_instead(best, next, options);
                replaced.extend(best.iter().copied());
            }
        }
        replaced
    }

    /// Attaches one hook and notes what came of it.
    fn attach(&mut self, index: u16, options: &LoadOptions) {
        let spec = &HOOKS[usize::from(index)];
        if self.hooks[usize::from(index)] == Attached::Yes {
            // In the place of another hook, too.
            return;
        }
        self.hooks[usize::from(index)] = if options.without.contains(spec.name) {
            Attached::LeftOut
        } else if index == hook::MOUNT_SETATTR && lacks_syscall("mount_setattr")
            || index == hook::RING_COMPLETE && lacks_syscall("io_uring_enter")
        {
            Attached::NotNeeded
        } else if index == hook::RING_COMPLETE && self.fields.get("RING_RESULT") == Some(MISSING) {
            Attached::No("this kernel does not say whose request is done".to_owned())
        } else {
            match self.try_all(index) {
                Ok(()) => {
                    if index == hook::EXIT_CRED && self.keep_creds.set(0, 1, 0).is_err() {
                        // Then each thread's first call looks like a change: noise, but nothing unseen.
                        tracing::debug!("credentials of new tasks are not remembered");
                    }
                    Attached::Yes
                }
                Err(error) => Attached::No(brief(&error)),
            }
        };
    }

    fn detach(&mut self, index: u16) {
        let spec = &HOOKS[usize::from(index)];
        let place = &mut self.hooks[usize::from(index)];
        if *place == Attached::Yes {
            *place = Attached::NotNeeded;
            let modules = self.modules.as_mut();
            let is_module = modules.is_some_and(|modules| modules.remove(&index));
            let module = module_for(index).filter(|_| is_module);
            let own = module
                .is_none_or(|module| module.beside)
                .then_some(spec.program);
            for program in own.into_iter().chain(module.map(|module| module.program)) {
                // Unloading closes every link.
                let result = match self.ebpf.program_mut(program) {
                    Some(Program::Lsm(program)) => program.unload(),
                    Some(Program::FEntry(program)) => program.unload(),
                    Some(Program::FExit(program)) => program.unload(),
                    _ => Ok(()),
                };
                if let Err(error) = result {
                    tracing::warn!(hook = spec.name, "cannot detach: {error}");
                }
            }
        }
    }

    /// Attaches what a hook has: a program that the kernel asks as a security module, its own, or both.
    fn try_all(&mut self, index: u16) -> Result<(), ProgramError> {
        if module_for(index).is_none_or(|module| module.beside) {
            self.try_attach(index)?;
            if self.try_module(index) {
                self.tell_beside(index)?;
            }
            return Ok(());
        }
        match self.try_module(index) {
            true => Ok(()),
            false => self.try_attach(index),
        }
    }

    /// The hook's own program tells no more of what another one beside it does.
    fn tell_beside(&mut self, index: u16) -> Result<(), ProgramError> {
        let mut flags = self.beside.get(&0, 0)?;
        flags[usize::from(index)] = 1;
        self.beside.set(0, flags, 0)?;
        Ok(())
    }

    /// Attaches what the kernel leaves out for nobody, where there is such a program for the hook and it is needed.
    fn try_module(&mut self, index: u16) -> bool {
        let Some(module) = module_for(index).filter(|_| self.modules.is_some()) else {
            return false;
        };
        match self.attach_module(module) {
            Ok(()) => {
                self.modules.get_or_insert_default().insert(index);
                true
            }
            Err(error) => {
                tracing::warn!(
                    asked = module.asked,
                    "no security module: {}",
                    brief(&error)
                );
                false
            }
        }
    }

    fn attach_module(&mut self, module: &ModuleSpec) -> Result<(), ProgramError> {
        let btf = self.btf.as_ref();
        let program = self.ebpf.program_mut(module.program);
        let program: &mut Lsm = program.ok_or(ProgramError::NotLoaded)?.try_into()?;
        let btf = btf.ok_or_else(|| ProgramError::Btf(no_btf()))?;
        program.load(module.asked, btf)?;
        program.attach().map(drop)
    }

    fn try_attach(&mut self, index: u16) -> Result<(), ProgramError> {
        let spec = &HOOKS[usize::from(index)];
        match spec.attach {
            // Who is interrupted in a program keeps it from others on that processor: one for all calls would be too many.
            Attach::SyscallExit(_) if !self.leaves_out => return self.tell_at_exit(index),
            Attach::Agent => return Ok(()),
            _ => {}
        }
        self.attach_program(spec.program, spec.attach)?;
        let is_served = exits::served().any(|served| served == index);
        if is_served
            && self.compat == Attached::Yes
            && let Err(error) = self.tell_at_exit(index)
        {
            self.compat = Attached::No(brief(&error));
        }
        Ok(())
    }

    /// Has the one program at the ends of all system calls tell in the name of a hook.
    fn tell_at_exit(&mut self, index: u16) -> Result<(), ProgramError> {
        if !self.sees_exits {
            self.attach_program(EXITS.program, EXITS.attach)?;
            self.sees_exits = true;
        }
        let mut flags = self.at_exit.get(&0, 0)?;
        flags[usize::from(index)] = 1;
        Ok(self.at_exit.set(0, flags, 0)?)
    }

    fn attach_program(&mut self, program: &str, attach: Attach) -> Result<(), ProgramError> {
        let btf = self.btf.as_ref();
        let program = self
            .ebpf
            .program_mut(program)
            .ok_or(ProgramError::NotLoaded)?;
        let typed = || btf.ok_or_else(|| ProgramError::Btf(no_btf()));
        match attach {
            Attach::Fentry(function) => {
                let program: &mut FEntry = program.try_into()?;
                program.load(function, typed()?)?;
                program.attach().map(drop)
            }
            Attach::Fexit(function) => {
                let program: &mut FExit = program.try_into()?;
                program.load(function, typed()?)?;
                program.attach().map(drop)
            }
            Attach::TpBtf(tracepoint) => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(tracepoint, typed()?)?;
                program.attach().map(drop)
            }
            Attach::Iter(kind) => {
                let program: &mut Iter = program.try_into()?;
                program.load(kind, typed()?)
            }
            Attach::SyscallEnter(syscalls) => {
                attach_to_syscalls(program.try_into()?, "sys_enter", syscalls)
            }
            Attach::SyscallExit(syscalls) => {
                attach_to_syscalls(program.try_into()?, "sys_exit", syscalls)
            }
            Attach::CgroupSysctl => {
                let program: &mut CgroupSysctl = program.try_into()?;
                program.load()?;
                let root = cgroup_root().map_err(ProgramError::IOError)?;
                // Beside the programs of others, and never in their place.
                program.attach(root, CgroupAttachMode::Single).map(drop)
            }
            Attach::Agent => Ok(()),
        }
    }
}

/// Attaches to the entries or exits of system calls. What this machine's kernel does not have, nobody can call.
fn attach_to_syscalls(
    program: &mut TracePoint,
    end: &str,
    syscalls: &[&str],
) -> Result<(), ProgramError> {
    ensure_tracefs();
    program.load()?;
    let mut missing = None;
    let mut attached = false;
    for syscall in syscalls {
        match program.attach("syscalls", &format!("{end}_{syscall}")) {
            Ok(_) => attached = true,
            Err(error @ ProgramError::TracePointError(TracePointError::FileError { .. })) => {
                tracing::debug!("no {end}_{syscall} here");
                missing = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if !attached => Err(error),
        _ => Ok(()),
    }
}

/// Whether this machine's kernel has no such system call, so that nobody can make it. Where system calls have no tracepoints
/// at all, that is not known.
fn lacks_syscall(name: &str) -> bool {
    ensure_tracefs();
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .map(|place| Path::new(place).join("events/syscalls"))
        .find(|place| place.exists())
        .is_some_and(|place| !place.join(format!("sys_exit_{name}")).exists())
}

/// The root of the v2 hierarchy, which every process is in.
fn cgroup_root() -> std::io::Result<std::fs::File> {
    let places = [
        "/sys/fs/cgroup/cgroup.controllers",
        "/sys/fs/cgroup/unified/cgroup.controllers",
    ];
    let place = places.iter().find(|place| Path::new(place).exists());
    let root = place.and_then(|place| Path::new(place).parent());
    std::fs::File::open(root.ok_or(std::io::ErrorKind::NotFound)?)
}

fn no_btf() -> aya::BtfError {
    aya::BtfError::FileError {
        path: VMLINUX_BTF.into(),
        error: std::io::ErrorKind::NotFound.into(),
    }
}

/// Syscall tracepoints are named in tracefs. Where nobody has mounted it, it is put where it belongs.
fn ensure_tracefs() {
    let place = Path::new("/sys/kernel/tracing");
    if place.join("events").exists() || Path::new("/sys/kernel/debug/tracing/events").exists() {
        return;
    }
    use rustix::mount::{MountFlags, mount};
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("tracefs", place, "tracefs", flags, None) {
        Ok(()) => tracing::info!("mounted tracefs at {}", place.display()),
        Err(error) => tracing::debug!("cannot mount tracefs: {error}"),
    }
}
