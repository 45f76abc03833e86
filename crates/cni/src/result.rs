// SPDX-License-Identifier: Apache-2.0
//! The result of ADD, in the shape of each version of the specification, and the part of it that CHECK reads.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::version::Version;

/// What ADD made, free of any version's shape.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Made {
    pub(crate) host: Interface,
    pub(crate) pod: Interface,
    /// `CNI_NETNS`.
    pub(crate) sandbox: String,
    pub(crate) mtu: u32,
    pub(crate) ips: Vec<Ip>,
    pub(crate) routes: Vec<PodRoute>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) mac: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ip {
    pub(crate) address: IpNet,
    pub(crate) gateway: IpAddr,
}

/// A route of the pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PodRoute {
    pub(crate) destination: IpNet,
    /// `None`: on the device itself.
    pub(crate) gateway: Option<IpAddr>,
    /// Bytes; `None`: the device's.
    pub(crate) mtu: Option<u32>,
}

impl Made {
    /// The JSON for `version`.
    pub(crate) fn to_json(&self, version: Version) -> String {
        let mut object = match version {
            Version::V0_1_0 | Version::V0_2_0 => self.oldest(),
            _ => self.with_interfaces(version),
        };
        object["cniVersion"] = version.as_str().into();
        object["dns"] = json!({});
        object.to_string()
    }

    /// 0.1.0 and 0.2.0: one address per family, no interfaces.
    fn oldest(&self) -> Value {
        let mut object = Map::new();
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.gateway.is_ipv4() == v4) else {
                continue;
            };
            let routes: Vec<Value> = self
                .routes
                .iter()
                .filter(|route| route.destination.addr().is_ipv4() == v4)
                .map(|route| self.route(route, Version::V0_2_0))
                .collect();
            let value =
                json!({ "ip": ip.address.to_string(), "gateway": ip.gateway, "routes": routes });
            object.insert(key.to_owned(), value);
        }
        Value::Object(object)
    }

    fn with_interfaces(&self, version: Version) -> Value {
        let mut host = json!({ "name": self.host.name, "mac": self.host.mac });
        let mut pod =
            json!({ "name": self.pod.name, "mac": self.pod.mac, "sandbox": self.sandbox });
        if version >= Version::V1_1_0 {
            host["mtu"] = self.mtu.into();
            pod["mtu"] = self.mtu.into();
        }
        let ips: Vec<Value> = self
            .ips
            .iter()
            .map(|ip| {
                let mut value =
                    json!({ "address": ip.address.to_string(), "gateway": ip.gateway, "interface": 1 });
                if version < Version::V1_0_0 {
                    value["version"] = if ip.gateway.is_ipv4() { "4" } else { "6" }.into();
                }
                value
            })
            .collect();
        let routes: Vec<Value> = self
            .routes
            .iter()
            .map(|route| self.route(route, version))
            .collect();
        json!({ "interfaces": [host, pod], "ips": ips, "routes": routes })
    }

    fn route(&self, route: &PodRoute, version: Version) -> Value {
        let mut value = json!({ "dst": route.destination.to_string() });
        if let Some(gateway) = route.gateway {
            value["gw"] = gateway.to_string().into();
        }
        if let (Some(mtu), true) = (route.mtu, version >= Version::V1_1_0) {
            value["mtu"] = mtu.into();
        }
        value
    }
}

/// A result of an earlier ADD, as CHECK gets it (0.4.0 and later).
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(expecting = "the result of ADD")]
pub(crate) struct Previous {
    #[serde(default)]
    pub(crate) interfaces: Vec<PreviousInterface>,
    #[serde(default)]
    pub(crate) ips: Vec<PreviousIp>,
    #[serde(default)]
    pub(crate) routes: Vec<PreviousRoute>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(expecting = "an interface with its name")]
pub(crate) struct PreviousInterface {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) mac: String,
    #[serde(default)]
    pub(crate) sandbox: String,
    /// Bytes; from 1.1.0 on.
    pub(crate) mtu: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(expecting = "an address as {\"address\": …}")]
pub(crate) struct PreviousIp {
    #[serde(deserialize_with = "prefix")]
    pub(crate) address: IpNet,
    pub(crate) interface: Option<usize>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(expecting = "a route as {\"dst\": …}")]
pub(crate) struct PreviousRoute {
    #[serde(deserialize_with = "prefix")]
    pub(crate) dst: IpNet,
    pub(crate) gw: Option<IpAddr>,
    /// Bytes; from 1.1.0 on.
    pub(crate) mtu: Option<u32>,
}

fn prefix<'de, D: Deserializer<'de>>(from: D) -> Result<IpNet, D::Error> {
    let text = String::deserialize(from)?;
    text.parse()
        .map_err(|_| D::Error::custom(format_args!("{text:?} is not a prefix")))
}
