// SPDX-License-Identifier: Apache-2.0
//! `/endpoint`: making, showing and removing the endpoints of this node's pods.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::models::*;
use api::{Answer, ApiError, Deleted, EndpointRef, Timestamp};
use ipnet::IpNet;
use kvstore::schema;
use model::{EndpointId, IpEntry, Labels, PodKey};
use netlink::Mac;

use super::identities::identity;
use super::ipam::not_ready;
use super::{Service, failed};
use crate::core::{CreateError, NewEndpoint, Relabel};
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
        let pending = self.take_addresses(&attachment, change.addressing.as_ref())?;
        let result = self.create_with(attachment).await;
        if result.is_err() {
            // The plugin gives the addresses back itself; until then they expire as before.
            self.core().pending.extend(pending);
        }
        result
    }

    async fn create_with(&self, attachment: Attachment) -> Answer<Endpoint> {
        let labels = self.labels_for(&attachment.pod).await;
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
                self.publish(&endpoint);
                Ok(self.model(&endpoint))
            }
            Err(error) => {
                self.identities.release(&labels);
                Err(match error {
                    CreateError::AttachmentInUse(_) | CreateError::AddressInUse { .. } => {
                        ApiError::invalid(error.to_string())
                    }
                    other => failed(other),
                })
            }
        }
    }

    /// The pod's labels; `reserved:init` if nobody knows the pod.
    async fn labels_for(&self, pod: &PodKey) -> Labels {
        let deadline = tokio::time::Instant::now() + OBJECT_WAIT;
        loop {
            let changed = self.objects.notified();
            if let Some(labels) = self.core().labels_of(pod) {
                return labels;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                tracing::warn!(%pod, "no object of this pod is known: it gets the labels of an endpoint in initialisation until there is one");
                return crate::core::Core::<datapath::Linux>::init_labels();
            }
        }
    }

    /// Checks that the addresses are the plugin's to use, and takes them from the list of those that expire.
    fn take_addresses(
        &self,
        attachment: &Attachment,
        pair: Option<&AddressPair>,
    ) -> Answer<Vec<(IpAddr, crate::core::Pending)>> {
        let mut core = self.core();
        let mut taken = Vec::new();
        let owner = attachment.pod.to_string();
        for ip in attachment.ips() {
            if let Some(pending) = core.pending.get(&ip) {
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
                let pending = core.pending.remove(&ip).expect("just seen");
                taken.push((ip, pending));
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
            pool.reserve(ip, &owner)
                .map_err(|error| ApiError::invalid(error.to_string()))?;
        }
        Ok(taken)
    }

    /// Writes the endpoint's addresses to the cluster's etcd.
    pub(crate) fn publish(&self, endpoint: &Local) {
        let Some(publisher) = &self.publisher else {
            return;
        };
        let (host, cluster_node) = {
            let core = self.core();
            (IpAddr::from(core.node.ipv4), core.node.name.name.clone())
        };
        let a = &endpoint.attachment;
        let (account, ports) = {
            let core = self.core();
            core.pods
                .get(&a.pod)
                .map(|pod| (pod.service_account.clone(), pod.named_ports.clone()))
                .unwrap_or_default()
        };
        for ip in a.ips() {
            let entry = IpEntry {
                namespace: a.pod.namespace.clone(),
                pod: a.pod.name.clone(),
                service_account: account.clone(),
                named_ports: ports.clone(),
                metadata: format!("cilium-global:default:{cluster_node}:{}", a.id).into(),
                ..IpEntry::new(IpNet::from(ip), endpoint.identity, Some(host))
            };
            if let Err(error) =
                publisher.put(schema::ip_key(&entry.prefix), schema::encode_ip(&entry))
            {
                tracing::error!(%ip, %error, "cannot publish an address");
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
            if !gone.is_empty() {
                crate::start::save_freed(&mut core);
            }
            gone
        };
        if gone.is_empty() {
            return Err(ApiError::not_found(""));
        }
        let mut errors = 0;
        for gone in gone {
            if let Some(publisher) = &self.publisher {
                for ip in &gone.ips {
                    publisher.delete(&schema::ip_key(&IpNet::from(*ip)));
                }
            }
            self.identities.release(&gone.labels);
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
        self.one(which).map(|endpoint| endpoint.state.health())
    }

    pub(super) fn log_of(&self, which: &EndpointRef) -> Answer<Vec<EndpointStatusChange>> {
        self.one(which)
            .map(|endpoint| endpoint.log.iter().map(log_line).collect())
    }

    fn model(&self, endpoint: &Local) -> Endpoint {
        let core = self.core();
        let a = &endpoint.attachment;
        let (ingress, egress) = core.engine.enforcement(a.id);
        let enabled = match (ingress, egress) {
            (false, false) => "none",
            (true, false) => "ingress",
            (false, true) => "egress",
            (true, true) => "both",
        };
        let policy = EndpointPolicy {
            build: endpoint.realized_revision as i64,
            policy_revision: endpoint.realized_revision as i64,
            id: endpoint.identity.0.into(),
            policy_enabled: enabled.into(),
            ..Default::default()
        };
        let labels: Vec<String> = endpoint.labels.iter().map(ToString::to_string).collect();
        let named_ports = core
            .pods
            .get(&a.pod)
            .map(|pod| pod.named_ports.clone())
            .unwrap_or_default();
        let pair = AddressPair {
            ipv4: a.ipv4.map(|ip| ip.to_string()).unwrap_or_default(),
            ipv4_pool_name: a.ipv4.map(|_| "default".into()).unwrap_or_default(),
            ipv6: a.ipv6.map(|ip| ip.to_string()).unwrap_or_default(),
            ipv6_pool_name: a.ipv6.map(|_| "default".into()).unwrap_or_default(),
            ..Default::default()
        };
        let status = EndpointStatus {
            state: endpoint.state,
            identity: Some(identity(endpoint.identity, &endpoint.labels)),
            labels: Some(LabelConfigurationStatus {
                realized: Some(LabelConfigurationSpec::default()),
                security_relevant: labels,
                ..Default::default()
            }),
            external_identifiers: Some(EndpointIdentifiers {
                cni_attachment_id: a.cni_id(),
                container_id: a.container_id.clone(),
                k8s_namespace: a.pod.namespace.to_string(),
                k8s_pod_name: a.pod.name.to_string(),
                pod_name: a.pod.to_string(),
                ..Default::default()
            }),
            networking: Some(EndpointNetworking {
                addressing: vec![pair],
                host_addressing: Some(self.host_addressing(&core)),
                mac: a.mac.to_string(),
                host_mac: a.host_mac.to_string(),
                interface_name: a.interface.clone(),
                interface_index: a.ifindex.into(),
                container_interface_name: a.container_interface.clone(),
            }),
            named_ports: named_ports
                .iter()
                .map(|p| Port {
                    name: p.name.to_string(),
                    port: p.port,
                    protocol: p.protocol.to_string(),
                })
                .collect(),
            policy: Some(EndpointPolicyStatus {
                spec: Some(policy.clone()),
                realized: Some(policy),
                ..Default::default()
            }),
            health: Some(endpoint.state.health()),
            log: endpoint.log.front().map(log_line).into_iter().collect(),
            ..Default::default()
        };
        Endpoint {
            id: a.id.0.into(),
            spec: Some(EndpointConfigurationSpec::default()),
            status: Some(status),
        }
    }
}

/// Gives endpoints new identities when the labels of their pods change.
pub(crate) struct RelabelWorker {
    pub(crate) service: Arc<Service>,
}

impl RelabelWorker {
    /// Endpoints of before the restart use their identities again; one whose labels have another identity now gets it.
    pub(crate) async fn confirm(&self, endpoints: Vec<Local>) {
        for endpoint in endpoints {
            let (id, labels) = (endpoint.attachment.id, endpoint.labels.clone());
            match self.service.identities.allocate(&labels).await {
                Ok(identity) if identity == endpoint.identity => {}
                Ok(identity) => {
                    let known = self.service.core().relabel(id, labels.clone(), identity);
                    let endpoint = self.service.core().endpoints.get(&id).cloned();
                    match (known, endpoint) {
                        (Some(_), Some(endpoint)) => self.service.publish(&endpoint),
                        _ => self.service.identities.release(&labels),
                    }
                }
                Err(error) => self
                    .service
                    .core()
                    .note(&format!("identity of endpoint {id}"), Some(error)),
            }
        }
    }

    /// Works through `changes`; one that fails is tried again with the next change of objects.
    pub(crate) async fn work(&self, changes: Vec<Relabel>) {
        for Relabel { id, labels } in changes {
            let identity = match self.service.identities.allocate(&labels).await {
                Ok(identity) => identity,
                Err(error) => {
                    self.service
                        .core()
                        .note(&format!("labels of endpoint {id}"), Some(error));
                    continue;
                }
            };
            let old = {
                let mut core = self.service.core();
                core.note(&format!("labels of endpoint {id}"), None::<String>);
                core.relabel(id, labels.clone(), identity)
            };
            let Some(old) = old else {
                self.service.identities.release(&labels);
                continue;
            };
            let endpoint = self.service.core().endpoints.get(&id).cloned();
            if let Some(endpoint) = endpoint {
                self.service.publish(&endpoint);
            }
            self.service.identities.release(&old);
        }
    }
}

fn log_line(entry: &crate::endpoint::LogEntry) -> EndpointStatusChange {
    EndpointStatusChange {
        timestamp: Timestamp::from(entry.at).seconds(),
        code: if entry.ok { "ok" } else { "failed" }.into(),
        message: entry.message.clone(),
        state: Some(entry.state),
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

/// Checks what a plugin says about an interface.
fn attachment(change: &EndpointChangeRequest) -> Answer<Attachment> {
    let missing = |what: &str| ApiError::invalid(format!("{what} is missing in the endpoint"));
    let mac = |name: &str, text: &str| {
        text.parse::<Mac>()
            .map_err(|_| ApiError::invalid(format!("{name} {text:?} is not a MAC address")))
    };
    let pair = change
        .addressing
        .clone()
        .ok_or_else(|| missing("addressing"))?;
    let parse = |text: &str| -> Answer<Option<IpAddr>> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| ApiError::invalid(format!("{text:?} is not an address")))
    };
    let ipv4 = match parse(&pair.ipv4)? {
        Some(IpAddr::V4(ip)) => Some(ip),
        None => None,
        Some(other) => return Err(ApiError::invalid(format!("{other} is not an IPv4 address"))),
    };
    let ipv6 = match parse(&pair.ipv6)? {
        Some(IpAddr::V6(ip)) => Some(ip),
        None => None,
        Some(other) => return Err(ApiError::invalid(format!("{other} is not an IPv6 address"))),
    };
    if ipv4.is_none() && ipv6.is_none() {
        return Err(missing("an address"));
    }
    for (what, text) in [
        ("container-id", &change.container_id),
        ("interface-name", &change.interface_name),
        ("k8s-pod-name", &change.k8s_pod_name),
        ("k8s-namespace", &change.k8s_namespace),
    ] {
        if text.is_empty() {
            return Err(missing(what));
        }
        if text.len() > 253 || text.chars().any(char::is_control) {
            return Err(ApiError::invalid(format!(
                "{what} is longer than 253 characters or not printable"
            )));
        }
    }
    let ifindex = u32::try_from(change.interface_index)
        .ok()
        .filter(|index| *index > 0)
        .ok_or_else(|| missing("interface-index"))?;
    Ok(Attachment {
        id: EndpointId(0),
        container_id: change.container_id.clone(),
        container_interface: if change.container_interface_name.is_empty() {
            "eth0".into()
        } else {
            change.container_interface_name.clone()
        },
        netns: change.container_netns_path.clone(),
        interface: change.interface_name.clone(),
        ifindex,
        mac: mac("mac", &change.mac)?,
        host_mac: mac("host-mac", &change.host_mac)?,
        ipv4,
        ipv6,
        pod: PodKey {
            namespace: change.k8s_namespace.as_str().into(),
            name: change.k8s_pod_name.as_str().into(),
        },
        uid: change.k8s_uid.clone(),
    })
}
