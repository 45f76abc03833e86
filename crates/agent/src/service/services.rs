// SPDX-License-Identifier: Apache-2.0
//! `/service`: what is translated, and to whom.

use std::collections::HashMap;
use std::net::SocketAddr;

use api::Answer;
use api::models::{
    self, BackendAddress, FrontendAddress, ServiceFlags, ServiceSpec, ServiceStatus,
};
use datapath::ServiceSlots;
use model::{Backend, EndpointState, FrontendRow};

use super::{Service, failed};

impl Service {
    /// The services that the kernel has, by number.
    pub(super) fn service_list(&self) -> Vec<models::Service> {
        let core = self.core();
        let numbers: HashMap<_, _> = core
            .dp
            .services()
            .into_iter()
            .map(|row| (row.frontend, row.id))
            .collect();
        let rows = core.balancer.services.rows();
        let mut list: Vec<_> = rows
            .filter_map(|row| Some(service(*numbers.get(&row.frontend)?, &row)))
            .collect();
        list.sort_by_key(|service| service.spec.as_ref().map(|spec| spec.id));
        list
    }

    /// The services as the programs find them.
    pub(super) fn service_map(&self) -> Answer<Vec<models::BpfService>> {
        let rows = self.core().dp.service_map().map_err(failed)?;
        Ok(rows.into_iter().map(map_entry).collect())
    }
}

fn map_entry(row: ServiceSlots) -> models::BpfService {
    let frontend = row.frontend;
    models::BpfService {
        id: row.id,
        protocol: frontend.proto.as_str().into(),
        affinity: row.affinity,
        frontend: SocketAddr::new(frontend.addr, frontend.port).to_string(),
        backends: row.slots.iter().map(ToString::to_string).collect(),
    }
}

fn service(id: u32, row: &FrontendRow<'_>) -> models::Service {
    let protocol = row.frontend.proto.as_str();
    let backend = |(backend, state): &(Backend, EndpointState)| BackendAddress {
        ip: backend.addr.to_string(),
        protocol: protocol.into(),
        port: backend.port,
        state: state_word(*state).into(),
        preferred: true,
    };
    let policy = if row.service.local_only {
        "Local"
    } else {
        "Cluster"
    };
    let spec = ServiceSpec {
        id: id.into(),
        frontend_address: FrontendAddress {
            ip: row.frontend.addr.to_string(),
            protocol: protocol.into(),
            port: row.frontend.port,
            scope: "external".into(),
        },
        backend_addresses: row.endpoints.iter().map(backend).collect(),
        flags: ServiceFlags {
            kind: "ClusterIP".into(),
            name: row.service.key.name.to_string(),
            namespace: row.service.key.namespace.to_string(),
            // What comes from outside of the cluster is not translated.
            ext_traffic_policy: "Cluster".into(),
            int_traffic_policy: policy.into(),
        },
    };
    models::Service {
        status: Some(ServiceStatus {
            realized: Some(spec.clone()),
        }),
        spec: Some(spec),
    }
}

/// Cilium's words; one for "not now, and not about to end" it has for backends that fail their checks.
fn state_word(state: EndpointState) -> &'static str {
    match state {
        EndpointState::Ready => "active",
        EndpointState::NotReady => "quarantined",
        EndpointState::Terminating => "terminating",
        EndpointState::TerminatingNotServing => "terminating-not-serving",
    }
}
