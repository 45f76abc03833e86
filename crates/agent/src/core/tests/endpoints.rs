// SPDX-License-Identifier: Apache-2.0
//! What becomes of endpoints and their addresses over restarts.

use super::*;

/// What an earlier run published for a pod that is gone is a leftover; what stands for anything else is not.
#[test]
fn rows_of_this_node_without_a_pod_are_leftovers() {
    let mut core = core();
    let pool = core.pool4.as_mut().expect("IPv4");
    let given = pool.allocate("demo/starting").expect("free");
    let here = Some(IpAddr::from(core.node.ipv4));
    let elsewhere = "172.30.5.2".parse().ok();
    let is_leftover = |prefix: &str, host| {
        let entry = model::IpEntry::new(prefix.parse().expect("valid"), WEB, host);
        core.is_leftover(&entry)
    };
    assert!(is_leftover("10.5.1.77/32", here));
    assert!(!is_leftover("10.5.1.77/32", elsewhere));
    assert!(!is_leftover("10.5.1.77/32", None));
    assert!(!is_leftover("10.5.1.0/24", here), "no address of a pod");
    for ip in ["10.5.1.9", "10.5.1.1", "172.30.5.1", &given.to_string()] {
        assert!(!is_leftover(&format!("{ip}/32"), here), "{ip}");
    }
}
