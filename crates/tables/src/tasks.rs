// SPDX-License-Identifier: Apache-2.0
//! Named tasks that belong to somebody: aborted with their owner, and their end is a value.

use std::future::Future;

use tokio::task::JoinSet;
use tracing::Instrument;

/// A task ended although it should run as long as its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskFailed {
    /// Its name.
    pub name: &'static str,
    /// The panic message, if it panicked.
    pub panic: Option<String>,
}

/// A set of tasks; dropping it aborts all.
#[derive(Default, Debug)]
pub struct Tasks {
    set: JoinSet<&'static str>,
}

impl Tasks {
    /// Runs `future` under `name`.
    pub fn spawn(&mut self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let span = tracing::info_span!("task", name);
        self.set.spawn(
            async move {
                future.await;
                name
            }
            .instrument(span),
        );
    }

    /// Waits until a task ends. `None` if there is none.
    pub async fn ended(&mut self) -> Option<TaskFailed> {
        Some(match self.set.join_next().await? {
            Ok(name) => TaskFailed { name, panic: None },
            Err(error) => TaskFailed {
                name: "?",
                panic: Some(error.to_string()),
            },
        })
    }

    /// Aborts all and waits until they are gone.
    pub async fn shutdown(&mut self) {
        self.set.shutdown().await;
    }
}
