// SPDX-License-Identifier: Apache-2.0
//! `/policy`: the rules in force and their selectors.

use super::*;

model! {
    /// Answer of `GET /policy`.
    "kebab-case" Policy {
        revision: i64,
        /// JSON text, `[]` when there are no rules.
        policy: String,
    }
}
model! {
    /// A selector in use and what it selects.
    "kebab-case" SelectorIdentities { selector: String, users: i64, } always {
        #[serde(with = "null_list")]
        labels: Vec<SelectorLabel>,
        #[serde(with = "null_list")]
        identities: Vec<i64>,
    }
}
model! {
    /// A label of the rule that a selector stands in.
    "kebab-case" SelectorLabel { key: String, source: String, value: String, }
}
