// SPDX-License-Identifier: Apache-2.0
//! A node's event stream, collected while something is provoked.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Doing, Result};
use crate::wait::eventually;

/// A running `cilium monitor`.
pub struct Monitor {
    child: Child,
    reader: Option<thread::JoinHandle<()>>,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Monitor {
    /// Starts `command`, which prints an event per line.
    pub(crate) fn start(mut command: Command, node: &str) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().doing("start the monitor of", node)?;
        let stdout = child.stdout.take().expect("piped above");
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout)
                .lines()
                .map_while(std::io::Result::ok)
            {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sink.lock()
                    .expect("nobody panics while holding it")
                    .push(event);
            }
        });
        Ok(Self {
            child,
            reader: Some(reader),
            events,
        })
    }

    /// All events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.events
            .lock()
            .expect("nobody panics while holding it")
            .clone()
    }

    /// Waits for an event that `wanted` accepts.
    ///
    /// # Errors
    /// None within 3 s; says which came instead.
    pub fn find(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        eventually(what, Duration::from_secs(3), || {
            let events = self.events();
            match events.iter().rev().find(|event| wanted(event)) {
                Some(event) => Ok(event.clone()),
                None => Err(format!(
                    "{} events, the last: {:?}",
                    events.len(),
                    events.last()
                )),
            }
        })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Both fail only if it ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ended = reader.join();
        }
    }
}
