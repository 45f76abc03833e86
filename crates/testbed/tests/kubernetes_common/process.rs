// SPDX-License-Identifier: Apache-2.0
//! A machine's agent as its kernel sees it.

use std::fs;
use std::path::{Path, PathBuf};

use testbed::kubernetes::Machine;

/// Jiffies of /proc per second.
const TICKS: f64 = 100.0;

/// The directory in /proc of a machine's agent.
pub(crate) fn agent(machine: &Machine) -> Option<PathBuf> {
    let namespace = fs::read_link(format!("/proc/{}/ns/net", machine.init().ok()?)).ok()?;
    let is_agent = |path: &PathBuf| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        line.starts_with(b"/usr/bin/isthmus\0agent\0")
            && fs::read_link(path.join("ns/net")).is_ok_and(|found| found == namespace)
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.map(|entry| entry.path()).find(is_agent)
}

/// Megabytes.
pub(crate) fn resident(process: &Path) -> f64 {
    let text = fs::read_to_string(process.join("status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: f64 = line
        .and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
        .expect("a number");
    kilobytes * 1024.0 / 1e6
}

/// Seconds, of the kernel and of itself.
pub(crate) fn cpu(process: &Path) -> f64 {
    let text = fs::read_to_string(process.join("stat")).expect("it runs");
    let (_, rest) = text.rsplit_once(')').expect("a name");
    let fields: Vec<f64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    fields.iter().sum::<f64>() / TICKS
}
