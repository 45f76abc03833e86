// SPDX-License-Identifier: Apache-2.0
//! The loads that are compared: iperf3 for streams and datagrams, a client of our own for requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Doing, LabError, Result};
use crate::lab::Lab;
use crate::namespace::Place;
use crate::pod::Family;
use crate::process::{Daemon, output};
use crate::serve::ECHO_PORT;

use super::Path2;

/// How long one measurement of requests takes.
const SPAN: Duration = Duration::from_millis(500);

/// What to send.
pub(super) enum Load {
    /// Bits per second of TCP streams.
    Tcp { streams: u8, family: Family },
    /// Datagrams of 64 bytes that arrive per second.
    Datagrams,
    /// Median time of a one-byte request, in seconds.
    RoundTrip,
    /// Connections with one request per second.
    Connect,
}

/// Starts the servers of all loads at a place; the echo server may run there already.
pub(super) fn serve(lab: &Lab, name: &str, place: &Place) -> Result<()> {
    let layout = lab.layout();
    let start = |name: String, command| {
        Daemon::start(command, &layout.log(&name), &layout.process(&name)).map(drop)
    };
    let mut iperf = place.command("iperf3")?;
    iperf.arg("--server");
    start(format!("bench/iperf/{name}"), iperf)?;
    let mut echo = place.command(layout.path().join("bin/lab"))?;
    echo.args(["serve", "--name", name]);
    start(format!("bench/echo/{name}"), echo)
}

impl Load {
    pub(super) fn tcp(streams: u8, family: Family) -> Self {
        Self::Tcp { streams, family }
    }

    pub(super) fn family(&self) -> Family {
        match self {
            Self::Tcp { family, .. } => *family,
            Self::Datagrams | Self::RoundTrip | Self::Connect => Family::V4,
        }
    }

    pub(super) fn measure(&self, path: &Path2) -> Result<f64> {
        match self {
            Self::Tcp { streams, .. } => {
                let report = iperf(path, &["--parallel", &streams.to_string()])?;
                figure(
                    &report,
                    report["end"]["sum_received"]["bits_per_second"].as_f64(),
                )
            }
            Self::Datagrams => {
                let report = iperf(path, &["--udp", "--bitrate", "0", "--length", "64"])?;
                let sum = &report["end"]["sum"];
                let arrived = || {
                    Some(
                        (sum["packets"].as_f64()? - sum["lost_packets"].as_f64()?)
                            / sum["seconds"].as_f64()?,
                    )
                };
                figure(&report, arrived())
            }
            Self::RoundTrip => path
                .from
                .within(|| round_trip(path))?
                .doing("measure requests in", &path.from.netns),
            Self::Connect => path
                .from
                .within(|| connects(path))?
                .doing("measure connections in", &path.from.netns),
        }
    }
}

fn iperf(path: &Path2, arguments: &[&str]) -> Result<Value> {
    let mut command = path.from.command("iperf3")?;
    command
        .args(["--json", "--time", "1", "--client", &path.to.to_string()])
        .args(arguments);
    let text = output(command, Duration::from_secs(20))?;
    serde_json::from_str(&text).map_err(|error| LabError::Unmet(format!("iperf3: {error}: {text}")))
}

fn figure(report: &Value, value: Option<f64>) -> Result<f64> {
    value
        .filter(|value| *value > 0.0)
        .ok_or_else(|| LabError::Unmet(format!("iperf3 gave no figure: {}", report["error"])))
}

fn round_trip(path: &Path2) -> std::io::Result<f64> {
    let mut stream = connect(path)?;
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < SPAN {
        let sent = Instant::now();
        request(&mut stream)?;
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64())
}

fn connects(path: &Path2) -> std::io::Result<f64> {
    let started = Instant::now();
    let mut count = 0.0;
    while started.elapsed() < SPAN {
        request(&mut connect(path)?)?;
        count += 1.0;
    }
    Ok(count / started.elapsed().as_secs_f64())
}

fn connect(path: &Path2) -> std::io::Result<TcpStream> {
    let target = SocketAddr::new(path.to, ECHO_PORT);
    let stream = TcpStream::connect_timeout(&target, Duration::from_secs(3))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn request(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}
