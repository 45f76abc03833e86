// SPDX-License-Identifier: Apache-2.0
//! Packets between pods, their own host, hosts of other nodes and the world, and who they count as.

mod support;

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};

use support::raw::{Packet, UDP};
use support::{
    address, allow_all, allow_only, becomes_refused, echoes, node, node_address, pings, place,
    reach, request, socket, start,
};
use testbed::serve::ECHO_PORT;
use testbed::underlay::{WORLD_V4, WORLD_V6};
use testbed::{Family, Lab, Node};

/// Numbers of headers of IPv6.
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// A server on a node itself, ended with the value.
struct OnNode(Child);

impl OnNode {
    fn serve(node: &Node) -> Self {
        let mut command = node.place.command(node.program("lab")).expect("a command");
        command
            .args(["serve", "--name", &node.full_name(), "--port", "80"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().expect("started"))
    }
}

impl Drop for OnNode {
    fn drop(&mut self) {
        // Both fail only if it ended already.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn hosts_the_world_and_pods() {
    let lab = start("hosts", 1, &[]);
    let (near, far) = (node(&lab, "cluster5", 1), node(&lab, "cluster7", 1));
    let _servers = [OnNode::serve(near), OnNode::serve(far)];
    for family in Family::BOTH {
        pods_reach_hosts(&lab, near, far, family);
        the_world_sees_the_node(&lab, near, family);
        the_api_server_is_where_its_endpoints_are(&lab, near, family);
        hosts_count_as_what_they_are(&lab, near, far, family);
        forwarded_by_other_software(&lab, near, family);
        services_of_other_software(&lab, near, family);
    }
}

fn pods_reach_hosts(lab: &Lab, near: &Node, far: &Node, family: Family) {
    let pod = place(lab, "cluster5/a");
    let own = address(lab, "cluster5/a", family);
    let answer = reach(&pod, node_address(near, family));
    assert_eq!((answer.server, answer.client), (near.full_name(), own));
    let answer = reach(&pod, node_address(far, family));
    let masqueraded = node_address(near, family);
    assert_eq!(
        (answer.server, answer.client),
        (far.full_name(), masqueraded)
    );
    // The address from which the far host talks to this pod is its router address: that answers through the tunnel.
    let router = reach(&far.place, own);
    assert_eq!(router.server, "cluster5/default/a");
    let answer = reach(&pod, router.client);
    assert_eq!((answer.server, answer.client), (far.full_name(), own));
    pings(&pod, router.client, &[]).expect("the far router answers");
    pings(&pod, router_of(near, lab, family), &[]).expect("the own router answers");
}

/// The router address of a node: what its host uses to talk to its own pods.
fn router_of(node: &Node, lab: &Lab, family: Family) -> IpAddr {
    reach(&node.place, address(lab, "cluster5/a", family)).client
}

fn the_world_sees_the_node(lab: &Lab, near: &Node, family: Family) {
    let pod = place(lab, "cluster5/a");
    let world = world_address(family);
    let answer = reach(&pod, world);
    assert_eq!(answer.client, node_address(near, family), "masqueraded");
    echoes(&pod, world, 100).expect("a datagram comes back");
    pings(&pod, world, &[]).expect("an echo comes back");
}

fn world_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => WORLD_V4.into(),
        Family::V6 => WORLD_V6.into(),
    }
}

/// The entity is wherever the endpoints of the service are, and nowhere else.
fn the_api_server_is_where_its_endpoints_are(lab: &Lab, near: &Node, family: Family) {
    let pod = place(lab, "cluster5/a");
    let cluster = lab.cluster("cluster5");
    let kind = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let policy = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
                  metadata: {name: api, namespace: default}\n\
                  spec: {endpointSelector: {matchLabels: {app: a}}, egress: [{toEntities: [kube-apiserver]}]}\n";
    cluster.apply_text("policy.yaml", policy).expect("applied");
    let (host, world) = (node_address(near, family), world_address(family));
    for (server, other) in [(host, world), (world, host)] {
        let slice = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: {kind}\n\
             metadata: {{name: kubernetes, namespace: default, labels: {{kubernetes.io/service-name: kubernetes}}}}\n\
             ports: [{{port: 80, protocol: TCP}}]\nendpoints: [{{addresses: ['{server}']}}]\n"
        );
        cluster.apply_text("api.yaml", &slice).expect("applied");
        becomes_refused(&pod, other);
        reach(&pod, server);
    }
    for name in ["policy.yaml", "api.yaml"] {
        cluster.withdraw(name).expect("withdrawn");
    }
    reach(&pod, host);
}

fn hosts_count_as_what_they_are(lab: &Lab, near: &Node, far: &Node, family: Family) {
    let (a, c) = (place(lab, "cluster5/a"), place(lab, "cluster7/c"));
    let target = address(lab, "cluster5/a", family);
    allow_only(lab, "cluster5", "a", "fromEntities: [none]");
    becomes_refused(&c, target);
    reach(&near.place, target);
    pings(&near.place, target, &[]).expect("the own host always passes");
    request(&far.place, target).expect_err("a remote host is not this one");
    allow_only(lab, "cluster5", "a", "fromEntities: [remote-node]");
    reach(&far.place, target);
    request(&c, target).expect_err("a pod is no node");
    let back = node_address(near, family);
    reach(&a, back);
    allow_all(lab, "cluster5");
    reach(&c, target);
}

/// An nft rule like a hostPort's brings the world to a pod: it counts as world, translated or not.
fn forwarded_by_other_software(lab: &Lab, near: &Node, family: Family) {
    let target = address(lab, "cluster5/a", family);
    let word = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let [http, echo] = [80, ECHO_PORT].map(|port| SocketAddr::new(target, port));
    let dnat = format!(
        "table {word} hostport {{\n chain pre {{ type nat hook prerouting priority -100;\n \
         iifname \"eth0\" tcp dport 8080 dnat to {http}\n \
         iifname \"eth0\" udp dport {ECHO_PORT} dnat to {echo}\n }}\n}}\n"
    );
    near.place.nft(&dnat).expect("a rule");
    let world = &lab.underlay.world;
    let front = node_address(near, family);
    let open = || {
        let url = testbed::underlay::url(front, 8080);
        testbed::client::curl(world, &url, support::SILENCE)
    };
    let answer = testbed::eventually("the world gets in", support::SPREAD, open).expect("open");
    assert_eq!(answer.server, "cluster5/default/a");
    pieces_are_echoed(lab, front).expect("in pieces too");
    for peers in ["[cluster]", "[none]", "[host]"] {
        allow_only(lab, "cluster5", "a", &format!("fromEntities: {peers}"));
        testbed::eventually("the world is refused", support::SPREAD, || match open() {
            Ok(_) => Err("it got in"),
            Err(_) => Ok(()),
        })
        .unwrap_or_else(|error| panic!("{peers}: {error}"));
        pieces_are_echoed(lab, front).expect_err("nor in pieces");
    }
    allow_only(lab, "cluster5", "a", "fromEntities: [world]");
    testbed::eventually("the world gets in", support::SPREAD, open).expect("it is the world");
    pieces_are_echoed(lab, front).expect("in pieces too");
    echoes(&near.place, target, 3000).expect("the host is the host, in pieces too");
    let snat = format!(
        "table {word} hostport {{\n chain post {{ type nat hook postrouting priority 90;\n \
         {word} daddr {target} tcp dport 80 ct status dnat masquerade\n }}\n}}\n"
    );
    near.place.nft(&snat).expect("a rule");
    allow_only(lab, "cluster5", "a", "fromEntities: [none]");
    testbed::eventually(
        "translated, and still not the host",
        support::SPREAD,
        || match open() {
            Ok(answer) => Err(format!("{} got in", answer.client)),
            Err(_) => Ok(()),
        },
    )
    .expect("refused");
    near.place
        .nft(&format!("delete table {word} hostport"))
        .expect("removed");
    allow_all(lab, "cluster5");
}

/// Whether the world's datagram of two pieces is echoed. Over IPv6 the first has a header that the second has not, so that a
/// stack which joins them cannot send on the packets that it got.
fn pieces_are_echoed(lab: &Lab, front: IpAddr) -> std::io::Result<()> {
    let world = &lab.underlay.world;
    let IpAddr::V6(_) = front else {
        return echoes(world, front, 3000);
    };
    let socket = socket(world, Family::V6, 0);
    let from = SocketAddr::new(WORLD_V6.into(), socket.local_addr()?.port());
    let whole = Packet::udp(from, SocketAddr::new(front, ECHO_PORT), &[7; 1400]);
    let (first, rest) = whole.transport.split_at(1000);
    let option = [&[0x1e, 129][..], &[0; 129]].concat();
    let options = [&[FRAGMENT, 32][..], &option, &option].concat();
    let piece = |offset: u16, bytes: &[u8]| {
        let [high, low] = offset.to_be_bytes();
        [&[UDP, 0, high, low, 0, 0, 0, 9][..], bytes].concat()
    };
    let send = |protocol, transport| {
        let packet = Packet {
            protocol,
            transport,
            ..whole.clone()
        };
        packet.send(world);
    };
    send(DESTINATION_OPTIONS, [options, piece(1, first)].concat());
    send(FRAGMENT, piece(1000, rest));
    socket.recv(&mut [0; 2000]).map(drop)
}

/// An nft rule like kube-proxy's brings a pod to a pod of another node by a service address: answers are translated back,
/// and need no rule of the pod's.
fn services_of_other_software(lab: &Lab, near: &Node, family: Family) {
    let pod = place(lab, "cluster5/a");
    let target = address(lab, "cluster7/c", family);
    let (word, service): (_, IpAddr) = match family {
        Family::V4 => ("ip", [10, 96, 0, 10].into()),
        Family::V6 => ("ip6", [0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10].into()),
    };
    let dnat = format!(
        "table {word} service {{\n chain pre {{ type nat hook prerouting priority -100;\n \
         {word} daddr {service} dnat to {target}\n }}\n}}\n"
    );
    near.place.nft(&dnat).expect("a rule");
    allow_only(lab, "cluster5", "a", "fromEntities: [none]");
    becomes_refused(
        &place(lab, "cluster7/c"),
        address(lab, "cluster5/a", family),
    );
    let answer = reach(&pod, service);
    assert_eq!(answer.server, "cluster7/default/c");
    assert_eq!(answer.client, address(lab, "cluster5/a", family));
    // The stack joins fragments and cuts them anew.
    for size in [100, 3000] {
        echoes(&pod, service, size).unwrap_or_else(|error| panic!("{size}: {error}"));
    }
    pings(&pod, service, &[]).expect("an echo comes back");
    reach(&pod, target);
    near.place
        .nft(&format!("delete table {word} service"))
        .expect("removed");
    allow_all(lab, "cluster5");
}
