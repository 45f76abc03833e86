// SPDX-License-Identifier: Apache-2.0
//! Services as the datapath needs them: where they are asked for, and who may answer.

use std::fmt;
use std::net::IpAddr;

use crate::Protocol;

/// Where a service is reached: one of its ClusterIPs and one of its ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Frontend {
    /// The ClusterIP.
    pub addr: IpAddr,
    /// Port, 1..65535.
    pub port: u16,
    /// TCP or UDP; others are not translated.
    pub proto: Protocol,
}

impl fmt::Display for Frontend {
    /// `10.96.0.10:53/UDP`, `[fd00::a]:53/UDP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = std::net::SocketAddr::new(self.addr, self.port);
        write!(f, "{socket}/{}", self.proto.as_str())
    }
}

/// One that answers for a service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Backend {
    /// Its address, of the frontend's family.
    pub addr: IpAddr,
    /// Port, 1..65535.
    pub port: u16,
    /// Whether new flows may go there. Flows that it has stay for as long as it is in the list at all.
    pub selectable: bool,
}

/// Who answers at a [`Frontend`], and how one is chosen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Backends {
    /// Seconds for which a client keeps its backend after its last new flow; 0: every flow chooses anew.
    pub affinity: u32,
    /// Sorted, every address and port once.
    pub list: Vec<Backend>,
}
