//! Loads and attaches programs one by one.
//!
//! What a kernel allows is found by trying: the trampoline programs first, and for each that is refused its
//! stand-ins on syscall tracepoints. An error is an answer about one hook and never stops the others.

use super::load::Sensor;
use auditor_common::hook::{self, Attach, HOOKS, HookSpec, Tier};
use aya::programs::{BtfTracePoint, FEntry, FExit, Iter, Program, ProgramError, TracePoint};
use aya::{Btf, BtfError};
use std::collections::BTreeMap;
use std::fs::File;
use thiserror::Error;

/// Why one hook is not there.
#[derive(Debug, Error)]
pub enum HookError {
    /// The agent does this one without a program, or there is no such hook.
    #[error("hook {hook} has no program")]
    NoProgram {
        /// Index into [`HOOKS`].
        hook: u16,
    },
    /// The object has no such program, or one of another type.
    #[error("program {program} is not in the object")]
    Absent {
        /// Its name.
        program: &'static str,
    },
    /// The kernel refuses the program.
    #[error("cannot load program {program}")]
    Load {
        /// Its name.
        program: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// The kernel refuses the attachment.
    #[error("cannot attach program {program} to {target}")]
    Attach {
        /// Its name.
        program: &'static str,
        /// Function, tracepoint or iterator.
        target: String,
        /// Why.
        source: Box<ProgramError>,
    },
}

/// The kernel's types, as the loader needs them.
#[derive(Debug)]
pub struct Types(Btf);

impl Types {
    /// Reads the running kernel's types.
    ///
    /// # Errors
    /// When the kernel has none or they cannot be parsed.
    pub fn from_kernel() -> Result<Self, BtfError> {
        Btf::from_sys_fs().map(Self)
    }
}

/// What became of each hook that was tried.
pub type Outcome = BTreeMap<u16, Result<(), HookError>>;

/// Hooks that see, by their state at a syscall's exit, what a trampoline would have seen.
#[must_use]
pub const fn stand_ins(trampoline: u16) -> &'static [u16] {
    match trampoline {
        hook::SWITCH_NS => &[hook::EXIT_SETNS, hook::EXIT_UNSHARE],
        hook::UNSHARE_NSPROXY => &[hook::EXIT_UNSHARE],
        hook::COMMIT_CREDS => &[hook::EXIT_CRED],
        hook::SET_FS_ROOT => &[hook::EXIT_CHROOT],
        hook::SET_FS_PWD => &[hook::EXIT_CHDIR],
        hook::CHROOT_FS_REFS => &[hook::EXIT_PIVOT],
        _ => &[],
    }
}

impl Sensor {
    /// Attaches every hook that this kernel allows: those of both tiers, the trampolines, and stand-ins for
    /// the trampolines that it refuses. The iterator is loaded, and runs with [`Sensor::iterate`].
    pub fn attach_all(&mut self, types: &Types) -> Outcome {
        let mut outcome = self.attach_tier(types, Tier::Both);
        let trampolines = self.attach_tier(types, Tier::Trampoline);
        for (index, result) in &trampolines {
            if result.is_ok() {
                continue;
            }
            for stand_in in stand_ins(*index) {
                if !outcome.contains_key(stand_in) {
                    outcome.insert(*stand_in, self.attach(types, *stand_in));
                }
            }
        }
        outcome.extend(trampolines);
        outcome
    }

    /// Attaches all hooks of one tier.
    pub fn attach_tier(&mut self, types: &Types, tier: Tier) -> Outcome {
        (0u16..)
            .zip(HOOKS)
            .filter(|(_, spec)| spec.tier == tier && spec.attach != Attach::Agent)
            .map(|(index, _)| (index, self.attach(types, index)))
            .collect()
    }

    /// Loads and attaches one hook; iterators are only loaded.
    ///
    /// # Errors
    /// When the kernel refuses it. A hook with several tracepoints needs all of them.
    pub fn attach(&mut self, types: &Types, index: u16) -> Result<(), HookError> {
        self.load_and_attach(types, index)?;
        if index == hook::EXIT_CRED {
            // Without it every thread's first call looks like a change: noise, but nothing unseen.
            let _noise = self.keep_creds.set(0, 1, 0);
        }
        Ok(())
    }

    fn load_and_attach(&mut self, types: &Types, index: u16) -> Result<(), HookError> {
        let spec = HOOKS
            .get(usize::from(index))
            .ok_or(HookError::NoProgram { hook: index })?;
        let program = self
            .ebpf
            .program_mut(spec.program)
            .ok_or(HookError::Absent {
                program: spec.program,
            })?;
        let types = &types.0;
        match spec.attach {
            Attach::Agent => Err(HookError::NoProgram { hook: index }),
            Attach::Fentry(function) => {
                let program: &mut FEntry = typed(spec, program)?;
                program.load(function, types).map_err(refused(spec))?;
                program.attach().map(drop).map_err(detached(spec, function))
            }
            Attach::Fexit(function) => {
                let program: &mut FExit = typed(spec, program)?;
                program.load(function, types).map_err(refused(spec))?;
                program.attach().map(drop).map_err(detached(spec, function))
            }
            Attach::TpBtf(tracepoint) => {
                let program: &mut BtfTracePoint = typed(spec, program)?;
                program.load(tracepoint, types).map_err(refused(spec))?;
                program
                    .attach()
                    .map(drop)
                    .map_err(detached(spec, tracepoint))
            }
            Attach::Iter(target) => {
                let program: &mut Iter = typed(spec, program)?;
                program.load(target, types).map_err(refused(spec))
            }
            Attach::SyscallExit(syscalls) => {
                let program: &mut TracePoint = typed(spec, program)?;
                program.load().map_err(refused(spec))?;
                syscalls.iter().try_for_each(|syscall| {
                    let event = format!("sys_exit_{syscall}");
                    program
                        .attach("syscalls", &event)
                        .map(drop)
                        .map_err(detached(spec, &event))
                })
            }
        }
    }

    /// Opens a walk over all tasks of this process's pid namespace: reading the file gives `TaskRecord`s.
    ///
    /// # Errors
    /// When the iterator was not loaded, or the kernel refuses the walk.
    pub fn iterate(&mut self) -> Result<File, HookError> {
        let spec = &HOOKS[usize::from(hook::ITER_TASK)];
        let failed = detached(spec, spec.name);
        let program = self
            .ebpf
            .program_mut(spec.program)
            .ok_or(HookError::Absent {
                program: spec.program,
            })?;
        let program: &mut Iter = typed(spec, program)?;
        let link = program
            .attach()
            .and_then(|id| program.take_link(id))
            .map_err(&failed)?;
        link.into_file()
            .map_err(|source| failed(ProgramError::IOError(std::io::Error::other(source))))
    }

    /// Instructions that the verifier went through for a loaded program (5.16+).
    #[must_use]
    pub fn verified_instructions(&self, index: u16) -> Option<u32> {
        let spec = HOOKS.get(usize::from(index))?;
        self.ebpf
            .program(spec.program)?
            .info()
            .ok()?
            .verified_instruction_count()
    }
}

fn typed<'a, P>(spec: &HookSpec, program: &'a mut Program) -> Result<&'a mut P, HookError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    program.try_into().map_err(|_| HookError::Absent {
        program: spec.program,
    })
}

fn refused(spec: &HookSpec) -> impl Fn(ProgramError) -> HookError {
    let program = spec.program;
    move |source| HookError::Load {
        program,
        source: Box::new(source),
    }
}

fn detached(spec: &HookSpec, target: &str) -> impl Fn(ProgramError) -> HookError {
    let (program, target) = (spec.program, target.to_owned());
    move |source| HookError::Attach {
        program,
        target: target.clone(),
        source: Box::new(source),
    }
}
