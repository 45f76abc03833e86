// SPDX-License-Identifier: Apache-2.0
//! Pods and namespaces, trimmed to what the network needs.

use std::sync::Arc;

use model::{NamedPort, Namespace, Pod, PodKey, Protocol};

use crate::field::Field;
use crate::{FieldError, object};

/// Most labels of an object, and the longest keys and values. An identity has those of a pod and of its namespace.
const MAX_LABELS: usize = 256;
const MAX_KEY: usize = 317;
const MAX_VALUE: usize = 63;
/// What a kubelet writes on the object of a static pod: the UID by which it runs it.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// `restartPolicy` of an init container that runs as long as its pod.
const SIDECAR: &str = "Always";

pub(crate) fn pod(root: &Field<'_>) -> Result<Pod, FieldError> {
    let metadata = object::metadata(root)?;
    let spec = root
        .get("spec")
        .ok_or_else(|| root.error("spec is missing"))?;
    let text = |field: &Field<'_>, key: &str| -> Result<Arc<str>, FieldError> {
        field
            .get(key)
            .map_or_else(|| Ok("".into()), |field| field.scalar().map(Into::into))
    };
    let account = text(&spec, "serviceAccountName")?;
    let mirrored = match metadata.get("annotations") {
        Some(annotations) => text(&annotations, MIRROR)?,
        None => "".into(),
    };
    Ok(Pod {
        key: PodKey {
            namespace: object::namespace(&metadata)?.into(),
            name: object::name(&metadata)?.into(),
        },
        uid: text(&metadata, "uid")?,
        mirrored,
        node: text(&spec, "nodeName")?,
        service_account: if account.is_empty() {
            "default".into()
        } else {
            account
        },
        host_network: spec
            .get("hostNetwork")
            .map_or(Ok(false), |field| field.bool())?,
        labels: labels(&metadata)?.into_iter().collect(),
        named_ports: named_ports(&spec)?.into(),
    })
}

pub(crate) fn namespace(root: &Field<'_>) -> Result<Namespace, FieldError> {
    let metadata = object::metadata(root)?;
    Ok(Namespace {
        name: object::name(&metadata)?,
        labels: labels(&metadata)?.into_iter().collect(),
    })
}

pub(crate) fn labels(metadata: &Field<'_>) -> Result<Vec<(String, String)>, FieldError> {
    let Some(field) = metadata.get("labels") else {
        return Ok(Vec::new());
    };
    let labels = field.text_map()?;
    if labels.len() > MAX_LABELS {
        return Err(field.error(format!(
            "{} labels, at most {MAX_LABELS} are allowed",
            labels.len()
        )));
    }
    let bad = |text: &str, max: usize| {
        text.len() > max || text.contains([';', '=']) || text.chars().any(char::is_control)
    };
    match labels
        .iter()
        .find(|(key, value)| key.is_empty() || bad(key, MAX_KEY) || bad(value, MAX_VALUE))
    {
        Some((key, _)) => Err(field.error(format!("label {key:?} is not a valid label"))),
        None => Ok(labels),
    }
}

/// The ports by name of containers that run beside each other: the pod's containers and its sidecars.
fn named_ports(spec: &Field<'_>) -> Result<Vec<NamedPort>, FieldError> {
    let all = |key| spec.list_of(key, Ok).map(Option::unwrap_or_default);
    let mut ports = Vec::new();
    for container in all("containers")? {
        ports.extend(ports_of(&container)?);
    }
    for container in all("initContainers")? {
        let restart = container.get("restartPolicy");
        if restart.map(|policy| policy.text()).transpose()? == Some(SIDECAR) {
            ports.extend(ports_of(&container)?);
        }
    }
    ports.sort();
    Ok(ports)
}

fn ports_of(container: &Field<'_>) -> Result<Vec<NamedPort>, FieldError> {
    let mut named = Vec::new();
    for port in container.list_of("ports", Ok)?.unwrap_or_default() {
        let Some(name) = port.get("name") else {
            continue;
        };
        let number = port
            .get("containerPort")
            .ok_or_else(|| port.error("containerPort is missing"))?;
        let protocol = port.get("protocol");
        named.push(NamedPort {
            name: name.text()?.into(),
            port: number.port()?,
            protocol: protocol.map_or(Ok(Protocol::Tcp), |protocol| protocol.protocol())?,
        });
    }
    Ok(named)
}
