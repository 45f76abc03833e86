// SPDX-License-Identifier: Apache-2.0
//! Clients that say nothing do not keep others from the agent.
#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "the fake agent is shared with other tests")]

mod common;

use std::time::Duration;

use api::models::EventQuery;
use api::{Client, serve_metrics};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// As many as are served at the same time.
const PLACES: usize = 256;
/// Much shorter than any time-out of the server.
const SOON: Duration = Duration::from_secs(10);

/// Each test opens more than half of the descriptors that a process may have.
static ONE_BY_ONE: Mutex<()> = Mutex::const_new(());

async fn silent(lab: &common::Lab, count: usize) -> Vec<UnixStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(UnixStream::connect(&lab.socket).await.unwrap());
    }
    open
}

/// Asks once and leaves the connection open; whether there was an answer.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut answer = [0; 4096];
    let read = timeout(SOON, stream.read(&mut answer)).await.unwrap();
    read.is_ok_and(|n| answer[..n].starts_with(b"HTTP/1.1 200"))
}

async fn is_closed(stream: &mut UnixStream) -> bool {
    let mut byte = [0; 1];
    let read = timeout(Duration::from_millis(200), stream.read(&mut byte));
    matches!(read.await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn silent_clients_make_room() {
    let _alone = ONE_BY_ONE.lock().await;
    let lab = common::lab();
    let client = Client::new(&lab.socket).with_timeout(SOON);
    let mut events = client.events(&EventQuery::default()).await.unwrap();
    events.next().await.unwrap();
    let mut open = silent(&lab, PLACES + 20).await;
    for _ in 0..3 {
        client.version().await.unwrap();
    }
    assert!(is_closed(&mut open[0]).await, "the first was idle longest");
    let last = open.last_mut().unwrap();
    assert!(ask(last, "/v1/healthz").await, "the last was not");
    assert_eq!(
        events.next().await.unwrap().unwrap().endpoint,
        2,
        "a request under way goes on"
    );
}

#[tokio::test]
async fn clients_that_send_half_a_request_make_room() {
    let _alone = ONE_BY_ONE.lock().await;
    let lab = common::lab();
    let mut open = silent(&lab, PLACES).await;
    for stream in &mut open {
        let half = b"PUT /v1/endpoint/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{";
        stream.write_all(half).await.unwrap();
    }
    let client = Client::new(&lab.socket).with_timeout(SOON);
    for _ in 0..3 {
        client.version().await.unwrap();
    }
    assert!(is_closed(&mut open[0]).await);
}

#[tokio::test]
async fn who_asked_lately_stays() {
    let _alone = ONE_BY_ONE.lock().await;
    let lab = common::lab();
    let mut asking = silent(&lab, 2).await;
    for stream in &mut asking {
        assert!(ask(stream, "/v1/healthz").await);
    }
    let mut quiet = silent(&lab, PLACES - 2).await;
    // The last of them has its place once it is answered.
    assert!(ask(quiet.last_mut().unwrap(), "/v1/healthz").await);
    assert!(ask(&mut asking[1], "/v1/healthz").await);
    let mut more = silent(&lab, 1).await;
    assert!(ask(&mut more[0], "/v1/healthz").await);
    assert!(is_closed(&mut asking[0]).await, "it was idle longest");
    assert!(
        !is_closed(&mut quiet[0]).await,
        "one leaves for each that comes"
    );
    assert!(ask(&mut asking[1], "/v1/healthz").await);
}

#[tokio::test]
async fn nobody_leaves_while_nobody_comes() {
    let _alone = ONE_BY_ONE.lock().await;
    let lab = common::lab();
    let mut open = silent(&lab, PLACES).await;
    for _ in 0..2 {
        for stream in &mut open {
            assert!(ask(stream, "/v1/healthz").await);
        }
    }
}

#[tokio::test]
async fn silent_clients_over_tcp_make_room() {
    let _alone = ONE_BY_ONE.lock().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_metrics(listener, || "cilium_endpoint 3\n".into()));
    let mut open = Vec::new();
    for _ in 0..PLACES + 20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Half a request is none.
        stream.write_all(b"GET /met").await.unwrap();
        open.push(stream);
    }
    let mut scrape = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut scrape, "/metrics").await);
}

/// Larger than what the kernel buffers for a connection.
const LARGE: usize = 8 << 20;

#[tokio::test]
async fn clients_that_read_no_answer_make_room() {
    let _alone = ONE_BY_ONE.lock().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // The last four of those that are served get more than they read.
    let left = std::sync::atomic::AtomicUsize::new(PLACES);
    let order = std::sync::atomic::Ordering::SeqCst;
    let text = move || match left.fetch_update(order, order, |n| n.checked_sub(1)) {
        Ok(n) if n <= 4 => "x".repeat(LARGE),
        _ => "cilium_endpoint 3\n".into(),
    };
    tokio::spawn(serve_metrics(listener, text));
    let mut open = Vec::new();
    for _ in 0..PLACES {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        open.push(stream);
    }
    // Those four are idle longest once the others have asked again.
    for stream in &mut open[..PLACES - 4] {
        let mut rest = [0; 4096];
        assert_ne!(stream.read(&mut rest).await.unwrap(), 0);
        assert!(ask(stream, "/metrics").await);
    }
    let mut scrape = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut scrape, "/metrics").await);
}
