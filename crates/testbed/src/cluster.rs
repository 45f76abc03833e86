// SPDX-License-Identifier: Apache-2.0
//! A cluster: its etcd, its nodes, its directory of manifests and its pods.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Doing, LabError, Result};
use crate::etcd::Etcd;
use crate::layout::Layout;
use crate::manifest::{PodManifest, pods};
use crate::node::{AgentSettings, Node};
use crate::pod::Pod;
use crate::underlay::Underlay;
use crate::volume::Volume;

/// What a cluster shall be.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// Its name.
    pub name: String,
    /// Its id, which also numbers its addresses.
    pub id: u8,
    /// How many nodes.
    pub nodes: u8,
    /// More arguments for its agents.
    pub agent_arguments: Vec<String>,
}

impl ClusterSpec {
    /// `cluster<id>` with `nodes` nodes.
    #[must_use]
    pub fn numbered(id: u8, nodes: u8) -> Self {
        Self {
            name: format!("cluster{id}"),
            id,
            nodes,
            agent_arguments: Vec::new(),
        }
    }
}

/// A cluster that is up.
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its etcd.
    pub etcd: Etcd,
    /// Its nodes, node1 first.
    pub nodes: Vec<Node>,
    /// Its pods, in the order of their creation.
    pub pods: Vec<Pod>,
    /// What its agents are told.
    pub settings: AgentSettings,
    layout: Layout,
}

impl Cluster {
    /// Makes etcd, nodes and configuration; starts no agent.
    ///
    /// # Errors
    /// A part cannot be made.
    pub fn create(layout: &Layout, underlay: &Underlay, spec: &ClusterSpec) -> Result<Self> {
        let name = spec.name.clone();
        let dir = layout.dir(&name)?;
        let etcd = Etcd::create(layout, underlay, &name, spec.id)?;
        let own = layout.dir(format!("{name}/etcd-client"))?;
        let etcd_config = own.join("etcd.config");
        fs::write(&etcd_config, etcd.client_configuration(&own, "agent")?)
            .doing("write", &etcd_config)?;
        let config = Volume::create(dir.join("cilium-config"))?;
        config.update([
            ("cluster-name", name.as_str()),
            ("cluster-id", spec.id.to_string().as_str()),
        ])?;
        let node = |number| Node::create(layout, underlay, &name, spec.id, number);
        let nodes = (1..=spec.nodes).map(node).collect::<Result<_>>()?;
        let settings = AgentSettings {
            config_dir: config.path().to_path_buf(),
            mesh_dir: None,
            etcd_config,
            manifests: layout.dir(format!("{name}/manifests"))?,
            extra: spec.agent_arguments.clone(),
        };
        Ok(Self {
            name,
            etcd,
            nodes,
            pods: Vec::new(),
            settings,
            layout: layout.clone(),
        })
    }

    /// Starts the agent of node `number` (1 is the first) and waits until it is ready.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn start_agent(&mut self, number: usize) -> Result<Duration> {
        let node = &mut self.nodes[number - 1];
        node.start_agent(&self.settings)?;
        node.wait_ready()
    }

    /// Copies the manifests of a directory, or one file, into the cluster's directory.
    ///
    /// # Errors
    /// One cannot be copied.
    pub fn apply(&self, from: &Path) -> Result<()> {
        let files: Vec<PathBuf> = if from.is_dir() {
            fs::read_dir(from)
                .doing("list", from)?
                .flatten()
                .map(|entry| entry.path())
                .collect()
        } else {
            vec![from.to_path_buf()]
        };
        for file in files {
            let name = file
                .file_name()
                .expect("a listed file has a name")
                .to_string_lossy();
            let text = fs::read_to_string(&file).doing("read", &file)?;
            self.apply_text(&name, &text)?;
        }
        Ok(())
    }

    /// Puts a manifest into the cluster's directory, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn apply_text(&self, name: &str, text: &str) -> Result<()> {
        let new = self.settings.manifests.join(format!(".{name}.new"));
        fs::write(&new, text).doing("write", &new)?;
        let target = self.settings.manifests.join(name);
        fs::rename(&new, &target).doing("replace", &target)
    }

    /// Takes a manifest out of the cluster's directory.
    ///
    /// # Errors
    /// It is not there.
    pub fn withdraw(&self, name: &str) -> Result<()> {
        let path = self.settings.manifests.join(name);
        fs::remove_file(&path).doing("remove", &path)
    }

    /// Does what the kubelets would: runs every pod of the manifests that does not run yet.
    ///
    /// # Errors
    /// A manifest is wrong, or a pod cannot be made.
    pub fn run_pods(&mut self) -> Result<()> {
        for manifest in pods(&self.settings.manifests)? {
            if self.pods.iter().any(|pod| pod.manifest == manifest) {
                continue;
            }
            let pod = Pod::create(&self.layout, self.node(&manifest.node)?, manifest)?;
            self.pods.push(pod);
        }
        Ok(())
    }

    /// Runs one pod that no manifest file holds yet: writes the file, then does the kubelet's part.
    ///
    /// # Errors
    /// As [`Cluster::run_pods`].
    pub fn run_pod(&mut self, manifest: &PodManifest, labels: &[(&str, &str)]) -> Result<()> {
        let PodManifest {
            namespace,
            name,
            node,
            ports,
        } = manifest;
        let labels: String = labels
            .iter()
            .map(|(key, value)| format!("    {key}: {value}\n"))
            .collect();
        let ports: String = ports
            .iter()
            .map(|port| format!("    - containerPort: {port}\n"))
            .collect();
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels:\n{labels}\
             spec:\n  nodeName: {node}\n  containers:\n  - name: main\n    image: lab\n    ports:\n{ports}"
        );
        self.apply_text(&format!("pod-{namespace}-{name}.yaml"), &text)?;
        self.run_pods()
    }

    /// A node by its name in the cluster.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .ok_or_else(|| LabError::Unknown {
                kind: "node",
                name: name.to_owned(),
                known: self
                    .nodes
                    .iter()
                    .map(Node::full_name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// A pod by `namespace/name`, or by its name in the namespace `default`.
    ///
    /// # Errors
    /// There is none.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        let full = if name.contains('/') {
            name.to_owned()
        } else {
            format!("default/{name}")
        };
        self.pods
            .iter()
            .find(|pod| pod.name() == full)
            .ok_or_else(|| LabError::Unknown {
                kind: "pod",
                name: full,
                known: self
                    .pods
                    .iter()
                    .map(Pod::name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}
