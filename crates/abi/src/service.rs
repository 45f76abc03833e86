// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Services: names, keys and values of their maps.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Addr;

/// Hash: [`ServiceKey`] → [`Service`]: what this node translates.
pub const MAP_SERVICES: &str = "ist_services";
/// Hash: [`BackendKey`] → [`Backend`]: backends that new flows may choose.
pub const MAP_BACKENDS: &str = "ist_backends";
/// Hash: [`MemberKey`] → u32, bits of [`member_flags`]: all backends, also those that keep what they have.
pub const MAP_MEMBERS: &str = "ist_members";
/// LRU hash: [`AffinityKey`] → [`Affinity`]: the backends that clients chose. Written by the programs.
pub const MAP_AFFINITY: &str = "ist_affinity";

/// Key of [`MAP_SERVICES`]. 20 bytes.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct ServiceKey {
    /// The service's address.
    pub addr: Addr,
    /// Its port, big endian.
    pub port: [u8; 2],
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: u8,
}

/// Value of [`MAP_SERVICES`].
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Service {
    /// Names the service in the other maps; never 0.
    pub id: u32,
    /// Backends `0..count` of [`MAP_BACKENDS`] may be chosen. A reader that misses one reads the service again.
    pub count: u32,
    /// How long a client keeps its backend, in the unit of [`crate::Flow::expires`], see [`Affinity::seen`]; 0: every flow
    /// chooses anew.
    pub affinity: u32,
    /// The first of [`MAP_BACKENDS`] once more, so that flows to most services find theirs here; port 0: look there.
    pub few: Few,
}

/// Backends that [`Service`] itself has.
pub const FEW: usize = 4;
/// See [`Service::few`].
pub type Few = [Backend; FEW];

/// Key of [`MAP_BACKENDS`].
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BackendKey {
    /// [`Service::id`].
    pub service: u32,
    /// Below [`Service::count`].
    pub index: u32,
}

/// Value of [`MAP_BACKENDS`]. 20 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Backend {
    /// Its address.
    pub addr: Addr,
    /// Its port, big endian.
    pub port: [u8; 2],
    /// Zero.
    pub pad: [u8; 2],
}

/// Key of [`MAP_MEMBERS`]. 24 bytes.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct MemberKey {
    /// The backend's address.
    pub addr: Addr,
    /// [`Service::id`].
    pub service: u32,
    /// The backend's port, big endian.
    pub port: [u8; 2],
    /// Zero.
    pub pad: [u8; 2],
}

/// Bits of values of [`MAP_MEMBERS`].
pub mod member_flags {
    /// It is a backend: flows that it has go on.
    pub const MEMBER: u32 = 1;
    /// New flows may choose it.
    pub const SELECTABLE: u32 = 1 << 1;
}

/// Key of [`MAP_AFFINITY`]. 20 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AffinityKey {
    /// The client's address.
    pub client: Addr,
    /// [`Service::id`].
    pub service: u32,
}

/// Value of [`MAP_AFFINITY`]. 24 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Affinity {
    /// The backend's address.
    pub addr: Addr,
    /// The backend's port, big endian.
    pub port: [u8; 2],
    /// Zero.
    pub pad: [u8; 2],
    /// When the client last opened a flow, in the unit of [`crate::Flow::expires`].
    pub seen: u32,
}

const _: () = assert!(size_of::<ServiceKey>() == 20);
const _: () = assert!(size_of::<MemberKey>() == 24);
const _: () = assert!(size_of::<Affinity>() == 24);
