// SPDX-License-Identifier: Apache-2.0
//! Files in, changes and problems out.

use super::*;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: demo, labels: {app: web}}\nspec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}\n";
const POLICY: &str = "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: backend, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: backend}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend, 'k8s:io.cilium.k8s.policy.cluster': cluster5}}]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
";

fn update(manifests: &mut Manifests, files: &[(&str, String)]) -> Vec<ObjectEvent> {
    manifests.update(
        files
            .iter()
            .map(|(name, text)| (name.to_string(), Some(text.clone())))
            .collect(),
    )
}

#[test]
fn objects_come_and_go() {
    let mut manifests = Manifests::default();
    let events = update(
        &mut manifests,
        &[("a.yaml", format!("# head\n---\n{POD}---\n{POLICY}"))],
    );
    assert_eq!(events.len(), 2);
    assert_eq!(manifests.problems().len(), 0, "{:?}", manifests.problems());
    let events = update(&mut manifests, &[("a.yaml", POD.to_owned())]);
    assert!(matches!(&events[..], [ObjectEvent::PolicyGone(_)]));
    let events = update(&mut manifests, &[]);
    assert!(matches!(&events[..], [ObjectEvent::PodGone(_)]));
}

#[test]
fn an_unsupported_field_is_named_and_the_previous_version_stays() {
    let mut manifests = Manifests::default();
    update(&mut manifests, &[("p.yaml", POLICY.to_owned())]);
    let bad = POLICY.replace("  - fromEndpoints", "  - icmps: []\n    fromEndpoints");
    assert!(update(&mut manifests, &[("p.yaml", bad)]).is_empty());
    let text = manifests.problems().first().expect("a problem").to_string();
    assert!(
        text.contains("spec.ingress[0].icmps") && text.contains("previous version stays"),
        "{text}"
    );
}

#[test]
fn half_valid_files_apply_their_valid_half() {
    let mut manifests = Manifests::default();
    let events = update(
        &mut manifests,
        &[("a.yaml", format!("{POD}---\nkind: [\n"))],
    );
    assert_eq!(events.len(), 1);
    let text = manifests.problems().first().expect("a problem").to_string();
    assert!(
        text.starts_with("a.yaml (document 2): not valid YAML"),
        "{text}"
    );
    assert!(
        update(&mut manifests, &[("a.yaml", "kind: [\n".to_owned())]).is_empty(),
        "the pod stays"
    );
}

#[test]
fn moving_an_object_between_files_is_no_change() {
    let mut manifests = Manifests::default();
    update(&mut manifests, &[("b.yaml", POD.to_owned())]);
    for name in ["c.yaml", "a.yaml", "b.yaml"] {
        let events = update(&mut manifests, &[(name, POD.to_owned())]);
        assert!(events.is_empty(), "{name}: {events:?}");
        assert!(manifests.problems().is_empty());
    }
    let changed = POD.replace("app: web", "app: other");
    let events = update(&mut manifests, &[("a.yaml", changed)]);
    assert!(matches!(&events[..], [ObjectEvent::Pod(_)]), "{events:?}");
}

#[test]
fn absent_and_empty_peers_stay_apart() {
    let read = |peers: &str| {
        let text = format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p}}\nspec: {{endpointSelector: {{}}, ingress: [{{{peers}}}]}}\n"
        );
        let mut manifests = Manifests::default();
        let events = update(&mut manifests, &[("p.yaml", text)]);
        let Some(ObjectEvent::Policy(policy)) = events.first() else {
            panic!("{:?}", manifests.problems())
        };
        policy.rules[0].ingress.as_ref().expect("ingress")[0]
            .peers
            .clone()
    };
    assert_eq!(read("").endpoints, None);
    assert_eq!(read("fromEndpoints: []").endpoints, Some(vec![]));
    assert_eq!(
        read("fromEndpoints: [{}]").endpoints,
        Some(vec![model::Selector::default()])
    );
}

#[test]
fn refusals_name_their_field() {
    for (spec, expected) in [
        (
            "{endpointSelector: {}, ingress: [{fromEntities: [moon]}]}",
            "spec.ingress[0].fromEntities[0]: unknown entity",
        ),
        (
            "{endpointSelector: {}, ingress: [{fromCIDR: ['10.0.0.0/99']}]}",
            "spec.ingress[0].fromCIDR[0]",
        ),
        (
            "{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: http_1}]}]}]}",
            "spec.ingress[0].toPorts[0].ports[0].port: \"http_1\" is neither a number",
        ),
        (
            "{endpointSelector: {}, egress: [{toFQDNs: []}]}",
            "spec.egress[0].toFQDNs: this field is not supported",
        ),
        ("{ingress: [{}]}", "endpointSelector is missing"),
        (
            "{endpointSelector: {}, ingress: []}",
            "spec: none of ingress",
        ),
        (
            "{endpointSelector: {}, ingress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}]}",
            "spec.ingress[0].fromCIDRSet[0]: except[0]: 11.0.0.0/16 is not inside",
        ),
        (
            "{endpointSelector: {matchLabels: {app: 1.10}}, ingress: [{}]}",
            "spec.endpointSelector.matchLabels.app: expected text",
        ),
        (
            "{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: '+80'}]}]}]}",
            "spec.ingress[0].toPorts[0].ports[0].port",
        ),
    ] {
        let text = format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}\n"
        );
        let mut manifests = Manifests::default();
        assert!(
            update(&mut manifests, &[("p.yaml", text)]).is_empty(),
            "{spec}"
        );
        let problem = manifests.problems().first().expect("a problem").to_string();
        assert!(problem.contains(expected), "{spec}: {problem}");
    }
}
