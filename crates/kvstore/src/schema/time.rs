// SPDX-License-Identifier: Apache-2.0
//! Heartbeats and canaries: a time in RFC 3339 (Cilium's `pkg/kvstore`). Only their presence and change
//! count; nobody compares clocks.

use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::DecodeError;

/// The value for this moment.
pub fn now() -> Bytes {
    encode_time(OffsetDateTime::now_utc())
}

/// The value for a moment, in whole seconds.
pub fn encode_time(at: OffsetDateTime) -> Bytes {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole
        .format(&Rfc3339)
        .expect("a present date has an RFC 3339 form")
        .into()
}

/// Reads such a value.
pub fn decode_time(key: &str, value: &[u8]) -> Result<OffsetDateTime, DecodeError> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.len() <= 64)
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
        .ok_or_else(|| DecodeError::new(key, "value", "is not a time in RFC 3339"))
}
