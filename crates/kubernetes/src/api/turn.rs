// SPDX-License-Identifier: Apache-2.0
//! Turns under the Lease with which Cilium's operator elects its leader: who has one works on the cluster's pool alone.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use super::watches::told;

const LEASE: &str = "cilium-operator-resource-lock";
/// How long a turn lasts at most; who holds the Lease longer is taken for gone.
const TURN: Duration = Duration::from_secs(15);

/// The right to change who has which network.
pub(super) struct Turn {
    api: Api<Lease>,
    lease: Lease,
}

impl Turn {
    /// Takes the Lease if nobody has it.
    pub(super) async fn take(client: &Client, namespace: &str, node: &str) -> Result<Self, String> {
        let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let now = Timestamp::now();
        let failed = |error: kube::Error| format!("Lease {namespace}/{LEASE}: {}", told(&error));
        let mut lease = match api.get_opt(LEASE).await.map_err(failed)? {
            Some(lease) => {
                let spec = lease.spec.clone().unwrap_or_default();
                let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
                let length = spec.lease_duration_seconds.unwrap_or(0).max(0);
                let renewed = spec.renew_time.map_or(Timestamp::MIN, |time| time.0);
                let runs = now.duration_since(renewed).as_secs() < i64::from(length);
                if let Some(holder) = holder.filter(|_| runs) {
                    return Err(format!("{holder} holds the Lease {namespace}/{LEASE}"));
                }
                lease
            }
            None => Lease {
                metadata: ObjectMeta {
                    name: Some(LEASE.to_owned()),
                    namespace: Some(namespace.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: None,
            },
        };
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: i32::try_from(TURN.as_secs()).ok(),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions.unwrap_or(0).wrapping_add(1)),
            ..LeaseSpec::default()
        });
        // The version that was read goes along: of two who do this, the server refuses one.
        let params = PostParams::default();
        let taken = if lease.metadata.resource_version.is_some() {
            api.replace(LEASE, &params, &lease).await
        } else {
            api.create(&params, &lease).await
        };
        match taken {
            Ok(lease) => Ok(Self { api, lease }),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Err(format!("another node takes the Lease {namespace}/{LEASE}"))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Lets the next one in. If it fails, the Lease runs out.
    pub(super) async fn end(mut self) {
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let params = PostParams::default();
        let ended = self.api.replace(LEASE, &params, &self.lease);
        if let Ok(Err(error)) = tokio::time::timeout(TURN, ended).await {
            tracing::debug!(
                error = told(&error),
                "the Lease of the pool was not given back"
            );
        }
    }
}
