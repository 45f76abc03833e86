// SPDX-License-Identifier: Apache-2.0
//! Which cluster id belongs to whom: one id, one cluster.

use std::collections::HashMap;

use model::{ClusterConfig, ClusterId, ClusterName, IdentityScheme};

/// Why a remote's cluster configuration is refused. Tried again when it, or the holder of the id, changes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdError {
    /// Outside 1..=max.
    #[error("cluster id {id} is outside 1..={max}: give that cluster an id in this range")]
    OutOfRange {
        /// What it says.
        id: ClusterId,
        /// Largest possible.
        max: u16,
    },
    /// The id of this cluster.
    #[error("cluster id {id} is the id of this cluster: every cluster of a mesh needs its own")]
    Ours {
        /// What it says.
        id: ClusterId,
    },
    /// The id of another remote cluster.
    #[error(
        "cluster id {id} is in use by remote cluster {holder}: every cluster of a mesh needs its own"
    )]
    Taken {
        /// What it says.
        id: ClusterId,
        /// Who came first.
        holder: ClusterName,
    },
    /// It divides identities differently.
    #[error(
        "max-connected-clusters is {theirs} there and {ours} here: identities would mean different things, \
         so every cluster of a mesh needs the same"
    )]
    Scheme {
        /// What it says, 0 if absent.
        theirs: u32,
        /// Ours.
        ours: u16,
    },
}

/// The registry of ids.
#[derive(Debug)]
pub struct Ids {
    own: ClusterId,
    scheme: IdentityScheme,
    holders: HashMap<ClusterId, ClusterName>,
}

impl Ids {
    /// Only our own id is in use.
    pub fn new(own: ClusterId, scheme: IdentityScheme) -> Self {
        Self {
            own,
            scheme,
            holders: HashMap::new(),
        }
    }

    /// Checks what `name` says about itself and reserves its id. Asking twice is fine.
    pub fn reserve(&mut self, name: &ClusterName, config: &ClusterConfig) -> Result<(), IdError> {
        let (id, max) = (config.id, self.scheme.max_clusters());
        if id.0 == 0 || id.0 > max {
            return Err(IdError::OutOfRange { id, max });
        }
        if id == self.own {
            return Err(IdError::Ours { id });
        }
        // A cluster of 255 never checked what others say; one of 511 always did.
        let theirs = config.max_connected_clusters;
        let differs = theirs != u32::from(max) && (max != 255 || theirs == 511);
        if differs {
            return Err(IdError::Scheme { theirs, ours: max });
        }
        match self.holders.get(&id) {
            Some(holder) if holder != name => Err(IdError::Taken {
                id,
                holder: holder.clone(),
            }),
            Some(_) => Ok(()),
            None => {
                self.holders.insert(id, name.clone());
                Ok(())
            }
        }
    }

    /// Gives `id` back if `name` holds it.
    pub fn release(&mut self, name: &ClusterName, id: ClusterId) {
        if self.holders.get(&id) == Some(name) {
            self.holders.remove(&id);
        }
    }

    /// Who holds `id`.
    pub fn holder(&self, id: ClusterId) -> Option<&ClusterName> {
        self.holders.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(id: u16, max: u32) -> ClusterConfig {
        ClusterConfig {
            id: ClusterId(id),
            max_connected_clusters: max,
            ..Default::default()
        }
    }

    #[test]
    fn one_id_one_cluster() {
        let mut ids = Ids::new(ClusterId(5), IdentityScheme::default());
        let (a, b) = (
            ClusterName::new("a").unwrap(),
            ClusterName::new("b").unwrap(),
        );
        assert_eq!(ids.reserve(&a, &config(7, 255)), Ok(()));
        assert_eq!(ids.reserve(&a, &config(7, 0)), Ok(()));
        for (name, config, text) in [
            (
                &b,
                config(7, 255),
                "cluster id 7 is in use by remote cluster a: every cluster of a mesh needs its own",
            ),
            (
                &b,
                config(5, 255),
                "cluster id 5 is the id of this cluster: every cluster of a mesh needs its own",
            ),
            (
                &b,
                config(0, 255),
                "cluster id 0 is outside 1..=255: give that cluster an id in this range",
            ),
            (
                &b,
                config(256, 255),
                "cluster id 256 is outside 1..=255: give that cluster an id in this range",
            ),
            (
                &b,
                config(8, 511),
                "max-connected-clusters is 511 there and 255 here: identities would mean different things, \
                 so every cluster of a mesh needs the same",
            ),
        ] {
            assert_eq!(ids.reserve(name, &config).unwrap_err().to_string(), text);
        }
        ids.release(&b, ClusterId(7));
        assert_eq!(ids.holder(ClusterId(7)), Some(&a));
        ids.release(&a, ClusterId(7));
        assert_eq!(ids.reserve(&b, &config(7, 255)), Ok(()));
    }

    #[test]
    fn a_mesh_of_511_wants_511() {
        let mut ids = Ids::new(ClusterId(5), IdentityScheme::new(511).unwrap());
        let a = ClusterName::new("a").unwrap();
        assert!(ids.reserve(&a, &config(300, 0)).is_err());
        assert_eq!(ids.reserve(&a, &config(300, 511)), Ok(()));
    }
}
