// SPDX-License-Identifier: Apache-2.0
//! ClusterIP services as agents translate them: before policy, and with an answer when nobody is there.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::kubernetes::Cluster;
use testbed::kubernetes::isthmus::NAMESPACE;

use super::{answer, check, pods};

const PORT: u16 = 80;

/// Agents translate services before policy: a pod that may only reach the pods behind a service reaches them by it, and one
/// that may not does not. A service without pods refuses at once.
pub(crate) fn are_what_policy_is_about(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let web = pods(cluster, "web");
    let from = &web[0].name;
    let service = kubectl.get(&["service", "web"]).expect("the service");
    let addresses = service["spec"]["clusterIPs"].as_array().expect("a list");
    let addresses: Vec<&str> = addresses.iter().filter_map(Value::as_str).collect();
    assert_eq!(addresses.len(), 2, "both families");
    let url = |address: &str| super::url(address.parse().expect("an address"), 80);
    let agents = kubectl.pods(NAMESPACE, "k8s-app=cilium").expect("listed");
    for agent in &agents {
        check("the agent lists the service", || {
            let list = kubectl.exec(NAMESPACE, &agent.name, &["cilium", "service", "list"])?;
            let port = |address: &&str| {
                format!(
                    "{}/TCP",
                    url(address)
                        .trim_start_matches("http://")
                        .trim_end_matches('/')
                )
            };
            Ok(addresses
                .iter()
                .all(|address| list.contains(&port(address))))
        });
    }
    let policy = |app: &str| {
        json!({
            "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "out"},
            "spec": {
                "endpointSelector": {"matchLabels": {"app": "web"}},
                "egress": [{
                    "toEndpoints": [{"matchLabels": {"app": app}}],
                    "toPorts": [{"ports": [{"port": PORT.to_string(), "protocol": "TCP"}]}],
                }],
            },
        })
        .to_string()
    };
    for (app, open) in [("nobody", false), ("web", true)] {
        kubectl.apply(&policy(app)).expect("applied");
        for address in &addresses {
            check(&format!("{address} for those who may reach {app}"), || {
                Ok(answer(&kubectl, from, &url(address)).is_ok() == open)
            });
        }
    }
    kubectl.delete(&policy("web")).expect("deleted");
    let nobody = super::service("nobody", PORT).to_string();
    kubectl.apply(&nobody).expect("applied");
    let service = kubectl.get(&["service", "nobody"]).expect("the service");
    let address = service["spec"]["clusterIP"].as_str().expect("an address");
    check("a service without pods refuses", || {
        let started = Instant::now();
        let error = answer(&kubectl, from, &url(address)).err();
        let refused = error.is_some_and(|error| error.to_string().contains("(7)"));
        Ok(refused && started.elapsed() < Duration::from_secs(1))
    });
    kubectl.delete(&nobody).expect("deleted");
}
