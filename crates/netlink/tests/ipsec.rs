// SPDX-License-Identifier: Apache-2.0
//! IPsec policies in the running kernel (needs root).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::process::Command;

use common::namespace;
use netlink::ipsec;

#[test]
fn only_policies_of_what_leaves_are_told() {
    namespace()
        .run(|| {
            let policy = |verb: &str, direction: &str| {
                let text =
                    format!("xfrm policy {verb} src 10.0.0.0/8 dst 10.0.0.0/8 dir {direction}");
                let text = match verb {
                    "add" => text + " tmpl proto esp mode transport",
                    _ => text,
                };
                let status = Command::new("ip").args(text.split(' ')).status().unwrap();
                assert!(status.success(), "{text}");
            };
            let told = || ipsec::has_output_policies().unwrap();
            assert!(!told());
            policy("add", "in");
            assert!(!told());
            policy("add", "out");
            assert!(told());
            policy("delete", "out");
            assert!(!told());
        })
        .unwrap();
}
