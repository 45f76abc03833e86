// SPDX-License-Identifier: Apache-2.0
//! Rows of TCP streams, with iperf3: the reference tool, so that anybody can compare.

use std::net::IpAddr;
use std::time::Duration;

use testbed::eventually;
use testbed::process::output;

use crate::bed::{Bed, Ends};
use crate::error::{Error, Result};
use crate::judge::{Bound, Figure, Rounds, ratios};

/// Seconds of one round.
const SECONDS: &str = "1";
/// How long one run of iperf3 may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Which stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Streams {
    /// One, over IPv4; also against host to host.
    One,
    /// Eight, over IPv4.
    Eight,
    /// One, over IPv6.
    Six,
}

/// Starts the servers of all three ways; to be called once.
pub(crate) fn serve(bed: &Bed) -> Result<()> {
    for ends in [&bed.ours, &bed.bridge, &bed.host] {
        bed.serve(ends, "iperf3", &["--server"])?;
        eventually("iperf3 serves", Duration::from_secs(5), || {
            gigabits(ends, ends.server_v4, 1, "1").map(drop)
        })?;
    }
    Ok(())
}

/// The row of `which`.
pub(crate) fn run(bed: &Bed, rounds: Rounds, which: Streams) -> Result<Vec<Figure>> {
    let six = |ends: &Ends| gigabits(ends, ends.server_v6, 1, SECONDS);
    let four = |ends: &Ends, count| gigabits(ends, ends.server_v4, count, SECONDS);
    let bridge = "VXLAN bridge";
    match which {
        Streams::One => {
            let sides = [
                (bridge, Bound::AtLeast(1.0)),
                ("host to host", Bound::AtLeast(0.55)),
            ];
            ratios("one TCP stream, IPv4", &sides, "Gbit/s", rounds, |_| {
                Ok(vec![
                    four(&bed.ours, 1)?,
                    four(&bed.bridge, 1)?,
                    four(&bed.host, 1)?,
                ])
            })
        }
        Streams::Eight => {
            let sides = [(bridge, Bound::AtLeast(1.0))];
            ratios("8 TCP streams, IPv4", &sides, "Gbit/s", rounds, |_| {
                Ok(vec![four(&bed.ours, 8)?, four(&bed.bridge, 8)?])
            })
        }
        Streams::Six => {
            let sides = [(bridge, Bound::AtLeast(0.95))];
            ratios("one TCP stream, IPv6", &sides, "Gbit/s", rounds, |_| {
                Ok(vec![six(&bed.ours)?, six(&bed.bridge)?])
            })
        }
    }
}

fn gigabits(ends: &Ends, to: IpAddr, count: u8, seconds: &str) -> Result<f64> {
    let mut command = ends.client.command("iperf3")?;
    let (to, count) = (to.to_string(), count.to_string());
    command.args(["--client", &to, "--json", "--parallel", &count]);
    command.args(["--time", seconds]);
    let text = output(command, LIMIT)?;
    let answer = |answer: String| Error::Tool {
        tool: "iperf3",
        answer,
    };
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| answer(error.to_string()))?;
    json["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .map(|bits| bits / 1e9)
        .ok_or_else(|| answer(json["error"].to_string()))
}
