// SPDX-License-Identifier: Apache-2.0
//! Services on their way into the kernel. What a full map refuses is tried again; until then status says so.

use std::collections::BTreeMap;

use datapath::{Kernel, Map};
use model::{Backends, Frontend, ServiceChange, ServiceSettings, Services};

use super::Core;
use config::Config;

/// Most services that one [`Core::retry_services`] writes.
const RETRIES: usize = 256;
/// Where services are.
const MAPS: [Map; 3] = [Map::Services, Map::Backends, Map::Members];

/// The services of the cluster, and what of them the kernel does not have.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) services: Services,
    /// What could not be written: `None` is to be removed.
    unwritten: BTreeMap<Frontend, Option<Backends>>,
    /// Services of before this start that the source does not name are gone from the kernel.
    pruned: bool,
}

impl Balancer {
    pub(super) fn new(config: &Config) -> Self {
        let settings = ServiceSettings {
            node: config.node.clone(),
            ipv4: config.ipv4,
            ipv6: config.ipv6,
            max_frontends: config.services_max as usize,
        };
        Self {
            services: Services::new(settings),
            unwritten: BTreeMap::new(),
            pruned: false,
        }
    }
}

/// How much room a service wants.
fn size(backends: &Option<Backends>) -> usize {
    backends.as_ref().map_or(0, |backends| backends.list.len())
}

impl<K: Kernel> Core<K> {
    /// Brings the kernel to what the source's objects say. Only to be called when the source has said all that it has.
    pub(crate) fn write_services(&mut self) {
        let changes = self.balancer.services.changes();
        let (gone, mut put): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .map(|change| match change {
                ServiceChange::Put(frontend, backends) => (frontend, Some(backends)),
                ServiceChange::Remove(frontend) => (frontend, None),
            })
            .partition(|(_, backends)| backends.is_none());
        // Whoever goes makes room, and most services have room before the largest take the rest.
        put.sort_by_key(|(_, backends)| size(backends));
        let mut error = self.prune_services();
        for (frontend, backends) in gone.into_iter().chain(put) {
            self.balancer.unwritten.remove(&frontend);
            error = self.write_service(frontend, backends).err().or(error);
        }
        if error.is_some() {
            self.note("services", error);
        } else if self.balancer.unwritten.is_empty() {
            self.all_services_are_written();
        }
        let problems = self.balancer.services.problems();
        let problems = (!problems.is_empty()).then(|| problems.join("; "));
        self.note("objects of services", problems);
    }

    /// Whether services wait for room.
    pub(super) fn services_wait(&self) -> bool {
        !self.balancer.unwritten.is_empty()
    }

    /// Tries again what could not be written, the smallest first; gives up at the first that still cannot.
    pub(crate) fn retry_services(&mut self) {
        if self.balancer.unwritten.is_empty() {
            return;
        }
        let unwritten = self.balancer.unwritten.iter();
        let mut waiting: Vec<_> = unwritten.map(|(at, of)| (size(of), *at)).collect();
        waiting.sort_unstable();
        for (_, frontend) in waiting.into_iter().take(RETRIES) {
            let Some(backends) = self.balancer.unwritten.remove(&frontend) else {
                continue;
            };
            if let Err(error) = self.write_service(frontend, backends) {
                return self.note("services", Some(error));
            }
        }
        if self.balancer.unwritten.is_empty() {
            self.all_services_are_written();
        }
    }

    fn all_services_are_written(&mut self) {
        self.dp.nothing_waits_for(&MAPS);
        self.note("services", None::<String>);
    }

    fn write_service(
        &mut self,
        frontend: Frontend,
        backends: Option<Backends>,
    ) -> Result<(), datapath::Error> {
        let result = match &backends {
            Some(backends) => self.dp.put_service(&frontend, backends),
            None => self.dp.remove_service(&frontend),
        };
        if result.is_err() {
            self.balancer.unwritten.insert(frontend, backends);
        }
        result.map(drop)
    }

    /// Removes what an earlier run left and nobody names now.
    fn prune_services(&mut self) -> Option<datapath::Error> {
        if self.balancer.pruned {
            return None;
        }
        let services = &self.balancer.services;
        let result = self.dp.prune_services(&|frontend| services.has(frontend));
        self.balancer.pruned = result.is_ok();
        result.err()
    }
}
