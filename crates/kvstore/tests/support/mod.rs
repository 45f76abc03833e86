// SPDX-License-Identifier: Apache-2.0
//! A real etcd over TLS on loopback, with certificates of its own, that ends with its test.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test file uses a part of it"
)]
#![allow(clippy::unwrap_used, reason = "a broken test setup should panic")]

mod certificates;
pub(crate) mod members;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kvstore::{ClientOptions, Config, Etcd};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub(crate) use certificates::{Authority, Leaf};

/// An etcd process.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    peer_port: u16,
    child: Child,
}

/// Two free ports of loopback.
fn ports() -> [u16; 2] {
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

impl Server {
    /// Starts one whose certificate is what `server` makes of it, with a usual client certificate in its directory.
    pub(crate) async fn start_with(server: Leaf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("the cluster's CA");
        authority.write(&dir.path().join("ca.crt"));
        authority.issue(server, &dir.path().join("server"));
        authority.issue(Leaf::client("isthmus"), &dir.path().join("client"));
        authority.keep(dir.path());
        let [port, peer_port] = ports();
        let child = spawn(dir.path(), port, peer_port, &[]);
        let server = Self {
            dir,
            port,
            peer_port,
            child,
        };
        server.wait().await;
        server
    }

    pub(crate) async fn start() -> Self {
        Self::start_with(Leaf::server()).await
    }

    async fn wait(&self) {
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("etcd does not listen: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("etcd.log")).unwrap_or_default()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Text of a configuration file with some lines replaced by name.
    pub(crate) fn config_text(&self, host: &str) -> String {
        format!(
            "endpoints:\n- https://{host}:{}\ntrusted-ca-file: {}\ncert-file: {}\nkey-file: {}\n",
            self.port,
            self.path("ca.crt").display(),
            self.path("client.crt").display(),
            self.path("client.key").display(),
        )
    }

    pub(crate) fn config(&self) -> Config {
        Config::parse(&self.config_text("127.0.0.1")).unwrap()
    }

    /// A client; etcd may still be electing itself.
    pub(crate) async fn client(&self) -> Etcd {
        let mut last = None;
        for _ in 0..100 {
            match Etcd::connect(self.config(), ClientOptions::default()).await {
                Ok(etcd) => return etcd,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no connection: {last:?}\n{}", self.log());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same etcd again, with its data.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(&[]).await;
    }

    /// The same with more arguments.
    pub(crate) async fn restart_with(&mut self, arguments: &[&str]) {
        self.child = spawn(self.dir.path(), self.port, self.peer_port, arguments);
        self.wait().await;
    }

    /// An empty etcd in its place.
    pub(crate) async fn replace(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.path("data")).unwrap();
        self.peer_port = ports()[0];
        self.restart().await;
    }

    /// Runs etcdctl.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints=https://127.0.0.1:{}", self.port))
            .arg(format!("--cacert={}", self.path("ca.crt").display()))
            .arg(format!("--cert={}", self.path("client.crt").display()))
            .arg(format!("--key={}", self.path("client.key").display()))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is fine.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn spawn(dir: &Path, port: u16, peer_port: u16, arguments: &[&str]) -> Child {
    let log = std::fs::File::create(dir.join("etcd.log")).unwrap();
    let file = |name: &str| dir.join(name).display().to_string();
    let client = format!("https://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    Command::new("etcd")
        .args(["--name", "test", "--data-dir", &file("data")])
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("test={peer}")])
        .args(["--trusted-ca-file", &file("ca.crt"), "--client-cert-auth"])
        .args([
            "--cert-file",
            &file("server.crt"),
            "--key-file",
            &file("server.key"),
        ])
        .args(["--unsafe-no-fsync", "--logger=zap", "--log-level=error"])
        // Somebody's may take larger values than the usual ones.
        .arg("--max-request-bytes=10000000")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
