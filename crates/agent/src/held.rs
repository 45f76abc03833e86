// SPDX-License-Identifier: Apache-2.0
//! Addresses that no endpoint has and that are not to be given out, or given out last, over restarts: those that a plugin
//! got and may still use, those of pods whose endpoints could not be restored, and those that were in use.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use datapath::{Kernel, ip_addr};
use model::EndpointId;
use netlink::Link;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::endpoint::{self, Damaged};

/// Files below the state directory.
const FREED_FILE: &str = "state/freed-addresses.json";
const HELD_FILE: &str = "state/held-addresses.json";
/// What follows if one is damaged.
const CONSEQUENCE: &str = "its addresses may be given out again at once";
/// What status calls them.
const FREED: &str = "freed addresses on disk";
const HELD: &str = "held addresses on disk";
/// Largest file that is read.
const MAX_FILE: u64 = 16 << 20;
/// An address that no endpoint has taken is free again after this.
pub(crate) const EXPIRATION: Duration = Duration::from_secs(600);
/// So long after a start it is held at least: its plugin may not have noticed yet that the agent was gone.
const GRACE: Duration = Duration::from_secs(60);

/// An address given out to a plugin that has not made its endpoint yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pending {
    pub(crate) owner: String,
    pub(crate) uuid: String,
    pub(crate) until: Instant,
    /// Its endpoint is being made: it does not expire.
    pub(crate) taken: bool,
}

/// Whose an address is that belongs to a living pod without an endpoint, because the endpoint's file is damaged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Living {
    pub(crate) id: u16,
    /// Host side of its veth pair.
    pub(crate) device: String,
    pub(crate) ifindex: u32,
}

impl Living {
    fn is_there(&self, links: &[Link]) -> bool {
        let mut links = links.iter();
        links.any(|link| link.index == self.ifindex && link.name == self.device)
    }

    fn owner(&self) -> String {
        format!(
            "device {} of an endpoint that could not be restored",
            self.device
        )
    }
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    pending: Vec<PendingRow>,
    living: HashMap<IpAddr, Living>,
}

#[derive(Serialize, Deserialize)]
struct PendingRow {
    ip: IpAddr,
    owner: String,
    uuid: String,
    /// When it is free again, in seconds since the machine started.
    until: Option<u64>,
}

/// How long the machine runs: unlike an `Instant` it means the same to the next run of the agent.
fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

impl PendingRow {
    /// An agent that starts again and again must not hold addresses for ever.
    fn left(&self) -> Duration {
        let until = self.until.map(Duration::from_secs);
        let left = until.map(|until| until.saturating_sub(uptime()));
        left.unwrap_or(EXPIRATION).clamp(GRACE, EXPIRATION)
    }
}

impl<K: Kernel> Core<K> {
    /// Addresses of before this start that no restored endpoint has. `links` are the devices of this node.
    pub(crate) fn restore_held(&mut self, damaged: Vec<Damaged>, links: &[Link]) {
        let file: Option<File> = self.read(HELD_FILE, CONSEQUENCE);
        let file = file.unwrap_or_default();
        for row in file.pending {
            if self.reserve(row.ip, &row.owner) {
                let pending = Pending {
                    until: Instant::now() + row.left(),
                    owner: row.owner,
                    uuid: row.uuid,
                    taken: false,
                };
                self.pending.insert(row.ip, pending);
            }
        }
        let living = file.living.into_iter();
        let mut living: HashMap<IpAddr, Living> =
            living.filter(|(_, one)| one.is_there(links)).collect();
        for damaged in damaged {
            let found = self.living_of(damaged.id, links);
            living.extend(found);
            let addresses: Vec<String> = living
                .iter()
                .filter(|(_, one)| Some(one.id) == damaged.id.map(|id| id.0))
                .map(|(ip, one)| format!("{ip} while {} is there", one.device))
                .collect();
            let kept = if addresses.is_empty() {
                "no device of it is known".into()
            } else {
                format!(
                    "its pod gets no packets until it is deleted, and keeps {}",
                    addresses.join(", ")
                )
            };
            let subject = damaged.path.display().to_string();
            let problem = format!("{}; the endpoint is not restored: {kept}", damaged.reason);
            self.note(&subject, Some(problem));
        }
        for (ip, one) in living {
            self.reserve(ip, &one.owner());
            self.living.insert(ip, one);
        }
        // Written down at once: the kernel forgets the endpoint with this start.
        self.save_held();
        // A damaged file costs only the order.
        let freed: Option<Vec<IpAddr>> = self.read(FREED_FILE, CONSEQUENCE);
        let freed = freed.unwrap_or_default();
        self.restore_freed(&freed);
    }

    /// What the kernel's maps say of an endpoint whose device is still there.
    fn living_of(&self, id: Option<EndpointId>, links: &[Link]) -> Vec<(IpAddr, Living)> {
        let Some((id, slot)) = self.dp.endpoints().find(|(found, _)| Some(*found) == id) else {
            return Vec::new();
        };
        let Some(link) = links.iter().find(|link| link.index == slot.ifindex) else {
            return Vec::new();
        };
        let living = Living {
            id: id.0,
            device: link.name.clone(),
            ifindex: link.index,
        };
        let ips = [slot.ipv4, slot.ipv6];
        let ips = ips.iter().filter_map(ip_addr);
        ips.map(|ip| (ip, living.clone())).collect()
    }

    /// Whether the address was free and is reserved now.
    fn reserve(&mut self, ip: IpAddr, owner: &str) -> bool {
        let pool = if ip.is_ipv4() {
            self.pool4.as_mut()
        } else {
            self.pool6.as_mut()
        };
        pool.is_some_and(|pool| !pool.has(ip) && pool.reserve(ip, owner).is_ok())
    }

    /// Takes back an address of an endpoint that was not made: it expires as before, or is free. One that an endpoint has
    /// by now, of another request for the same pod, stays.
    pub(crate) fn give_back(&mut self, ip: IpAddr) {
        let mut all = self.endpoints.values().map(|known| &known.attachment);
        if let Some(pending) = self.pending.get_mut(&ip) {
            pending.taken = false;
        } else if !all.any(|attachment| attachment.ips().any(|own| own == ip)) {
            self.release(ip);
        }
    }

    /// Frees addresses whose pods are gone by now, with what is left of their endpoints.
    pub(crate) fn free_dead(&mut self, links: &[Link]) {
        let dead = self.living.iter().filter(|(_, one)| !one.is_there(links));
        let dead: Vec<(IpAddr, Living)> = dead.map(|(ip, one)| (*ip, one.clone())).collect();
        for (ip, one) in &dead {
            self.living.remove(ip);
            self.release(*ip);
            let path = endpoint::path(&self.endpoint_dir, EndpointId(one.id));
            let subject = path.display().to_string();
            let removed = endpoint::forget(&self.endpoint_dir, EndpointId(one.id));
            self.note(&subject, removed.err());
            tracing::info!(%ip, device = one.device, "the pod is gone, its address is free");
        }
        if !dead.is_empty() {
            self.save_held();
            self.save_freed();
        }
    }

    /// Writes down which addresses are held without an endpoint.
    pub(crate) fn save_held(&mut self) {
        let (uptime, now) = (uptime(), Instant::now());
        let pending = self.pending.iter().map(|(ip, pending)| PendingRow {
            ip: *ip,
            owner: pending.owner.clone(),
            uuid: pending.uuid.clone(),
            until: Some((uptime + pending.until.saturating_duration_since(now)).as_secs()),
        });
        let file = File {
            pending: pending.collect(),
            living: self.living.clone(),
        };
        let result = self.write(HELD_FILE, &file);
        self.note(HELD, result.err());
    }

    /// Writes down which addresses were in use.
    pub(crate) fn save_freed(&mut self) {
        let result = self.write(FREED_FILE, &self.freed());
        self.note(FREED, result.err());
    }

    /// Writes what a full disk refused.
    pub(crate) fn retry_held(&mut self) {
        if self.notes.contains_key(HELD) {
            self.save_held();
        }
        if self.notes.contains_key(FREED) {
            self.save_freed();
        }
    }

    /// Writes a file below the state directory.
    pub(crate) fn write(&self, file: &str, content: &impl Serialize) -> std::io::Result<()> {
        let path = self.config.state_dir.join(file);
        let new = path.with_extension("new");
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(&new, serde_json::to_vec(content)?)?;
        std::fs::rename(&new, &path)
    }

    /// Reads such a file. `None` if there is none, or it is damaged, which is noted with what follows from that.
    pub(crate) fn read<T: for<'de> Deserialize<'de>>(
        &mut self,
        file: &str,
        consequence: &str,
    ) -> Option<T> {
        let path = self.config.state_dir.join(file);
        let result = read_bounded(&path)?;
        let subject = path.display().to_string();
        match result {
            Ok(content) => Some(content),
            Err(error) => {
                let problem = format!("{error}; {consequence}");
                self.note(&subject, Some(problem));
                None
            }
        }
    }
}

fn read_bounded<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<Result<T, String>> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(error.to_string())),
    };
    if size > MAX_FILE {
        return Some(Err(format!("{size} bytes, at most {MAX_FILE} are read")));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string());
    Some(bytes.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())))
}
