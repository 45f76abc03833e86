// SPDX-License-Identifier: Apache-2.0
//! `lab serve`: what runs in a pod. HTTP on the pod's ports says who served whom; UDP and TCP on port 9
//! echo.
//!
//! axum, because a real HTTP server finds mistakes of a datapath that a hand-made one forgives.

use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use axum::extract::ConnectInfo;
use axum::routing::get;
use axum::{Json, Router};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use serde_json::{Value, json};
use tokio::io;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

/// Where the echo services listen.
pub const ECHO_PORT: u16 = 9;

/// Serves until the process is ended.
///
/// # Errors
/// A port cannot be bound, or a server stopped.
pub async fn serve(name: String, ports: Vec<u16>) -> io::Result<()> {
    let mut servers = JoinSet::new();
    for port in ports {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await?;
        let name = name.clone();
        let page = move |ConnectInfo(client): ConnectInfo<SocketAddr>| {
            std::future::ready(page(&name, client))
        };
        let app = Router::new()
            .fallback(get(page))
            .into_make_service_with_connect_info::<SocketAddr>();
        servers.spawn(async move { axum::serve(listener, app).await });
    }
    let datagrams = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, ECHO_PORT)).await?;
    make_room(&datagrams);
    servers.spawn(echo_datagrams(datagrams));
    let connections = TcpListener::bind((Ipv6Addr::UNSPECIFIED, ECHO_PORT)).await?;
    servers.spawn(echo_connections(connections));
    match servers.join_next().await {
        Some(ended) => ended.map_err(io::Error::other)?,
        None => Ok(()),
    }
}

/// As much room for datagrams as a process may have: one that does not get its turn for a while on a busy machine must not
/// look like a network that loses them.
pub(crate) fn make_room(socket: &impl AsFd) {
    if setsockopt(socket, RcvBufForce, &(4 << 20)).is_err() {
        // Not root: what everybody may have. Without it the socket has what it had.
        let _ = setsockopt(socket, RcvBuf, &(4 << 20));
    }
}

fn page(name: &str, client: SocketAddr) -> Json<Value> {
    Json(json!({"server": name, "client": client.ip().to_canonical()}))
}

async fn echo_datagrams(socket: UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        // An ICMP error to an earlier answer is reported here: nothing to do about it.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let _unreachable = socket.send_to(&buffer[..length], from).await;
    }
}

async fn echo_connections(listener: TcpListener) -> io::Result<()> {
    let mut open = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await?;
        open.spawn(async move {
            let (mut from, mut to) = stream.split();
            // A client that goes away ends its echo.
            let _ended = io::copy(&mut from, &mut to).await;
        });
        while open.try_join_next().is_some() {}
    }
}
