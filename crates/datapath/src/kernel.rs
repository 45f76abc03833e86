// SPDX-License-Identifier: Apache-2.0
//! The boundary: what the datapath asks of a kernel, in bytes, and typed access on top of it.

use abi::Counter;
use zerocopy::{FromBytes, IntoBytes};

use crate::{Error, KeptLimit, Map, Program, Result, Table};

/// Whether a write may replace, must be new, or must find an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// Adds or replaces.
    Any,
    /// Adds; does nothing if there is an entry.
    New,
}

/// Where a scan stands. Starts with [`Cursor::default`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    pub(crate) position: Option<Vec<u8>>,
}

/// Whether a scan has more to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// Call again with the same cursor.
    More,
    /// The whole map was seen; the cursor starts again.
    Done,
}

/// How [`Kernel::attach`] reached its goal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attached {
    /// There was no link, or only one of a device that is gone.
    New,
    /// The program of a living link was replaced; no packet went without.
    Replaced,
}

/// Raw operations on maps and links. Keys and values have the sizes of [`Map`].
pub trait Kernel {
    /// The value of `key`.
    fn get(&self, map: Map, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Writes; returns whether the entry was written ([`Put::New`] finds one: no). Arrays are stored word by
    /// word from the last to the first, so that the first 8 bytes of a value make the rest effective.
    fn put(&mut self, map: Map, key: &[u8], value: &[u8], mode: Put) -> Result<bool>;
    /// Removes; returns whether there was an entry.
    fn delete(&mut self, map: Map, key: &[u8]) -> Result<bool>;
    /// Removes and returns the entry in one step.
    fn take(&mut self, map: Map, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Visits about `limit` entries from `cursor` on. Every entry that is there during the whole scan is visited.
    fn scan(
        &self,
        map: Map,
        cursor: &mut Cursor,
        limit: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Scan>;
    /// Adds `delta` to the u32 at `index` of an array of u32, as one step against the programs; never below
    /// zero. Returns the new number.
    fn add(&mut self, map: Map, index: u32, delta: i32) -> Result<u32>;
    /// [`Map::Metrics`], summed over CPUs.
    fn counters(&self) -> Result<Vec<Counter>>;
    /// Most entries of the map as it exists.
    fn limit(&self, map: Map) -> u32;
    /// Maps that could not get the limits of the settings.
    fn kept_limits(&self) -> &[KeptLimit] {
        &[]
    }
    /// Returns once every program run that began before the call has ended.
    fn barrier(&self);
    /// Attaches `program` to a device of this network namespace, or replaces it there.
    fn attach(&mut self, device: &str, ifindex: u32, program: Program) -> Result<Attached>;
    /// Removes a pinned link; none is fine. Programs on a pod's device have none: they go with the device.
    fn detach(&mut self, device: &str, program: Program) -> Result<()>;
    /// All pinned links: device and program.
    fn links(&self) -> Result<Vec<(String, Program)>>;
}

/// Typed access. Blanket implementation for every [`Kernel`].
pub trait Typed: Kernel {
    /// The value of `key`.
    fn get_row<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>> {
        let Some(bytes) = self.get(T::MAP, key.as_bytes())? else {
            return Ok(None);
        };
        Ok(Some(decode::<T>(&bytes)?))
    }

    /// Writes a row.
    fn put_row<T: Table>(&mut self, key: &T::Key, value: &T::Value) -> Result<()> {
        self.put(T::MAP, key.as_bytes(), value.as_bytes(), Put::Any)?;
        Ok(())
    }

    /// Removes a row; returns whether there was one.
    fn delete_row<T: Table>(&mut self, key: &T::Key) -> Result<bool> {
        self.delete(T::MAP, key.as_bytes())
    }

    /// Visits all rows.
    fn each<T: Table>(&self, visit: &mut dyn FnMut(T::Key, T::Value)) -> Result<()> {
        let mut cursor = Cursor::default();
        loop {
            let scan = self.scan(T::MAP, &mut cursor, 4096, &mut |key, value| {
                if let (Ok(key), Ok(value)) = (
                    T::Key::read_from_bytes(key),
                    T::Value::read_from_bytes(value),
                ) {
                    visit(key, value);
                }
            })?;
            if scan == Scan::Done {
                return Ok(());
            }
        }
    }

    /// All rows.
    fn dump<T: Table>(&self) -> Result<Vec<(T::Key, T::Value)>> {
        let mut rows = Vec::new();
        self.each::<T>(&mut |key, value| rows.push((key, value)))?;
        Ok(rows)
    }
}

impl<K: Kernel + ?Sized> Typed for K {}

fn decode<T: Table>(bytes: &[u8]) -> Result<T::Value> {
    T::Value::read_from_bytes(bytes).map_err(|_| Error::Invalid {
        map: T::MAP,
        what: format!(
            "a value has {} bytes, {} are right",
            bytes.len(),
            size_of::<T::Value>()
        ),
    })
}

/// A key as operators read it in errors.
pub(crate) fn hex(key: &[u8]) -> String {
    use std::fmt::Write;
    key.iter()
        .fold(String::with_capacity(key.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
