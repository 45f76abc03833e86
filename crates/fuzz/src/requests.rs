// SPDX-License-Identifier: Apache-2.0
//! Requests to the agent's API: `METHOD PATH` on the first line, then the body.

#[path = "../../api/tests/common/mod.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "written for the API's tests")]
mod agent;

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
}

/// Enough for the head of any answer.
const HEAD: usize = 64;

pub(crate) fn run(data: &[u8]) {
    let (line, body) = crate::first_line(data);
    let mut request = line.to_vec();
    request.extend(
        format!(
            " HTTP/1.1\r\nhost: agent\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes(),
    );
    request.extend(body);
    RUNTIME.with(|runtime| runtime.block_on(exchange(&request)));
}

async fn exchange(request: &[u8]) {
    let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
    let agent = Arc::new(agent::Fake::default());
    let serve = api::serve_connection(server, agent);
    let ask = async {
        // The server may refuse before it has read everything.
        let _refused = client.write_all(request).await;
        let mut head = [0; HEAD];
        let read = client.read(&mut head).await.unwrap_or(0);
        drop(client);
        assert!(
            read == 0 || head.starts_with(b"HTTP/1.1 "),
            "no answer: {:?}",
            String::from_utf8_lossy(&head[..read])
        );
    };
    tokio::join!(serve, ask);
}
