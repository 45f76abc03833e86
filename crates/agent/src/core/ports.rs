// SPDX-License-Identifier: Apache-2.0
//! Ports that pods name: a pod's own for its endpoint, and those of all pods of an identity for who asks them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datapath::Kernel;
use ipnet::IpNet;
use model::{EndpointId, NamedPort, NumericIdentity};

use super::Core;
use crate::endpoint::Attachment;

/// Who names ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Namer {
    /// A pod of this node.
    Endpoint(EndpointId),
    /// An address of this cluster's etcd.
    Address(IpNet),
    /// The pods of an identity of a remote cluster.
    Remote(NumericIdentity),
}

/// The ports of one namer, and its identity.
type Told = (NumericIdentity, Arc<[NamedPort]>);

/// All named ports, by who names them and by identity. What names none is not here.
#[derive(Default, Debug)]
pub(super) struct NamedPorts {
    told: HashMap<Namer, Told>,
    /// How many name a port.
    users: HashMap<NumericIdentity, BTreeMap<NamedPort, usize>>,
}

impl NamedPorts {
    /// `namer` names these ports now, or none. Returns the identities to which it may make a difference.
    fn put(&mut self, namer: Namer, new: Option<Told>) -> Vec<NumericIdentity> {
        let new = new.filter(|(_, ports)| !ports.is_empty());
        if self.told.get(&namer) == new.as_ref() {
            return Vec::new();
        }
        let old = self.told.remove(&namer);
        if let Some((identity, ports)) = &new {
            let users = self.users.entry(*identity).or_default();
            for port in ports.iter() {
                *users.entry(port.clone()).or_default() += 1;
            }
        }
        if let Some((identity, ports)) = &old
            && let Some(users) = self.users.get_mut(identity)
        {
            for port in ports.iter() {
                let count = users.entry(port.clone()).or_default();
                *count = count.saturating_sub(1);
            }
            users.retain(|_, count| *count > 0);
            if users.is_empty() {
                self.users.remove(identity);
            }
        }
        let touched = [&old, &new].into_iter().flatten();
        let touched = touched.map(|(identity, _)| *identity).collect();
        if let Some(new) = new {
            self.told.insert(namer, new);
        }
        touched
    }

    fn of(&self, identity: NumericIdentity) -> impl Iterator<Item = &NamedPort> {
        self.users
            .get(&identity)
            .into_iter()
            .flat_map(BTreeMap::keys)
    }
}

impl<K: Kernel> Core<K> {
    /// An address of this cluster's etcd belongs to an identity and names these ports; `None`: it is gone.
    pub(super) fn put_address_ports(&mut self, prefix: IpNet, told: Option<Told>) {
        self.put_ports(Namer::Address(prefix), told);
    }

    /// What names stand for with the pods of a remote identity.
    pub(crate) fn put_remote_ports(&mut self, identity: NumericIdentity, ports: Arc<[NamedPort]>) {
        self.put_ports(Namer::Remote(identity), Some((identity, ports)));
    }

    /// The pod of an endpoint is known, or its identity is another. Ports of a pod that is not known yet come with it.
    pub(super) fn put_endpoint_ports(
        &mut self,
        attachment: &Attachment,
        identity: NumericIdentity,
    ) {
        if let Some(pod) = self.pod_of(attachment) {
            let (id, ports) = (attachment.id, pod.named_ports.clone());
            self.engine.set_named_ports(id, &ports);
            self.put_ports(Namer::Endpoint(id), Some((identity, ports)));
            self.dirty = true;
        }
    }

    /// An endpoint is gone.
    pub(super) fn drop_endpoint_ports(&mut self, id: EndpointId) {
        self.put_ports(Namer::Endpoint(id), None);
    }

    fn put_ports(&mut self, namer: Namer, told: Option<Told>) {
        for identity in self.named_ports.put(namer, told) {
            let ports = self.named_ports.of(identity);
            self.dirty |= self.engine.set_identity_ports(identity, ports);
        }
    }
}
