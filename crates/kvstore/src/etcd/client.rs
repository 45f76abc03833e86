// SPDX-License-Identifier: Apache-2.0
//! Clients: a channel with our own connector each.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use etcd_client::{Client, ConnectOptions};
use tonic::Code;

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
        let options = ConnectOptions::new()
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        let made = Client::from_channel(etcd_client::Channel::Tonic(channel), Some(options));
        let mut client = made.await.map_err(|error| self.explain("login", error))?;
        self.login(&mut client).await?;
        Ok(client)
    }

    /// Logs in with name and password, if there are any. Clones of the client are logged in too.
    ///
    /// As with etcd's own clients they are no fault while the authentication of the server is off.
    async fn login(&self, client: &mut Client) -> Result<()> {
        let Some(user) = self.inner.config.user.clone() else {
            return Ok(());
        };
        let after = self.inner.options.request_timeout;
        let done = tokio::time::timeout(after, client.update_user(Some(user))).await;
        match done.map(|done| done.map_err(|error| (is_off(&error), error))) {
            Ok(Ok(())) => {
                self.inner.logged_in.store(true, Ordering::Release);
                Ok(())
            }
            // Without a token: one of before would be refused.
            Ok(Err((true, _))) => {
                self.inner.logged_in.store(false, Ordering::Release);
                let out = client.update_user(None).await;
                out.map_err(|error| self.explain("logout", error))
            }
            Ok(Err((false, error))) => Err(self.explain("login", error)),
            Err(_) => Err(Error::Timeout {
                operation: "login".into(),
                after,
            }),
        }
    }

    /// Logs in again, or out, if that may be why a request was refused. It is for its caller to repeat.
    pub(super) async fn login_after(&self, error: &etcd_client::Error) {
        let logged_in = self.inner.logged_in.load(Ordering::Acquire);
        if let (true, Some(client)) = (asks_for_login(error, logged_in), self.inner.client.get())
            && let Err(error) = self.login(&mut client.clone()).await
        {
            tracing::debug!(%error, "not logged in again");
        }
    }
}

/// Whether the authentication of the server is off.
fn is_off(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status)
        if status.message().contains("authentication is not enabled"))
}

/// Whether the member that was asked is one that has no vote yet. It answers probes and nothing else.
pub(super) fn is_learner(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status)
        if status.message().contains("not supported for learner"))
}

/// Whether a request was refused as if authentication had been switched on or off since, or its users had changed, which makes
/// some tokens (JWT) void. Whoever is logged in and lacks a right does not get it by another login.
pub(super) fn asks_for_login(error: &etcd_client::Error, logged_in: bool) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return false;
    };
    let words = ["user name is empty", "revision of auth store is old"];
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => !logged_in,
        Code::InvalidArgument => words.iter().any(|word| status.message().contains(word)),
        _ => is_off(error),
    }
}
