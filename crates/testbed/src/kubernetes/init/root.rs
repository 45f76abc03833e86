// SPDX-License-Identifier: Apache-2.0
//! The node's root: a directory of its own with the machine's programs mounted in, so that nothing of the
//! machine is written to, and nothing of the node stays outside of that directory.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::pivot_root;

use super::Spec;
use crate::error::{Doing, Result};
use crate::kubernetes::settings::WANTED_SYSCTLS;

/// The machine's programs; links where it has links.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What programs read below /etc. Everything else there is the node's own.
const SHARED: [&str; 12] = [
    "alternatives",
    "ethertypes",
    "group",
    "iproute2",
    "ld.so.cache",
    "ld.so.conf.d",
    "nsswitch.conf",
    "passwd",
    "protocols",
    "services",
    "ssl",
    "ca-certificates",
];
/// Directories that a node has.
const OWN: [&str; 14] = [
    "dev",
    "etc",
    "proc",
    "run",
    "sys",
    "tmp",
    "root",
    "opt/cni/bin",
    "etc/cni/net.d",
    "etc/kubernetes",
    "etc/containerd",
    "var/lib/isthmus-lab",
    "var/log",
    "var/tmp",
];

const NONE: Option<&str> = None;

/// Changes the root of this mount namespace to the node's.
pub(super) fn enter(spec: &Spec) -> Result<()> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NONE, "/", NONE, private, NONE).doing("make private", "/")?;
    let root = &spec.root;
    bind(root, root)?;
    for dir in OWN {
        create(&root.join(dir))?;
    }
    for name in SYSTEM {
        system(Path::new("/").join(name).as_path(), &root.join(name))?;
    }
    for name in SHARED {
        bind_if_there(&Path::new("/etc").join(name), &root.join("etc").join(name))?;
    }
    for (outside, inside) in &spec.binds {
        let inside = inside.strip_prefix("/").unwrap_or(inside);
        bind_if_there(outside, &root.join(inside))?;
    }
    bind(Path::new("/dev"), &root.join("dev"))?;
    tmpfs(&root.join("dev/shm"), "mode=1777")?;
    tmpfs(&root.join("run"), "mode=755")?;
    tmpfs(&root.join("tmp"), "mode=1777")?;
    std::env::set_current_dir(root).doing("enter", root)?;
    // Both at the same place: the old root lies over the new one and is taken away.
    pivot_root(".", ".").doing("change the root to", root)?;
    umount2(".", MntFlags::MNT_DETACH).doing("leave the old root of", root)?;
    std::env::set_current_dir("/").doing("enter", "/")?;
    let proc = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), proc, NONE).doing("mount", "/proc")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), proc, NONE).doing("mount", "/sys")?;
    control_groups(spec)?;
    let none = MsFlags::empty();
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), none, NONE).doing("mount", "/sys/fs/bpf")?;
    sysctls()?;
    for dir in ["/run/lock", "/run/netns", "/run/containerd"] {
        create(Path::new(dir))?;
    }
    // Pods that ask for it share mounts with their node, both ways.
    let shared = MsFlags::MS_REC | MsFlags::MS_SHARED;
    mount(NONE, "/", NONE, shared, NONE).doing("share", "/")
}

fn system(from: &Path, to: &Path) -> Result<()> {
    match fs::read_link(from) {
        Ok(target) if to.symlink_metadata().is_err() => symlink(target, to).doing("link", to),
        Ok(_) => Ok(()),
        Err(_) => bind_if_there(from, to),
    }
}

fn control_groups(spec: &Spec) -> Result<()> {
    let base = Path::new("/sys/fs/cgroup");
    tmpfs(base, "mode=755")?;
    for group in &spec.groups {
        let target = base.join(group.hierarchy.directory());
        create(&target)?;
        let (kind, options) = group.hierarchy.mount_options();
        let none = MsFlags::empty();
        mount(
            Some(kind),
            &target,
            Some(kind),
            none,
            Some(options.as_str()),
        )
        .doing("mount", &target)?;
    }
    Ok(())
}

/// The kubelet wants to set some sysctls of the machine: files with what it wants lie over them.
fn sysctls() -> Result<()> {
    for (key, value) in WANTED_SYSCTLS {
        let file = Path::new("/var/lib/isthmus-lab").join(key.replace('/', "."));
        fs::write(&file, format!("{value}\n")).doing("write", &file)?;
        bind(&file, &Path::new("/proc/sys").join(key))?;
    }
    Ok(())
}

fn create(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).doing("create", dir)
}

fn tmpfs(target: &Path, options: &str) -> Result<()> {
    create(target)?;
    let none = MsFlags::empty();
    mount(Some("tmpfs"), target, Some("tmpfs"), none, Some(options)).doing("mount", target)
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, NONE, flags, NONE).doing("mount", to)
}

fn bind_if_there(from: &Path, to: &Path) -> Result<()> {
    let Ok(meta) = fs::metadata(from) else {
        return Ok(());
    };
    if meta.is_dir() {
        create(to)?;
    } else if !to.exists() {
        create(to.parent().unwrap_or(to))?;
        File::create(to).doing("create", to)?;
    }
    bind(from, to)
}
