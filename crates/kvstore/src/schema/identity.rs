// SPDX-License-Identifier: Apache-2.0
//! Identities: canonical label strings, and decimal numbers (Cilium's `pkg/allocator` and
//! `pkg/labels`, `SortedList`).

use bytes::Bytes;
use model::{Labels, NumericIdentity};

use super::DecodeError;

/// The value of an `id/` key.
pub fn encode_identity(labels: &Labels) -> Bytes {
    labels.canonical().into()
}

/// Reads the value of an `id/` key.
pub fn decode_identity(key: &str, value: &[u8]) -> Result<Labels, DecodeError> {
    Labels::parse(value).map_err(|error| DecodeError::new(key, "labels", error.to_string()))
}

/// Reads the value of a `value/` key: a decimal number.
pub fn decode_identity_number(key: &str, value: &[u8]) -> Result<NumericIdentity, DecodeError> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.len() <= 10 && text.bytes().all(|c| c.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .map(NumericIdentity)
        .ok_or_else(|| DecodeError::new(key, "value", "is not a decimal identity"))
}
