//! Two ways to read a field.
//!
//! An offset is always a global that the verifier knows to be constant, so a field that this kernel lacks
//! ([`MISSING`](auditor_common::fields::MISSING)) turns into a constant zero and its code is pruned.

use super::globals::place;
use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_probe_read_kernel, generated::bpf_probe_read_kernel_str};

/// A pointer into kernel memory. Never dereferenced but through an [`Access`].
pub type Ptr = *const u8;

/// Reads fields of kernel objects.
///
/// # Safety
/// For all methods: `base` is null-checked, and for [`Direct`] a pointer whose type the verifier knows.
/// The verifier proves the rest or refuses the program.
pub trait Access {
    /// Reads at an address.
    unsafe fn read<T: Copy>(address: *const T) -> Option<T>;

    /// Reads a field; `None` where this kernel has none, or cannot read it.
    #[inline(always)]
    unsafe fn field<T: Copy>(base: Ptr, offset: &Global<u32>) -> Option<T> {
        let offset = place(offset)?;
        // SAFETY: the caller's promise.
        unsafe { Self::read(base.wrapping_add(offset).cast()) }
    }

    /// A 32-bit field; 0 where there is none.
    #[inline(always)]
    unsafe fn u32(base: Ptr, offset: &Global<u32>) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { Self::field(base, offset) }.unwrap_or_default()
    }

    /// A 64-bit field; 0 where there is none.
    #[inline(always)]
    unsafe fn u64(base: Ptr, offset: &Global<u32>) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { Self::field(base, offset) }.unwrap_or_default()
    }

    /// A pointer field; null where there is none.
    #[inline(always)]
    unsafe fn ptr(base: Ptr, offset: &Global<u32>) -> Ptr {
        // SAFETY: the caller's promise.
        match unsafe { Self::field(base, offset) } {
            Some(value) => value,
            None => core::ptr::null(),
        }
    }
}

/// Follows pointers whose types the verifier knows.
pub struct Direct;

impl Access for Direct {
    #[inline(always)]
    unsafe fn read<T: Copy>(address: *const T) -> Option<T> {
        // SAFETY: a load through a typed kernel pointer is checked by the verifier and covered by an exception
        // table entry. Volatile, so that it is never made speculatively before a null check.
        Some(unsafe { core::ptr::read_volatile(address) })
    }
}

/// Reads any kernel address with a helper.
pub struct Probe;

impl Access for Probe {
    #[inline(always)]
    unsafe fn read<T: Copy>(address: *const T) -> Option<T> {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(address) }.ok()
    }
}

/// Copies a NUL-terminated string from kernel memory. Returns its bytes, the NUL included, or a negative error;
/// what does not fit is cut.
///
/// # Safety
/// `out` is writable.
#[inline(always)]
pub unsafe fn copy_string<const N: usize>(address: Ptr, out: *mut [u8; N]) -> i64 {
    // SAFETY: the caller's promise; the helper checks the address.
    unsafe { bpf_probe_read_kernel_str(out.cast(), N as u32, address.cast()) }
}

/// Copies a string that is embedded in a kernel object; nothing where this kernel has no such field.
///
/// # Safety
/// `out` is writable.
#[inline(always)]
pub unsafe fn string<const N: usize>(base: Ptr, offset: &Global<u32>, out: *mut [u8; N]) {
    if let Some(offset) = place(offset) {
        // SAFETY: the caller's promise.
        unsafe { copy_string(base.wrapping_add(offset), out) };
    }
}
