// SPDX-License-Identifier: Apache-2.0
//! `/identity`, `/ip` and `/policy`.

use api::models::*;
use api::{Answer, ApiError, IpQuery};
use ipnet::IpNet;
use model::{Labels, NumericIdentity};
use sha2::{Digest, Sha256};

use super::Service;
use crate::addresses::{Claim, Source};

impl Service {
    pub(super) fn identity_list(&self, wanted: &[String]) -> Answer<Vec<Identity>> {
        let core = self.core();
        let all = core.identities.iter();
        let wanted_ones = all.filter(|(_, labels)| has_all(labels, wanted));
        let mut found: Vec<_> = wanted_ones
            .map(|(id, labels)| (*id, labels.clone()))
            .collect();
        // Digests and texts take longer than the look.
        drop(core);
        found.sort_by_key(|(id, _)| *id);
        let list: Vec<_> = found.iter().map(|(id, l)| identity(*id, l)).collect();
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
        let own = core.node.clone();
        let mut rows: Vec<(IpNet, Source, Claim)> = Vec::new();
        for (prefix, (source, claim)) in &core.addresses {
            let labels = core.identities.get(&claim.identity);
            let labels_fit = query.labels.is_empty()
                || labels.is_some_and(|labels| has_all(labels, &query.labels));
            if !labels_fit || inside.is_some_and(|net| !net.contains(prefix)) {
                continue;
            }
            rows.push((*prefix, source.clone(), claim.clone()));
        }
        // Texts take longer than the look, and ask the mesh.
        drop(core);
        if rows.is_empty() {
            return Err(ApiError::not_found(""));
        }
        rows.sort_by_key(|(prefix, ..)| *prefix);
        let entry = |(prefix, source, claim): &(IpNet, Source, Claim)| {
            self.ip_entry(&own, *prefix, source, claim)
        };
        Ok(rows.iter().map(entry).collect())
    }

    fn ip_entry(
        &self,
        own: &crate::node::LocalNode,
        prefix: IpNet,
        source: &Source,
        claim: &Claim,
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
