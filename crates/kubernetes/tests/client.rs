// SPDX-License-Identifier: Apache-2.0
//! The client of an API server that goes without a word, or wants other credentials than before.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kubernetes::api::{Events, Settings, Subject, connect, server_version};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

fn settings(servers: Vec<String>, kubeconfig: Option<PathBuf>) -> Settings {
    Settings {
        servers,
        kubeconfig,
        qps: 1000,
        burst: 1000,
    }
}

/// Its machine may be gone.
#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_not_listened_to_for_ever() {
    let (listener, url) = listen().await;
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    let client = connect(&settings(vec![url], None)).await.unwrap();
    let events = Events::new(client, "node1");
    let node = Subject::node("node1");
    let begun = Instant::now();
    let told = events.warn(&node, "ClusterRefused", "cluster6");
    let told = timeout(Duration::from_secs(200), told).await;
    let lost = told.expect("it gives up").unwrap_err();
    assert!(begun.elapsed() > Duration::from_secs(60), "{lost}");
    silent.abort();
}

#[tokio::test]
async fn renewed_credentials_are_found_where_the_old_ones_were() {
    let (listener, url) = listen().await;
    let version = async |headers: HeaderMap| -> Response {
        if headers["authorization"] != "Bearer new" {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let version = r#"{"major":"1","minor":"36","gitVersion":"v1.36.0","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":"linux/amd64"}"#;
        version.into_response()
    };
    let server = tokio::spawn(async move {
        let router = Router::new().fallback(version);
        axum::serve(listener, router).await.unwrap();
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubeconfig");
    let write = |token: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: {url:?}}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("old");
    let settings = settings(Vec::new(), Some(file.clone()));
    let client = connect(&settings).await.unwrap();
    write("new");
    server_version(&client).await.unwrap_err();
    let version = server_version(&client).await.unwrap();
    assert!(version.contains("v1.36.0"), "{version}");
    server.abort();
}

#[tokio::test]
async fn servers_that_are_no_urls_are_refused() {
    let answer = connect(&settings(vec!["apiserver:x".into()], None)).await;
    let error = answer.err().expect("no URL");
    assert!(error.to_string().contains("API server"), "{error}");
}
