// SPDX-License-Identifier: Apache-2.0
//! Background work that is repeated, and how it fares.

use super::*;
use crate::Timestamp;

model! {
    /// One piece of background work.
    "kebab-case" ControllerStatus {
        name: String,
        uuid: String,
        configuration: Option<ControllerConfiguration>,
        status: Option<ControllerRuns>,
    }
}

model! {
    /// How often it runs. Durations as Go writes them (`1m0s`).
    "kebab-case" ControllerConfiguration { interval: String, error_retry: bool, error_retry_base: String, }
}

model! {
    /// How its runs ended.
    "kebab-case" ControllerRuns {
        success_count: i64,
        failure_count: i64,
        consecutive_failure_count: i64,
        last_failure_msg: String,
    } always {
        last_success_timestamp: Timestamp,
        last_failure_timestamp: Timestamp,
    }
}
