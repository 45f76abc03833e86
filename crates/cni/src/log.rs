// SPDX-License-Identifier: Apache-2.0
//! The plugin's log file: one line per event. Standard output belongs to the runtime.

use std::fs::{File, OpenOptions};
use std::io::Write;

use api::Timestamp;

use crate::input::{Command, Request};

/// A log, perhaps of nothing: a log file that cannot be opened must not stop a pod.
pub(crate) struct Log {
    file: Option<File>,
    debug: bool,
    context: String,
}

impl Log {
    pub(crate) fn open(request: &Request) -> Self {
        let open = |path| OpenOptions::new().append(true).create(true).open(path).ok();
        let log = Self {
            file: request.log_file.as_ref().and_then(open),
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
