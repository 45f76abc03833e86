// SPDX-License-Identifier: Apache-2.0
//! Programs that take minutes to build, kept by what they were made from beyond one working copy:
//! `isthmus/<name>-<key>` in the user's cache directory, where `tools/install.sh` keeps the linker too.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dist;

/// Puts the program `name` that was made from `key` at `to`, if it is kept.
pub(crate) fn fetch(name: &str, key: &str, to: &Path) -> Result<bool, String> {
    match place(name, key).filter(|kept| kept.is_file()) {
        Some(kept) => dist::install(&kept, to).map(|()| true),
        None => Ok(false),
    }
}

/// Keeps a program in place of those of its name that were made from something else. A machine without room or
/// rights for it builds again the next time.
pub(crate) fn keep(name: &str, key: &str, built: &Path) {
    let Some(kept) = place(name, key) else {
        return;
    };
    let directory = kept.parent().expect("a file in a directory");
    let result = fs::create_dir_all(directory)
        .map_err(|error| error.to_string())
        .and_then(|()| dist::install(built, &kept));
    if let Err(problem) = result {
        println!("{name} is not kept for other working copies: {problem}");
        return;
    }
    let others = fs::read_dir(directory).into_iter().flatten().flatten();
    for other in others.filter(|other| other.path() != kept) {
        let file = other.file_name();
        let ours = file
            .to_str()
            .and_then(|file| file.strip_prefix(name)?.strip_prefix('-'));
        // Names of other programs may begin like this one.
        if ours.is_some_and(|key| !key.contains('-')) {
            let _gone = fs::remove_file(other.path());
        }
    }
}

fn place(name: &str, key: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("isthmus").join(format!("{name}-{key}")))
}
