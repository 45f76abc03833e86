// SPDX-License-Identifier: Apache-2.0
//! The servers over TCP: whoever reaches the port cannot hold connections for ever.
#![expect(clippy::unwrap_used, reason = "a test")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Larger than what the kernel buffers for a connection.
const LARGE: usize = 32 << 20;

async fn metrics(text: String) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(api::serve_metrics(listener, move || text.clone()));
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn metrics_are_in_the_text_format() {
    let mut stream = metrics("cilium_endpoint 3\n".into()).await;
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let kind = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(answer.contains(kind), "{answer}");
    assert!(answer.ends_with("\r\n\r\ncilium_endpoint 3\n"), "{answer}");
}

/// The clock goes on by itself while nobody does anything.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_asks_is_let_go() {
    let mut stream = metrics(String::new()).await;
    stream.write_all(b"GET /met").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_let_go() {
    let mut stream = metrics("x".repeat(LARGE)).await;
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    let mut answer = Vec::new();
    // The rest is missing, whether that is told as an end or as a reset.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.len() < LARGE, "{} bytes came", answer.len());
}
