// SPDX-License-Identifier: Apache-2.0
//! The product with other layouts of its maps, for tests of agents that follow each other: in `target/other-layout`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{cargo, dist, image};

const FEATURE: &str = "other-layout";
/// Tag of its image.
const TAG: &str = "other-layout";

/// The program, for labs without Kubernetes. For this machine and without optimization, because the tests' dependencies
/// are built so.
pub(crate) fn build(root: &Path) -> Result<(), String> {
    let directory = directory(root)?;
    let build = |features: &[&str]| {
        let mut build = cargo::command(root);
        build.args(["build", "--package", "isthmus"]).args(features);
        cargo::run(build)
    };
    build(&["--features", FEATURE])?;
    let built = cargo::target(root).join("debug/isthmus");
    dist::install(&built, &directory.join("isthmus"))?;
    // Where people expect the product.
    build(&[])
}

/// The image, for those with Kubernetes.
pub(crate) fn build_image(root: &Path) -> Result<(), String> {
    let directory = directory(root)?;
    dist::build_static(root, &["isthmus"], &["--features", FEATURE])?;
    let program = directory.join("isthmus-static");
    dist::install(&dist::built(root).join("isthmus"), &program)?;
    dist::build(root)?;
    image::write(&program, &directory.join("isthmus-image.tar"), TAG)
}

fn directory(root: &Path) -> Result<PathBuf, String> {
    let directory = root.join("target/other-layout");
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(directory)
}
