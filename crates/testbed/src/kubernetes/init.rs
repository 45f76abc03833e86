// SPDX-License-Identifier: Apache-2.0
//! A node from inside: what `lab kubernetes-node` and `lab kubernetes-init` do.
//!
//! The first joins the node's control groups, makes its namespaces and stays outside as their guardian:
//! killing it ends the node as a power cut would. The second is process 1 of the node: it changes the root
//! to the node's own, starts containerd, imports images, and keeps containerd, kubelet and kube-proxy running.

mod root;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::wait;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::cgroups::{self, Group};
use crate::error::{Doing, LabError, Result};
use crate::process::{output, start_time};
use crate::wait::eventually;

/// Where the node's programs and images are, inside.
pub(super) const PROGRAMS: &str = "/opt/isthmus-lab";
const PATH: &str = "/opt/isthmus-lab:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Written when the last image is there.
pub(super) const IMPORTED: &str = "var/lib/isthmus-lab/imported";
const IMPORT: Duration = Duration::from_secs(120);

/// Everything that a node's own processes must know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    /// The host name.
    pub(super) name: String,
    /// The directory that becomes its root.
    pub(super) root: PathBuf,
    /// Its control groups.
    pub(super) groups: Vec<Group>,
    /// (outside, inside) of what is mounted from the machine, besides its programs.
    pub(super) binds: Vec<(PathBuf, PathBuf)>,
    /// What runs beside containerd.
    pub(super) services: Vec<Service>,
    /// Archives, inside.
    pub(super) images: Vec<PathBuf>,
    /// Where the guardian records process 1.
    pub(super) record: PathBuf,
}

/// A program that is started again when it ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) command: Vec<String>,
}

impl Spec {
    fn read(file: &Path) -> Result<Self> {
        let text = fs::read(file).doing("read", file)?;
        serde_json::from_slice(&text)
            .map_err(std::io::Error::other)
            .doing("parse", file)
    }
}

/// The guardian: makes the namespaces and process 1, and ends with it.
///
/// # Errors
/// A namespace or process cannot be made.
pub fn guard(spec_file: &Path) -> Result<ExitCode> {
    let spec = Spec::read(spec_file)?;
    cgroups::join(&spec.groups)?;
    let spaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(spaces).doing("make the namespaces of", &spec.name)?;
    let program = std::env::current_exe().doing("find", "/proc/self/exe")?;
    let mut command = Command::new(&program);
    command.arg("kubernetes-init").arg(spec_file);
    // SAFETY: between fork and exec the closure makes one system call.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
    // Process 1 is in this mount namespace too: once it has its root, paths of before lead nowhere.
    let mut record = File::create(&spec.record).doing("create", &spec.record)?;
    let mut child = command.spawn().doing("start", &program)?;
    let pid = child.id().cast_signed();
    let line = format!("{pid} {}\n", start_time(pid).unwrap_or_default());
    record
        .write_all(line.as_bytes())
        .doing("record a process in", &spec.record)?;
    let status = child.wait().doing("wait for", &spec.name)?;
    eprintln!("process 1 of {} ended with {status}", spec.name);
    Ok(ExitCode::FAILURE)
}

/// Process 1.
///
/// # Errors
/// The node cannot be set up; it never returns otherwise.
pub fn init(spec_file: &Path) -> Result<ExitCode> {
    let spec = Spec::read(spec_file)?;
    nix::unistd::sethostname(&spec.name).doing("set the host name", &spec.name)?;
    root::enter(&spec)?;
    let containerd = Service {
        name: "containerd".to_owned(),
        command: ["containerd", "-c", "/etc/containerd/config.toml"]
            .map(str::to_owned)
            .to_vec(),
    };
    let mut running = vec![start(containerd)?];
    eventually("containerd answers", Duration::from_secs(30), || {
        ctr(&["version"])
    })?;
    import(&spec.images)?;
    for service in spec.services {
        running.push(start(service)?);
    }
    loop {
        // Also reaps what containers leave to process 1.
        let ended = wait().doing("wait for", "children")?.pid();
        for (pid, service) in &mut running {
            if Some(*pid) == ended {
                eprintln!("{} ended; started again", service.name);
                sleep(Duration::from_secs(1));
                (*pid, _) = start(service.clone())?;
            }
        }
    }
}

fn start(service: Service) -> Result<(Pid, Service)> {
    let log = Path::new("/var/log").join(format!("{}.log", service.name));
    let file = File::options()
        .create(true)
        .append(true)
        .open(&log)
        .doing("open log", &log)?;
    let copy = file.try_clone().doing("open log", &log)?;
    let (program, arguments) = service
        .command
        .split_first()
        .ok_or_else(|| LabError::Unmet(format!("service {} has no command", service.name)))?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .spawn()
        .doing("start", program)?;
    Ok((Pid::from_raw(child.id().cast_signed()), service))
}

/// Imports the archives that containerd does not have yet from an earlier life of the node.
fn import(images: &[PathBuf]) -> Result<()> {
    let marker = Path::new("/").join(IMPORTED);
    if marker.exists() {
        return Ok(());
    }
    let started = Instant::now();
    for image in images {
        let mut command = Command::new("ctr");
        command
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(image)
            .env("PATH", PATH);
        output(command, IMPORT)?;
        println!("{} after {:?}", image.display(), started.elapsed());
    }
    fs::write(&marker, "").doing("write", &marker)
}

fn ctr(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("ctr");
    command.args(arguments).env("PATH", PATH);
    output(command, Duration::from_secs(5))
}
