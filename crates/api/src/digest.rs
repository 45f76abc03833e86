// SPDX-License-Identifier: Apache-2.0
//! Names that follow from a text: of devices, and of files in the queue of deletions.

use sha2::{Digest, Sha256};

/// SHA-256 in lower-case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        assert_eq!(
            hexadecimal(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
