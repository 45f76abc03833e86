// SPDX-License-Identifier: Apache-2.0
//! NetworkPolicy from manifest to verdict: the decision cases 76 to 89 of the policy language, by their numbers, and what
//! is refused.

mod verdicts;

use verdicts::{A, B, Case, E, H, N, NP, PING, R, TCP, X, read};

/// The policy about W that says `rest`.
#[track_caller]
fn np(number: u32, rest: &str) -> Case {
    let (objects, problems) = read(
        NP,
        &format!("{{podSelector: {{matchLabels: {{app: web}}}}{rest}}}"),
    );
    assert!(problems.is_empty(), "case {number}: {problems:?}");
    Case::new(number, objects)
}

#[test]
fn isolation() {
    let (objects, problems) = read(NP, "{podSelector: {}}");
    assert!(problems.is_empty(), "{problems:?}");
    Case::new(76, objects)
        .ingress(&[A, X, E, R], TCP, false)
        .egress(&[A, E], TCP, true);
    np(76, "")
        .ingress(&[A], PING, false)
        .ingress(&[H], TCP, true);
    np(77, ", ingress: [{}]")
        .ingress(&[A, E, X, R, N], TCP, true)
        .ingress(&[A], PING, true);
    np(79, ", policyTypes: [Egress]")
        .egress(&[A, E], TCP, false)
        .ingress(&[A], TCP, true);
    let a = "{from: [{podSelector: {matchLabels: {app: a}}}]}";
    np(80, &format!(", policyTypes: [Egress], ingress: [{a}]"))
        .ingress(&[A], TCP, true)
        .ingress(&[B], TCP, false)
        .egress(&[A], TCP, false);
    np(81, ", egress: [{to: [{podSelector: {}}]}]")
        .ingress(&[A], TCP, false)
        .egress(&[A, B], TCP, true)
        .egress(&[X, E], TCP, false);
    np(0, ", policyTypes: [Ingress, Egress]")
        .ingress(&[A], TCP, false)
        .egress(&[A], TCP, false);
}

#[test]
fn peers() {
    np(82, ", ingress: [{from: [{podSelector: {}}]}]")
        .ingress(&[A], TCP, true)
        .ingress(&[X, R], TCP, false);
    np(83, ", ingress: [{from: [{namespaceSelector: {}}]}]")
        .ingress(&[A, X], TCP, true)
        .ingress(&[N, E, R], TCP, false);
    let team = "namespaceSelector: {matchLabels: {team: x}}";
    let app = |app: &str| format!("podSelector: {{matchLabels: {{app: {app}}}}}");
    np(
        84,
        &format!(", ingress: [{{from: [{{{team}, {}}}]}}]", app("a")),
    )
    .ingress(&[X], TCP, true)
    .ingress(&[A], TCP, false);
    np(
        85,
        &format!(", ingress: [{{from: [{{{team}}}, {{{}}}]}}]", app("b")),
    )
    .ingress(&[X, B], TCP, true)
    .ingress(&[A], TCP, false);
    np(0, ", ingress: [{from: [{}]}]")
        .ingress(&[A, B], TCP, true)
        .ingress(&[X, E], TCP, false);
    // What lacks a label is in no namespace, or in one without it.
    let lacks =
        "namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [x]}]}";
    np(0, &format!(", ingress: [{{from: [{{{lacks}}}]}}]"))
        .ingress(&[A, B], TCP, true)
        .ingress(&[X, E, N, R], TCP, false);
    // A pod of another cluster by name.
    let other = "podSelector: {matchLabels: {app: a, io.cilium.k8s.policy.cluster: cluster7}}";
    np(0, &format!(", ingress: [{{from: [{{{other}}}]}}]"))
        .ingress(&[R], TCP, true)
        .ingress(&[A], TCP, false);
    // Labels whose names mean something elsewhere are labels.
    for key in ["io.kubernetes.pod.namespace: other", "'reserved:host': ''"] {
        let labels = format!("podSelector: {{matchLabels: {{{key}}}}}");
        np(0, &format!(", ingress: [{{from: [{{{labels}}}]}}]")).ingress(
            &[A, X, E, N, R],
            TCP,
            false,
        );
    }
    np(87, ", ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]")
        .ingress(&[E], TCP, true)
        .ingress(&[A], TCP, false);
    np(
        0,
        ", ingress: [{from: [{ipBlock: {cidr: 192.0.0.0/16, except: [192.0.2.0/24]}}]}]",
    )
    .ingress(&[E], TCP, false);
}

#[test]
fn ports() {
    np(78, ", ingress: [{from: [], ports: [{port: 80}]}]")
        .ingress(&[E, A], TCP, true)
        .ingress(&[E, A], (6, 81), false)
        .ingress(&[E, A], (17, 80), false)
        .ingress(&[A], PING, false);
    np(86, ", ingress: [{ports: [{protocol: TCP}]}]")
        .ingress(&[A], (6, 1), true)
        .ingress(&[A], (17, 1), false);
    np(
        0,
        ", egress: [{ports: [{port: 53, protocol: UDP}, {port: 8000, endPort: 8999}]}]",
    )
    .egress(&[A, E], (17, 53), true)
    .egress(&[A, E], (6, 8500), true)
    .egress(&[A], (6, 9000), false)
    .egress(&[A], (6, 53), false);
    np(0, ", ingress: [{from: [{podSelector: {}}], ports: []}]").ingress(&[A], PING, true);
}

#[test]
fn beside_others() {
    let of = |app: &str| format!("[{{matchLabels: {{app: {app}}}}}]");
    let cnp = |list: String| {
        let kind = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy";
        let web = "endpointSelector: {matchLabels: {app: web}}";
        let (objects, problems) = read(kind, &format!("{{{web}, {list}}}"));
        assert!(problems.is_empty(), "{problems:?}");
        objects
    };
    let (np, _) = read(
        NP,
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}]}",
    );
    let both = [
        np.clone(),
        cnp(format!("ingress: [{{fromEndpoints: {}}}]", of("b"))),
    ];
    Case::new(89, both.concat())
        .ingress(&[A, B], TCP, true)
        .ingress(&[X], TCP, false);
    let both = [
        np,
        cnp(format!("ingressDeny: [{{fromEndpoints: {}}}]", of("a"))),
    ];
    Case::new(51, both.concat()).ingress(&[A], TCP, false);
}

#[test]
fn ports_by_name() {
    let cnp = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy";
    let of = |kind: &str, spec: &str| {
        let (objects, problems) = read(kind, spec);
        assert!(problems.is_empty(), "{problems:?}");
        objects
    };
    for (number, objects) in [
        (
            37,
            of(
                cnp,
                "{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: HTTP, protocol: TCP}]}]}]}",
            ),
        ),
        (37, of(NP, "{ingress: [{ports: [{port: http}]}]}")),
    ] {
        Case::new(number, objects)
            .ingress(&[A, B, X], (6, 8080), true)
            .ingress(&[A, B, X], TCP, false)
            .ingress(&[A], (17, 8080), false);
    }
    for objects in [
        of(
            cnp,
            "{endpointSelector: {}, egress: [{toPorts: [{ports: [{port: http, protocol: TCP}]}]}]}",
        ),
        of(
            NP,
            "{policyTypes: [Egress], egress: [{ports: [{port: http}]}]}",
        ),
    ] {
        Case::new(39, objects)
            .egress(&[A], (6, 8080), true)
            .egress(&[B], (6, 9090), true)
            .egress(&[A], (6, 9090), false)
            .egress(&[B, X, E], (6, 8080), false);
    }
    let other = of(
        NP,
        "{ingress: [{ports: [{port: https}, {port: http, protocol: UDP}]}]}",
    );
    Case::new(38, other)
        .ingress(&[A], (6, 8080), false)
        .ingress(&[A], TCP, false);
    let both = of(NP, "{ingress: [{ports: [{port: http}, {port: 80}]}]}");
    Case::new(37, both)
        .ingress(&[A], (6, 8080), true)
        .ingress(&[A], TCP, true);
}

#[test]
fn refusals() {
    for (spec, field) in [
        (
            "{ingress: [{ports: [{protocol: foo}]}]}",
            "spec.ingress[0].ports[0].protocol: protocol \"foo\" is not supported",
        ),
        (
            "{ingress: [{ports: [{port: a--b}]}]}",
            "spec.ingress[0].ports[0].port: \"a--b\" is neither a number",
        ),
        (
            "{ingress: [{ports: [{port: http, endPort: 90}]}]}",
            "spec.ingress[0].ports[0]: endPort needs a port by number",
        ),
        (
            "{ingress: [{ports: [{port: 0}]}]}",
            "spec.ingress[0].ports[0].port: expected a number",
        ),
        (
            "{ingress: [{ports: [{port: 80, endPort: 79}]}]}",
            "spec.ingress[0].ports[0]: endPort",
        ),
        (
            "{ingress: [{ports: [{endPort: 79}]}]}",
            "spec.ingress[0].ports[0]: endPort",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
            "spec.ingress[0].from[0]: ipBlock cannot stand",
        ),
        (
            "{ingress: [{from: [{ipBlock: {}}]}]}",
            "spec.ingress[0].from[0].ipBlock: cidr is missing",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]}]}",
            "11.0.0.0/9",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}]}",
            "stands for IPv4 addresses",
        ),
        (
            "{policyTypes: [Both]}",
            "spec.policyTypes[0]: unknown type \"Both\"",
        ),
        (
            "{ingress: [{to: []}]}",
            "spec.ingress[0].to: this field is not supported",
        ),
        ("{tiers: []}", "spec.tiers: this field is not supported"),
    ] {
        let (objects, problems) = read(NP, spec);
        assert!(objects.is_empty(), "{spec}");
        assert!(
            problems[0].contains("NetworkPolicy prod/p: "),
            "{problems:?}"
        );
        assert!(problems[0].contains(field), "{spec}: {problems:?}");
    }
}
