// SPDX-License-Identifier: Apache-2.0
//! What the programs need around them: the VXLAN device, routes, kernel switches, source translation.
//!
//! Every `ensure_…` may be called again and changes only what differs; what is not ours is never touched. Plans
//! are pure ([`routes`], [`masquerade_table`], switches), execution goes by netlink.

mod masquerade;
mod overlay;
mod pod;
mod route;
mod switches;

pub use crate::linux::missing_filters;
pub use masquerade::{
    MasqueradeSpec, NFT_TABLE, NFT_TUNNEL, ensure_masquerade, ensure_tunnel_rules, has_masquerade,
    has_tunnel_rules, masquerade_table, remove_masquerade,
};
pub use overlay::{Overlay, OverlaySpec, ensure_overlay, remove_overlay};
pub use pod::{PodDevice, defects, ensure_pod_device, remove_pod_routes, unfit};
pub use route::{ROUTE_PROTOCOL, RoutePlan, ensure_routes, remove_routes, routes};
pub use switches::{
    Families, ensure_device_switches, ensure_node_switches, remember_node_switches,
    restore_node_switches,
};

/// Name of the VXLAN device.
pub const OVERLAY_DEVICE: &str = "cilium_vxlan";
/// How the names of pods' devices begin.
pub const POD_DEVICE_PREFIX: &str = "lxc";
