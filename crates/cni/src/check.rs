// SPDX-License-Identifier: Apache-2.0
//! CHECK: is everything still as ADD left it? STATUS: could a pod be added?

use std::time::Duration;

use api::StatusQuery;
use api::models::State;
use netlink::{NetNs, Socket};

use crate::input::{Check, Request};
use crate::names::{attachment, host_device};
use crate::result::PreviousInterface;
use crate::{Error, agent};

/// How long CHECK and STATUS wait for an agent that does not answer.
const CONNECT: Duration = Duration::from_secs(5);

pub(crate) async fn check(request: &Request, check: &Check) -> Result<String, Error> {
    let netns = NetNs::open(&check.netns).map_err(|source| Error::Namespace { source })?;
    let client = agent::client(request);
    agent::connect(&client, CONNECT.min(request.connect_timeout)).await?;
    let id = attachment(&check.container, Some(&check.interface));
    let health = client
        .endpoint_health(&id)
        .await
        .map_err(|source| Error::Agent {
            operation: "read the endpoint's health",
            source,
        })?;
    if health.overall_health == "Failure" {
        let (container, health) = (check.container.clone(), health.overall_health);
        return Err(Error::Unhealthy { container, health });
    }
    devices(check, &netns)?;
    Ok(String::new())
}

fn devices(check: &Check, netns: &NetNs) -> Result<(), Error> {
    let changed = |problem: String| Err(Error::Changed { problem });
    let host = host_device(&check.container, &check.interface);
    match Socket::open()?.link(&host)? {
        None => return changed(format!("device {host} of the host is gone")),
        Some(link) if !link.up => return changed(format!("device {host} of the host is down")),
        Some(_) => {}
    }
    let pod = Socket::open_in(netns)?;
    let name = &check.interface;
    let Some(link) = pod.link(name)? else {
        return changed(format!("device {name} of the container is gone"));
    };
    if !link.up {
        return changed(format!("device {name} of the container is down"));
    }
    let previous = &check.previous;
    let is_pod = |i: &PreviousInterface| i.name == *name && !i.sandbox.is_empty();
    let position = previous.interfaces.iter().position(is_pod);
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if let Some(wanted) = position.map(|at| previous.interfaces[at].mac.to_lowercase())
        && !wanted.is_empty()
        && wanted != mac
    {
        return changed(format!("device {name} has the address {mac}, not {wanted}"));
    }
    let addresses = pod.addresses_of(link.index)?;
    for ip in &previous.ips {
        let ours = ip.interface.is_none() || ip.interface == position;
        if ours && !addresses.iter().any(|a| a.net == ip.address) {
            return changed(format!("address {} of {name} is gone", ip.address));
        }
    }
    let routes = pod.routes()?;
    for wanted in &previous.routes {
        let same = |r: &&netlink::Route| {
            r.destination == wanted.dst && (wanted.gw.is_none() || r.gateway == wanted.gw)
        };
        if !routes
            .iter()
            .any(|r| same(&r) && r.link == Some(link.index))
        {
            return changed(format!("route {} by {name} is gone", wanted.dst));
        }
    }
    Ok(())
}

pub(crate) async fn status(request: &Request) -> Result<String, Error> {
    let client = agent::client(request);
    let not_ready = |problem: String| Error::NotReady { problem };
    agent::connect(&client, CONNECT.min(request.connect_timeout))
        .await
        .map_err(|error| not_ready(error.to_string()))?;
    let query = StatusQuery {
        brief: true,
        require_k8s_connectivity: false,
    };
    let answer = client
        .status(query)
        .await
        .map_err(|error| not_ready(error.to_string()))?;
    match answer.cilium {
        Some(status) if matches!(status.state, State::Ok | State::Disabled) => Ok(String::new()),
        Some(status) => Err(not_ready(status.msg)),
        None => Err(not_ready("it tells no state".into())),
    }
}
