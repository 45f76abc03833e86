// SPDX-License-Identifier: Apache-2.0
//! `/isthmus/kvstore`: keys of the cluster's etcd.

use super::*;

model! {
    /// A key and its value, as text. One with an `error` is the last: the list broke off.
    "kebab-case" KvstoreEntry { value: String, error: String, } always { key: String, }
}
