// SPDX-License-Identifier: Apache-2.0
//! The programs and images of a Kubernetes lab.

use std::fs;
use std::path::{Path, PathBuf};

use super::images::TEST_IMAGES;
use crate::error::{LabError, Result};

/// The names under which a lab calls the one binary with all of Kubernetes.
pub(super) const NAMES: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];
/// Programs of the machine that nodes run.
const NEEDED: [&str; 4] = [
    "/usr/bin/containerd",
    "/usr/sbin/runc",
    "/usr/lib/cni/portmap",
    "/usr/sbin/conntrack",
];

/// The image of the product whose maps have other layouts.
pub const OTHER_LAYOUT: &str = "localhost/isthmus:other-layout";

/// What a Kubernetes lab runs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// All of Kubernetes.
    pub kubernetes: PathBuf,
    /// This crate's binary: processes of nodes, the server of the world.
    pub lab: PathBuf,
    /// The product, if it is to be installed.
    pub isthmus: Option<PathBuf>,
    /// The directory of the lab's own image archives.
    pub images: PathBuf,
    /// More archives for every node.
    pub more_images: Vec<PathBuf>,
}

impl Programs {
    /// What `cargo xtask kubernetes-build` built; `lab` as given.
    ///
    /// # Errors
    /// It has not been built, or the machine lacks a package.
    pub fn find(lab: PathBuf) -> Result<Self> {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/kubernetes");
        let missing = |what, path: PathBuf, advice| LabError::Missing { what, path, advice };
        let advice = "run `cargo xtask kubernetes-build`";
        let kubernetes = fs::canonicalize(built.join("kubernetes"))
            .map_err(|_| missing("Kubernetes", built.join("kubernetes"), advice))?;
        let images = fs::canonicalize(built.join("images"))
            .map_err(|_| missing("the lab's images", built.join("images"), advice))?;
        if let Some(needed) = NEEDED.iter().find(|path| !Path::new(path).exists()) {
            let advice = "run `tools/install.sh kubernetes`";
            return Err(missing("a program of nodes", needed.into(), advice));
        }
        Ok(Self {
            kubernetes,
            lab,
            isthmus: None,
            images,
            more_images: Vec::new(),
        })
    }

    /// Adds the product and its image, from `target/dist`.
    ///
    /// # Errors
    /// They have not been built.
    pub fn with_isthmus(mut self) -> Result<Self> {
        let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dist");
        let find = |name: &str| {
            fs::canonicalize(dist.join(name)).map_err(|_| LabError::Missing {
                what: "the product",
                path: dist.join(name),
                advice: "run `make image`",
            })
        };
        self.isthmus = Some(find("isthmus")?);
        self.more_images.push(find("isthmus-image.tar")?);
        Ok(self)
    }

    /// Gives nodes the image [`OTHER_LAYOUT`] as well.
    ///
    /// # Errors
    /// It has not been built.
    pub fn with_other_layout(mut self) -> Result<Self> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let path = target.join("other-layout/isthmus-image.tar");
        let path = fs::canonicalize(&path).map_err(|_| LabError::Missing {
            what: "the product with other layouts",
            path,
            advice: "run `cargo xtask other-layout`",
        })?;
        self.more_images.push(path);
        Ok(self)
    }

    /// Gives nodes the images of Kubernetes' own network tests, and returns the program that runs these.
    ///
    /// # Errors
    /// They have not been built.
    pub fn with_conformance(mut self) -> Result<(Self, PathBuf)> {
        let find = |path: PathBuf| {
            fs::canonicalize(&path).map_err(|_| LabError::Missing {
                what: "a part of the conformance tests",
                path,
                advice: "run `cargo xtask conformance-build`",
            })
        };
        for (stem, _) in TEST_IMAGES {
            let archive = self.images.join(stem).with_extension("tar");
            self.more_images.push(find(archive)?);
        }
        let suite = find(self.kubernetes.with_file_name("e2e"))?;
        Ok((self, suite))
    }
}
