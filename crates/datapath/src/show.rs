// SPDX-License-Identifier: Apache-2.0
//! Rows of maps for people: the names of fields and what is in them.

use abi::{Addr, Field};
use zerocopy::FromBytes;

use crate::error::Result;
use crate::kernel::{Cursor, Kernel, Scan, hex};
use crate::maps::{Map, Shape};
use crate::{Datapath, ip_addr};

/// Rows visited in one go.
const BATCH: u32 = 4096;
/// Fields that hold an address; the key of a map may be one as a whole.
const ADDRESSES: [&str; 8] = [
    "", "addr", "client", "local", "nat", "node", "remote", "src",
];

impl<K: Kernel> Datapath<K> {
    /// Keys and values of the map called `name`, about `most` of them; `None`: there is none of this name that has rows.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rows(&self, name: &str, most: usize) -> Result<Option<Vec<(String, String)>>> {
        let mut all = Map::ALL.iter().copied().filter(|map| {
            matches!(
                map.shape(),
                Shape::Hash | Shape::PreallocatedHash | Shape::LruHash | Shape::Trie
            )
        });
        let Some(map) = all.find(|map| map.name() == name) else {
            return Ok(None);
        };
        let (mut rows, mut cursor) = (Vec::new(), Cursor::default());
        let mut visit = |key: &[u8], value: &[u8]| {
            rows.push((text(map.key_fields(), key), text(map.value_fields(), value)));
        };
        let mut left = most as u32 / BATCH + 1;
        while left > 0 && self.kernel.scan(map, &mut cursor, BATCH, &mut visit)? != Scan::Done {
            left -= 1;
        }
        Ok(Some(rows))
    }
}

fn text(fields: &[Field], record: &[u8]) -> String {
    let words = fields.iter().map(|field| {
        let bytes = record.get(field.offset..field.offset + field.size);
        let value = bytes.map_or_else(String::new, |bytes| value(field.name, bytes));
        match field.name {
            "" => value,
            name => format!("{name}={value}"),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn value(name: &str, bytes: &[u8]) -> String {
    let is_port = name == "port" || name.ends_with("_port");
    match *bytes {
        [number] => number.to_string(),
        // As in packets.
        [high, low] if is_port => u16::from_be_bytes([high, low]).to_string(),
        [a, b] => u16::from_ne_bytes([a, b]).to_string(),
        // Part of a prefix, which begins with its highest bit.
        [a, b, c, d] if name == "row" => u32::from_be_bytes([a, b, c, d]).to_string(),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).to_string(),
        _ => match Addr::read_from_bytes(bytes) {
            Ok(addr) if ADDRESSES.contains(&name) => {
                ip_addr(&addr).map_or_else(|| "none".to_owned(), |ip| ip.to_string())
            }
            _ => hex(bytes),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_by_their_kind() {
        let addr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 5, 1, 2];
        let six = [0xfd, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(value("", &addr), "10.5.1.2");
        assert_eq!(value("remote", &six), "fd00:5::9");
        assert_eq!(value("node", &[0; 16]), "none");
        assert_eq!(value("slot", &[0; 16]), hex(&[0; 16]));
        assert_eq!(value("local_port", &[0x1f, 0x90]), "8080");
        assert_eq!(value("flags", &7u16.to_ne_bytes()), "7");
        assert_eq!(value("identity", &327_681u32.to_ne_bytes()), "327681");
        assert_eq!(value("row", &[0, 0, 1, 2]), "258");
        let record = [&addr[..], &[0, 80, 6, 0]].concat();
        let shown = text(Map::Services.key_fields(), &record);
        assert_eq!(shown, "addr=10.5.1.2 port=80 proto=6");
        assert_eq!(text(Map::Services.key_fields(), &[]), "addr= port= proto=");
    }
}
