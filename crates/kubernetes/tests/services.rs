// SPDX-License-Identifier: Apache-2.0
//! Services and slices from either source: what is read, what is refused, and that both say the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fake;

use std::collections::BTreeMap;
use std::time::Duration;

use fake::Fake;
use kubernetes::api::Source;
use kubernetes::{Manifests, ObjectEvent, Update};
use model::{EndpointSlice, Family, Protocol, Service};
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

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

fn service(spec: Value, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop", "labels": labels}, "spec": spec})
}

fn service_of(spec: Value, labels: Value) -> Service {
    match read(&service(spec, labels)) {
        Ok(ObjectEvent::Service(service)) => service,
        other => panic!("{other:?}"),
    }
}

fn slice(fields: Value) -> Value {
    let mut slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}}});
    for (key, value) in fields.as_object().unwrap() {
        slice[key] = value.clone();
    }
    slice
}

fn slice_of(fields: Value) -> EndpointSlice {
    match read(&slice(fields)) {
        Ok(ObjectEvent::EndpointSlice(slice)) => slice,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_is_read_with_its_defaults() {
    let service = service_of(
        json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{"port": 80}, {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "x", "nodePort": 30053}]}),
        json!({"app": "web"}),
    );
    let text = |ips: &[std::net::IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(service.key.to_string(), "shop/web");
    assert_eq!(text(&service.cluster_ips), ["10.96.0.1", "fd00::1"]);
    let ports = service.ports.iter();
    let ports: Vec<_> = ports.map(|p| (&*p.name, p.port, p.proto)).collect();
    assert_eq!(ports, [("", 80, Protocol::Tcp), ("dns", 53, Protocol::Udp)]);
    assert_eq!((service.affinity, service.local_only), (0, false));
    let old = service_of(json!({"clusterIP": "10.96.0.1"}), json!({}));
    assert_eq!(text(&old.cluster_ips), ["10.96.0.1"]);
}

#[test]
fn what_is_no_ones_or_anothers_has_no_cluster_ip() {
    for (spec, labels) in [
        (
            json!({"clusterIP": "None", "clusterIPs": ["None"]}),
            json!({}),
        ),
        (json!({"clusterIP": ""}), json!({})),
        (json!({}), json!({})),
        (
            json!({"type": "ExternalName", "externalName": "x.example", "clusterIP": "10.96.0.1"}),
            json!({}),
        ),
        (
            json!({"clusterIP": "10.96.0.1"}),
            json!({"service.kubernetes.io/service-proxy-name": "other"}),
        ),
    ] {
        let service = service_of(spec.clone(), labels);
        assert!(service.cluster_ips.is_empty(), "{spec}");
    }
}

#[test]
fn affinity_and_traffic_policy() {
    let with = |mut spec: Value| {
        spec["clusterIP"] = "10.96.0.1".into();
        service_of(spec, json!({}))
    };
    assert_eq!(with(json!({"sessionAffinity": "None"})).affinity, 0);
    assert_eq!(
        with(json!({"sessionAffinity": "ClientIP"})).affinity,
        10_800
    );
    let config = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 30}}});
    assert_eq!(with(config).affinity, 30);
    assert!(with(json!({"internalTrafficPolicy": "Local"})).local_only);
    assert!(!with(json!({"internalTrafficPolicy": "Cluster"})).local_only);
}

#[test]
fn what_is_wrong_with_a_service_is_named() {
    for (spec, reason) in [
        (
            json!({"clusterIP": "10.96.0"}),
            "spec.clusterIP: \"10.96.0\" is not an address",
        ),
        (
            json!({"clusterIPs": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]}),
            "spec.clusterIPs: 3 clusterIPs, at most 2 are allowed",
        ),
        (
            json!({"ports": [{"name": "http"}]}),
            "spec.ports[0]: port is missing",
        ),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: expected a port of 1 to 65535",
        ),
        (
            json!({"ports": [{"port": 1, "protocol": "ICMP"}]}),
            "spec.ports[0].protocol: unknown protocol",
        ),
        (
            json!({"sessionAffinity": "Cookie"}),
            "spec.sessionAffinity: \"Cookie\" is unknown; known: None, ClientIP",
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: expected 1 to 86400 seconds",
        ),
        (
            json!({"internalTrafficPolicy": "Near"}),
            "spec.internalTrafficPolicy: \"Near\" is unknown",
        ),
    ] {
        let error = read(&service(spec, json!({}))).unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert!(error.contains("Service shop/web"), "{error}");
    }
}

#[test]
fn a_slice_is_read_with_its_defaults() {
    let slice = slice_of(json!({
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "", "port": null}],
        "endpoints": [
            {"addresses": ["10.0.0.1", "10.0.0.9"], "nodeName": "n1"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        ],
    }));
    assert_eq!((&*slice.service, slice.family), ("web", Family::Ipv4));
    let ports: Vec<_> = slice.ports.iter().map(|p| (&*p.name, p.port)).collect();
    assert_eq!(ports, [("http", Some(8080)), ("", None)]);
    let endpoints: Vec<_> = slice
        .endpoints
        .iter()
        .map(|e| {
            (
                e.addr.to_string(),
                &*e.node,
                e.ready,
                e.serving,
                e.terminating,
            )
        })
        .collect();
    assert_eq!(
        endpoints,
        [
            ("10.0.0.1".to_owned(), "n1", true, true, false),
            ("10.0.0.2".to_owned(), "", false, false, false),
            ("10.0.0.3".to_owned(), "", false, true, true),
        ]
    );
    let names =
        slice_of(json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]}));
    assert!(names.endpoints.is_empty());
    assert!(
        slice_of(json!({"endpoints": null, "ports": null}))
            .ports
            .is_empty()
    );
    assert_eq!(&*slice_of(json!({"metadata": {"name": "x"}})).service, "");
}

#[test]
fn what_is_wrong_with_a_slice_is_named() {
    let many = vec![json!({"addresses": ["10.0.0.1"]}); 1001];
    for (fields, reason) in [
        (
            json!({"addressType": "IPv5"}),
            "addressType: \"IPv5\" is unknown",
        ),
        (json!({"addressType": null}), "addressType is missing"),
        (
            json!({"endpoints": [{"addresses": []}]}),
            "endpoints[0]: addresses is missing or empty",
        ),
        (
            json!({"endpoints": [{"addresses": ["web"]}]}),
            "endpoints[0].addresses[0]: \"web\" is not an address",
        ),
        (
            json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": "yes"}}]}),
            "endpoints[0].conditions.ready: expected true or false",
        ),
        (
            json!({"endpoints": many}),
            "endpoints: 1001 endpoints, at most 1000 are allowed",
        ),
        (
            json!({"ports": [{"port": 70000}]}),
            "ports[0].port: expected a port",
        ),
    ] {
        let error = read(&slice(fields)).unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert!(error.contains("EndpointSlice shop/web-x"), "{error}");
    }
}

async fn next(source: &mut Source) -> Update {
    let next = tokio::time::timeout(Duration::from_secs(20), source.next());
    next.await.expect("an update in time")
}

async fn source(fake: &Fake, file: Option<std::path::PathBuf>) -> Source {
    let client = fake.client().await;
    Source::new(&client, "n1", file)
}

#[tokio::test]
async fn an_api_server_says_the_same_as_a_manifest_and_what_it_said_is_kept() {
    let spec = json!({"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "selector": {"app": "web"},
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "internalTrafficPolicy": "Local", "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]});
    let parts = json!({"ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true}, "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "p"}, "zone": "z"}]});
    let (service, slice) = (service(spec, json!({"app": "web"})), slice(parts));
    let mut wanted = vec![read(&service).unwrap(), read(&slice).unwrap()];
    let (fake, running) = Fake::start().await;
    fake.put(SERVICES, "web", service.clone());
    fake.put(SLICES, "web-x", slice.clone());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("objects");
    let mut first = source(&fake, Some(file.clone())).await;
    assert_eq!(next(&mut first).await.events, wanted);
    let queries = fake.shared.lock().unwrap().queries.clone();
    let selector = |path: &str| {
        let query = queries.iter().find(|(asked, _)| asked == path);
        query
            .and_then(|(_, query)| query.get("labelSelector").cloned())
            .unwrap()
    };
    assert_eq!(
        selector(SERVICES),
        "!service.kubernetes.io/service-proxy-name"
    );
    assert!(selector(SLICES).starts_with("kubernetes.io/service-name,"));

    // Only what nobody reads.
    let mut same = slice.clone();
    same["metadata"]["annotations"] = json!({"a": "b"});
    same["endpoints"][0]["zone"] = "other".into();
    fake.put(SLICES, "web-x", same);
    let mut other = slice.clone();
    other["endpoints"][0]["conditions"]["ready"] = false.into();
    fake.put(SLICES, "web-x", other.clone());
    let changed = read(&other).unwrap();
    assert_eq!(
        next(&mut first).await.events,
        std::slice::from_ref(&changed)
    );
    wanted[1] = changed;
    tokio::time::timeout(Duration::from_secs(20), async {
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\\\"ready\\\":false"))
        {
            let _ = tokio::time::timeout(Duration::from_millis(100), first.next()).await;
        }
    })
    .await
    .expect("the state on disk");
    drop(first);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("targetRef") && !text.contains("selector"));

    fake.stop(running).await;
    let mut again = source(&fake, Some(file)).await;
    assert_eq!(next(&mut again).await.events, wanted, "from the disk");
    let _running = fake.again().await;
    fake.delete(SERVICES, "web");
    let gone = loop {
        let update = next(&mut again).await;
        if !update.events.is_empty() {
            break update.events;
        }
    };
    assert!(matches!(&gone[..], [ObjectEvent::ServiceGone(key)] if key.to_string() == "shop/web"));
}
