// SPDX-License-Identifier: Apache-2.0
//! The agent's directory of options: a line `name=value` per file.

use std::fs;

/// Files per run: each costs system calls.
const FILES: usize = 8;

pub(crate) fn options(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory for the options");
    for line in data.split(|byte| *byte == b'\n').take(FILES) {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let Ok(name) = std::str::from_utf8(&line[..at]) else {
            continue;
        };
        // Names that no file can have are no concern of the reader.
        if !name.contains(['/', '\0']) {
            let _no_name = fs::write(directory.path().join(name), &line[at + 1..]);
        }
    }
    if let Err(text) = config::fuzzing::options(directory.path()) {
        assert!(!text.trim().is_empty(), "refused without a word");
    }
}
