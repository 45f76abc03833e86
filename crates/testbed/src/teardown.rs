// SPDX-License-Identifier: Apache-2.0
//! Removing a lab: processes, control groups, mounts, namespaces, files. Works from what is found, so that a lab whose
//! owner was killed half-way goes too; never stops at the first error.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kubernetes;
use crate::layout::{AGENT_RUN, DATA, Layout, ROOT};
use crate::process::start_time;

/// Removes everything of `lab`. Returns what could not be removed, in words.
pub fn down(lab: &Layout) -> Vec<String> {
    let mut problems = Vec::new();
    end_processes(lab, &mut problems);
    remove_groups(lab, &mut problems);
    unmount(lab.path(), &mut problems);
    // The record goes last: what could not be removed is found again with it.
    for dir in [&lab.data(), lab.path()] {
        if let Err(error) = fs::remove_dir_all(dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            problems.push(format!("cannot remove {}: {error}", dir.display()));
        }
    }
    // The last lab removes what all share; all fail while another lab is there.
    let _in_use_by_others = fs::remove_dir(DATA);
    if fs::remove_dir(ROOT).is_ok() {
        let _in_use_by_others = fs::remove_dir(AGENT_RUN);
    }
    problems
}

/// Removes the labs whose owner is dead and that nobody asked to keep.
pub fn sweep() -> Vec<String> {
    let abandoned = |lab: &Layout| lab.record().is_ok_and(|record| record.is_abandoned());
    Layout::all()
        .iter()
        .filter(|lab| abandoned(lab))
        .flat_map(down)
        .collect()
}

/// How long processes and control groups may take to go. A node of a Kubernetes lab has many.
const PATIENCE: Duration = Duration::from_secs(20);

fn end_processes(lab: &Layout, problems: &mut Vec<String>) {
    let started = Instant::now();
    // A process that is being started while others are ended is found in a later round.
    loop {
        let alive: HashSet<i32> = recorded(lab).into_iter().chain(inside(lab)).collect();
        if alive.is_empty() {
            return;
        }
        if started.elapsed() > PATIENCE {
            problems.push(format!("processes that do not end: {alive:?}"));
            return;
        }
        for pid in alive {
            // Gone already is as good.
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        sleep(Duration::from_millis(10));
    }
}

/// Processes that the lab wrote down, and that still are the ones that it started.
fn recorded(lab: &Layout) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(lab.path().join("proc")) else {
        return Vec::new();
    };
    let parse = |text: String| {
        let (pid, start) = text.trim().split_once(' ')?;
        Some((pid.parse::<i32>().ok()?, start.parse::<u64>().ok()?))
    };
    entries
        .flatten()
        .filter_map(|entry| parse(fs::read_to_string(entry.path()).ok()?))
        .filter(|(pid, start)| start_time(*pid) == Some(*start) && !is_zombie(*pid))
        .map(|(pid, _)| pid)
        .collect()
}

/// Processes inside the lab's network namespaces: children of its daemons, and shells left open there.
fn inside(lab: &Layout) -> Vec<i32> {
    let inode = |path: &Path| fs::metadata(path).ok().map(|meta| meta.ino());
    let Ok(files) = fs::read_dir(lab.path().join("netns")) else {
        return Vec::new();
    };
    let spaces: HashSet<u64> = files
        .flatten()
        .filter_map(|file| inode(&file.path()))
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            inode(Path::new(&format!("/proc/{pid}/ns/net"))).is_some_and(|ns| spaces.contains(&ns))
        })
        .filter(|pid| !is_zombie(*pid))
        .collect()
}

/// The kernel empties a group a moment after its last process ended.
fn remove_groups(lab: &Layout, problems: &mut Vec<String>) {
    let started = Instant::now();
    for group in lab.groups() {
        while let Err(error) = kubernetes::remove_group(&group) {
            if started.elapsed() > PATIENCE {
                problems.push(format!("cannot remove {}: {error}", group.display()));
                break;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

/// True for a process that ended and was not reaped.
pub(crate) fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'))
}

fn unmount(dir: &Path, problems: &mut Vec<String>) {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else {
        problems.push("cannot read /proc/self/mountinfo".to_owned());
        return;
    };
    let targets: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|target| target.starts_with(dir))
        .collect();
    // Later mounts first.
    for target in targets.iter().rev() {
        if let Err(error) = umount2(target, MntFlags::MNT_DETACH) {
            problems.push(format!("cannot unmount {}: {error}", target.display()));
        }
    }
}
