// SPDX-License-Identifier: Apache-2.0
//! Clients inside pods: curl for single requests, a steady stream of datagrams for loss, and one TCP
//! connection that must survive.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::error::{Doing, LabError, Result};
use crate::namespace::Place;
use crate::process::{finish, output};
use crate::serve::make_room;

/// What `lab serve` answers.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Http {
    /// The server's name.
    pub server: String,
    /// The client's address as the server saw it.
    pub client: std::net::IpAddr,
}

/// Fetches a page of `lab serve` with the real curl.
///
/// # Errors
/// curl's words, or an answer that is not ours.
pub fn curl(place: &Place, url: &str, limit: Duration) -> Result<Http> {
    let mut command = place.command("curl")?;
    let seconds = limit.as_secs_f32().to_string();
    command.args([
        "--silent",
        "--show-error",
        "--fail",
        "--globoff",
        "--max-time",
        &seconds,
        url,
    ]);
    let text = output(command, limit + Duration::from_secs(2))?;
    serde_json::from_str(&text)
        .map_err(|error| LabError::Unmet(format!("{url} answered {text:?}: {error}")))
}

/// `GET` on a unix socket with curl: (status, body).
///
/// # Errors
/// No answer.
pub fn get_unix(place: &Place, socket: &Path, path: &str) -> Result<(u16, String)> {
    let mut command = place.command("curl")?;
    command.args([
        "--silent",
        "--show-error",
        "--max-time",
        "3",
        "--write-out",
        "\n%{http_code}",
        "--unix-socket",
    ]);
    command.arg(socket).arg(format!("http://localhost{path}"));
    let done = finish(command, &[], Duration::from_secs(5))?;
    let (body, code) = done.stdout.rsplit_once('\n').unwrap_or_default();
    match code.parse() {
        Ok(code) if code != 0 => Ok((code, body.to_owned())),
        _ => Err(LabError::Unmet(format!(
            "GET {path} on {}: {}",
            socket.display(),
            done.stderr.trim()
        ))),
    }
}

/// A stream of numbered datagrams to an echo server, 200 a second, until it is stopped.
pub struct Stream {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<std::io::Result<Loss>>,
}

/// What a stream saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// Datagrams sent.
    pub sent: u32,
    /// Answers received.
    pub received: u32,
    /// The longest time without an answer.
    pub longest_gap: Duration,
}

impl Loss {
    /// Datagrams without an answer.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.sent.saturating_sub(self.received)
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gap = self.longest_gap.as_millis();
        write!(
            f,
            "{} of {} lost, longest gap {gap} ms",
            self.lost(),
            self.sent
        )
    }
}

/// Time between two datagrams of a [`Stream`].
const INTERVAL: Duration = Duration::from_millis(5);
/// How long answers may take after the last datagram.
const TAIL: Duration = Duration::from_millis(500);

impl Stream {
    /// Starts sending from `place` to the echo server at `target`.
    ///
    /// # Errors
    /// No socket.
    pub fn start(place: &Place, target: SocketAddr) -> Result<Self> {
        let socket = place.within(|| {
            let any: SocketAddr = if target.is_ipv4() {
                ([0; 4], 0).into()
            } else {
                ([0; 16], 0).into()
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(target)?;
            make_room(&socket);
            Ok::<_, std::io::Error>(socket)
        })?;
        let socket = socket.doing("open a socket in", &place.netns)?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let worker = thread::spawn(move || stream(&socket, &flag));
        Ok(Self { stop, worker })
    }

    /// Stops sending, waits for the last answers, and counts.
    ///
    /// # Errors
    /// The socket failed.
    pub fn finish(self) -> Result<Loss> {
        self.stop.store(true, Ordering::SeqCst);
        let result = self
            .worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.doing("stream datagrams from", "a pod")
    }
}

fn stream(socket: &UdpSocket, stop: &AtomicBool) -> std::io::Result<Loss> {
    let receiver = socket.try_clone()?;
    receiver.set_read_timeout(Some(TAIL))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let answers = scope.spawn(|| count_answers(&receiver, &done));
        let started = Instant::now();
        let mut sent = 0u32;
        while !stop.load(Ordering::SeqCst) {
            // A refused datagram (no route, ICMP error) counts as lost.
            let _lost = socket.send(&sent.to_be_bytes());
            sent += 1;
            thread::sleep((INTERVAL * sent).saturating_sub(started.elapsed()));
        }
        thread::sleep(TAIL);
        done.store(true, Ordering::SeqCst);
        let (received, longest_gap) = answers.join().unwrap_or_default();
        Ok(Loss {
            sent,
            received,
            longest_gap,
        })
    })
}

fn count_answers(socket: &UdpSocket, done: &AtomicBool) -> (u32, Duration) {
    let (mut received, mut gap, mut last) = (0, Duration::ZERO, Instant::now());
    let mut buffer = [0; 64];
    while !done.load(Ordering::SeqCst) {
        if socket.recv(&mut buffer).is_ok() {
            received += 1;
            gap = gap.max(last.elapsed());
            last = Instant::now();
        }
    }
    (received, gap)
}

/// One TCP connection to an echo server.
pub struct Connection(TcpStream);

impl Connection {
    /// Connects from `place`.
    ///
    /// # Errors
    /// No connection within 3 s.
    pub fn open(place: &Place, target: SocketAddr) -> Result<Self> {
        let limit = Duration::from_secs(3);
        let stream = place.within(|| {
            let stream = TcpStream::connect_timeout(&target, limit)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            Ok::<_, std::io::Error>(stream)
        })?;
        stream.map(Self).doing("connect from", &place.netns)
    }

    /// Sends some bytes and waits until they are back.
    ///
    /// # Errors
    /// The connection is broken, or silent for 10 s.
    pub fn echo(&mut self) -> Result<()> {
        let mut buffer = [0; 4];
        let done = self
            .0
            .write_all(b"ping")
            .and_then(|()| self.0.read_exact(&mut buffer));
        done.doing("echo over", "an established connection")
    }
}
