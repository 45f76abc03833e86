// SPDX-License-Identifier: Apache-2.0
//! The decision cases of the policy language: what Cilium decides, numbered.

mod common;

use common::case::*;
use common::{selector, settings};
use model::{EndpointId, NumericIdentity, reserved};
use policy::{Action, Direction, EnforcementMode, Entry, Peers, PortProtocol, Rule, Settings};

#[test]
fn default_deny_1_to_13() {
    let t80 = (TCP, 80);
    let case = Case::with(settings(), []);
    case.ingress(1, &[A, E, R, H], t80, true);
    case.egress(1, &[A, E, R, H], t80, true);
    let case = one(allow([Entry::default()]));
    case.ingress(2, &[A], t80, false);
    case.egress(2, &[A, E], t80, true);
    let refused = Case::new(settings())
        .engine
        .upsert_policy(policy("p", allow([])));
    assert!(
        refused
            .expect_err("case 3")
            .to_string()
            .contains("ingressDeny")
    );
    let case = one(Rule {
        ingress: Some(vec![]),
        ..allow_to([all(entities(&["all"]))])
    });
    case.ingress(4, &[A], t80, true);
    case.egress(4, &[E], t80, true);
    let from_a = || allow([all(endpoints(&["app=a"]))]);
    one(open(from_a())).ingress(5, &[B], t80, true);
    two(open(from_a()), from_a()).ingress(6, &[B], t80, false);
    let not_a = || deny([all(endpoints(&["app=a"]))]);
    one(not_a()).ingress(7, &[A, B], t80, false);
    let case = one(open(not_a()));
    case.ingress(8, &[A], t80, false);
    case.ingress(8, &[B], t80, true);
    let always = Settings {
        mode: EnforcementMode::Always,
        ..settings()
    };
    Case::with(always, []).ingress(9, &[A, H], t80, false);
    let never = Settings {
        mode: EnforcementMode::Never,
        ..settings()
    };
    Case::with(never, [policy("p", not_a())]).ingress(10, &[A], t80, true);
    let mut case = Case::new(settings());
    case.engine.upsert_endpoint(EndpointId(1), reserved::INIT);
    case.commit();
    case.ingress(11, &[A, E, H], t80, false);
    case.egress(11, &[A, E, H], t80, false);
    one(allow([on(endpoints(&[]), tcp(80))])).ingress(12, &[A], t80, false);
    let case = one(allow([on(Peers::default(), tcp(80))]));
    case.ingress(13, &[A, E, N], t80, true);
    case.ingress(13, &[A], (TCP, 81), false);
}

#[test]
fn scopes_14_to_24() {
    let t80 = (TCP, 80);
    let check = |number, case: Case, yes: &[u32], no: &[u32]| {
        case.ingress(number, yes, t80, true);
        case.ingress(number, no, t80, false);
    };
    let from = |text: &str| one(allow([all(endpoints(&[text]))]));
    check(14, from(""), &[A], &[X, R, E, N]);
    check(
        15,
        Case::with(settings(), [clusterwide(allow([all(endpoints(&[""]))]))]),
        &[A, X],
        &[R, E, HEALTH],
    );
    let anywhere = Settings {
        default_local_cluster: false,
        ..settings()
    };
    check(
        16,
        Case::with(anywhere, [policy("p", allow([all(endpoints(&[""]))]))]),
        &[R],
        &[X],
    );
    check(17, from("app=a"), &[A], &[X, R]);
    check(
        18,
        from("app=a,k8s:io.kubernetes.pod.namespace=other"),
        &[X],
        &[A],
    );
    check(19, from("app=a,io.kubernetes.pod.namespace"), &[A, X], &[R]);
    check(
        20,
        from("app=a,io.cilium.k8s.policy.cluster"),
        &[A, R],
        &[X],
    );
    check(
        21,
        from("io.cilium.k8s.namespace.labels.team=x"),
        &[X],
        &[A],
    );
    check(22, from("reserved:host"), &[H], &[N]);
    check(23, from("!reserved:host"), &[E, X, R], &[U]);
    check(24, one(allow([on(entities(&[]), tcp(80))])), &[], &[A]);
}

#[test]
fn mixed_peers_30() {
    let peers = Peers {
        endpoints: Some(vec![]),
        ..cidr("10.0.0.0/8", &[])
    };
    let mut case = Case::with(
        settings(),
        [policy("p", allow([all(endpoints(&["app=a"]))]))],
    );
    let error = case
        .engine
        .upsert_policy(policy("p", allow([all(peers)])))
        .expect_err("case 30");
    assert_eq!(
        error.to_string(),
        "cnp prod/p: rules[0].ingress[0]: fromEndpoints and fromCIDR cannot stand in one element: make two elements"
    );
    case.commit();
    case.ingress(30, &[A], (TCP, 80), true);
}

#[test]
fn ports_31_to_36() {
    let a = || endpoints(&["app=a"]);
    let case = one(allow([on(a(), tcp(80))]));
    case.ingress(31, &[A], (UDP, 80), false);
    let case = one(allow([on(a(), port(80, None, PortProtocol::Any))]));
    [TCP, UDP, 132]
        .into_iter()
        .for_each(|p| case.ingress(32, &[A], (p, 80), true));
    case.ingress(32, &[A], PING, false);
    let case = one(allow([on(a(), tcp(0))]));
    [1, 80, 65535]
        .into_iter()
        .for_each(|p| case.ingress(33, &[A], (TCP, p), true));
    case.ingress(33, &[A], (UDP, 53), false);
    let case = one(allow([all(a())]));
    [(TCP, 1), (UDP, 53), PING]
        .into_iter()
        .for_each(|f| case.ingress(34, &[A], f, true));
    let case = one(allow([on(a(), port(80, Some(443), PortProtocol::Tcp))]));
    [80, 81, 300, 443]
        .into_iter()
        .for_each(|p| case.ingress(35, &[A], (TCP, p), true));
    [79, 444]
        .into_iter()
        .for_each(|p| case.ingress(35, &[A], (TCP, p), false));
    let case = one(allow([on(a(), port(100, Some(50), PortProtocol::Tcp))]));
    case.ingress(36, &[A], (TCP, 100), true);
    case.ingress(36, &[A], (TCP, 75), false);
}

#[test]
fn precedence_48_to_57() {
    let everyone = || entities(&["all"]);
    let a = || endpoints(&["app=a"]);
    let case = two(allow([all(a())]), deny([on(everyone(), tcp(80))]));
    case.ingress(48, &[A], (TCP, 80), false);
    case.ingress(48, &[A], (TCP, 81), true);
    case.ingress(48, &[A], PING, true);
    two(allow([all(everyone())]), deny([all(a())])).ingress(49, &[A], (TCP, 7), false);
    let case = two(allow([on(everyone(), tcp(80))]), deny([on(a(), tcp(80))]));
    case.ingress(50, &[B], (TCP, 80), true);
    case.ingress(50, &[A], (TCP, 80), false);
    assert_eq!(case.verdict(Direction::Ingress, A, (TCP, 80)), Action::Deny);
    let host = || cidr("192.0.2.3/32", &[]);
    two(deny([all(entities(&["world"]))]), allow([all(host())])).ingress(
        52,
        &[E],
        (TCP, 80),
        false,
    );
    let net = || cidr("192.0.2.0/24", &[]);
    two(deny([all(net())]), allow([all(host())])).ingress(53, &[E], (TCP, 80), false);
    let case = two(allow([all(net())]), deny([all(host())]));
    case.ingress(54, &[E], (TCP, 80), false);
    case.ingress(54, &[E9], (TCP, 80), true);
    let egress_deny = Some(vec![on(entities(&["world"]), tcp(8080))]);
    let case = one(Rule {
        egress_deny,
        ..allow_to([all(host())])
    });
    case.egress(55, &[E], (TCP, 8080), false);
    case.egress(55, &[E], (TCP, 80), true);
    two(allow([on(net(), tcp(8080))]), deny([all(host())])).ingress(56, &[E], (TCP, 8080), false);
    one(deny([all(everyone())])).ingress(57, &[H], (TCP, 80), false);
}

#[test]
fn prefixes_58_to_63() {
    let t80 = (TCP, 80);
    let holed = || allow([all(cidr("192.0.0.0/8", &["192.0.2.0/24"]))]);
    one(holed()).ingress(58, &[E], t80, false);
    two(holed(), allow([all(cidr("192.0.2.0/25", &[]))])).ingress(59, &[E], t80, true);
    one(allow_to([all(cidr("10.0.0.0/8", &[]))])).egress(60, &[A, N], t80, false);
    let case = one(allow_to([all(cidr("0.0.0.0/0", &[]))]));
    case.egress(62, &[E], t80, true);
    case.egress(62, &[A, N, E6], t80, false);
    let other = Rule {
        ingress: None,
        ..allow_to([on(cidr("192.0.2.3/32", &[]), tcp(81))])
    };
    two(allow_to([all(entities(&["world"]))]), other).egress(63, &[E, E6], t80, true);
}

#[test]
fn entities_64_to_75() {
    let t80 = (TCP, 80);
    let case = one(allow([all(entities(&["cluster"]))]));
    case.ingress(64, &[A, X, N, H], t80, true);
    case.ingress(64, &[R, E], t80, false);
    case.ingress(65, &[U], t80, true);
    one(allow([all(endpoints(&["app=a"]))])).ingress(66, &[U], t80, false);
    one(allow([all(entities(&["cluster-mesh"]))])).ingress(67, &[R], t80, true);
    let case = one(allow([all(entities(&["remote-node"]))]));
    case.ingress(68, &[N, H, 0x0200_0001], t80, true);
    case.ingress(68, &[A], t80, false);
    let from_a = || policy("p", allow([all(endpoints(&["app=a"]))]));
    Case::with(settings(), [from_a()]).ingress(71, &[H], t80, true);
    let strict = Settings {
        allow_localhost: false,
        ..settings()
    };
    Case::with(strict, [from_a()]).ingress(72, &[H], t80, false);
    let b81 = || allow([on(endpoints(&["app=b"]), tcp(81))]);
    let case = two(allow([on(endpoints(&["app=a"]), tcp(80))]), b81());
    case.ingress(74, &[A], t80, true);
    case.ingress(74, &[B], (TCP, 81), true);
    case.ingress(74, &[A], (TCP, 81), false);
    let a80 = || allow([on(endpoints(&["app=a"]), tcp(80))]);
    let mut case = two(a80(), a80());
    case.engine.remove_policy(&policy("q", a80()).key);
    case.commit();
    case.ingress(75, &[A], t80, true);
}

#[test]
fn api_server_69_and_70() {
    let api = || allow_to([all(entities(&["kube-apiserver"]))]);
    let case = one(api());
    case.egress(69, &[7], (TCP, 6443), true);
    case.egress(69, &[N, E], (TCP, 6443), false);
    let mut case = one(allow_to([Entry::default()]));
    case.egress(70, &[7], (TCP, 6443), false);
    case.engine
        .upsert_policy(policy("q", api()))
        .expect("valid");
    case.commit();
    case.egress(70, &[7], (TCP, 6443), true);
}

#[test]
fn health_endpoints_73() {
    let mut object = clusterwide(allow([Entry::default()]));
    object.rules[0].subject = selector("");
    let mut case = Case::with(settings(), [object]);
    case.engine.upsert_endpoint(EndpointId(1), reserved::HEALTH);
    case.commit();
    case.ingress(73, &[N], (TCP, 4240), false);
}

#[test]
fn rules_are_named() {
    let case = two(
        allow([on(endpoints(&["app=a"]), tcp(80))]),
        deny([all(endpoints(&["app=b"]))]),
    );
    let text = |peer, number| {
        let why = case.engine.explain(
            EndpointId(1),
            Direction::Ingress,
            NumericIdentity(peer),
            TCP,
            number,
        );
        why.and_then(|why| why.rule).map(|rule| rule.text)
    };
    assert_eq!(
        text(A, 80).as_deref(),
        Some("allowed by cnp prod/p ingress[0]")
    );
    assert_eq!(
        text(B, 80).as_deref(),
        Some("denied by cnp prod/q ingressDeny[0]")
    );
    let default = "default deny of ingress begun by cnp prod/p, cnp prod/q";
    assert_eq!(text(A, 81).as_deref(), Some(default));
    assert_eq!(
        text(H, 81).as_deref(),
        Some("allowed: the local host may reach its endpoints")
    );
    assert_eq!(case.engine.enforcement(EndpointId(1)), (true, false));
    assert!(!case.engine.rows_of(EndpointId(1)).is_empty());
}
