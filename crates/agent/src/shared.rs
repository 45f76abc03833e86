// SPDX-License-Identifier: Apache-2.0
//! The node's state as the agent's tasks share it. Whoever gives it back with work left that only time brings on wakes
//! the upkeep, so that nobody looks for such work while there is none.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use datapath::Linux;
use tokio::sync::Notify;

use crate::core::Core;

/// The state, for one at a time.
pub(crate) struct Shared {
    core: Mutex<Core<Linux>>,
    unfinished: Notify,
}

impl Shared {
    pub(crate) fn new(core: Core<Linux>) -> Self {
        Self {
            core: Mutex::new(core),
            unfinished: Notify::new(),
        }
    }

    /// The state. Held only for synchronous work.
    pub(crate) fn lock(&self) -> Held<'_> {
        Held {
            core: self.core.lock().unwrap_or_else(PoisonError::into_inner),
            unfinished: &self.unfinished,
        }
    }

    /// Waits until the state was given back with [`Core::is_unfinished`].
    pub(crate) async fn unfinished(&self) {
        self.unfinished.notified().await;
    }
}

/// The state while it is held.
pub(crate) struct Held<'a> {
    core: MutexGuard<'a, Core<Linux>>,
    unfinished: &'a Notify,
}

impl Deref for Held<'_> {
    type Target = Core<Linux>;

    fn deref(&self) -> &Core<Linux> {
        &self.core
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Core<Linux> {
        &mut self.core
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.core.is_unfinished() {
            self.unfinished.notify_one();
        }
    }
}
