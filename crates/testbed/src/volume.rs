// SPDX-License-Identifier: Apache-2.0
//! A directory that looks and changes like a mounted ConfigMap or Secret: every file is a link through
//! `..data`, and an update swaps that one link.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result};

/// A mounted ConfigMap or Secret.
#[derive(Debug, Clone)]
pub struct Volume(PathBuf);

impl Volume {
    /// The volume at `path`, with no file yet.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).doing("create", &path)?;
        Ok(Self(path))
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Replaces all files in one step, as the kubelet does.
    ///
    /// # Errors
    /// A file or link cannot be made.
    pub fn update<'a>(&self, files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
        let data = self.0.join("..data");
        let old = fs::read_link(&data).ok();
        let serial: u32 = old
            .as_ref()
            .and_then(|name| name.to_str()?.strip_prefix("..")?.parse().ok())
            .unwrap_or(0);
        let version = PathBuf::from(format!("..{}", serial + 1));
        let new = self.0.join(&version);
        fs::create_dir(&new).doing("create", &new)?;
        for (name, text) in files {
            let path = new.join(name);
            fs::write(&path, text).doing("write", &path)?;
        }
        let next = self.0.join("..data_tmp");
        symlink(&version, &next).doing("link", &next)?;
        fs::rename(&next, &data).doing("swap", &data)?;
        self.link_files(&new)?;
        if let Some(old) = old {
            let old = self.0.join(old);
            fs::remove_dir_all(&old).doing("remove", &old)?;
        }
        Ok(())
    }

    /// One link for every file of the current version, none for others.
    fn link_files(&self, current: &Path) -> Result<()> {
        for entry in fs::read_dir(&self.0).doing("list", &self.0)?.flatten() {
            let name = entry.file_name();
            let link = entry.path();
            if link.is_symlink() && name != "..data" && !current.join(&name).exists() {
                fs::remove_file(&link).doing("remove", &link)?;
            }
        }
        for entry in fs::read_dir(current).doing("list", current)?.flatten() {
            let link = self.0.join(entry.file_name());
            if !link.is_symlink() {
                symlink(Path::new("..data").join(entry.file_name()), &link).doing("link", &link)?;
            }
        }
        Ok(())
    }
}
