// SPDX-License-Identifier: Apache-2.0
//! What is measured on: two connected clusters with a node and two pods each, and on the same underlay two
//! hosts with a kernel VXLAN bridge between their pods (flannel's shape).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use testbed::manifest::PodManifest;
use testbed::process::Daemon;
use testbed::{ClusterSpec, Family, Keep, Lab, Place, Programs, eventually, underlay};

use crate::error::{Error, Result};

/// Block of the baseline's hosts in the underlay.
const BLOCK: u8 = 240;

/// A client's and a server's end of one way to talk.
#[derive(Clone)]
pub(crate) struct Ends {
    pub(crate) client: Place,
    pub(crate) server: Place,
    pub(crate) server_v4: IpAddr,
    pub(crate) server_v6: IpAddr,
}

/// Everything.
pub(crate) struct Bed {
    pub(crate) lab: Lab,
    /// Pod to pod between the clusters.
    pub(crate) ours: Ends,
    /// Pod to pod over the kernel VXLAN bridge.
    pub(crate) bridge: Ends,
    /// Host to host.
    pub(crate) host: Ends,
}

impl Bed {
    /// Builds all; `lab` is the testbed's own binary.
    pub(crate) fn create(lab: PathBuf) -> Result<Self> {
        let name = format!("bench-{}", std::process::id());
        let mut lab = Lab::create(&name, &Programs::find(lab)?, Keep::No)?;
        for id in [5, 7] {
            lab.add_cluster(&ClusterSpec::numbered(id, 1))?;
        }
        lab.connect_all()?;
        lab.start_agents()?;
        for (cluster, pod, app) in [
            ("cluster5", "client", "frontend"),
            ("cluster5", "other", "reports"),
            ("cluster7", "server", "backend"),
            ("cluster7", "other", "other"),
        ] {
            let manifest = PodManifest {
                namespace: "default".to_owned(),
                name: pod.to_owned(),
                node: "node1".to_owned(),
                ports: vec![80],
            };
            lab.cluster_mut(cluster)
                .run_pod(&manifest, &[("app", app)])?;
        }
        let host = hosts(&lab)?;
        let bridge = bridge(&lab, &host)?;
        let server = lab.pod("cluster7/server")?;
        let ours = Ends {
            client: lab.pod("cluster5/client")?.place.clone(),
            server: server.place.clone(),
            server_v4: server.address(Family::V4)?,
            server_v6: server.address(Family::V6)?,
        };
        for ends in [&ours, &bridge, &host] {
            reachable(ends)?;
        }
        Ok(Self {
            lab,
            ours,
            bridge,
            host,
        })
    }

    /// Starts a program that serves until the end of the lab.
    pub(crate) fn serve(&self, ends: &Ends, program: &str, args: &[&str]) -> Result<()> {
        let mut command = ends.server.command(program)?;
        command.args(args);
        let layout = self.lab.layout();
        let file = ends.server.netns.file_name().unwrap_or_default();
        let name = format!("{program}-{}", file.to_string_lossy());
        Daemon::start(command, &layout.log(&name), &layout.process(&name))?;
        Ok(())
    }
}

/// The first packets resolve neighbours and open the path.
fn reachable(ends: &Ends) -> Result<()> {
    for address in [ends.server_v4, ends.server_v6] {
        let text = address.to_string();
        eventually(format!("{text} answers"), Duration::from_secs(10), || {
            ends.client.run("ping", &["-c", "1", "-W", "1", &text])
        })?;
    }
    Ok(())
}

fn hosts(lab: &Lab) -> Result<Ends> {
    let host = |number: u8| {
        let name = format!("base{number}");
        lab.underlay.host(&name, &name, BLOCK, number)
    };
    Ok(Ends {
        client: host(1)?,
        server: host(2)?,
        server_v4: underlay::address_v4(BLOCK, 2).into(),
        server_v6: underlay::address_v6(BLOCK, 2).into(),
    })
}

/// One VXLAN segment between two bridges, on a port that no agent uses.
fn bridge(lab: &Lab, hosts: &Ends) -> Result<Ends> {
    let mut pods = Vec::new();
    for (host, own, other) in [(&hosts.client, 1, 2), (&hosts.server, 2, 1)] {
        let pod = Place::create(&lab.layout().netns(&format!("base-pod{own}")))?;
        let remote = underlay::address_v4(BLOCK, other);
        let local = underlay::address_v4(BLOCK, own);
        let inside = pod.netns.display();
        host.ip(&format!(
            "link add cni0 type bridge mcast_snooping 0\n\
             link add flannel.1 type vxlan id 1 local {local} remote {remote} dstport 8473 dev eth0\n\
             link set flannel.1 mtu 1450 master cni0 up\n\
             link add pod0 type veth peer name eth0 netns {inside}\n\
             link set pod0 mtu 1450 master cni0 up\n\
             link set cni0 up"
        ))?;
        pod.ip(&format!(
            "link set eth0 mtu 1450 up\naddr add 10.240.0.{own}/24 dev eth0\naddr add fd00:240::{own}/64 dev eth0 nodad"
        ))?;
        pods.push(pod);
    }
    let server = pods.pop().expect("two were made");
    let client = pods.pop().expect("two were made");
    let literal = |text: &str| {
        text.parse().map_err(|_| Error::Tool {
            tool: "the address parser",
            answer: text.to_owned(),
        })
    };
    Ok(Ends {
        client,
        server,
        server_v4: literal("10.240.0.2")?,
        server_v6: literal("fd00:240::2")?,
    })
}
