// SPDX-License-Identifier: Apache-2.0
//! Waiting for something to become true, with a deadline and the last value seen.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{LabError, Result};

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs `probe` until it succeeds, at most for `deadline`. The error carries what the last run said.
pub fn eventually<T, E: Display>(
    what: impl Into<String>,
    deadline: Duration,
    mut probe: impl FnMut() -> std::result::Result<T, E>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let last = match probe() {
            Ok(value) => return Ok(value),
            Err(error) => error.to_string(),
        };
        if started.elapsed() >= deadline {
            return Err(LabError::Timeout {
                what: what.into(),
                waited: deadline,
                last,
            });
        }
        if crate::interrupt::is_set() {
            return Err(LabError::Interrupted);
        }
        sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_reports_the_last_value() {
        let mut count = 0;
        let result: Result<()> = eventually("a thing", Duration::from_millis(50), || {
            count += 1;
            Err(format!("value {count}"))
        });
        let text = result.expect_err("never true").to_string();
        assert!(text.contains(&format!("value {count}")), "{text}");
    }
}
