// SPDX-License-Identifier: Apache-2.0
//! One node of cluster7 with two pods, and an etcd of cluster5 in which the test writes what a remote cluster would.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::Path;
use std::time::Duration;

use testbed::client::curl;
use testbed::process::{Done, finish};
use testbed::underlay::url;
use testbed::{Cluster, ClusterSpec, Family, Keep, Lab, LabError, Node, Programs, eventually};

/// How long the agent may take to say what it has seen.
pub(crate) const SPREAD: Duration = Duration::from_secs(10);
/// How long a program that refuses to start may take to say so.
pub(crate) const START: Duration = Duration::from_secs(15);
/// The cluster under test.
pub(crate) const OWN: &str = "cluster7";
/// The cluster that the test plays.
pub(crate) const REMOTE: &str = "cluster5";

/// The lab.
pub(crate) struct Host {
    pub(crate) lab: Lab,
}

impl Host {
    /// cluster7 with one node; no agent runs yet.
    pub(crate) fn prepare(test: &str, agent_arguments: &[&str]) -> Self {
        let programs =
            Programs::find(env!("CARGO_BIN_EXE_lab").into()).expect("the product is built");
        let name = format!("{test}-{}", std::process::id());
        let mut lab = Lab::create(&name, &programs, Keep::No).expect("a lab");
        let spec = ClusterSpec {
            agent_arguments: agent_arguments
                .iter()
                .map(|&word| word.to_owned())
                .collect(),
            ..ClusterSpec::numbered(7, 1)
        };
        let cluster = lab.add_cluster(&spec).expect("a cluster");
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo/cluster7");
        for file in ["namespace", "frontend-1", "backend-1"] {
            let file = demo.join(file).with_extension("yaml");
            cluster.apply(&file).expect("a manifest");
        }
        Self { lab }
    }

    /// As [`Host::prepare`], then the agent is ready and both pods run.
    pub(crate) fn start(test: &str, agent_arguments: &[&str]) -> Self {
        let mut host = Self::prepare(test, agent_arguments);
        host.lab.start_agents().expect("ready");
        host.lab.run_pods().expect("pods");
        host.assert_traffic();
        host
    }

    /// As [`Host::start`], in a mesh with cluster5.
    pub(crate) fn meshed(test: &str) -> Self {
        let mut host = Self::prepare(test, &[]);
        host.lab
            .add_cluster(&ClusterSpec::numbered(5, 0))
            .expect("an etcd");
        host.publish_remote();
        host.lab.connect_all().expect("connected");
        host.lab.start_agents().expect("ready");
        host.lab.run_pods().expect("pods");
        host.assert_traffic();
        host
    }

    /// cluster5: a node and a pod with an identity.
    fn publish_remote(&self) {
        self.put("cilium/.heartbeat", "2026-01-01T00:00:00Z");
        self.put_config(5);
        self.put(
            "cilium/state/identities/v1/id/328000",
            "k8s:app=far;k8s:io.cilium.k8s.policy.cluster=cluster5;k8s:io.kubernetes.pod.namespace=default;",
        );
        self.put(
            "cilium/state/nodes/v1/cluster5/node1",
            r#"{"Name":"node1","Cluster":"cluster5","IPAddresses":[{"Type":"InternalIP","IP":"172.31.5.1"},{"Type":"CiliumInternalIP","IP":"10.5.1.1"}],"IPv4AllocCIDR":{"IP":"10.5.1.0","Mask":"////AA=="},"ClusterID":5,"Source":"local"}"#,
        );
        self.put(
            "cilium/state/ip/v1/default/10.5.1.9",
            r#"{"IP":"10.5.1.9","Mask":null,"HostIP":"172.31.5.1","ID":328000,"Key":0,"Metadata":"","K8sNamespace":"default","K8sPodName":"far"}"#,
        );
    }

    /// cluster5's cluster-config with this id.
    pub(crate) fn put_config(&self, id: u32) {
        let value = format!(r#"{{"id":{id},"capabilities":{{"syncedCanaries":false}}}}"#);
        self.put("cilium/cluster-config/cluster5", &value);
    }

    /// Writes a key of cluster5.
    pub(crate) fn put(&self, key: &str, value: &str) {
        let etcd = &self.lab.cluster(REMOTE).etcd;
        etcd.etcdctl(&["put", key, value]).expect("written");
    }

    /// cluster7.
    pub(crate) fn cluster(&self) -> &Cluster {
        self.lab.cluster(OWN)
    }

    /// Its node.
    pub(crate) fn node(&self) -> &Node {
        &self.cluster().nodes[0]
    }

    /// The last good state is in force: frontend-1 gets an answer of backend-1 in both families.
    pub(crate) fn assert_traffic(&self) {
        for family in Family::BOTH {
            let from = self.lab.pod("cluster7/frontend-1").expect("a pod");
            let to = self.lab.pod("cluster7/backend-1").expect("a pod");
            let target = url(to.address(family).expect("an address"), 80);
            eventually(format!("{target} answers"), SPREAD, || {
                curl(&from.place, &target, Duration::from_secs(2))
            })
            .expect("traffic goes on");
        }
    }

    /// Another `isthmus agent` on the node with more arguments, which must refuse to run.
    pub(crate) fn refused_agent(&self, more: &[&str]) -> Done {
        let mut arguments = self.node().agent_arguments(&self.cluster().settings);
        for option in more.chunks(2) {
            let place = arguments.iter().position(|word| word == option[0]);
            let value = place.map_or(arguments.len(), |at| at + 1);
            if place.is_none() {
                arguments.push(option[0].to_owned());
                arguments.push(option[1].to_owned());
            } else {
                arguments[value] = option[1].to_owned();
            }
        }
        let mut command = self
            .node()
            .place
            .command(self.node().program("isthmus"))
            .expect("a command");
        command.args(arguments).env("K8S_NODE_NAME", "node1");
        let done = finish(command, &[], START).expect("it ends");
        assert!(!done.success, "it must not start: {}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        done
    }

    /// Output of `cilium …` comes to hold all of `words`.
    pub(crate) fn says(&self, command: &[&str], words: &[&str]) -> String {
        eventually(format!("{command:?} says {words:?}"), SPREAD * 2, || {
            let text = self.node().cli_text(command);
            if words.iter().all(|word| text.contains(word)) {
                Ok(text)
            } else {
                Err(LabError::Unmet(text))
            }
        })
        .expect("it says so")
    }

    /// The agent comes to call itself well.
    pub(crate) fn becomes_well(&self) {
        eventually("the agent is well", SPREAD, || self.node().health()).expect("well");
    }

    /// What the agent says about itself: state and message of `/healthz`.
    pub(crate) fn becomes_warning(&self, words: &str) {
        eventually(format!("a warning about {words}"), SPREAD, || {
            match self.node().health() {
                Err(error)
                    if error.to_string().contains("Warning")
                        && error.to_string().contains(words) =>
                {
                    Ok(())
                }
                Err(error) => Err(error),
                Ok(()) => Err(LabError::Unmet("it says that it is well".into())),
            }
        })
        .expect("a warning");
    }

    /// The agent that was started is still the one that runs.
    pub(crate) fn assert_alive(&self) {
        let pid = self.node().agent_pid().expect("an agent");
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "it ended");
        let log = self.node().log_tail(10_000);
        assert!(!log.contains("panicked"), "{log}");
    }
}
