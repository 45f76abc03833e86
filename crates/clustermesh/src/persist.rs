// SPDX-License-Identifier: Apache-2.0
//! The last good rows of a cluster in a file: bounded, checksummed, versioned, replaced atomically.
//!
//! Layout, little endian: [`MAGIC`], version u32, length of the body u64, CRC-32 of the body u32, body. The body is
//! records: kind u8 (0 cluster configuration, 1 node, 2 identity, 3 address), lease u64 (0: none), length of the key u16, key,
//! length of the value u32, value. Values are as in the kvstore, so reading them validates them like rows from there.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvstore::LeaseId;
use kvstore::schema::{
    decode_cluster_config, encode_cluster_config, encode_identity, encode_ip, encode_node, ip_key,
    keys,
};
use model::{ClusterConfig, ClusterName, Labels, Node, NumericIdentity};

use crate::link::row_prefix;
use crate::table::Table;
use crate::validate::decode;
use crate::{Error, Kind, Refusal, Value};

/// First bytes of a file.
const MAGIC: &[u8; 16] = b"isthmus-mesh-row";
const VERSION: u32 = 2;
const HEADER: usize = 16 + 4 + 8 + 4;
/// Largest file that is read.
const LARGEST: u64 = 1 << 30;

/// Rows of a cluster at one moment.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) name: ClusterName,
    pub(crate) config: ClusterConfig,
    pub(crate) nodes: Vec<(Arc<Node>, Option<LeaseId>)>,
    pub(crate) identities: Vec<(NumericIdentity, Labels)>,
    pub(crate) ips: Table,
}

/// Rows read from a file.
#[derive(Debug)]
pub struct Restored {
    /// What the cluster said about itself.
    pub config: ClusterConfig,
    /// Kind, key without prefix, value, and the lease of the key.
    pub rows: Vec<SavedRow>,
}

/// A row of a file.
pub type SavedRow = (Kind, String, Result<Value, Refusal>, Option<LeaseId>);

/// The directory of the files.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("mesh")
}

/// The file of a cluster.
pub fn path(state_dir: &Path, name: &str) -> PathBuf {
    directory(state_dir).join(format!("{name}.rows"))
}

fn record(body: &mut Vec<u8>, kind: u8, lease: Option<LeaseId>, key: &str, value: &[u8]) {
    let (Ok(key_length), Ok(length)) = (u16::try_from(key.len()), u32::try_from(value.len()))
    else {
        return; // Nothing that was accepted is that large.
    };
    body.push(kind);
    body.extend_from_slice(&lease.map_or(0, |lease| lease.0).to_le_bytes());
    body.extend_from_slice(&key_length.to_le_bytes());
    body.extend_from_slice(key.as_bytes());
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(value);
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let mut body = Vec::with_capacity(256 * (snapshot.ips.len() + 16));
    record(
        &mut body,
        0,
        None,
        snapshot.name.as_str(),
        &encode_cluster_config(&snapshot.config),
    );
    for (node, lease) in &snapshot.nodes {
        record(&mut body, 1, *lease, &node.name.name, &encode_node(node));
    }
    for (identity, labels) in &snapshot.identities {
        record(
            &mut body,
            2,
            None,
            &identity.to_string(),
            &encode_identity(labels),
        );
    }
    for entry in snapshot.ips.entries() {
        let key = ip_key(&entry.prefix);
        let suffix = &key[keys::IPS.len() + 1..];
        let lease = snapshot.ips.lease(&entry.prefix);
        record(&mut body, 3, lease, suffix, &encode_ip(&entry));
    }
    body
}

/// Writes the rows in place of those before.
pub fn save(state_dir: &Path, snapshot: &Snapshot) -> Result<(), Error> {
    let path = path(state_dir, snapshot.name.as_str());
    let body = encode(snapshot);
    write(state_dir, &path, &body).map_err(|error| Error::Save {
        path,
        reason: error.to_string(),
    })
}

fn write(state_dir: &Path, path: &Path, body: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(directory(state_dir))?;
    let new = unfinished(path);
    let written = write_whole(&new, body).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // What is left of it may be all that fits the disk.
        let _gone = std::fs::remove_file(&new);
    }
    written
}

/// Where rows are written before they take the place of those before.
fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

fn write_whole(new: &Path, body: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(new)?;
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(body.len() as u64).to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    file.write_all(&header)?;
    file.write_all(body)?;
    file.sync_data()
}

/// Reads the rows of `name`; `None` if there is no file.
pub fn load(state_dir: &Path, name: &ClusterName) -> Result<Option<Restored>, Error> {
    let path = path(state_dir, name.as_str());
    let refuse = |reason: String| Error::Restore {
        path: path.clone(),
        reason,
    };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(error.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(refuse(format!("more than {LARGEST} bytes")));
    }
    parse(name, &bytes).map(Some).map_err(refuse)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
    let (head, rest) = bytes.split_at_checked(count).ok_or("it is cut short")?;
    *bytes = rest;
    Ok(head)
}

fn number<const N: usize>(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut number = [0; 8];
    number[..N].copy_from_slice(take(bytes, N)?);
    Ok(u64::from_le_bytes(number))
}

/// Reads a file's bytes. Damage of any kind is an error; a row that is not acceptable is a refused row.
pub fn parse(name: &ClusterName, mut bytes: &[u8]) -> Result<Restored, String> {
    if take(&mut bytes, MAGIC.len())? != MAGIC {
        return Err("it is not a file of rows".into());
    }
    let version = number::<4>(&mut bytes)?;
    if version != u64::from(VERSION) {
        return Err(format!(
            "it has version {version}, this agent reads {VERSION}"
        ));
    }
    let (length, sum) = (number::<8>(&mut bytes)?, number::<4>(&mut bytes)?);
    if length != bytes.len() as u64 {
        return Err(format!(
            "it should hold {length} bytes and holds {}",
            bytes.len()
        ));
    }
    if sum != u64::from(crc32fast::hash(bytes)) {
        return Err("its checksum is wrong: it is damaged".into());
    }
    let (kind, _, key, value) = next_record(&mut bytes)?;
    if kind != 0 || key != name.as_str() {
        return Err(format!("it is about {key:?}"));
    }
    let config = decode_cluster_config(key, value).map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let (kind, lease, key, value) = next_record(&mut bytes)?;
        let index = usize::from(kind).checked_sub(1).filter(|index| *index < 3);
        let kind = Kind::ALL[index.ok_or("it holds an unknown kind of row")?];
        let value = decode(kind, &row_prefix(name, kind, false), key, value);
        rows.push((kind, key.to_owned(), value, lease));
    }
    Ok(Restored { config, rows })
}

/// Kind, lease, key and value.
type Record<'a> = (u8, Option<LeaseId>, &'a str, &'a [u8]);

fn next_record<'a>(bytes: &mut &'a [u8]) -> Result<Record<'a>, String> {
    let kind = take(bytes, 1)?[0];
    let lease = number::<8>(bytes)?.cast_signed();
    let lease = (lease != 0).then_some(LeaseId(lease));
    let length = number::<2>(bytes)? as usize;
    let key =
        std::str::from_utf8(take(bytes, length)?).map_err(|_| "it holds a key that is no text")?;
    let length = number::<4>(bytes)? as usize;
    Ok((kind, lease, key, take(bytes, length)?))
}

/// Deletes the rows of a cluster.
pub fn forget(state_dir: &Path, name: &str) -> Result<(), Error> {
    let path = path(state_dir, name);
    for path in [unfinished(&path), path] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let reason = error.to_string();
                return Err(Error::Save { path, reason });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Deletes the rows of clusters that `keep` does not want.
pub fn forget_others(state_dir: &Path, keep: impl Fn(&str) -> bool) {
    let mut names = files(state_dir, ".rows");
    names.extend(files(state_dir, ".rows.new"));
    for name in names.iter().filter(|name| !keep(name)) {
        if let Err(error) = forget(state_dir, name) {
            tracing::warn!(%error, "stale rows stay on the disk");
        }
    }
}

/// Clusters whose rows are on the disk.
pub fn names(state_dir: &Path) -> Vec<String> {
    files(state_dir, ".rows")
}

/// What files of this ending are called without it.
fn files(state_dir: &Path, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory(state_dir)).into_iter();
    let files = entries.flatten().flatten().map(|entry| entry.file_name());
    files
        .filter_map(|file| Some(file.to_str()?.strip_suffix(ending)?.to_owned()))
        .collect()
}
