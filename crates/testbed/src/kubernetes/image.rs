// SPDX-License-Identifier: Apache-2.0
//! Container images without a container engine: an archive of one layer, as `docker save` writes it and
//! `ctr images import` reads it. The same files give the same bytes.
//!
//! The tar crate, because long names and links have their own rules in that format; sha2 for the digests
//! that containerd checks.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::error::{Doing, Result};

/// What stands at a path of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A copy of a file of this machine, executable if that is.
    File(PathBuf),
    /// A symbolic link.
    Link(String),
    /// An empty directory for everybody.
    Directory,
}

/// An image of one layer.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// `host/path:tag`.
    pub name: String,
    /// What a container runs unless its pod says otherwise.
    pub entrypoint: Vec<String>,
    /// Arguments of that, likewise.
    pub arguments: Vec<String>,
    /// (absolute path, content).
    pub files: Vec<(String, Content)>,
}

impl Image {
    /// Writes the archive.
    ///
    /// # Errors
    /// A file cannot be read, or the archive cannot be written.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let layer = self.layer()?;
        let digest = hex(&Sha256::digest(&layer));
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint, "Cmd": self.arguments,
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin:/"],
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
            "history": [{"created_by": "lab"}],
        })
        .to_string();
        let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
        let layer_name = format!("{digest}/layer.tar");
        let manifest = json!([{
            "Config": config_name, "RepoTags": [self.name], "Layers": [layer_name],
        }])
        .to_string();
        let mut tar = Builder::new(Vec::new());
        let parts = [
            (config_name.as_str(), config.as_bytes()),
            (&layer_name, &layer),
            ("manifest.json", manifest.as_bytes()),
        ];
        for (name, bytes) in parts {
            regular(&mut tar, name, bytes, 0o644).doing("write archive", archive)?;
        }
        let bytes = tar.into_inner().doing("write archive", archive)?;
        let new = archive.with_extension("new");
        fs::write(&new, bytes).doing("write", &new)?;
        fs::rename(&new, archive).doing("replace", archive)
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        let mut directories = BTreeSet::new();
        for (path, content) in &self.files {
            let path = Path::new(path.trim_start_matches('/'));
            let parents: Vec<_> = path.ancestors().skip(1).collect();
            for parent in parents.into_iter().rev() {
                if !parent.as_os_str().is_empty() && directories.insert(parent.to_path_buf()) {
                    directory(&mut tar, parent, 0o755).doing("pack", parent)?;
                }
            }
            match content {
                Content::File(source) => {
                    let bytes = fs::read(source).doing("read", source)?;
                    let mode = fs::metadata(source).doing("read", source)?.permissions();
                    let mode = if mode.mode() & 0o100 == 0 {
                        0o644
                    } else {
                        0o755
                    };
                    regular(&mut tar, path, &bytes, mode).doing("pack", source)?;
                }
                Content::Link(target) => {
                    let mut header = head(EntryType::Symlink, 0, 0o777);
                    tar.append_link(&mut header, path, target)
                        .doing("pack", path)?;
                }
                Content::Directory => {
                    if directories.insert(path.to_path_buf()) {
                        directory(&mut tar, path, 0o1777).doing("pack", path)?;
                    }
                }
            }
        }
        tar.into_inner().doing("pack", &self.name)
    }
}

fn head(kind: EntryType, size: usize, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(u64::try_from(size).expect("sizes fit in 64 bits"));
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn regular(
    tar: &mut Builder<Vec<u8>>,
    path: impl AsRef<Path>,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut header = head(EntryType::Regular, bytes.len(), mode);
    tar.append_data(&mut header, path, bytes)
}

fn directory(tar: &mut Builder<Vec<u8>>, path: &Path, mode: u32) -> io::Result<()> {
    let mut header = head(EntryType::Directory, 0, mode);
    tar.append_data(&mut header, path, io::empty())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn example(dir: &Path) -> Image {
        let program = dir.join("program");
        fs::write(&program, "x").expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("set");
        Image {
            name: "localhost/example:1".into(),
            entrypoint: vec!["/bin/program".into()],
            arguments: vec!["run".into()],
            files: vec![
                ("/bin/program".into(), Content::File(program)),
                ("/bin/other".into(), Content::Link("program".into())),
                ("/tmp".into(), Content::Directory),
            ],
        }
    }

    fn entries(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().expect("an archive");
        let read = entries.map(|entry| {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a path").display().to_string();
            let mode = entry.header().mode().expect("a mode");
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("readable");
            (name, mode, bytes)
        });
        read.collect()
    }

    #[test]
    fn a_layer_has_parents_modes_and_links() {
        let dir = tempfile::tempdir().expect("a directory");
        let layer = example(dir.path()).layer().expect("a layer");
        let found = entries(&layer);
        let names: Vec<_> = found
            .iter()
            .map(|(name, mode, _)| (name.as_str(), *mode))
            .collect();
        let expected = [
            ("bin", 0o755),
            ("bin/program", 0o755),
            ("bin/other", 0o777),
            ("tmp", 0o1777),
        ];
        assert_eq!(names, expected);
        assert_eq!(found[1].2, b"x");
    }

    #[test]
    fn digests_name_the_layer_and_the_same_files_give_the_same_bytes() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, two) = (dir.path().join("one.tar"), dir.path().join("two.tar"));
        example(dir.path()).write(&one).expect("written");
        example(dir.path()).write(&two).expect("written");
        let bytes = fs::read(&one).expect("readable");
        assert_eq!(bytes, fs::read(&two).expect("readable"));
        let parts = entries(&bytes);
        let manifest: serde_json::Value = serde_json::from_slice(&parts[2].2).expect("JSON");
        let layer = hex(&Sha256::digest(&parts[1].2));
        assert_eq!(manifest[0]["Layers"][0], format!("{layer}/layer.tar"));
        assert_eq!(manifest[0]["RepoTags"][0], "localhost/example:1");
        let config: serde_json::Value = serde_json::from_slice(&parts[0].2).expect("JSON");
        assert_eq!(config["config"]["Cmd"][0], "run");
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{layer}").as_str()
        );
    }
}
