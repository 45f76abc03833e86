// SPDX-License-Identifier: Apache-2.0
//! ADD: ask, plan, execute; and take everything back if a step fails.

use std::net::IpAddr;
use std::time::Instant;

use api::models::{EndpointChangeRequest, IpamRequest};
use api::{Client, EndpointRef, StatusCode};
use netlink::{Dad, Mac, NetNs, Route, Scope, Socket, VethEnd, VethSpec, sysctl};

use crate::Error;
use crate::agent::{self, PAUSE, is_busy, patiently};
use crate::delete::queue_deletion;
use crate::error::{Failure, is_away};
use crate::input::{Add, Request};
use crate::log::Log;
use crate::names::{altname, attachment, host_device};
use crate::plan::{Plan, allocated, plan};
use api::queue::{self, Deletion};

/// Number under which the agent is asked to choose one.
const ANY: EndpointRef = EndpointRef::Local(0);

pub(crate) async fn add(request: &Request, add: &Add, log: &Log) -> Result<String, Failure> {
    let deadline = Instant::now() + request.connect_timeout;
    let netns = open_namespace(add)?;
    be_alone(&netns, add, deadline).await?;
    let client = agent::client(request);
    let config = agent::connect(&client, request.connect_timeout).await?;
    let kernel = Kernel::open(netns)?;
    remove_leftovers(&kernel, &client, add).await?;

    let wanted = IpamRequest {
        owner: owner(add),
        expiration: true,
        ..IpamRequest::default()
    };
    let ipam = patiently(deadline, async || client.allocate(&wanted).await)
        .await
        .map_err(|source| Error::Agent {
            operation: "get an address",
            source,
        })?;
    let mut undo = Undo {
        addresses: allocated(&ipam),
        ..Undo::default()
    };
    log.debug(&format!("got {:?}", undo.addresses));

    let macs = [(); 2].map(|()| Mac::local(rand::random()));
    let done = match plan(add, request.mtu, &config, &ipam, macs) {
        Ok(plan) => execute(request, &kernel, &client, add, &plan, deadline, &mut undo)
            .await
            .map(|mac| (plan, mac)),
        Err(error) => Err(error),
    };
    match done {
        Ok((plan, mac)) => Ok(plan.made(mac).to_json(request.version)),
        Err(error) => {
            let left = undo.undo(request, &kernel, &client, log).await;
            Err(Failure { error, left })
        }
    }
}

fn open_namespace(add: &Add) -> Result<NetNs, Error> {
    let netns = NetNs::open(&add.netns).map_err(|source| Error::Namespace { source })?;
    if is_own(&netns)? {
        return Err(Error::HostNamespace {
            path: add.netns.clone(),
        });
    }
    Ok(netns)
}

/// Waits until no other ADD works in the namespace: a runtime that lost patience may try again while the first still runs.
async fn be_alone(netns: &NetNs, add: &Add, deadline: Instant) -> Result<(), Error> {
    while !netns.try_lock()? {
        if Instant::now() + PAUSE > deadline {
            return Err(Error::UnderWay {
                path: add.netns.clone(),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Whether a namespace is the plugin's own.
fn is_own(netns: &NetNs) -> Result<bool, Error> {
    Ok(netns.inode()? == NetNs::current()?.inode()?)
}

fn owner(add: &Add) -> String {
    if add.pod.name.is_empty() {
        add.container.clone()
    } else {
        format!("{}/{}", add.pod.namespace, add.pod.name)
    }
}

/// Both namespaces.
struct Kernel {
    netns: NetNs,
    host: Socket,
    pod: Socket,
}

impl Kernel {
    fn open(netns: NetNs) -> Result<Self, Error> {
        Ok(Self {
            host: Socket::open()?,
            pod: Socket::open_in(&netns)?,
            netns,
        })
    }
}

/// Removes devices of an ADD that was killed; the host's end takes the pod's along. Those of a living endpoint stay, and so
/// does an interface of somebody else: then ADD ends.
async fn remove_leftovers(kernel: &Kernel, client: &Client, add: &Add) -> Result<(), Error> {
    let (container, interface) = (add.container.clone(), add.interface.clone());
    let host = host_device(&container, &interface);
    if kernel.host.link(&host)?.is_some() {
        let id = attachment(&container, Some(&interface));
        match client.endpoint(&id).await {
            Ok(_) => {
                return Err(Error::Present {
                    container,
                    interface,
                });
            }
            Err(error) if error.refused() == Some(StatusCode::NOT_FOUND) => {
                kernel.host.delete_link(&host)?;
            }
            Err(source) => {
                return Err(Error::Agent {
                    operation: "look for an earlier endpoint",
                    source,
                });
            }
        }
    }
    match kernel.pod.link(&interface)? {
        None => Ok(()),
        Some(_) => Err(Error::Occupied { interface }),
    }
}

/// Makes everything; returns the pod's Ethernet address. `undo` knows of every step before it is taken.
async fn execute(
    request: &Request,
    kernel: &Kernel,
    client: &Client,
    add: &Add,
    plan: &Plan,
    deadline: Instant,
    undo: &mut Undo,
) -> Result<Mac, Error> {
    undo.device = Some(plan.host_device.clone());
    let index = make_devices(kernel, plan)?;
    configure_pod(kernel, plan)?;
    let change = plan.change(index, kernel.netns.cookie()?);
    let id = attachment(&add.container, Some(&add.interface));
    queue::withdraw(&request.run_dir, &Deletion::Endpoint(id.clone()))?;
    undo.endpoint = Some(id);
    let made = make_endpoint(client, &change, deadline).await;
    if matches!(&made, Err(Error::Agent { source, .. }) if is_busy(source)) {
        // Refused before anything was done: a queued deletion would hit the endpoint of a later ADD.
        undo.endpoint = None;
    }
    let mac = made?;
    match mac {
        Some(mac) if mac != plan.pod_mac => {
            kernel.pod.set_mac(&plan.pod_device, mac)?;
            Ok(mac)
        }
        _ => Ok(plan.pod_mac),
    }
}

fn make_devices(kernel: &Kernel, plan: &Plan) -> Result<u32, Error> {
    let near = VethEnd::new(&plan.host_device).with_mac(plan.host_mac);
    let far = VethEnd::new(&plan.pod_device)
        .with_mac(plan.pod_mac)
        .in_netns(&kernel.netns);
    kernel.host.add_veth(&VethSpec {
        near,
        far,
        mtu: Some(plan.mtu),
    })?;
    sysctl::write(
        &format!("net/ipv4/conf/{}/rp_filter", plan.host_device),
        "0",
    )?;
    if let Some((gso, gro)) = plan.offload {
        kernel
            .host
            .set_offload_limits(&plan.host_device, gso, gro)?;
        kernel.pod.set_offload_limits(&plan.pod_device, gso, gro)?;
    }
    kernel.host.set_up(&plan.host_device)?;
    Ok(kernel.host.index_of(&plan.host_device)?)
}

fn configure_pod(kernel: &Kernel, plan: &Plan) -> Result<(), Error> {
    let switches: Vec<(&str, &str)> = plan
        .switches
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    sysctl::write_in(&kernel.netns, &switches)?;
    kernel
        .pod
        .add_altname(&plan.pod_device, &altname(&plan.pod_device))?;
    kernel.pod.set_up(&plan.pod_device)?;
    let link = kernel.pod.index_of(&plan.pod_device)?;
    for ip in &plan.ips {
        kernel
            .pod
            .ensure_address(link, ip.address, Scope::Global, Dad::Skip)?;
    }
    for planned in &plan.routes {
        let mut route = Route::new(planned.destination);
        route.link = Some(link);
        route.gateway = planned.gateway;
        route.mtu = planned.mtu;
        if planned.gateway.is_none() {
            route.scope = Scope::Link;
        }
        kernel.pod.ensure_route(&route)?;
    }
    Ok(())
}

/// Asks for the endpoint and waits until it is built; returns the Ethernet address that the agent wants for the pod.
async fn make_endpoint(
    client: &Client,
    change: &EndpointChangeRequest,
    deadline: Instant,
) -> Result<Option<Mac>, Error> {
    let endpoint = patiently(deadline, async || {
        client.create_endpoint(&ANY, change).await
    })
    .await
    .map_err(|source| Error::Agent {
        operation: "make the endpoint",
        source,
    })?;
    let networking = endpoint.status.and_then(|status| status.networking);
    match networking.map(|n| n.mac).filter(|mac| !mac.is_empty()) {
        None => Ok(None),
        Some(mac) => match mac.parse() {
            Ok(mac) => Ok(Some(mac)),
            Err(error) => Err(Error::Answer {
                problem: error.to_string(),
            }),
        },
    }
}

/// What a failed ADD has to take back.
#[derive(Default)]
struct Undo {
    addresses: Vec<IpAddr>,
    device: Option<String>,
    endpoint: Option<EndpointRef>,
}

impl Undo {
    /// Takes everything back; goes on after a failure and returns what could not be done, in words.
    async fn undo(
        self,
        request: &Request,
        kernel: &Kernel,
        client: &Client,
        log: &Log,
    ) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(endpoint) = self.endpoint {
            let deleted = match client.delete_endpoint(&endpoint).await {
                Ok(_) => Ok(()),
                Err(error) if error.refused() == Some(StatusCode::NOT_FOUND) => Ok(()),
                Err(error) if is_away(&error) => {
                    queue_deletion(request, client, &Deletion::Endpoint(endpoint), log).await
                }
                Err(source) => Err(Error::Agent {
                    operation: "delete the endpoint",
                    source,
                }),
            };
            left.extend(deleted.err().map(|error| error.to_string()));
        }
        if let Some(device) = self.device {
            let deleted = kernel.host.delete_link(&device);
            left.extend(deleted.err().map(|error| error.to_string()));
        }
        for ip in self.addresses {
            match client.release_address(ip, "").await {
                Ok(()) => {}
                // It went with the endpoint, or goes by its expiration.
                Err(error) if error.refused() == Some(StatusCode::NOT_FOUND) => {}
                Err(error) if is_away(&error) => {
                    log.warn(&format!("{ip} expires by itself: {error}"))
                }
                Err(source) => left.push(format!("cannot give {ip} back: {source}")),
            }
        }
        left
    }
}
