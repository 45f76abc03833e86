// SPDX-License-Identifier: Apache-2.0
//! Names of endpoints in paths: `[prefix:]value`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Which endpoint a request is about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum EndpointRef {
    /// `cilium-local:<id>`, or the bare number; 0 in a `PUT` lets the agent choose.
    Local(u16),
    /// `cni-attachment-id:<container id>[:<interface>]`.
    Attachment {
        /// Container id.
        container: String,
        /// Interface in the container; `None`: any.
        interface: Option<String>,
    },
    /// `cep-name:<namespace>/<name>`.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// `ipv4:<address>`.
    Ipv4(Ipv4Addr),
    /// `ipv6:<address>`.
    Ipv6(Ipv6Addr),
}

/// Why the name of an endpoint is refused (answer 400).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EndpointRefError {
    /// A prefix that nobody has.
    #[error(
        "unknown endpoint ID prefix {prefix:?}: use cilium-local, cni-attachment-id, cep-name, ipv4 or ipv6"
    )]
    Prefix {
        /// The prefix, cut to 64 characters.
        prefix: String,
    },
    /// A value that its prefix does not take.
    #[error("invalid endpoint ID {value:?}: {expected} expected")]
    Value {
        /// The value, cut to 64 characters.
        value: String,
        /// What stands there normally.
        expected: &'static str,
    },
}

/// Longest accepted name of an endpoint, bytes.
const MAX_LENGTH: usize = 512;

impl FromStr for EndpointRef {
    type Err = EndpointRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (prefix, value) = text.split_once(':').unwrap_or(("cilium-local", text));
        let cut = |s: &str| s.chars().take(64).collect::<String>();
        let wrong = |expected| EndpointRefError::Value {
            value: cut(value),
            expected,
        };
        if text.len() > MAX_LENGTH {
            return Err(wrong("at most 512 bytes"));
        }
        Ok(match prefix {
            "cilium-local" => Self::Local(value.parse().map_err(|_| wrong("a number 0..65535"))?),
            "cni-attachment-id" => attachment(value).ok_or_else(|| wrong("a container id"))?,
            "cep-name" => {
                let (namespace, name) = value
                    .split_once('/')
                    .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
                    .ok_or_else(|| wrong("namespace/name"))?;
                Self::Pod {
                    namespace: namespace.into(),
                    name: name.into(),
                }
            }
            "ipv4" => Self::Ipv4(value.parse().map_err(|_| wrong("an IPv4 address"))?),
            "ipv6" => Self::Ipv6(value.parse().map_err(|_| wrong("an IPv6 address"))?),
            other => return Err(EndpointRefError::Prefix { prefix: cut(other) }),
        })
    }
}

fn attachment(value: &str) -> Option<EndpointRef> {
    let (container, interface) = match value.split_once(':') {
        Some((container, interface)) if !interface.is_empty() => (container, Some(interface)),
        Some((container, _)) => (container, None),
        None => (value, None),
    };
    (!container.is_empty()).then(|| EndpointRef::Attachment {
        container: container.into(),
        interface: interface.map(Into::into),
    })
}

impl fmt::Display for EndpointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(id) => write!(f, "cilium-local:{id}"),
            Self::Attachment {
                container,
                interface: Some(interface),
            } => write!(f, "cni-attachment-id:{container}:{interface}"),
            Self::Attachment { container, .. } => write!(f, "cni-attachment-id:{container}"),
            Self::Pod { namespace, name } => write!(f, "cep-name:{namespace}/{name}"),
            Self::Ipv4(ip) => write!(f, "ipv4:{ip}"),
            Self::Ipv6(ip) => write!(f, "ipv6:{ip}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for text in [
            "cilium-local:61",
            "cni-attachment-id:9f8e:eth0",
            "cni-attachment-id:9f8e",
            "cep-name:default/web-0",
            "ipv4:10.1.1.73",
            "ipv6:fd00::1",
        ] {
            let parsed: EndpointRef = text.parse().expect(text);
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!("61".parse(), Ok(EndpointRef::Local(61)));
    }

    #[test]
    fn bad_names_are_refused() {
        for text in [
            "",
            "65536",
            "-1",
            "container-name:x",
            "cilium-global:1",
            "ipv4:fd00::1",
            "ipv6:1.2.3.4",
            "cep-name:x",
            "cep-name:/x",
            "cni-attachment-id:",
            "cni-attachment-id::eth0",
        ] {
            assert!(text.parse::<EndpointRef>().is_err(), "{text}");
        }
    }
}
