// SPDX-License-Identifier: Apache-2.0
//! What is not as it should be, in words: the list of warnings, and the one that the status shows.

use api::Timestamp;
use api::models::Warning;
use clustermesh::{Mesh, RemoteStatus};
use datapath::Linux;

use super::Service;
use crate::core::Core;

impl Service {
    pub(super) fn warning_list(&self) -> Vec<Warning> {
        let remotes = self.mesh.as_ref().map(Mesh::status).unwrap_or_default();
        let core = self.core();
        let since = Timestamp::from(self.started);
        let options = self.values.warnings.iter().chain(&core.config.warnings);
        let options = options.map(|text| Warning {
            since,
            text: text.clone(),
        });
        let notes = core.notes.values().map(|note| Warning {
            since: note.since.into(),
            text: note.text.clone(),
        });
        let unread = self.mesh.as_ref().and_then(Mesh::unread);
        let unread = unread.map(|(since, text)| Warning {
            since: since.into(),
            text: format!("{text}; the clusters known before stay"),
        });
        let undated = |text| Warning {
            since: Timestamp::NEVER,
            text,
        };
        let all = options.chain(refused(&core).map(undated)).chain(notes);
        let all = all.chain(full(&core).map(undated)).chain(unread);
        all.chain(unsaved(&remotes).map(undated)).collect()
    }
}

/// What is wrong first of all, in the order of what it may cost; the list of warnings has the rest.
pub(super) fn first(core: &Core<Linux>, remotes: &[RemoteStatus]) -> Option<String> {
    let notes = core.notes.values().map(|note| note.text.clone());
    let mut all = full(core)
        .chain(notes)
        .chain(refused(core))
        .chain(unsaved(remotes));
    all.next()
}

fn refused(core: &Core<Linux>) -> impl Iterator<Item = String> {
    core.problems.iter().map(ToString::to_string)
}

fn full(core: &Core<Linux>) -> impl Iterator<Item = String> {
    let text =
        |name| format!("map {name} is full: rows are missing in the datapath; raise its limit");
    core.dp.full_maps().into_iter().map(text)
}

/// Remote clusters whose rows a restart will not find as they are.
fn unsaved(remotes: &[RemoteStatus]) -> impl Iterator<Item = String> {
    let texts = remotes.iter().map(|remote| remote.disk_error.clone());
    texts.filter(|text| !text.is_empty())
}
