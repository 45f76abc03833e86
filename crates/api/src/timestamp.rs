// SPDX-License-Identifier: Apache-2.0
//! Points in time as the API writes them: UTC, milliseconds, always present; year 1 is "never".

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::{datetime, format_description};
use time::{Duration, OffsetDateTime, UtcOffset};

const MILLIS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
const SECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// A point in time, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// Never: `0001-01-01T00:00:00.000Z`.
    pub const NEVER: Timestamp = Timestamp(datetime!(0001-01-01 00:00:00 UTC));

    /// The clock of this machine.
    pub fn now() -> Self {
        Self(OffsetDateTime::now_utc())
    }

    /// Whether this is [`Timestamp::NEVER`].
    pub fn is_never(self) -> bool {
        self == Self::NEVER
    }

    /// Time from `self` to `now`; `None` if it never was, zero if it lies ahead.
    pub fn age(self, now: Timestamp) -> Option<std::time::Duration> {
        let age = now.0 - self.0;
        (!self.is_never()).then(|| age.max(Duration::ZERO).unsigned_abs())
    }

    /// Without fractions, as in logs of endpoints.
    pub fn seconds(self) -> String {
        self.0.format(SECONDS).unwrap_or_default()
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::NEVER
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(time: OffsetDateTime) -> Self {
        Self(time.to_offset(UtcOffset::UTC))
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        Self(time.into())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(MILLIS).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let time = OffsetDateTime::parse(&text, &Rfc3339).map_err(de::Error::custom)?;
        Ok(time.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_milliseconds_and_never() {
        let time = Timestamp::from(datetime!(2026-05-04 10:11:12.345678 UTC));
        assert_eq!(time.to_string(), "2026-05-04T10:11:12.345Z");
        assert_eq!(time.seconds(), "2026-05-04T10:11:12Z");
        assert_eq!(Timestamp::default().to_string(), "0001-01-01T00:00:00.000Z");
        let read: Timestamp = serde_json::from_str("\"0001-01-01T00:00:00.000Z\"").expect("a time");
        assert!(read.is_never());
        assert_eq!(read.age(time), None);
        assert_eq!(time.age(time), Some(std::time::Duration::ZERO));
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
    }
}
