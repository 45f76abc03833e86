// SPDX-License-Identifier: Apache-2.0
//! A node from outside: its files, its life and death, and commands that run inside.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::addresses::{Addresses, comma};
use super::cgroups;
use super::init::{IMPORTED, PROGRAMS, Service, Spec};
use super::programs::Programs;
use super::settings::{self, Proxy};
use crate::error::{Doing, LabError, Result};
use crate::layout::Layout;
use crate::namespace::Place;
use crate::process::{Daemon, PATIENCE, output, start_time};
use crate::teardown::is_zombie;
use crate::underlay::Underlay;
use crate::wait::eventually;

/// CNI plugins that every node has: the runtime's own, and those of the stand-in network.
const CNI: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];
const CNI_FROM: &str = "/usr/lib/cni";
/// Archives that every node imports.
const OWN_IMAGES: [&str; 3] = ["pause", "coredns", "tools"];
/// How long a node may take to go on or off.
const POWER: Duration = Duration::from_secs(15);

/// What a node is made from.
pub(super) struct Parts<'a> {
    pub(super) layout: &'a Layout,
    pub(super) underlay: &'a Underlay,
    pub(super) programs: &'a Programs,
    pub(super) cluster: &'a str,
    pub(super) addresses: Addresses,
    pub(super) proxy: Proxy,
}

/// A node.
#[derive(Debug)]
pub struct Machine {
    /// Its cluster.
    pub cluster: String,
    /// Its name in the cluster.
    pub name: String,
    /// Its network namespace, also while it is off.
    pub place: Place,
    /// Its port of the underlay's bridge.
    pub port: String,
    /// Its underlay addresses.
    pub addresses: [IpAddr; 2],
    layout: Layout,
    lab: PathBuf,
    id: u8,
    number: u8,
    root: PathBuf,
    spec_file: PathBuf,
    spec: Spec,
    guardian: Option<Daemon>,
}

impl Machine {
    /// Makes node `number`: its wire and its files. It does not run yet. `credentials` are files for
    /// `/etc/kubernetes`.
    pub(super) fn create(
        parts: &Parts<'_>,
        number: u8,
        credentials: &[(&str, String)],
    ) -> Result<Self> {
        let name = format!("node{number}");
        let full_name = format!("{}/{name}", parts.cluster);
        let id = parts.addresses.id;
        let port = format!("c{id}n{number}");
        let dir = parts.layout.data_dir(&full_name)?;
        let spec = Spec {
            name: name.clone(),
            root: dir.join("root"),
            groups: cgroups::plan(&format!("isthmus-lab-{}", parts.layout.name()), &port)?,
            binds: binds(parts.programs),
            services: services(parts, number, &name),
            images: images(parts.programs),
            record: parts.layout.process(&format!("{full_name}/init")),
        };
        let machine = Self {
            cluster: parts.cluster.to_owned(),
            name,
            place: parts.underlay.host(&full_name, &port, id, number)?,
            port,
            addresses: parts.addresses.host(number),
            layout: parts.layout.clone(),
            lab: parts.programs.lab.clone(),
            id,
            number,
            root: dir.join("root"),
            spec_file: dir.join("spec.json"),
            spec,
            guardian: None,
        };
        machine.write_files(parts, credentials)?;
        Ok(machine)
    }

    fn write_files(&self, parts: &Parts<'_>, credentials: &[(&str, String)]) -> Result<()> {
        let [v4, v6] = self.addresses;
        let host = &self.spec.name;
        let servers = parts.addresses.name_servers();
        let text = serde_json::to_string(&self.spec)
            .map_err(std::io::Error::other)
            .doing("serialise", &self.spec_file)?;
        fs::write(&self.spec_file, text).doing("write", &self.spec_file)?;
        self.write("etc/hostname", &format!("{host}\n"))?;
        self.write(
            "etc/hosts",
            &format!("127.0.0.1 localhost\n::1 localhost\n{v4} {host}\n{v6} {host}\n"),
        )?;
        self.write(
            "etc/resolv.conf",
            &format!("nameserver {}\nnameserver {}\n", servers[0], servers[1]),
        )?;
        let machine_id = format!("{:0>28}{:02x}{:02x}\n", "1ab", self.id, self.number);
        self.write("etc/machine-id", &machine_id)?;
        self.write("etc/containerd/config.toml", &settings::containerd())?;
        let kubelet = settings::kubelet(parts.addresses).to_string();
        self.write("etc/kubernetes/kubelet.json", &kubelet)?;
        if let Some(proxy) = settings::kube_proxy(parts.proxy, &self.name, parts.addresses) {
            self.write("etc/kubernetes/kube-proxy.json", &proxy.to_string())?;
        }
        for (name, text) in credentials {
            self.write(&format!("etc/kubernetes/{name}"), text)?;
        }
        for plugin in CNI {
            let (from, to) = (
                Path::new(CNI_FROM).join(plugin),
                self.file("opt/cni/bin").join(plugin),
            );
            fs::create_dir_all(self.file("opt/cni/bin")).doing("create", &to)?;
            fs::copy(&from, &to).doing("copy", &from)?;
        }
        Ok(())
    }

    /// Writes a file of the node, path from its root.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.file(path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).doing("create", dir)?;
        }
        fs::write(&path, text).doing("write", &path)
    }

    /// A file on the node's disk, from outside. What the node mounted there is not seen.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// `cluster/node`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.cluster, self.name)
    }

    /// Switches the node on. containerd, images and kubelet come up in the background.
    ///
    /// # Errors
    /// It is on, or its first process cannot be started.
    pub fn boot(&mut self) -> Result<()> {
        if self.guardian.is_some() {
            return Err(LabError::Unmet(format!("{} is on", self.full_name())));
        }
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ] {
            self.place.sysctl(key, value)?;
        }
        let paths = self.spec.groups.iter().map(|group| group.path.as_path());
        self.layout.record_groups(paths)?;
        cgroups::create(&self.spec.groups)?;
        let mut command = self.place.command(&self.lab)?;
        command.arg("kubernetes-node").arg(&self.spec_file);
        let name = self.full_name();
        self.guardian = Some(Daemon::start(
            command,
            &self.layout.log(&name),
            &self.layout.process(&name),
        )?);
        eventually(format!("{name} is on"), POWER, || self.init()).map(drop)
    }

    /// Waits until containerd has all images.
    ///
    /// # Errors
    /// It takes longer than 120 s; the last line of the node's log says what it does, or why it ended.
    pub fn wait_for_images(&self) -> Result<()> {
        let marker = self.file(IMPORTED);
        let what = format!("{} has its images", self.full_name());
        let log = self.layout.log(&self.full_name());
        eventually(what, Duration::from_secs(120), || {
            if marker.exists() {
                return Ok(());
            }
            let text = fs::read_to_string(&log).unwrap_or_default();
            Err(text.lines().last().unwrap_or_default().to_owned())
        })
    }

    /// Ends all of the node's processes at once, as a power cut does, and takes its network away; the
    /// disk stays.
    ///
    /// # Errors
    /// Something of it does not go.
    pub fn crash(&mut self, underlay: &Underlay) -> Result<()> {
        let init = self.init()?;
        if let Some(mut guardian) = self.guardian.take() {
            guardian.kill();
        }
        eventually(
            format!("{} is off", self.full_name()),
            POWER,
            || match start_time(init) {
                // What only has to be reaped by the machine's process 1 is gone.
                Some(_) if !is_zombie(init) => Err("it runs"),
                _ => Ok(()),
            },
        )?;
        fs::remove_file(&self.spec.record).doing("remove", &self.spec.record)?;
        for group in &self.spec.groups {
            let path = group.path.display();
            eventually(format!("{path} is empty"), POWER, || {
                cgroups::remove(&group.path)
            })?;
        }
        underlay.unplug(&self.port)?;
        self.place.remove()
    }

    /// Switches a crashed node on again, with fresh wires and the disk that it had.
    ///
    /// # Errors
    /// It did not crash, or cannot be started.
    pub fn recover(&mut self, underlay: &Underlay) -> Result<()> {
        self.place = underlay.host(&self.full_name(), &self.port, self.id, self.number)?;
        self.boot()
    }

    /// The process id of the node's process 1.
    ///
    /// # Errors
    /// The node is off.
    pub fn init(&self) -> Result<i32> {
        let text = fs::read_to_string(&self.spec.record).unwrap_or_default();
        let pid = text.split(' ').next().and_then(|pid| pid.parse().ok());
        pid.ok_or_else(|| LabError::Unmet(format!("{} is off", self.full_name())))
    }

    /// A command inside the node, with the node's programs on its path.
    ///
    /// # Errors
    /// The node is off.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        Ok(inside(self.init()?, program))
    }

    /// Runs a program inside the node to its end.
    ///
    /// # Errors
    /// The node is off, or the program fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(program)?;
        command.args(arguments);
        output(command, PATIENCE)
    }

    /// The network namespace of the pod that has `address`, from outside.
    ///
    /// # Errors
    /// The node is off, or has no such pod.
    pub fn pod(&self, address: IpAddr) -> Result<Place> {
        let dir = PathBuf::from(format!("/proc/{}/root/var/run/netns", self.init()?));
        let places = fs::read_dir(&dir)
            .doing("list", &dir)?
            .flatten()
            .map(|entry| Place {
                netns: entry.path(),
                binds: Vec::new(),
            });
        // Only where the address is local a socket can have it.
        let is_there = |place: &Place| {
            let socket = place.within(|| UdpSocket::bind((address, 0)));
            matches!(socket, Ok(Ok(_)))
        };
        let found = places.into_iter().find(is_there);
        let absent = || LabError::Unmet(format!("{} has no pod with {address}", self.full_name()));
        found.ok_or_else(absent)
    }

    /// The last lines of a service's log: `containerd`, `kubelet`, `kube-proxy`.
    #[must_use]
    pub fn log_tail(&self, service: &str, lines: usize) -> String {
        let path = self.file("var/log").join(service).with_extension("log");
        tail(&fs::read_to_string(path).unwrap_or_default(), lines)
    }
}

/// A command in all namespaces of the process `init`, the first of a node.
pub fn inside(init: i32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &init.to_string(), "--all", "--wdns=/", "--"])
        .args([
            "env",
            &format!("PATH={PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin"),
        ])
        .arg(program);
    command
}

/// The last lines of a text.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn binds(programs: &Programs) -> Vec<(PathBuf, PathBuf)> {
    let inside = |name: &str| Path::new(PROGRAMS).join(name);
    let names = ["kubelet", "kube-proxy", "kubectl"];
    let mut binds: Vec<_> = names
        .iter()
        .map(|name| (programs.kubernetes.clone(), inside(name)))
        .collect();
    binds.push((programs.images.clone(), inside("images")));
    let more = programs.more_images.iter().enumerate();
    binds.extend(more.map(|(number, file)| (file.clone(), inside(&format!("more/{number}.tar")))));
    binds
}

/// Archives as the node sees them, the sandbox first.
fn images(programs: &Programs) -> Vec<PathBuf> {
    let own = OWN_IMAGES
        .iter()
        .map(|name| Path::new(PROGRAMS).join(format!("images/{name}.tar")));
    let more = (0..programs.more_images.len())
        .map(|number| Path::new(PROGRAMS).join(format!("more/{number}.tar")));
    own.chain(more).collect()
}

fn services(parts: &Parts<'_>, number: u8, name: &str) -> Vec<Service> {
    let service = |name: &str, arguments: Vec<String>| {
        let mut command = vec![name.to_owned()];
        command.extend(arguments);
        let name = name.to_owned();
        Service { name, command }
    };
    let kubelet = [
        "--config=/etc/kubernetes/kubelet.json".to_owned(),
        "--kubeconfig=/etc/kubernetes/kubelet.conf".to_owned(),
        "--cert-dir=/var/lib/kubelet/pki".to_owned(),
        format!("--hostname-override={name}"),
        format!("--node-ip={}", comma(&parts.addresses.host(number))),
    ];
    let mut services = vec![service("kubelet", kubelet.to_vec())];
    if parts.proxy != Proxy::None {
        let config = "--config=/etc/kubernetes/kube-proxy.json".to_owned();
        services.push(service("kube-proxy", vec![config]));
    }
    services
}
