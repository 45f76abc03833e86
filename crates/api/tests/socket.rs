// SPDX-License-Identifier: Apache-2.0
//! Server and client over a real unix socket.
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use api::models::*;
use api::*;
use common::lab;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

fn client(lab: &common::Lab) -> Client {
    Client::new(&lab.socket)
        .same_version()
        .with_timeout(Duration::from_secs(10))
}

#[tokio::test]
async fn every_kind_of_request() {
    let lab = lab();
    let c = client(&lab);
    let query = StatusQuery {
        brief: true,
        require_k8s_connectivity: false,
    };
    assert_eq!(c.status(query).await.unwrap().cilium.unwrap().msg, "0.1.0");
    assert_eq!(c.nodes(None).await.unwrap().client_id, 7);
    assert_eq!(c.nodes(Some(-4)).await.unwrap().client_id, -4);
    c.endpoints(&["k8s:app=web".into()]).await.unwrap();
    let id = "cni-attachment-id:9f8e:eth0".parse().unwrap();
    let change = EndpointChangeRequest {
        container_id: "9f8e".into(),
        ..Default::default()
    };
    assert_eq!(c.create_endpoint(&id, &change).await.unwrap().id, 5);
    let pod = "cep-name:default/web-0".parse().unwrap();
    c.endpoint_log(&pod).await.unwrap();
    let batch = EndpointBatchDelete {
        container_id: "cid".into(),
    };
    c.delete_endpoints(&batch).await.unwrap();
    let request = IpamRequest {
        family: Some(Family::V6),
        owner: "default/web & co".into(),
        pool: String::new(),
        expiration: true,
    };
    c.allocate(&request).await.unwrap();
    c.allocate_address("10.0.0.1".parse().unwrap(), "o", "")
        .await
        .unwrap();
    c.release_address("fd00::1".parse().unwrap(), "p")
        .await
        .unwrap();
    c.bpf_policies(Some(3)).await.unwrap();
    assert_eq!(c.identity(70312).await.unwrap().id, 70312);
    let asked = lab.fake.asked.lock().unwrap().join("\n");
    assert_eq!(
        asked,
        "StatusQuery { brief: true, require_k8s_connectivity: false }\n[\"k8s:app=web\"]\n\
         cni-attachment-id:9f8e:eth0 9f8e\ncep-name:default/web-0\ncid\n\
         IpamRequest { family: Some(V6), owner: \"default/web & co\", pool: \"\", expiration: true }\n\
         10.0.0.1 o\nfd00::1 p\nSome(3)"
    );
}

#[tokio::test]
async fn refusals_and_partial_deletions() {
    let lab = lab();
    let c = client(&lab);
    let error = c.endpoint(&EndpointRef::Local(9)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the agent refused: no endpoint cilium-local:9 (404)"
    );
    let nothing = c.ips(&IpQuery::default()).await.unwrap_err();
    assert_eq!(nothing.refused(), Some(StatusCode::NOT_FOUND));
    assert_eq!(
        nothing.to_string(),
        "the agent refused: it has no such thing (404)"
    );
    let delete = |id| {
        let c = c.clone();
        async move { c.delete_endpoint(&EndpointRef::Local(id)).await }
    };
    assert_eq!(delete(1).await.unwrap(), Deleted::All);
    assert_eq!(delete(2).await.unwrap(), Deleted::WithErrors(3));
    let not_ready = delete(3).await.unwrap_err();
    assert_eq!(not_ready.refused(), Some(StatusCode::SERVICE_UNAVAILABLE));
    let error = c.bpf_ipcache().await.err().unwrap();
    assert!(error.to_string().contains("the map is gone"));
}

/// What the server answers to these bytes.
async fn raw(lab: &common::Lab, request: &str) -> String {
    let mut stream = UnixStream::connect(&lab.socket).await.unwrap();
    // A server that refuses early may close before everything is written.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// A server that refuses before it has read everything may close so that its answer is lost.
fn cut(code: u16, answer: &str) -> bool {
    matches!(code, 413 | 431) && answer.is_empty()
}

#[tokio::test]
async fn bad_requests() {
    let lab = lab();
    let get = |path: &str, head: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n")
    };
    for (request, code, text) in [
        (
            get("/v1/endpoint/container-name:x", ""),
            400,
            "unknown endpoint ID prefix",
        ),
        (get("/v1/endpoint/65536", ""), 400, "a number 0..65535"),
        (get("/v1/identity/x", ""), 400, "an identity is a number"),
        (
            get("/v1/healthz", "brief: perhaps\r\n"),
            400,
            "header brief must be true or false",
        ),
        (
            get("/v1/cluster/nodes", "client-id: x\r\n"),
            400,
            "client-id must be a number",
        ),
        (
            get("/v1/nothing", ""),
            404,
            "this agent has no path /v1/nothing",
        ),
        (
            get("/v1/endpoint", "Content-Length: 3\r\n") + "{1}",
            400,
            "the request body is invalid",
        ),
        (
            get("/v1/ip", &format!("x: {}\r\n", "y".repeat(300_000))),
            431,
            "",
        ),
        (
            get("/v1/ip", "Content-Length: 2000000\r\n") + &"y".repeat(2_000_000),
            413,
            "",
        ),
        ("nonsense\r\n\r\n".into(), 400, ""),
    ] {
        let answer = raw(&lab, &request).await;
        let head = format!("HTTP/1.1 {code}");
        assert!(
            (answer.starts_with(&head) && answer.contains(text)) || cut(code, &answer),
            "{}: {answer}",
            &request[..request.len().min(60)]
        );
    }
    let refusal = raw(&lab, &get("/v1/endpoint/x:y", "")).await;
    let body = refusal.split("\r\n\r\n").nth(1).unwrap();
    assert!(body.starts_with("\"unknown"), "a bare JSON string: {body}");
    let unwritten = raw(
        &lab,
        "PUT /v1/endpoint/0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(unwritten.starts_with("HTTP/1.1 400"), "{unwritten}");
    assert!(!lab.server.is_finished());
}

#[tokio::test]
async fn feeds() {
    let lab = lab();
    let c = client(&lab);
    let flows = c.flows().await.unwrap().collect().await.unwrap();
    assert_eq!(flows.len(), 100_000);
    assert!(
        flows
            .iter()
            .enumerate()
            .all(|(n, flow)| flow.created == n as u64)
    );

    let query = EventQuery {
        to: Some(2),
        ..Default::default()
    };
    let mut events = c.events(&query).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().endpoint, 2);
    let quiet = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    assert!(quiet.is_err(), "nothing else was asked for");
    lab.server.abort();
    let _ = lab.server.await;
    let broken = events.next().await.unwrap_err();
    assert!(broken.to_string().contains("broke"), "{broken}");
}

#[tokio::test]
async fn a_reader_that_leaves_frees_its_feed() {
    let lab = lab();
    for _ in 0..600 {
        let events = client(&lab).events(&EventQuery::default()).await.unwrap();
        drop(events);
    }
    client(&lab).version().await.unwrap();
}

/// Whoever looks at drops must not keep others, the CNI plugin among them, from the agent.
#[tokio::test]
async fn feeds_that_never_end_leave_room() {
    let lab = lab();
    let c = client(&lab);
    let query = EventQuery::default();
    let (mut open, mut refused) = (Vec::new(), None);
    while refused.is_none() && open.len() < 300 {
        match c.events(&query).await {
            Ok(events) => open.push(events),
            Err(error) => refused = Some(error),
        }
    }
    let refused = refused.expect("there is a bound");
    assert_eq!(refused.refused(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert!(refused.to_string().contains("monitor"), "{refused}");
    c.version().await.unwrap();
    assert_eq!(
        open[0].next().await.unwrap().unwrap().endpoint,
        1,
        "a feed that is there goes on"
    );
    open.truncate(3);
    c.events(&query).await.unwrap();
}

/// Serves `answer` to everyone.
fn stranger(
    dir: &tempfile::TempDir,
    answer: &'static str,
) -> (Client, tokio::task::JoinHandle<()>) {
    let path = dir.path().join("stranger.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            if answer.is_empty() {
                kept.push(stream);
            }
        }
    });
    let client = Client::new(&path)
        .same_version()
        .with_timeout(Duration::from_millis(300));
    (client, task)
}

#[tokio::test]
async fn every_failure_is_one_helpful_line() {
    let dir = tempfile::tempdir().unwrap();
    let text = |error: Error| {
        let text = error.to_string();
        assert!(!text.contains('\n'));
        text.replace(dir.path().to_str().unwrap(), "DIR")
    };
    let missing = Client::new(dir.path().join("none.sock")).version().await;
    let missing = missing.unwrap_err();
    assert!(missing.is_agent_down());
    assert_eq!(
        text(missing),
        "no agent here: socket DIR/none.sock does not exist; start the agent (isthmus agent), or name its socket with -H or CILIUM_SOCK"
    );

    let dead = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let error = Client::new(&dead).version().await.unwrap_err();
    assert!(error.is_agent_down());
    assert_eq!(
        text(error),
        "the agent is down: nobody listens on DIR/dead.sock; start it (isthmus agent) and look at the end of its log"
    );

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Client::new(&file).version().await.unwrap_err();
    assert!(
        text(error).contains("DIR/file is not the socket of an Isthmus agent: it is not a socket")
    );

    for (answer, expected) in [
        ("220 mail.example ESMTP\r\n", "does not speak HTTP"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "another HTTP server answers there",
        ),
        (
            "HTTP/1.1 200 OK\r\nisthmus-api: 9\r\nContent-Length: 2\r\n\r\n{}",
            "version mismatch: the agent on DIR/stranger.sock speaks version 9 of the API and this program version 1",
        ),
        (
            "HTTP/1.1 200 OK\r\nisthmus-api: 1\r\nContent-Length: 2\r\n\r\nno",
            "the answer of the agent on DIR/stranger.sock to /isthmus/version is not understood",
        ),
        (
            "HTTP/1.1 200 OK\r\nisthmus-api: 1\r\nContent-Length: 9\r\n\r\n{}",
            "broke",
        ),
        ("", "did not answer within 0 s"),
    ] {
        let (client, task) = stranger(&dir, answer);
        let error = text(client.version().await.unwrap_err());
        assert!(error.contains(expected), "{answer:?}: {error}");
        task.abort();
        let _ = task.await;
    }
}

#[tokio::test]
async fn another_release_is_accepted_where_the_paths_are_stable() {
    let dir = tempfile::tempdir().unwrap();
    let answer = "HTTP/1.1 200 OK\r\nisthmus-api: 9\r\nContent-Length: 2\r\n\r\n{}";
    let (client, task) = stranger(&dir, answer);
    assert!(client.config().await.is_err());
    let plugin = Client::new(client.path());
    assert!(plugin.config().await.is_ok());
    assert!(matches!(plugin.version().await, Err(Error::Version { .. })));
    task.abort();
}

#[tokio::test]
async fn an_agent_that_hangs_is_given_up() {
    let lab = lab();
    let c = client(&lab).with_timeout(Duration::from_millis(200));
    let error = c.identity_endpoints().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    c.version().await.unwrap();
}

/// As an agent that ends at this moment.
#[tokio::test]
async fn a_connection_that_is_closed_at_once_is_told_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("closing.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let closing = tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    for _ in 0..100 {
        let error = Client::new(&path).version().await.unwrap_err();
        let why = error.to_string();
        let known = ["closed without an answer", "reset by peer", "Broken pipe"];
        assert!(known.iter().any(|words| why.contains(words)), "{why}");
    }
    closing.abort();
}

#[tokio::test]
async fn a_socket_that_somebody_removes_is_there_again() {
    let lab = lab();
    let mut open = UnixStream::connect(&lab.socket).await.unwrap();
    std::fs::remove_file(&lab.socket).unwrap();
    let query = StatusQuery {
        brief: true,
        require_k8s_connectivity: false,
    };
    let again = async {
        while client(&lab).status(query).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again)
        .await
        .unwrap();
    // Whoever had connected before is served on.
    let request = "GET /v1/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    open.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}
