// SPDX-License-Identifier: Apache-2.0
//! Fuzz targets: everything that strangers write and Isthmus reads. A target takes any bytes and panics if what they
//! lead to must not be. `cargo xtask fuzz` runs them under libFuzzer, guided by coverage; the files in `seeds/` are
//! where it begins, and `tests/replay.rs` runs every one of them.

mod agent_files;
mod etcd;
mod labels;
mod manifests;
mod packets;
mod plugin;
mod requests;
mod rows;

use std::fs;
use std::path::Path;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its directory in `seeds/`.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    Target {
        name: "packets",
        run: packets::run,
    },
    Target {
        name: "labels",
        run: labels::run,
    },
    Target {
        name: "values",
        run: etcd::values,
    },
    Target {
        name: "etcd-config",
        run: etcd::config,
    },
    Target {
        name: "rows",
        run: rows::run,
    },
    Target {
        name: "manifests",
        run: manifests::run,
    },
    Target {
        name: "options",
        run: agent_files::options,
    },
    Target {
        name: "plugin",
        run: plugin::run,
    },
    Target {
        name: "requests",
        run: requests::run,
    },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// The seeds of a target by name, as bytes. A file named `….hex` holds hexadecimal digits, blanks, and comments from `#`
/// to the end of a line; any other is taken as it is.
///
/// # Errors
/// A file cannot be read, or something else is in a `….hex` file.
pub fn seeds(target: &Target) -> Result<Vec<(String, Vec<u8>)>, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target.name);
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut seeds = Vec::new();
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let bytes = bytes_of(&name, fs::read(&path).map_err(failed)?)?;
        seeds.push((name, bytes));
    }
    Ok(seeds)
}

/// Writes the seeds of a target into a directory.
///
/// # Errors
/// As for [`seeds`], and the directory cannot be written.
pub fn plant(target: &Target, directory: &Path) -> Result<(), String> {
    for (name, bytes) in seeds(target)? {
        let path = directory.join(name);
        fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn bytes_of(name: &str, content: Vec<u8>) -> Result<Vec<u8>, String> {
    if !name.ends_with(".hex") {
        return Ok(content);
    }
    let text = String::from_utf8(content).map_err(|error| format!("{name}: {error}"))?;
    let digits: Option<Vec<u8>> = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16)?.try_into().ok())
        .collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => Ok(digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()),
        _ => Err(format!("{name}: not pairs of hexadecimal digits")),
    }
}

/// The first line and what comes after it.
fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_seeds_have_comments() {
        let read = |name, text: &str| bytes_of(name, text.as_bytes().to_vec());
        assert_eq!(read("a.hex", "# x\n00 ff # y\n10\n"), Ok(vec![0, 255, 16]));
        assert_eq!(read("a.txt", "00"), Ok(b"00".to_vec()));
        assert!(read("a.hex", "0").is_err());
        assert!(read("a.hex", "zz").is_err());
    }
}
