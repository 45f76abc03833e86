// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between the agent and the kernel.

use std::io;
use std::path::PathBuf;

use crate::{Map, Program};

/// An error of the datapath, by the phase that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory for pins could not be made or read.
    #[error(
        "{path:?}: {error}: a BPF filesystem must be mounted there (mount -t bpf bpf DIR) and be writable"
    )]
    PinDirectory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// A map could not be created.
    #[error("map {map} with {max} entries could not be created: {error}")]
    CreateMap {
        /// The map.
        map: Map,
        /// Its limit.
        max: u32,
        /// What the kernel said.
        error: io::Error,
    },
    /// A map could not be pinned, or its pin not opened.
    #[error("pin {path:?} of map {map}: {error}")]
    PinMap {
        /// The map.
        map: Map,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// A pinned map has another layout than this program expects.
    #[error(
        "pin {path:?} holds a map with {what} {found}, map {map} has {expected}: it was not made by this version; remove the pin, running flows of it are then judged again"
    )]
    PinnedMapDiffers {
        /// The map.
        map: Map,
        /// Where.
        path: PathBuf,
        /// Which property differs.
        what: &'static str,
        /// What the pinned one has.
        found: u32,
        /// What is needed.
        expected: u32,
    },
    /// A map could not be mapped into memory.
    #[error("map {map} could not be mapped into memory: {error}")]
    MapMemory {
        /// The map.
        map: Map,
        /// What the kernel said.
        error: io::Error,
    },
    /// The object was refused.
    #[error("the BPF object could not be loaded: {0}")]
    LoadObject(#[source] Box<aya::EbpfError>),
    /// The object has no such program.
    #[error("the BPF object has no program {0}")]
    NoProgram(&'static str),
    /// The verifier refused a program.
    #[error("the kernel refused program {program}: {error}")]
    LoadProgram {
        /// The program.
        program: &'static str,
        /// What the kernel said, with the end of the verifier's log.
        error: Box<aya::programs::ProgramError>,
    },
    /// A program could not be attached.
    #[error("program {program} could not be attached to device {device}: {reason}")]
    Attach {
        /// The program.
        program: Program,
        /// The device.
        device: String,
        /// What the kernel said.
        reason: String,
    },
    /// A link's pin could not be read, made or removed.
    #[error("link pin {path:?}: {error}")]
    PinLink {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// What the node's kernel switches were before could not be read or kept.
    #[error("{path:?}, which says what the node's kernel switches were before: {error}")]
    Before {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// An entry could not be read.
    #[error("map {map}: reading key {key} failed: {error}")]
    Read {
        /// The map.
        map: Map,
        /// The key, in hexadecimal.
        key: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// An entry could not be written.
    #[error("map {map}: writing key {key} failed: {error}")]
    Write {
        /// The map.
        map: Map,
        /// The key, in hexadecimal.
        key: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// An entry could not be removed.
    #[error("map {map}: removing key {key} failed: {error}")]
    Delete {
        /// The map.
        map: Map,
        /// The key, in hexadecimal.
        key: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// A map has no room. What it held stays in force.
    #[error(
        "map {map} is full: it holds its limit of {max} entries; raise the limit and restart the agent"
    )]
    MapFull {
        /// The map.
        map: Map,
        /// Its limit.
        max: u32,
    },
    /// A key or value of the wrong size, or an index beyond the array: a bug in the caller.
    #[error("map {map}: {what}")]
    Invalid {
        /// The map.
        map: Map,
        /// What is wrong.
        what: String,
    },
    /// Endpoint id 0 or beyond the array.
    #[error(
        "endpoint id {id} is outside 1..{}: the node has no room for more endpoints",
        abi::MAX_ENDPOINTS
    )]
    EndpointId {
        /// The id.
        id: u16,
    },
    /// The event ring could not be opened.
    #[error("the event ring could not be opened: {0}")]
    Events(#[source] Box<aya::maps::MapError>),
    /// A device, address, route, kernel switch or nftables request failed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// A device of ours exists as something else.
    #[error(
        "device {device} exists and is {found}, {expected} is needed: remove it or give the device another name"
    )]
    ForeignDevice {
        /// The device.
        device: String,
        /// What it is.
        found: String,
        /// What it must be.
        expected: String,
    },
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
