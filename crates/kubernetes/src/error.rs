// SPDX-License-Identifier: Apache-2.0
//! What is wrong with an object, told with the path of the field.

use std::fmt;

use policy::PolicyKey;

use crate::object;

/// A field that is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct FieldError {
    /// Path such as `spec.ingress[0].toPorts`.
    pub path: String,
    /// What is wrong and what is expected.
    pub reason: String,
}

/// Something in the directory that is not in force.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// File, below the directory.
    pub file: String,
    /// Document in it, from 1; 0 is the file itself.
    pub document: usize,
    /// `kind namespace/name` if that much could be read.
    pub object: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// An earlier version of the object stays in force.
    pub previous_stays: bool,
}

impl Problem {
    /// The policy that it is about.
    pub fn policy(&self) -> Option<PolicyKey> {
        let (kind, name) = self.object.as_deref()?.split_once(' ')?;
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        object::named_policy(kind, namespace, name)
    }

    /// A problem of a whole file.
    pub(crate) fn of_file(file: &str, reason: String, previous_stays: bool) -> Self {
        Self {
            file: file.to_owned(),
            document: 0,
            object: None,
            reason,
            previous_stays,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.document > 0 {
            write!(f, " (document {})", self.document)?;
        }
        if let Some(object) = &self.object {
            write!(f, ": {object}")?;
        }
        write!(f, ": {}", self.reason)?;
        if self.previous_stays {
            f.write_str("; the previous version stays in force")
        } else {
            Ok(())
        }
    }
}
