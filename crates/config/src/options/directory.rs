// SPDX-License-Identifier: Apache-2.0
//! Options from a directory with one file per key: a mounted ConfigMap, with its symbolic links and hidden directories.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::defs::Def;
use super::lookup;
use super::{Given, Source, foreign};

/// Largest file that is read as a value.
const MAX_VALUE: u64 = 1 << 20;
/// Longest part of a key or a value that a message shows, characters.
const SHOWN: usize = 64;

/// Takes what `dir` says and nobody said before.
pub(super) fn read(dir: &Path, given: &mut Given) {
    let mut paths = match entries(dir) {
        Ok(paths) => paths,
        Err(error) => {
            return given.problems.push(format!(
                "--config-dir={}: cannot read the directory: {error}; check its mount",
                dir.display()
            ));
        }
    };
    paths.sort();
    for path in paths {
        let Some(key) = path.file_name().and_then(OsStr::to_str) else {
            let name = path.display();
            given.warnings.push(format!(
                "{name}: not the name of an option; it has no effect"
            ));
            continue;
        };
        // Kubernetes' own: `..data` and the directories that it changes between.
        if key.starts_with('.') {
            continue;
        }
        match (lookup::find(key), value(&path)) {
            (_, Value::NoFile) if lookup::find(key).is_some() => given.warnings.push(format!(
                "{}: named like an option but not a file; it has no effect",
                path.display()
            )),
            (_, Value::NoFile) => {}
            (Some(def), Value::Text(text)) => given.take(def, text, Source::File(path)),
            (Some(def), Value::Unusable(why)) => refuse(given, def, &path, &why),
            (None, Value::Text(text)) => other(given, dir, key, &text),
            (None, Value::Unusable(why)) => {
                given
                    .warnings
                    .push(format!("{}: {why}; it has no effect", path.display()));
            }
        }
    }
}

fn entries(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir)?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

enum Value {
    Text(String),
    Unusable(String),
    NoFile,
}

fn value(path: &Path) -> Value {
    // Follows links; asked before opening, because opening a pipe waits.
    if !path.is_file() {
        return Value::NoFile;
    }
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MAX_VALUE + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Value::Unusable(format!("cannot be read: {error}"));
    }
    if bytes.len() as u64 > MAX_VALUE {
        return Value::Unusable("larger than 1 MiB".into());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Value::Text(text.trim_end_matches(['\n', '\r']).to_owned()),
        Err(_) => Value::Unusable("not UTF-8 text".into()),
    }
}

/// An option of ours that cannot be read has been asked for: going on without it would be another configuration.
fn refuse(given: &mut Given, def: &Def, path: &Path, why: &str) {
    if !given.values.contains_key(def.name) {
        let path = path.display();
        given
            .problems
            .push(format!("{} in {path}: {why}", def.name));
    }
}

fn other(given: &mut Given, dir: &Path, key: &str, value: &str) {
    let dir = dir.display();
    match foreign::take(key, value) {
        foreign::Taken::Accepted => {}
        foreign::Taken::Told { why } => given.warnings.push(format!(
            "{key}: {:?} in {dir} has no effect: {why}",
            cut(value)
        )),
        foreign::Taken::Refused { harmless } => {
            let harmless = match harmless.as_str() {
                "" => String::new(),
                words => format!(" or set it to one of: {words}"),
            };
            given.problems.push(format!(
                "{key}: {:?} in {dir} asks for something that this agent does not do; remove the key{harmless}",
                cut(value)
            ));
        }
        foreign::Taken::Unknown => {
            let near = lookup::nearest(key)
                .map(|near| format!("; did you mean {near}?"))
                .unwrap_or_default();
            given.warnings.push(format!(
                "{} in {dir} is not known and has no effect{near}",
                cut(key)
            ));
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
