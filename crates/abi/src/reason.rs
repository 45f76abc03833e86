// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Why a packet was dropped. Numbers and texts are an API that existing tools read
//! (Cilium's `bpf/lib/drop_reasons.h` and `pkg/monitor/api/drop.go`); what is finer travels in [`ExtError`].

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// A drop reason.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $name = $number,)* }

        impl DropReason {
            /// All reasons that our programs use.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)*];

            /// The reason with this number.
            pub const fn from_number(number: u8) -> Option<DropReason> {
                match number { $($number => Some(DropReason::$name),)* _ => None }
            }

            /// The text that tools print and metrics carry.
            pub const fn text(self) -> &'static str {
                match self { $(DropReason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Source address is not the endpoint's, or cannot come this way.
    InvalidSourceIp = 132, "Invalid source ip";
    /// Default deny.
    PolicyDenied = 133, "Policy denied";
    /// Too short or malformed.
    InvalidPacket = 134, "Invalid packet";
    /// Transport header missing or truncated.
    TruncatedHeader = 135, "CT: Truncated or invalid header";
    /// Larger than the tunnel takes and must not be fragmented.
    FragmentationNeeded = 136, "Fragmentation needed";
    /// Transport protocol that conntrack does not know.
    UnknownL4 = 137, "CT: Unknown L4 protocol";
    /// Neither IPv4, IPv6 nor ARP.
    UnsupportedL3 = 139, "Unsupported L3 protocol";
    /// A tail call did not happen.
    MissedTailCall = 140, "Missed tail call";
    /// The packet could not be rewritten.
    WriteFailed = 141, "Error writing to packet";
    /// Tunnel metadata is missing.
    NoTunnelKey = 147, "Error retrieving tunnel key";
    /// Neighbour solicitation for an address that nobody has.
    UnknownL3Target = 150, "Unknown L3 target address";
    /// Address that belongs to the mesh but to nobody in it now.
    StaleIp = 151, "Stale or unroutable IP";
    /// Conntrack is full, or the endpoint used up its share.
    FlowTableFull = 155, "CT: Map insertion failed";
    /// More extension headers than are allowed, or an invalid one.
    InvalidExtensionHeader = 156, "Invalid IPv6 extension header";
    /// The service has no backend that takes new flows; the sender is told so.
    NoBackend = 158, "Service backend not found";
    /// Frame without a usable ethertype.
    UnsupportedL2 = 166, "Unsupported L2 protocol";
    /// A pod sends to the tunnel's port. The node's address before it would make it a packet of the tunnel.
    Encapsulation = 170, "Encapsulation traffic is prohibited";
    /// VNI says an identity that may not travel.
    InvalidIdentity = 171, "Invalid identity";
    /// Outer source is not a node of the cluster that the VNI claims.
    UnknownSender = 172, "Unknown sender";
    /// First fragment was not seen.
    FirstFragmentNotFound = 175, "First logical datagram fragment not found";
    /// A deny rule matches.
    PolicyDeniedByDenyList = 181, "Policy denied by denylist";
    /// Frame with a VLAN tag.
    VlanFiltered = 182, "VLAN traffic disallowed by VLAN filter";
    /// TTL or hop limit ran out.
    TtlExceeded = 196, "TTL exceeded";
    /// The endpoint has no policy yet.
    EndpointNotReady = 203, "Endpoint policy program not available";
}

/// Finer cause inside a reason; 0 none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i8)]
pub enum ExtError {
    /// Nothing to add.
    None = 0,
    /// The peer's identity has no labels here yet: only a rule on labels could have allowed it.
    IdentityNotYetKnown = 1,
    /// The endpoint's share of conntrack is used up.
    ShareExceeded = 2,
    /// A pod's address came in by the stack from outside the mesh.
    PodAddressOutsideTunnel = 3,
    /// Reserved identity from an address that is no known node's.
    ReservedFromUnknownNode = 4,
    /// The pod's port has flows with the backends of the service already.
    PortInUse = 5,
}

impl ExtError {
    /// The cause with this number.
    pub const fn from_number(number: i8) -> Option<ExtError> {
        Some(match number {
            0 => ExtError::None,
            1 => ExtError::IdentityNotYetKnown,
            2 => ExtError::ShareExceeded,
            3 => ExtError::PodAddressOutsideTunnel,
            4 => ExtError::ReservedFromUnknownNode,
            5 => ExtError::PortInUse,
            _ => return None,
        })
    }

    /// The text appended to the reason's, empty for [`ExtError::None`].
    pub const fn text(self) -> &'static str {
        match self {
            ExtError::None => "",
            ExtError::IdentityNotYetKnown => "identity not yet known",
            ExtError::ShareExceeded => "endpoint used up its share",
            ExtError::PodAddressOutsideTunnel => "pod address from outside the tunnel",
            ExtError::ReservedFromUnknownNode => "reserved identity from an unknown node",
            ExtError::PortInUse => "port in use with every backend tried",
        }
    }
}

/// Direction as seen by the endpoint that is judged. Numbers as in Cilium's metrics map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Direction {
    /// To the endpoint.
    Ingress = 1,
    /// From the endpoint.
    Egress = 2,
}
