// SPDX-License-Identifier: Apache-2.0
//! Control groups of a node: one below our own group in every mounted hierarchy, so that its kubelet can
//! make groups of its own and the machine's are left alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Doing, LabError, Result};

/// Where kernels and systemd mount the hierarchies.
const MOUNTS: &str = "/sys/fs/cgroup";

/// A hierarchy of control groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Hierarchy {
    /// Version 1 with these controllers.
    Controllers(String),
    /// Version 1 without a controller, by name.
    Named(String),
    /// Version 2.
    Unified,
}

impl Hierarchy {
    /// The directory below `/sys/fs/cgroup`.
    pub(super) fn directory(&self) -> &str {
        match self {
            Self::Controllers(name) | Self::Named(name) => name,
            Self::Unified => "unified",
        }
    }

    /// (file system, options) for mount(2).
    pub(super) fn mount_options(&self) -> (&'static str, String) {
        match self {
            Self::Controllers(names) => ("cgroup", names.clone()),
            Self::Named(name) => ("cgroup", format!("none,name={name}")),
            Self::Unified => ("cgroup2", String::new()),
        }
    }
}

/// A node's group in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    /// Which hierarchy.
    pub(super) hierarchy: Hierarchy,
    /// Its directory, seen from outside the node.
    pub(super) path: PathBuf,
}

/// Hierarchies with our own group in each, from the text of `/proc/self/cgroup`.
fn own_groups(text: &str) -> Vec<(Hierarchy, String)> {
    let parse = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let hierarchy = match (number, controllers.strip_prefix("name=")) {
            ("0", _) => Hierarchy::Unified,
            (_, Some(name)) => Hierarchy::Named(name.to_owned()),
            _ => Hierarchy::Controllers(controllers.to_owned()),
        };
        Some((hierarchy, path.trim_start_matches('/').to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

/// Names the groups of `node` of `lab` in every mounted hierarchy; makes none.
///
/// # Errors
/// This machine has no hierarchy of version 1.
pub(super) fn plan(lab: &str, node: &str) -> Result<Vec<Group>> {
    let text = fs::read_to_string("/proc/self/cgroup").doing("read", "/proc/self/cgroup")?;
    let groups: Vec<_> = own_groups(&text)
        .into_iter()
        .filter_map(|(hierarchy, own)| {
            let mounted = Path::new(MOUNTS).join(hierarchy.directory());
            let path = mounted.join(own).join(format!("{lab}-{node}"));
            mounted.is_dir().then_some(Group { hierarchy, path })
        })
        .collect();
    let first = |group: &Group| group.hierarchy != Hierarchy::Unified;
    if groups.iter().any(first) {
        return Ok(groups);
    }
    Err(LabError::Missing {
        what: "a cgroup hierarchy of version 1",
        path: MOUNTS.into(),
        advice: "the nodes of a Kubernetes lab need a machine with version 1, alone or beside version 2",
    })
}

/// Makes the groups.
///
/// # Errors
/// One cannot be made.
pub(super) fn create(groups: &[Group]) -> Result<()> {
    for Group { hierarchy, path } in groups {
        if hierarchy.directory() == "cpuset"
            && let Some(parent) = path.parent()
        {
            // Without this a new group has no processor and takes no process.
            let inherit = parent.join("cgroup.clone_children");
            fs::write(&inherit, "1").doing("write", &inherit)?;
        }
        fs::create_dir_all(path).doing("create control group", path)?;
    }
    Ok(())
}

/// Moves this process into the groups.
///
/// # Errors
/// One does not take it.
pub(super) fn join(groups: &[Group]) -> Result<()> {
    for group in groups {
        let processes = group.path.join("cgroup.procs");
        fs::write(&processes, "0").doing("join", &processes)?;
    }
    Ok(())
}

/// Removes a group and those below it. Its processes have ended.
///
/// # Errors
/// A process is still there.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    let Ok(entries) = fs::read_dir(path) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_hierarchy_is_told() {
        let text = "9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/\n0::/user.slice\nnoise\n";
        let groups = own_groups(text);
        let expected = [
            (Hierarchy::Named("systemd".into()), ""),
            (Hierarchy::Controllers("memory".into()), "a/b"),
            (Hierarchy::Controllers("cpu,cpuacct".into()), ""),
            (Hierarchy::Unified, "user.slice"),
        ];
        let expected = expected.map(|(hierarchy, path)| (hierarchy, path.to_owned()));
        assert_eq!(groups, expected);
        assert_eq!(
            groups[0].0.mount_options(),
            ("cgroup", "none,name=systemd".to_owned())
        );
    }
}
