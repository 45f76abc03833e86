// SPDX-License-Identifier: Apache-2.0
//! What the maps look like, as text that outlives the agent that wrote it, and what an agent of another layout makes of their
//! entries.
//!
//! ```text
//! ist_policies policy:0:4,class:4:4 :0:4        map, fields of its key, of its value: name, offset, bytes
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use abi::Field;

use crate::{Map, Shape};

/// Longest entry of a map.
const MAX_SIZE: usize = 1 << 16;

/// The maps of this layout.
pub fn describe() -> String {
    let mut text = String::new();
    for map in carried() {
        let _ = write!(text, "{} ", map.name());
        fields(&mut text, map.key_fields());
        text.push(' ');
        fields(&mut text, map.value_fields());
        text.push('\n');
    }
    text
}

fn fields(text: &mut String, fields: &[Field]) {
    for (index, field) in fields.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(
            text,
            "{comma}{}:{}:{}",
            field.name, field.offset, field.size
        );
    }
}

/// Maps whose entries are taken over. Counters begin anew, and events are read once.
pub(crate) fn carried() -> impl Iterator<Item = Map> {
    let maps = Map::ALL.iter().copied();
    maps.filter(|map| !matches!(map.shape(), Shape::PerCpuArray | Shape::Ring))
}

/// How entries of a map of another layout become entries of this one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conversion {
    key: Copies,
    value: Copies,
}

impl Conversion {
    /// An entry of this layout; `None` if a slice has not the size that the other layout says. Fields that the other layout
    /// lacks, or has in another size, are zero; but of an address, which it has in 16 bytes, the IPv4 part fills 4.
    pub fn entry(&self, key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        Some((self.key.apply(key)?, self.value.apply(value)?))
    }
}

/// What is copied, from where, to where, how many bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Copies {
    copies: Vec<(usize, usize, usize)>,
    /// Bytes that the source must have at least.
    needs: usize,
    size: usize,
}

impl Copies {
    fn new(from: &[(&str, usize, usize)], to: &[Field], size: usize) -> Self {
        let mut copies = Vec::new();
        for field in to {
            let same = from.iter().find(|(name, ..)| *name == field.name);
            match same {
                Some((_, offset, size)) if *size == field.size => {
                    copies.push((*offset, field.offset, field.size));
                }
                // An IPv4 address that the other layout has as an IPv6 one.
                Some((_, offset, 16)) if field.size == 4 => {
                    copies.push((offset + 12, field.offset, 4));
                }
                _ => {}
            }
        }
        let ends = copies.iter().map(|(from, _, len)| from + len);
        Self {
            needs: ends.max().unwrap_or(0),
            copies,
            size,
        }
    }

    fn apply(&self, from: &[u8]) -> Option<Vec<u8>> {
        if from.len() < self.needs {
            return None;
        }
        let mut to = vec![0; self.size];
        for (source, target, len) in &self.copies {
            to[*target..target + len].copy_from_slice(&from[*source..source + len]);
        }
        Some(to)
    }
}

/// What the maps of the layout that `text` describes become here. A map whose key has other fields is not among them.
pub fn conversions(text: &str) -> BTreeMap<Map, Conversion> {
    let mut conversions = BTreeMap::new();
    for line in text.lines() {
        let mut parts = line.split(' ');
        let name = parts.next();
        let Some(map) = carried().find(|map| Some(map.name()) == name) else {
            continue;
        };
        let (Some(key), Some(value)) = (parts.next().and_then(parse), parts.next().and_then(parse))
        else {
            continue;
        };
        let whole = Copies::new(&key, map.key_fields(), map.key_size());
        let is_same =
            whole.copies.len() == map.key_fields().len() && key.len() == whole.copies.len();
        if is_same {
            let conversion = Conversion {
                key: whole,
                value: Copies::new(&value, map.value_fields(), map.value_size()),
            };
            conversions.insert(map, conversion);
        }
    }
    conversions
}

fn parse(text: &str) -> Option<Vec<(&str, usize, usize)>> {
    let fields = text.split(',').filter(|field| !field.is_empty());
    fields
        .map(|field| {
            let mut parts = field.split(':');
            let name = parts.next()?;
            let offset: usize = parts.next()?.parse().ok()?;
            let size: usize = parts.next()?.parse().ok()?;
            let fits = offset <= MAX_SIZE && size <= MAX_SIZE && parts.next().is_none();
            fits.then_some((name, offset, size))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_layout_converts_to_itself() {
        let text = describe();
        let all = conversions(&text);
        assert_eq!(all.len(), carried().count());
        for (map, conversion) in &all {
            let key: Vec<u8> = (0..map.key_size()).map(|byte| byte as u8 | 1).collect();
            let value = vec![7; map.value_size()];
            let (new_key, new_value) = conversion.entry(&key, &value).expect("right sizes");
            for field in map.key_fields() {
                let range = field.offset..field.offset + field.size;
                assert_eq!(new_key[range.clone()], key[range], "{map} {}", field.name);
            }
            for field in map.value_fields() {
                let range = field.offset..field.offset + field.size;
                assert_eq!(
                    new_value[range.clone()],
                    value[range],
                    "{map} {}",
                    field.name
                );
            }
        }
    }

    #[test]
    fn fields_are_known_by_their_names() {
        let text = "ist_policies class:8:4,policy:0:4 :4:4\nist_services gone:0:4\nist_nothing a:0:4 b:0:4\n";
        let all = conversions(text);
        assert_eq!(all.keys().collect::<Vec<_>>(), [&Map::Policies]);
        let key = [1_u8, 0, 0, 0, 9, 9, 9, 9, 2, 0, 0, 0];
        let value = [0_u8, 0, 0, 0, 3, 0, 0, 0];
        let (new_key, new_value) = all[&Map::Policies].entry(&key, &value).expect("it fits");
        let of = |map: Map, name: &str| {
            let field = map.key_fields().iter().find(|field| field.name == name);
            field.expect("a field").offset
        };
        assert_eq!(new_key[of(Map::Policies, "policy")], 1);
        assert_eq!(new_key[of(Map::Policies, "class")], 2);
        assert_eq!(new_value, [3, 0, 0, 0]);
        assert_eq!(all[&Map::Policies].entry(&key[..8], &value), None);
    }

    #[test]
    fn a_key_with_other_fields_is_no_key_of_ours() {
        let more = "ist_policies policy:0:4,class:4:4,zone:8:4 :0:4";
        let less = "ist_policies policy:0:4 :0:4";
        let wider = "ist_policies policy:0:8,class:8:4 :0:4";
        for text in [
            more,
            less,
            wider,
            "ist_policies policy:x:4,class:4:4 :0:4",
            "ist_policies",
        ] {
            assert!(conversions(text).is_empty(), "{text}");
        }
        let value = conversions(
            "ist_rows prefixlen:0:4,row:4:4,direction:8:1,proto:9:1,port:10:2 rule:0:4",
        );
        let flows = conversions(
            "ist_flows local:0:16,remote:16:16,local_port:32:2,remote_port:34:2,proto:36:1 node:4:16,rule:0:2",
        );
        let mut mapped = [0_u8; 20];
        mapped[14..].copy_from_slice(&[0xff, 0xff, 172, 16, 7, 1]);
        let (_, flow) = flows[&Map::Flows]
            .entry(&[0; 40], &mapped)
            .expect("it fits");
        let node = core::mem::offset_of!(abi::Flow, node);
        assert_eq!(flow[node..node + 4], [172, 16, 7, 1]);
        let rest: u32 = flow.iter().map(|byte| u32::from(*byte)).sum();
        assert_eq!(rest, 172 + 16 + 7 + 1, "the rest is zero");
        let (_, value) = value[&Map::Rows]
            .entry(&[0; 12], &[5, 0, 0, 0])
            .expect("it fits");
        assert_eq!(
            value.iter().map(|byte| u32::from(*byte)).sum::<u32>(),
            5,
            "the rest is zero"
        );
    }
}
