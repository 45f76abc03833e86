// SPDX-License-Identifier: Apache-2.0
//! `service list`.

use api::Client;
use api::models::{BackendAddress, Service, ServiceSpec};

use crate::args::Service as Command;
use crate::table::{align, tall_row};
use crate::text::{clean, endpoint};
use crate::{Error, output};

pub(super) async fn run(client: &Client, command: Command) -> Result<(), Error> {
    let Command::List(args) = command;
    let mut services = client.services().await?;
    services.sort_by_key(|service| service.spec.as_ref().map(|spec| spec.id));
    output::answer(args.output.as_ref(), &services, |services| list(services))
}

/// The table, in the given order.
pub(super) fn list(services: &[Service]) -> String {
    let mut text = "ID\tFrontend\tService Type\tBackend\t\n".to_owned();
    // What is in force; before that, what shall be.
    let specs = services.iter().filter_map(|service| {
        let status = service.status.as_ref();
        let realized = status.and_then(|status| status.realized.as_ref());
        realized.or(service.spec.as_ref())
    });
    for spec in specs {
        text += &row(spec);
    }
    align(&text)
}

fn row(spec: &ServiceSpec) -> String {
    let front = &spec.frontend_address;
    let scope = match front.scope.as_str() {
        "internal" => "/i",
        _ => "",
    };
    let protocol = clean(&front.protocol);
    let frontend = format!("{}/{protocol}{scope}", endpoint(&front.ip, front.port));
    let (id, kind) = (spec.id.to_string(), clean(&spec.flags.kind));
    let backends: Vec<String> = spec
        .backend_addresses
        .iter()
        .enumerate()
        .map(|(i, to)| backend(i + 1, to))
        .collect();
    tall_row(&[&id, &frontend, &kind, ""], 3, &backends, true)
}

fn backend(number: usize, to: &BackendAddress) -> String {
    let at = endpoint(&to.ip, to.port);
    let (protocol, state) = (clean(&to.protocol), clean(&to.state));
    format!("{number} => {at}/{protocol} ({state})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_per_backend() {
        let json = r#"[
            {"spec": {"id": 7}, "status": {"realized": {"id": 7,
                "frontend-address": {"ip": "10.96.12.9", "protocol": "TCP", "port": 8080, "scope": "external"},
                "backend-addresses": [
                    {"ip": "10.1.1.73", "protocol": "TCP", "port": 8080, "state": "active", "preferred": true},
                    {"ip": "10.1.1.74", "protocol": "TCP", "port": 8080, "state": "terminating", "preferred": true}],
                "flags": {"type": "ClusterIP", "name": "echo", "namespace": "test"}}}},
            {"spec": {"id": 8,
                "frontend-address": {"ip": "fd00::9", "protocol": "UDP", "port": 53, "scope": "internal"},
                "backend-addresses": null,
                "flags": {"type": "ClusterIP"}}}]"#;
        let services: Vec<Service> = serde_json::from_str(json).expect("an answer of an agent");
        let text = list(&services);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "ID   Frontend              Service Type   Backend",
                "7    10.96.12.9:8080/TCP   ClusterIP      1 => 10.1.1.73:8080/TCP (active)",
                "                                          2 => 10.1.1.74:8080/TCP (terminating)",
                "8    [fd00::9]:53/UDP/i    ClusterIP",
            ]
        );
    }
}
