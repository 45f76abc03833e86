// SPDX-License-Identifier: Apache-2.0
//! Names that follow from the container's.

use api::EndpointRef;
use sha2::{Digest, Sha256};

/// Digits of the hash in a device name.
const DIGITS: usize = 12;

/// Name of the host's device for `interface` of `container`: `lxc` and 12 hexadecimal digits.
pub fn host_device(container: &str, interface: &str) -> String {
    let hash = hexadecimal(format!("{container}:{interface}").as_bytes());
    format!("lxc{}", &hash[..DIGITS])
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

/// SHA-256 in lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
        assert_eq!(
            hexadecimal(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
