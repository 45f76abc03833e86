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
        let pod = self.pod_of(a);
        let (account, ports) = pod
            .map(|pod| (pod.service_account.clone(), pod.named_ports.clone()))
            .unwrap_or_default();
        let entry = |ip: IpAddr| IpEntry {
            namespace: a.pod.namespace.clone(),
            pod: a.pod.name.clone(),
            service_account: account.clone(),
            named_ports: ports.clone(),
            metadata: self.metadata(a.id).into(),
            ..IpEntry::new(IpNet::from(ip), endpoint.identity, Some(host))
        };
        a.ips().map(entry).collect()
    }

    /// Whether a row of this cluster's etcd is of an earlier run of this agent and about a pod that is gone: it names
    /// this node twice, as we write it, and no pod or address of this node stands behind it.
    pub(crate) fn is_leftover(&self, entry: &IpEntry) -> bool {
        let ip = entry.prefix.addr();
        let ours = entry.host == Some(IpAddr::from(self.node.ipv4))
            && entry.metadata.starts_with(&self.metadata(""));
        let mut pools = [&self.pool4, &self.pool6].into_iter().flatten();
        let mut own = self.node.routers().chain(self.node.underlay());
        ours && entry.prefix == IpNet::from(ip)
            && !pools.any(|pool| pool.has(ip))
            && !own.any(|own| own == ip)
            && !self.dp.is_local(ip)
    }

    fn metadata(&self, endpoint: impl std::fmt::Display) -> String {
        format!("cilium-global:default:{}:{endpoint}", self.node.name.name)
    }
}
