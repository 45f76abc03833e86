// SPDX-License-Identifier: Apache-2.0
//! What `/healthz` says of every agent of this program, whatever its configuration: how its packet path is made, and
//! which of Cilium's features are not there.

use api::models::*;

/// Those parts of the answer.
pub(super) fn fixed() -> StatusResponse {
    let disabled = || Status::new(State::Disabled, "");
    StatusResponse {
        kube_proxy_replacement: Some(KubeProxyReplacement {
            mode: "False".into(),
            features: Some(services()),
            ..Default::default()
        }),
        host_firewall: Some(HostFirewall {
            mode: "Disabled".into(),
            devices: Vec::new(),
        }),
        srv6: Some(Srv6::default()),
        cni_chaining: Some(Mode {
            mode: "none".into(),
        }),
        cni_file: Some(Status::new(
            State::Disabled,
            "CNI configuration management disabled",
        )),
        auth_certificate_provider: Some(disabled()),
        ipv4_big_tcp: Some(BigTcp::default()),
        ipv6_big_tcp: Some(BigTcp::default()),
        bandwidth_manager: Some(BandwidthManager::default()),
        encryption: Some(EncryptionStatus {
            mode: "Disabled".into(),
            msg: String::new(),
        }),
        hubble: Some(HubbleStatus {
            state: State::Disabled,
            ..Default::default()
        }),
        hubble_metrics: Some(disabled()),
        node_monitor: Some(monitor()),
        clock_source: Some(ClockSource {
            mode: "ktime".into(),
            hertz: 0,
        }),
        attach_mode: "tc".into(),
        datapath_mode: "veth".into(),
        configured_datapath_mode: "veth".into(),
        ..Default::default()
    }
}

/// ClusterIPs are translated for pods, with affinity and graceful termination; nothing else of services is. Clients look into every part as soon as there is one.
fn services() -> KubeProxyFeatures {
    let off = || Some(Enabled::default());
    let on = || Some(Enabled { enabled: true });
    KubeProxyFeatures {
        nat46x64: Some(Nat46x64 {
            service: off(),
            gateway: off(),
            ..Default::default()
        }),
        node_port: Some(NodePort {
            // An empty word would be read as on.
            acceleration: "Disabled".into(),
            ..Default::default()
        }),
        session_affinity: on(),
        host_port: off(),
        external_ips: off(),
        socket_lb: off(),
        socket_lb_tracing: off(),
        graceful_termination: on(),
        ..Default::default()
    }
}

/// Bytes of a page of x86-64.
const PAGE: u32 = 4096;

/// The ring that all processors write drops to.
fn monitor() -> MonitorStatus {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    MonitorStatus {
        cpus: i64::try_from(cpus).unwrap_or(i64::MAX),
        npages: (datapath::Settings::default().events_bytes / PAGE).into(),
        pagesize: PAGE.into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients of Cilium end if one of these is missing once there is a replacement of kube-proxy.
    #[test]
    fn no_part_of_what_is_off_is_missing() {
        let text = serde_json::to_value(fixed()).expect("JSON");
        let features = &text["kube-proxy-replacement"]["features"];
        for part in [
            "nodePort",
            "sessionAffinity",
            "hostPort",
            "externalIPs",
            "socketLB",
            "socketLBTracing",
            "nat46X64",
        ] {
            assert!(features[part].is_object(), "{part} in {features}");
        }
        assert_eq!(features["nodePort"]["acceleration"], "Disabled");
        assert!(features["nat46X64"]["gateway"].is_object());
        let monitor = &text["nodeMonitor"];
        assert!(monitor["npages"].as_i64() > Some(0) && monitor["cpus"].as_i64() > Some(0));
    }
}
