// SPDX-License-Identifier: Apache-2.0
//! Endpoints come, change and go. Order of coming: identity, policy, programs, address; a step that fails undoes
//! those before it.

use std::net::IpAddr;

use api::models::EndpointState;
use datapath::devices::{self, PodDevice};
use datapath::{EndpointRow, Kernel};
use ipnet::IpNet;
use model::{EndpointId, Labels, NumericIdentity};
use netlink::Socket;

use super::Core;
use super::labels::label_subject;
use super::room::finish;
use crate::addresses::{Claim, Source};
use crate::endpoint::{self, Attachment, Endpoint};

/// An endpoint to be made; the id is given here.
#[derive(Clone, Debug)]
pub(crate) struct NewEndpoint {
    pub(crate) attachment: Attachment,
    pub(crate) labels: Labels,
    pub(crate) identity: NumericIdentity,
}

/// What an endpoint that is gone leaves to be released elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    /// Of whose identity it counted as a use.
    pub(crate) labels: Option<Labels>,
    pub(crate) ips: Vec<IpAddr>,
    /// Steps that failed on the way.
    pub(crate) errors: Vec<String>,
}

/// Why an endpoint is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// All ids are in use.
    #[error("no free endpoint id: {max} endpoints are the most that a node can have", max = abi::MAX_ENDPOINTS - 1)]
    NoId,
    /// The attachment has an endpoint.
    #[error("container interface {0} has an endpoint already")]
    AttachmentInUse(String),
    /// Another endpoint has the address.
    #[error("address {ip} belongs to endpoint {id} ({pod})")]
    AddressInUse {
        /// The address.
        ip: IpAddr,
        /// Whose it is.
        id: EndpointId,
        /// Its pod.
        pod: String,
    },
    /// Another endpoint has the device.
    #[error("device {device} belongs to endpoint {id} ({pod})")]
    DeviceInUse {
        /// The device.
        device: String,
        /// Whose it is.
        id: EndpointId,
        /// Its pod.
        pod: String,
    },
    /// It is not a pod's.
    #[error("no device of a pod: {0}")]
    Unfit(String),
    /// The maps or programs.
    #[error("datapath: {0}")]
    Datapath(#[from] datapath::Error),
    /// The file.
    #[error("cannot save the endpoint in {dir}: {source}")]
    Save {
        /// Where.
        dir: String,
        /// Why.
        source: std::io::Error,
    },
}

impl<K: Kernel> Core<K> {
    /// Makes an endpoint; it is ready on return.
    pub(crate) fn create_endpoint(
        &mut self,
        new: NewEndpoint,
        socket: &Socket,
    ) -> Result<EndpointId, CreateError> {
        self.check_free(&new.attachment)?;
        let (device, ifindex) = (&new.attachment.interface, new.attachment.ifindex);
        if let Some(why) = devices::unfit(socket, device, ifindex)? {
            return Err(CreateError::Unfit(why));
        }
        let id = self.free_id()?;
        let attachment = Attachment {
            id,
            ..new.attachment
        };
        let mut endpoint = Endpoint {
            attachment,
            labels: new.labels,
            identity: new.identity,
            counted: true,
            state: EndpointState::Regenerating,
            log: Default::default(),
        };
        if let Err(error) = self.bring_up(&mut endpoint, socket) {
            let errors = self.take_down(&endpoint, socket);
            if !errors.is_empty() {
                tracing::warn!(endpoint = %id, ?errors, "undoing a failed endpoint left something behind");
            }
            return Err(error);
        }
        self.endpoints.insert(id, endpoint);
        Ok(id)
    }

    fn bring_up(&mut self, endpoint: &mut Endpoint, socket: &Socket) -> Result<(), CreateError> {
        let id = endpoint.attachment.id;
        self.engine
            .upsert_identity(endpoint.identity, endpoint.labels.clone());
        self.identities
            .insert(endpoint.identity, endpoint.labels.clone());
        self.engine.upsert_endpoint(id, endpoint.identity);
        self.put_endpoint_ports(&endpoint.attachment, endpoint.identity);
        self.dirty = true;
        self.dp.put_endpoint(&self.row(endpoint))?;
        self.settle();
        self.dp
            .attach_pod(&endpoint.attachment.interface, endpoint.attachment.ifindex)?;
        devices::ensure_pod_device(socket, &self.pod_device(&endpoint.attachment))?;
        for ip in endpoint.attachment.ips() {
            self.claim_pod(endpoint, ip);
        }
        let message = "Successfully regenerated endpoint program";
        finish(endpoint, &self.engine, message);
        let dir = self.endpoint_dir.clone();
        endpoint.save(&dir).map_err(|source| CreateError::Save {
            dir: dir.display().to_string(),
            source,
        })
    }

    fn pod_device<'a>(&self, attachment: &'a Attachment) -> PodDevice<'a> {
        let router = |ip: IpAddr| {
            self.node
                .routers()
                .find(|router| router.is_ipv4() == ip.is_ipv4())
        };
        PodDevice {
            device: &attachment.interface,
            ifindex: attachment.ifindex,
            mac: attachment.mac.0,
            addresses: attachment.ips().map(|ip| (ip, router(ip))).collect(),
        }
    }

    /// Looks at an endpoint's device. What is not as it was made is in the endpoint's log, and returned.
    pub(crate) fn inspect(&mut self, id: EndpointId, socket: &Socket) -> Vec<String> {
        let Some(mut endpoint) = self.endpoints.remove(&id) else {
            return Vec::new();
        };
        let found = devices::defects(socket, &self.pod_device(&endpoint.attachment));
        let defects = found.unwrap_or_else(|error| vec![error.to_string()]);
        if !defects.is_empty() {
            let message = defects.join(", ");
            let newest = endpoint.log.front().map(|entry| &entry.message);
            if newest != Some(&message) {
                endpoint.enter(endpoint.state, false, message);
            }
        }
        self.endpoints.insert(id, endpoint);
        defects
    }

    pub(super) fn claim_pod(&mut self, endpoint: &Endpoint, ip: IpAddr) {
        let pod = &endpoint.attachment.pod;
        let claim = Claim {
            identity: endpoint.identity,
            tunnel: None,
            remote_cluster: false,
            pod: Some((pod.namespace.clone(), pod.name.clone())),
        };
        self.claim(IpNet::from(ip), Source::Local, claim);
    }

    /// An endpoint of before the restart: its maps and programs are still in place. It has no address of a family that is
    /// off by now: nobody shall send there. In its file it keeps it, should the family be on again.
    pub(crate) fn restore_endpoint(&mut self, mut endpoint: Endpoint) -> Result<(), CreateError> {
        let attachment = &mut endpoint.attachment;
        attachment.ipv4 = attachment.ipv4.filter(|_| self.config.ipv4);
        attachment.ipv6 = attachment.ipv6.filter(|_| self.config.ipv6);
        let id = attachment.id;
        let owner = endpoint.attachment.pod.to_string();
        for ip in endpoint.attachment.ips() {
            for pool in [&mut self.pool4, &mut self.pool6].into_iter().flatten() {
                if pool.range().contains(&ip)
                    && let Err(error) = pool.reserve(ip, &owner)
                {
                    tracing::warn!(endpoint = %id, %error, "address of a restored endpoint");
                }
            }
        }
        self.engine
            .upsert_identity(endpoint.identity, endpoint.labels.clone());
        self.identities
            .insert(endpoint.identity, endpoint.labels.clone());
        self.engine.upsert_endpoint(id, endpoint.identity);
        self.dirty = true;
        self.dp.put_endpoint(&self.row(&endpoint))?;
        self.dp
            .attach_pod(&endpoint.attachment.interface, endpoint.attachment.ifindex)?;
        for ip in endpoint.attachment.ips() {
            self.claim_pod(&endpoint, ip);
        }
        self.next_endpoint = self.next_endpoint.max(id.0 + 1);
        self.endpoints.insert(id, endpoint);
        Ok(())
    }

    /// Removes an endpoint. Goes on after an error.
    pub(crate) fn remove_endpoint(&mut self, id: EndpointId, socket: &Socket) -> Option<Gone> {
        let endpoint = self.endpoints.remove(&id)?;
        let mut errors = self.take_down(&endpoint, socket);
        for ip in endpoint.attachment.ips() {
            self.release(ip);
        }
        if let Err(error) = endpoint::forget(&self.endpoint_dir, id) {
            errors.push(format!("remove the endpoint's file: {error}"));
        }
        for subject in [label_subject(id), row_subject(id), file_subject(id)] {
            self.note(&subject, None::<String>);
        }
        Some(Gone {
            labels: endpoint.counted.then_some(endpoint.labels),
            ips: endpoint.attachment.ips().collect(),
            errors,
        })
    }

    fn take_down(&mut self, endpoint: &Endpoint, socket: &Socket) -> Vec<String> {
        let id = endpoint.attachment.id;
        let mut errors = Vec::new();
        for ip in endpoint.attachment.ips() {
            self.withdraw(&IpNet::from(ip), &Source::Local);
        }
        let ips: Vec<IpAddr> = endpoint.attachment.ips().collect();
        if let Err(error) = devices::remove_pod_routes(socket, &ips, endpoint.attachment.ifindex) {
            errors.push(error.to_string());
        }
        // The programs stay until the device goes: without its endpoint they drop what the pod still sends.
        if let Err(error) = self.dp.remove_endpoint(id) {
            errors.push(error.to_string());
        }
        self.engine.remove_endpoint(id);
        self.drop_endpoint_ports(id);
        self.dirty = true;
        self.settle();
        errors
    }

    /// Writes the files of endpoints that a full disk refused, or that somebody removed: a start would forget their pods.
    pub(crate) fn keep_files(&mut self) {
        let unsaved = self.endpoints.iter().filter_map(|(id, endpoint)| {
            let subject = file_subject(*id);
            let is_saved = !self.notes.contains_key(&subject)
                && endpoint::path(&self.endpoint_dir, *id).exists();
            (!is_saved).then(|| (subject, endpoint.save(&self.endpoint_dir)))
        });
        for (subject, saved) in unsaved.collect::<Vec<_>>() {
            self.note(&subject, saved.err());
        }
    }

    /// Addresses that were in use, oldest first, for the disk.
    pub(crate) fn freed(&self) -> Vec<IpAddr> {
        [&self.pool4, &self.pool6]
            .into_iter()
            .flatten()
            .flat_map(|pool| pool.freed())
            .collect()
    }

    /// Addresses that were in use before this start, oldest first.
    pub(crate) fn restore_freed(&mut self, freed: &[IpAddr]) {
        for ip in freed {
            for pool in [&mut self.pool4, &mut self.pool6].into_iter().flatten() {
                pool.restore_freed(*ip);
            }
        }
    }

    /// Frees an address.
    pub(crate) fn release(&mut self, ip: IpAddr) {
        self.pending.remove(&ip);
        for pool in [&mut self.pool4, &mut self.pool6].into_iter().flatten() {
            if pool.range().contains(&ip) {
                // An address outside the pool's books has nothing to free.
                let _ = pool.release(ip);
            }
        }
    }

    pub(super) fn check_free(&self, attachment: &Attachment) -> Result<(), CreateError> {
        for other in self.endpoints.values().map(|endpoint| &endpoint.attachment) {
            if other.cni_id() == attachment.cni_id() {
                return Err(CreateError::AttachmentInUse(attachment.cni_id()));
            }
            // Deleting the one would take the other's programs along.
            if other.ifindex == attachment.ifindex && other.interface == attachment.interface {
                return Err(CreateError::DeviceInUse {
                    device: other.interface.clone(),
                    id: other.id,
                    pod: other.pod.to_string(),
                });
            }
            if let Some(ip) = other
                .ips()
                .find(|ip| attachment.ips().any(|own| own == *ip))
            {
                return Err(CreateError::AddressInUse {
                    ip,
                    id: other.id,
                    pod: other.pod.to_string(),
                });
            }
        }
        Ok(())
    }

    /// The next id that is free; an id comes again only after all others.
    fn free_id(&mut self) -> Result<EndpointId, CreateError> {
        let last = (abi::MAX_ENDPOINTS - 1) as u16;
        for _ in 0..last {
            let id = EndpointId(self.next_endpoint.clamp(1, last));
            self.next_endpoint = if id.0 == last { 1 } else { id.0 + 1 };
            let living = self.living.values().any(|living| living.id == id.0);
            if !living && !self.endpoints.contains_key(&id) {
                return Ok(id);
            }
        }
        Err(CreateError::NoId)
    }

    /// What the kernel knows of an endpoint.
    pub(super) fn row(&self, endpoint: &Endpoint) -> EndpointRow {
        let a = &endpoint.attachment;
        let is_ours = |ip| self.node.pods6.is_none_or(|net| net.contains(&ip));
        EndpointRow {
            id: a.id,
            ifindex: a.ifindex,
            device: a.interface.clone(),
            ipv4: a.ipv4,
            ipv6: a.ipv6,
            mac: a.mac.0,
            host_mac: a.host_mac.0,
            identity: endpoint.identity,
            other_router: !a.ipv6.is_none_or(is_ours),
        }
    }
}

/// What notes about an endpoint's row in the kernel, and about its file, are filed under.
pub(crate) fn row_subject(id: EndpointId) -> String {
    format!("endpoint {id}")
}

pub(super) fn file_subject(id: EndpointId) -> String {
    format!("endpoint {id} on disk")
}
