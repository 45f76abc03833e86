// SPDX-License-Identifier: Apache-2.0
//! Clients: a channel with our own connector each.

use std::sync::Arc;

use etcd_client::{Client, ConnectOptions};

use super::connector::{Connector, LastFailure, Purpose};
use super::{Etcd, probe};
use crate::error::Error;
use crate::store::Result;

impl Etcd {
    /// The client that every request and watch uses.
    pub(super) async fn client(&self) -> Result<Client> {
        let made = self.inner.client.get_or_try_init(|| async {
            let client = self.make(Purpose::Work, &self.inner.failure).await?;
            let mut tasks = self
                .inner
                .tasks
                .lock()
                .expect("nothing panics under this lock");
            tasks.spawn("etcd probes", probe::run(Arc::downgrade(&self.inner)));
            Ok::<_, Error>(client)
        });
        Ok(made.await?.clone())
    }

    /// A client with a connection of its own, opened on demand.
    pub(super) async fn make(&self, purpose: Purpose, failure: &LastFailure) -> Result<Client> {
        let inner = &self.inner;
        let first = inner
            .config
            .endpoints
            .first()
            .ok_or_else(|| Error::Connect {
                reason: "the configuration has no endpoints".into(),
            })?;
        let authority = match first.host.contains(':') {
            true => format!("http://[{}]:{}", first.host, first.port),
            false => format!("http://{}:{}", first.host, first.port),
        };
        let refuse = |error: tonic::transport::Error| Error::Connect {
            reason: error.to_string(),
        };
        // "http" because our connector does the TLS.
        let channel = tonic::transport::Endpoint::from_shared(authority)
            .map_err(refuse)?
            .connect_with_connector_lazy(Connector {
                purpose,
                config: inner.config.clone(),
                dial_timeout: inner.options.dial_timeout,
                failure: failure.clone(),
                target: inner.target.clone(),
            });
        let mut options = ConnectOptions::new().with_require_leader(true);
        if let Some((name, password)) = &inner.config.user {
            options = options
                .with_user(name, password)
                .with_auto_token_refresh(true);
        }
        let made = Client::from_channel(etcd_client::Channel::Tonic(channel), Some(options));
        made.await.map_err(|error| self.explain("login", error))
    }
}
