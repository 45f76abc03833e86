// SPDX-License-Identifier: Apache-2.0
//! `node-setup`: what a node needs before its first agent. Run by the first container of the agent's pod; every step is
//! idempotent, and a plugin that is being executed meanwhile keeps its file.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::Error;
use crate::args::SetupArgs;

/// The name under which the network configuration calls the plugin.
pub(crate) const PLUGIN: &str = "cilium-cni";
/// Container runtimes bring a pod's own loopback device up by a plugin of this name, and some bring none along.
pub(crate) const LOOPBACK: &str = "loopback";

/// Prepares the node; the text says what was done.
pub(crate) fn setup(args: &SetupArgs) -> Result<String, Error> {
    let own = std::env::current_exe().map_err(|source| Error::File {
        doing: "find",
        path: "this program".into(),
        source,
    })?;
    install_plugin(&own, &args.cni_bin_dir)?;
    let mounted = ensure_bpf(&args.bpf_root)?;
    Ok(format!(
        "{}/{PLUGIN} installed; {} {}\n",
        args.cni_bin_dir.display(),
        args.bpf_root.display(),
        if mounted { "mounted" } else { "was mounted" }
    ))
}

/// Copies this program as the plugin, in one step, and as the loopback plugin where there is none.
fn install_plugin(own: &Path, dir: &Path) -> Result<(), Error> {
    let file = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File {
            doing,
            path,
            source,
        }
    };
    fs::create_dir_all(dir).map_err(file("make", dir))?;
    let plugin = dir.join(PLUGIN);
    let new = dir.join(format!("{PLUGIN}.new"));
    fs::copy(own, &new).map_err(file("write", &new))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).map_err(file("write", &new))?;
    fs::rename(&new, &plugin).map_err(file("replace", &plugin))?;
    let loopback = dir.join(LOOPBACK);
    match std::os::unix::fs::symlink(PLUGIN, &loopback) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(file("link", &loopback)(source))
        }
        _ => Ok(()),
    }
}

/// Mounts the bpf file system if nobody has. True: it was not there.
fn ensure_bpf(root: &Path) -> Result<bool, Error> {
    let file = |doing, source: io::Error| Error::File {
        doing,
        path: root.to_owned(),
        source,
    };
    fs::create_dir_all(root).map_err(|source| file("make", source))?;
    let found = statfs(root).map_err(|errno| file("look at", errno.into()))?;
    if found.filesystem_type() == BPF_FS_MAGIC {
        return Ok(false);
    }
    mount(
        Some("bpf"),
        root,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .map_err(|errno| file("mount a bpf file system at", errno.into()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_is_replaced_and_others_loopback_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = dir.path().join("program");
        let bin = dir.path().join("bin");
        fs::write(&own, "one").expect("written");
        install_plugin(&own, &bin).expect("installed");
        assert_eq!(
            fs::read_link(bin.join(LOOPBACK)).expect("a link"),
            Path::new(PLUGIN)
        );
        fs::remove_file(bin.join(LOOPBACK)).expect("removed");
        fs::write(bin.join(LOOPBACK), "theirs").expect("written");
        fs::write(&own, "two").expect("written");
        install_plugin(&own, &bin).expect("installed again");
        assert_eq!(fs::read_to_string(bin.join(PLUGIN)).expect("read"), "two");
        assert_eq!(
            fs::read_to_string(bin.join(LOOPBACK)).expect("read"),
            "theirs"
        );
        let mode = fs::metadata(bin.join(PLUGIN))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
    }
}
