// SPDX-License-Identifier: Apache-2.0
//! The parts of `GET /healthz` that describe the packet path.

use std::collections::BTreeMap;

use super::*;

model! {
    /// A feature with a mode word.
    "kebab-case" Mode { mode: String, }
}
model! {
    /// Replacement of kube-proxy. Clients need all of `features` as soon as this exists.
    "camelCase" KubeProxyReplacement {
        mode: String,
        device_list: Vec<DeviceAddresses>,
        devices: Vec<String>,
        direct_routing_device: String,
        features: Option<KubeProxyFeatures>,
    }
}
model! {
    /// A device and its addresses.
    "camelCase" DeviceAddresses { name: String, ip: Vec<String>, }
}
model! {
    /// Features of the service translation.
    "camelCase" KubeProxyFeatures {
        #[serde(rename = "nat46X64")]
        nat46x64: Option<Nat46x64>,
        node_port: Option<NodePort>,
        session_affinity: Option<Enabled>,
        host_port: Option<Enabled>,
        #[serde(rename = "externalIPs")]
        external_ips: Option<Enabled>,
        #[serde(rename = "socketLB")]
        socket_lb: Option<Enabled>,
        #[serde(rename = "socketLBTracing")]
        socket_lb_tracing: Option<Enabled>,
        graceful_termination: Option<Enabled>,
        #[serde(rename = "bpfSocketLBHostnsOnly")]
        hostns_only: bool,
    } always {
        #[serde(with = "null_list")]
        annotations: Vec<String>,
    }
}
model! {
    /// A switch.
    "camelCase" Enabled { enabled: bool, }
}
model! {
    /// Translation between address families.
    "camelCase" Nat46x64 { enabled: bool, service: Option<Enabled>, gateway: Option<Enabled>, }
}
model! {
    /// Services on ports of the node.
    "camelCase" NodePort {
        enabled: bool,
        mode: String,
        dsr_mode: String,
        algorithm: String,
        acceleration: String,
        port_min: u16,
        port_max: u16,
        lut_size: i64,
    }
}
model! {
    /// Policy for the node itself.
    "kebab-case" HostFirewall { mode: String, devices: Vec<String>, }
}
model! {
    /// The L7 proxy.
    "kebab-case" ProxyStatus {
        ip: String,
        port_range: String,
        total_ports: i64,
        total_redirects: i64,
        envoy_deployment_mode: String,
    } always {
        #[serde(with = "null_list")]
        redirects: Vec<ProxyRedirect>,
    }
}
model! {
    /// One redirection to the proxy.
    "kebab-case" ProxyRedirect { name: String, proxy: String, proxy_port: i64, }
}
model! {
    /// The flow observer.
    "kebab-case" HubbleStatus { msg: String, observer: Option<HubbleObserver>, } always { state: State, }
}
model! {
    /// Its buffer. `uptime` as Go writes durations.
    "kebab-case" HubbleObserver { max_flows: i64, current_flows: i64, seen_flows: i64, uptime: String, }
}
model! {
    /// How packets reach other nodes and the node itself.
    "kebab-case" Routing {
        /// `Tunnel` or `Native`.
        inter_host_routing_mode: String,
        /// `BPF` or `Legacy`.
        intra_host_routing_mode: String,
        /// `vxlan`.
        tunnel_protocol: String,
    }
}
model! {
    /// Source translation of what leaves the mesh.
    "kebab-case" Masquerading {
        enabled: bool,
        /// `BPF` or `iptables`.
        mode: String,
        ip_masq_agent: bool,
        snat_exclusion_cidr_v4: String,
        snat_exclusion_cidr_v6: String,
        #[serde(rename = "enabledProtocols")]
        enabled_protocols: Option<EnabledProtocols>,
    }
}
model! {
    /// Address families that are masqueraded.
    "kebab-case" EnabledProtocols { ipv4: bool, ipv6: bool, }
}
model! {
    /// Encryption between nodes.
    "kebab-case" EncryptionStatus { mode: String, msg: String, }
}
model! {
    /// Sizes of maps.
    "kebab-case" BpfMapStatus { dynamic_size_ratio: f64, maps: Vec<BpfMapSize>, }
}
model! {
    /// Size of a map, entries.
    "kebab-case" BpfMapSize { name: String, size: i64, }
}
model! {
    /// Clock of the programs.
    "kebab-case" ClockSource { mode: String, hertz: i64, }
}
model! {
    /// Rate limits of pods.
    "camelCase" BandwidthManager { enabled: bool, congestion_control: String, } always {
        #[serde(with = "null_list")]
        devices: Vec<String>,
    }
}
model! {
    /// Very large packets on the way between pod and stack, bytes.
    "camelCase" BigTcp {
        enabled: bool,
        #[serde(rename = "maxGRO")]
        max_gro: i64,
        #[serde(rename = "maxGSO")]
        max_gso: i64,
    }
}
model! {
    /// Segment routing.
    "camelCase" Srv6 {
        enabled: bool,
        #[serde(rename = "srv6EncapMode")]
        encap_mode: String,
    }
}
model! {
    /// Answer of `GET /debuginfo`.
    "kebab-case" DebugInfo {
        /// At least seven words: version, revision, date, `go version`, a version, a platform.
        cilium_version: String,
        kernel_version: String,
        cilium_status: Option<StatusResponse>,
        endpoint_list: Vec<Endpoint>,
        service_list: Vec<Service>,
        policy: Option<Policy>,
        cilium_memory_map: String,
        cilium_nodemonitor_memory_map: String,
        environment_variables: Vec<String>,
        subsystem: BTreeMap<String, String>,
    }
}
