// SPDX-License-Identifier: Apache-2.0
//! Whose object an endpoint goes by: its own pod's, and not that of another pod of the same name. And of which namespace the
//! pods are that a policy is about.

use super::*;

const ID: EndpointId = EndpointId(10);

fn key() -> PodKey {
    PodKey {
        namespace: "demo".into(),
        name: "db-0".into(),
    }
}

/// The object of a pod with the label `app`.
fn pod(uid: &str, mirrored: &str, app: &str) -> ObjectEvent {
    ObjectEvent::Pod(model::Pod {
        key: key(),
        uid: uid.into(),
        mirrored: mirrored.into(),
        node: "n1".into(),
        service_account: "default".into(),
        host_network: false,
        labels: [("app".to_owned(), app.to_owned())].into(),
        named_ports: [].into(),
    })
}

/// With an endpoint that a runtime made for the pod with this UID.
fn core_with(uid: &str) -> Core<Fake> {
    let mut core = core();
    core.endpoint_dir = "/dev/null/endpoints".into();
    let mut endpoint = endpoint(ID, key());
    endpoint.attachment.uid = uid.into();
    core.restore_endpoint(endpoint).expect("room");
    core
}

fn app(core: &Core<Fake>) -> Option<String> {
    let labels = core.labels_of(&core.endpoints[&ID].attachment)?;
    labels.get("k8s", "app").map(|label| label.value().into())
}

#[test]
fn a_pod_that_still_runs_does_not_get_the_labels_of_the_next_one_of_its_name() {
    let mut core = core_with("u-1");
    objects(&mut core, vec![pod("u-1", "", "old")]);
    assert_eq!(app(&core).as_deref(), Some("old"));
    let labels = core.stale_labels().remove(0).labels;
    core.relabel(ID, labels, NumericIdentity(WEB.0 + 1));

    objects(&mut core, vec![pod("u-2", "", "new")]);
    assert!(core.stale_labels().is_empty());
    assert!(core.pod_of(&core.endpoints[&ID].attachment).is_none());
}

/// What is heard of the pod before says nothing about the one whose container is there.
#[test]
fn a_new_pod_does_not_get_the_labels_of_the_one_before() {
    let mut core = core_with("u-2");
    objects(&mut core, vec![pod("u-1", "", "old")]);
    assert_eq!(app(&core), None);
    objects(&mut core, vec![pod("u-2", "", "new")]);
    assert_eq!(app(&core).as_deref(), Some("new"));
}

#[test]
fn a_static_pod_runs_by_the_uid_that_its_mirror_names() {
    let mut core = core_with("5f9a");
    objects(&mut core, vec![pod("u-1", "5f9a", "static")]);
    assert_eq!(app(&core).as_deref(), Some("static"));
    objects(&mut core, vec![pod("u-2", "77c0", "changed")]);
    assert_eq!(app(&core), None);
}

#[test]
fn without_a_uid_the_name_says_whose_an_endpoint_is() {
    let mut core = core_with("");
    objects(&mut core, vec![pod("u-1", "", "old")]);
    assert_eq!(app(&core).as_deref(), Some("old"));
    let mut core = core_with("u-1");
    objects(&mut core, vec![pod("", "", "manifest")]);
    assert_eq!(app(&core).as_deref(), Some("manifest"));
}

/// It is in force, but not as it is written.
#[test]
fn a_policy_about_pods_of_another_namespace_says_that_it_is_about_its_own() {
    let mut core = core();
    let mut object = policy(Peers {
        entities: Some(vec![Entity::All]),
        ..Peers::default()
    });
    let named = |namespace: &str| {
        let key = format!("k8s:{}", model::keys::NAMESPACE);
        let is = model::Operator::In([namespace.to_owned()].into());
        model::Selector::new([model::Requirement::new(&key, is)])
    };
    object.rules[0].subject = named("other");
    objects(&mut core, vec![ObjectEvent::Policy(object.clone())]);
    let told = core.verdicts().remove(&object.key).expect("told");
    let how =
        "endpointSelector names namespace other: it is in force for pods of demo, the policy's own";
    assert_eq!(told, Verdict::Otherwise(how.into()));
    object.rules[0].subject = named("demo");
    objects(&mut core, vec![ObjectEvent::Policy(object.clone())]);
    assert_eq!(core.verdicts().remove(&object.key), Some(Verdict::InForce));
}
