// SPDX-License-Identifier: Apache-2.0
//! Lists, changes, refusals and restarts of what is followed.

use serde_json::{Value, json};
use tables::Event;

use super::*;
use crate::api::trim::trimmed;

fn name(namespace: &str, name: &str) -> Name {
    Name {
        namespace: namespace.into(),
        name: name.into(),
    }
}

fn document(value: Value) -> Document {
    Document { value, shown: None }
}

fn pod(labels: &Value) -> Document {
    let pod = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": labels,
            "annotations": {"kubernetes.io/config.mirror": "5f9a", "notes": "long"}, "managedFields": [{"manager": "kubelet"}], "resourceVersion": "5"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "B"}], "ports": [{"name": "http", "containerPort": 80}]}, {"name": "d"}], "initContainers": [
            {"name": "sidecar", "image": "i", "restartPolicy": "Always", "ports": [{"name": "metrics", "containerPort": 9100}]},
            {"name": "setup", "ports": [{"name": "once", "containerPort": 1}]},
        ], "volumes": []},
        "status": {"phase": "Running"},
    });
    document(trimmed(Kind::Pod, pod))
}

fn policy(field: &str) -> Document {
    let mut spec = json!({"endpointSelector": {}});
    spec[field] = json!([{}]);
    document(trimmed(
        Kind::CiliumNetworkPolicy,
        json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec, "status": {"conditions": []}}),
    ))
}

#[test]
fn pods_are_trimmed_to_what_is_read() {
    let text = pod(&json!({"app": "web"})).value.to_string();
    for absent in [
        "managedFields",
        "notes",
        "env",
        "image",
        "volumes",
        "status",
        "resourceVersion",
    ] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
    let Some(crate::Object::Pod(pod)) = object::read(&pod(&json!({"app": "web"})).value).unwrap()
    else {
        panic!("no pod");
    };
    assert_eq!((&*pod.node, &*pod.uid), ("n1", "u"));
    assert!(pod.is_run_as("u") && pod.is_run_as("5f9a") && !pod.is_run_as("v"));
    // A sidecar runs beside the containers, another init container does not.
    let named = pod.named_ports.iter();
    let named: Vec<_> = named.map(|port| (&*port.name, port.port)).collect();
    assert_eq!(named, [("http", 80), ("metrics", 9100)]);
}

#[test]
fn a_list_replaces_what_it_does_not_name_and_tells_only_changes() {
    let mut objects = Objects::new("n1");
    let (web, db) = (name("shop", "web"), name("shop", "db"));
    let mut put = |event| objects.take(Kind::Pod, event).0;
    assert!(put(Event::Init).is_empty());
    assert!(put(Event::InitApply(web.clone(), pod(&json!({})))).is_empty());
    assert!(put(Event::InitApply(db, pod(&json!({})))).is_empty());
    assert_eq!(put(Event::InitDone).len(), 2);
    // The same again with one less.
    put(Event::Init);
    put(Event::InitApply(web.clone(), pod(&json!({}))));
    assert!(matches!(
        put(Event::InitDone)[..],
        [ObjectEvent::PodGone(_)]
    ));
    // A list that breaks off changes nothing.
    put(Event::Init);
    assert!(put(Event::Init).is_empty());
    put(Event::InitApply(web.clone(), pod(&json!({"a": "b"}))));
    assert!(matches!(put(Event::InitDone)[..], [ObjectEvent::Pod(_)]));
    assert!(put(Event::Apply(web.clone(), pod(&json!({"a": "b"})))).is_empty());
    assert!(matches!(
        put(Event::Delete(web.clone()))[..],
        [ObjectEvent::PodGone(_)]
    ));
    assert!(put(Event::Delete(web)).is_empty());
}

#[test]
fn a_refused_version_leaves_the_one_before() {
    let mut objects = Objects::new("n1");
    let p = name("shop", "p");
    let mut put = |event| objects.take(Kind::CiliumNetworkPolicy, event).0;
    assert_eq!(put(Event::Apply(p.clone(), policy("ingress"))).len(), 1);
    assert!(put(Event::Apply(p.clone(), policy("nonsense"))).is_empty());
    let problems = objects.problems("api");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].previous_stays && problems[0].reason.contains("spec.nonsense"));
    let texts = &objects.saved().kinds["ciliumnetworkpolicies"];
    assert!(texts.len() == 1 && !texts[0].contains("nonsense"));
    let (events, _) = objects.take(
        Kind::CiliumNetworkPolicy,
        Event::Apply(p.clone(), policy("ingress")),
    );
    assert!(events.is_empty() && objects.problems("api").is_empty());
    let (events, _) = objects.take(Kind::CiliumNetworkPolicy, Event::Delete(p));
    assert!(matches!(events[..], [ObjectEvent::PolicyGone(_)]));
}

#[test]
fn what_a_policy_shows_is_told_apart_from_what_it_says() {
    let mut objects = Objects::new("n1");
    let p = name("shop", "p");
    let mut put = |event| objects.take(Kind::CiliumNetworkPolicy, event).0;
    put(Event::Apply(p.clone(), policy("ingress")));
    let shown = Condition::of(&crate::Verdict::InForce, None, "t".into());
    let marked = Document {
        shown: Some(shown.clone()),
        ..policy("ingress")
    };
    let events = put(Event::Apply(p.clone(), marked.clone()));
    let [ObjectEvent::PolicyShows(key, now)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(
        (key.to_string().as_str(), now),
        ("cnp shop/p", &Some(shown))
    );
    assert!(put(Event::Apply(p.clone(), marked)).is_empty());
    assert!(matches!(
        put(Event::Apply(p.clone(), policy("ingress")))[..],
        [ObjectEvent::PolicyShows(_, None)]
    ));
    assert!(matches!(
        put(Event::Delete(p))[..],
        [ObjectEvent::PolicyGone(_)]
    ));
}

#[test]
fn what_was_saved_comes_back_and_is_swapped() {
    let mut objects = Objects::new("n1");
    for kind in Kind::ALL {
        objects.take(kind, Event::Init);
        if kind == Kind::Pod {
            objects.take(kind, Event::InitApply(name("shop", "web"), pod(&json!({}))));
        }
        assert!(!objects.is_complete());
        objects.take(kind, Event::InitDone);
    }
    assert!(objects.is_complete());
    let saved = objects.saved();
    assert!(Objects::new("n2").restore(saved.clone()).is_none());
    let mut next = Objects::new("n1");
    assert_eq!(
        next.restore(saved.clone()).map(|events| events.len()),
        Some(1)
    );
    assert!(!next.is_complete() && next.is_known(Kind::Pod));
    assert_eq!(next.saved(), saved);
    // The server comes back without the pod.
    next.take(Kind::Pod, Event::Init);
    assert!(matches!(
        next.take(Kind::Pod, Event::InitDone).0[..],
        [ObjectEvent::PodGone(_)]
    ));
    // A kind that is not served is complete, and what is known of it stays.
    next.not_served(Kind::Namespace);
    assert_eq!(
        next.restore(Saved {
            node: "n1".into(),
            kinds: BTreeMap::new()
        }),
        None
    );
}

/// Whatever one kind that is missing on disk keeps from being told, the live list tells.
#[test]
fn a_state_without_a_kind_is_not_half_taken() {
    let mut objects = Objects::new("n1");
    let web = || (name("shop", "web"), pod(&json!({})));
    for kind in Kind::ALL {
        objects.take(kind, Event::Init);
        if kind == Kind::Pod {
            let (name, pod) = web();
            objects.take(kind, Event::InitApply(name, pod));
        }
        objects.take(kind, Event::InitDone);
    }
    for missing in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Pod) {
        let mut saved = objects.saved();
        saved.kinds.remove(missing.plural());
        let mut next = Objects::new("n1");
        assert_eq!(next.restore(saved), None);
        let (name, pod) = web();
        next.take(Kind::Pod, Event::Init);
        next.take(Kind::Pod, Event::InitApply(name, pod));
        let (events, _) = next.take(Kind::Pod, Event::InitDone);
        assert!(matches!(events[..], [ObjectEvent::Pod(_)]), "{missing:?}");
    }
}

#[test]
fn more_objects_than_are_followed_are_told_of() {
    let mut objects = Objects::new("n1");
    objects.most = 2;
    let put = |objects: &mut Objects, event: fn(Name, Document) -> Event<Name, Document>, n: u8| {
        let event = event(name("shop", &n.to_string()), pod(&json!({})));
        objects.take(Kind::Pod, event).0.len()
    };
    assert_eq!(put(&mut objects, Event::Apply, 1), 1);
    assert_eq!(put(&mut objects, Event::Apply, 2), 1);
    assert!(objects.problems("server").is_empty());
    assert_eq!(put(&mut objects, Event::Apply, 3), 0);
    let told = objects.problems("server");
    assert_eq!(told.len(), 1);
    assert!(told[0].reason.starts_with("there are more than 2 pods"));
    // A list can tell that they are fewer, or still too many.
    for (count, is_over) in [(3, true), (2, false)] {
        objects.take(Kind::Pod, Event::Init);
        for n in 0..count {
            put(&mut objects, Event::InitApply, n);
        }
        objects.take(Kind::Pod, Event::InitDone);
        assert_eq!(!objects.problems("server").is_empty(), is_over, "{count}");
    }
}
