// SPDX-License-Identifier: Apache-2.0
//! A pod: a network namespace, wired by the real CNI plugin, with a real server in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Http;
use crate::error::{LabError, Result};
use crate::layout::Layout;
use crate::manifest::PodManifest;
use crate::namespace::Place;
use crate::node::Node;
use crate::process::{Daemon, finish};

/// The runtime's limit for one CNI call.
const CNI_LIMIT: Duration = Duration::from_secs(30);

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    /// `cluster/namespace/name`.
    pub full_name: String,
    /// What it was made from.
    pub manifest: PodManifest,
    /// Its network namespace.
    pub place: Place,
    /// From the CNI result.
    pub ipv4: Option<Ipv4Addr>,
    /// From the CNI result.
    pub ipv6: Option<Ipv6Addr>,
    /// How long CNI ADD took.
    pub added_in: Duration,
    container: String,
    result: Value,
    server: Option<Daemon>,
}

#[derive(Deserialize)]
struct CniResult {
    ips: Vec<CniIp>,
}

#[derive(Deserialize)]
struct CniIp {
    address: String,
}

impl Pod {
    /// Makes the namespace, calls the plugin and starts the server.
    ///
    /// # Errors
    /// The plugin refuses (nothing is left then), or a process cannot be started.
    pub fn create(layout: &Layout, node: &Node, manifest: PodManifest) -> Result<Self> {
        let full_name = format!("{}/{}/{}", node.cluster, manifest.namespace, manifest.name);
        let place = Place::create(&layout.netns(&format!("pod/{full_name}")))?;
        // Long, as a container runtime's, and the same for the same pod.
        let container = full_name
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        let (ipv4, ipv6, result) = (None, None, Value::Null);
        let mut pod = Self {
            full_name,
            manifest,
            place,
            ipv4,
            ipv6,
            added_in: Duration::ZERO,
            container,
            result,
            server: None,
        };
        if let Err(error) = pod.add(node) {
            // What it leaves would stand in the way of another try; the error is what the caller is to know.
            let _ = pod.place.remove();
            return Err(error);
        }
        pod.serve(layout)?;
        Ok(pod)
    }

    /// `namespace/name`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.manifest.namespace, self.manifest.name)
    }

    /// The address of a family.
    ///
    /// # Errors
    /// The CNI result had none.
    pub fn address(&self, family: Family) -> Result<IpAddr> {
        let address = match family {
            Family::V4 => self.ipv4.map(IpAddr::V4),
            Family::V6 => self.ipv6.map(IpAddr::V6),
        };
        address.ok_or_else(|| {
            LabError::Unmet(format!("pod {} has no {family:?} address", self.full_name))
        })
    }

    /// Fetches `url` with curl from inside the pod.
    ///
    /// # Errors
    /// curl's words.
    pub fn curl(&self, url: &str) -> Result<Http> {
        crate::client::curl(&self.place, url, Duration::from_secs(3))
    }

    /// CNI ADD: addresses are taken from the result.
    ///
    /// # Errors
    /// The plugin's own words.
    pub fn add(&mut self, node: &Node) -> Result<()> {
        let started = Instant::now();
        self.result = self.cni(node, "ADD")?;
        self.added_in = started.elapsed();
        let wrong = |reason: String| LabError::Cni {
            verb: "ADD",
            pod: self.full_name.clone(),
            reason,
        };
        let result: CniResult = serde_json::from_value(self.result.clone())
            .map_err(|error| wrong(format!("{error}: {}", self.result)))?;
        let (mut ipv4, mut ipv6) = (None, None);
        for ip in result.ips {
            let text = ip.address.split('/').next().unwrap_or_default();
            match text
                .parse()
                .map_err(|error| wrong(format!("address {:?}: {error}", ip.address)))?
            {
                IpAddr::V4(address) => ipv4 = Some(address),
                IpAddr::V6(address) => ipv6 = Some(address),
            }
        }
        (self.ipv4, self.ipv6) = (ipv4, ipv6);
        Ok(())
    }

    /// CNI CHECK.
    ///
    /// # Errors
    /// The plugin's own words.
    pub fn check(&self, node: &Node) -> Result<()> {
        self.cni(node, "CHECK").map(drop)
    }

    /// CNI DEL, then the server and the namespace go.
    ///
    /// # Errors
    /// The plugin's own words.
    pub fn delete(mut self, node: &Node) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
        self.cni(node, "DEL")?;
        self.place.remove()
    }

    fn serve(&mut self, layout: &Layout) -> Result<()> {
        if self.manifest.ports.is_empty() {
            return Ok(());
        }
        let mut command = self.place.command(layout.path().join("bin/lab"))?;
        command.args(["serve", "--name", &self.full_name]);
        for port in &self.manifest.ports {
            command.args(["--port", &port.to_string()]);
        }
        let name = format!("pod/{}", self.full_name);
        self.server = Some(Daemon::start(
            command,
            &layout.log(&name),
            &layout.process(&name),
        )?);
        Ok(())
    }

    fn cni(&self, node: &Node, verb: &'static str) -> Result<Value> {
        let mut config = json!({"cniVersion": "1.1.0", "name": "isthmus", "type": "isthmus-cni"});
        if verb != "ADD" {
            config["prevResult"] = self.result.clone();
        }
        let mut command = node.place.command(node.program("isthmus-cni"))?;
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.container)
            .env("CNI_NETNS", &self.place.netns)
            .env("CNI_IFNAME", "eth0")
            .env(
                "CNI_PATH",
                node.program("isthmus-cni")
                    .parent()
                    .expect("a file has a directory"),
            )
            .env("CNI_ARGS", self.arguments());
        let done = finish(command, config.to_string().as_bytes(), CNI_LIMIT)?;
        let failed = |reason| LabError::Cni {
            verb,
            pod: self.full_name.clone(),
            reason,
        };
        if !done.success {
            let text = format!("{} {}", done.stdout.trim(), done.stderr.trim());
            return Err(failed(format!("{}: {}", done.status, text.trim())));
        }
        if done.stdout.trim().is_empty() && verb != "ADD" {
            return Ok(Value::Null);
        }
        serde_json::from_str(&done.stdout)
            .map_err(|error| failed(format!("{error} in {:?}", done.stdout)))
    }

    fn arguments(&self) -> String {
        let PodManifest {
            namespace, name, ..
        } = &self.manifest;
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={}",
            self.container
        )
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
