// SPDX-License-Identifier: Apache-2.0
//! A lab of Kubernetes clusters. Dropping it takes it down, unless it is to stay; a panic first prints
//! what every cluster says of itself.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::cluster::{Cluster, ClusterSpec, Network, together};
use super::machine::tail;
use super::programs::{NAMES, Programs};
use super::settings::Proxy;
use crate::error::Result;
use crate::ground::Ground;
use crate::lab::Keep;
use crate::layout::Layout;
use crate::underlay::Underlay;

/// A lab.
pub struct Lab {
    /// The wire between all hosts.
    pub underlay: Underlay,
    /// The clusters, in the order of their specifications.
    pub clusters: Vec<Cluster>,
    ground: Ground,
    programs: Programs,
}

impl Lab {
    /// Makes the underlay of a new lab. A lab of the same name is taken down first, and so is every lab
    /// whose owner died.
    ///
    /// # Errors
    /// Not root, or a part cannot be made (nothing is left then).
    pub fn create(name: &str, programs: &Programs, keep: Keep) -> Result<Self> {
        let mut links: Vec<(&str, &Path)> = vec![("lab", &programs.lab)];
        links.extend(NAMES.map(|name| (name, programs.kubernetes.as_path())));
        links.extend(
            programs
                .isthmus
                .iter()
                .map(|program| ("isthmus", program.as_path())),
        );
        let ground = Ground::create(name, &links, keep)?;
        let underlay = ground.underlay().inspect_err(|_| ground.abandon())?;
        Ok(Self {
            underlay,
            clusters: Vec::new(),
            ground,
            programs: programs.clone(),
        })
    }

    /// Adds clusters, all at once: control planes are ready and nodes registered with images imported. With
    /// a network, nodes are ready and CoreDNS answers as well.
    ///
    /// # Errors
    /// A part cannot be made, or is not ready in time.
    pub fn add_clusters(&mut self, specs: &[ClusterSpec], network: Network) -> Result<()> {
        let (layout, underlay) = (self.ground.layout(), &self.underlay);
        let clusters = together(specs, |spec| {
            Cluster::create(layout, underlay, &self.programs, spec)
        })?;
        let first = self.clusters.len();
        self.clusters.extend(clusters);
        // What follows can fail, and then somebody wants to enter.
        self.remember()?;
        let added = self.clusters[first..].iter().zip(specs);
        together(added, |(cluster, spec)| connect(cluster, spec, network)).map(drop)
    }

    /// A cluster by name.
    ///
    /// # Panics
    /// There is none: the caller made them.
    #[must_use]
    pub fn cluster(&self, name: &str) -> &Cluster {
        let mut clusters = self.clusters.iter();
        clusters
            .find(|cluster| cluster.name == name)
            .expect("a cluster of this lab")
    }

    /// Where the lab's files are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.ground.layout()
    }

    /// Writes down every place that exists now, for `lab enter`; again after a node recovered.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn remember(&mut self) -> Result<()> {
        let mut places = vec![
            ("world".to_owned(), self.underlay.world.clone()),
            ("router".to_owned(), self.underlay.router.clone()),
        ];
        let mut machines = Vec::new();
        for cluster in &self.clusters {
            let plane = cluster.control_plane.place.clone();
            places.push((format!("{}/control-plane", cluster.name), plane));
            let etcd = cluster.etcd.place().clone();
            places.push((format!("{}/etcd", cluster.name), etcd));
            for machine in &cluster.machines {
                places.push((machine.full_name(), machine.place.clone()));
                machines.extend(machine.init().ok().map(|init| (machine.full_name(), init)));
            }
        }
        self.ground.remember(places, machines)
    }

    /// What a failure's report needs: objects, events, the ends of logs, and how to enter.
    #[must_use]
    pub fn diagnosis(&self) -> String {
        let mut text = String::new();
        let name = self.layout().name();
        for cluster in &self.clusters {
            let _infallible = writeln!(text, "==== {}", cluster.name);
            text += &objects(cluster);
            for machine in &cluster.machines {
                let full_name = machine.full_name();
                let _infallible = writeln!(text, "enter with `lab enter --lab {name} {full_name}`");
            }
        }
        for log in logs(self.layout()) {
            let _infallible = writeln!(text, "-- {}", log.display());
            for line in tail(&fs::read_to_string(&log).unwrap_or_default(), 8).lines() {
                let _infallible = writeln!(text, "{}", line.chars().take(300).collect::<String>());
            }
        }
        text
    }
}

/// Waits for the nodes, and gives them what shall connect their pods.
fn connect(cluster: &Cluster, spec: &ClusterSpec, network: Network) -> Result<()> {
    cluster.wait_registered()?;
    match network {
        Network::None => return Ok(()),
        Network::StandIn => cluster.install_stand_in()?,
        Network::Isthmus => {
            let name = format!("cluster.name={}", spec.name);
            let id = format!("cluster.id={}", spec.id);
            // Pods may have hostPorts.
            cluster.install_isthmus(&[&name, &id, "cni.chainingMode=portmap"])?;
            cluster.wait_agents()?;
            cluster.wait_nodes_ready()?;
        }
    }
    match spec.proxy {
        // Pods reach no service, so CoreDNS would not reach the API server.
        Proxy::None => Ok(()),
        Proxy::Nftables | Proxy::Iptables => cluster.install_dns(),
    }
}

/// The logs of all processes, also of clusters that did not come up.
fn logs(layout: &Layout) -> Vec<PathBuf> {
    let list = |dir: PathBuf| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let nodes = list(layout.data()).into_iter().flat_map(list);
    let dirs = nodes.map(|node| node.join("root/var/log"));
    let mut logs: Vec<_> = std::iter::once(layout.path().join("log"))
        .chain(dirs)
        .flat_map(list)
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    logs.sort();
    logs
}

/// What `kubectl` shows of a cluster, with the logs of pods that are not ready.
fn objects(cluster: &Cluster) -> String {
    let mut text = String::new();
    let kubectl = cluster.kubectl();
    let calls: [&[&str]; 4] = [
        &["get", "nodes", "--output", "wide"],
        &["get", "pods", "--all-namespaces", "--output", "wide"],
        &[
            "get",
            "events",
            "--all-namespaces",
            "--sort-by=.lastTimestamp",
        ],
        &[
            "--namespace",
            "kube-system",
            "get",
            "daemonsets,deployments,configmaps,secrets",
        ],
    ];
    for call in calls {
        let answer = match kubectl.finish(call) {
            Ok(done) => format!("{}{}", tail(&done.stdout, 60), done.stderr),
            Err(error) => error.to_string(),
        };
        let _infallible = writeln!(text, "-- kubectl {}\n{answer}", call.join(" "));
    }
    for namespace in ["kube-system", "default"] {
        let pods = kubectl.pods(namespace, "").unwrap_or_default();
        for pod in pods.iter().filter(|pod| !pod.ready) {
            let logs = kubectl.logs(namespace, &pod.name);
            let logs = logs.unwrap_or_else(|error| error.to_string());
            let _infallible = writeln!(
                text,
                "-- log of {namespace}/{}\n{}",
                pod.name,
                tail(&logs, 30)
            );
        }
    }
    text
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.diagnosis());
        }
    }
}
