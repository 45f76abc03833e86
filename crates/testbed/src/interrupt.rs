// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C and SIGTERM: one thread waits for them, takes the lab down and ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// True once a signal asked this process to end: nothing new may be started.
#[must_use]
pub fn is_set() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Returns at once, unless a signal came: then the cleanup ends the process, and nobody else may.
pub fn leave_to_cleanup() {
    while is_set() {
        std::thread::park();
    }
}

/// Calls `cleanup` and exits with status 130 when SIGINT, SIGTERM or SIGHUP arrives. Call it before any
/// other thread exists, so that all threads inherit the blocked signals.
///
/// # Errors
/// The signals cannot be blocked.
pub fn on_interrupt(cleanup: impl Fn() + Send + 'static) -> std::io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.wait().is_ok() {
                INTERRUPTED.store(true, Ordering::SeqCst);
                cleanup();
                std::process::exit(130);
            }
        })?;
    Ok(())
}
