// SPDX-License-Identifier: Apache-2.0
//! Isthmus in a cluster, as a person installs it: the objects that `isthmus install` prints, the Secret of
//! the cluster's own etcd, and files for the Secret of the mesh.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::cluster::Cluster;
use super::kubectl::PodStatus;
use crate::error::{Doing, Result};
use crate::pki::Role;
use crate::process::{PATIENCE, output};

/// Where everything of the network is.
pub const NAMESPACE: &str = "kube-system";
/// The agents' label.
pub const AGENTS: &str = "k8s-app=cilium";
/// The mounted Secret of the mesh, inside agents.
pub const MESH_DIR: &str = "/var/lib/cilium/clustermesh";
/// The Secret with the certificates of the cluster's own etcd.
const ETCD_SECRET: &str = "cilium-etcd-secrets";
const ROLLOUT: Duration = Duration::from_secs(120);

impl Cluster {
    /// Installs Isthmus with `values` of its chart (`name=value`) beside those that the lab's addresses
    /// make necessary. Does not wait.
    ///
    /// # Errors
    /// The lab has no Isthmus, or the API server refuses an object.
    pub fn install_isthmus(&self, values: &[&str]) -> Result<()> {
        let kubectl = self.kubectl();
        let dir = self.layout().dir(format!("{}/etcd-client", self.name))?;
        let files = self
            .etcd
            .authority()
            .issue(&dir, "etcd-client", Role::Client)?;
        kubectl.create_secret(
            NAMESPACE,
            ETCD_SECRET,
            &[&files.ca, &files.cert, &files.key],
        )?;
        let mut install = Command::new(self.layout().path().join("bin/isthmus"));
        install.arg("install");
        let [address, _] = self.addresses.control_plane();
        let own = [
            format!("etcd.endpoints={{{}}}", self.etcd.endpoint()),
            "ipv6.enabled=true".to_owned(),
            // The API server's service needs kube-proxy, which may start after the agent.
            format!("k8sServiceHost={address}"),
            "k8sServicePort=6443".to_owned(),
        ];
        for value in own.iter().map(String::as_str).chain(values.iter().copied()) {
            install.args(["--set", value]);
        }
        kubectl.apply(&output(install, PATIENCE)?).map(drop)
    }

    /// Waits until every node has a ready agent.
    ///
    /// # Errors
    /// Not within 120 s.
    pub fn wait_agents(&self) -> Result<()> {
        self.kubectl()
            .rolled_out(NAMESPACE, "daemonset/cilium", ROLLOUT)
    }

    /// The agents' pods.
    ///
    /// # Errors
    /// The API server does not answer.
    pub fn agents(&self) -> Result<Vec<PodStatus>> {
        self.kubectl().pods(NAMESPACE, AGENTS)
    }

    /// Deletes the agents' pods by their label, as the page says, and waits until others are ready.
    ///
    /// # Errors
    /// Not within 120 s.
    pub fn restart_agents(&self) -> Result<()> {
        let delete = [
            "--namespace",
            NAMESPACE,
            "delete",
            "pods",
            "--selector",
            AGENTS,
        ];
        self.kubectl().run(&delete)?;
        self.wait_agents()
    }

    /// Writes what others need to reach this cluster's etcd into `dir`: the configuration file `<name>` and
    /// the certificates that it names, which lie beside it when the mesh's Secret is mounted. Returns the
    /// files, the configuration first.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn mesh_files(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        let text = self.etcd.client_configuration(dir, &self.name)?;
        let text = text.replace(&dir.display().to_string(), MESH_DIR);
        let config = dir.join(&self.name);
        fs::write(&config, text).doing("write", &config)?;
        let certificates = ["-ca.crt", ".crt", ".key"];
        let named = certificates.map(|end| dir.join(format!("{}{end}", self.name)));
        Ok(std::iter::once(config).chain(named).collect())
    }
}
