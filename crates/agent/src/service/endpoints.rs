// SPDX-License-Identifier: Apache-2.0
//! `/endpoint`: making, showing and removing the endpoints of this node's pods.

use std::net::IpAddr;
use std::time::Duration;

use api::models::*;
use api::{Answer, ApiError, Deleted, EndpointRef};
use ipnet::IpNet;
use kvstore::schema;
use model::{EndpointId, Labels};

use super::endpoint_model::{attachment, log_line};
use super::ipam::not_ready;
use super::{Service, failed};
use crate::core::{CreateError, NewEndpoint};
use crate::endpoint::{Attachment, Endpoint as Local};

/// How long a pod's object may come after its container.
const OBJECT_WAIT: Duration = Duration::from_secs(3);

impl Service {
    /// Makes the endpoint of a pod.
    pub(super) async fn create(&self, change: EndpointChangeRequest) -> Answer<Endpoint> {
        if !self.core().ready {
            return Err(not_ready());
        }
        let attachment = attachment(&change)?;
        let taken = self.take_addresses(&attachment, change.addressing.as_ref())?;
        let endpoint = self.create_with(attachment).await?;
        taken.keep();
        Ok(endpoint)
    }

    async fn create_with(&self, attachment: Attachment) -> Answer<Endpoint> {
        let labels = self.labels_for(&attachment).await;
        let identity = self.identities.allocate(&labels).await.map_err(failed)?;
        let new = NewEndpoint {
            attachment,
            labels: labels.clone(),
            identity,
        };
        let created = {
            let mut core = self.core();
            let created = core.create_endpoint(new, &self.socket);
            created.map(|id| core.endpoints.get(&id).cloned().expect("just made"))
        };
        match created {
            Ok(endpoint) => {
                self.publish(endpoint.attachment.id);
                let now = self.core().labels_of(&endpoint.attachment);
                if now.is_some_and(|now| now != labels) {
                    // The object came or changed while the endpoint was made, when nobody knew whose it was.
                    self.objects.notify_waiters();
                }
                Ok(self.model(&endpoint))
            }
            Err(error) => {
                self.identities.release(&labels);
                Err(match error {
                    CreateError::AttachmentInUse(_)
                    | CreateError::AddressInUse { .. }
                    | CreateError::DeviceInUse { .. }
                    | CreateError::Unfit(_) => ApiError::invalid(error.to_string()),
                    other => failed(other),
                })
            }
        }
    }

    /// The pod's labels; `reserved:init` if nobody knows the pod.
    async fn labels_for(&self, attachment: &Attachment) -> Labels {
        let deadline = tokio::time::Instant::now() + OBJECT_WAIT;
        loop {
            let changed = self.objects.notified();
            if let Some(labels) = self.core().labels_of(attachment) {
                return labels;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                tracing::warn!(pod = %attachment.pod, "no object of this pod is known: it gets the labels of an endpoint in initialisation until there is one");
                return crate::core::Core::<datapath::Linux>::init_labels();
            }
        }
    }

    /// Checks that the addresses are the plugin's to use, and takes them from the list of those that expire.
    fn take_addresses(
        &self,
        attachment: &Attachment,
        pair: Option<&AddressPair>,
    ) -> Answer<Taken<'_>> {
        let mut taken = Taken {
            service: self,
            addresses: Vec::new(),
        };
        let mut core = self.core();
        let owner = attachment.pod.to_string();
        for ip in attachment.ips() {
            if let Some(pending) = core.pending.get_mut(&ip) {
                let quoted = pair.map(|pair| {
                    if ip.is_ipv4() {
                        &pair.ipv4_expiration_uuid
                    } else {
                        &pair.ipv6_expiration_uuid
                    }
                });
                if quoted.is_none_or(|uuid| *uuid != pending.uuid) {
                    return Err(ApiError::invalid(format!(
                        "address {ip} was given to another request: quote its expiration uuid"
                    )));
                }
                if pending.taken {
                    return Err(ApiError::invalid(format!(
                        "address {ip} belongs to an endpoint that is being made"
                    )));
                }
                pending.taken = true;
                taken.addresses.push(ip);
                continue;
            }
            let core = &mut *core;
            let pool = if ip.is_ipv4() {
                core.pool4.as_mut()
            } else {
                core.pool6.as_mut()
            };
            let pool = pool.ok_or_else(|| {
                ApiError::invalid(format!(
                    "{ip}: this address family is disabled on this node"
                ))
            })?;
            let had = pool.has(ip);
            pool.reserve(ip, &owner)
                .map_err(|error| ApiError::invalid(error.to_string()))?;
            if !had {
                taken.addresses.push(ip);
            }
        }
        drop(core);
        Ok(taken)
    }

    /// Writes the addresses of an endpoint to the cluster's etcd, as it is now. The state is held meanwhile: one that is
    /// removed at this moment is gone before, or its removal takes back what is written here.
    pub(crate) fn publish(&self, id: EndpointId) {
        let Some(publisher) = &self.publisher else {
            return;
        };
        let core = self.core();
        for entry in core.published(id) {
            let key = schema::ip_key(&entry.prefix);
            if let Err(error) = publisher.put(key, schema::encode_ip(&entry)) {
                tracing::error!(ip = %entry.prefix, %error, "cannot publish an address");
            }
        }
    }

    /// Removes endpoints. One that is not there is 404.
    pub(super) async fn delete(&self, which: &EndpointRef) -> Answer<Deleted> {
        let gone = {
            let mut core = self.core();
            if !core.ready {
                return Err(not_ready());
            }
            let ids = find(&core.endpoints, which);
            let gone: Vec<crate::core::Gone> = ids
                .into_iter()
                .filter_map(|id| core.remove_endpoint(id, &self.socket))
                .collect();
            // Still under the lock: the next endpoint with such an address publishes the same key.
            if let Some(publisher) = &self.publisher {
                for ip in gone.iter().flat_map(|gone| &gone.ips) {
                    publisher.delete(&schema::ip_key(&IpNet::from(*ip)));
                }
            }
            if !gone.is_empty() {
                core.save_freed();
            }
            gone
        };
        if gone.is_empty() {
            return Err(ApiError::not_found(""));
        }
        let mut errors = 0;
        for gone in gone {
            if let Some(labels) = &gone.labels {
                self.identities.release(labels);
            }
            for error in &gone.errors {
                tracing::warn!(endpoint = %which, error, "removing an endpoint");
            }
            errors += gone.errors.len() as u32;
        }
        Ok(if errors == 0 {
            Deleted::All
        } else {
            Deleted::WithErrors(errors)
        })
    }

    pub(super) fn endpoint_list(&self, wanted: &[String]) -> Answer<Vec<Endpoint>> {
        let core = self.core();
        let has = |endpoint: &&Local| {
            wanted.iter().all(|text| {
                endpoint
                    .labels
                    .iter()
                    .any(|label| label.to_string() == *text)
            })
        };
        let found: Vec<Local> = core.endpoints.values().filter(has).cloned().collect();
        drop(core);
        if found.is_empty() && !wanted.is_empty() {
            return Err(ApiError::not_found(""));
        }
        Ok(found.iter().map(|endpoint| self.model(endpoint)).collect())
    }

    fn one(&self, which: &EndpointRef) -> Answer<Local> {
        let core = self.core();
        let id = find(&core.endpoints, which).first().copied();
        id.and_then(|id| core.endpoints.get(&id).cloned())
            .ok_or_else(|| ApiError::not_found(""))
    }

    pub(super) fn endpoint_model(&self, which: &EndpointRef) -> Answer<Endpoint> {
        self.one(which).map(|endpoint| self.model(&endpoint))
    }

    pub(super) fn health_of(&self, which: &EndpointRef) -> Answer<EndpointHealth> {
        let endpoint = self.one(which)?;
        let mut health = endpoint.state.health();
        let id = endpoint.attachment.id;
        if !self.core().inspect(id, &self.socket).is_empty() {
            (health.overall_health, health.bpf) = ("Failure".into(), "Failure".into());
        }
        Ok(health)
    }

    pub(super) fn log_of(&self, which: &EndpointRef) -> Answer<Vec<EndpointStatusChange>> {
        self.one(which)
            .map(|endpoint| endpoint.log.iter().map(log_line).collect())
    }
}

/// Addresses of an endpoint that is being made. If it is not made, because something failed or because nobody waits for it
/// any more, they are what they were: about to expire, or free.
struct Taken<'a> {
    service: &'a Service,
    addresses: Vec<IpAddr>,
}

impl Taken<'_> {
    /// The endpoint has them.
    fn keep(mut self) {
        let mut core = self.service.core();
        let mut held = false;
        for ip in self.addresses.drain(..) {
            held |= core.pending.remove(&ip).is_some();
        }
        if held {
            core.save_held();
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.addresses.is_empty() {
            return;
        }
        let mut core = self.service.core();
        for ip in self.addresses.drain(..) {
            core.give_back(ip);
        }
    }
}

fn find(
    endpoints: &std::collections::BTreeMap<EndpointId, Local>,
    which: &EndpointRef,
) -> Vec<EndpointId> {
    let is = |a: &Attachment| match which {
        EndpointRef::Local(id) => a.id.0 == *id,
        EndpointRef::Attachment {
            container,
            interface,
        } => {
            a.container_id == *container
                && interface
                    .as_ref()
                    .is_none_or(|i| *i == a.container_interface)
        }
        EndpointRef::Pod { namespace, name } => {
            *a.pod.namespace == **namespace && *a.pod.name == **name
        }
        EndpointRef::Ipv4(ip) => a.ipv4 == Some(*ip),
        EndpointRef::Ipv6(ip) => a.ipv6 == Some(*ip),
    };
    endpoints
        .values()
        .filter(|endpoint| is(&endpoint.attachment))
        .map(|endpoint| endpoint.attachment.id)
        .collect()
}
