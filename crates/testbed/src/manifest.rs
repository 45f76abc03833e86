// SPDX-License-Identifier: Apache-2.0
//! The few fields of a Pod manifest that a kubelet acts on. Agents read the same files for the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Doing, LabError, Result};

/// A pod to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodManifest {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node it is bound to.
    pub node: String,
    /// Ports that its containers serve.
    pub ports: Vec<u16>,
}

#[derive(Deserialize)]
struct Object {
    kind: String,
    metadata: Metadata,
    spec: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: String,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    container_port: u16,
}

/// All pods in the manifests of a directory, by namespace and name.
///
/// # Errors
/// A file does not parse, or a pod names no node.
pub fn pods(dir: &Path) -> Result<Vec<PodManifest>> {
    let mut pods = BTreeMap::new();
    for entry in fs::read_dir(dir).doing("list", dir)?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).doing("read", &path)?;
        let wrong = |reason: String| LabError::Manifest {
            path: path.clone(),
            reason,
        };
        for pod in parse(&text).map_err(wrong)? {
            pods.insert((pod.namespace.clone(), pod.name.clone()), pod);
        }
    }
    Ok(pods.into_values().collect())
}

fn parse(text: &str) -> std::result::Result<Vec<PodManifest>, String> {
    let objects: Vec<Object> =
        serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    objects
        .into_iter()
        .filter(|object| object.kind == "Pod")
        .map(pod)
        .collect()
}

fn pod(object: Object) -> std::result::Result<PodManifest, String> {
    let name = object.metadata.name;
    let spec = object
        .spec
        .ok_or_else(|| format!("pod {name} has no spec"))?;
    let spec: PodSpec =
        serde_json::from_value(spec).map_err(|error| format!("pod {name}: {error}"))?;
    let ports = spec
        .containers
        .iter()
        .flat_map(|container| &container.ports);
    Ok(PodManifest {
        namespace: object
            .metadata
            .namespace
            .unwrap_or_else(|| "default".to_owned()),
        name,
        node: spec.node_name,
        ports: ports.map(|port| port.container_port).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_a_file_with_other_objects() {
        let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: Pod\n\
                    metadata:\n  name: web\n  namespace: shop\n  labels: {app: web}\nspec:\n  nodeName: node1\n  \
                    containers:\n  - name: web\n    image: web\n    ports: [{containerPort: 80}]\n";
        let pods = parse(text).expect("valid");
        assert_eq!(pods.len(), 1);
        assert_eq!(
            (pods[0].namespace.as_str(), pods[0].node.as_str()),
            ("shop", "node1")
        );
        assert_eq!(pods[0].ports, [80]);
    }

    #[test]
    fn a_pod_without_a_node_is_named() {
        let text = "kind: Pod\nmetadata: {name: lost}\nspec: {}\n";
        assert!(parse(text).expect_err("no node").contains("lost"));
    }
}
