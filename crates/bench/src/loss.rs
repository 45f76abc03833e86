// SPDX-License-Identifier: Apache-2.0
//! Rows of faults under traffic: agents killed and restarted, and a remote etcd that stays dead.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use testbed::client::{Connection, Loss, Stream, curl};
use testbed::serve::ECHO_PORT;
use testbed::underlay::url;
use testbed::{Family, LabError, eventually};

use crate::bed::Bed;
use crate::error::Result;
use crate::judge::{Bound, Figure};

/// Admits every port, so that the watched stream goes on.
const POLICY: &str = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: bench\n  namespace: default\n\
     spec:\n  endpointSelector:\n    matchLabels:\n      app: backend\n  ingress:\n  - fromEndpoints:\n    - matchLabels:\n        \
     app: frontend\n        io.cilium.k8s.policy.cluster: cluster5\n";

/// A stream in each family and an open connection from cluster5 to cluster7.
struct Watch {
    streams: Vec<Stream>,
    connection: Connection,
}

impl Watch {
    fn start(bed: &Bed) -> Result<Self> {
        let target = SocketAddr::new(bed.ours.server_v4, ECHO_PORT);
        let mut connection = Connection::open(&bed.ours.client, target)?;
        connection.echo()?;
        let targets = [bed.ours.server_v4, bed.ours.server_v6];
        let streams = targets
            .iter()
            .map(|to| Stream::start(&bed.ours.client, SocketAddr::new(*to, ECHO_PORT)))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self {
            streams,
            connection,
        })
    }

    /// Packets lost and sent of both families, and how many connections broke.
    fn finish(mut self) -> Result<(Loss, u32)> {
        let broken = u32::from(self.connection.echo().is_err());
        let mut sum = Loss::default();
        for stream in self.streams {
            let loss = stream.finish()?;
            sum.sent += loss.sent;
            sum.received += loss.received;
            sum.longest_gap = sum.longest_gap.max(loss.longest_gap);
        }
        Ok((sum, broken))
    }
}

/// `rounds` times `kill -9` and restart, in turns on both sides of the traffic.
pub(crate) fn kills(bed: &mut Bed, rounds: usize) -> Result<Vec<Figure>> {
    let watch = Watch::start(bed)?;
    sleep(Duration::from_millis(300));
    for round in 0..rounds {
        let cluster = ["cluster7", "cluster5"][round % 2];
        bed.lab.cluster_mut(cluster).nodes[0].kill_agent();
        sleep(Duration::from_millis(200));
        bed.lab.cluster_mut(cluster).start_agent(1)?;
        sleep(Duration::from_millis(200));
    }
    let (loss, broken) = watch.finish()?;
    let what = format!("{rounds} × kill -9 + restart of an agent");
    Ok(lost(&what, loss, broken, rounds))
}

fn lost(what: &str, loss: Loss, broken: u32, rounds: usize) -> Vec<Figure> {
    let none = Bound::AtMost(0.0);
    vec![
        Figure::plain(
            &format!("{what}: lost"),
            "packets",
            none,
            loss.lost().into(),
            rounds,
        )
        .noted(loss.to_string()),
        Figure::plain(
            &format!("{what}: TCP broken"),
            "connections",
            none,
            broken.into(),
            rounds,
        ),
    ]
}

/// An agent restarted while the remote's etcd is dead for `dead`.
pub(crate) fn dead_etcd(bed: &mut Bed, dead: Duration) -> Result<Vec<Figure>> {
    let watch = Watch::start(bed)?;
    bed.lab.cluster_mut("cluster5").etcd.kill();
    sleep(Duration::from_secs(1));
    bed.lab.cluster_mut("cluster7").nodes[0].kill_agent();
    bed.lab.cluster_mut("cluster7").start_agent(1)?;
    sleep(dead / 2);
    let cluster = bed.lab.cluster("cluster7");
    cluster.apply_text("bench-policy.yaml", POLICY)?;
    let enforced = enforced(bed);
    sleep(dead / 2);
    let (loss, broken) = watch.finish()?;
    bed.lab.cluster("cluster7").withdraw("bench-policy.yaml")?;
    let etcd = &mut bed.lab.cluster_mut("cluster5").etcd;
    etcd.start()?;
    etcd.wait_until_healthy()?;
    let what = format!("restart, remote's etcd dead {} s", dead.as_secs());
    let mut figures = lost(&what, loss, broken, 1);
    let note = enforced.as_ref().err().map(ToString::to_string);
    let right = f64::from(u8::from(enforced.is_ok()));
    let what = "policy naming that cluster's labels meanwhile";
    figures.push(
        Figure::plain(what, "1 = enforced right", Bound::AtLeast(1.0), right, 1)
            .noted(note.unwrap_or_default()),
    );
    Ok(figures)
}

/// The named pods of the dead cluster get in, its others do not, and neither do our own.
fn enforced(bed: &Bed) -> Result<()> {
    let address = url(bed.ours.server_v4, 80);
    let limit = Duration::from_millis(700);
    for stranger in ["cluster5/other", "cluster7/other"] {
        let place = &bed.lab.pod(stranger)?.place;
        let what = format!("{stranger} is refused");
        eventually(what, Duration::from_secs(10), || {
            match curl(place, &address, limit) {
                Ok(_) => Err("it was answered"),
                Err(_) => Ok(()),
            }
        })?;
    }
    for family in Family::BOTH {
        let to = bed.lab.pod("cluster7/server")?.address(family)?;
        curl(&bed.ours.client, &url(to, 80), limit)
            .map_err(|error| LabError::Unmet(format!("the admitted pod over {family}: {error}")))?;
    }
    Ok(())
}
