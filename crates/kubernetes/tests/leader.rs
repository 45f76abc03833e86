// SPDX-License-Identifier: Apache-2.0
//! Who of several operators works, against a server that refuses stale writes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fake;

use std::time::Duration;

use fake::Fake;
use kubernetes::api::{Leader, Settings, connect};
use serde_json::json;
use tokio::time::timeout;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const LEASE: &str = "cilium-operator-leader";
/// Several tries.
const WHILE: Duration = Duration::from_secs(5);

async fn candidate(fake: &Fake, name: &str) -> Leader {
    let settings = Settings {
        servers: vec![fake.url()],
        kubeconfig: None,
        qps: 1000,
        burst: 1000,
    };
    Leader::new(connect(&settings).await.unwrap(), "kube-system", name)
}

fn lease(fake: &Fake) -> serde_json::Value {
    fake.shared.lock().unwrap().objects[LEASES][LEASE]["spec"].clone()
}

#[tokio::test]
async fn one_leads_until_it_gives_up_or_goes_away() {
    let (fake, _running) = Fake::start().await;
    let (mut a, mut b) = (candidate(&fake, "a").await, candidate(&fake, "b").await);
    timeout(WHILE, a.lead(|said| said.unwrap())).await.unwrap();
    let begun = lease(&fake);
    assert_eq!(begun["holderIdentity"], "a");
    let (waits, leads) = tokio::join!(
        timeout(WHILE, b.lead(|said| said.unwrap())),
        timeout(WHILE, a.keep(|said| said.unwrap())),
    );
    assert!(waits.is_err() && leads.is_err(), "a leads, b waits");
    let now = lease(&fake);
    assert_ne!(now["renewTime"], begun["renewTime"]);
    assert_eq!(now["acquireTime"], begun["acquireTime"]);

    a.resign().await;
    timeout(WHILE, b.lead(|said| said.unwrap())).await.unwrap();
    assert_eq!(lease(&fake)["holderIdentity"], "b");

    // As if b had not been heard of for long.
    let mut old = fake.shared.lock().unwrap().objects[LEASES][LEASE].clone();
    old["spec"]["renewTime"] = json!("2026-01-01T00:00:00.000000Z");
    fake.put(LEASES, LEASE, old);
    timeout(WHILE, a.lead(|said| said.unwrap())).await.unwrap();
    assert_eq!(lease(&fake)["holderIdentity"], "a");
    // Its own writes are refused from now on.
    let refused = timeout(Duration::from_secs(15), b.keep(drop)).await;
    assert!(!refused.unwrap().is_empty());
    assert_eq!(lease(&fake)["holderIdentity"], "a");
}
