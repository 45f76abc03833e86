// SPDX-License-Identifier: Apache-2.0
//! Which policy each endpoint shall have.

use std::sync::Arc;

use model::EndpointId;

use crate::commit::Tx;
use crate::compile::CompiledRule;
use crate::content::{Content, ContentKey};
use crate::engine::{Engine, Live};

/// What shall hold for an endpoint.
pub(crate) struct Target {
    pub(crate) endpoint: EndpointId,
    pub(crate) key: ContentKey,
    pub(crate) rules: Vec<Arc<CompiledRule>>,
}

impl Engine {
    /// What shall hold for the endpoints that may need another policy.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let dirty = self.dirty_endpoints.iter();
        let known = dirty.filter_map(|id| Some((*id, self.endpoints.get(id)?)));
        let target = |(id, endpoint): (EndpointId, &crate::engine::Endpoint)| {
            let rules = self.selecting(endpoint.identity);
            let key = ContentKey::new(
                &self.settings,
                self.labels(endpoint.identity),
                &rules,
                &endpoint.ports,
                &self.ports,
            );
            Target {
                endpoint: id,
                key,
                rules,
            }
        };
        known.map(target).collect()
    }

    /// Gives endpoints their policies.
    pub(crate) fn retarget(&mut self, targets: Vec<Target>, tx: &mut Tx) {
        self.dirty_endpoints.clear();
        for Target {
            endpoint: id,
            key,
            rules,
        } in targets
        {
            self.admission.unplaced.remove(&id);
            let policy = match self.by_key.get(&key) {
                Some(&policy) => policy,
                None => self.create_policy(key, rules, tx),
            };
            let endpoint = self.endpoints.get_mut(&id).expect("a target is known");
            let before = endpoint.policy.replace(policy);
            if before == Some(policy) {
                continue;
            }
            if let Some(before) = before
                && let Some(live) = self.policies.get_mut(&before)
            {
                live.endpoints -= 1;
                self.left.insert(before);
                tx.left.entry(before).or_default().push(id);
            }
            self.policies.get_mut(&policy).expect("just made").endpoints += 1;
            tx.flips.push((id, policy));
        }
    }

    fn create_policy(
        &mut self,
        key: ContentKey,
        rules: Vec<Arc<CompiledRule>>,
        tx: &mut Tx,
    ) -> u32 {
        let content = Content::new(
            key.clone(),
            rules,
            &mut self.selectors,
            &self.home,
            &mut tx.new_selectors,
        );
        for prefix in content.prefixes() {
            if let Some(identity) = self.cidrs.acquire(prefix) {
                tx.prefixes.push((prefix, identity));
            }
        }
        let policy = self.policy_ids.take(|id| self.policies.contains_key(&id));
        for selector in content.selectors() {
            self.selectors.used_by(selector, policy);
        }
        let live = Live {
            content: Some(Arc::new(content)),
            ..Live::default()
        };
        self.policies.insert(policy, live);
        self.by_key.insert(key, policy);
        tx.fresh.insert(policy);
        policy
    }
}
