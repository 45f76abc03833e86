// SPDX-License-Identifier: Apache-2.0
//! Certificates: renewed on disk, expired, foreign, missing, for another name; what the operator reads then.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use futures::StreamExt;
use kvstore::{ClientOptions, Config, Error, Etcd, Store, diagnose};
use support::{Authority, Leaf, Server};

async fn refusal(text: &str) -> String {
    let config = Config::parse(text).unwrap();
    match Etcd::connect(config, ClientOptions::default()).await {
        Err(error @ Error::Tls { .. }) => error.to_string(),
        other => panic!("expected a TLS error, got {other:?}"),
    }
}

fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in {text:?}");
    }
}

#[tokio::test]
async fn refused_certificates_are_told_in_words() {
    let server = Server::start().await;
    server.client().await;
    let text = server.config_text("127.0.0.1");
    let foreign = Authority::new("a foreign CA");
    foreign.write(&server.path("foreign.crt"));

    let other_ca = text.replace("/ca.crt", "/foreign.crt");
    assert_says(
        &refusal(&other_ca).await,
        &["not signed by a CA of", "foreign.crt"],
    );

    assert_says(
        &refusal(&server.config_text("localhost")).await,
        &["is for another name", "localhost"],
    );

    let without: String = text
        .lines()
        .take(3)
        .map(|line| format!("{line}\n"))
        .collect();
    assert_says(
        &refusal(&without).await,
        &["requires a client certificate", "cert-file"],
    );

    let missing = text.replace("client.crt", "nothing.crt");
    assert_says(
        &refusal(&missing).await,
        &["cannot read the client certificate", "nothing.crt"],
    );

    let mismatch = text.replace("client.key", "server.key");
    assert_says(
        &refusal(&mismatch).await,
        &["client.crt", "server.key", "do not work together"],
    );

    let no_pem = text.replace("client.crt", "etcd.log");
    assert_says(&refusal(&no_pem).await, &["holds no PEM certificate"]);

    // Nobody writes to the pipe, and the device never ends.
    let pipe = server.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for (file, instead) in [
        ("client.crt", pipe.display().to_string()),
        ("client.key", "/dev/zero".to_owned()),
        ("ca.crt", pipe.display().to_string()),
    ] {
        let odd = text.replace(&server.path(file).display().to_string(), &instead);
        assert_says(&refusal(&odd).await, &[&instead, "is not a file"]);
    }

    foreign.issue(Leaf::client("isthmus"), &server.path("client"));
    assert_says(
        &refusal(&text).await,
        &["refuses the client certificate", "client.crt"],
    );

    let own = Authority::kept(server.dir.path());
    own.issue(Leaf::client("isthmus").expired(), &server.path("client"));
    assert_says(
        &refusal(&text).await,
        &["refuses the client certificate", "expired"],
    );
}

#[tokio::test]
async fn an_expired_server_certificate() {
    let server = Server::start_with(Leaf::server().expired()).await;
    let refused = refusal(&server.config_text("127.0.0.1")).await;
    assert_says(
        &refused,
        &["the server certificate of 127.0.0.1", "has expired"],
    );
}

#[tokio::test]
async fn an_alias_needs_no_dns_and_a_dead_endpoint_is_passed_over() {
    let server = Server::start().await;
    server.client().await;
    let name = "cluster5.mesh.cilium.io";
    let aliases = format!("cilium-host-aliases:\n- hostname: {name}\n  ips: [127.0.0.1]\n");
    let dead = "endpoints:\n- https://127.0.0.1:1";
    let text = server.config_text(name).replace("endpoints:", dead) + &aliases;
    for _ in 0..4 {
        let config = Config::parse(&text).unwrap();
        let etcd = Etcd::connect(config, ClientOptions::default())
            .await
            .unwrap();
        etcd.put("a", "1".into(), None).await.unwrap();
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_used_by_the_next_connection() {
    let mut server = Server::start().await;
    let etcd = server.client().await;
    let own = Authority::kept(server.dir.path());
    own.issue(Leaf::client("isthmus").expired(), &server.path("client"));
    etcd.get("a").await.unwrap();
    server.kill();
    server.restart().await;
    let refused = etcd.get("a").await.unwrap_err();
    assert_says(&refused.to_string(), &["refuses the client certificate"]);
    own.issue(Leaf::client("isthmus"), &server.path("client"));
    let mut last = None;
    for _ in 0..50 {
        match etcd.get("a").await {
            Ok(_) => return,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("still refused: {last:?}");
}

#[tokio::test]
async fn a_server_that_dies_is_told_in_a_few_words() {
    let mut server = Server::start().await;
    let etcd = server.client().await;
    let mut watch = etcd.watch("a", 1).await.unwrap();
    server.kill();
    let limit = Duration::from_secs(5);
    let event = tokio::time::timeout(limit, watch.next()).await;
    let text = event.unwrap().unwrap().unwrap_err().to_string();
    assert_says(&text, &["watch a", "the server closed the connection"]);
    assert!(text.len() < 150, "{text}");
}

#[tokio::test]
async fn an_address_without_tls_of_a_server_with_it() {
    let server = Server::start().await;
    let text = format!("endpoints:\n- http://127.0.0.1:{}\n", server.port);
    let config = Config::parse(&text).unwrap();
    let limit = Duration::from_secs(10);
    let etcd = Etcd::connect(config, ClientOptions::default());
    let error = tokio::time::timeout(limit, etcd)
        .await
        .unwrap()
        .unwrap_err();
    assert_says(&error.to_string(), &["begins with https://"]);
}

const STEP: Duration = Duration::from_secs(5);

#[tokio::test]
async fn every_step_of_the_way_is_told() {
    let server = Server::start().await;
    server.client().await;
    let text = server.config_text("127.0.0.1");
    let found = diagnose(&Config::parse(&text).unwrap(), STEP).await;
    let status = found.server.unwrap();
    assert!(status.cluster_id != 0 && status.version.starts_with("3."));
    assert_eq!((status.has_leader, status.heartbeat), (Some(true), None));
    let endpoint = &found.endpoints[0];
    assert_eq!(endpoint.addresses, Ok(vec!["127.0.0.1".parse().unwrap()]));
    let peer = endpoint.tcp.clone().unwrap().unwrap();
    assert_eq!(format!("https://{peer}"), endpoint.url);
    let tls = endpoint.tls.clone().unwrap().unwrap();
    assert_eq!(tls.version, "TLSv1_3");
    assert!(tls.cipher.starts_with("TLS13_"), "{}", tls.cipher);
    let leaf = &tls.chain[0];
    assert!(leaf.names.contains(&"127.0.0.1".to_owned()), "{leaf:?}");
    assert!(leaf.not_before < leaf.not_after && !leaf.serial.is_empty());
    let (ca, client) = (found.ca.unwrap(), found.client.unwrap());
    assert_eq!(ca.file, server.path("ca.crt"));
    let (ca, client) = (ca.found.unwrap(), client.found.unwrap());
    assert_eq!(
        (&ca[0].subject, &ca[0].subject),
        (&leaf.issuer, &client[0].issuer)
    );
}

#[tokio::test]
async fn the_step_that_fails_is_the_one_that_is_told() {
    let server = Server::start().await;
    server.client().await;
    let text = server.config_text("127.0.0.1");
    Authority::new("a foreign CA").write(&server.path("foreign.crt"));
    let foreign = text.replace("/ca.crt", "/foreign.crt");
    let found = diagnose(&Config::parse(&foreign).unwrap(), STEP).await;
    assert!(found.server.is_err());
    let endpoint = &found.endpoints[0];
    assert!(endpoint.tcp.clone().unwrap().is_ok());
    let refused = endpoint.tls.clone().unwrap().unwrap_err().to_string();
    assert_says(&refused, &["not signed by a CA of", "foreign.crt"]);

    let broken = text.replace("client.crt", "etcd.log");
    let found = diagnose(&Config::parse(&broken).unwrap(), STEP).await;
    let client = found.client.unwrap().found.unwrap_err().to_string();
    assert_says(&client, &["holds no PEM certificate"]);

    // Nobody listens on the second, and the third has no address.
    let more = text.replace(
        "endpoints:",
        "endpoints:\n- https://127.0.0.1:1\n- https://no-such-host.invalid:2379",
    );
    let found = diagnose(&Config::parse(&more).unwrap(), STEP).await;
    let [closed, unnamed, good] = &found.endpoints[..] else {
        panic!("three endpoints: {found:?}");
    };
    let refused = closed.tcp.clone().unwrap().unwrap_err().to_string();
    assert_says(&refused, &["127.0.0.1:1", "refused"]);
    assert!(closed.tls.is_none());
    assert!(unnamed.addresses.is_err() && unnamed.tcp.is_none());
    assert!(good.tls.clone().unwrap().is_ok());
}
