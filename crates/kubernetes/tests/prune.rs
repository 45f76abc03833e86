// SPDX-License-Identifier: Apache-2.0
//! CiliumIdentities that outlived their identity, against an API server in memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fake;

use std::collections::HashSet;
use std::time::Duration;

use fake::Fake;
use kubernetes::api::prune_identities;
use model::NumericIdentity;
use serde_json::json;

const PATH: &str = "/apis/cilium.io/v2/ciliumidentities";

#[tokio::test]
async fn only_old_ones_of_nobody_are_deleted() {
    let (fake, running) = Fake::start().await;
    let client = fake.client().await;
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    for (name, created) in [
        ("327700", "2026-01-01T00:00:00Z"),
        ("327701", "2026-01-01T00:00:00Z"),
        ("327702", now.as_str()),
        ("of-somebody", "2026-01-01T00:00:00Z"),
    ] {
        fake.put(
            PATH,
            name,
            json!({"metadata": {"creationTimestamp": created, "uid": name}}),
        );
    }
    let known = HashSet::from([NumericIdentity(327_700)]);
    let grace = Duration::from_secs(900);
    assert_eq!(prune_identities(client.clone(), &known, grace).await, Ok(1));
    let left: Vec<_> = fake.shared.lock().unwrap().objects[PATH]
        .keys()
        .cloned()
        .collect();
    assert_eq!(left, ["327700", "327702", "of-somebody"]);
    assert_eq!(prune_identities(client.clone(), &known, grace).await, Ok(0));
    fake.stop(running).await;
    assert!(prune_identities(client, &known, grace).await.is_err());
}
