// SPDX-License-Identifier: Apache-2.0
//! What no compiler checks: who may depend on whom, heads and sizes of files, where unsafe code may be, that
//! documents name what is there, and that the frozen layout of the kernel's maps is there (a test of `abi`
//! compares it).

mod docs;
mod files;
mod layers;

use std::fs;
use std::path::{Path, PathBuf};

/// Runs all checks and reports everything that is wrong.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let mut problems = layers::check(root)?;
    let sources = sources(&root.join("crates"))?;
    problems.extend(files::check(root, &sources)?);
    problems.extend(docs::check(root, &sources)?);
    if !root.join("crates/abi/abi.layout").is_file() {
        problems.push("crates/abi/abi.layout is gone: it freezes what pinned maps hold (crates/abi/tests/layout.rs)".to_owned());
    }
    if problems.is_empty() {
        println!("tidy: {} files in order", sources.len());
        return Ok(());
    }
    Err(format!(
        "{}\ntidy: {} problems",
        problems.join("\n"),
        problems.len()
    ))
}

/// All Rust files below `dir`, without what was built.
fn sources(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "target" {
                found.extend(sources(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A file as text.
fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
