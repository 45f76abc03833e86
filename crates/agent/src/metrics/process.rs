// SPDX-License-Identifier: Apache-2.0
//! The agent's own process, as the kernel tells it.

use std::fmt;
use std::fs;

use super::families as family;
use super::writer::Writer;

/// Field of `/proc/self/stat`, counted after the name: user and system time, in clock ticks.
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;

/// Memory, time and files.
pub(super) fn write(w: &mut Writer<'_>) -> fmt::Result {
    if let Some(pages) = resident_pages() {
        w.gauge(&family::MEMORY, pages * page_size())?;
    }
    if let Some(seconds) = cpu_seconds() {
        let line = (Vec::new(), seconds);
        w.counters(&family::PROCESSOR, [line])?;
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        w.gauge(&family::OPEN_FILES, files.count() as i64)?;
    }
    Ok(())
}

fn resident_pages() -> Option<i64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn page_size() -> i64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().unwrap_or(4096)
}

fn cpu_seconds() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name is in parentheses and may hold blanks.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    let per_second = u64::try_from(per_second.ok().flatten()?).ok()?;
    Some((ticks(USER_TIME)? + ticks(SYSTEM_TIME)?) / per_second.max(1))
}
