// SPDX-License-Identifier: Apache-2.0
//! Walking a parsed document with the path at hand, so that every complaint names its field.

use model::Protocol;
use serde_json::{Map, Value};

use crate::FieldError;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) path: String,
    pub(crate) value: &'a Value,
}

impl<'a> Field<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self {
            path: String::new(),
            value,
        }
    }

    pub(crate) fn error(&self, reason: impl Into<String>) -> FieldError {
        let path = if self.path.is_empty() {
            "document".to_owned()
        } else {
            self.path.clone()
        };
        FieldError {
            path,
            reason: reason.into(),
        }
    }

    fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The field `key`; absent and null are the same, as for every typed client.
    pub(crate) fn get(&self, key: &str) -> Option<Field<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Field {
            path: self.at(key),
            value,
        })
    }

    pub(crate) fn object(&self) -> Result<&'a Map<String, Value>, FieldError> {
        self.value
            .as_object()
            .ok_or_else(|| self.error("expected an object"))
    }

    /// Refuses every field but these.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), FieldError> {
        match self
            .object()?
            .keys()
            .find(|key| !known.contains(&key.as_str()))
        {
            None => Ok(()),
            Some(key) => Err(FieldError {
                path: self.at(key),
                reason: format!(
                    "this field is not supported; supported here: {}",
                    known.join(", ")
                ),
            }),
        }
    }

    pub(crate) fn text(&self) -> Result<&'a str, FieldError> {
        self.value
            .as_str()
            .ok_or_else(|| self.error("expected text"))
    }

    /// Text, or a number or bool that YAML made of unquoted text.
    pub(crate) fn scalar(&self) -> Result<String, FieldError> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(value) => Ok(value.to_string()),
            _ => Err(self.error("expected text")),
        }
    }

    pub(crate) fn bool(&self) -> Result<bool, FieldError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.error("expected true or false"))
    }

    /// A port, 1 to 65535.
    pub(crate) fn port(&self) -> Result<u16, FieldError> {
        let number = self.value.as_u64().and_then(|n| u16::try_from(n).ok());
        number
            .filter(|number| *number > 0)
            .ok_or_else(|| self.error("expected a port of 1 to 65535"))
    }

    /// The protocol of a port.
    pub(crate) fn protocol(&self) -> Result<Protocol, FieldError> {
        let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let text = self.text()?;
        let protocol = known.into_iter().find(|known| known.as_str() == text);
        protocol.ok_or_else(|| {
            self.error(format!(
                "unknown protocol {text:?}; expected TCP, UDP or SCTP"
            ))
        })
    }

    pub(crate) fn list(&self) -> Result<Vec<Field<'a>>, FieldError> {
        let items = self
            .value
            .as_array()
            .ok_or_else(|| self.error("expected a list"))?;
        let item = |(i, value)| Field {
            path: format!("{}[{i}]", self.path),
            value,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// The list at `key`, each item read by `read`; `None` if the field is absent, an empty list if it is empty.
    pub(crate) fn list_of<T>(
        &self,
        key: &str,
        read: impl Fn(Field<'a>) -> Result<T, FieldError>,
    ) -> Result<Option<Vec<T>>, FieldError> {
        self.get(key)
            .map(|field| field.list()?.into_iter().map(&read).collect())
            .transpose()
    }

    /// Text of a label: what YAML takes for a number or a bool may have been written in several ways.
    pub(crate) fn label(&self) -> Result<&'a str, FieldError> {
        self.value
            .as_str()
            .ok_or_else(|| self.error("expected text: put it into quotes"))
    }

    /// A map of text to text, such as labels.
    pub(crate) fn text_map(&self) -> Result<Vec<(String, String)>, FieldError> {
        let entry = |(key, value): (&String, &'a Value)| {
            let field = Field {
                path: self.at(key),
                value,
            };
            Ok((key.clone(), field.label()?.to_owned()))
        };
        self.object()?.iter().map(entry).collect()
    }
}
