// SPDX-License-Identifier: Apache-2.0
//! Whether the way to the server still works, asked seldom and noticed soon.
//!
//! A connection on which nothing happens learns nothing of a network that drops everything. One question in 10 s per
//! connection would find out after up to 10 s and the time that an answer may take. So there is a second connection to the
//! same address, and they are asked in turn, 5 s apart. If the second fails, the first is asked at once, and only its own
//! failure counts: the two may end at different servers behind one address.
//!
//! A server that fails is left for another: one that is stopped, or a member that has lost the others and knows no leader, may
//! stay so while the rest of its cluster works.

use std::sync::Weak;

use etcd_client::GetOptions;

use super::client::asks_for_login;
use super::connector::{LastFailure, Purpose};
use super::{Etcd, Inner};
use crate::error::Error;
use crate::schema::keys;
use crate::store::Result;

/// Asks for ever, or until nobody has the client any more.
pub(super) async fn run(inner: Weak<Inner>) {
    let mut purpose = Purpose::Work;
    loop {
        let Some(pause) = inner
            .upgrade()
            .map(|inner| inner.options.probe_interval / 2)
        else {
            return;
        };
        tokio::time::sleep(pause).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let etcd = Etcd { inner };
        let mut asked = etcd.ask(purpose).await;
        if asked.is_err() && purpose == Purpose::Sentinel {
            asked = etcd.ask(Purpose::Work).await;
            // It may still be where the connection for work has left.
            etcd.inner.target.end(Purpose::Sentinel);
        }
        if let Err(error) = asked {
            // First the reason: requests that end by it tell it.
            etcd.inner.broken.send_replace(Some(error));
            etcd.inner.target.leave();
        }
        purpose = match purpose {
            Purpose::Work => Purpose::Sentinel,
            Purpose::Sentinel => Purpose::Work,
        };
    }
}

impl Etcd {
    /// Asks the server for next to nothing; any answer is a good one.
    async fn ask(&self, purpose: Purpose) -> Result<()> {
        let made = match purpose {
            Purpose::Work => &self.inner.client,
            Purpose::Sentinel => &self.inner.sentinel,
        };
        let after = self.inner.options.probe_timeout;
        let failure = LastFailure::default();
        let asked = async {
            let client = made
                .get_or_try_init(|| self.make(purpose, &failure))
                .await?;
            let options = GetOptions::new().with_serializable().with_count_only();
            let answer = client.kv_client().get(keys::HEARTBEAT, Some(options)).await;
            match answer {
                Err(error) if !asks_for_login(&error, false) => Err(self.explain("probe", error)),
                _ => Ok(()),
            }
        };
        let timed_out = |_| {
            let operation = "probe".to_owned();
            Err(Error::Timeout { operation, after })
        };
        tokio::time::timeout(after, asked)
            .await
            .unwrap_or_else(timed_out)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;
    use crate::config::Config;
    use crate::etcd::stream::LEFT;

    #[test]
    fn what_ends_with_a_connection_that_was_left_says_why_it_was() {
        let config =
            Config::parse("endpoints: [\"http://192.0.2.1:2379\"]").expect("a configuration");
        let etcd = Etcd::lazy(config, Default::default());
        let ended = |text: String| {
            let error = etcd_client::Error::GRpcStatus(Status::unknown(text));
            etcd.explain("watch x", error).to_string()
        };
        let text = || format!("h2 protocol error: error reading a body from connection: {LEFT}");
        assert!(ended(text()).contains(LEFT), "nothing was asked yet");
        etcd.inner.broken.send_replace(Some(Error::Timeout {
            operation: "probe".into(),
            after: etcd.inner.options.probe_timeout,
        }));
        assert_eq!(ended(text()), "etcd did not answer probe within 10s");
        assert!(ended("other".into()).contains("other"));
    }
}
