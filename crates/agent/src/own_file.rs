// SPDX-License-Identifier: Apache-2.0
//! The last good rows of this cluster on disk, so that an agent that starts while its etcd is away knows the
//! labels behind the numbers in the kernel's maps. Keys and values as in etcd; checksummed, bounded, replaced
//! atomically. A damaged file is named and ignored.

use std::io::{self, Write};
use std::path::Path;

use kvstore::schema::{self, keys};
use model::{IpEntry, Labels, Node, NumericIdentity};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 16] = b"isthmus-own-v001";
const MAX_FILE: u64 = 512 << 20;

/// Rows of this cluster.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) nodes: Vec<Node>,
    pub(crate) ips: Vec<IpEntry>,
    pub(crate) identities: Vec<(NumericIdentity, Labels)>,
}

/// Writes the file.
pub(crate) fn save(path: &Path, rows: &Rows) -> io::Result<()> {
    let mut body = Vec::new();
    let mut record = |key: &str, value: &[u8]| {
        body.extend_from_slice(&(key.len() as u32).to_le_bytes());
        body.extend_from_slice(&(value.len() as u32).to_le_bytes());
        body.extend_from_slice(key.as_bytes());
        body.extend_from_slice(value);
    };
    for (id, labels) in &rows.identities {
        record(&keys::identity(*id), &schema::encode_identity(labels));
    }
    for node in &rows.nodes {
        record(
            &keys::node(node.name.cluster.as_str(), &node.name.name),
            &schema::encode_node(node),
        );
    }
    for entry in &rows.ips {
        record(&schema::ip_key(&entry.prefix), &schema::encode_ip(entry));
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    for part in [MAGIC.as_slice(), &Sha256::digest(&body), &body] {
        file.write_all(part)?;
    }
    drop(file);
    std::fs::rename(new, path)
}

/// Reads the file; an absent one is empty.
pub(crate) fn load(path: &Path) -> Result<Rows, String> {
    let damaged = |what: &str| format!("{}: {what}; it is ignored", path.display());
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Rows::default()),
        Err(error) => return Err(damaged(&error.to_string())),
    };
    if size > MAX_FILE {
        return Err(damaged("larger than this version reads"));
    }
    let bytes = std::fs::read(path).map_err(|error| damaged(&error.to_string()))?;
    let body = bytes
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_at_checked(32));
    let Some((digest, body)) = body else {
        return Err(damaged("not a file of this version"));
    };
    if digest != Sha256::digest(body).as_slice() {
        return Err(damaged("its checksum is wrong"));
    }
    parse(body).ok_or_else(|| damaged("a record is cut off"))
}

/// Reads the records; `None` if one is cut off.
pub(crate) fn parse(mut body: &[u8]) -> Option<Rows> {
    let mut rows = Rows::default();
    while !body.is_empty() {
        let (head, rest) = body.split_at_checked(8)?;
        let length = |bytes: &[u8]| {
            bytes
                .try_into()
                .map(u32::from_le_bytes)
                .ok()
                .map(|n| n as usize)
        };
        let (key, rest) = rest.split_at_checked(length(&head[..4])?)?;
        let (value, rest) = rest.split_at_checked(length(&head[4..])?)?;
        body = rest;
        let key = std::str::from_utf8(key).ok()?;
        // A row that no longer decodes is left to the live list.
        if let Some(id) = keys::identity_of(key) {
            rows.identities.extend(
                schema::decode_identity(key, value)
                    .ok()
                    .map(|labels| (id, labels)),
            );
        } else if key.starts_with(keys::NODES) {
            rows.nodes.extend(schema::decode_node(key, value).ok());
        } else {
            rows.ips.extend(schema::decode_ip(key, value).ok());
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_damage_is_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("own.rows");
        assert!(load(&path).expect("absent is empty").ips.is_empty());
        let labels = Labels::parse(b"k8s:app=web;").expect("labels");
        let entry = IpEntry::new(
            "10.0.0.1/32".parse().expect("net"),
            NumericIdentity(70000),
            Some("172.30.0.1".parse().expect("ip")),
        );
        let rows = Rows {
            identities: vec![(NumericIdentity(70000), labels.clone())],
            ips: vec![entry.clone()],
            nodes: vec![],
        };
        save(&path, &rows).expect("saved");
        let back = load(&path).expect("read");
        assert_eq!(
            (back.identities, back.ips),
            (vec![(NumericIdentity(70000), labels)], vec![entry])
        );
        let mut bytes = std::fs::read(&path).expect("read");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&path, bytes).expect("write");
        assert!(load(&path).expect_err("damaged").contains("checksum"));
    }
}
