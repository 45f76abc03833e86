// SPDX-License-Identifier: Apache-2.0
//! `/ipam`: addresses for plugins, with an expiration until the endpoint is made.

use std::net::IpAddr;
use std::time::Instant;

use api::models::*;
use api::{Answer, ApiError, StatusCode};
use ipnet::IpNet;

use super::Service;
use crate::held::{EXPIRATION, Pending};
use crate::ipam::{IpamError, Pool};

impl Service {
    pub(super) fn allocate_addresses(&self, request: &IpamRequest) -> Answer<IpamResponse> {
        let mut core = self.core();
        if !core.ready {
            return Err(not_ready());
        }
        let owner = if request.owner.is_empty() {
            "unknown"
        } else {
            &request.owner
        };
        let mut given: Vec<(IpAddr, IpNet)> = Vec::new();
        for v4 in [true, false] {
            let wanted = request
                .family
                .is_none_or(|family| (family == Family::V4) == v4);
            let core = &mut *core;
            let pool = if v4 { &mut core.pool4 } else { &mut core.pool6 };
            let Some(pool) = pool.as_mut().filter(|_| wanted) else {
                continue;
            };
            match pool.allocate(owner) {
                Ok(ip) => given.push((ip, pool.range())),
                Err(error) => {
                    for (ip, _) in given {
                        core.release(ip);
                    }
                    return Err(ApiError::new(StatusCode::BAD_GATEWAY, error.to_string()));
                }
            }
        }
        let mut response = IpamResponse {
            host_addressing: self.host_addressing(&core),
            ..Default::default()
        };
        for (ip, range) in given {
            let uuid = if request.expiration {
                new_uuid()
            } else {
                String::new()
            };
            if request.expiration {
                core.pending.insert(
                    ip,
                    Pending {
                        owner: owner.to_owned(),
                        uuid: uuid.clone(),
                        until: Instant::now() + EXPIRATION,
                        taken: false,
                    },
                );
            }
            let gateway = core
                .node
                .routers()
                .find(|router| router.is_ipv4() == ip.is_ipv4());
            let address = IpamAddress {
                ip: ip.to_string(),
                gateway: gateway.map(|ip| ip.to_string()).unwrap_or_default(),
                cidrs: vec![range.to_string()],
                expiration_uuid: uuid.clone(),
                ..Default::default()
            };
            let pair = &mut response.address;
            if ip.is_ipv4() {
                (pair.ipv4, pair.ipv4_pool_name, pair.ipv4_expiration_uuid) =
                    (ip.to_string(), "default".into(), uuid);
                response.ipv4 = Some(address);
            } else {
                (pair.ipv6, pair.ipv6_pool_name, pair.ipv6_expiration_uuid) =
                    (ip.to_string(), "default".into(), uuid);
                response.ipv6 = Some(address);
            }
        }
        if request.expiration {
            // Before the answer: a restart must not give them to somebody else.
            core.save_held();
        }
        Ok(response)
    }

    pub(super) fn reserve_address(&self, ip: IpAddr, owner: &str) -> Answer<()> {
        let mut core = self.core();
        let pool = pool_of(&mut core, ip)?;
        pool.reserve(ip, owner).map_err(|error| {
            let code = match error {
                IpamError::InUse { .. } => StatusCode::CONFLICT,
                _ => StatusCode::BAD_REQUEST,
            };
            ApiError::new(code, error.to_string())
        })
    }

    pub(super) fn free_address(&self, ip: IpAddr) -> Answer<()> {
        let mut core = self.core();
        if core.node.routers().any(|router| router == ip) {
            return Err(ApiError::failed(format!("address {ip} is this node's own")));
        }
        if let Some(endpoint) = core
            .endpoints
            .values()
            .find(|e| e.attachment.ips().any(|own| own == ip))
        {
            return Err(ApiError::failed(format!(
                "address {ip} belongs to endpoint {} ({}); delete the endpoint",
                endpoint.attachment.id, endpoint.attachment.pod
            )));
        }
        if let Some(living) = core.living.get(&ip) {
            return Err(ApiError::failed(format!(
                "address {ip} belongs to the pod behind {}, whose endpoint could not be restored; delete the pod",
                living.device
            )));
        }
        if core.pending.get(&ip).is_some_and(|pending| pending.taken) {
            return Err(ApiError::failed(format!(
                "address {ip} belongs to an endpoint that is being made"
            )));
        }
        pool_of(&mut core, ip)?
            .release(ip)
            .map_err(|error| ApiError::not_found(error.to_string()))?;
        if core.pending.remove(&ip).is_some() {
            core.save_held();
        }
        Ok(())
    }

    /// Takes back addresses that nobody made an endpoint with.
    pub(crate) fn expire_addresses(&self) {
        let mut core = self.core();
        let now = Instant::now();
        let expired: Vec<IpAddr> = core
            .pending
            .iter()
            .filter(|(_, p)| p.until <= now && !p.taken)
            .map(|(ip, _)| *ip)
            .collect();
        for ip in &expired {
            core.release(*ip);
        }
        if !expired.is_empty() {
            core.save_held();
        }
    }

    pub(super) fn host_addressing(
        &self,
        core: &crate::core::Core<datapath::Linux>,
    ) -> NodeAddressing {
        let element = |ip: Option<IpAddr>, range: Option<IpNet>| {
            let (Some(ip), Some(range)) = (ip, range) else {
                return NodeAddressingElement::default();
            };
            NodeAddressingElement {
                enabled: true,
                ip: ip.to_string(),
                alloc_range: range.to_string(),
                ..Default::default()
            }
        };
        let node = &core.node;
        NodeAddressing {
            ipv4: Some(element(
                node.router4.map(IpAddr::from),
                node.pods4.map(IpNet::from),
            )),
            ipv6: Some(element(
                node.router6.map(IpAddr::from),
                node.pods6.map(IpNet::from),
            )),
        }
    }
}

fn pool_of(core: &mut crate::core::Core<datapath::Linux>, ip: IpAddr) -> Answer<&mut Pool> {
    let pool = if ip.is_ipv4() {
        core.pool4.as_mut()
    } else {
        core.pool6.as_mut()
    };
    pool.ok_or_else(|| {
        ApiError::invalid(format!(
            "{ip}: this address family is disabled on this node"
        ))
    })
}

pub(super) fn not_ready() -> ApiError {
    ApiError::not_ready("the agent is starting: it waits for its first lists; try again")
}

fn new_uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .unwrap_or_default()
        .trim()
        .to_owned()
}
