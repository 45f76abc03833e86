// SPDX-License-Identifier: Apache-2.0
//! The kernel's news of devices and addresses, for those who wait for some of them.

use std::time::Duration;

use netlink::{Monitor, Notice, Socket};
use tokio::io::unix::AsyncFd;

use crate::service::Service;

/// Time until a socket that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A subscription. Without one there are no news, and who waits has to look for itself now and then.
pub(super) struct News(Option<AsyncFd<Monitor>>);

impl News {
    /// Subscribes in the namespace of the agent.
    pub(super) fn new() -> Self {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the monitor owns its descriptor and moves in, which is what is asked for"
        )]
        let wait = |monitor| AsyncFd::new(monitor).ok();
        Self(Monitor::open().ok().and_then(wait))
    }

    /// The next news that `is_about` wants, all that came with them. Cancel safe.
    pub(super) async fn of(&mut self, is_about: impl Fn(&Notice) -> bool) -> Vec<Notice> {
        let Some(monitor) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            let Ok(mut ready) = monitor.readable().await else {
                return std::future::pending().await;
            };
            let notices = match monitor.get_ref().read() {
                Ok(Some(notices)) => notices,
                Ok(None) => {
                    ready.clear_ready();
                    continue;
                }
                // What cannot be read is as good as lost.
                Err(_) => vec![Notice::Lost],
            };
            if notices.iter().any(&is_about) {
                return notices;
            }
        }
    }
}

/// A socket for questions about `subject`, which is told what stands against one.
pub(super) async fn socket(service: &Service, subject: &str) -> Socket {
    loop {
        match Socket::open() {
            Ok(socket) => return socket,
            Err(error) => service.core().note(subject, Some(error)),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
