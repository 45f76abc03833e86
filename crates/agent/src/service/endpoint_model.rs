// SPDX-License-Identifier: Apache-2.0
//! Endpoints in the words of the API, both ways.

use std::net::IpAddr;

use api::models::*;
use api::{Answer, ApiError, Timestamp};
use model::{EndpointId, PodKey};
use netlink::Mac;

use super::Service;
use super::identities::identity;
use crate::endpoint::{Attachment, Endpoint as Local};

impl Service {
    pub(super) fn model(&self, endpoint: &Local) -> Endpoint {
        let core = self.core();
        let a = &endpoint.attachment;
        let (ingress, egress) = core.engine.enforcement(a.id);
        let enabled = match (ingress, egress) {
            (false, false) => "none",
            (true, false) => "ingress",
            (false, true) => "egress",
            (true, true) => "both",
        };
        let policy = EndpointPolicy {
            build: core.realized as i64,
            policy_revision: core.realized as i64,
            id: endpoint.identity.0.into(),
            policy_enabled: enabled.into(),
            l4: Some(L4Policy::default()),
            ..Default::default()
        };
        let spec = spec();
        let labels: Vec<String> = endpoint.labels.iter().map(ToString::to_string).collect();
        let named_ports = core
            .pod_of(a)
            .map(|pod| pod.named_ports.clone())
            .unwrap_or_default();
        let pair = AddressPair {
            ipv4: a.ipv4.map(|ip| ip.to_string()).unwrap_or_default(),
            ipv4_pool_name: a.ipv4.map(|_| "default".into()).unwrap_or_default(),
            ipv6: a.ipv6.map(|ip| ip.to_string()).unwrap_or_default(),
            ipv6_pool_name: a.ipv6.map(|_| "default".into()).unwrap_or_default(),
            ..Default::default()
        };
        let status = EndpointStatus {
            state: endpoint.state,
            identity: Some(identity(endpoint.identity, &endpoint.labels)),
            labels: Some(LabelConfigurationStatus {
                realized: Some(LabelConfigurationSpec::default()),
                security_relevant: labels,
                ..Default::default()
            }),
            external_identifiers: Some(EndpointIdentifiers {
                cni_attachment_id: a.cni_id(),
                container_id: a.container_id.clone(),
                k8s_namespace: a.pod.namespace.to_string(),
                k8s_pod_name: a.pod.name.to_string(),
                pod_name: a.pod.to_string(),
                ..Default::default()
            }),
            networking: Some(EndpointNetworking {
                addressing: vec![pair],
                host_addressing: Some(self.host_addressing(&core)),
                mac: a.mac.to_string(),
                host_mac: a.host_mac.to_string(),
                interface_name: a.interface.clone(),
                interface_index: a.ifindex.into(),
                container_interface_name: a.container_interface.clone(),
            }),
            named_ports: named_ports
                .iter()
                .map(|p| Port {
                    name: p.name.to_string(),
                    port: p.port,
                    protocol: p.protocol.to_string(),
                })
                .collect(),
            policy: Some(EndpointPolicyStatus {
                spec: Some(policy.clone()),
                realized: Some(policy),
                ..Default::default()
            }),
            health: Some(endpoint.state.health()),
            log: endpoint.log.front().map(log_line).into_iter().collect(),
            realized: Some(spec.clone()),
            ..Default::default()
        };
        Endpoint {
            id: a.id.0.into(),
            spec: Some(spec),
            status: Some(status),
        }
    }
}

/// What is true of every endpoint, in the names of the options that Cilium has for it.
fn spec() -> EndpointConfigurationSpec {
    let options = [
        ("Debug", "Disabled"),
        ("DropNotification", "Enabled"),
        ("PolicyAuditMode", "Disabled"),
        ("PolicyVerdictNotification", "Disabled"),
        ("SourceIPVerification", "Enabled"),
        ("TraceNotification", "Disabled"),
    ];
    EndpointConfigurationSpec {
        options: options
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        label_configuration: Some(LabelConfigurationSpec::default()),
    }
}

pub(super) fn log_line(entry: &crate::endpoint::LogEntry) -> EndpointStatusChange {
    EndpointStatusChange {
        timestamp: Timestamp::from(entry.at).seconds(),
        code: if entry.ok { "OK" } else { "Failure" }.into(),
        message: entry.message.clone(),
        state: Some(entry.state),
    }
}

/// Checks what a plugin says about an interface.
pub(super) fn attachment(change: &EndpointChangeRequest) -> Answer<Attachment> {
    let missing = |what: &str| ApiError::invalid(format!("{what} is missing in the endpoint"));
    let mac = |name: &str, text: &str| {
        let mac = text
            .parse::<Mac>()
            .map_err(|_| ApiError::invalid(format!("{name} {text:?} is not a MAC address")))?;
        // No device has any other, and nothing that is sent to one arrives at this pod alone.
        mac.is_unicast().then_some(mac).ok_or_else(|| {
            ApiError::invalid(format!(
                "{name} {mac} in the endpoint is zero or of a group: name the address of the device, of which the first byte is even"
            ))
        })
    };
    let pair = change
        .addressing
        .clone()
        .ok_or_else(|| missing("addressing"))?;
    let parse = |text: &str| -> Answer<Option<IpAddr>> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| ApiError::invalid(format!("{text:?} is not an address")))
    };
    let ipv4 = match parse(&pair.ipv4)? {
        Some(IpAddr::V4(ip)) => Some(ip),
        None => None,
        Some(other) => return Err(ApiError::invalid(format!("{other} is not an IPv4 address"))),
    };
    let ipv6 = match parse(&pair.ipv6)? {
        Some(IpAddr::V6(ip)) => Some(ip),
        None => None,
        Some(other) => return Err(ApiError::invalid(format!("{other} is not an IPv6 address"))),
    };
    if ipv4.is_none() && ipv6.is_none() {
        return Err(missing("an address"));
    }
    for (what, text) in [
        ("container-id", &change.container_id),
        ("interface-name", &change.interface_name),
        ("k8s-pod-name", &change.k8s_pod_name),
        ("k8s-namespace", &change.k8s_namespace),
    ] {
        if text.is_empty() {
            return Err(missing(what));
        }
        if text.len() > 253 || text.chars().any(char::is_control) {
            return Err(ApiError::invalid(format!(
                "{what} is longer than 253 characters or not printable"
            )));
        }
    }
    let ifindex = u32::try_from(change.interface_index)
        .ok()
        .filter(|index| *index > 0)
        .ok_or_else(|| missing("interface-index"))?;
    Ok(Attachment {
        id: EndpointId(0),
        container_id: change.container_id.clone(),
        container_interface: if change.container_interface_name.is_empty() {
            "eth0".into()
        } else {
            change.container_interface_name.clone()
        },
        netns: change.container_netns_path.clone(),
        interface: change.interface_name.clone(),
        ifindex,
        mac: mac("mac", &change.mac)?,
        host_mac: mac("host-mac", &change.host_mac)?,
        ipv4,
        ipv6,
        pod: PodKey {
            namespace: change.k8s_namespace.as_str().into(),
            name: change.k8s_pod_name.as_str().into(),
        },
        uid: change.k8s_uid.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> EndpointChangeRequest {
        EndpointChangeRequest {
            container_id: "9f8e".into(),
            interface_name: "lxc1".into(),
            interface_index: 7,
            mac: "02:00:00:00:00:01".into(),
            host_mac: "02:00:00:00:00:02".into(),
            addressing: Some(AddressPair {
                ipv4: "10.5.1.2".into(),
                ..Default::default()
            }),
            k8s_pod_name: "web-0".into(),
            k8s_namespace: "default".into(),
            ..Default::default()
        }
    }

    #[test]
    fn both_ends_have_the_address_of_one_device() {
        let good = attachment(&change()).expect("an attachment");
        assert_eq!(good.mac, Mac([2, 0, 0, 0, 0, 1]));
        for bad in [
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "33:33:00:00:00:01",
            "03:00:00:00:00:01",
            "02:00:00:00:00",
            "",
        ] {
            let pod = EndpointChangeRequest {
                mac: bad.into(),
                ..change()
            };
            let host = EndpointChangeRequest {
                host_mac: bad.into(),
                ..change()
            };
            for (name, change) in [("mac ", pod), ("host-mac ", host)] {
                let error = attachment(&change).expect_err(bad);
                assert_eq!(error.code, api::StatusCode::BAD_REQUEST, "{bad}");
                assert!(error.text.starts_with(name), "{}", error.text);
                assert!(error.text.contains(bad), "{}", error.text);
            }
        }
    }
}
