// SPDX-License-Identifier: Apache-2.0
//! Groups of prefixes and the policies that name them, from either source.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fake;

use std::collections::BTreeMap;
use std::time::Duration;

use fake::Fake;
use kubernetes::api::Source;
use kubernetes::{CidrGroupObject, Follow, Manifests, ObjectEvent};
use policy::{GroupRule, PolicyObject};
use serde_json::{Value, json};

/// What a manifest becomes, or why it is refused.
fn read(document: &Value) -> Result<ObjectEvent, String> {
    let mut manifests = Manifests::default();
    let files = BTreeMap::from([("a.yaml".to_owned(), Some(document.to_string()))]);
    let events = manifests.update(files);
    match manifests.problems().first() {
        Some(problem) => Err(problem.to_string()),
        None => Ok(events.into_iter().next().unwrap()),
    }
}

fn group(cidrs: Value) -> Value {
    json!({"apiVersion": "cilium.io/v2", "kind": "CiliumCIDRGroup",
        "metadata": {"name": "vpn", "labels": {"role": "a"}}, "spec": {"externalCIDRs": cidrs}})
}

fn group_of(document: &Value) -> CidrGroupObject {
    match read(document) {
        Ok(ObjectEvent::CidrGroup(group)) => group,
        other => panic!("{other:?}"),
    }
}

fn policy(list: &str, set: Value) -> Value {
    let mut spec = json!({"endpointSelector": {}});
    let side = if list.starts_with("ingress") {
        "fromCIDRSet"
    } else {
        "toCIDRSet"
    };
    spec[list] = json!([{ side: set }]);
    json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec})
}

fn groups_of(list: &str, set: Value) -> (usize, Vec<GroupRule>) {
    let Ok(ObjectEvent::Policy(PolicyObject { rules, .. })) = read(&policy(list, set)) else {
        panic!("refused");
    };
    let entry = rules[0].entries().next().unwrap();
    let cidrs = entry.peers.cidrs.as_ref().unwrap();
    (cidrs.len(), entry.peers.groups.clone())
}

#[test]
fn a_group_has_its_prefixes_labels_and_name() {
    let object = group_of(&group(json!(["192.0.2.7/24", "2001:db8::/32"])));
    let prefixes: Vec<_> = object
        .group
        .prefixes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(prefixes, ["192.0.2.0/24", "2001:db8::/32"]);
    let labels: Vec<_> = object
        .group
        .labels
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        labels,
        [
            "cidrgroup:role=a",
            "cidrgroup:io.cilium.policy.cidrgroupname/vpn"
        ]
    );
    assert_eq!(object.ignored, None);
    let mut old = group(json!([]));
    old["apiVersion"] = "cilium.io/v2alpha1".into();
    assert!(group_of(&old).group.prefixes.is_empty());
}

#[test]
fn a_bad_member_is_left_out_and_a_bad_group_refused() {
    let object = group_of(&group(json!(["x", "192.0.2.0/24", "10.0.0.1"])));
    assert_eq!(object.group.prefixes.len(), 1);
    assert_eq!(
        object.ignored.as_deref(),
        Some(
            "spec.externalCIDRs[0]: \"x\" is not a prefix such as 192.0.2.0/24 or 2001:db8::/32: it is ignored, and so are 1 more"
        )
    );
    let many = vec!["192.0.2.0/24"; 32_768];
    for (document, reason) in [
        (group(json!("x")), "spec.externalCIDRs: expected a list"),
        (group(json!(null)), "spec: externalCIDRs is missing"),
        (
            group(json!(many)),
            "spec.externalCIDRs: 32768 prefixes, at most 32767",
        ),
    ] {
        let error = read(&document).unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert!(error.contains("CiliumCIDRGroup vpn"), "{error}");
    }
}

#[test]
fn elements_name_a_prefix_or_groups() {
    for list in ["ingress", "ingressDeny", "egress", "egressDeny"] {
        let (cidrs, groups) = groups_of(
            list,
            json!([
                {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]},
                {"cidrGroupRef": "vpn", "except": ["192.0.2.0/25"]},
                {"cidrGroupSelector": {"matchLabels": {"role": "a"}, "matchExpressions": [{"key": "cidrgroup:env", "operator": "Exists"}]}},
                {"cidrGroupSelector": {}},
            ]),
        );
        assert_eq!(cidrs, 1, "{list}");
        let texts: Vec<_> = groups
            .iter()
            .map(|rule| rule.selector.to_string())
            .collect();
        assert_eq!(
            texts,
            [
                "cidrgroup:io.cilium.policy.cidrgroupname/vpn",
                "cidrgroup:env,cidrgroup:role=a",
                "{}"
            ]
        );
        assert_eq!(groups[0].except.len(), 1);
    }
    for (element, reason) in [
        (
            json!({}),
            "fromCIDRSet[0]: none of cidr, cidrGroupRef, cidrGroupSelector is given",
        ),
        (
            json!({"cidr": "10.0.0.0/8", "cidrGroupRef": "vpn"}),
            "fromCIDRSet[0]: cidr, cidrGroupRef and cidrGroupSelector cannot stand in one element",
        ),
        (
            json!({"cidrGroupRef": ""}),
            "fromCIDRSet[0].cidrGroupRef: \"\" is not a name",
        ),
        (
            json!({"cidrGroupSelector": {"matchLabel": {}}}),
            "fromCIDRSet[0].cidrGroupSelector.matchLabel: this field is not supported",
        ),
        (
            json!({"cidrGroupRef": "vpn", "except": ["x"]}),
            "fromCIDRSet[0].except[0]: \"x\" is not a prefix",
        ),
    ] {
        let error = read(&policy("ingress", json!([element]))).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn an_api_server_says_the_same_as_a_manifest() {
    const PATH: &str = "/apis/cilium.io/v2/ciliumcidrgroups";
    let (fake, _running) = Fake::start().await;
    let document = group(json!(["192.0.2.0/24"]));
    fake.put(PATH, "vpn", document.clone());
    let client = fake.client().await;
    let mut source = Source::new(&client, "n1", None);
    let patience = Duration::from_secs(20);
    let first = tokio::time::timeout(patience, source.next()).await.unwrap();
    assert_eq!(first.events, [read(&document).unwrap()]);
    fake.delete(PATH, "vpn");
    let gone = tokio::time::timeout(patience, source.next()).await.unwrap();
    assert_eq!(gone.events, [ObjectEvent::CidrGroupGone("vpn".into())]);
}

#[tokio::test]
async fn a_group_whose_manifest_is_refused_stays_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (manifests, state) = (dir.path().join("m"), dir.path().join("state"));
    std::fs::create_dir(&manifests).unwrap();
    let file = manifests.join("vpn.yaml");
    let good = group(json!(["192.0.2.0/24"]));
    std::fs::write(&file, good.to_string()).unwrap();
    let wanted = [read(&good).unwrap()];
    let mut follow = Follow::new(&manifests, Some(state.clone())).unwrap();
    assert_eq!(follow.next().await.events, wanted);
    drop(follow);
    std::fs::write(&file, group(json!("x")).to_string()).unwrap();
    let mut follow = Follow::new(&manifests, Some(state)).unwrap();
    let update = follow.next().await;
    assert_eq!(update.events, wanted);
    assert!(update.problems[0].previous_stays, "{:?}", update.problems);
}
