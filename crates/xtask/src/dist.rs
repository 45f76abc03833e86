// SPDX-License-Identifier: Apache-2.0
//! The static binary and the names under which it is called.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::{cache, cargo, sources};

const TARGET: &str = "x86_64-unknown-linux-musl";
/// Names under which the binary is called.
pub(crate) const LINKS: [&str; 3] = ["cilium", "cilium-dbg", "isthmus-cni"];

/// What is built: the product, and of the labs what people and Kubernetes' pods run.
const PROGRAMS: [&str; 3] = ["isthmus", "lab", "pause"];

/// Builds into `target/dist`. The lab is built by the same call, so that its dependencies are built once.
pub(crate) fn build(root: &Path) -> Result<(), String> {
    programs(root)?;
    let dist = root.join("target/dist");
    let failed = |error: std::io::Error| format!("{}: {error}", dist.display());
    fs::create_dir_all(&dist).map_err(failed)?;
    install(&built(root).join("isthmus"), &dist.join("isthmus"))?;
    for name in LINKS {
        let link = dist.join(name);
        if fs::read_link(&link).is_ok_and(|target| target == Path::new("isthmus")) {
            continue;
        }
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).map_err(failed)?;
        }
        symlink("isthmus", &link).map_err(failed)?;
    }
    let size = fs::metadata(dist.join("isthmus")).map_err(failed)?.len();
    println!(
        "target/dist/isthmus: {:.1} MB, and {}",
        size as f64 / 1e6,
        LINKS.join(", ")
    );
    Ok(())
}

/// Builds [`PROGRAMS`], or takes those that another working copy built from the same files.
fn programs(root: &Path) -> Result<(), String> {
    let built = built(root);
    let key = sources::key(root);
    if let Some(key) = &key {
        fs::create_dir_all(&built).map_err(|error| format!("{}: {error}", built.display()))?;
        let fetch = |name: &&str| cache::fetch(name, key, &built.join(name));
        let fetched: Result<Vec<bool>, String> = PROGRAMS.iter().map(fetch).collect();
        if fetched?.iter().all(|there| *there) {
            return Ok(());
        }
    }
    build_static(root, &["isthmus", "testbed"], &[])?;
    if let Some(key) = key {
        for name in PROGRAMS {
            cache::keep(name, &key, &built.join(name));
        }
    }
    Ok(())
}

/// Builds packages for machines without libraries, optimized, with more arguments for cargo.
pub(crate) fn build_static(
    root: &Path,
    packages: &[&str],
    arguments: &[&str],
) -> Result<(), String> {
    let mut build = cargo::command(root);
    build.args(["build", "--release", "--target", TARGET]);
    for package in packages {
        build.args(["-p", package]);
    }
    build.args(arguments);
    cargo::run(build)
}

/// Where cargo puts what [`build_static`] builds.
pub(crate) fn built(root: &Path) -> PathBuf {
    cargo::target(root).join(TARGET).join("release")
}

/// Replaces `to` in one step: a running agent keeps the file that it was started from.
pub(crate) fn install(from: &Path, to: &Path) -> Result<(), String> {
    let new = to.with_extension("new");
    let copied = fs::copy(from, &new).and_then(|_| fs::rename(&new, to));
    copied.map_err(|error| format!("installing {} as {}: {error}", from.display(), to.display()))
}
