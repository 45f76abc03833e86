// SPDX-License-Identifier: Apache-2.0
//! Ports in rules: numbers, and names that containers give to theirs.

use std::sync::Arc;

use policy::{NamedPortRule, PortRule};

use crate::FieldError;
use crate::field::Field;

/// Longest name of a port.
const MAX_NAME: usize = 15;

/// One element of a list of ports.
#[derive(Clone, Debug)]
pub(crate) enum Port {
    Number(PortRule),
    Named(NamedPortRule),
}

/// A service name (RFC 6335, 5.1), in lower case.
pub(crate) fn name(field: &Field<'_>, text: &str) -> Result<Arc<str>, FieldError> {
    let is_name = text.len() <= MAX_NAME
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        && text.bytes().any(|c| c.is_ascii_alphabetic())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--");
    if !is_name {
        return Err(field.error(format!(
            "{text:?} is neither a number of 0 to 65535 nor a name of at most {MAX_NAME} letters, digits and '-'"
        )));
    }
    Ok(text.to_ascii_lowercase().into())
}

/// Numbers and names apart, as rules have them.
pub(crate) fn split(ports: Vec<Port>) -> (Vec<PortRule>, Vec<NamedPortRule>) {
    let (mut numbers, mut named) = (Vec::new(), Vec::new());
    for port in ports {
        match port {
            Port::Number(port) => numbers.push(port),
            Port::Named(port) => named.push(port),
        }
    }
    (numbers, named)
}
