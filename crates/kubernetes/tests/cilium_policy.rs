// SPDX-License-Identifier: Apache-2.0
//! CiliumNetworkPolicy from manifest to verdict: the decision cases of the policy language, by their numbers, as people
//! write them. Absent, empty and `[{}]` are three things, and only the reader sees them apart.

mod verdicts;

use model::reserved;
use policy::{Action, Direction, EnforcementMode, PolicyObject, Settings};
use verdicts::{A, B, Case, E, H, N, NP, R, W, X, read, settings};

const CNP: &str = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy";
const CCNP: &str = "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy";
/// Own cluster, labels unknown.
const U: u32 = (5 << 16) + 99;
const API: u32 = 7;

/// The policies about W that say this.
fn objects(kind: &str, specs: &[&str]) -> Vec<PolicyObject> {
    let mut all = Vec::new();
    for (n, spec) in specs.iter().enumerate() {
        let subject = "endpointSelector: {matchLabels: {app: web}}";
        let (mut objects, problems) = read(kind, &format!("{{{subject}, {spec}}}"));
        assert!(problems.is_empty(), "{spec}: {problems:?}");
        objects
            .iter_mut()
            .for_each(|o| o.key.name = format!("p{n}"));
        all.extend(objects);
    }
    all
}

/// Checks lines such as `in tcp/80 +A -X`: what may come in or go out, and what may not.
fn check(case: &Case, lines: &str) {
    for line in lines.split(';').map(str::trim).filter(|l| !l.is_empty()) {
        let mut words = line.split_whitespace();
        let way = match words.next() {
            Some("in") => Direction::Ingress,
            Some("eg") => Direction::Egress,
            other => panic!("{other:?}"),
        };
        let flow = match words.next().and_then(|flow| flow.split_once('/')) {
            Some(("tcp", port)) => (6, port.parse().expect("a port")),
            Some(("udp", port)) => (17, port.parse().expect("a port")),
            Some(("sctp", port)) => (132, port.parse().expect("a port")),
            Some(("icmp", kind)) => (1, kind.parse().expect("a type")),
            other => panic!("{other:?}"),
        };
        for word in words {
            let (sign, name) = word.split_at(1);
            let peer = match name {
                "A" => A,
                "B" => B,
                "X" => X,
                "R" => R,
                "H" => H,
                "N" => N,
                "E" => E,
                "U" => U,
                "W" => W,
                "api" => API,
                "health" => reserved::HEALTH.0,
                "world6" => reserved::WORLD_IPV6.0,
                other => panic!("{other}"),
            };
            case.check(way, &[peer], flow, sign == "+");
        }
    }
}

fn cnp(number: u32, specs: &[&str], lines: &str) {
    check(&Case::new(number, objects(CNP, specs)), lines);
}

const FROM_A: &str = "fromEndpoints: [{matchLabels: {app: a}}]";

#[test]
fn when_default_deny_begins() {
    cnp(1, &[], "in tcp/80 +A +E +R +H; eg tcp/80 +A +E +N");
    cnp(2, &["ingress: [{}]"], "in tcp/80 -A -E +H; eg tcp/80 +A");
    let spec = "{endpointSelector: {}, ingress: []}";
    assert!(read(CNP, spec).0.is_empty(), "case 3");
    cnp(
        4,
        &["ingress: [], egress: [{toEntities: [all]}]"],
        "in tcp/80 +A; eg tcp/80 +E",
    );
    let open = format!("ingress: [{{{FROM_A}}}], enableDefaultDeny: {{ingress: false}}");
    let closed = format!("ingress: [{{{FROM_A}}}]");
    cnp(5, &[&open], "in tcp/80 +B");
    cnp(6, &[&open, &closed], "in tcp/80 +A -B");
    let deny = format!("ingressDeny: [{{{FROM_A}}}]");
    cnp(7, &[&deny], "in tcp/80 -A -B");
    let deny_only = format!("{deny}, enableDefaultDeny: {{ingress: false}}");
    cnp(8, &[&deny_only], "in tcp/80 -A +B");
    // Saying so without an entry for the direction changes nothing.
    let other = format!("{closed}, enableDefaultDeny: {{egress: true}}");
    cnp(0, &[&other], "in tcp/80 -B; eg tcp/80 +A +E");
    let mode = |mode| Settings { mode, ..settings() };
    let always = Case::with(9, mode(EnforcementMode::Always), Vec::new());
    check(&always, "in tcp/80 -A -H; eg tcp/80 -A");
    let never = Case::with(10, mode(EnforcementMode::Never), objects(CNP, &[&deny]));
    check(&never, "in tcp/80 +A");
}

#[test]
fn absent_and_empty() {
    let p80 = "toPorts: [{ports: [{port: '80', protocol: TCP}]}]";
    let with = |peers: &str| format!("ingress: [{{{peers}{p80}}}]");
    cnp(12, &[&with("fromEndpoints: [], ")], "in tcp/80 -A +H");
    cnp(13, &[&with("")], "in tcp/80 +A +E +N; in tcp/81 -A");
    cnp(24, &[&with("fromEntities: [], ")], "in tcp/80 -A");
    for peers in ["fromCIDR: [], ", "fromCIDRSet: [], "] {
        cnp(12, &[&with(peers)], "in tcp/80 -A -E");
    }
    // No list of ports is every port; a list without ports is none.
    cnp(
        34,
        &["ingress: [{fromEndpoints: [{}], toPorts: []}]"],
        "in icmp/8 +A",
    );
    cnp(
        0,
        &["ingress: [{fromEndpoints: [{}], toPorts: [{}]}]"],
        "in tcp/80 -A",
    );
    cnp(
        0,
        &["ingress: [{fromEndpoints: [{}], toPorts: [{ports: []}]}]"],
        "in tcp/80 -A",
    );
}

#[test]
fn whom_selectors_mean() {
    let from = |labels: &str| format!("ingress: [{{fromEndpoints: [{labels}]}}]");
    cnp(14, &[&from("{}")], "in tcp/80 +A -X -R -E -N");
    let wide = objects(CCNP, &[&from("{}")]);
    check(&Case::new(15, wide), "in tcp/80 +A +X -R -E -health");
    let anywhere = Settings {
        default_local_cluster: false,
        ..settings()
    };
    let case = Case::with(16, anywhere, objects(CNP, &[&from("{}")]));
    check(&case, "in tcp/80 +A +R -X");
    cnp(
        17,
        &[&from("{matchLabels: {app: a}}")],
        "in tcp/80 +A -X -R",
    );
    cnp(
        17,
        &[&from("{matchLabels: {'k8s:app': a}}")],
        "in tcp/80 +A -X",
    );
    cnp(
        17,
        &[&from("{matchLabels: {'any:app': a}}")],
        "in tcp/80 +A -X",
    );
    cnp(
        0,
        &[&from("{matchLabels: {'container:app': a}}")],
        "in tcp/80 -A",
    );
    let labels = "{matchLabels: {app: a, 'k8s:io.kubernetes.pod.namespace': other}}";
    cnp(18, &[&from(labels)], "in tcp/80 +X -A");
    let exists = |key: &str| {
        let expression = format!("matchExpressions: [{{key: {key}, operator: Exists}}]");
        from(&format!("{{matchLabels: {{app: a}}, {expression}}}"))
    };
    cnp(
        19,
        &[&exists("io.kubernetes.pod.namespace")],
        "in tcp/80 +A +X -R",
    );
    cnp(
        20,
        &[&exists("io.cilium.k8s.policy.cluster")],
        "in tcp/80 +A +R -X",
    );
    let team = "{matchLabels: {io.cilium.k8s.namespace.labels.team: x}}";
    cnp(21, &[&from(team)], "in tcp/80 +X -A");
    for host in ["reserved:host", "$host"] {
        let host = format!("{{matchLabels: {{'{host}': ''}}}}");
        cnp(22, &[&from(&host)], "in tcp/80 +H -N");
    }
    let absent = "{matchExpressions: [{key: 'reserved:host', operator: DoesNotExist}]}";
    cnp(23, &[&from(absent)], "in tcp/80 +E +X +R");
    cnp(66, &[&from("{matchLabels: {app: a}}")], "in tcp/80 -U");
}

#[test]
fn ports() {
    let a = |ports: &str| format!("ingress: [{{{FROM_A}, toPorts: [{{ports: [{ports}]}}]}}]");
    cnp(31, &[&a("{port: '80', protocol: TCP}")], "in udp/80 -A");
    cnp(
        32,
        &[&a("{port: '80'}")],
        "in tcp/80 +A; in udp/80 +A; in sctp/80 +A; in icmp/8 -A",
    );
    cnp(
        32,
        &[&a("{port: 80, protocol: any}")],
        "in udp/80 +A; in icmp/8 -A",
    );
    cnp(
        33,
        &[&a("{port: '0', protocol: TCP}")],
        "in tcp/1 +A; in tcp/65535 +A; in udp/53 -A",
    );
    let all = format!("ingress: [{{{FROM_A}}}]");
    cnp(
        34,
        &[&all],
        "in tcp/1 +A; in udp/53 +A; in icmp/8 +A; in sctp/9 +A",
    );
    let range = "{port: '80', endPort: 443, protocol: TCP}";
    cnp(
        35,
        &[&a(range)],
        "in tcp/80 +A; in tcp/443 +A; in tcp/79 -A; in tcp/444 -A",
    );
    let back = "{port: '100', endPort: 50, protocol: TCP}";
    cnp(36, &[&a(back)], "in tcp/100 +A; in tcp/75 -A");
    // A name has no end.
    let http = "{port: http, endPort: 9999, protocol: TCP}";
    cnp(
        37,
        &[&a(http)],
        "in tcp/8080 +A; in tcp/80 -A; in tcp/9090 -A",
    );
    cnp(
        38,
        &[&a("{port: https, protocol: TCP}")],
        "in tcp/443 -A; in tcp/8080 -A",
    );
}

#[test]
fn denied_and_allowed() {
    let a = FROM_A;
    let all = "fromEntities: [all]";
    let on = |port: u16| format!("toPorts: [{{ports: [{{port: '{port}', protocol: TCP}}]}}]");
    let (p80, p8080) = (on(80), on(8080));
    cnp(
        48,
        &[
            &format!("ingress: [{{{a}}}]"),
            &format!("ingressDeny: [{{{all}, {p80}}}]"),
        ],
        "in tcp/80 -A; in tcp/81 +A; in icmp/8 +A",
    );
    let both = format!("ingress: [{{{all}}}], ingressDeny: [{{{a}}}]");
    cnp(49, &[&both], "in tcp/7 -A +B");
    let both = format!("ingress: [{{{all}, {p80}}}], ingressDeny: [{{{a}, {p80}}}]");
    cnp(50, &[&both], "in tcp/80 +B -A");
    let host = "fromCIDR: [192.0.2.3/32]";
    let net = "fromCIDR: [192.0.2.0/24]";
    for (number, allow, deny, lines) in [
        (
            52,
            host.into(),
            "fromEntities: [world]".into(),
            "in tcp/80 -E",
        ),
        (53, host.into(), net.into(), "in tcp/80 -E"),
        (54, net.into(), host.into(), "in tcp/80 -E"),
        (56, format!("{net}, {p8080}"), host.into(), "in tcp/8080 -E"),
    ] {
        let (allow, deny): (String, String) = (allow, deny);
        let spec = format!("ingress: [{{{allow}}}], ingressDeny: [{{{deny}}}]");
        cnp(number, &[&spec], lines);
    }
    let out = format!(
        "egress: [{{toCIDR: [192.0.2.3/32]}}], egressDeny: [{{toEntities: [world], {p8080}}}]"
    );
    cnp(55, &[&out], "eg tcp/8080 -E; eg tcp/80 +E");
    cnp(57, &[&format!("ingressDeny: [{{{all}}}]")], "in tcp/80 -H");
}

#[test]
fn prefixes() {
    let holed = "ingress: [{fromCIDRSet: [{cidr: 192.0.0.0/8, except: [192.0.2.0/24]}]}]";
    cnp(58, &[holed], "in tcp/80 -E");
    let other = "ingress: [{fromCIDRSet: [{cidr: 192.0.2.0/25}]}]";
    cnp(59, &[holed, other], "in tcp/80 +E");
    // A hole in what is denied allows nothing by itself, and denies nothing.
    let hole = "ingress: [{fromEntities: [world]}], \
                ingressDeny: [{fromCIDRSet: [{cidr: 192.0.0.0/8, except: [192.0.2.0/24]}]}]";
    cnp(0, &[hole], "in tcp/80 +E");
    cnp(
        60,
        &["egress: [{toCIDR: [10.0.0.0/8, 172.16.0.0/12]}]"],
        "eg tcp/80 -A -N",
    );
    cnp(
        62,
        &["egress: [{toCIDR: [0.0.0.0/0]}]"],
        "eg tcp/80 +E -A -N -world6",
    );
    let named = "egress: [{toCIDR: [192.0.2.3/32], toPorts: [{ports: [{port: '81'}]}]}]";
    cnp(
        63,
        &["egress: [{toEntities: [world]}]", named],
        "eg tcp/80 +E",
    );
}

#[test]
fn entities() {
    let from = |word: &str| format!("ingress: [{{fromEntities: [{word}]}}]");
    cnp(64, &[&from("cluster")], "in tcp/80 +A +X +N +H -R -E");
    cnp(65, &[&from("cluster")], "in tcp/80 +U");
    cnp(67, &[&from("cluster-mesh")], "in tcp/80 +R +A -E");
    cnp(68, &[&from("remote-node")], "in tcp/80 +N +H -A");
    cnp(0, &[&from("none")], "in tcp/80 -A -E +H");
    let api = "egress: [{toEntities: [kube-apiserver]}]";
    cnp(69, &[api], "eg tcp/6443 +api -N -E");
    cnp(70, &["egress: [{}]"], "eg tcp/6443 -api");
    cnp(70, &["egress: [{}]", api], "eg tcp/6443 +api");
    let a = format!("ingress: [{{{FROM_A}}}]");
    cnp(71, &[&a], "in tcp/80 +H");
    let strict = Settings {
        allow_localhost: false,
        ..settings()
    };
    check(&Case::with(72, strict, objects(CNP, &[&a])), "in tcp/80 -H");
}

#[test]
fn several_objects() {
    let on = |app: &str, port: u16| {
        let ports = format!("toPorts: [{{ports: [{{port: '{port}', protocol: TCP}}]}}]");
        format!("ingress: [{{fromEndpoints: [{{matchLabels: {{app: {app}}}}}], {ports}}}]")
    };
    let (a, b) = (on("a", 80), on("b", 81));
    cnp(74, &[&a, &b], "in tcp/80 +A -B; in tcp/81 +B -A");
    cnp(75, &[&a], "in tcp/80 +A");
    // Of other namespaces, or about others, they say nothing of this pod.
    let spec = "{endpointSelector: {matchLabels: {app: web, 'k8s:io.kubernetes.pod.namespace': other}}, \
                ingress: [{}]}";
    let (objects, _) = read(CNP, spec);
    check(&Case::new(0, objects), "in tcp/80 -A");
    let (mut objects, _) = read(CNP, "{endpointSelector: {}, ingress: [{}]}");
    objects[0].key.namespace = "other".into();
    check(&Case::new(0, objects), "in tcp/80 +A");
    let np = "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}";
    let (np, _) = read(NP, np);
    let deny = format!("ingressDeny: [{{{FROM_A}}}]");
    let both = [np, self::objects(CNP, &[&deny])].concat();
    let case = Case::new(51, both);
    check(&case, "in tcp/80 -A");
    assert_eq!(case.action(Direction::Ingress, A, (6, 80)), Action::Deny);
    assert_eq!(
        case.action(Direction::Ingress, B, (6, 80)),
        Action::DefaultDeny
    );
}
