// SPDX-License-Identifier: Apache-2.0
//! Ports that pods of remote clusters name, as the agent hears of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Lab, Peer};

#[tokio::test(start_paused = true)]
async fn names_of_ports_are_told_by_identity_also_from_the_disk() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let pod = |host, port| {
        let mut pod = peer.pod(1, host, 1);
        let http = |port| model::NamedPort {
            name: "http".into(),
            port,
            protocol: model::Protocol::Tcp,
        };
        pod.named_ports = [http(port)].into();
        pod
    };
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    assert!(lab.agent.ports.values().all(|ports| ports.is_empty()));
    // Nothing but the ports changes.
    peer.put_ip(&pod(5, 8080)).await;
    lab.seconds(1).await;
    let told = lab.agent.ports.clone();
    assert_eq!(told[&peer.identity(1)][..], pod(5, 8080).named_ports[..]);
    peer.network(false);
    lab.seconds(5).await;
    lab.restart().await;
    lab.seconds(1).await;
    assert_eq!(lab.agent.ports, told);
    peer.network(true);
    lab.seconds(6).await;
    peer.put_ip(&pod(6, 9090)).await;
    lab.seconds(1).await;
    assert!(
        lab.agent.ports.values().all(|ports| ports.is_empty()),
        "its pods differ"
    );
    peer.delete_ip(&pod(5, 8080)).await;
    lab.seconds(5).await;
    assert_eq!(lab.agent.ports[&peer.identity(1)][0].port, 9090);
    lab.file("cluster7", None);
    lab.seconds(6).await;
    assert!(lab.agent.ports.values().all(|ports| ports.is_empty()) && lab.agent.ips.is_empty());
}
