// SPDX-License-Identifier: Apache-2.0
//! A host namespace, a pod namespace, and a pretended agent on a socket between them.
#![allow(dead_code, reason = "each test binary uses a part")]

mod agent;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use api::models::EndpointChangeRequest;
use cni::{Invocation, Output, host_device};
use netlink::{NetNs, Socket};

/// How the pretended agent behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// No address is free.
    Exhausted,
    /// The endpoint cannot be made, but exists half.
    RefusesEndpoint,
    /// The answer to the endpoint names an address that is none.
    BadMac,
    /// The configuration has an MTU that cannot be.
    BadMtu,
    /// 503 to every change of endpoints.
    NotReady,
    /// Answers, but is never done with a deletion.
    Slow,
}

/// What the pretended agent knows.
pub(crate) struct State {
    pub(crate) mood: Mood,
    pub(crate) health: String,
    /// By `container:interface`.
    pub(crate) endpoints: BTreeMap<String, EndpointChangeRequest>,
    pub(crate) addresses: Vec<String>,
    pub(crate) owners: Vec<String>,
}

pub(crate) struct Lab {
    directory: tempfile::TempDir,
    pub(crate) host: NetNs,
    pub(crate) pod: NetNs,
    pub(crate) agent: Arc<Mutex<State>>,
    server: Mutex<Option<agent::Server>>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host_path = directory.path().join("host");
        let host = NetNs::create(&host_path).unwrap();
        NetNs::delete(&host_path).unwrap();
        let pod = NetNs::create(directory.path().join("pod")).unwrap();
        let state = State {
            mood: Mood::Good,
            health: "OK".into(),
            endpoints: BTreeMap::new(),
            addresses: Vec::new(),
            owners: Vec::new(),
        };
        let lab = Self {
            directory,
            host,
            pod,
            agent: Arc::new(Mutex::new(state)),
            server: Mutex::new(None),
        };
        lab.start_agent();
        lab
    }

    pub(crate) fn start_agent(&self) {
        let server = agent::Server::start(self.socket(), self.agent.clone());
        *self.server.lock().unwrap() = Some(server);
    }

    pub(crate) fn stop_agent(&self) {
        drop(self.server.lock().unwrap().take());
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    fn socket(&self) -> PathBuf {
        self.run_dir().join("agent.sock")
    }

    pub(crate) fn run(&self, command: &str) -> Output {
        self.run_with(command, "")
    }

    /// Runs the plugin in the host namespace, with more keys in its configuration.
    pub(crate) fn run_with(&self, command: &str, more: &str) -> Output {
        let invocation = self.invocation(command, more);
        self.host.run(|| cni::run(&invocation)).unwrap()
    }

    /// Runs the plugin for another container in the same namespace.
    pub(crate) fn run_as(&self, container: &str, command: &str) -> Output {
        let mut invocation = self.invocation(command, "");
        invocation.container = Some(container.into());
        self.host.run(|| cni::run(&invocation)).unwrap()
    }

    /// Runs the plugin with the path of a namespace that does not exist.
    pub(crate) fn without_namespace(&self, command: &str) -> Output {
        let mut invocation = self.invocation(command, "");
        invocation.netns = Some("/nonexistent/netns".into());
        self.host.run(|| cni::run(&invocation)).unwrap()
    }

    fn invocation(&self, command: &str, more: &str) -> Invocation {
        let log = self.run_dir().join("cni.log");
        let stdin = format!(
            r#"{{"cniVersion":"1.1.0","name":"cilium","type":"cilium-cni","enable-debug":true,"log-file":"{}"{more}}}"#,
            log.display()
        );
        Invocation {
            command: Some(command.into()),
            container: Some("c1".into()),
            netns: Some(self.pod.path().display().to_string()),
            interface: Some("eth0".into()),
            args: Some("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0".into()),
            socket: Some(self.socket().display().to_string()),
            stdin: stdin.into(),
        }
    }

    /// Nothing of a pod is left, here or at the agent.
    pub(crate) fn assert_empty(&self) {
        self.assert_no_devices();
        let agent = self.agent.lock().unwrap();
        assert!(agent.endpoints.is_empty(), "{:?}", agent.endpoints);
        assert!(agent.addresses.is_empty(), "{:?}", agent.addresses);
    }

    pub(crate) fn assert_no_devices(&self) {
        let host = Socket::open_in(&self.host).unwrap();
        assert_eq!(host.link(&host_device("c1", "eth0")).unwrap(), None);
        assert_eq!(
            Socket::open_in(&self.pod).unwrap().link("eth0").unwrap(),
            None
        );
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop_agent();
        // A namespace that stays mounted would keep the directory from going.
        let _ = NetNs::delete(self.pod.path());
    }
}
