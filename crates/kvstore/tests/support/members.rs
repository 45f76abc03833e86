// SPDX-License-Identifier: Apache-2.0
//! An etcd of three members over TLS on loopback, each under a user of its own so that a firewall can tell them apart.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use kvstore::{ClientOptions, Config, Etcd};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Authority, Leaf};

/// User of the first member; the others follow.
pub(crate) const FIRST_USER: u32 = 60_000;

/// Three members.
pub(crate) struct Members {
    dir: TempDir,
    ports: [u16; 3],
    pub(crate) peers: [u16; 3],
    children: Vec<Child>,
}

fn ports() -> [u16; 3] {
    let listeners = [0, 1, 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

impl Members {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let authority = Authority::new("the cluster's CA");
        authority.write(&dir.path().join("ca.crt"));
        authority.issue(Leaf::server(), &dir.path().join("server"));
        authority.issue(Leaf::client("isthmus"), &dir.path().join("client"));
        let mut members = Self {
            dir,
            ports: ports(),
            peers: ports(),
            children: Vec::new(),
        };
        members.children = (0..3).map(|member| members.spawn(member, "new")).collect();
        members
    }

    /// Runs etcdctl at a member until it succeeds, for members change only when all have known each other for some
    /// seconds; answers what it prints.
    fn ctl(&self, member: usize, arguments: &[&str]) -> String {
        let mut last = self.try_ctl(member, arguments);
        for _ in 0..60 {
            if last.status.success() {
                return String::from_utf8(last.stdout).unwrap();
            }
            std::thread::sleep(Duration::from_millis(250));
            last = self.try_ctl(member, arguments);
        }
        panic!("etcdctl {arguments:?}: {last:?}");
    }

    fn try_ctl(&self, member: usize, arguments: &[&str]) -> Output {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args([
                "--endpoints",
                &format!("https://127.0.0.1:{}", self.ports[member]),
            ])
            .args(["--cacert", &file("ca.crt"), "--cert", &file("client.crt")])
            .args(["--key", &file("client.key")])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// The first member loses its data and comes back as one that has no vote yet.
    pub(crate) fn first_becomes_learner(&mut self) {
        let list = self.ctl(1, &["member", "list"]);
        let first = list.lines().find(|line| line.contains(", m0,")).unwrap();
        self.ctl(1, &["member", "remove", first.split(',').next().unwrap()]);
        // It may have ended by itself.
        let _killed = self.children[0].kill();
        self.children[0].wait().unwrap();
        std::fs::remove_dir_all(self.dir.path().join("data0")).unwrap();
        let url = format!("--peer-urls=http://127.0.0.1:{}", self.peers[0]);
        self.ctl(1, &["member", "add", "m0", "--learner", &url]);
        self.children[0] = self.spawn(0, "existing");
        self.ctl(0, &["endpoint", "status"]);
    }

    fn spawn(&self, member: usize, state: &str) -> Child {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let user = FIRST_USER + u32::try_from(member).unwrap();
        let data = file(&format!("data{member}"));
        std::fs::create_dir(&data).unwrap();
        chown(&data, Some(user), None).unwrap();
        let client = format!("https://127.0.0.1:{}", self.ports[member]);
        let peer = |member: usize| format!("http://127.0.0.1:{}", self.peers[member]);
        let all: Vec<String> = (0..3).map(|m| format!("m{m}={}", peer(m))).collect();
        Command::new("etcd")
            .uid(user)
            .args(["--name", &format!("m{member}"), "--data-dir", &data])
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(member)])
            .args(["--initial-advertise-peer-urls", &peer(member)])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--initial-cluster-state", state])
            .args(["--trusted-ca-file", &file("ca.crt"), "--client-cert-auth"])
            .args(["--cert-file", &file("server.crt")])
            .args(["--key-file", &file("server.key")])
            .args(["--unsafe-no-fsync", "--logger=zap", "--log-level=error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub(crate) fn signal(&self, member: usize, signal: Signal) {
        let pid = i32::try_from(self.children[member].id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    fn config(&self) -> Config {
        let urls = self.ports.map(|port| format!("- https://127.0.0.1:{port}"));
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let text = format!(
            "endpoints:\n{}\ntrusted-ca-file: {}\ncert-file: {}\nkey-file: {}\n",
            urls.join("\n"),
            file("ca.crt"),
            file("client.crt"),
            file("client.key"),
        );
        Config::parse(&text).unwrap()
    }

    /// Waits until they answer.
    pub(crate) async fn answer(&self) {
        until_it_answers(&Etcd::lazy(self.config(), ClientOptions::default())).await;
    }

    /// A client that knows all members and is connected to the first.
    pub(crate) async fn client_of_first(&self) -> Etcd {
        self.answer().await;
        for other in [1, 2] {
            self.signal(other, Signal::SIGSTOP);
        }
        let etcd = Etcd::lazy(self.config(), ClientOptions::default());
        // Without the others it has nothing to say, but it accepts the connection.
        let _answer = kvstore::Store::get(&etcd, "k").await;
        for other in [1, 2] {
            self.signal(other, Signal::SIGCONT);
        }
        until_it_answers(&etcd).await;
        etcd
    }
}

async fn until_it_answers(etcd: &Etcd) {
    let mut last = None;
    for _ in 0..300 {
        match kvstore::Store::get(etcd, "k").await {
            Ok(_) => return,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no answer: {last:?}");
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Already gone is fine.
            let _killed = child.kill();
            let _reaped = child.wait();
        }
    }
}
