// SPDX-License-Identifier: Apache-2.0
//! A node: network namespace, bpffs, run and state directories, and the agent under test.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use serde_json::Value;

use crate::client::get_unix;
use crate::error::{Doing, LabError, Result};
use crate::layout::{AGENT_RUN, Layout};
use crate::monitor::Monitor;
use crate::namespace::Place;
use crate::process::{Daemon, finish, output};
use crate::underlay::{Underlay, address_v4, address_v6};
use crate::wait::eventually;

/// How long an agent may take until it is ready.
const READY: Duration = Duration::from_secs(30);
/// How long a CLI call may take.
const CLI: Duration = Duration::from_secs(10);

/// What all agents of a cluster are told.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// The mounted ConfigMap: `cluster-name`, `cluster-id`.
    pub config_dir: PathBuf,
    /// The mounted Secret with a file per remote cluster, if the cluster is in a mesh.
    pub mesh_dir: Option<PathBuf>,
    /// Client configuration of the cluster's own etcd.
    pub etcd_config: PathBuf,
    /// Kubernetes manifests of the cluster.
    pub manifests: PathBuf,
    /// More arguments, after all others.
    pub extra: Vec<String>,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its cluster.
    pub cluster: String,
    /// Its name in the cluster.
    pub name: String,
    /// Its network namespace and mounts.
    pub place: Place,
    /// Its port of the underlay's bridge.
    pub port: String,
    /// Underlay address.
    pub ipv4: Ipv4Addr,
    /// Underlay address.
    pub ipv6: Ipv6Addr,
    /// Addresses of its pods.
    pub pods_v4: String,
    /// Addresses of its pods.
    pub pods_v6: String,
    /// The name of the program that is its agent, in the lab's directory of programs.
    pub agent_program: &'static str,
    layout: Layout,
    dir: PathBuf,
    agent: Option<Daemon>,
}

impl Node {
    /// Makes the node `number` of the cluster `id`, without an agent.
    ///
    /// # Errors
    /// A namespace, device or mount cannot be made.
    pub fn create(
        layout: &Layout,
        underlay: &Underlay,
        cluster: &str,
        id: u8,
        number: u8,
    ) -> Result<Self> {
        let name = format!("node{number}");
        let full_name = format!("{cluster}/{name}");
        let port = format!("c{id}n{number}");
        let mut place = underlay.host(&full_name, &port, id, number)?;
        // What every installation guide asks of a node.
        place.sysctl("net/ipv4/ip_forward", "1")?;
        place.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let dir = layout.dir(&full_name)?;
        let run = layout.dir(format!("{full_name}/run"))?;
        layout.dir(format!("{full_name}/state"))?;
        // Mounted from outside: it must survive every process of the node.
        let bpf = layout.dir(format!("{full_name}/bpf"))?;
        mount(
            Some("bpffs"),
            &bpf,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .doing("mount a bpffs at", &bpf)?;
        place.binds.push((run, AGENT_RUN.into()));
        Ok(Self {
            cluster: cluster.to_owned(),
            name,
            place,
            port,
            ipv4: address_v4(id, number),
            ipv6: address_v6(id, number),
            pods_v4: format!("10.{id}.{number}.0/24"),
            pods_v6: format!("fd00:{id}:{number}::/112"),
            agent_program: "isthmus",
            layout: layout.clone(),
            dir,
            agent: None,
        })
    }

    /// `cluster/node`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.cluster, self.name)
    }

    /// One of the product's names in the lab's directory of programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.layout.path().join("bin").join(name)
    }

    /// The file that takes the agent's output.
    #[must_use]
    pub fn agent_log(&self) -> PathBuf {
        self.layout.log(&self.full_name())
    }

    /// The node's own directory: `run`, `state`, `bpf`.
    #[must_use]
    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Starts the agent, and does not wait for it.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start_agent(&mut self, settings: &AgentSettings) -> Result<()> {
        if self.agent.is_some() {
            return Err(LabError::Unmet(format!(
                "the agent of {} runs already",
                self.full_name()
            )));
        }
        let mut command = self.place.command(self.program(self.agent_program))?;
        command
            .args(self.agent_arguments(settings))
            .env("K8S_NODE_NAME", &self.name);
        self.agent = Some(Daemon::start(
            command,
            &self.agent_log(),
            &self.layout.process(&self.full_name()),
        )?);
        Ok(())
    }

    /// The command line of this node's agent, from `agent` on.
    #[must_use]
    pub fn agent_arguments(&self, settings: &AgentSettings) -> Vec<String> {
        let path = |path: &PathBuf| path.display().to_string();
        let mut arguments = vec!["agent".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        option("config-dir", path(&settings.config_dir));
        option("kvstore", "etcd".to_owned());
        option(
            "kvstore-opt",
            format!("etcd.config={}", path(&settings.etcd_config)),
        );
        if let Some(mesh) = &settings.mesh_dir {
            option("clustermesh-config", path(mesh));
        }
        option("manifests", path(&settings.manifests));
        option("ipv4-range", self.pods_v4.clone());
        option("ipv6-range", self.pods_v6.clone());
        option("devices", "eth0".to_owned());
        option("state-dir", path(&self.dir.join("state")));
        option("socket-path", format!("{AGENT_RUN}/cilium.sock"));
        option("bpf-root", path(&self.dir.join("bpf")));
        arguments.extend(settings.extra.iter().cloned());
        arguments
    }

    /// Waits until `/healthz` says Ok; returns how long that took.
    ///
    /// # Errors
    /// The agent ended, or is not ready in time.
    pub fn wait_ready(&mut self) -> Result<Duration> {
        let started = Instant::now();
        let what = format!(
            "the agent of {} is ready (log: {})",
            self.full_name(),
            self.agent_log().display()
        );
        loop {
            let status = self.agent.as_mut().and_then(Daemon::exit_status);
            if let Some(status) = status {
                self.agent = None;
                return Err(LabError::Unmet(format!(
                    "{what}: it ended with {status}: {}",
                    self.log_tail(3)
                )));
            }
            match eventually(what.clone(), Duration::ZERO, || self.health()) {
                Ok(()) => return Ok(started.elapsed()),
                Err(error) if started.elapsed() > READY => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// `Ok` if the agent says that it is well.
    ///
    /// # Errors
    /// What it says instead.
    pub fn health(&self) -> Result<()> {
        let (status, body) = get_unix(
            &self.place,
            &self.dir.join("run/cilium.sock"),
            "/v1/healthz",
        )?;
        let health: Value = serde_json::from_str(&body).unwrap_or_default();
        match health["cilium"]["state"].as_str() {
            Some("Ok") => Ok(()),
            Some(state) => Err(LabError::Unmet(format!(
                "{state}: {}",
                health["cilium"]["msg"]
            ))),
            None => Err(LabError::Unmet(format!(
                "healthz {status}: {}",
                body.trim()
            ))),
        }
    }

    /// `kill -9` of the agent.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// SIGTERM; returns true if the agent ended by itself within 5 s.
    pub fn stop_agent(&mut self) -> bool {
        self.agent
            .take()
            .is_some_and(|mut agent| agent.stop(Duration::from_secs(5)))
    }

    /// The agent's process id while it runs.
    #[must_use]
    pub fn agent_pid(&self) -> Option<i32> {
        self.agent.as_ref().map(Daemon::pid)
    }

    /// Runs `cilium …` on the node.
    ///
    /// # Errors
    /// Its words, if its status is not 0.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let mut command = self.place.command(self.program("cilium"))?;
        command.args(args);
        output(command, CLI)
    }

    /// As [`Node::cli`], with `-o json` added and the answer parsed.
    ///
    /// # Errors
    /// As there, or no JSON.
    pub fn cli_json(&self, args: &[&str]) -> Result<Value> {
        let text = self.cli(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text)
            .map_err(|error| LabError::Unmet(format!("{args:?} printed {text:?}: {error}")))
    }

    /// Runs `cilium …` whatever its status; for diagnosis.
    #[must_use]
    pub fn cli_text(&self, args: &[&str]) -> String {
        let done = self
            .place
            .command(self.program("cilium"))
            .and_then(|mut command| {
                command.args(args);
                finish(command, &[], CLI)
            });
        match done {
            Ok(done) => format!("{}{}", done.stdout, done.stderr),
            Err(error) => error.to_string(),
        }
    }

    /// The last lines of the agent's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read_to_string(self.agent_log()).unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Lines of the agent's log at level ERROR.
    #[must_use]
    pub fn log_errors(&self) -> Vec<String> {
        let text = fs::read_to_string(self.agent_log()).unwrap_or_default();
        text.lines()
            .filter(|line| line.contains(" ERROR "))
            .map(str::to_owned)
            .collect()
    }

    /// Starts to collect the node's drop events.
    ///
    /// # Errors
    /// The monitor cannot be started.
    pub fn monitor(&self) -> Result<Monitor> {
        let mut command = self.place.command(self.program("cilium"))?;
        command.args(["monitor", "-j", "--type", "drop"]);
        Monitor::start(command, &self.full_name())
    }
}
