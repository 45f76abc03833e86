// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes cluster: control plane, nodes, and an etcd of its own for Isthmus.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::addresses::{Addresses, MAX_ID};
use super::control_plane::ControlPlane;
use super::kubectl::Kubectl;
use super::machine::{Machine, Parts};
use super::programs::Programs;
use super::settings::Proxy;
use super::{dns, network};
use crate::error::{Doing, LabError, Result};
use crate::etcd::Etcd;
use crate::layout::Layout;
use crate::underlay::Underlay;
use crate::wait::eventually;

/// How long nodes may take to register and to become ready.
const NODES: Duration = Duration::from_secs(60);

/// Who connects the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Nobody yet: nodes are not ready, and only pods of the host network run.
    None,
    /// A bridge and routes, within one cluster.
    StandIn,
    /// Isthmus, with the values of its chart; see [`Programs::with_isthmus`].
    Isthmus,
}

/// What a cluster shall be.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// Its name.
    pub name: String,
    /// Numbers its addresses: 1 to 99, and no two clusters of a lab have the same.
    pub id: u8,
    /// How many nodes.
    pub nodes: u8,
    /// Who translates services.
    pub proxy: Proxy,
}

impl ClusterSpec {
    /// `cluster<id>` with `nodes` nodes and kube-proxy with nftables.
    #[must_use]
    pub fn numbered(id: u8, nodes: u8) -> Self {
        Self {
            name: format!("cluster{id}"),
            id,
            nodes,
            proxy: Proxy::Nftables,
        }
    }
}

/// A cluster.
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Addresses,
    /// API server and the rest.
    pub control_plane: ControlPlane,
    /// The etcd that Isthmus uses: TLS, client certificates, not the one of Kubernetes.
    pub etcd: Etcd,
    /// Its nodes, node1 first.
    pub machines: Vec<Machine>,
    layout: Layout,
}

impl Cluster {
    /// Starts control plane, etcd and nodes and does not wait for the nodes.
    pub(super) fn create(
        layout: &Layout,
        underlay: &Underlay,
        programs: &Programs,
        spec: &ClusterSpec,
    ) -> Result<Self> {
        if !(1..=MAX_ID).contains(&spec.id) {
            let text = format!("cluster id {}: a lab takes 1 to {MAX_ID}", spec.id);
            return Err(LabError::Unmet(text));
        }
        let addresses = Addresses { id: spec.id };
        let name = &spec.name;
        let mut control_plane = ControlPlane::create(layout, underlay, name, addresses)?;
        let parts = Parts {
            layout,
            underlay,
            programs,
            cluster: name,
            addresses,
            proxy: spec.proxy,
        };
        // containerd imports images while the API server starts.
        let machines = (1..=spec.nodes)
            .map(|number| {
                let credentials = credentials(&control_plane, spec.proxy, number)?;
                let mut machine = Machine::create(&parts, number, &credentials)?;
                machine.boot()?;
                Ok(machine)
            })
            .collect::<Result<_>>()?;
        let etcd = Etcd::create(layout, underlay, name, spec.id)?;
        control_plane.wait_ready()?;
        Ok(Self {
            name: name.clone(),
            addresses,
            control_plane,
            etcd,
            machines,
            layout: layout.clone(),
        })
    }

    /// kubectl as the administrator.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        self.control_plane.kubectl()
    }

    /// Waits until every node has its images and is registered with pod prefixes of both families.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_registered(&self) -> Result<()> {
        for machine in &self.machines {
            machine.wait_for_images()?;
        }
        self.prefixes().map(drop)
    }

    /// The pod prefixes of each node, both families, in the order of the nodes.
    ///
    /// # Errors
    /// Not in time.
    pub fn prefixes(&self) -> Result<Vec<Vec<String>>> {
        let one = |machine: &Machine| {
            let what = format!("{} is registered", machine.full_name());
            eventually(what, NODES, || {
                network::prefixes(&self.node(&machine.name)?)
            })
        };
        self.machines.iter().map(one).collect()
    }

    /// The Node object of a node.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Result<Value> {
        self.control_plane.object(&format!("/api/v1/nodes/{name}"))
    }

    /// Installs the stand-in network and waits until all nodes are ready.
    ///
    /// # Errors
    /// Not in time.
    pub fn install_stand_in(&self) -> Result<()> {
        network::install(&self.control_plane.place, &self.machines, &self.prefixes()?)?;
        self.wait_nodes_ready()
    }

    /// Routes from the control plane to pods, as there are where it runs on a node: the API server connects to pods
    /// when it is asked for their `proxy`.
    ///
    /// # Errors
    /// Nodes are not registered in time.
    pub fn route_control_plane(&self) -> Result<()> {
        network::route(&self.control_plane.place, &self.machines, &self.prefixes()?)
    }

    /// Waits until all nodes are ready.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_nodes_ready(&self) -> Result<()> {
        for machine in &self.machines {
            let what = format!("{} is ready", machine.full_name());
            eventually(what, NODES, || ready(&self.node(&machine.name)?))?;
        }
        Ok(())
    }

    /// Starts CoreDNS and waits until it answers. Needs a network.
    ///
    /// # Errors
    /// Not in time.
    pub fn install_dns(&self) -> Result<()> {
        let kubectl = self.kubectl();
        kubectl.apply(&dns::objects(self.addresses).to_string())?;
        kubectl.rolled_out("kube-system", "deployment/coredns", NODES)
    }

    /// A node by name.
    ///
    /// # Panics
    /// There is none: the caller made them.
    #[must_use]
    pub fn machine(&self, name: &str) -> &Machine {
        let mut machines = self.machines.iter();
        machines
            .find(|machine| machine.name == name)
            .expect("a node of this cluster")
    }

    /// Where the lab's files are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// `/etc/kubernetes` of a node.
fn credentials(
    plane: &ControlPlane,
    proxy: Proxy,
    number: u8,
) -> Result<Vec<(&'static str, String)>> {
    let node = format!("node{number}");
    let authority = plane.authority_file();
    let ca = std::fs::read_to_string(&authority).doing("read", &authority)?;
    let user = format!("system:node:{node}");
    let mut files = vec![
        ("ca.crt", ca),
        (
            "kubelet.conf",
            plane.credentials(&node, &user, Some("system:nodes"))?,
        ),
    ];
    if proxy != Proxy::None {
        let stem = format!("{node}-proxy");
        files.push((
            "kube-proxy.conf",
            plane.credentials(&stem, "system:kube-proxy", None)?,
        ));
    }
    Ok(files)
}

fn ready(node: &Value) -> Result<()> {
    let conditions = node["status"]["conditions"].as_array();
    let condition = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready");
    match condition {
        Some(condition) if condition["status"] == "True" => Ok(()),
        Some(condition) => Err(LabError::Unmet(condition["message"].to_string())),
        None => Err(LabError::Unmet("no condition yet".to_owned())),
    }
}

/// Runs `work` for every item at once and returns the first error.
pub(super) fn together<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .into_iter()
            .map(|item| scope.spawn(move || work(item)))
            .collect();
        let results: Vec<_> = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        results.into_iter().collect()
    })
}
