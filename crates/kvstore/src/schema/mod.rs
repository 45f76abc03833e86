// SPDX-License-Identifier: Apache-2.0
//! Every key and value of the mesh in the kvstore, as Cilium writes them: `tests/golden/etcd.txt` was recorded from one.
//!
//! Decoders take what strangers wrote: every size is bounded, nothing panics, and an error names the key,
//! the field and the reason. Whether a well-formed value is *allowed* (cluster, ranges, networks) is
//! the caller's to check.

mod address;
mod cluster_config;
mod identity;
mod ip;
pub mod keys;
mod node;
mod time;

pub use cluster_config::{decode_cluster_config, encode_cluster_config};
pub use identity::{decode_identity, decode_identity_number, encode_identity};
pub use ip::{decode_ip, encode_ip, ip_key, ip_of_key};
pub use node::{decode_node, encode_node};
pub use time::{decode_time, encode_time, now};

/// Largest value that etcd stores by default, in bytes.
pub const MAX_VALUE: usize = 3 * 512 * 1024;
/// Largest node or address value, in bytes.
pub const MAX_OBJECT: usize = 64 * 1024;
/// Most addresses, secondary networks or named ports in one value.
pub const MAX_ITEMS: usize = 64;
/// Longest name of a node, pod or namespace, in bytes.
pub const MAX_NAME: usize = 253;

/// Why a key or value is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key}: {field}: {reason}")]
pub struct DecodeError {
    /// The key, cut to 256 characters.
    pub key: String,
    /// The field concerned, `value` or `key` for the whole.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl DecodeError {
    pub(crate) fn new(key: &str, field: &'static str, reason: impl Into<String>) -> Self {
        Self {
            key: printable(key, 256),
            field,
            reason: reason.into(),
        }
    }
}

/// `text` without control characters, at most `max` characters.
fn printable(text: &str, max: usize) -> String {
    text.chars()
        .take(max)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn bounded<'a>(key: &str, value: &'a [u8], limit: usize) -> Result<&'a [u8], DecodeError> {
    if value.len() > limit {
        let reason = format!("{} bytes, at most {limit} are accepted", value.len());
        return Err(DecodeError::new(key, "value", reason));
    }
    Ok(value)
}

fn json<'a, T: serde::Deserialize<'a>>(
    key: &str,
    value: &'a [u8],
    limit: usize,
) -> Result<T, DecodeError> {
    let value = bounded(key, value, limit)?;
    if value.trim_ascii_start().first() != Some(&b'{') {
        return Err(DecodeError::new(key, "value", "is not a JSON object"));
    }
    serde_json::from_slice(value)
        .map_err(|error| DecodeError::new(key, "value", printable(&error.to_string(), 256)))
}

fn to_json(value: &impl serde::Serialize) -> bytes::Bytes {
    serde_json::to_vec(value)
        .expect("maps with text keys and plain values serialise")
        .into()
}

/// Text from outside: bounded and printable.
fn text(key: &str, field: &'static str, value: &str, max: usize) -> Result<(), DecodeError> {
    if value.len() > max {
        let reason = format!("{} bytes, at most {max} are accepted", value.len());
        return Err(DecodeError::new(key, field, reason));
    }
    if value.chars().any(char::is_control) {
        return Err(DecodeError::new(key, field, "holds control characters"));
    }
    Ok(())
}

/// A name from outside: like [`text`], neither empty nor with a slash.
fn name(key: &str, field: &'static str, value: &str) -> Result<(), DecodeError> {
    text(key, field, value, MAX_NAME)?;
    if value.is_empty() {
        return Err(DecodeError::new(key, field, "is empty"));
    }
    if value.contains('/') {
        return Err(DecodeError::new(key, field, "holds a slash"));
    }
    Ok(())
}

fn count(key: &str, field: &'static str, items: usize) -> Result<(), DecodeError> {
    if items > MAX_ITEMS {
        let reason = format!("{items} items, at most {MAX_ITEMS} are accepted");
        return Err(DecodeError::new(key, field, reason));
    }
    Ok(())
}
