// SPDX-License-Identifier: Apache-2.0
//! Network namespaces of a test's own, gone when the test ends.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test binary uses its part")]

use netlink::{NetNs, Socket};

/// A namespace without a name: it ends with its last descriptor, however the test ends.
pub(crate) fn namespace() -> NetNs {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ns");
    let ns = NetNs::create(&path).unwrap();
    NetNs::delete(&path).unwrap();
    Socket::open_in(&ns).unwrap().set_up("lo").unwrap();
    ns
}
