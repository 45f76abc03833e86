// SPDX-License-Identifier: Apache-2.0
//! A control plane: etcd, API server, controllers and scheduler on a host of their own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::addresses::{Addresses, CONTROL_PLANE, comma};
use super::kubeconfig::kubeconfig;
use super::kubectl::Kubectl;
use crate::error::{Doing, LabError, Result};
use crate::layout::Layout;
use crate::namespace::Place;
use crate::pki::{Authority, Files, Role};
use crate::process::{Daemon, output};
use crate::underlay::Underlay;
use crate::wait::eventually;

/// The group that may do everything.
const MASTERS: &str = "system:masters";
const READY: Duration = Duration::from_secs(60);
/// In the order of their start.
const PROGRAMS: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

/// A control plane.
pub struct ControlPlane {
    /// The host that it runs on.
    pub place: Place,
    layout: Layout,
    cluster: String,
    addresses: Addresses,
    authority: Authority,
    pki: PathBuf,
    admin: Files,
    daemons: Vec<(&'static str, Daemon)>,
}

impl ControlPlane {
    /// Makes host, authority and certificates, and starts everything; see [`ControlPlane::wait_ready`].
    ///
    /// # Errors
    /// Something cannot be made or started.
    pub(super) fn create(
        layout: &Layout,
        underlay: &Underlay,
        cluster: &str,
        addresses: Addresses,
    ) -> Result<Self> {
        let name = format!("{cluster}/control-plane");
        let port = format!("c{}cp", addresses.id);
        let place = underlay.host(&name, &port, addresses.id, CONTROL_PLANE)?;
        let pki = pki(layout, cluster);
        fs::create_dir_all(&pki).doing("create", &pki)?;
        let authority = Authority::new(&format!("{cluster} kubernetes"))?;
        let admin = authority.issue(&pki, "admin", user("admin", MASTERS))?;
        let mut plane = Self {
            place,
            layout: layout.clone(),
            cluster: cluster.to_owned(),
            addresses,
            authority,
            pki,
            admin,
            daemons: Vec::new(),
        };
        plane.certificates()?;
        for program in PROGRAMS {
            plane.start(program)?;
        }
        Ok(plane)
    }

    fn certificates(&self) -> Result<()> {
        let (authority, pki) = (&self.authority, &self.pki);
        let mut addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        addresses.extend(self.addresses.control_plane());
        addresses.extend(self.addresses.service(1));
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        authority.issue(pki, "apiserver", Role::NamedServer(&addresses, &names))?;
        authority.issue(pki, "kubelet-client", user("kube-apiserver", MASTERS))?;
        authority.write(pki, "ca")?;
        // Any key will do for service accounts: only the API server and the controllers see it.
        Authority::new("service accounts")?.write(pki, "sa")?;
        for name in ["kube-controller-manager", "kube-scheduler"] {
            let text = self.credentials(name, &format!("system:{name}"), None)?;
            let file = pki.join(name).with_extension("conf");
            fs::write(&file, text).doing("write", &file)?;
        }
        let file = self.admin_config();
        let text = kubeconfig(&self.cluster, &self.url(), "admin", &self.admin)?;
        fs::write(&file, text.to_string()).doing("write", &file)
    }

    /// A configuration file for a user of the API server, in `group` if one is named.
    ///
    /// # Errors
    /// Its certificate cannot be made.
    pub fn credentials(&self, stem: &str, name: &str, group: Option<&str>) -> Result<String> {
        let role = Role::User { name, group };
        let files = self.authority.issue(&self.pki, stem, role)?;
        Ok(kubeconfig(&self.cluster, &self.url(), stem, &files)?.to_string())
    }

    /// The authority's certificate.
    pub(super) fn authority_file(&self) -> PathBuf {
        self.pki.join("ca.crt")
    }

    /// The administrator's configuration file.
    #[must_use]
    pub fn admin_config(&self) -> PathBuf {
        admin_config(&self.layout, &self.cluster)
    }

    /// Where the API server is.
    #[must_use]
    pub fn url(&self) -> String {
        let [address, _] = self.addresses.control_plane();
        format!("https://{address}:6443")
    }

    /// kubectl as the administrator.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(
            self.place.clone(),
            self.layout.path().join("bin"),
            self.admin_config(),
            self.pki.join("cache"),
        )
    }

    /// Starts one of `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler` on what it had.
    ///
    /// # Errors
    /// It runs, or cannot be started.
    pub fn start(&mut self, program: &'static str) -> Result<()> {
        let name = process(&self.cluster, program);
        if self.daemons.iter().any(|(running, _)| *running == program) {
            return Err(LabError::Unmet(format!("{name} runs")));
        }
        let mut command = self
            .place
            .command(self.layout.path().join("bin").join(program))?;
        command.args(self.arguments(program)?);
        let daemon = Daemon::start(
            command,
            &self.layout.log(&name),
            &self.layout.process(&name),
        )?;
        self.daemons.push((program, daemon));
        Ok(())
    }

    /// Kills one of them.
    pub fn kill(&mut self, program: &str) {
        for (name, daemon) in &mut self.daemons {
            if *name == program {
                daemon.kill();
            }
        }
        self.daemons.retain(|(name, _)| *name != program);
    }

    fn arguments(&self, program: &str) -> Result<Vec<String>> {
        let file = |name: &str| self.pki.join(name).display().to_string();
        let services = comma(&self.addresses.services());
        Ok(match program {
            "etcd" => etcd(
                &self
                    .layout
                    .data_dir(format!("{}/kubernetes-etcd", self.cluster))?,
            ),
            "kube-apiserver" => api_server(self.addresses.control_plane()[0], &services, &file),
            "kube-controller-manager" => {
                let pods = comma(&self.addresses.pods());
                controllers(&pods, &services, &file)
            }
            _ => vec![
                option("kubeconfig", file("kube-scheduler.conf")),
                option("bind-address", "127.0.0.1"),
                option("leader-elect", "false"),
            ],
        })
    }

    /// Waits until the API server is ready and the controllers have made the default service account,
    /// without which no pod is admitted.
    ///
    /// # Errors
    /// A process ended, or not within 60 s.
    pub fn wait_ready(&mut self) -> Result<()> {
        let what = format!("the control plane of {} is ready", self.cluster);
        eventually(what, READY, || {
            for (name, daemon) in &mut self.daemons {
                if let Some(status) = daemon.exit_status() {
                    let log = self.layout.log(&process(&self.cluster, name));
                    let log = log.display();
                    let text = format!("{name} ended with {status}, see {log}");
                    return Err(LabError::Unmet(text));
                }
            }
            self.get("/readyz")?;
            self.get("/api/v1/namespaces/default/serviceaccounts/default")
        })
        .map(drop)
    }

    /// `GET` of a path of the API server with curl, which takes a tenth of kubectl's time.
    ///
    /// # Errors
    /// No answer, or not 200.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut command = self.place.command("curl")?;
        command
            .args(["--silent", "--show-error", "--fail", "--max-time", "5"])
            .arg("--cacert")
            .arg(&self.admin.ca)
            .arg("--cert")
            .arg(&self.admin.cert)
            .arg("--key")
            .arg(&self.admin.key)
            .arg(format!("{}{path}", self.url()));
        output(command, Duration::from_secs(6))
    }

    /// As [`ControlPlane::get`], parsed.
    ///
    /// # Errors
    /// As there, or no JSON.
    pub fn object(&self, path: &str) -> Result<Value> {
        let text = self.get(path)?;
        serde_json::from_str(&text).map_err(|error| LabError::Unmet(format!("{path}: {error}")))
    }

    /// Process ids by program, for figures.
    #[must_use]
    pub fn processes(&self) -> Vec<(&'static str, i32)> {
        let pids = self.daemons.iter();
        pids.map(|(name, daemon)| (*name, daemon.pid())).collect()
    }
}

/// The name of a process: not that of the etcd that Isthmus uses.
fn process(cluster: &str, program: &str) -> String {
    format!("{cluster}/control-plane/{program}")
}

/// Where the administrator's configuration file of a cluster is.
#[must_use]
pub fn admin_config(layout: &Layout, cluster: &str) -> PathBuf {
    pki(layout, cluster).join("admin.conf")
}

fn pki(layout: &Layout, cluster: &str) -> PathBuf {
    layout.path().join(cluster).join("control-plane/pki")
}

fn user<'a>(name: &'a str, group: &'a str) -> Role<'a> {
    let group = Some(group);
    Role::User { name, group }
}

fn option(name: &str, value: impl AsRef<str>) -> String {
    format!("--{name}={}", value.as_ref())
}

fn etcd(data: &Path) -> Vec<String> {
    vec![
        option("name", "kubernetes"),
        option("initial-cluster", "kubernetes=http://127.0.0.1:2380"),
        option("initial-advertise-peer-urls", "http://127.0.0.1:2380"),
        option("data-dir", data.display().to_string()),
        option("listen-client-urls", "http://127.0.0.1:2379"),
        option("advertise-client-urls", "http://127.0.0.1:2379"),
        option("listen-peer-urls", "http://127.0.0.1:2380"),
        option("log-level", "warn"),
        // Nothing here outlives the machine, and disks of CI are slow.
        "--unsafe-no-fsync".to_owned(),
    ]
}

fn api_server(address: IpAddr, services: &str, file: &dyn Fn(&str) -> String) -> Vec<String> {
    vec![
        option("advertise-address", address.to_string()),
        option("bind-address", "::"),
        option("etcd-servers", "http://127.0.0.1:2379"),
        option("service-cluster-ip-range", services),
        option("client-ca-file", file("ca.crt")),
        option("tls-cert-file", file("apiserver.crt")),
        option("tls-private-key-file", file("apiserver.key")),
        option("kubelet-client-certificate", file("kubelet-client.crt")),
        option("kubelet-client-key", file("kubelet-client.key")),
        option("kubelet-preferred-address-types", "InternalIP"),
        option("service-account-key-file", file("sa.crt")),
        option("service-account-signing-key-file", file("sa.key")),
        option(
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local",
        ),
        option("authorization-mode", "Node,RBAC"),
        option("enable-admission-plugins", "NodeRestriction"),
        option("allow-privileged", "true"),
    ]
}

fn controllers(pods: &str, services: &str, file: &dyn Fn(&str) -> String) -> Vec<String> {
    vec![
        option("kubeconfig", file("kube-controller-manager.conf")),
        option("bind-address", "127.0.0.1"),
        option("leader-elect", "false"),
        option("use-service-account-credentials", "true"),
        option("allocate-node-cidrs", "true"),
        option("cluster-cidr", pods),
        option("node-cidr-mask-size-ipv4", "24"),
        option("node-cidr-mask-size-ipv6", "112"),
        option("service-cluster-ip-range", services),
        option("root-ca-file", file("ca.crt")),
        option("cluster-signing-cert-file", file("ca.crt")),
        option("cluster-signing-key-file", file("ca.key")),
        option("service-account-private-key-file", file("sa.key")),
    ]
}
