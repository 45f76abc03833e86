// SPDX-License-Identifier: Apache-2.0
//! Opens connections: endpoints in random order and side by side, aliases before DNS, TLS, and the socket option by which a
//! silent network is noticed.

use std::collections::VecDeque;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use hyper_util::rt::TokioIo;
use rand::seq::SliceRandom;
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::stream::{End, Io, Started};
use super::tls;
use crate::config::{Config, Endpoint};
use crate::error::Error;

/// How long an attempt is waited for before another address is tried besides.
const STAGGER: Duration = Duration::from_millis(300);
/// How long the server's first bytes are waited for; they show that it accepts the client certificate.
const FIRST_BYTES: Duration = Duration::from_secs(2);

/// Why the last attempt failed; emptied by a success. Requests only see "transport error".
#[derive(Clone, Default, Debug)]
pub(super) struct LastFailure(Arc<Mutex<Option<Error>>>);

impl LastFailure {
    pub(super) fn set(&self, failure: Option<Error>) {
        *self.0.lock().expect("nothing panics under this lock") = failure;
    }

    pub(super) fn get(&self) -> Option<Error> {
        self.0
            .lock()
            .expect("nothing panics under this lock")
            .clone()
    }
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Every request and watch.
    Work,
    /// Only to find out whether the way to the server is silent: goes where the connection for work went.
    Sentinel,
}

impl Purpose {
    /// What is sent and not acknowledged for so long ends the connection. That is how a silent network shows; a process that is
    /// stopped acknowledges and does not answer.
    fn user_timeout(self) -> Duration {
        match self {
            Purpose::Work => Duration::from_millis(2500),
            Purpose::Sentinel => Duration::from_millis(1500),
        }
    }
}

/// Where the connection for work went, and how to leave.
#[derive(Clone, Default, Debug)]
pub(super) struct Target(Arc<Mutex<Reached>>);

#[derive(Default, Debug)]
struct Reached {
    at: Option<(Endpoint, SocketAddr)>,
    /// Was left because it is of no use; tried after all others.
    left: Option<SocketAddr>,
    /// The connections, by purpose.
    ends: [Arc<End>; 2],
}

impl Target {
    fn lock(&self) -> MutexGuard<'_, Reached> {
        self.0.lock().expect("nothing panics under this lock")
    }

    fn reached(&self, purpose: Purpose, endpoint: &Endpoint, address: SocketAddr, end: Arc<End>) {
        let mut reached = self.lock();
        if purpose == Purpose::Work {
            reached.at = Some((endpoint.clone(), address));
        }
        reached.ends[purpose as usize] = end;
    }

    /// Ends a connection; the next question opens it again.
    pub(super) fn end(&self, purpose: Purpose) {
        self.lock().ends[purpose as usize].now();
    }

    /// Ends both connections. The next one goes to another server, if there is one that answers.
    pub(super) fn leave(&self) {
        let mut reached = self.lock();
        reached.left = reached.at.as_ref().map(|(_, address)| *address);
        for end in &reached.ends {
            end.now();
        }
    }
}

#[derive(Clone)]
pub(super) struct Connector {
    pub(super) purpose: Purpose,
    pub(super) config: Arc<Config>,
    pub(super) dial_timeout: Duration,
    pub(super) failure: LastFailure,
    pub(super) target: Target,
}

impl tower::Service<http::Uri> for Connector {
    type Response = TokioIo<Io>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let result = this.connect().await;
            this.failure.set(result.as_ref().err().cloned());
            result.map(TokioIo::new)
        })
    }
}

impl Connector {
    async fn connect(&self) -> Result<Io, Error> {
        if self.purpose == Purpose::Work {
            return self.connect_anywhere().await;
        }
        let target = self.target.lock().at.clone();
        let (endpoint, address) = target.ok_or_else(|| Error::Connect {
            reason: "there is no connection for work".into(),
        })?;
        self.dial_in_time(&endpoint, address).await
    }

    /// Tries every address of every endpoint: the next begins when one has failed, or is silent for [`STAGGER`]. The first
    /// that answers is taken.
    async fn connect_anywhere(&self) -> Result<Io, Error> {
        let mut endpoints = self.config.endpoints.clone();
        endpoints.shuffle(&mut rand::rng());
        let (mut failures, mut targets) = (Vec::new(), VecDeque::new());
        let found = endpoints.iter().map(|endpoint| async move {
            let found = timeout(self.dial_timeout, self.addresses(endpoint)).await;
            let silent = || Error::Connect {
                reason: format!("{}: the resolver does not answer", endpoint.name()),
            };
            found.unwrap_or_else(|_| Err(silent()))
        });
        for (endpoint, found) in endpoints.iter().zip(join_all(found).await) {
            match found {
                Ok(addresses) => targets.extend(addresses.into_iter().map(|at| (endpoint, at))),
                Err(failure) => failures.push(failure),
            }
        }
        let left = self.target.lock().left;
        let last = |(_, address): &(_, SocketAddr)| Some(*address) == left;
        targets.make_contiguous().sort_by_key(last);
        let mut dials = FuturesUnordered::new();
        loop {
            if let Some((endpoint, address)) = targets.pop_front() {
                dials.push(self.dial_in_time(endpoint, address));
            }
            let silent = tokio::time::sleep(STAGGER);
            tokio::select! {
                Some(result) = dials.next() => match result {
                    Ok(io) => return Ok(io),
                    Err(failure) => failures.push(failure),
                },
                () = silent, if !targets.is_empty() => {}
                else => break,
            }
        }
        failures.dedup();
        match failures.len() {
            1 => Err(failures.remove(0)),
            _ => Err(Error::Connect {
                reason: failures
                    .iter()
                    .map(Error::to_string)
                    .collect::<Vec<_>>()
                    .join("; "),
            }),
        }
    }

    async fn dial_in_time(&self, endpoint: &Endpoint, address: SocketAddr) -> Result<Io, Error> {
        let dialled = timeout(self.dial_timeout, self.dial(endpoint, address)).await;
        let silent = || Error::Connect {
            reason: format!(
                "{} did not answer within {:?}",
                endpoint.name(),
                self.dial_timeout
            ),
        };
        let (io, end) = dialled.unwrap_or_else(|_| Err(silent()))?;
        self.target.reached(self.purpose, endpoint, address, end);
        Ok(io)
    }

    async fn dial(
        &self,
        endpoint: &Endpoint,
        address: SocketAddr,
    ) -> Result<(Io, Arc<End>), Error> {
        let end = Arc::new(End::default());
        let name = endpoint.name();
        let fail = |error: std::io::Error| Error::Connect {
            reason: format!("{name}: {error}"),
        };
        let tcp = TcpStream::connect(address).await.map_err(fail)?;
        self.tune(&tcp).map_err(fail)?;
        if !endpoint.tls {
            return Ok((Io::plain(tcp, end.clone()), end));
        }
        let (stream, first) = self.handshake(endpoint, &name, tcp).await?;
        let stream = Started::new(stream, &first);
        Ok((Io::tls(stream, end.clone()), end))
    }

    /// TLS over `tcp`, and what the server sent first: by that it has accepted the client certificate.
    pub(super) async fn handshake(
        &self,
        endpoint: &Endpoint,
        name: &str,
        tcp: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Vec<u8>), Error> {
        let config = tls::client_config(&self.config).await?;
        let server = ServerName::try_from(endpoint.host.clone()).map_err(|_| Error::Tls {
            reason: format!("{:?} cannot stand in a certificate", endpoint.host),
        })?;
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut stream = connector.connect(server, tcp).await.map_err(|error| {
            tls::explain(&error, name, &self.config).unwrap_or_else(|| Error::Connect {
                reason: format!("{name}: TLS handshake: {error}"),
            })
        })?;
        // In TLS 1.3 a server refuses the client certificate after our side of the handshake.
        let mut first = [0; 64];
        let read = match timeout(FIRST_BYTES, stream.read(&mut first)).await {
            Err(_) => 0,
            Ok(Ok(0)) => return Err(tls::closed(name, &self.config)),
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                return Err(tls::explain(&error, name, &self.config)
                    .unwrap_or_else(|| tls::closed(name, &self.config)));
            }
        };
        Ok((stream, first[..read].to_vec()))
    }

    pub(super) async fn tcp(&self, endpoint: &Endpoint) -> Result<TcpStream, Error> {
        let fail = |error: std::io::Error| Error::Connect {
            reason: format!("{}: {error}", endpoint.name()),
        };
        let mut last = None;
        for address in self.addresses(endpoint).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(fail(error)),
            }
        }
        Err(last.unwrap_or_else(|| fail(std::io::ErrorKind::AddrNotAvailable.into())))
    }

    pub(super) async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Error> {
        let aliases = &self.config.host_aliases;
        if let Some(alias) = aliases.iter().find(|alias| alias.hostname == endpoint.host) {
            let mut ips: Vec<IpAddr> = alias.ips.clone();
            ips.shuffle(&mut rand::rng());
            let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, endpoint.port));
            return Ok(addresses.collect());
        }
        let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
        let name = endpoint.name();
        let all: Vec<SocketAddr> = found
            .map_err(|error| Error::Connect {
                reason: format!("{name}: the name cannot be resolved: {error}; cilium-host-aliases can name its addresses"),
            })?
            .take(16)
            .collect();
        match all.is_empty() {
            true => Err(Error::Connect {
                reason: format!("{name}: the name has no address"),
            }),
            false => Ok(all),
        }
    }

    fn tune(&self, stream: &TcpStream) -> std::io::Result<()> {
        let socket = socket2::SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(self.purpose.user_timeout()))
    }
}
