// SPDX-License-Identifier: Apache-2.0
//! Objects and questions that the tests of Kubernetes labs share.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod change;
pub(crate) mod mistakes;
pub(crate) mod node_state;
pub(crate) mod plugin;
pub(crate) mod process;
pub(crate) mod services;

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::client::{Connection, Loss, Stream};
use testbed::kubernetes::images::TOOLS;
use testbed::kubernetes::isthmus::NAMESPACE;
use testbed::kubernetes::{Cluster, ClusterSpec, Kubectl, Lab, Network, PodStatus, Programs};
use testbed::serve::ECHO_PORT;
use testbed::{Keep, LabError, eventually, underlay};

/// How long what Kubernetes does may take on a busy machine.
pub(crate) const READY: Duration = Duration::from_secs(60);

pub(crate) fn programs() -> Programs {
    Programs::find(env!("CARGO_BIN_EXE_lab").into()).expect("Kubernetes is built")
}

/// How long agents may take to act.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Looks until it is true, for [`SOON`].
pub(crate) fn check(what: &str, mut look: impl FnMut() -> Result<bool, LabError>) {
    eventually(what, SOON, || match look() {
        Ok(true) => Ok(()),
        Ok(false) => Err(LabError::Unmet("not yet".into())),
        Err(error) => Err(error),
    })
    .expect("in time");
}

/// Installs Isthmus in all clusters of a lab, as a mesh from the beginning.
pub(crate) fn together(lab: &Lab) {
    let dir = lab.layout().dir("mesh").expect("made");
    let files = lab.clusters.iter();
    let files = files.flat_map(|cluster| cluster.mesh_files(&dir).expect("written"));
    let files: Vec<_> = files.collect();
    let files: Vec<_> = files.iter().map(|file| file.as_path()).collect();
    for cluster in &lab.clusters {
        cluster
            .kubectl()
            .create_secret(NAMESPACE, "cilium-clustermesh", &files)
            .expect("created");
        let id = cluster.name.trim_start_matches("cluster");
        let values = [
            format!("cluster.name={}", cluster.name),
            format!("cluster.id={id}"),
        ];
        cluster
            .install_isthmus(&values.each_ref().map(String::as_str))
            .expect("installed");
    }
    for cluster in &lab.clusters {
        cluster.wait_agents().expect("agents are ready");
        cluster.wait_nodes_ready().expect("nodes are ready");
    }
}

/// Where pods of [`mesh`] serve HTTP.
pub(crate) const WEB_PORT: u16 = 80;

/// Two clusters that know of each other, with a pod `web` on every node.
pub(crate) fn mesh(test: &str) -> Lab {
    mesh_of(
        test,
        &programs().with_isthmus().expect("the product is built"),
    )
}

/// As [`mesh`], of these programs.
pub(crate) fn mesh_of(test: &str, programs: &Programs) -> Lab {
    let mut lab = Lab::create(&name(test), programs, Keep::No).expect("a lab");
    let specs = [5, 7].map(|id| ClusterSpec::numbered(id, 2));
    lab.add_clusters(&specs, Network::None).expect("clusters");
    together(&lab);
    for cluster in &lab.clusters {
        let kubectl = cluster.kubectl();
        let objects = servers("web", false, WEB_PORT).to_string();
        kubectl.apply(&objects).expect("applied");
        kubectl
            .rolled_out("default", "daemonset/web", READY)
            .expect("pods are ready");
    }
    lab
}

/// The name of a cluster that nobody named.
pub(crate) const OLD_NAME: &str = "default";

/// A lab's name that no other run uses.
pub(crate) fn name(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

/// A pod on every node that answers HTTP with its node's name.
pub(crate) fn servers(name: &str, host_network: bool, port: u16) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "hostNetwork": host_network,
                    "terminationGracePeriodSeconds": 1,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{
                        "name": "server", "image": TOOLS,
                        "args": ["serve", "--name", "$(NODE)", "--port", port.to_string()],
                        "env": [{
                            "name": "NODE",
                            "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}},
                        }],
                        "readinessProbe": {"httpGet": {"path": "/", "port": port}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}

/// A service of both families for the pods called `name`.
pub(crate) fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "selector": {"app": name}, "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"port": 80, "targetPort": port}],
        },
    })
}

/// What `lab serve` says at `url`, asked with curl inside a pod: (server, client's address).
pub(crate) fn ask(kubectl: &Kubectl, pod: &str, url: &str) -> Result<(String, IpAddr), LabError> {
    let command = [
        "curl",
        "--silent",
        "--show-error",
        "--globoff",
        "--max-time",
        "2",
        url,
    ];
    page(url, &kubectl.exec("default", pod, &command)?)
}

/// (server, client's address) of a page of `lab serve`.
fn page(url: &str, text: &str) -> Result<(String, IpAddr), LabError> {
    let wrong = || LabError::Unmet(format!("{url} answered {text:?}"));
    let page: Value = serde_json::from_str(text.trim()).map_err(|_| wrong())?;
    let (server, client) = (page["server"].as_str(), page["client"].as_str());
    let client = client.and_then(|client| client.parse().ok());
    Ok((
        server.ok_or_else(wrong)?.to_owned(),
        client.ok_or_else(wrong)?,
    ))
}

/// The ready pods with the label `app` of a DaemonSet of [`servers`], in the order of their nodes.
pub(crate) fn pods(cluster: &Cluster, app: &str) -> Vec<PodStatus> {
    let pods = cluster.kubectl().pods("default", &format!("app={app}"));
    let mut pods = pods.expect("listed");
    pods.sort_by(|one, other| one.node.cmp(&other.node));
    assert_eq!(pods.len(), cluster.machines.len(), "{pods:?}");
    assert!(pods.iter().all(|pod| pod.addresses.len() == 2), "{pods:?}");
    pods
}

/// `kubectl exec -ti POD -- curl ADDRESS`: who answered, and whom it saw.
pub(crate) fn curl(
    kubectl: &Kubectl,
    pod: &str,
    address: IpAddr,
) -> Result<(String, IpAddr), LabError> {
    let host = url(address, 80);
    let command = ["curl", "--silent", "--show-error", "--max-time", "2", &host];
    let text = kubectl.exec_at_terminal("default", pod, &command)?;
    page(&host, &text)
}

/// Nobody answers at `address`, and nothing says why: packets are dropped.
pub(crate) fn is_refused(kubectl: &Kubectl, pod: &str, address: IpAddr) -> Result<(), LabError> {
    match curl(kubectl, pod, address) {
        Ok((server, _)) => Err(LabError::Unmet(format!("{server} answered"))),
        // 28: no answer in time, in whatever words.
        Err(LabError::Command { output, .. }) if output.contains("(28)") => Ok(()),
        Err(error) => Err(error),
    }
}

/// Open connections and streams of datagrams between the pods `web` of a cluster's nodes, both families.
pub(crate) struct Talk {
    name: String,
    connections: Vec<Connection>,
    streams: Vec<Stream>,
}

impl Talk {
    pub(crate) fn begin(cluster: &Cluster) -> Self {
        let web = pods(cluster, "web");
        Self::between(cluster.name.clone(), cluster, &web[0], &web[1])
    }

    /// From the first node of a cluster to the last of another.
    pub(crate) fn across(cluster: &Cluster, other: &Cluster) -> Self {
        let name = format!("{} to {}", cluster.name, other.name);
        let (from, to) = (pods(cluster, "web"), pods(other, "web"));
        Self::between(name, cluster, &from[0], &to[to.len() - 1])
    }

    fn between(name: String, cluster: &Cluster, from: &PodStatus, to: &PodStatus) -> Self {
        let place = cluster.machine(&from.node).pod(from.addresses[0]);
        let place = place.expect("a pod's network");
        let target = |address: &IpAddr| (*address, ECHO_PORT).into();
        let targets: Vec<_> = to.addresses.iter().map(target).collect();
        let mut connections: Vec<_> = targets
            .iter()
            .map(|target| Connection::open(&place, *target).expect("connected"))
            .collect();
        for connection in &mut connections {
            connection.echo().expect("an echo");
        }
        let streams = targets.iter().map(|target| Stream::start(&place, *target));
        Self {
            name,
            connections,
            streams: streams.collect::<Result<_, _>>().expect("datagrams"),
        }
    }

    /// All connections still live, and no datagram was lost.
    pub(crate) fn end(self, during: &str) {
        let losses = self.count(during);
        assert!(losses.iter().all(|loss| loss.lost() == 0), "{losses:?}");
    }

    /// All connections still live; what was lost of the datagrams.
    pub(crate) fn count(mut self, during: &str) -> Vec<Loss> {
        for connection in &mut self.connections {
            connection.echo().expect("the connection lives");
        }
        let losses: Vec<_> = self
            .streams
            .into_iter()
            .map(|stream| stream.finish().expect("counted"))
            .collect();
        for (family, loss) in ["IPv4", "IPv6"].iter().zip(&losses) {
            println!("figure: {} {during}: {family} {loss}", self.name);
        }
        losses
    }
}

/// As [`ask`], the server alone.
pub(crate) fn answer(kubectl: &Kubectl, pod: &str, url: &str) -> Result<String, LabError> {
    ask(kubectl, pod, url).map(|(server, _)| server)
}

/// `http://address:port/`.
pub(crate) fn url(address: IpAddr, port: u16) -> String {
    underlay::url(address, port)
}
