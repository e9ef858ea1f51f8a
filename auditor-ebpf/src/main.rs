//! The kernel half of the sensor: programs that capture a task's whole state after the fact and write
//! it into a ring buffer.
//!
//! They decide nothing. What a change means is for the engine; here stands only what costs too much to send
//! and cannot matter (our own agent, kernel threads, a chdir inside the task's own mounts). What cannot be
//! classified is sent.
//!
//! Invariants: no kernel offset literal (every offset is a global that the agent resolves, see
//! `auditor_common::fields`), no unbounded loop, no panic path, and kernel memory is read only in [`kernel`].
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![no_std]
#![no_main]

mod capture;
mod emit;
mod kernel;
mod maps;
mod marks;
mod programs;

/// The kernel lends GPL-only helpers only to programs that say so.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Required by the language; nothing calls it, or the verifier would refuse the program.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
