// SPDX-License-Identifier: Apache-2.0
//! What an earlier run left: the identities of prefixes, which flows carry. Everything else is numbered anew, in a
//! generation of the maps that no endpoint uses. An engine whose commits did not reach the maps begins such a run itself.

use ipnet::IpNet;
use model::NumericIdentity;

use crate::engine::Engine;

impl Engine {
    /// Prefixes keep these identities if a policy names them; for the others the first commit has an [`Op::DeleteCidr`].
    /// To be called once, before it. Identities that are not the engine's to give are ignored; returns the others, which
    /// no commit puts again.
    ///
    /// [`Op::DeleteCidr`]: crate::Op::DeleteCidr
    pub fn adopt(
        &mut self,
        found: impl IntoIterator<Item = (IpNet, NumericIdentity)>,
    ) -> Vec<(IpNet, NumericIdentity)> {
        let mut adopted = Vec::new();
        for (prefix, identity) in found {
            let prefix = prefix.trunc();
            if self.cidrs.adopt(prefix, identity) {
                let labels = self.home.cidr_labels(prefix);
                self.set_labels(identity, Some(labels), Some(prefix));
                self.dirty.insert(identity);
                adopted.push((prefix, identity));
            }
        }
        self.pending = true;
        adopted
    }

    /// An engine that knows what this one knows and has committed nothing. `found` is what the kernel has of prefixes; a
    /// number that this engine gave to another one comes last again.
    ///
    /// # Panics
    /// Not: what is taken over was accepted before.
    #[must_use]
    pub fn anew(&self, found: impl IntoIterator<Item = (IpNet, NumericIdentity)>) -> Engine {
        let mut engine = Engine::new(self.settings.clone());
        engine.cookies = self.cookies.unheld();
        engine.next_rule = self.next_rule;
        engine.cidrs.continue_numbers(&self.cidrs);
        engine.ports = self.ports.clone();
        engine.adopt(found);
        for (&identity, record) in &self.records {
            if let Some(labels) = &record.labels {
                engine.upsert_identity(identity, labels.clone());
            }
        }
        for (&identity, labels) in &self.crowds.left_out {
            engine.upsert_identity(identity, labels.clone());
        }
        for group in self.groups.iter() {
            engine
                .upsert_group(group.clone())
                .expect("no policy selects it yet");
        }
        let api_servers = self.groups.api_servers().clone();
        engine
            .set_api_servers(api_servers)
            .expect("no policy names it yet");
        for object in self.policies() {
            engine
                .upsert_policy(object.clone())
                .expect("it is in force already");
        }
        for (&id, endpoint) in &self.endpoints {
            engine.upsert_endpoint(id, endpoint.identity);
            engine.set_named_ports(id, &endpoint.ports);
        }
        engine.admission = self.admission.anew();
        engine.revision = self.revision;
        engine
    }
}
