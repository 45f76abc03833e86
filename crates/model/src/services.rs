// SPDX-License-Identifier: Apache-2.0
//! Services and slices joined to frontends and backends, as kube-proxy has it. Only what a change is about is made anew.

mod merge;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::{
    Backend, Backends, EndpointSlice, Family, Frontend, NamespacedName, Protocol, Service,
};
pub use merge::EndpointState;
use merge::{Merged, backends, merged, refusal, unusable};

/// Most endpoints of a frontend.
pub const MAX_ENDPOINTS: usize = 5000;
/// Services that [`Services::problems`] names; of the others only how many there are.
const MAX_PROBLEMS: usize = 16;

/// For whom services are joined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceSettings {
    /// The name of the node: an endpoint there is local.
    pub node: Arc<str>,
    /// Frontends of IPv4 are wanted.
    pub ipv4: bool,
    /// Frontends of IPv6 are wanted.
    pub ipv6: bool,
    /// Most frontends.
    pub max_frontends: usize,
}

/// What became of a frontend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServiceChange {
    /// It is new, or others answer.
    Put(Frontend, Backends),
    /// It is gone.
    Remove(Frontend),
}

/// A frontend, whose it is, and who may be asked from this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontendRow<'a> {
    /// Where the service is reached.
    pub frontend: Frontend,
    /// The service.
    pub service: &'a Service,
    /// Its endpoints, sorted; with [`Service::local_only`] those of this node.
    pub endpoints: Vec<(Backend, EndpointState)>,
}

/// Services, their slices, and what was made of them.
#[derive(Debug)]
pub struct Services {
    settings: ServiceSettings,
    services: HashMap<NamespacedName, Service>,
    /// Slices by service and name.
    slices: HashMap<NamespacedName, BTreeMap<Arc<str>, EndpointSlice>>,
    /// The service of each slice.
    service_of: HashMap<NamespacedName, NamespacedName>,
    /// Services to be made anew.
    dirty: BTreeSet<NamespacedName>,
    /// Frontends of each service.
    held: HashMap<NamespacedName, BTreeSet<Frontend>>,
    /// Who has a frontend: the first; the others wait for it.
    claims: BTreeMap<Frontend, Vec<NamespacedName>>,
    /// Frontends that several services claim.
    contested: BTreeSet<Frontend>,
    /// What was told of each frontend.
    told: HashMap<Frontend, Backends>,
    /// Services with frontends for which there is no room.
    beyond: BTreeSet<NamespacedName>,
    /// Frontends with more endpoints than are used, and how many those are.
    crowded: BTreeMap<Frontend, usize>,
    /// Addresses of services that are left out, and why.
    complaints: BTreeMap<NamespacedName, String>,
}

impl Services {
    /// Nothing known yet.
    pub fn new(settings: ServiceSettings) -> Self {
        Self {
            settings,
            services: HashMap::new(),
            slices: HashMap::new(),
            service_of: HashMap::new(),
            dirty: BTreeSet::new(),
            held: HashMap::new(),
            claims: BTreeMap::new(),
            contested: BTreeSet::new(),
            told: HashMap::new(),
            beyond: BTreeSet::new(),
            crowded: BTreeMap::new(),
            complaints: BTreeMap::new(),
        }
    }

    /// A service is new or has changed.
    pub fn put_service(&mut self, service: Service) {
        self.dirty.insert(service.key.clone());
        self.services.insert(service.key.clone(), service);
    }

    /// A service is gone.
    pub fn remove_service(&mut self, key: &NamespacedName) {
        if self.services.remove(key).is_some() {
            self.dirty.insert(key.clone());
        }
    }

    /// A slice is new or has changed.
    pub fn put_slice(&mut self, slice: EndpointSlice) {
        self.remove_slice(&slice.key);
        if slice.service.is_empty() {
            return;
        }
        let service = NamespacedName {
            namespace: slice.key.namespace.clone(),
            name: slice.service.clone(),
        };
        self.service_of.insert(slice.key.clone(), service.clone());
        self.dirty.insert(service.clone());
        let slices = self.slices.entry(service).or_default();
        slices.insert(slice.key.name.clone(), slice);
    }

    /// A slice is gone.
    pub fn remove_slice(&mut self, key: &NamespacedName) {
        let Some(service) = self.service_of.remove(key) else {
            return;
        };
        if let Some(slices) = self.slices.get_mut(&service) {
            slices.remove(&key.name);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.dirty.insert(service);
    }

    /// What changed since the last call.
    #[must_use]
    pub fn changes(&mut self) -> Vec<ServiceChange> {
        let mut touched = BTreeSet::new();
        let mut dirty = std::mem::take(&mut self.dirty);
        // Whoever goes makes room before others take it.
        for key in &dirty {
            let wanted = self.frontends(key);
            self.release(key, &wanted, &mut touched);
        }
        if self.claims.len() < self.settings.max_frontends {
            dirty.append(&mut self.beyond);
        }
        for key in &dirty {
            let wanted = self.frontends(key);
            self.claim(key, wanted, &mut touched);
            self.complain(key);
        }
        touched
            .into_iter()
            .filter_map(|frontend| self.change(frontend))
            .collect()
    }

    /// The addresses of a service's endpoints, ready or not.
    pub fn endpoints(&self, key: &NamespacedName) -> BTreeSet<IpAddr> {
        let usable = self.slices_of(key).flat_map(|slice| {
            let endpoints = slice.endpoints.iter();
            endpoints.filter(move |endpoint| refusal(slice, endpoint).is_none())
        });
        usable.map(|endpoint| endpoint.addr).collect()
    }

    /// Whether somebody has the frontend.
    pub fn has(&self, frontend: &Frontend) -> bool {
        self.claims.contains_key(frontend)
    }

    /// Everything that is translated, by frontend.
    pub fn rows(&self) -> impl Iterator<Item = FrontendRow<'_>> {
        self.claims.iter().filter_map(|(frontend, owners)| {
            let service = self.services.get(owners.first()?)?;
            let mut visible = self.merged(service, frontend);
            visible.retain(|_, endpoint| !service.local_only || endpoint.local);
            let list = backends(service, &visible);
            let states = visible.values().map(|endpoint| endpoint.state());
            Some(FrontendRow {
                frontend: *frontend,
                service,
                endpoints: list.into_iter().zip(states).collect(),
            })
        })
    }

    /// What is not followed, and why: one line per service, a bounded number.
    pub fn problems(&self) -> Vec<String> {
        let complaints = self.complaints.iter();
        let complaints = complaints.map(|(key, reason)| format!("{key}: {reason}"));
        let contested = self.contested.iter().map(|frontend| {
            let owners = &self.claims[frontend];
            format!(
                "{}: {frontend} is a frontend of {} already; give one of them another ClusterIP",
                owners[1], owners[0]
            )
        });
        let beyond = self.beyond.iter().map(|key| {
            let most = self.settings.max_frontends;
            format!(
                "{key}: not translated, for there are {most} frontends already: raise the limit of services"
            )
        });
        let crowded = self.crowded.iter().map(|(frontend, count)| {
            format!("{frontend} has {count} endpoints, {MAX_ENDPOINTS} of them are used")
        });
        let mut all = beyond.chain(contested).chain(crowded).chain(complaints);
        let mut told: Vec<String> = all.by_ref().take(MAX_PROBLEMS).collect();
        let more = all.count();
        if more > 0 {
            told.push(format!("{more} more"));
        }
        told
    }

    /// Where a service is reached.
    fn frontends(&self, key: &NamespacedName) -> BTreeSet<Frontend> {
        let Some(service) = self.services.get(key) else {
            return BTreeSet::new();
        };
        let is_wanted = |addr: &&IpAddr| {
            unusable(**addr).is_none()
                && match Family::of(**addr) {
                    Family::Ipv4 => self.settings.ipv4,
                    Family::Ipv6 => self.settings.ipv6,
                }
        };
        let ports = || {
            let ports = service.ports.iter();
            ports.filter(|port| matches!(port.proto, Protocol::Tcp | Protocol::Udp))
        };
        let addrs = service.cluster_ips.iter().filter(is_wanted);
        let frontends = addrs.flat_map(|addr| {
            ports().map(|port| Frontend {
                addr: *addr,
                port: port.port,
                proto: port.proto,
            })
        });
        frontends.collect()
    }

    /// The service no longer claims what it does not want.
    fn release(
        &mut self,
        key: &NamespacedName,
        wanted: &BTreeSet<Frontend>,
        touched: &mut BTreeSet<Frontend>,
    ) {
        let Some(held) = self.held.get_mut(key) else {
            return;
        };
        for frontend in held.extract_if(.., |frontend| !wanted.contains(frontend)) {
            touched.insert(frontend);
            let Some(owners) = self.claims.get_mut(&frontend) else {
                continue;
            };
            owners.retain(|owner| owner != key);
            if owners.len() < 2 {
                self.contested.remove(&frontend);
            }
            if owners.is_empty() {
                self.claims.remove(&frontend);
            }
        }
        if held.is_empty() {
            self.held.remove(key);
        }
    }

    fn claim(
        &mut self,
        key: &NamespacedName,
        wanted: BTreeSet<Frontend>,
        touched: &mut BTreeSet<Frontend>,
    ) {
        self.beyond.remove(key);
        for frontend in wanted {
            if !self.claims.contains_key(&frontend)
                && self.claims.len() >= self.settings.max_frontends
            {
                self.beyond.insert(key.clone());
                continue;
            }
            touched.insert(frontend);
            if self.held.entry(key.clone()).or_default().insert(frontend) {
                let owners = self.claims.entry(frontend).or_default();
                owners.push(key.clone());
                if owners.len() > 1 {
                    self.contested.insert(frontend);
                }
            }
        }
    }

    /// What is to be told of a frontend, if it is news.
    fn change(&mut self, frontend: Frontend) -> Option<ServiceChange> {
        let owner = self.claims.get(&frontend).and_then(|owners| owners.first());
        let Some(service) = owner.and_then(|owner| self.services.get(owner)) else {
            self.crowded.remove(&frontend);
            let was_told = self.told.remove(&frontend).is_some();
            return was_told.then_some(ServiceChange::Remove(frontend));
        };
        let merged = self.merged(service, &frontend);
        let mut list = backends(service, &merged);
        self.crowded.remove(&frontend);
        if list.len() > MAX_ENDPOINTS {
            self.crowded.insert(frontend, list.len());
            // Those that take new flows stay.
            list.sort_by_key(|backend| !backend.selectable);
            list.truncate(MAX_ENDPOINTS);
            list.sort();
        }
        let backends = Backends {
            affinity: service.affinity,
            list,
        };
        if self.told.get(&frontend) == Some(&backends) {
            return None;
        }
        self.told.insert(frontend, backends.clone());
        Some(ServiceChange::Put(frontend, backends))
    }

    fn merged(&self, service: &Service, frontend: &Frontend) -> BTreeMap<(IpAddr, u16), Merged> {
        let slices = self.slices_of(&service.key);
        merged(service, slices, frontend, &self.settings.node)
    }

    fn slices_of(&self, key: &NamespacedName) -> impl Iterator<Item = &EndpointSlice> {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// Notes which addresses of a service are left out.
    fn complain(&mut self, key: &NamespacedName) {
        let reason = self.services.get(key).and_then(|service| {
            let addr = service.cluster_ips.iter();
            let mut addr = addr.filter_map(|addr| {
                Some(format!(
                    "ClusterIP {addr} is {}: it is ignored",
                    unusable(*addr)?
                ))
            });
            let mut endpoints = self.slices_of(key).flat_map(|slice| {
                let refused = slice.endpoints.iter();
                refused.filter_map(move |e| {
                    let (name, addr, why) = (&slice.key.name, e.addr, refusal(slice, e)?);
                    Some(format!(
                        "EndpointSlice {name}: {addr} is {why}: it is ignored"
                    ))
                })
            });
            let first = addr.next().or_else(|| endpoints.next());
            let more = addr.count() + endpoints.count();
            first.map(|first| match more {
                0 => first,
                more => format!("{first}, and so are {more} more addresses"),
            })
        });
        match reason {
            Some(reason) => drop(self.complaints.insert(key.clone(), reason)),
            None => drop(self.complaints.remove(key)),
        }
    }
}
