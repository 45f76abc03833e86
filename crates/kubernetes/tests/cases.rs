// SPDX-License-Identifier: Apache-2.0
//! Decision cases of the policy language that need what is not supported, by their numbers: each is refused whole, and
//! the refusal names the field or the kind. The other cases are those of `crates/policy/tests/cases.rs`,
//! `cilium_policy.rs` and `network_policy.rs`.

use std::collections::BTreeMap;

use kubernetes::{Manifests, ObjectEvent};

fn read(text: String) -> (Vec<ObjectEvent>, Vec<String>) {
    let mut manifests = Manifests::default();
    let events = manifests.update(BTreeMap::from([("p.yaml".to_owned(), Some(text))]));
    let problems = manifests.problems();
    (events, problems.iter().map(ToString::to_string).collect())
}

fn cnp(kind: &str, spec: &str) -> String {
    format!("apiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {{name: p}}\nspec: {spec}\n")
}

#[test]
fn fields() {
    let web = "endpointSelector: {matchLabels: {app: web}}";
    let a = "fromEndpoints: [{matchLabels: {app: a}}]";
    let service = "toServices: [{k8sService: {serviceName: s, namespace: n}}]";
    let https = "toPorts: [{ports: [{port: '443'}]}]";
    let get = |protocol: &str| {
        format!(
            "{{ports: [{{port: '80', protocol: {protocol}}}], rules: {{http: [{{method: GET}}]}}}}"
        )
    };
    for (number, list, field) in [
        (
            25,
            format!("egress: [{{toFQDNs: [], {https}}}]"),
            "spec.egress[0].toFQDNs",
        ),
        (
            26,
            format!("egress: [{{{service}, {https}}}]"),
            "spec.egress[0].toServices",
        ),
        (
            27,
            format!("egress: [{{{service}}}]"),
            "spec.egress[0].toServices",
        ),
        (
            28,
            format!("egressDeny: [{{{service}, {https}}}]"),
            "spec.egressDeny[0].toServices",
        ),
        (
            29,
            format!("egress: [{{{service}}}]"),
            "spec.egress[0].toServices",
        ),
        (
            30,
            format!("ingress: [{{{a}, fromCIDR: [10.0.0.0/8]}}]"),
            "spec.ingress[0]: fromEndpoints and fromCIDR",
        ),
        (
            40,
            "ingress: [{icmps: [{fields: [{type: 8, family: IPv4}]}]}]".into(),
            "spec.ingress[0].icmps",
        ),
        (
            41,
            "ingress: [{icmps: [{fields: [{type: 0}]}]}]".into(),
            "spec.ingress[0].icmps",
        ),
        (
            42,
            "ingress: [{icmps: [{fields: [{type: 8}]}]}]".into(),
            "spec.ingress[0].icmps",
        ),
        (
            45,
            format!("ingress: [{{{a}, toPorts: [{}]}}]", get("TCP")),
            "spec.ingress[0].toPorts[0].rules",
        ),
        (
            46,
            format!(
                "ingress: [{{toPorts: [{}]}}], enableDefaultDeny: {{ingress: false}}",
                get("TCP")
            ),
            "toPorts[0].rules",
        ),
        (
            47,
            format!("ingress: [{{toPorts: [{}]}}]", get("UDP")),
            "spec.ingress[0].toPorts[0].rules",
        ),
    ] {
        let (events, problems) = read(cnp("CiliumNetworkPolicy", &format!("{{{web}, {list}}}")));
        assert!(events.is_empty(), "case {number}: {events:?}");
        assert!(problems[0].contains(field), "case {number}: {problems:?}");
        assert!(
            problems[0].starts_with("p.yaml (document 1): CiliumNetworkPolicy default/p: "),
            "{problems:?}"
        );
    }
    let node = "{nodeSelector: {}, ingress: [{}]}";
    let (events, problems) = read(cnp("CiliumClusterwideNetworkPolicy", node));
    assert!(events.is_empty(), "case 102");
    assert!(
        problems[0].contains("spec.nodeSelector: this field is not supported"),
        "case 102: {problems:?}"
    );
}

#[test]
fn kinds() {
    let kind = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n";
    let (events, problems) = read(format!("{kind}metadata: {{name: p}}\nspec: {{}}\n"));
    assert!(events.is_empty(), "cases 90 to 97");
    let expected = "kind: policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy is not supported";
    assert!(
        problems[0].contains(expected),
        "cases 90 to 97: {problems:?}"
    );
}

/// Every field of the language that is not supported, wherever it may stand.
#[test]
fn every_other_field() {
    let refused = |spec: &str, field: &str| {
        let (events, problems) = read(cnp("CiliumNetworkPolicy", spec));
        assert!(events.is_empty(), "{spec}");
        assert!(
            problems[0].contains(&format!("{field}: ")),
            "{spec}: {problems:?}"
        );
    };
    let with =
        |list: &str, element: &str| format!("{{endpointSelector: {{}}, {list}: [{element}]}}");
    for list in ["ingress", "ingressDeny", "egress", "egressDeny"] {
        let side = if list.starts_with('i') { "from" } else { "to" };
        for field in ["Nodes", "Groups", "Requires"] {
            let name = format!("{side}{field}");
            refused(
                &with(list, &format!("{{{name}: []}}")),
                &format!("spec.{list}[0].{name}"),
            );
        }
        let other = if side == "from" { "to" } else { "from" };
        for field in ["Endpoints", "Entities", "CIDR", "CIDRSet"] {
            let name = format!("{other}{field}");
            refused(
                &with(list, &format!("{{{name}: []}}")),
                &format!("spec.{list}[0].{name}"),
            );
        }
        refused(
            &with(list, "{authentication: {mode: required}}"),
            &format!("spec.{list}[0].authentication"),
        );
        for field in [
            "rules",
            "terminatingTLS",
            "originatingTLS",
            "serverNames",
            "listener",
        ] {
            let path = format!("spec.{list}[0].toPorts[0].{field}");
            refused(
                &with(list, &format!("{{toPorts: [{{{field}: {{}}}}]}}")),
                &path,
            );
        }
    }
    refused(
        "{endpointSelector: {}, ingress: [{}], log: {value: x}}",
        "spec.log",
    );
    refused(
        "{endpointSelector: {}, nodeSelector: {}, ingress: [{}]}",
        "spec.nodeSelector",
    );
    for protocol in [
        "VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH", "ICMP", "6", "",
    ] {
        let element = format!("{{toPorts: [{{ports: [{{port: '0', protocol: '{protocol}'}}]}}]}}");
        refused(
            &with("ingress", &element),
            "spec.ingress[0].toPorts[0].ports[0].protocol",
        );
    }
    for port in [
        "''",
        "'65536'",
        "'-1'",
        "'080'",
        "1.5",
        "'a--b'",
        "'-a'",
        "sixteen-letters-",
    ] {
        let element = format!("{{toPorts: [{{ports: [{{port: {port}}}]}}]}}");
        refused(
            &with("ingress", &element),
            "spec.ingress[0].toPorts[0].ports[0].port",
        );
    }
    for cidr in [
        "10.0.0.1",
        "10.0.0.0/33",
        "::/129",
        "10.0.0/8",
        "x",
        "::ffff:10.0.0.0/104",
        "::ffff:a00:1/128",
    ] {
        let element = format!("{{fromCIDR: ['{cidr}']}}");
        refused(&with("ingress", &element), "spec.ingress[0].fromCIDR[0]");
    }
    for (expression, path) in [
        ("{key: a, operator: Is}", "operator"),
        ("{key: a, operator: In}", ""),
        ("{key: a, operator: NotIn, values: []}", ""),
        ("{key: a, operator: Exists, values: [x]}", ""),
        ("{operator: Exists}", ""),
        ("{key: '', operator: Exists}", "key"),
        ("{key: 'k8s:', operator: Exists}", "key"),
        ("{key: ':a', operator: Exists}", "key"),
        ("{key: a, operator: In, values: [1]}", "values[0]"),
        ("{key: a, operator: Exists, extra: x}", "extra"),
    ] {
        let element = format!("{{fromEndpoints: [{{matchExpressions: [{expression}]}}]}}");
        let path = format!("spec.ingress[0].fromEndpoints[0].matchExpressions[0].{path}");
        refused(&with("ingress", &element), path.trim_end_matches('.'));
    }
    let many = "{port: '80'},".repeat(41);
    refused(
        &with("ingress", &format!("{{toPorts: [{{ports: [{many}]}}]}}")),
        "spec.ingress[0].toPorts[0]",
    );
}

#[test]
fn specs_are_several_rules() {
    let rule = "{endpointSelector: {}, ingress: [{}]}";
    let text = cnp(
        "CiliumNetworkPolicy",
        &format!("{rule}\nspecs: [{rule}, {rule}]"),
    );
    let (events, problems) = read(text);
    let [ObjectEvent::Policy(policy)] = &events[..] else {
        panic!("{problems:?}")
    };
    assert_eq!(policy.rules.len(), 3);
    let bad = "{endpointSelector: {}, ingress: []}";
    for (spec, field) in [
        (
            format!("{rule}\nspecs: [{rule}, {bad}]"),
            "specs[1]: none of",
        ),
        (format!("null\nspecs: [{rule}, {bad}]"), "specs[1]: none of"),
        (format!("{bad}\nspecs: [{rule}]"), "spec: none of"),
        ("null\nspecs: []".into(), "neither spec nor specs"),
        (
            format!("{rule}\nrules: []"),
            "rules: this field is not supported",
        ),
    ] {
        let (events, problems) = read(cnp("CiliumNetworkPolicy", &spec));
        assert!(events.is_empty(), "{spec}");
        assert!(problems[0].contains(field), "{spec}: {problems:?}");
    }
}
