// SPDX-License-Identifier: Apache-2.0
//! The policies in force and the groups that they name, for the disk: a version that is refused may be all that the directory holds at the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::Defined;
use super::{InForce, Manifests, ObjectEvent};
use crate::object::{self, Object};

/// What is saved.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Saved {
    /// The directory that they are from.
    dir: PathBuf,
    /// File and document, as JSON text.
    policies: Vec<(String, String)>,
}

/// Whether an object says what policy means: policies, and the groups that they name.
fn is_kept(object: &Object) -> bool {
    matches!(object, Object::Policy(_) | Object::CidrGroup(_))
}

impl Manifests {
    /// The policies in force.
    pub(crate) fn saved(&self, dir: &Path) -> Saved {
        let policies = self.objects.values();
        let policies = policies.filter(|of| is_kept(&of.defined.object));
        let mut policies: Vec<_> = policies
            .map(|of| (of.file.clone(), of.defined.text.to_string()))
            .collect();
        policies.sort_unstable();
        Saved {
            dir: dir.to_owned(),
            policies,
        }
    }

    /// Takes the policies of an earlier run, before the first update: that one drops whichever no file keeps. Those of
    /// another directory say nothing about this one.
    pub(crate) fn restore(&mut self, saved: Saved, dir: &Path) {
        if saved.dir != dir {
            return;
        }
        for (file, text) in saved.policies {
            let Ok(document) = serde_json::from_str::<Value>(&text) else {
                continue;
            };
            // A version that this agent refuses is not in force.
            if let Ok(Some(object)) = object::read(&document)
                && is_kept(&object)
            {
                let key = object.key();
                let defined = Arc::new(Defined::new(object, &document));
                self.untold.insert(key.clone());
                self.objects.insert(key, InForce { defined, file });
            }
        }
    }

    /// What is in force since an earlier run and was not told yet, where the directory cannot be read.
    pub(crate) fn tell(&mut self) -> Vec<ObjectEvent> {
        let untold = std::mem::take(&mut self.untold).into_iter();
        untold
            .filter_map(|key| self.objects.get(&key))
            .map(|of| ObjectEvent::upsert(of.defined.object.clone()))
            .collect()
    }
}
