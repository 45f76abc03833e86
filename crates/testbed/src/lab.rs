// SPDX-License-Identifier: Apache-2.0
//! A whole lab: underlay, clusters and their mesh. Dropping it takes it down, unless it is to stay; a
//! panic first prints the tables of every node.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, ClusterSpec};
use crate::error::{LabError, Result};
use crate::ground::Ground;
use crate::layout::Layout;
use crate::node::Node;
use crate::pod::Pod;
use crate::underlay::Underlay;
use crate::volume::Volume;

/// Names under which the product's binary is called.
const NAMES: [&str; 4] = ["isthmus", "cilium", "cilium-dbg", "isthmus-cni"];

/// The programs that a lab runs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The product's binary.
    pub isthmus: PathBuf,
    /// The product with other layouts of its maps, if it is built: [`OTHER_LAYOUT`] in the lab.
    pub other_layout: Option<PathBuf>,
    /// This crate's binary: servers in pods.
    pub lab: PathBuf,
}

/// Name of the product with other layouts in a lab's directory of programs.
pub const OTHER_LAYOUT: &str = "isthmus-other-layout";

impl Programs {
    /// The product from `ISTHMUS_BIN`, else from `target/dist`; `lab` as given.
    ///
    /// # Errors
    /// The product has not been built.
    pub fn find(lab: PathBuf) -> Result<Self> {
        let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dist/isthmus");
        let isthmus = env::var_os("ISTHMUS_BIN").map_or(dist, PathBuf::from);
        let isthmus = fs::canonicalize(&isthmus).map_err(|_| LabError::Missing {
            what: "the product",
            path: isthmus,
            advice: "run `make build`, or set ISTHMUS_BIN",
        })?;
        let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/other-layout/isthmus");
        Ok(Self {
            isthmus,
            other_layout: fs::canonicalize(other).ok(),
            lab,
        })
    }
}

/// Does a lab stay when its value is dropped?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is taken down.
    No,
    /// It stays until `lab down`.
    Yes,
}

/// A lab.
pub struct Lab {
    /// The wire between all hosts.
    pub underlay: Underlay,
    /// The clusters in the order of their creation.
    pub clusters: Vec<Cluster>,
    /// The mounted Secret `cilium-clustermesh`, the same in every cluster.
    pub mesh: Volume,
    ground: Ground,
}

impl Lab {
    /// Makes the underlay of a new lab. A lab of the same name that stayed is taken down first, and so is every
    /// lab whose owner died.
    ///
    /// # Errors
    /// Not root, another process is using a lab of this name, or a part cannot be made (nothing is left then).
    pub fn create(name: &str, programs: &Programs, keep: Keep) -> Result<Self> {
        let mut links: Vec<(&str, &Path)> = vec![("lab", &programs.lab)];
        links.extend(NAMES.map(|name| (name, programs.isthmus.as_path())));
        let other = programs.other_layout.iter();
        links.extend(other.map(|program| (OTHER_LAYOUT, program.as_path())));
        let ground = Ground::create(name, &links, keep)?;
        let built = || {
            let mesh = Volume::create(ground.layout().path().join("clustermesh"))?;
            Ok((ground.underlay()?, mesh))
        };
        let (underlay, mesh) = built().inspect_err(|_| ground.abandon())?;
        Ok(Self {
            underlay,
            clusters: Vec::new(),
            mesh,
            ground,
        })
    }

    /// Adds a cluster with etcd and nodes; no agent runs yet.
    ///
    /// # Errors
    /// A part cannot be made.
    pub fn add_cluster(&mut self, spec: &ClusterSpec) -> Result<&mut Cluster> {
        let cluster = Cluster::create(self.layout(), &self.underlay, spec)?;
        self.clusters.push(cluster);
        self.remember()?;
        Ok(self.clusters.last_mut().expect("pushed above"))
    }

    /// Writes the mesh directory, a file per cluster and its certificates, and points every cluster's
    /// agents (those started from now on) to it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn connect_all(&mut self) -> Result<()> {
        let certificates = self.layout().dir("clustermesh-certificates")?;
        let mut files = Vec::new();
        for cluster in &self.clusters {
            let text = cluster
                .etcd
                .client_configuration(&certificates, &cluster.name)?;
            files.push((cluster.name.clone(), text));
        }
        self.mesh.update(
            files
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str())),
        )?;
        for cluster in &mut self.clusters {
            cluster.settings.mesh_dir = Some(self.mesh.path().to_path_buf());
        }
        Ok(())
    }

    /// Starts all agents of all clusters, then waits until they are ready; returns the longest time. An
    /// agent waits for its remote clusters, so no cluster can be started after another.
    ///
    /// # Errors
    /// One does not get ready.
    pub fn start_agents(&mut self) -> Result<Duration> {
        for Cluster {
            nodes, settings, ..
        } in &mut self.clusters
        {
            for node in nodes {
                node.start_agent(settings)?;
            }
        }
        let started = Instant::now();
        for node in self
            .clusters
            .iter_mut()
            .flat_map(|cluster| &mut cluster.nodes)
        {
            node.wait_ready()?;
        }
        Ok(started.elapsed())
    }

    /// Where the lab's files are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.ground.layout()
    }

    /// A cluster by name.
    ///
    /// # Panics
    /// There is none: the caller made them.
    #[must_use]
    pub fn cluster(&self, name: &str) -> &Cluster {
        self.clusters
            .iter()
            .find(|cluster| cluster.name == name)
            .expect("a cluster of this lab")
    }

    /// A cluster by name.
    ///
    /// # Panics
    /// There is none: the caller made them.
    #[must_use]
    pub fn cluster_mut(&mut self, name: &str) -> &mut Cluster {
        self.clusters
            .iter_mut()
            .find(|cluster| cluster.name == name)
            .expect("a cluster of this lab")
    }

    /// A pod by `cluster/name` or `cluster/namespace/name`.
    ///
    /// # Errors
    /// There is none.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        let (cluster, pod) = name.split_once('/').unwrap_or_default();
        self.cluster(cluster).pod(pod)
    }

    /// All nodes of all clusters.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.clusters.iter().flat_map(|cluster| &cluster.nodes)
    }

    /// Does the kubelets' part in every cluster.
    ///
    /// # Errors
    /// A manifest is wrong, or a pod cannot be made.
    pub fn run_pods(&mut self) -> Result<()> {
        for cluster in &mut self.clusters {
            cluster.run_pods()?;
        }
        self.remember()
    }

    /// Writes down every place that exists now, for `lab enter`.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn remember(&mut self) -> Result<()> {
        let mut places = vec![
            ("world".to_owned(), self.underlay.world.clone()),
            ("router".to_owned(), self.underlay.router.clone()),
        ];
        for cluster in &self.clusters {
            places.push((
                format!("{}/etcd", cluster.name),
                cluster.etcd.place().clone(),
            ));
            places.extend(
                cluster
                    .nodes
                    .iter()
                    .map(|node| (node.full_name(), node.place.clone())),
            );
            places.extend(
                cluster
                    .pods
                    .iter()
                    .map(|pod| (pod.full_name.clone(), pod.place.clone())),
            );
        }
        self.ground.remember(places, Vec::new())
    }

    /// The tables of every node, the ends of the logs, and how to enter: for a failure's report.
    #[must_use]
    pub fn diagnosis(&self) -> String {
        let mut text = String::new();
        let commands: [&[&str]; 5] = [
            &["status", "--all-clusters"],
            &["node", "list"],
            &["endpoint", "list"],
            &["bpf", "ipcache", "list"],
            &["policy", "get"],
        ];
        for node in self.nodes() {
            let name = node.full_name();
            let _infallible = writeln!(
                text,
                "==== {name}: enter with `lab enter --lab {} {name}`",
                self.layout().name()
            );
            for command in commands {
                let _infallible = writeln!(
                    text,
                    "-- cilium {}\n{}",
                    command.join(" "),
                    node.cli_text(command)
                );
            }
            let _infallible = writeln!(
                text,
                "-- {}\n{}",
                node.agent_log().display(),
                node.log_tail(30)
            );
        }
        text
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.diagnosis());
        }
    }
}
