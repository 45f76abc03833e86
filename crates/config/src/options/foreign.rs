// SPDX-License-Identifier: Apache-2.0
//! Keys that a `cilium-config` made for Cilium holds and that this agent has no part for. People edit an existing map, so
//! its defaults must not stop them. What becomes of a key is decided by the promise that it makes:
//!
//! - it is about a part that is not here and that does nothing by itself: accepted, whatever its value;
//! - it asks for protection, connectivity or a format on the wire that would be missing in silence: refused by name;
//! - it asks for something whose absence harms nothing but may be looked for: accepted, and told as a warning.

mod table;

use table::{FAMILIES, IDLE, OFF, ONLY, TOLD};

/// Values that switch something off.
const OFF_WORDS: &[&str] = &["false", "f", "no", "off", "0", "", "disabled", "none"];

/// How a key that is not ours is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// It asks for nothing that is missed.
    Accepted,
    /// It asks for something that is not here, and whose absence harms nobody.
    Told {
        /// What is not here, and what to use instead.
        why: &'static str,
    },
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
    let value = value.trim().to_ascii_lowercase();
    let off = OFF_WORDS.contains(&value.as_str());
    if OFF.contains(&key) {
        return match off {
            true => Taken::Accepted,
            false => Taken::Refused {
                harmless: "false".into(),
            },
        };
    }
    if let Some((_, harmless)) = ONLY.iter().find(|(known, _)| *known == key) {
        return match harmless.contains(&value.as_str()) || value.is_empty() {
            true => Taken::Accepted,
            false => Taken::Refused {
                harmless: harmless.join(", "),
            },
        };
    }
    if let Some((_, why)) = TOLD.iter().find(|(known, _)| *known == key) {
        return match off {
            true => Taken::Accepted,
            false => Taken::Told { why },
        };
    }
    if IDLE.contains(&key) || FAMILIES.iter().any(|family| key.starts_with(family)) {
        return Taken::Accepted;
    }
    Taken::Unknown
}

/// Whether Cilium has an option of this name that this agent lacks.
pub(crate) fn is_known(key: &str) -> bool {
    take(key, "") != Taken::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::lookup;

    #[test]
    fn no_key_is_ours_or_listed_twice() {
        let only = ONLY.iter().map(|(key, _)| key);
        let told = TOLD.iter().map(|(key, _)| key);
        let mut seen = std::collections::BTreeSet::new();
        for key in OFF.iter().chain(IDLE).chain(only).chain(told) {
            assert!(lookup::find(key).is_none(), "{key} is an option of ours");
            assert!(seen.insert(key), "{key} is listed twice");
        }
        // Ours are looked up first, so one of a family is not taken for idle; a family of nothing but ours would be none.
        for family in FAMILIES {
            assert!(lookup::find(family).is_none(), "{family}");
        }
    }

    #[test]
    fn promises_are_kept_refused_or_told() {
        let refused = |key, value| matches!(take(key, value), Taken::Refused { .. });
        for (key, value) in [
            ("enable-wireguard", "true"),
            ("enable-ipsec", "True"),
            ("encrypt-node", "true"),
            ("enable-host-firewall", "true"),
            ("kube-proxy-replacement", "true"),
            ("kube-proxy-replacement", "strict"),
            ("routing-mode", "native"),
            ("tunnel", "geneve"),
            ("tunnel-protocol", "geneve"),
            ("enable-source-ip-verification", "false"),
            ("ipv4-native-routing-cidr", "10.0.0.0/8"),
            ("enable-ip-masq-agent", "true"),
            ("mesh-auth-mutual-enabled", "true"),
            ("clustermesh-cache-ttl", "5m"),
            ("tunnel-source-port-range", "1024-2048"),
        ] {
            assert!(refused(key, value), "{key}={value}");
            assert_eq!(take(key, ""), Taken::Accepted, "{key} without a value");
        }
        for (key, value) in [
            ("enable-wireguard", "false"),
            ("enable-source-ip-verification", "true"),
            ("tunnel-source-port-range", "0-0"),
            ("clustermesh-cache-ttl", "0s"),
            ("hubble-export-file-max-size-mb", "10"),
            ("mesh-auth-enabled", "true"),
            ("enable-hubble", "false"),
        ] {
            assert_eq!(take(key, value), Taken::Accepted, "{key}={value}");
        }
        assert!(matches!(take("enable-hubble", "true"), Taken::Told { .. }));
        assert_eq!(take("cluster-nam", "x"), Taken::Unknown);
    }
}
