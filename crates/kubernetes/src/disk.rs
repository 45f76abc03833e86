// SPDX-License-Identifier: Apache-2.0
//! The last good state on disk: a line with the digest, then JSON. Replaced as a whole.

use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// Larger files are not ours.
const MAX_BYTES: u64 = 1 << 30;

/// Reads the file. `None`: there is none.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, String> {
    let size = match std::fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    if size > MAX_BYTES {
        return Err(format!(
            "{size} bytes, at most {MAX_BYTES} are read; it is ignored"
        ));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))?;
    let (sum, body) = text.split_once('\n').unwrap_or((&text, ""));
    if sum != digest(body) {
        return Err("is damaged: its digest does not fit; it is ignored".into());
    }
    serde_json::from_str(body)
        .map(Some)
        .map_err(|error| format!("is damaged: {error}; it is ignored"))
}

/// Writes the file.
pub(crate) fn write(file: &Path, saved: &impl Serialize) -> Result<(), String> {
    let body = serde_json::to_string(saved).expect("texts");
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{}\n{body}", digest(&body)))
        .and_then(|()| std::fs::rename(&new, file))
        .map_err(|error| {
            // What is left of it may be all that fits the disk.
            let _gone = std::fs::remove_file(&new);
            format!("cannot be written: {error}")
        })
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("saved");
        std::fs::create_dir_all(file.join("in the way")).expect("a directory");
        assert!(write(&file, &"x").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).expect("names").count(), 1);
        std::fs::remove_dir_all(&file).expect("removed");
        assert_eq!(write(&file, &"x"), Ok(()));
        assert_eq!(read::<String>(&file), Ok(Some("x".into())));
    }
}
