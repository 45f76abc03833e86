// SPDX-License-Identifier: Apache-2.0
//! `uninstall`: the node as it was before. An agent that ends leaves programs, devices and files, so that pods talk on;
//! whoever removes the product removes these too. A step that fails does not keep the others from being done.

use std::fs;
use std::io;
use std::path::Path;

use datapath::devices;
use netlink::Socket;
use netlink::nft::Nft;

use crate::Error;
use crate::args::UninstallArgs;
use crate::node::{LOOPBACK, PLUGIN};

/// The tunnel's device.
const OVERLAY: &str = "cilium_vxlan";
/// Digits behind the prefix in the name of a pod's device.
const DIGITS: usize = 12;
/// Below the bpf file system.
const PINS: &str = "isthmus";
const CONFIGURATION: &str = "05-cilium.conflist";
/// Ending of the files that were set aside.
const ASIDE: &str = ".cilium_bak";

/// Cleans the node; the text says what was done.
pub(crate) fn run(args: &UninstallArgs) -> Result<String, Error> {
    let problem = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let mut left = Vec::new();
    let socket = Socket::open().map_err(|error| Error::Leftovers(vec![error.to_string()]))?;
    let pods = pods(&socket).unwrap_or_else(|error| {
        left.push(problem("devices of pods", &error));
        Vec::new()
    });
    if !pods.is_empty() && !args.force {
        return Err(Error::Values {
            problem: format!(
                "{} pods of this node still use the network ({}): drain the node first, or give --force to cut them off",
                pods.len(),
                pods.join(", ")
            ),
        });
    }
    let mut step = |what: &str, result: Result<(), String>| {
        if let Err(error) = result {
            left.push(problem(what, &error));
        }
    };
    // First what would bring new pods here, last what old ones need.
    step(
        "network configuration",
        restore_configuration(&args.cni_conf_dir).map_err(text),
    );
    step("plugin", remove_plugin(&args.cni_bin_dir).map_err(text));
    for device in &pods {
        step(device, socket.delete_link(device.as_str()).map_err(text));
    }
    step("routes", devices::remove_routes(&socket).map_err(text));
    step(
        OVERLAY,
        devices::remove_overlay(&socket, OVERLAY).map_err(text),
    );
    let translation = Nft::open().map_err(text);
    let translation = translation.and_then(|nft| devices::remove_masquerade(&nft).map_err(text));
    step("translation", translation);
    let switches = devices::restore_node_switches(&args.state_dir);
    step("switches", switches.map_err(text));
    step("pins", remove_tree(&args.bpf_root.join(PINS)).map_err(text));
    step("state", remove_tree(&args.state_dir).map_err(text));
    if left.is_empty() {
        Ok("removed: network configuration, plugin, devices, routes, translation, switches, programs and state\n".into())
    } else {
        Err(Error::Leftovers(left))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Host ends of pods' devices.
fn pods(socket: &Socket) -> Result<Vec<String>, netlink::Error> {
    let links = socket.links()?.into_iter();
    Ok(links
        .map(|link| link.name)
        .filter(|name| is_of_pod(name))
        .collect())
}

/// Whether the plugin gave the device its name; LXC's own devices begin alike.
fn is_of_pod(name: &str) -> bool {
    let digits = name.strip_prefix(devices::POD_DEVICE_PREFIX);
    digits.is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// Removes our file and gives those that were set aside their names back.
fn restore_configuration(dir: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(dir.join(CONFIGURATION)))?;
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.to_string_lossy();
        if let Some(original) = name.strip_suffix(ASIDE) {
            fs::rename(&path, original)?;
        }
    }
    Ok(())
}

/// Removes the plugin, and the loopback plugin if it is ours.
fn remove_plugin(dir: &Path) -> io::Result<()> {
    let loopback = dir.join(LOOPBACK);
    if fs::read_link(&loopback).is_ok_and(|target| target == Path::new(PLUGIN)) {
        fs::remove_file(&loopback)?;
    }
    absent_is_fine(fs::remove_file(dir.join(PLUGIN)))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_dir_all(path))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_of_pods_are_taken() {
        assert!(is_of_pod("lxc0123456789ab"));
        for other in [
            "lxcbr0",
            "lxc",
            "lxc0123456789",
            "veth0123456789ab",
            "lxcnothexdigits",
        ] {
            assert!(!is_of_pod(other), "{other}");
        }
    }

    #[test]
    fn others_get_their_names_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        fs::write(path(CONFIGURATION), "ours").expect("written");
        fs::write(path("10-x.conflist.cilium_bak"), "theirs").expect("written");
        restore_configuration(dir.path()).expect("restored");
        restore_configuration(dir.path()).expect("restored again");
        assert!(!path(CONFIGURATION).exists());
        assert_eq!(
            fs::read_to_string(path("10-x.conflist")).expect("read"),
            "theirs"
        );
        restore_configuration(&path("absent")).expect("nothing to do");
    }

    #[test]
    fn only_our_own_loopback_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let loopback = dir.path().join(LOOPBACK);
        fs::write(&loopback, "theirs").expect("written");
        remove_plugin(dir.path()).expect("nothing of ours");
        assert!(loopback.exists());
        fs::remove_file(&loopback).expect("removed");
        std::os::unix::fs::symlink(PLUGIN, &loopback).expect("linked");
        remove_plugin(dir.path()).expect("removed");
        assert!(loopback.symlink_metadata().is_err());
    }
}
