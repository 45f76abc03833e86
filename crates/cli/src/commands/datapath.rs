// SPDX-License-Identifier: Apache-2.0
//! The lines of `status` about the packet path.

use api::models::*;

use crate::text::{clean, clean_all, enabled};

/// From `IPv4 BIG TCP:` to `Clock Source for BPF:`.
pub(super) fn lines(status: &StatusResponse, verbose: bool) -> String {
    let mut text = String::new();
    for (family, big) in [
        ("IPv4", &status.ipv4_big_tcp),
        ("IPv6", &status.ipv6_big_tcp),
    ] {
        if let Some(big) = big {
            text += &format!("{family} BIG TCP:\t{}\n", enabled(big.enabled));
        }
    }
    if let Some(manager) = &status.bandwidth_manager {
        text += &format!("BandwidthManager:\t{}\n", bandwidth(manager));
    }
    if let Some(routing) = &status.routing {
        let mut network = clean(&routing.inter_host_routing_mode);
        if network == "Tunnel" {
            network += &format!(" [{}]", clean(&routing.tunnel_protocol));
        }
        let host = clean(&routing.intra_host_routing_mode);
        text += &format!("Routing:\tNetwork: {network}\tHost: {host}\n");
    }
    match status.attach_mode.as_str() {
        "" => {}
        "tcx" => text += "Attach Mode:\tTCX\n",
        _ => text += "Attach Mode:\tLegacy TC\n",
    }
    if !status.datapath_mode.is_empty() {
        text += &format!("Device Mode:\t{}", clean(&status.datapath_mode));
        let configured = &status.configured_datapath_mode;
        if !configured.is_empty() && *configured != status.datapath_mode {
            text += &format!(" [Configured: {}]", clean(configured));
        }
        text.push('\n');
    }
    if let Some(masquerading) = &status.masquerading {
        text += &format!("Masquerading:\t{}\n", masquerade(masquerading, status));
    }
    if let (Some(clock), true) = (&status.clock_source, verbose) {
        text += &format!("Clock Source for BPF:\t{}", clean(&clock.mode));
        if clock.mode == "jiffies" {
            text += &format!("\t[{} Hz]", clock.hertz);
        }
        text.push('\n');
    }
    text
}

fn bandwidth(manager: &BandwidthManager) -> String {
    if !manager.enabled {
        return "Disabled".into();
    }
    let control = clean(&manager.congestion_control).to_uppercase();
    let devices = clean_all(&manager.devices).join(", ");
    format!("EDT with BPF\t[{control}]\t[{devices}]")
}

fn masquerade(masquerading: &Masquerading, status: &StatusResponse) -> String {
    if !masquerading.enabled {
        return "Disabled".into();
    }
    let families = masquerading.enabled_protocols.clone().unwrap_or_default();
    let (v4, v6) = (enabled(families.ipv4), enabled(families.ipv6));
    let families = format!("[IPv4: {v4}, IPv6: {v6}]");
    if masquerading.mode != "BPF" {
        let mode = match masquerading.mode.as_str() {
            "iptables" => "IPTables".to_owned(),
            other => clean(other),
        };
        return format!("{mode} {families}");
    }
    let devices = status.kube_proxy_replacement.as_ref();
    let devices = devices.map_or(String::new(), |kpr| clean_all(&kpr.devices).join(", "));
    let exclusion = clean(&masquerading.snat_exclusion_cidr_v4);
    format!("BPF\t[{devices}]\t{exclusion} {families}")
}

/// The verbose block `BPF Maps:`.
pub(super) fn maps(status: &StatusResponse) -> String {
    let Some(maps) = &status.bpf_maps else {
        return String::new();
    };
    let sizing = if maps.dynamic_size_ratio > 0.0 {
        format!("on (ratio: {:.6})", maps.dynamic_size_ratio)
    } else {
        "off".into()
    };
    let mut text = format!("\u{c}BPF Maps:\tdynamic sizing: {sizing}\n\u{c}  Name\tSize\n");
    for map in &maps.maps {
        text += &format!("  {}\t{}\n", clean(&map.name), map.size);
    }
    text + "\u{c}"
}
