// SPDX-License-Identifier: Apache-2.0
//! Turns under a Lease: who has one works alone.

use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

use super::watches::told;

/// How long a turn lasts unless it is renewed; who holds the Lease longer is taken for gone.
const TURN: Duration = Duration::from_secs(15);
/// Whoever writes a longer duration is believed for so long: a Lease that nobody renews must not shut all others out.
const LONGEST: Duration = Duration::from_secs(300);

/// The right to do what a Lease is about.
#[derive(Debug)]
pub(super) struct Turn {
    api: Api<Lease>,
    lease: Lease,
}

/// What a candidate saw of a Lease, and since when it has been so. Only that says whether a holder lives: the times in a
/// Lease are of another machine's clock.
#[derive(Default, Debug)]
pub(super) struct Seen(Mutex<Option<(LeaseSpec, Instant)>>);

impl Seen {
    /// Whether the holder of `spec` has let it rest for as long as it may.
    fn is_over(&self, spec: &LeaseSpec) -> bool {
        let mut seen = self.0.lock().expect("nothing panics under this lock");
        let length = spec.lease_duration_seconds.unwrap_or(0);
        let length = Duration::from_secs(u64::try_from(length).unwrap_or(0)).min(LONGEST);
        match &*seen {
            Some((before, since)) if before == spec => since.elapsed() >= length,
            _ => {
                *seen = Some((spec.clone(), Instant::now()));
                length.is_zero()
            }
        }
    }
}

/// Why there is no turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NoTurn {
    /// Somebody else has it.
    Held(String),
    /// The server said no, or nothing.
    Failed(String),
}

impl From<NoTurn> for String {
    fn from(no: NoTurn) -> Self {
        match no {
            NoTurn::Held(text) | NoTurn::Failed(text) => text,
        }
    }
}

impl Turn {
    /// Takes the Lease `name` for `who` if nobody else has it. Whoever tries again says so with the same `seen`.
    pub(super) async fn take(
        client: &Client,
        namespace: &str,
        name: &str,
        who: &str,
        seen: &Seen,
    ) -> Result<Self, NoTurn> {
        let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let now = Timestamp::now();
        let failed = |error: kube::Error| {
            NoTurn::Failed(format!("Lease {namespace}/{name}: {}", told(&error)))
        };
        let mut lease = match api.get_opt(name).await.map_err(failed)? {
            Some(lease) => {
                let spec = lease.spec.clone().unwrap_or_default();
                let holder = spec.holder_identity.as_deref();
                let other = holder.filter(|holder| !holder.is_empty() && *holder != who);
                if let Some(holder) = other.filter(|_| !seen.is_over(&spec)) {
                    return Err(NoTurn::Held(format!(
                        "{holder} holds the Lease {namespace}/{name}"
                    )));
                }
                lease
            }
            None => Lease {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    namespace: Some(namespace.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: None,
            },
        };
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(who.to_owned()),
            lease_duration_seconds: i32::try_from(TURN.as_secs()).ok(),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions.unwrap_or(0).wrapping_add(1)),
            ..LeaseSpec::default()
        });
        // The version that was read goes along: of two who do this, the server refuses one.
        let params = PostParams::default();
        let taken = if lease.metadata.resource_version.is_some() {
            api.replace(name, &params, &lease).await
        } else {
            api.create(&params, &lease).await
        };
        match taken {
            Ok(lease) => Ok(Self { api, lease }),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(NoTurn::Held(format!(
                "another takes the Lease {namespace}/{name}"
            ))),
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes the turn last as long again.
    ///
    /// # Errors
    /// Somebody else wrote the Lease, or the server says no: the turn lasts as long as it did.
    pub(super) async fn renew(&mut self) -> Result<(), String> {
        let mut lease = self.lease.clone();
        if let Some(spec) = &mut lease.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let params = PostParams::default();
        let renewed = self.api.replace(self.name(), &params, &lease);
        self.lease = renewed.await.map_err(|error| told(&error))?;
        Ok(())
    }

    fn name(&self) -> &str {
        self.lease.metadata.name.as_deref().unwrap_or_default()
    }

    /// Lets the next one in. If it fails, the Lease runs out.
    pub(super) async fn end(mut self) {
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let params = PostParams::default();
        let ended = self.api.replace(self.name(), &params, &self.lease);
        if let Ok(Err(error)) = tokio::time::timeout(TURN, ended).await {
            tracing::debug!(
                error = told(&error),
                lease = self.name(),
                "a Lease was not given back"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_does_not_renew_is_believed_for_minutes_at_most() {
        let lease = |seconds| LeaseSpec {
            holder_identity: Some("other".into()),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        };
        for (seconds, believed) in [(15, 15), (i32::MAX, 300), (0, 0), (-1, 0)] {
            let (seen, spec) = (Seen::default(), lease(seconds));
            let begun = Instant::now();
            while !seen.is_over(&spec) {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            assert_eq!(begun.elapsed().as_secs(), believed, "{seconds}");
        }
    }
}
