// SPDX-License-Identifier: Apache-2.0
//! Manifests: two versions of a file, separated by a line `===`, and the policies in them compiled for a few identities.

use std::collections::BTreeMap;

use kubernetes::{Manifests, ObjectEvent};
use model::{ClusterId, ClusterName, EndpointId, IdentityScheme, Labels, NumericIdentity};
use policy::{EnforcementMode, Engine, Families, Room, Settings};

const SUBJECTS: [(u32, &str); 3] = [
    (
        5 << 16 | 1,
        "k8s:app=backend;k8s:io.cilium.k8s.policy.cluster=cluster5;k8s:io.kubernetes.pod.namespace=default;",
    ),
    (
        5 << 16 | 2,
        "k8s:app=frontend;k8s:io.cilium.k8s.policy.cluster=cluster5;k8s:io.kubernetes.pod.namespace=default;",
    ),
    (
        7 << 16 | 1,
        "k8s:app=frontend;k8s:io.cilium.k8s.policy.cluster=cluster7;k8s:io.kubernetes.pod.namespace=default;",
    ),
];

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut manifests = Manifests::default();
    let mut engine = Engine::new(settings());
    for (identity, labels) in SUBJECTS {
        let labels = Labels::parse(labels.as_bytes()).expect("labels of this file");
        engine.upsert_identity(NumericIdentity(identity), labels);
    }
    engine.upsert_endpoint(EndpointId(1), NumericIdentity(SUBJECTS[0].0));
    for version in text.splitn(2, "\n===\n") {
        let files = BTreeMap::from([("file.yaml".to_owned(), Some(version.to_owned()))]);
        apply(&mut engine, manifests.update(files.clone()));
        assert_eq!(
            manifests.update(files),
            [],
            "the same file changed something"
        );
    }
    apply(&mut engine, manifests.update(BTreeMap::new()));
    assert_eq!(engine.policies().count(), 0, "policies of no file");
}

fn apply(engine: &mut Engine, events: Vec<ObjectEvent>) {
    for event in events {
        match event {
            ObjectEvent::Policy(object) => engine
                .upsert_policy(object)
                .expect("what is read is validated"),
            ObjectEvent::PolicyGone(key) => engine.remove_policy(&key),
            // A group that finds no room is refused, as a policy is.
            ObjectEvent::CidrGroup(object) => drop(engine.upsert_group(object.group)),
            ObjectEvent::CidrGroupGone(name) => drop(engine.remove_group(&name)),
            _ => {}
        }
    }
    engine.commit();
}

fn settings() -> Settings {
    Settings {
        cluster_id: ClusterId(5),
        cluster: ClusterName::new("cluster5").expect("a valid name"),
        scheme: IdentityScheme::default(),
        default_local_cluster: true,
        families: Families::Dual,
        mode: EnforcementMode::Default,
        allow_localhost: true,
        max_classes: 2048,
        room: Room::UNBOUNDED,
    }
}
