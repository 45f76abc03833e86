// SPDX-License-Identifier: Apache-2.0
//! `/identity`, `/ip` and `/policy`.

use api::models::*;
use api::{Answer, ApiError, IpQuery};
use ipnet::IpNet;
use model::{Labels, NumericIdentity};
use sha2::{Digest, Sha256};

use super::Service;
use crate::addresses::Source;

impl Service {
    pub(super) fn identity_list(&self, wanted: &[String]) -> Answer<Vec<Identity>> {
        let core = self.core();
        let mut list: Vec<Identity> = core
            .identities
            .iter()
            .filter(|(_, labels)| has_all(labels, wanted))
            .map(|(id, labels)| identity(*id, labels))
            .collect();
        list.sort_by_key(|identity| identity.id);
        if list.is_empty() && !wanted.is_empty() {
            return Err(ApiError::not_found(""));
        }
        Ok(list)
    }

    pub(super) fn identity_model(&self, id: u32) -> Answer<Identity> {
        let core = self.core();
        let labels = core.identities.get(&NumericIdentity(id));
        labels
            .map(|labels| identity(NumericIdentity(id), labels))
            .ok_or_else(|| ApiError::not_found(""))
    }

    pub(super) fn identities_in_use(&self) -> Answer<Vec<IdentityEndpoints>> {
        let core = self.core();
        let mut counts = std::collections::BTreeMap::new();
        for endpoint in core.endpoints.values() {
            counts
                .entry(endpoint.identity)
                .or_insert((&endpoint.labels, 0))
                .1 += 1;
        }
        let of = |(id, (labels, count)): (NumericIdentity, (&Labels, i64))| IdentityEndpoints {
            identity: Some(identity(id, labels)),
            ref_count: count,
        };
        if counts.is_empty() {
            return Err(ApiError::not_found(""));
        }
        Ok(counts.into_iter().map(of).collect())
    }

    pub(super) fn ip_list(&self, query: &IpQuery) -> Answer<Vec<IpListEntry>> {
        let inside: Option<IpNet> = match &query.cidr {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                ApiError::invalid(format!("{text:?} is not a prefix such as 10.0.0.0/8"))
            })?),
        };
        let core = self.core();
        let mut rows: Vec<(IpNet, IpListEntry)> = Vec::new();
        for (prefix, (source, claim)) in &core.addresses {
            let labels = core.identities.get(&claim.identity);
            let labels_fit = query.labels.is_empty()
                || labels.is_some_and(|labels| has_all(labels, &query.labels));
            if !labels_fit || inside.is_some_and(|net| !net.contains(prefix)) {
                continue;
            }
            rows.push((*prefix, self.ip_entry(&core.node, *prefix, source, claim)));
        }
        if rows.is_empty() {
            return Err(ApiError::not_found(""));
        }
        rows.sort_by_key(|(prefix, _)| *prefix);
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    fn ip_entry(
        &self,
        own: &crate::node::LocalNode,
        prefix: IpNet,
        source: &Source,
        claim: &crate::addresses::Claim,
    ) -> IpListEntry {
        let pod = match (&claim.pod, source, &self.mesh) {
            (Some((namespace, name)), ..) => Some((namespace.to_string(), name.to_string())),
            (None, Source::ClusterMesh(_), Some(mesh)) => {
                let entry = mesh
                    .ip(&prefix)
                    .map(|(_, entry)| entry)
                    .filter(|entry| !entry.pod.is_empty());
                entry.map(|entry| (entry.namespace.to_string(), entry.pod.to_string()))
            }
            _ => None,
        };
        let word = match source {
            Source::Local => "kvstore",
            other => other.as_str(),
        };
        let metadata = pod.map(|(namespace, name)| IpListMetadata {
            source: word.into(),
            namespace,
            name,
        });
        // Behind this node are its pods and its router; its underlay addresses are behind nobody.
        let behind_own = *source == Source::Local && !own.underlay().any(|ip| prefix == ip.into());
        let host = behind_own.then(|| own.ipv4.into()).or(claim.tunnel);
        IpListEntry {
            cidr: prefix.to_string(),
            identity: claim.identity.0.into(),
            host_ip: host.map(|ip| ip.to_string()).unwrap_or_default(),
            encrypt_key: 0,
            metadata,
        }
    }

    pub(super) fn policy_text(&self) -> Policy {
        let core = self.core();
        let revision = core.engine.revision() as i64;
        let objects = crate::policy_text::list(core.engine.policies());
        drop(core);
        Policy {
            revision,
            policy: serde_json::to_string_pretty(&objects).expect("plain values"),
        }
    }

    pub(super) fn selectors(&self) -> Vec<SelectorIdentities> {
        let core = self.core();
        let mut users: std::collections::BTreeMap<String, (model::Selector, i64)> =
            Default::default();
        for policy in core.engine.policies() {
            for selector in crate::policy_text::selectors(policy) {
                users.entry(selector.to_string()).or_insert((selector, 0)).1 += 1;
            }
        }
        let of = |(text, (selector, count)): (String, (model::Selector, i64))| {
            let mut identities: Vec<i64> = core
                .identities
                .iter()
                .filter(|(_, labels)| selector.matches(labels))
                .map(|(id, _)| id.0.into())
                .collect();
            identities.sort_unstable();
            SelectorIdentities {
                selector: text,
                users: count,
                labels: Vec::new(),
                identities,
            }
        };
        users.into_iter().map(of).collect()
    }
}

/// The API's form of an identity.
pub(crate) fn identity(id: NumericIdentity, labels: &Labels) -> Identity {
    let digest = Sha256::digest(labels.canonical().as_bytes());
    Identity {
        id: id.0.into(),
        labels: labels.iter().map(ToString::to_string).collect(),
        labels_sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn has_all(labels: &Labels, wanted: &[String]) -> bool {
    wanted
        .iter()
        .all(|text| labels.iter().any(|label| label.to_string() == *text))
}
