// SPDX-License-Identifier: Apache-2.0
//! The configuration as the programs read it.

use abi::config_flags;
use datapath::{Kernel, Map};

use super::Core;
use config::OuterSourceCheck;

impl<K: Kernel> Core<K> {
    /// The node's part of the maps.
    pub(crate) fn node_config(&self, vxlan_ifindex: u32) -> abi::NodeConfig {
        let (config, node) = (&self.config, &self.node);
        let mut flags = 0;
        for (on, flag) in [
            (config.ipv4, config_flags::IPV4),
            (config.ipv6, config_flags::IPV6),
            (
                config.outer_source_check == OuterSourceCheck::Strict,
                config_flags::OUTER_STRICT,
            ),
            (
                config.outer_source_check == OuterSourceCheck::Audit,
                config_flags::OUTER_AUDIT,
            ),
            (self.bypasses_stack(), config_flags::BYPASS_STACK),
        ] {
            flags |= if on { flag } else { 0 };
        }
        let table = u64::from(self.dp.kernel().limit(Map::Flows));
        let seconds = |duration: std::time::Duration| duration.as_secs() as u32;
        abi::NodeConfig {
            flags,
            vxlan_ifindex,
            tunnel_mtu: node.pod_mtu(),
            cluster_id: config.cluster_id.0.into(),
            cluster_shift: config.scheme.shift(),
            flow_share: (table * u64::from(config.flow_share) / 100) as u32,
            flow_room: (table * 3 / 4) as u32,
            node: abi::Addr::v4(node.ipv4.octets()),
            router4: node
                .router4
                .map_or(abi::Addr::NONE, |ip| abi::Addr::v4(ip.octets())),
            router6: node
                .router6
                .map_or(abi::Addr::NONE, |ip| abi::Addr::v6(ip.octets())),
            timeout_tcp: seconds(config.timeouts.tcp),
            timeout_syn: seconds(config.timeouts.syn),
            timeout_fin: seconds(config.timeouts.fin),
            timeout_any: seconds(config.timeouts.any),
            world4: self.world(true).0,
            world6: self.world(false).0,
            clock: 30,
            event_rate: config.event_rate,
            tunnel_port: config.tunnel_port.into(),
        }
    }
}
