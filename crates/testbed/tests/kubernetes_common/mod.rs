// SPDX-License-Identifier: Apache-2.0
//! Objects and questions that the tests of Kubernetes labs share.
#![allow(dead_code, reason = "each test program uses its part")]

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::kubernetes::images::TOOLS;
use testbed::kubernetes::{Kubectl, Programs};
use testbed::{LabError, underlay};

/// How long what Kubernetes does may take on a busy machine.
pub(crate) const READY: Duration = Duration::from_secs(60);

pub(crate) fn programs() -> Programs {
    Programs::find(env!("CARGO_BIN_EXE_lab").into()).expect("Kubernetes is built")
}

/// A lab's name that no other run uses.
pub(crate) fn name(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

/// A pod on every node that answers HTTP with its node's name.
pub(crate) fn servers(name: &str, host_network: bool, port: u16) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "hostNetwork": host_network,
                    "terminationGracePeriodSeconds": 1,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{
                        "name": "server", "image": TOOLS,
                        "args": ["serve", "--name", "$(NODE)", "--port", port.to_string()],
                        "env": [{
                            "name": "NODE",
                            "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}},
                        }],
                        "readinessProbe": {"httpGet": {"path": "/", "port": port}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}

/// A service of both families for the pods called `name`.
pub(crate) fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "selector": {"app": name}, "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"port": 80, "targetPort": port}],
        },
    })
}

/// What `lab serve` says at `url`, asked with curl inside a pod: (server, client's address).
pub(crate) fn ask(kubectl: &Kubectl, pod: &str, url: &str) -> Result<(String, IpAddr), LabError> {
    let command = [
        "curl",
        "--silent",
        "--show-error",
        "--globoff",
        "--max-time",
        "2",
        url,
    ];
    let text = kubectl.exec("default", pod, &command)?;
    let wrong = || LabError::Unmet(format!("{url} answered {text:?}"));
    let page: Value = serde_json::from_str(&text).map_err(|_| wrong())?;
    let (server, client) = (page["server"].as_str(), page["client"].as_str());
    let client = client.and_then(|client| client.parse().ok());
    Ok((
        server.ok_or_else(wrong)?.to_owned(),
        client.ok_or_else(wrong)?,
    ))
}

/// As [`ask`], the server alone.
pub(crate) fn answer(kubectl: &Kubectl, pod: &str, url: &str) -> Result<String, LabError> {
    ask(kubectl, pod, url).map(|(server, _)| server)
}

/// `http://address:port/`.
pub(crate) fn url(address: IpAddr, port: u16) -> String {
    underlay::url(address, port)
}
