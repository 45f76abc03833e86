// SPDX-License-Identifier: Apache-2.0
//! The static binary and the names under which it is called.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::cargo;

const TARGET: &str = "x86_64-unknown-linux-musl";
/// Names under which the binary is called.
pub(crate) const LINKS: [&str; 3] = ["cilium", "cilium-dbg", "isthmus-cni"];

/// Builds into `target/dist`. The lab is built by the same call, so that its dependencies are built once.
pub(crate) fn build(root: &Path) -> Result<(), String> {
    let mut build = cargo::command(root);
    build.args([
        "build",
        "--release",
        "--target",
        TARGET,
        "-p",
        "isthmus",
        "-p",
        "testbed",
    ]);
    cargo::run(build)?;
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

/// Builds the product with other layouts of its maps into `target/other-layout`, for tests of agents that follow each
/// other. For this machine and without optimization, because the tests' dependencies are built so.
pub(crate) fn build_other_layout(root: &Path) -> Result<(), String> {
    let directory = root.join("target/other-layout");
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let build = |features: &[&str]| {
        let mut build = cargo::command(root);
        build.args(["build", "--package", "isthmus"]).args(features);
        cargo::run(build)
    };
    build(&["--features", "other-layout"])?;
    let built = cargo::target(root).join("debug/isthmus");
    install(&built, &directory.join("isthmus"))?;
    // Where people expect the product.
    build(&[])
}

/// Where cargo puts what [`build`] builds.
pub(crate) fn built(root: &Path) -> PathBuf {
    cargo::target(root).join(TARGET).join("release")
}

/// Replaces `to` in one step: a running agent keeps the file that it was started from.
pub(crate) fn install(from: &Path, to: &Path) -> Result<(), String> {
    let new = to.with_extension("new");
    let copied = fs::copy(from, &new).and_then(|_| fs::rename(&new, to));
    copied.map_err(|error| format!("installing {} as {}: {error}", from.display(), to.display()))
}
