// SPDX-License-Identifier: Apache-2.0
//! Keys that a `cilium-config` made for Cilium holds and that this agent has no part for. People edit an
//! existing map: such a key is accepted where it asks for nothing, and refused by name where going on in
//! silence would break what it asks for.

/// A key and the values that ask for nothing.
struct Foreign {
    key: &'static str,
    /// Values (lower case) that this agent fulfils as it is.
    harmless: &'static [&'static str],
}

const fn off(key: &'static str) -> Foreign {
    Foreign {
        key,
        harmless: &["false", "", "disabled", "none", "0"],
    }
}

const KEYS: &[Foreign] = &[
    off("enable-wireguard"),
    off("enable-ipsec"),
    off("enable-encryption-strict-mode"),
    off("enable-encryption-strict-mode-egress"),
    off("enable-host-firewall"),
    off("enable-srv6"),
    off("enable-egress-gateway"),
    off("enable-ipv4-egress-gateway"),
    off("enable-ztunnel"),
    off("mesh-auth-enabled-strict"),
    off("enable-endpoint-lockdown-on-policy-overflow"),
    off("policy-audit-mode"),
    off("policy-cidr-match-mode"),
    off("enable-node-selector-labels"),
    off("enable-k8s-cluster-network-policy"),
    off("enable-bandwidth-manager"),
    off("enable-local-redirect-policy"),
    off("enable-bgp-control-plane"),
    off("enable-sctp"),
    off("enable-extended-ip-protocols"),
    off("enable-l2-announcements"),
    off("enable-vtep"),
    off("multicast-enabled"),
    Foreign {
        key: "routing-mode",
        harmless: &["tunnel", ""],
    },
    Foreign {
        key: "tunnel",
        harmless: &["vxlan", ""],
    },
    Foreign {
        key: "tunnel-protocol",
        harmless: &["vxlan", ""],
    },
    Foreign {
        key: "underlay-protocol",
        harmless: &["ipv4", "auto", ""],
    },
    Foreign {
        key: "datapath-mode",
        harmless: &["veth", "auto", ""],
    },
    Foreign {
        key: "kube-proxy-replacement",
        harmless: &["false", "disabled", ""],
    },
    Foreign {
        key: "cni-chaining-mode",
        harmless: &["none", ""],
    },
    Foreign {
        key: "ipam",
        harmless: &["cluster-pool", "kubernetes", ""],
    },
    Foreign {
        key: "policy-deny-response",
        harmless: &["none", ""],
    },
];

/// How a key that is not ours is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// It asks for nothing.
    Accepted,
    /// It asks for something that this agent does not do.
    Refused {
        /// Values that would be accepted.
        harmless: String,
    },
    /// Not known.
    Unknown,
}

/// How `key` with `value` is taken.
pub(crate) fn take(key: &str, value: &str) -> Taken {
    let Some(foreign) = KEYS.iter().find(|foreign| foreign.key == key) else {
        return Taken::Unknown;
    };
    let value = value.trim().to_ascii_lowercase();
    if foreign.harmless.contains(&value.as_str()) {
        return Taken::Accepted;
    }
    let harmless = foreign
        .harmless
        .iter()
        .filter(|v| !v.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    Taken::Refused { harmless }
}
