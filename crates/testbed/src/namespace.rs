// SPDX-License-Identifier: Apache-2.0
//! Network namespaces that outlive processes, and commands that run inside one.
//!
//! `ip netns exec` is never used: it remounts /sys, which hides bpffs and cgroups.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, LabError, Result};
use crate::process;

/// bbr (the default of many hosts) falls to a third of the speed on a virtual wire and makes overlays
/// look faster than the wire; every namespace of a lab uses reno.
const SYSCTLS: [(&str, &str); 3] = [
    ("net/ipv4/tcp_congestion_control", "reno"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];

/// Where a process of the lab runs: a network namespace, and mounts laid over the machine's own tree in
/// a private mount namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// File that keeps the network namespace alive.
    pub netns: PathBuf,
    /// (source, target) of each bind mount; empty for a place that needs no mounts of its own.
    pub binds: Vec<(PathBuf, PathBuf)>,
}

impl Place {
    /// Makes a new network namespace, kept alive by a mount on `netns`, with loopback up.
    ///
    /// # Errors
    /// The namespace cannot be made or kept.
    pub fn create(netns: &Path) -> Result<Self> {
        if crate::interrupt::is_set() {
            return Err(LabError::Interrupted);
        }
        File::create(netns).doing("create", netns)?;
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).doing("unshare the network for", netns)?;
            for (key, value) in SYSCTLS {
                let path = Path::new("/proc/sys").join(key);
                std::fs::write(&path, value).doing("set sysctl", &path)?;
            }
            mount(
                Some("/proc/thread-self/ns/net"),
                netns,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .doing("keep a network namespace at", netns)
        })?;
        let place = Self {
            netns: netns.to_path_buf(),
            binds: Vec::new(),
        };
        place.ip("link set lo up")?;
        Ok(place)
    }

    /// A command that runs here, as the leader of a session of its own, with no signal blocked: Ctrl-C
    /// at the terminal does not reach it.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        self.prepare(program, Session::New)
    }

    /// A command that runs here and keeps the terminal.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn shell(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        self.prepare(program, Session::Inherited)
    }

    fn prepare(&self, program: impl AsRef<OsStr>, session: Session) -> Result<Command> {
        let netns = File::open(&self.netns).doing("open network namespace", &self.netns)?;
        let binds = self.binds.clone();
        let mut command = Command::new(program);
        let enter = move || {
            SigSet::empty().thread_set_mask()?;
            if session == Session::New {
                nix::unistd::setsid()?;
            }
            setns(&netns, CloneFlags::CLONE_NEWNET)?;
            if binds.is_empty() {
                return Ok(());
            }
            unshare(CloneFlags::CLONE_NEWNS)?;
            // Slave, not private: namespaces of later pods and the bpffs must appear here too.
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
            for (source, target) in &binds {
                mount(
                    Some(source),
                    target,
                    none,
                    MsFlags::MS_BIND | MsFlags::MS_REC,
                    none,
                )?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure only makes system calls on values prepared before
        // the fork; paths shorter than 256 bytes are copied to the stack by nix, nothing allocates.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Runs a program here to its end.
    ///
    /// # Errors
    /// It cannot start, takes longer than 30 s, or its status is not 0.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = self.command(program)?;
        command.args(args);
        process::output(command, process::PATIENCE)
    }

    /// Runs `ip` here with the lines of `script` as its batch.
    ///
    /// # Errors
    /// A line fails; the error holds ip's words.
    pub fn ip(&self, script: &str) -> Result<()> {
        self.batch("ip", &["-batch", "-"], script)
    }

    /// Runs `nft` here with `script` as its input.
    ///
    /// # Errors
    /// nft refuses; nothing was changed then.
    pub fn nft(&self, script: &str) -> Result<()> {
        self.batch("nft", &["-f", "-"], script)
    }

    /// Sets a sysctl here, `key` with slashes.
    ///
    /// # Errors
    /// There is no such key, or the value is refused.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.within(|| std::fs::write(&path, value).doing("set sysctl", &path))?
    }

    /// Runs `work` on a thread that has entered this network namespace. Sockets opened there stay
    /// there, whoever uses them later.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        in_thread(|| {
            let netns = File::open(&self.netns).doing("open network namespace", &self.netns)?;
            setns(&netns, CloneFlags::CLONE_NEWNET)
                .doing("enter network namespace", &self.netns)?;
            Ok(work())
        })
    }

    /// Lets the namespace go; it ends with its last process.
    ///
    /// # Errors
    /// It is gone already.
    pub fn remove(&self) -> Result<()> {
        umount2(&self.netns, MntFlags::MNT_DETACH).doing("unmount", &self.netns)?;
        std::fs::remove_file(&self.netns).doing("remove", &self.netns)
    }

    fn batch(&self, program: &str, args: &[&str], script: &str) -> Result<()> {
        let mut command = self.command(program)?;
        command.args(args);
        process::output_with_input(command, script.as_bytes(), process::PATIENCE)
            .map(drop)
            .map_err(|error| LabError::Unmet(format!("{error}\nscript:\n{script}")))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    New,
    Inherited,
}

/// A namespace change belongs to a thread, and a thread that changed must not be used again.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
