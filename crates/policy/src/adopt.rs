// SPDX-License-Identifier: Apache-2.0
//! What an earlier run left: the identities of prefixes, which flows carry. Everything else is numbered anew, in a
//! generation of the maps that no endpoint uses.

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
}
