// SPDX-License-Identifier: Apache-2.0
//! Name and password, at an etcd whose authentication is switched on and off under its clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use kvstore::{ClientOptions, Config, Etcd, Store, Update, reflect};
use support::Server;
use tables::Event;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(15);

fn config(server: &Server, password: &str) -> Config {
    let text = server.config_text("127.0.0.1");
    Config::parse(&format!("{text}username: mesh\npassword: {password}\n")).unwrap()
}

async fn until_written(etcd: &Etcd, key: &str) {
    let start = Instant::now();
    while let Err(error) = etcd.put(key, "x".into(), None).await {
        assert!(start.elapsed() < SOON, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn seen(updates: &mut (impl Stream<Item = Update> + Unpin), key: &str) {
    let waiting = async {
        loop {
            let update = updates.next().await.unwrap();
            if let Update::Event(Event::Apply(found, _) | Event::InitApply(found, _)) = update
                && found == key
            {
                return;
            }
        }
    };
    timeout(SOON, waiting).await.expect("the key is seen");
}

fn users(server: &Server) {
    server.ctl(&["user", "add", "root:secret"]);
    server.ctl(&["user", "grant-role", "root", "root"]);
    server.ctl(&["role", "add", "mesh"]);
    server.ctl(&["role", "grant-permission", "mesh", "readwrite", "r/", "r0"]);
    server.ctl(&["user", "add", "mesh:right"]);
    server.ctl(&["user", "grant-role", "mesh", "mesh"]);
}

#[tokio::test]
async fn authentication_is_switched_on_and_off() {
    let server = Server::start().await;
    let etcd = Etcd::lazy(config(&server, "right"), ClientOptions::default());
    until_written(&etcd, "r/1").await;
    let mut updates = Box::pin(reflect(etcd.clone(), "r/"));
    seen(&mut updates, "r/1").await;
    users(&server);
    server.ctl(&["auth", "enable"]);
    until_written(&etcd, "r/2").await;
    seen(&mut updates, "r/2").await;
    server.ctl(&["--user=root:secret", "auth", "disable"]);
    until_written(&etcd, "r/3").await;
    seen(&mut updates, "r/3").await;
    server.ctl(&["auth", "enable"]);
    until_written(&etcd, "r/4").await;
    seen(&mut updates, "r/4").await;
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    let server = Server::start().await;
    users(&server);
    server.ctl(&["auth", "enable"]);
    let wrong = Etcd::connect(config(&server, "wrong"), ClientOptions::default());
    let error = wrong.await.unwrap_err().to_string();
    assert!(error.contains("invalid user ID or password"), "{error}");
}
