// SPDX-License-Identifier: Apache-2.0
//! Threads on one processor each, so that a round is not a lottery of the scheduler.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Which end of a conversation a thread is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    /// The first processor.
    Client,
    /// The last processor.
    Server,
}

/// Moves this thread to its processor. A machine that refuses runs the round unpinned.
pub(crate) fn pin(side: Side) {
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else {
        return;
    };
    let usable = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
    let mut cpus = (0..CpuSet::count()).filter(usable);
    let cpu = match side {
        Side::Client => cpus.next(),
        Side::Server => cpus.next_back(),
    };
    let mut set = CpuSet::new();
    if let Some(cpu) = cpu
        && set.set(cpu).is_ok()
    {
        let _unpinned = sched_setaffinity(this, &set);
    }
}
