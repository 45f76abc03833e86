// SPDX-License-Identifier: Apache-2.0
//! All rows by name, and how long each is measured.

use std::time::Duration;

use crate::bed::Bed;
use crate::error::Result;
use crate::judge::{Figure, Rounds};
use crate::streams::Streams;
use crate::{agent, cni, loss, programs, small, spread, status, streams};

/// How long everything is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    rounds: Rounds,
    /// Keys written in the remote etcd.
    keys: u8,
    starts: usize,
    pods: usize,
    kills: usize,
    /// How long a remote's etcd stays dead.
    pub(crate) dead: Duration,
}

impl Scale {
    /// As the table says.
    pub(crate) const FULL: Self = Self {
        rounds: Rounds { least: 7, most: 30 },
        keys: 200,
        starts: 10,
        pods: 100,
        kills: 20,
        dead: Duration::from_secs(300),
    };
    /// Does it run at all?
    pub(crate) const QUICK: Self = Self {
        rounds: Rounds { least: 3, most: 3 },
        keys: 50,
        starts: 3,
        pods: 10,
        kills: 4,
        dead: Duration::from_secs(20),
    };
}

/// What a row works on.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Test runs alone.
    Kernel(fn(Scale) -> Result<Vec<Figure>>),
    /// The lab.
    Bed(fn(&mut Bed, Scale) -> Result<Vec<Figure>>),
}

/// A row.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) work: Work,
}

const fn kernel(
    name: &'static str,
    about: &'static str,
    work: fn(Scale) -> Result<Vec<Figure>>,
) -> Row {
    let work = Work::Kernel(work);
    Row { name, about, work }
}

const fn bed(
    name: &'static str,
    about: &'static str,
    work: fn(&mut Bed, Scale) -> Result<Vec<Figure>>,
) -> Row {
    let work = Work::Bed(work);
    Row { name, about, work }
}

/// In the order of the table; what breaks things comes last.
pub(crate) const ROWS: &[Row] = &[
    bed("stream", "one TCP stream, IPv4", |bed, scale| {
        streams::run(bed, scale.rounds, Streams::One)
    }),
    bed("streams", "8 TCP streams, IPv4", |bed, scale| {
        streams::run(bed, scale.rounds, Streams::Eight)
    }),
    bed("stream6", "one TCP stream, IPv6", |bed, scale| {
        streams::run(bed, scale.rounds, Streams::Six)
    }),
    bed("rr", "1-byte request/response", |bed, scale| {
        small::request(bed, scale.rounds)
    }),
    bed("crr", "connect + request + close", |bed, scale| {
        small::connect(bed, scale.rounds)
    }),
    bed("udp", "64-byte datagrams, one flow", |bed, scale| {
        small::datagrams(bed, scale.rounds)
    }),
    kernel("flows", "established flow by live flows", |scale| {
        programs::established(scale.rounds)
    }),
    kernel("ipcache", "new flow by known addresses", |scale| {
        programs::opening(scale.rounds)
    }),
    kernel(
        "changes",
        "established flow under unrelated changes",
        |scale| programs::changing(scale.rounds),
    ),
    kernel("service", "flow to a service", |scale| {
        programs::services(scale.rounds)
    }),
    bed("memory", "resident memory of an agent", |bed, _| {
        agent::memory(bed)
    }),
    bed("key", "remote etcd to local kernel map", |bed, scale| {
        spread::run(bed, scale.keys)
    }),
    bed("cni", "CNI ADD", |bed, scale| cni::run(bed, scale.pods)),
    bed("start", "agent start to ready", |bed, scale| {
        agent::start(bed, scale.starts)
    }),
    bed("kill", "agents killed under traffic", |bed, scale| {
        loss::kills(bed, scale.kills)
    }),
    bed("status", "how soon a lost etcd is told", |bed, _| {
        status::run(bed)
    }),
    bed(
        "dead-etcd",
        "agent restarted while the remote's etcd is dead",
        |bed, scale| loss::dead_etcd(bed, scale.dead),
    ),
];
