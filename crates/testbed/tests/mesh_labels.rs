// SPDX-License-Identifier: Apache-2.0
//! Pods that talk under closed policies change their labels, and with them their identities.

mod common;

use std::net::SocketAddr;

use common::{Mesh, SPREAD};
use testbed::client::Stream;
use testbed::manifest::PodManifest;
use testbed::serve::ECHO_PORT;
use testbed::{Family, LabError, eventually};

const PODS: [(&str, &str); 2] = [("cluster5", "client"), ("cluster7", "server")];
/// How often each of the two changes its labels.
const CHANGES: u32 = 4;

/// Nobody reaches the client, who reaches the server only.
const CLIENT_POLICY: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: client
  namespace: default
spec:
  endpointSelector:
    matchLabels: {app: client}
  ingress: [{}]
  egress:
  - toEndpoints:
    - matchLabels: {app: server, io.cilium.k8s.policy.cluster: cluster7}
";
/// The server reaches nobody, and the client only reaches it.
const SERVER_POLICY: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: server
  namespace: default
spec:
  endpointSelector:
    matchLabels: {app: server}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: client, io.cilium.k8s.policy.cluster: cluster5}
  egress: [{}]
";

/// Runs a pod, or gives it other labels if it runs; returns once it has the identity that goes with them.
fn label(mesh: &mut Mesh, (cluster, name): (&str, &str), version: u32) {
    let manifest = PodManifest {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        node: "node1".to_owned(),
        ports: vec![80],
    };
    let version = format!("v{version}");
    let labels = [("app", name), ("version", version.as_str())];
    let cluster = mesh.lab.cluster_mut(cluster);
    cluster.run_pod(&manifest, &labels).expect("runs");
    let wanted = [format!("k8s:app={name}"), format!("k8s:version={version}")];
    eventually("the pod has its labels", SPREAD, || {
        let endpoints = cluster.nodes[0].cli_json(&["endpoint", "list"])?;
        let mut all = endpoints.as_array().into_iter().flatten();
        match all.any(|one| wanted.iter().all(|label| one.to_string().contains(label))) {
            true => Ok(()),
            false => Err(LabError::Unmet(endpoints.to_string())),
        }
    })
    .expect("it does");
}

#[test]
fn labels_of_pods_that_talk_change_without_a_gap() {
    let mut mesh = Mesh::start("labels");
    for (pod, policy) in PODS.into_iter().zip([CLIENT_POLICY, SERVER_POLICY]) {
        label(&mut mesh, pod, 0);
        let cluster = mesh.lab.cluster(pod.0);
        cluster.apply_text("closed.yaml", policy).expect("applied");
    }
    mesh.becomes_refused("cluster5/reports-1", "cluster7/server");
    mesh.becomes_refused("cluster7/backend-1", "cluster5/client");
    mesh.reach("cluster5/client", "cluster7/server", Family::V4);
    for pod in PODS {
        let from = &mesh.lab.pod("cluster5/client").expect("a pod").place;
        let to = mesh.lab.pod("cluster7/server").expect("a pod");
        let echo = |family| SocketAddr::new(to.address(family).expect("an address"), ECHO_PORT);
        let streams =
            Family::BOTH.map(|family| Stream::start(from, echo(family)).expect("a stream"));
        for version in 1..=CHANGES {
            label(&mut mesh, pod, version);
        }
        for (family, stream) in Family::BOTH.into_iter().zip(streams) {
            let loss = stream.finish().expect("counted");
            let seen = format!("{} changes its labels: {family}: {loss}", pod.1);
            println!("{seen}");
            assert_eq!(loss.lost(), 0, "{seen}");
        }
    }
}
