// SPDX-License-Identifier: Apache-2.0
//! The ring of drop events.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use abi::{DropEvent, EVENT_DROP};
use aya::maps::{Map as AyaMap, MapData, RingBuf};
use zerocopy::FromBytes;

use crate::{Error, Result};

/// Reads drop events. Its descriptor is readable when there are some, so that it fits tokio's `AsyncFd`.
pub struct EventReader {
    ring: RingBuf<MapData>,
    unknown: u64,
}

impl std::fmt::Debug for EventReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventReader")
            .field("unknown", &self.unknown)
            .finish_non_exhaustive()
    }
}

impl EventReader {
    /// Opens the pinned ring.
    pub(crate) fn from_pin(path: &Path) -> Result<Self> {
        let failed = |error| Error::Events(Box::new(error));
        let data = MapData::from_pin(path).map_err(failed)?;
        let map = AyaMap::from_map_data(data).map_err(failed)?;
        Ok(Self {
            ring: RingBuf::try_from(map).map_err(failed)?,
            unknown: 0,
        })
    }

    /// The next event; `None` if there is none now. Records that are no drop events are counted and skipped.
    #[expect(
        clippy::should_implement_trait,
        reason = "None is not the end: more may come"
    )]
    pub fn next(&mut self) -> Option<DropEvent> {
        while let Some(record) = self.ring.next() {
            match DropEvent::read_from_prefix(&record) {
                Ok((event, _)) if event.kind == EVENT_DROP => return Some(event),
                _ => self.unknown += 1,
            }
        }
        None
    }

    /// Records so far that were no drop events.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }
}

impl AsFd for EventReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for EventReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
