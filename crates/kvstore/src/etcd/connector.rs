// SPDX-License-Identifier: Apache-2.0
//! Opens connections: endpoints in random order, aliases before DNS, TLS, and socket options by which a silent network is
//! noticed.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rand::seq::SliceRandom;
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::stream::{Io, Started};
use super::tls;
use crate::config::{Config, Endpoint};
use crate::error::Error;

/// A peer whose network is silent is noticed after about this long: unanswered data, or unanswered TCP probes.
const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle time before the kernel probes, and between probes. They cost the server process nothing.
const TCP_IDLE: Duration = Duration::from_secs(4);
const TCP_INTERVAL: Duration = Duration::from_secs(1);
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

#[derive(Clone)]
pub(super) struct Connector {
    pub(super) config: Arc<Config>,
    pub(super) dial_timeout: Duration,
    pub(super) failure: LastFailure,
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
    /// Tries every endpoint once.
    async fn connect(&self) -> Result<Io, Error> {
        let mut endpoints = self.config.endpoints.clone();
        endpoints.shuffle(&mut rand::rng());
        let mut failures = Vec::new();
        for endpoint in &endpoints {
            let name = format!("{}:{}", endpoint.host, endpoint.port);
            match timeout(self.dial_timeout, self.dial(endpoint, &name)).await {
                Ok(Ok(io)) => return Ok(io),
                Ok(Err(failure)) => failures.push(failure),
                Err(_) => failures.push(Error::Connect {
                    reason: format!("{name} did not answer within {:?}", self.dial_timeout),
                }),
            }
        }
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

    async fn dial(&self, endpoint: &Endpoint, name: &str) -> Result<Io, Error> {
        let tcp = self.tcp(endpoint, name).await?;
        if !endpoint.tls {
            return Ok(Io::Plain(tcp));
        }
        let (stream, first) = self.handshake(endpoint, name, tcp).await?;
        Ok(Io::Tls(Box::new(Started::new(stream, &first))))
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

    pub(super) async fn tcp(&self, endpoint: &Endpoint, name: &str) -> Result<TcpStream, Error> {
        let fail = |reason: String| Error::Connect { reason };
        let addresses = self.addresses(endpoint, name).await?;
        let mut last = fail(format!("{name}: the name has no address"));
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    tune(&stream)
                        .map_err(|error| fail(format!("{name}: socket options: {error}")))?;
                    return Ok(stream);
                }
                Err(error) => last = fail(format!("{name}: {error}")),
            }
        }
        Err(last)
    }

    pub(super) async fn addresses(
        &self,
        endpoint: &Endpoint,
        name: &str,
    ) -> Result<Vec<SocketAddr>, Error> {
        let aliases = &self.config.host_aliases;
        if let Some(alias) = aliases.iter().find(|alias| alias.hostname == endpoint.host) {
            let mut ips: Vec<IpAddr> = alias.ips.clone();
            ips.shuffle(&mut rand::rng());
            let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, endpoint.port));
            return Ok(addresses.collect());
        }
        let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
        found.map(|all| all.take(16).collect()).map_err(|error| Error::Connect {
            reason: format!("{name}: the name cannot be resolved: {error}; cilium-host-aliases can name its addresses"),
        })
    }
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(TCP_IDLE)
        .with_interval(TCP_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}
