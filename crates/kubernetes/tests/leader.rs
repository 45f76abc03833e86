// SPDX-License-Identifier: Apache-2.0
//! Who of several operators works, against a server that refuses stale writes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fake;

use std::time::Duration;

use fake::Fake;
use kubernetes::api::Leader;
use serde_json::json;
use tokio::time::timeout;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const LEASE: &str = "cilium-operator-leader";
/// Several tries.
const WHILE: Duration = Duration::from_secs(5);

async fn candidate(fake: &Fake, name: &str) -> Leader {
    Leader::new(fake.client().await, "kube-system", name)
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

    // b is not heard of for as long as its Lease may rest.
    let mut old = fake.shared.lock().unwrap().objects[LEASES][LEASE].clone();
    old["spec"]["leaseDurationSeconds"] = json!(1);
    fake.put(LEASES, LEASE, old);
    timeout(WHILE, a.lead(|said| said.unwrap())).await.unwrap();
    assert_eq!(lease(&fake)["holderIdentity"], "a");
    // Its own writes are refused from now on.
    let refused = timeout(Duration::from_secs(15), b.keep(drop)).await;
    assert!(!refused.unwrap().is_empty());
    assert_eq!(lease(&fake)["holderIdentity"], "a");
}

#[tokio::test]
async fn a_clock_that_differs_neither_takes_the_lead_nor_keeps_it() {
    let (fake, _running) = Fake::start().await;
    let lease = |renewed: String| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"namespace": "kube-system"},
            "spec": {"holderIdentity": "b", "leaseDurationSeconds": 3, "renewTime": renewed}})
    };
    let mut a = candidate(&fake, "a").await;
    // b's clock is years behind, and it renews.
    let renews = async {
        for second in 0..8 {
            fake.put(
                LEASES,
                LEASE,
                lease(format!("2020-01-01T00:00:0{second}.000000Z")),
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = renews => {}
        () = a.lead(|said| said.unwrap()) => panic!("b lives"),
    }
    // Its clock was years ahead, and it is gone.
    fake.put(
        LEASES,
        LEASE,
        lease("2999-01-01T00:00:00.000000Z".to_owned()),
    );
    let leads = timeout(Duration::from_secs(10), a.lead(|said| said.unwrap()));
    leads.await.unwrap();
}
