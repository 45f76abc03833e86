// SPDX-License-Identifier: Apache-2.0
//! Names that follow from the container's.

use api::EndpointRef;
use api::digest::hexadecimal;

/// Digits of the hash in a device name.
const DIGITS: usize = 12;

/// Name of the host's device for `interface` of `container`: `lxc` and 12 hexadecimal digits.
pub fn host_device(container: &str, interface: &str) -> String {
    let hash = hexadecimal(format!("{container}:{interface}").as_bytes());
    format!("lxc{}", &hash[..DIGITS])
}

/// Whether [`host_device`] may have given a device its name. LXC's own devices begin alike.
pub(crate) fn is_host_device(name: &str) -> bool {
    let digits = name.strip_prefix("lxc");
    digits.is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// The further name of the device in the container.
pub(crate) fn altname(interface: &str) -> String {
    format!("cilium_cni:{interface}")
}

/// What the agent calls the endpoint.
pub(crate) fn attachment(container: &str, interface: Option<&str>) -> EndpointRef {
    EndpointRef::Attachment {
        container: container.to_owned(),
        interface: interface.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_fit_and_differ() {
        let name = host_device("9f8e", "eth0");
        assert_eq!(name, format!("lxc{}", &hexadecimal(b"9f8e:eth0")[..12]));
        assert_eq!(name.len(), 15);
        assert_ne!(name, host_device("9f8e", "eth1"));
        assert!(is_host_device(&name));
        for other in [
            "lxcbr0",
            "lxc0123456789",
            "lxcnothexdigits",
            "veth0123456789ab",
        ] {
            assert!(!is_host_device(other), "{other}");
        }
    }
}
