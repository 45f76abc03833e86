// SPDX-License-Identifier: Apache-2.0
//! Rows of test runs: what a packet costs in from_pod by how much the node holds. Every packet is a run of
//! its own with caches as the run before left them; the mean of the middle 80 % of a round is taken. The
//! kernel's own share of a run is in both sides.

use abi::{Addr, Flow, FlowKey, addr_bucket, identity_bucket};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::time::Instant;
use zerocopy::transmute;

use crate::error::{Error, Result};
use crate::judge::{Bound, Figure, Rounds, ratios};
use crate::kernel::{Kernel, POD};
use crate::statistics::sorted;

/// Flows of the first row.
const FLOWS: u32 = 200_000;
/// Addresses of the second row.
const ADDRESSES: u32 = 500_000;
/// The other side of that row.
const FEW: u32 = 1_000;
/// Packets of one round.
const PACKETS: usize = 20_000;
/// Unrelated changes per second of the third row.
const CHANGES: f64 = 325.0;
/// Flows of the third row.
const WATCHED: u32 = 10_000;

/// A UDP flow of the pod: the `n`-th.
#[derive(Clone, Copy)]
struct Peer {
    address: [u8; 4],
    ports: (u16, u16),
}

impl Peer {
    /// Many flows to each of 1,000 addresses.
    fn of_few(n: u32) -> Self {
        let port = 1024 + u16::try_from(n / FEW).expect("few flows per address");
        Self {
            address: address(n % FEW),
            ports: (port, 53),
        }
    }

    fn frame(self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 1, 8, 0];
        let mut ip = vec![0x45, 0, 0, 36, 0, 7, 0x40, 0, 64, 17, 0, 0];
        ip.extend(POD);
        ip.extend(self.address);
        let sum = checksum(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        frame.extend(ip);
        frame.extend(self.ports.0.to_be_bytes());
        frame.extend(self.ports.1.to_be_bytes());
        frame.extend([0, 16, 0, 0]);
        frame.extend([0; 8]);
        frame
    }

    fn key(self) -> [u8; 40] {
        transmute!(FlowKey {
            local: Addr::v4(POD),
            remote: Addr::v4(self.address),
            local_port: self.ports.0.to_be_bytes(),
            remote_port: self.ports.1.to_be_bytes(),
            proto: 17,
            pad: [0; 3],
        })
    }
}

fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2);
    let sum: u32 = words
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded to 16 bits")
}

/// The `n`-th remote pod, in 10.128.0.0/9.
fn address(n: u32) -> [u8; 4] {
    (0x0a80_0000 | n).to_be_bytes()
}

/// Identity of the `n`-th remote pod: a hundred pods share one.
fn identity(n: u32) -> u32 {
    7 << 16 | (256 + n / 100)
}

/// Mean of the middle 80 %.
fn middle(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let cut = sorted.len() / 10;
    let middle = &sorted[cut..sorted.len() - cut];
    middle.iter().sum::<f64>() / middle.len() as f64
}

/// Known remote pods and an open flow for each of `flows` peers.
fn prepare(flows: u32) -> Result<Kernel> {
    let mut kernel = Kernel::load()?;
    for n in 0..FEW {
        kernel.remote(address(n), identity(n))?;
    }
    for n in 0..flows {
        kernel.send(&Peer::of_few(n).frame())?;
    }
    Ok(kernel)
}

/// Established flow, 1 → 200,000 live flows in random order.
pub(crate) fn established(rounds: Rounds) -> Result<Vec<Figure>> {
    let mut kernel = prepare(FLOWS)?;
    let mut random = SmallRng::seed_from_u64(1);
    let mut order: Vec<u32> = (0..FLOWS).collect();
    order.shuffle(&mut random);
    let one = Peer::of_few(0).frame();
    let sides = [("1 live flow", Bound::AtMost(1.5))];
    let what = "established, 200,000 live flows, per packet";
    ratios(what, &sides, "ns", rounds, |round| {
        let start = round * PACKETS % order.len();
        let picked = order.iter().cycle().skip(start).take(PACKETS);
        let many: Result<Vec<f64>> = picked
            .map(|n| kernel.send(&Peer::of_few(*n).frame()))
            .collect();
        let single: Result<Vec<f64>> = (0..PACKETS).map(|_| kernel.send(&one)).collect();
        Ok(vec![middle(&many?), middle(&single?)])
    })
}

/// New flow, 1,000 → 500,000 addresses looked up at random.
pub(crate) fn opening(rounds: Rounds) -> Result<Vec<Figure>> {
    let mut kernel = Kernel::load()?;
    for n in 0..ADDRESSES {
        kernel.remote(address(n), identity(n))?;
    }
    let mut random = SmallRng::seed_from_u64(2);
    let mut round_of = |kernel: &mut Kernel, range: u32| {
        let peers: Vec<Peer> = (0..PACKETS)
            .map(|n| Peer {
                address: address(random.random_range(0..range)),
                ports: (1024 + u16::try_from(n).expect("few packets"), 53),
            })
            .collect();
        let times: Result<Vec<f64>> = peers
            .iter()
            .map(|peer| kernel.send(&peer.frame()))
            .collect();
        let times = times?;
        kernel.forget(peers.iter().map(|peer| peer.key()))?;
        Ok::<f64, Error>(middle(&times))
    };
    let sides = [("1,000 addresses", Bound::AtMost(1.5))];
    let what = "new flow, 500,000 addresses, per packet";
    ratios(what, &sides, "ns", rounds, |_| {
        Ok(vec![
            round_of(&mut kernel, ADDRESSES)?,
            round_of(&mut kernel, FEW)?,
        ])
    })
}

/// A flow to a service, and one to the pod behind it: established, and new.
pub(crate) fn services(rounds: Rounds) -> Result<Vec<Figure>> {
    const SERVICE: [u8; 4] = [10, 96, 0, 10];
    let mut kernel = Kernel::load()?;
    let backend = address(0);
    kernel.remote(backend, identity(0))?;
    kernel.service(SERVICE, backend)?;
    // With a checksum, which has to follow.
    let frame = |address, port, to| {
        let ports = (port, to);
        let mut frame = Peer { address, ports }.frame();
        frame[40..42].copy_from_slice(&[0x12, 0x34]);
        frame
    };
    let [service, direct] = [frame(SERVICE, 1000, 53), frame(backend, 1001, 5353)];
    let sides = [("to the pod itself", Bound::AtMost(1.1))];
    let mut figures = ratios(
        "service, established, per packet",
        &sides,
        "ns",
        rounds,
        |_| {
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..PACKETS {
                times[0].push(kernel.send(&service)?);
                times[1].push(kernel.send(&direct)?);
            }
            Ok(times.iter().map(|times| middle(times)).collect())
        },
    )?;
    // Freed entries are used again in the opposite order, and the table's memory is quicker one way than the other: a round has
    // a pass each way.
    let ports = 2000..2000 + PACKETS as u16;
    let mut pass = || {
        let mut times = [Vec::new(), Vec::new()];
        for port in ports.clone() {
            times[0].push(kernel.send(&frame(SERVICE, port, 53))?);
            times[1].push(kernel.send(&frame(backend, port, 5354))?);
        }
        let flows = ports.clone().flat_map(|port| {
            let to = [(SERVICE, 53), (backend, 5353), (backend, 5354)];
            to.map(|(address, to)| {
                let ports = (port, to);
                Peer { address, ports }.key()
            })
        });
        kernel.forget(flows)?;
        Ok::<_, Error>(times.map(|times| middle(&times)))
    };
    let sides = [("to the pod itself", Bound::AtMost(1.4))];
    let what = "service, new flow, per packet";
    let new = ratios(what, &sides, "ns", rounds, |_| {
        let (one, other) = (pass()?, pass()?);
        Ok((0..2)
            .map(|side| f64::midpoint(one[side], other[side]))
            .collect())
    })?;
    figures.extend(new);
    Ok(figures)
}

/// Established flows while others' addresses and identities change.
pub(crate) fn changing(rounds: Rounds) -> Result<Vec<Figure>> {
    let mut kernel = prepare(WATCHED)?;
    let mut random = SmallRng::seed_from_u64(3);
    let (mut hits, mut packets) = (0usize, 0usize);
    let mut fresh = ADDRESSES;
    let sides = [("quiet", Bound::AtMost(1.05))];
    let what = "established under 325 changes/s, per packet";
    let mut figures = ratios(what, &sides, "ns", rounds, |_| {
        let mut times = [Vec::new(), Vec::new()];
        // Slices of both kinds take turns, so that neither has the better time of the round.
        for slice in 0..10 {
            let disturbed = slice % 2 == 0;
            let (mut due, mut last) = (0.0, Instant::now());
            for packet in 0..PACKETS / 5 {
                if disturbed {
                    due += last.elapsed().as_secs_f64() * CHANGES;
                    last = Instant::now();
                    while due >= 1.0 {
                        due -= 1.0;
                        fresh += 1;
                        change(&mut kernel, fresh)?;
                    }
                }
                let peer = Peer::of_few(random.random_range(0..WATCHED));
                // To look at a flow warms it: such a packet is counted and not timed.
                let looked_at = packet % 10 == 0;
                if looked_at && disturbed {
                    hits += usize::from(is_current(&kernel, peer)?);
                    packets += 1;
                }
                let time = kernel.send(&peer.frame())?;
                if !looked_at {
                    times[slice % 2].push(time);
                }
            }
        }
        Ok(vec![middle(&times[0]), middle(&times[1])])
    })?;
    let share = 100.0 * hits as f64 / packets.max(1) as f64;
    let what = "share of hits under 325 changes/s";
    figures.push(Figure::plain(
        what,
        "%",
        Bound::AtLeast(99.0),
        share,
        packets,
    ));
    Ok(figures)
}

/// What the agent does for a new pod elsewhere: identity, address, and their epochs after them.
fn change(kernel: &mut Kernel, n: u32) -> Result<()> {
    let (address, identity) = (address(n % 0x7f_0000), 7 << 16 | (5000 + n % 60_000));
    kernel.remote(address, identity)?;
    kernel.raise(identity_bucket(identity))?;
    kernel.raise(addr_bucket(&Addr::v4(address)))
}

/// Does the flow's remembered decision still hold?
fn is_current(kernel: &Kernel, peer: Peer) -> Result<bool> {
    let Ok(bytes) = kernel.flows.get(&peer.key(), 0) else {
        return Ok(false);
    };
    let flow: Flow = transmute!(bytes);
    // The pod's epoch is 1.
    let addr = kernel.epoch(flow.addr_bucket)?;
    let identity = kernel.epoch(flow.identity_bucket)?;
    Ok(flow.epoch == Flow::epoch_of(1, addr, identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_has_a_key_of_its_own() {
        let keys: std::collections::HashSet<_> =
            (0..FLOWS).map(|n| Peer::of_few(n).key()).collect();
        assert_eq!(keys.len(), FLOWS as usize);
    }
}
