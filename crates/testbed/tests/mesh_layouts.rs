// SPDX-License-Identifier: Apache-2.0
//! An agent is followed by one whose conntrack and policy maps have other layouts, and that by the first again, while
//! connections and datagrams are under way and policy is in force.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use common::{Mesh, SPREAD};
use testbed::client::{Connection, Stream};
use testbed::serve::ECHO_PORT;
use testbed::{Family, OTHER_LAYOUT, eventually};

/// TCP connections per pair of pods.
const CONNECTIONS: usize = 25;
/// Streams of 200 datagrams a second per pair of pods and family.
const STREAMS: usize = 3;
/// (client, server): between clusters, between nodes, and on one node.
const PAIRS: [(&str, &str); 4] = [
    ("cluster5/frontend-1", "cluster7/backend-1"),
    ("cluster7/backend-1", "cluster5/reports-2"),
    ("cluster7/frontend-2", "cluster7/backend-1"),
    ("cluster7/backend-1", "cluster7/frontend-1"),
];
/// A service of cluster7 whose only backend is `cluster7/backend-2`.
const SERVICE: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::new(10, 97, 0, 7)), 7000);
/// Backends answer frontends of both clusters, and nobody else.
const POLICY: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: backend, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: backend}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: frontend, io.cilium.k8s.policy.cluster: cluster5}
    - matchLabels: {app: frontend, io.cilium.k8s.policy.cluster: cluster7}
";

#[test]
fn layouts_change_and_change_back_without_loss() {
    let mut mesh = Mesh::start("layouts");
    for (from, to) in PAIRS {
        for family in Family::BOTH {
            mesh.reach(from, to, family);
        }
    }
    serve(&mesh);
    mesh.lab
        .cluster("cluster7")
        .apply_text("policy.yaml", POLICY)
        .expect("applied");
    let refused = ("cluster5/reports-1", "cluster7/backend-2");
    mesh.becomes_refused(refused.0, refused.1);

    let place = |pod: &str| mesh.lab.pod(pod).expect("a pod").place.clone();
    let echo = |pod: &str, family| {
        let address = mesh.lab.pod(pod).expect("a pod").address(family);
        SocketAddr::new(address.expect("an address"), ECHO_PORT)
    };
    let (mut connections, mut streams) = (Vec::new(), Vec::new());
    for (from, to) in PAIRS {
        for family in Family::BOTH {
            let target = echo(to, family);
            for _ in 0..CONNECTIONS {
                let opened = Connection::open(&place(from), target).expect("connected");
                connections.push((format!("{from} to {to} over {family}"), opened));
            }
            for _ in 0..STREAMS {
                let stream = Stream::start(&place(from), target).expect("a stream");
                streams.push((format!("{from} to {to} over {family}"), stream));
            }
        }
    }
    for _ in 0..CONNECTIONS {
        let opened = Connection::open(&place("cluster7/frontend-1"), SERVICE.into());
        connections.push(("to a service".to_owned(), opened.expect("connected")));
    }
    thread::sleep(Duration::from_millis(300));
    for round in 0..2 {
        for program in [OTHER_LAYOUT, "isthmus"] {
            for number in [1, 2] {
                let cluster = mesh.lab.cluster_mut("cluster7");
                let node = &mut cluster.nodes[number - 1];
                assert!(node.stop_agent(), "it ends by itself");
                node.agent_program = program;
                cluster.start_agent(number).expect("ready again");
                let what = format!("round {round}: {program} on node {number}");
                for (name, connection) in &mut connections {
                    connection
                        .echo()
                        .unwrap_or_else(|error| panic!("{what}: {name}: {error}"));
                }
                for family in Family::BOTH {
                    mesh.assert_refused(refused.0, refused.1, family);
                }
                let pins = mesh.lab.cluster("cluster7").nodes[number - 1]
                    .dir()
                    .join("bpf/isthmus");
                eventually(format!("{what}: one layout is left"), SPREAD, || {
                    let versions = std::fs::read_dir(&pins).expect("pins");
                    let names = versions.flatten().map(|entry| entry.file_name());
                    let names = names.filter(|name| name.to_string_lossy().starts_with('v'));
                    let names: Vec<_> = names.collect();
                    if names.len() == 1 {
                        Ok(())
                    } else {
                        Err(format!("{names:?}"))
                    }
                })
                .expect("the other is removed");
            }
        }
    }
    for (name, stream) in streams {
        let loss = stream.finish().expect("counted");
        assert_eq!(loss.lost(), 0, "{name}: {loss}");
    }
    for (from, to) in PAIRS {
        mesh.reach(from, to, Family::V4);
    }
}

fn serve(mesh: &Mesh) {
    let (address, port) = SERVICE;
    let backend = mesh.lab.pod("cluster7/backend-2").expect("a pod");
    let backend = backend.address(Family::V4).expect("an address");
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: echo, namespace: default}}\nspec:\n  \
         clusterIP: {address}\n  clusterIPs: [{address}]\n  ports:\n  \
         - {{name: echo, port: {port}, targetPort: {ECHO_PORT}, protocol: TCP}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: echo\n  \
         namespace: default\n  labels: {{kubernetes.io/service-name: echo}}\naddressType: IPv4\n\
         ports:\n- {{name: echo, port: {ECHO_PORT}, protocol: TCP}}\nendpoints:\n\
         - addresses: ['{backend}']\n  conditions: {{ready: true, serving: true, terminating: false}}\n"
    );
    mesh.lab
        .cluster("cluster7")
        .apply_text("echo.yaml", &text)
        .expect("applied");
}
