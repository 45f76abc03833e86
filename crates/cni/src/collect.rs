// SPDX-License-Identifier: Apache-2.0
//! GC: what belongs to no container any more goes. The runtime names all that live; it calls no ADD or DEL meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use api::EndpointRef;
use netlink::Socket;

use crate::input::{Collect, Delete, Request};
use crate::log::Log;
use crate::names::{host_device, is_host_device};
use crate::{Error, agent, delete};

/// How long GC waits for an agent that does not answer.
const CONNECT: Duration = Duration::from_secs(5);

/// Removes endpoints and devices that nobody named. One that does not go keeps no other; the first error is told at the end.
pub(crate) async fn collect(
    request: &Request,
    collect: &Collect,
    log: &Log,
) -> Result<String, Error> {
    let told = endpoints(request, collect, log).await;
    let removed = devices(collect, log);
    told.and(removed).map(|()| String::new())
}

async fn endpoints(request: &Request, collect: &Collect, log: &Log) -> Result<(), Error> {
    let client = agent::client(request);
    agent::connect(&client, CONNECT.min(request.connect_timeout)).await?;
    let known = client.endpoints(&[]).await;
    let known = known.map_err(|source| Error::Agent {
        operation: "list the endpoints",
        source,
    })?;
    let mut result = Ok(());
    for endpoint in known {
        let names = endpoint
            .status
            .and_then(|status| status.external_identifiers);
        let id = names.map(|names| names.cni_attachment_id);
        let id = id.and_then(|id| format!("cni-attachment-id:{id}").parse().ok());
        // What no plugin made has no such name.
        let Some(EndpointRef::Attachment {
            container,
            interface: Some(interface),
        }) = id
        else {
            continue;
        };
        if collect.lives(&container, &interface) {
            continue;
        }
        log.info(&format!("nobody has {container} {interface} any more"));
        let gone = Delete {
            container,
            interface: Some(interface),
        };
        let deleted = delete::delete(request, &gone, log).await;
        result = result.and(deleted.map(drop));
    }
    result
}

/// Devices of which the agent knows nothing.
fn devices(collect: &Collect, log: &Log) -> Result<(), Error> {
    let valid = collect.valid.iter();
    let wanted: BTreeSet<_> = valid
        .map(|one| host_device(&one.container, &one.interface))
        .collect();
    let socket = Socket::open()?;
    let mut result = Ok(());
    for link in socket.links()? {
        if is_host_device(&link.name) && !wanted.contains(&link.name) {
            log.info(&format!("nobody has {} any more", link.name));
            result = result.and(socket.delete_link(&link.name));
        }
    }
    Ok(result?)
}
