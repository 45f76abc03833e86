// SPDX-License-Identifier: Apache-2.0
//! The chart in the hands of the real Helm: it has no complaint, makes the same objects as `isthmus install`, and refuses
//! the same values.

mod kubernetes_common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kubernetes_common::programs;
use serde_json::Value;
use testbed::process::{Done, finish};

const LIMIT: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "network";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/chart");
/// Helm renders for a cluster, also when there is none.
const KUBERNETES: &str = "1.34.0";
const ENDPOINTS: &str = "etcd.endpoints={https://10.0.0.10:2379}";

/// Values that together take every branch of the templates.
const GOOD: [&[&str]; 4] = [
    &[ENDPOINTS],
    &["etcd.enabled=false", "ipv6.enabled=true"],
    &[
        ENDPOINTS,
        "etcd.ssl=false",
        "operator.prometheus.enabled=false",
        "operator.podAnnotations.note=x",
        "cluster.name=cluster5",
        "cluster.id=5",
        "image.digest=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "podLabels.tier=network",
        "podAnnotations.note=x",
        "devices={eth0,eth1}",
        "labels=k8s:app",
        r"nodeSelector.example\.com/network=yes",
        "updateStrategy.rollingUpdate.maxSurge=0",
    ],
    &[
        ENDPOINTS,
        "ipam.mode=cluster-pool",
        "prometheus.enabled=true",
        "dashboards.enabled=true",
        "dashboards.annotations.grafana_folder=Network",
        "k8sServiceHost=172.31.5.101",
        "k8sServicePort=6443",
        "resources.requests.memory=64Mi,resources.requests.cpu=1",
        "updateStrategy.rollingUpdate.maxUnavailable=10%",
        r"nodeSelector.kubernetes\.io/os=null",
        "tolerations=null",
        "extraConfig.debug=yes",
        "operator.replicas=1",
        "operator.resources.requests.memory=32Mi",
        "operator.podLabels.tier=network",
        "cni.chainingMode=portmap",
    ],
];
/// Values that make no installation.
const BAD: [&str; 6] = [
    "operator.replicas=some",
    "cluster.id=600",
    "cluster.id=five",
    "cni.chainingMode=bridge",
    "dashboards.enabled=maybe",
    "unheard.of=1",
];

struct Tools {
    helm: PathBuf,
    isthmus: PathBuf,
}

impl Tools {
    fn find() -> Self {
        let programs = programs().with_isthmus().expect("the product is built");
        Self {
            helm: programs.kubernetes.with_file_name("helm"),
            isthmus: programs.isthmus.expect("added above"),
        }
    }

    fn helm(&self, words: &[&str], values: &[&str]) -> Done {
        let home = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(&self.helm);
        // It keeps caches at home.
        command.env("HOME", home.path()).args(words);
        run(command, values)
    }

    fn rendered(&self, values: &[&str]) -> Done {
        let version = ["--kube-version", KUBERNETES, "--namespace", NAMESPACE];
        let words = ["template", "isthmus", CHART, "--include-crds"];
        self.helm(&[&words[..], &version].concat(), values)
    }

    fn printed(&self, values: &[&str]) -> Done {
        let mut command = Command::new(&self.isthmus);
        command.args(["install", "--namespace", NAMESPACE]);
        run(command, values)
    }
}

fn run(mut command: Command, values: &[&str]) -> Done {
    for value in values {
        command.args(["--set", value]);
    }
    finish(command, &[], LIMIT).expect("it runs")
}

/// The objects of a stream of documents, in an order of their own.
fn objects(text: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    objects.retain(|object| !object.is_null());
    let key = |object: &Value| format!("{}{}", object["kind"], object["metadata"]["name"]);
    objects.sort_by_key(key);
    objects
}

#[test]
fn helm_and_install_make_the_same_objects() {
    let tools = Tools::find();
    for values in GOOD {
        let lint = tools.helm(&["lint", "--strict", CHART], values);
        assert!(lint.success, "{values:?}: {}{}", lint.stdout, lint.stderr);
        let helm = tools.rendered(values).output().expect("rendered");
        let own = tools.printed(values).output().expect("printed");
        let (helm, own) = (objects(&helm), objects(&own));
        assert!(own.len() > 8, "{values:?}: {own:?}");
        assert_eq!(helm.len(), own.len(), "{values:?}");
        for (theirs, ours) in helm.iter().zip(&own) {
            assert_eq!(theirs, ours, "{values:?}");
        }
    }
}

#[test]
fn both_refuse_the_same_values() {
    let tools = Tools::find();
    for bad in BAD {
        for done in [
            tools.rendered(&[ENDPOINTS, bad]),
            tools.printed(&[ENDPOINTS, bad]),
        ] {
            assert!(!done.success, "{}: {}", done.command, done.stdout);
            let name = bad.split(['.', '=']).next().expect("a name");
            assert!(
                done.stderr.contains(name),
                "{}: {}",
                done.command,
                done.stderr
            );
        }
    }
    assert!(Path::new(CHART).join("values.schema.json").exists());
}
