//! An interrupted run still removes its containers: a signal only raises a flag, and the runner looks at it.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};

static RAISED: AtomicBool = AtomicBool::new(false);

extern "C" fn raise(_signal: i32) {
    RAISED.store(true, Ordering::Relaxed);
}

/// Makes SIGINT and SIGTERM raise the flag. Programs that are started later have the default again.
pub fn catch() {
    let handler: extern "C" fn(i32) = raise;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Whether a signal came.
#[must_use]
pub fn raised() -> bool {
    RAISED.load(Ordering::Relaxed)
}

/// An error once a signal came.
///
/// # Errors
/// That.
pub fn check() -> Result<()> {
    ensure!(!raised(), "interrupted");
    Ok(())
}
