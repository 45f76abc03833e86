// SPDX-License-Identifier: Apache-2.0
//! Step 7 of the demo: agents and etcds die, and traffic goes on.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use crate::client::{Connection, Stream};
use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::manifest::PodManifest;
use crate::pod::Family;
use crate::serve::ECHO_PORT;

use super::reach::reach;
use super::report::Report;

/// How long traffic is watched after each fault.
const WATCH: Duration = Duration::from_secs(2);

pub(super) fn all(lab: &mut Lab, report: &mut Report) {
    report.heading(7, "Faults under traffic: 200 datagrams a second and an open TCP connection, cluster5 → cluster7");
    report.check(7, "kill -9 of cluster7/node1's agent: nothing lost", || {
        watched(lab, |lab| {
            lab.cluster_mut("cluster7").nodes[0].kill_agent();
            Ok("without agent".to_owned())
        })
    });
    report.check(7, "its restart: nothing lost", || watched(lab, restart));
    report.check(7, "cluster5's etcd stopped: nothing lost", || {
        watched(lab, |lab| {
            lab.cluster_mut("cluster5").etcd.kill();
            Ok("without cluster5's etcd".to_owned())
        })
    });
    report.check(
        7,
        "cluster7/node1's agent restarted while it is down: nothing lost",
        || {
            lab.cluster_mut("cluster7").nodes[0].kill_agent();
            watched(lab, restart)
        },
    );
    report.check(7, "new connections between the clusters meanwhile", || {
        reach(
            lab.pod("cluster7/backend-1")?,
            lab.pod("cluster5/frontend-1")?,
            Family::V6,
        )?;
        reach(
            lab.pod("cluster5/frontend-1")?,
            lab.pod("cluster7/backend-1")?,
            Family::V4,
        )
    });
    report.check(
        7,
        "cluster5's etcd is back: a new pod is reached from cluster7",
        || new_pod(lab),
    );
}

/// Runs `fault` under traffic, watches on, and wants no loss.
fn watched(lab: &mut Lab, fault: impl FnOnce(&mut Lab) -> Result<String>) -> Result<String> {
    let from = lab.pod("cluster5/frontend-1")?;
    let to = lab.pod("cluster7/backend-1")?;
    let echo = |family| Ok::<_, LabError>(SocketAddr::new(to.address(family)?, ECHO_PORT));
    let streams = [
        Stream::start(&from.place, echo(Family::V4)?)?,
        Stream::start(&from.place, echo(Family::V6)?)?,
    ];
    let mut connection = Connection::open(&from.place, echo(Family::V4)?)?;
    connection.echo()?;
    sleep(Duration::from_millis(300));
    let done = fault(lab);
    sleep(WATCH);
    let connected = connection.echo();
    let losses = streams
        .into_iter()
        .map(Stream::finish)
        .collect::<Result<Vec<_>>>()?;
    let done = done?;
    connected?;
    let text = format!("{done}; IPv4 {}; IPv6 {}", losses[0], losses[1]);
    if losses.iter().any(|loss| loss.lost() > 0) {
        return Err(LabError::Unmet(text));
    }
    Ok(text)
}

fn restart(lab: &mut Lab) -> Result<String> {
    let time = lab.cluster_mut("cluster7").start_agent(1)?;
    Ok(format!("ready after {} ms", time.as_millis()))
}

fn new_pod(lab: &mut Lab) -> Result<String> {
    let cluster = lab.cluster_mut("cluster5");
    cluster.etcd.start()?;
    cluster.etcd.wait_until_healthy()?;
    let manifest = PodManifest {
        namespace: "default".to_owned(),
        name: "late-1".to_owned(),
        node: "node2".to_owned(),
        ports: vec![80],
    };
    cluster.run_pod(&manifest, &[("app", "late")])?;
    reach(
        lab.pod("cluster7/backend-1")?,
        lab.pod("cluster5/late-1")?,
        Family::V4,
    )?;
    reach(
        lab.pod("cluster7/backend-2")?,
        lab.pod("cluster5/late-1")?,
        Family::V6,
    )
}
