// SPDX-License-Identifier: Apache-2.0
//! ClusterIP services from manifests: who answers, what policy sees, and what becomes of flows when backends change.

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use support::{ANSWER, SPREAD, address, dropped, node, place, start};
use testbed::client::{Connection, curl};
use testbed::underlay::url;
use testbed::{Family, Lab, Place, Result, eventually};

/// HTTP at the service.
const HTTP: u16 = 8080;
/// Echo over TCP and UDP at the service.
const ECHO: u16 = 9000;
/// UDP at the service that nobody listens to behind it.
const CLOSED: u16 = 9001;

fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 96, 0, 10].into(),
        Family::V6 => [0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10].into(),
    }
}

/// A service of cluster5 whose backends are these pods, ready or not.
fn serve(lab: &Lab, affinity: bool, backends: &[(&str, bool)]) {
    let sticky = if affinity {
        "sessionAffinity: ClientIP"
    } else {
        "sessionAffinity: None"
    };
    let [v4, v6] = Family::BOTH.map(vip);
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         clusterIP: {v4}\n  clusterIPs: [{v4}, '{v6}']\n  {sticky}\n  ports:\n  \
         - {{name: http, port: {HTTP}, targetPort: 80, protocol: TCP}}\n  \
         - {{name: echo, port: {ECHO}, targetPort: 9, protocol: TCP}}\n  \
         - {{name: echo-udp, port: {ECHO}, targetPort: 9, protocol: UDP}}\n  \
         - {{name: closed, port: {CLOSED}, targetPort: 7, protocol: UDP}}\n"
    );
    for (family, kind) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
             name: web-{}\n  namespace: default\n  labels: {{kubernetes.io/service-name: web}}\n\
             addressType: {kind}\nports:\n- {{name: http, port: 80, protocol: TCP}}\n\
             - {{name: echo, port: 9, protocol: TCP}}\n- {{name: echo-udp, port: 9, protocol: UDP}}\n\
             - {{name: closed, port: 7, protocol: UDP}}\nendpoints:",
            kind.to_lowercase()
        );
        if backends.is_empty() {
            text += " []\n";
        }
        for (pod, ready) in backends {
            let addr = address(lab, pod, family);
            text += &format!(
                "\n- addresses: ['{addr}']\n  conditions: {{ready: {ready}, serving: {ready}, terminating: false}}"
            );
        }
        text += "\n";
    }
    lab.cluster("cluster5")
        .apply_text("web.yaml", &text)
        .expect("applied");
}

fn policy(lab: &Lab, spec: &str) {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: web, namespace: default}}\n\
         spec: {{endpointSelector: {{matchLabels: {{app: a}}}}, {spec}}}\n"
    );
    lab.cluster("cluster5")
        .apply_text("policy.yaml", &text)
        .expect("applied");
}

fn ask(from: &Place, family: Family) -> Result<testbed::client::Http> {
    curl(from, &url(vip(family), HTTP), ANSWER)
}

/// Asks until everybody in `servers` and nobody else has answered ten times in a row.
fn answered_by(from: &Place, family: Family, servers: &[&str]) {
    let mut want: Vec<String> = servers.iter().map(|pod| full(pod)).collect();
    want.sort();
    eventually(format!("{servers:?} answer"), SPREAD, || {
        let answers: Result<Vec<_>> = (0..20).map(|_| ask(from, family)).collect();
        let mut seen: Vec<String> = answers
            .map_err(|error| error.to_string())?
            .into_iter()
            .map(|answer| answer.server)
            .collect();
        seen.sort();
        seen.dedup();
        if seen == want {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .expect("exactly these");
}

fn full(pod: &str) -> String {
    let (cluster, name) = pod.split_once('/').expect("cluster/name");
    format!("{cluster}/default/{name}")
}

#[test]
fn services_of_this_cluster() {
    let lab = start("services", 2, &[]);
    let a = place(&lab, "cluster5/a");
    serve(
        &lab,
        false,
        &[
            ("cluster5/a", true),
            ("cluster5/b", true),
            ("cluster7/c", true),
        ],
    );
    for family in Family::BOTH {
        answered_by(&a, family, &["cluster5/a", "cluster5/b", "cluster7/c"]);
        every_kind_of_packet(&lab, &a, family);
        the_client_is_who_it_is(&lab, &a, family);
        policy_sees_the_pod(&lab, &a, family);
        flows_outlive_what_is_not_theirs(&lab, &a, family);
        nobody_is_an_answer(&lab, &a, family);
        a_flow_finds_the_service_that_comes(&lab, &a, family);
        a_client_sticks(&lab, &a, family);
        serve(
            &lab,
            false,
            &[
                ("cluster5/a", true),
                ("cluster5/b", true),
                ("cluster7/c", true),
            ],
        );
    }
    an_agent_is_not_needed(lab, &a);
}

fn datagram(from: &Place, to: SocketAddr) -> UdpSocket {
    let any: SocketAddr = if to.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0; 16], 0).into()
    };
    let socket = from
        .within(|| UdpSocket::bind(any))
        .expect("a namespace")
        .expect("a socket");
    socket.connect(to).expect("an address");
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .expect("set");
    socket
}

fn every_kind_of_packet(lab: &Lab, a: &Place, family: Family) {
    for backend in ["cluster5/b", "cluster7/c", "cluster5/a"] {
        serve(lab, false, &[(backend, true)]);
        answered_by(a, family, &[backend]);
        for size in [1, 100, 1400, 3000, 9000] {
            let socket = datagram(a, SocketAddr::new(vip(family), ECHO));
            let payload: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
            socket.send(&payload).expect("sent");
            let mut answer = vec![0; 65_536];
            let length = socket
                .recv(&mut answer)
                .unwrap_or_else(|error| panic!("{size} bytes to {backend}: {error}"));
            assert_eq!(answer[..length], payload);
        }
        // The backend's refusal is the service's.
        let socket = datagram(a, SocketAddr::new(vip(family), CLOSED));
        socket.send(b"anybody?").expect("sent");
        let error = socket.recv(&mut [0; 8]).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{backend}");
        // More than a window: segments of every size, in both directions.
        let mut connection =
            Connection::open(a, SocketAddr::new(vip(family), ECHO)).expect("connected");
        connection.echo().expect("echoed");
    }
}

fn the_client_is_who_it_is(lab: &Lab, a: &Place, family: Family) {
    for backend in ["cluster5/b", "cluster7/c"] {
        serve(lab, false, &[(backend, true)]);
        answered_by(a, family, &[backend]);
        let answer = ask(a, family).expect("an answer");
        assert_eq!(answer.client, address(lab, "cluster5/a", family));
    }
    serve(lab, false, &[("cluster5/a", true)]);
    answered_by(a, family, &["cluster5/a"]);
    let answer = ask(a, family).expect("an answer");
    if family == Family::V4 {
        assert_eq!(answer.client, IpAddr::from([169, 254, 42, 1]));
    }
    assert_ne!(answer.client, address(lab, "cluster5/a", family));
}

fn policy_sees_the_pod(lab: &Lab, a: &Place, family: Family) {
    serve(lab, false, &[("cluster5/b", true)]);
    answered_by(a, family, &["cluster5/b"]);
    let monitor = node(lab, "cluster5", 1).monitor().expect("a monitor");
    let to = |labels: &str, port: u16| {
        format!(
            "egress: [{{toEndpoints: [{{matchLabels: {{{labels}}}}}], toPorts: [{{ports: [{{port: '{port}'}}]}}]}}]"
        )
    };
    policy(lab, &to("app: c", 80));
    let own = address(lab, "cluster5/a", family);
    let drop = dropped(&monitor, "Policy denied", own, || {
        let _refused = curl(a, &url(vip(family), HTTP), Duration::from_millis(300));
    });
    let target = &drop["isthmus"]["destination"]["address"];
    assert_eq!(
        *target,
        address(lab, "cluster5/b", family).to_string(),
        "{drop}"
    );
    // The service's port is not the pod's.
    policy(lab, &to("app: b", HTTP));
    std::thread::sleep(Duration::from_millis(300));
    ask(a, family).expect_err("the pod listens elsewhere");
    policy(lab, &to("app: b", 80));
    answered_by(a, family, &["cluster5/b"]);
    // What is closed to everybody is open to itself.
    serve(lab, false, &[("cluster5/a", true)]);
    policy(
        lab,
        "ingress: [{fromEntities: [none]}], egress: [{toEntities: [none]}]",
    );
    answered_by(a, family, &["cluster5/a"]);
    lab.cluster("cluster5")
        .withdraw("policy.yaml")
        .expect("withdrawn");
}

fn flows_outlive_what_is_not_theirs(lab: &Lab, a: &Place, family: Family) {
    let target = SocketAddr::new(vip(family), ECHO);
    let connect = |backend: &str| {
        serve(lab, false, &[(backend, true)]);
        answered_by(a, family, &[backend]);
        let mut connection = Connection::open(a, target).expect("connected");
        connection.echo().expect("echoed");
        connection
    };
    let mut to_b = connect("cluster5/b");
    serve(lab, false, &[("cluster5/b", false), ("cluster7/c", true)]);
    answered_by(a, family, &["cluster7/c"]);
    let mut to_c = Connection::open(a, target).expect("connected");
    to_c.echo().expect("echoed");
    to_b.echo()
        .expect("a backend that is not ready keeps what it has");
    serve(lab, false, &[("cluster7/c", true)]);
    let started = Instant::now();
    eventually("the flow ends with its backend", SPREAD, || {
        match to_b.echo() {
            Ok(()) => Err("it lives"),
            Err(_) => Ok(()),
        }
    })
    .expect("ended");
    let taken = started.elapsed();
    assert!(
        taken < Duration::from_secs(5),
        "an end, not silence: {taken:?}"
    );
    to_c.echo().expect("others do not notice");
    for _ in 0..5 {
        let mut connection = Connection::open(a, target).expect("connected");
        connection.echo().expect("echoed");
    }
}

fn nobody_is_an_answer(lab: &Lab, a: &Place, family: Family) {
    serve(lab, false, &[]);
    let target = SocketAddr::new(vip(family), ECHO);
    eventually("nobody answers", SPREAD, || {
        match Connection::open(a, target) {
            Ok(_) => Err("somebody"),
            Err(_) => Ok(()),
        }
    })
    .expect("refused");
    let started = Instant::now();
    let connect = || std::net::TcpStream::connect_timeout(&target, Duration::from_secs(3));
    let error = a.within(connect).expect("a namespace").expect_err("nobody");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(started.elapsed() < Duration::from_millis(500), "at once");
    let socket = datagram(a, target);
    socket.send(b"anybody?").expect("sent");
    let error = socket.recv(&mut [0; 8]).expect_err("nobody");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

fn a_flow_finds_the_service_that_comes(lab: &Lab, a: &Place, family: Family) {
    lab.cluster("cluster5")
        .withdraw("web.yaml")
        .expect("withdrawn");
    let socket = datagram(a, SocketAddr::new(vip(family), ECHO));
    let ask = || {
        // An answer that nobody is there is an answer too.
        let _refused = socket.send(b"anybody?");
        socket.recv(&mut [0; 8])
    };
    eventually("nobody answers", SPREAD, || match ask() {
        Ok(_) => Err("somebody"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err("the service is there"),
        Err(_) => Ok(()),
    })
    .expect("gone");
    serve(lab, false, &[("cluster5/b", true)]);
    eventually("the same socket is answered", SPREAD, ask).expect("answered");
}

fn a_client_sticks(lab: &Lab, a: &Place, family: Family) {
    serve(lab, true, &[("cluster5/b", true), ("cluster7/c", true)]);
    let slots = [
        address(lab, "cluster5/b", family),
        address(lab, "cluster7/c", family),
    ];
    // The row that has both says, too, that clients stick.
    eventually("the agent has both", SPREAD, || {
        let table = node(lab, "cluster5", 1).cli_text(&["bpf", "lb", "list"]);
        let rows = slots.map(|ip| {
            let at = format!("{}/TCP (", SocketAddr::new(ip, 80));
            table.lines().filter(|line| line.contains(&at)).count()
        });
        if rows == [1, 1] { Ok(()) } else { Err(table) }
    })
    .expect("a row each");
    let first = ask(a, family).expect("an answer");
    for _ in 0..20 {
        assert_eq!(ask(a, family).expect("an answer").server, first.server);
    }
}

fn an_agent_is_not_needed(mut lab: Lab, a: &Place) {
    answered_by(a, Family::V4, &["cluster5/a", "cluster5/b", "cluster7/c"]);
    let target = SocketAddr::new(vip(Family::V4), ECHO);
    let mut open = Connection::open(a, target).expect("connected");
    open.echo().expect("echoed");
    lab.cluster_mut("cluster5").nodes[0].kill_agent();
    open.echo().expect("what runs goes on");
    for family in Family::BOTH {
        ask(a, family).expect("and what is new begins");
    }
    lab.cluster_mut("cluster5").start_agent(1).expect("ready");
    open.echo().expect("adopted");
    answered_by(a, Family::V6, &["cluster5/a", "cluster5/b", "cluster7/c"]);
    lab.cluster("cluster5")
        .withdraw("web.yaml")
        .expect("withdrawn");
    eventually("the service is gone", SPREAD, || match ask(a, Family::V4) {
        Ok(answer) => Err(format!("{} answers", answer.server)),
        Err(_) => Ok(()),
    })
    .expect("gone");
}
