// SPDX-License-Identifier: Apache-2.0
//! The plugin's log file: one line per event. Standard output belongs to the runtime.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use api::Timestamp;

use crate::input::{Command, Request};

/// A file that has become so large is set aside, in place of the one before. It may be in memory, and nobody else looks
/// after it.
const MAX_BYTES: u64 = 10 << 20;

/// A log, perhaps of nothing: a log file that cannot be opened must not stop a pod.
pub(crate) struct Log {
    file: Option<File>,
    debug: bool,
    context: String,
}

impl Log {
    pub(crate) fn open(request: &Request) -> Self {
        let log = Self {
            file: request.log_file.as_ref().and_then(|path| open(path).ok()),
            debug: request.debug,
            context: context(&request.command),
        };
        log.debug(&format!("agent at {}", request.socket.display()));
        log
    }

    pub(crate) fn debug(&self, text: &str) {
        if self.debug {
            self.line("debug", text);
        }
    }

    pub(crate) fn info(&self, text: &str) {
        self.line("info", text);
    }

    pub(crate) fn warn(&self, text: &str) {
        self.line("warning", text);
    }

    pub(crate) fn error(&self, text: &str) {
        self.line("error", text);
    }

    fn line(&self, level: &str, text: &str) {
        if let Some(mut file) = self.file.as_ref() {
            // One write per line: several plugins share the file.
            let line = format!("{} {level} {}: {text}\n", Timestamp::now(), self.context);
            let _ = file.write_all(line.as_bytes());
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let append = || OpenOptions::new().append(true).create(true).open(path);
    let file = append()?;
    if file.metadata()?.len() < MAX_BYTES {
        return Ok(file);
    }
    // Of several plugins at once more than one may do this; then lines are missing.
    match fs::rename(path, path.with_added_extension("old")) {
        Ok(()) => append(),
        Err(_) => Ok(file),
    }
}

fn context(command: &Command) -> String {
    match command {
        Command::Add(add) => {
            let pod = &add.pod;
            let (container, interface) = (&add.container, &add.interface);
            format!("ADD {}/{} {container} {interface}", pod.namespace, pod.name)
        }
        Command::Delete(delete) => {
            format!(
                "DEL {} {}",
                delete.container,
                delete.interface.as_deref().unwrap_or("*")
            )
        }
        Command::Check(check) => format!("CHECK {} {}", check.container, check.interface),
        Command::Status => "STATUS".into(),
        Command::Collect(_) => "GC".into(),
        Command::Version => "VERSION".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_set_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let [path, old] = ["cni.log", "cni.log.old"].map(|name| dir.path().join(name));
        open(&path).expect("made").write_all(b"1\n").expect("room");
        open(&path).expect("there").write_all(b"2\n").expect("room");
        assert_eq!(fs::read_to_string(&path).expect("text"), "1\n2\n");
        for _ in 0..2 {
            let file = open(&path).expect("there");
            file.set_len(MAX_BYTES).expect("sparse");
            open(&path).expect("made").write_all(b"3\n").expect("room");
            assert_eq!(fs::read_to_string(&path).expect("text"), "3\n");
            assert_eq!(fs::metadata(&old).expect("aside").len(), MAX_BYTES);
        }
    }
}
