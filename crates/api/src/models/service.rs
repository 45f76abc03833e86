// SPDX-License-Identifier: Apache-2.0
//! `/service`: one entry per address and port of a service.

use super::*;

model! {
    /// A service at one of its addresses and ports.
    "kebab-case" Service { spec: Option<ServiceSpec>, status: Option<ServiceStatus>, }
}
model! {
    /// What is in force.
    "kebab-case" ServiceStatus { realized: Option<ServiceSpec>, }
}
model! {
    /// Where a service is reached and who answers. Clients need `flags`.
    "kebab-case" ServiceSpec { id: i64, } always {
        #[serde(with = "null_list")]
        backend_addresses: Vec<BackendAddress>,
        frontend_address: FrontendAddress,
        flags: ServiceFlags,
    }
}
model! {
    /// Where a service is reached; `scope` is `external` or `internal`.
    "kebab-case" FrontendAddress { ip: String, protocol: String, port: u16, scope: String, }
}
model! {
    /// One that answers.
    "camelCase" BackendAddress {
        protocol: String,
        port: u16,
        /// `active`, `quarantined`, `terminating`, `terminating-not-serving`.
        state: String,
        preferred: bool,
    } always { ip: String, }
}
model! {
    /// What a service is.
    "camelCase" ServiceFlags {
        #[serde(rename = "type")]
        kind: String,
        name: String,
        namespace: String,
        ext_traffic_policy: String,
        int_traffic_policy: String,
    }
}
