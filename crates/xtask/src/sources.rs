// SPDX-License-Identifier: Apache-2.0
//! What a build reads, as one key: programs that were built from the same files by the same compiler are the same.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

/// Beginnings of names of variables that change what cargo builds.
const VARIABLES: [&str; 4] = ["RUSTFLAGS", "CARGO_ENCODED", "CARGO_BUILD", "CARGO_PROFILE"];

/// The key of the working copy as it is now, with changes that are not committed: 32 hexadecimal digits. None where git
/// or the compiler does not answer: nothing is known then of what a build would read.
pub(crate) fn key(root: &Path) -> Option<String> {
    let listed = answer(
        root,
        "git",
        &[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
    )?;
    let mut names: Vec<&[u8]> = listed
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut digest = Sha256::new();
    for name in names {
        // A file that was deleted and is still in the index.
        let Ok(content) = fs::read(root.join(OsStr::from_bytes(name))) else {
            continue;
        };
        part(&mut digest, name);
        part(&mut digest, &content);
    }
    part(&mut digest, &answer(root, "rustc", &["-vV"])?);
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.retain(|(name, _)| {
        let name = name.as_bytes();
        VARIABLES
            .iter()
            .any(|start| name.starts_with(start.as_bytes()))
    });
    variables.sort();
    for (name, value) in variables {
        part(&mut digest, name.as_bytes());
        part(&mut digest, value.as_bytes());
    }
    let digest = digest.finalize();
    Some(
        digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
}

/// With its length, so that no two lists of parts look the same.
fn part(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

fn answer(root: &Path, program: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new(program)
        .current_dir(root)
        .args(arguments)
        .output()
        .ok()?;
    output.status.success().then_some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_files_that_are_not_ignored() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        assert_eq!(key(root), None, "no repository");
        let write = |name: &str, text: &str| fs::write(root.join(name), text).expect("a file");
        answer(root, "git", &["init", "-q"]).expect("git");
        write(".gitignore", "target\n");
        write("a", "1");
        let first = key(root).expect("a key");
        write("target", "built");
        assert_eq!(key(root).as_ref(), Some(&first));
        write("a", "2");
        assert_ne!(key(root).as_ref(), Some(&first));
        write("a", "1");
        assert_eq!(key(root).as_ref(), Some(&first));
        fs::rename(root.join("a"), root.join("b")).expect("renamed");
        assert_ne!(key(root), Some(first));
    }
}
