// SPDX-License-Identifier: Apache-2.0
//! Who has an address: claims of several sources merged by precedence, so that a claim that ends uncovers the
//! next. Pure. The precedence is that of Cilium's `pkg/source/source.go`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{ClusterName, NumericIdentity};

/// Where a claim comes from. Greater wins.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Source {
    /// A prefix in a policy.
    Policy,
    /// A remote cluster.
    ClusterMesh(ClusterName),
    /// This cluster's etcd.
    Kvstore,
    /// This node.
    Local,
}

impl Source {
    /// The word that `ip list` shows, as in Cilium's `pkg/source/source.go`.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Source::Policy => "generated",
            Source::ClusterMesh(_) => "clustermesh",
            Source::Kvstore => "kvstore",
            Source::Local => "local",
        }
    }
}

/// Namespace and name of the pod behind an address.
pub(crate) type PodName = (Arc<str>, Arc<str>);

/// What one source says about an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    /// Security identity.
    pub(crate) identity: NumericIdentity,
    /// Node behind whose tunnel it is.
    pub(crate) tunnel: Option<IpAddr>,
    /// It is a node of another cluster.
    pub(crate) remote_cluster: bool,
    /// The pod, if it is one.
    pub(crate) pod: Option<PodName>,
}

/// The claim in force, and by whom.
pub(crate) type Winner<'a> = (&'a Source, &'a Claim);

/// All claims. One claim per address is the rule; the vector holds them by falling precedence.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    claims: HashMap<IpNet, Claims>,
    /// Addresses whose claim in force is no remote cluster's.
    own: usize,
}

#[derive(Debug)]
enum Claims {
    One(Source, Claim),
    Several(Vec<(Source, Claim)>),
}

impl Claims {
    fn winner(&self) -> Winner<'_> {
        match self {
            Claims::One(source, claim) => (source, claim),
            Claims::Several(claims) => claims.first().map(|(s, c)| (s, c)).expect("never empty"),
        }
    }

    fn are_own(&self) -> bool {
        !matches!(self.winner().0, Source::ClusterMesh(_))
    }

    fn of(&self, source: &Source) -> Option<&Claim> {
        match self {
            Claims::One(by, claim) => (by == source).then_some(claim),
            Claims::Several(claims) => {
                let found = claims.iter().find(|(by, _)| by == source);
                found.map(|(_, claim)| claim)
            }
        }
    }

    fn into_vec(self) -> Vec<(Source, Claim)> {
        match self {
            Claims::One(source, claim) => vec![(source, claim)],
            Claims::Several(claims) => claims,
        }
    }

    fn from_vec(mut claims: Vec<(Source, Claim)>) -> Option<Self> {
        claims.sort_by(|a, b| b.0.cmp(&a.0));
        match claims.len() {
            0 => None,
            1 => claims
                .pop()
                .map(|(source, claim)| Claims::One(source, claim)),
            _ => Some(Claims::Several(claims)),
        }
    }
}

impl Addresses {
    /// `source` claims `prefix`. Returns the claim in force.
    pub(crate) fn claim(&mut self, prefix: IpNet, source: Source, claim: Claim) -> Winner<'_> {
        let claims = match self.take(&prefix) {
            None => Claims::One(source, claim),
            Some(Claims::One(other, _)) if other == source => Claims::One(source, claim),
            Some(claims) => {
                let mut claims = claims.into_vec();
                claims.retain(|(other, _)| *other != source);
                claims.push((source, claim));
                Claims::from_vec(claims).expect("one was pushed")
            }
        };
        self.put(prefix, claims)
    }

    fn take(&mut self, prefix: &IpNet) -> Option<Claims> {
        let claims = self.claims.remove(prefix)?;
        self.own -= usize::from(claims.are_own());
        Some(claims)
    }

    fn put(&mut self, prefix: IpNet, claims: Claims) -> Winner<'_> {
        self.own += usize::from(claims.are_own());
        let entry = self.claims.entry(prefix).insert_entry(claims);
        entry.into_mut().winner()
    }

    /// How many addresses and prefixes are not as a remote cluster says.
    pub(crate) fn own(&self) -> usize {
        self.own
    }

    /// `source` no longer claims `prefix`. Returns the claim in force now, if there is one.
    pub(crate) fn withdraw(&mut self, prefix: &IpNet, source: &Source) -> Option<Winner<'_>> {
        let claims = self.take(prefix)?;
        let mut claims = claims.into_vec();
        claims.retain(|(other, _)| other != source);
        let claims = Claims::from_vec(claims)?;
        Some(self.put(*prefix, claims))
    }

    /// The claim in force.
    pub(crate) fn get(&self, prefix: &IpNet) -> Option<Winner<'_>> {
        self.claims.get(prefix).map(Claims::winner)
    }

    /// What one source claims, in force or not.
    pub(crate) fn of<'a>(
        &'a self,
        source: &'a Source,
    ) -> impl Iterator<Item = (&'a IpNet, &'a Claim)> {
        let claims = self.claims.iter();
        claims.filter_map(move |(prefix, claims)| Some((prefix, claims.of(source)?)))
    }

    /// All claims in force.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IpNet, Winner<'_>)> {
        self.claims
            .iter()
            .map(|(prefix, claims)| (prefix, claims.winner()))
    }
}

impl<'a> IntoIterator for &'a Addresses {
    type Item = (&'a IpNet, Winner<'a>);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;
    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(identity: u32) -> Claim {
        Claim {
            identity: NumericIdentity(identity),
            tunnel: None,
            remote_cluster: false,
            pod: None,
        }
    }

    #[test]
    fn a_claim_that_ends_uncovers_the_next() {
        let mut addresses = Addresses::default();
        let ip: IpNet = "10.0.0.1/32".parse().expect("a prefix");
        let mesh = Source::ClusterMesh(ClusterName::new("c5").expect("a name"));
        assert_eq!(addresses.claim(ip, mesh.clone(), claim(1)).1.identity.0, 1);
        assert_eq!(addresses.own(), 0);
        assert_eq!(addresses.claim(ip, Source::Local, claim(2)).1.identity.0, 2);
        assert_eq!(addresses.claim(ip, mesh.clone(), claim(3)).1.identity.0, 2);
        assert_eq!(addresses.own(), 1);
        assert_eq!(
            addresses
                .withdraw(&ip, &Source::Local)
                .map(|w| w.1.identity.0),
            Some(3)
        );
        assert_eq!(
            addresses
                .withdraw(&ip, &Source::Kvstore)
                .map(|w| w.1.identity.0),
            Some(3)
        );
        assert_eq!(addresses.own(), 0);
        assert!(addresses.withdraw(&ip, &mesh).is_none());
        assert!(addresses.iter().next().is_none());
    }
}
