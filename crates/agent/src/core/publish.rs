// SPDX-License-Identifier: Apache-2.0
//! What this node says of its pods in the cluster's etcd.

use std::net::IpAddr;

use datapath::Kernel;
use ipnet::IpNet;
use model::{EndpointId, IpEntry};

use super::Core;

impl<K: Kernel> Core<K> {
    /// The rows of an endpoint as it is now; none if it is gone.
    pub(crate) fn published(&self, id: EndpointId) -> Vec<IpEntry> {
        let Some(endpoint) = self.endpoints.get(&id) else {
            return Vec::new();
        };
        let host = IpAddr::from(self.node.ipv4);
        let a = &endpoint.attachment;
        let pod = self.pods.get(&a.pod);
        let (account, ports) = pod
            .map(|pod| (pod.service_account.clone(), pod.named_ports.clone()))
            .unwrap_or_default();
        let entry = |ip: IpAddr| IpEntry {
            namespace: a.pod.namespace.clone(),
            pod: a.pod.name.clone(),
            service_account: account.clone(),
            named_ports: ports.clone(),
            metadata: format!("cilium-global:default:{}:{}", self.node.name.name, a.id).into(),
            ..IpEntry::new(IpNet::from(ip), endpoint.identity, Some(host))
        };
        a.ips().map(entry).collect()
    }
}
