// SPDX-License-Identifier: Apache-2.0
//! A cluster's own etcd: a real server on an address of its own, TLS only, client certificates required.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::{Doing, LabError, Result};
use crate::layout::Layout;
use crate::namespace::Place;
use crate::pki::{Authority, Files, Role};
use crate::process::{Daemon, output};
use crate::underlay::{Underlay, address_v4};
use crate::wait::eventually;

/// Host number of a cluster's etcd in the cluster's block of the underlay.
const HOST: u8 = 100;

/// One etcd server.
pub struct Etcd {
    layout: Layout,
    cluster: String,
    place: Place,
    address: IpAddr,
    data: PathBuf,
    server: Files,
    admin: Files,
    authority: Authority,
    daemon: Option<Daemon>,
}

impl Etcd {
    /// Makes the host, the authority and the certificates of `cluster`'s etcd, and starts it.
    ///
    /// # Errors
    /// It cannot be made, or is not healthy within 20 s.
    pub fn create(layout: &Layout, underlay: &Underlay, cluster: &str, id: u8) -> Result<Self> {
        let place = underlay.host(&format!("{cluster}/etcd"), &format!("etcd{id}"), id, HOST)?;
        let address = IpAddr::V4(address_v4(id, HOST));
        let authority = Authority::new(&format!("{cluster} etcd"))?;
        let pki = layout.dir(format!("{cluster}/pki"))?;
        let loopback = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        let server = authority.issue(&pki, "server", Role::Server(&[address, loopback]))?;
        let admin = authority.issue(&pki, "admin", Role::Client)?;
        let data = layout.dir(format!("{cluster}/etcd"))?;
        let cluster = cluster.to_owned();
        let mut etcd = Self {
            layout: layout.clone(),
            cluster,
            place,
            address,
            data,
            server,
            admin,
            authority,
            daemon: None,
        };
        etcd.start()?;
        etcd.wait_until_healthy()?;
        Ok(etcd)
    }

    /// `https://address:2379`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://{}:2379", self.address)
    }

    /// The host that it runs on.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The cluster's authority.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Issues a client certificate into `dir` and returns the text of a client configuration file.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn client_configuration(&self, dir: &Path, stem: &str) -> Result<String> {
        let files = self.authority.issue(dir, stem, Role::Client)?;
        Ok(files.client_configuration(&self.endpoint()))
    }

    /// Starts the process on the data that it had.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            return Ok(());
        }
        let url = self.endpoint();
        let mut command = self.place.command("etcd")?;
        command
            .args([
                "--name",
                &self.cluster,
                "--logger",
                "zap",
                "--log-level",
                "warn",
            ])
            .arg("--data-dir")
            .arg(&self.data)
            .args([
                "--listen-client-urls",
                &format!("{url},https://127.0.0.1:2379"),
            ])
            .args(["--advertise-client-urls", &url, "--client-cert-auth"])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
            .arg("--trusted-ca-file")
            .arg(&self.server.ca)
            .arg("--cert-file")
            .arg(&self.server.cert)
            .arg("--key-file")
            .arg(&self.server.key)
            // Nothing here outlives the machine, and disks of CI are slow.
            .arg("--unsafe-no-fsync");
        let name = format!("{}/etcd", self.cluster);
        self.daemon = Some(Daemon::start(
            command,
            &self.layout.log(&name),
            &self.layout.process(&name),
        )?);
        Ok(())
    }

    /// Waits until it answers with a quorum.
    ///
    /// # Errors
    /// Not within 20 s.
    pub fn wait_until_healthy(&mut self) -> Result<()> {
        eventually(
            format!("etcd of {} is healthy", self.cluster),
            Duration::from_secs(20),
            || {
                if let Some(status) = self.daemon.as_mut().and_then(Daemon::exit_status) {
                    let log = self.layout.log(&format!("{}/etcd", self.cluster));
                    let text = fs::read_to_string(&log).doing("read", &log)?;
                    let last = text.lines().last().unwrap_or_default();
                    return Err(LabError::Unmet(format!("etcd ended with {status}: {last}")));
                }
                self.etcdctl(&["endpoint", "health"]).map(drop)
            },
        )
    }

    /// Runs etcdctl with the administrator's certificate.
    ///
    /// # Errors
    /// It fails or takes longer than 5 s.
    pub fn etcdctl(&self, args: &[&str]) -> Result<String> {
        let mut command = self.place.command("etcdctl")?;
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", "https://127.0.0.1:2379"]);
        command
            .arg("--cacert")
            .arg(&self.admin.ca)
            .arg("--cert")
            .arg(&self.admin.cert);
        command.arg("--key").arg(&self.admin.key).args(args);
        output(command, Duration::from_secs(5))
    }

    /// Ends it at once, as a machine that loses power.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Stops (SIGSTOP) or continues the process: connections stay open and nothing answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        match &self.daemon {
            Some(daemon) => daemon.signal(signal),
            None => Err(LabError::Unmet(format!(
                "the etcd of {} does not run",
                self.cluster
            ))),
        }
    }

    /// Silently loses every packet from and to it, or stops doing so.
    ///
    /// # Errors
    /// nft refuses.
    pub fn drop_packets(&self, dropped: bool) -> Result<()> {
        if dropped {
            self.place.nft(
                "table inet lab { chain in { type filter hook input priority 0; iifname eth0 drop\n}\n\
                 chain out { type filter hook output priority 0; oifname eth0 drop\n}\n}",
            )
        } else {
            self.place.nft("delete table inet lab")
        }
    }
}
