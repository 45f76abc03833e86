// SPDX-License-Identifier: Apache-2.0
//! Programs run to their end with a time limit, and daemons that are remembered by pid and start time.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Doing, LabError, Result};

/// How long a helper program may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// It cannot start, takes longer than `limit` (it is killed then), or its status is not 0.
pub fn output(command: Command, limit: Duration) -> Result<String> {
    output_with_input(command, &[], limit)
}

/// As [`output`], with bytes for standard input.
///
/// # Errors
/// As [`output`].
pub fn output_with_input(command: Command, input: &[u8], limit: Duration) -> Result<String> {
    finish(command, input, limit)?.output()
}

/// What a command left behind.
#[derive(Debug)]
pub struct Done {
    /// Program and arguments.
    pub command: String,
    /// Exit status in words.
    pub status: String,
    /// Exit status 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Done {
    /// Standard output.
    ///
    /// # Errors
    /// The status is not 0; with standard error, or standard output where that is empty.
    pub fn output(self) -> Result<String> {
        if self.success {
            return Ok(self.stdout);
        }
        let output = if self.stderr.trim().is_empty() {
            self.stdout
        } else {
            self.stderr
        };
        Err(LabError::Command {
            command: self.command,
            status: self.status,
            output: output.trim().to_owned(),
        })
    }
}

/// Runs a command to its end whatever its status.
///
/// # Errors
/// It cannot start, or its input cannot be written.
pub fn finish(command: Command, input: &[u8], limit: Duration) -> Result<Done> {
    run(command, Input::Bytes(input), limit)
}

/// As [`finish`], with a standard input where nothing is written and that does not end, as at a terminal
/// where nobody types.
///
/// # Errors
/// As [`finish`].
pub fn finish_untouched(command: Command, limit: Duration) -> Result<Done> {
    run(command, Input::Open, limit)
}

enum Input<'a> {
    /// These, and then it ends.
    Bytes(&'a [u8]),
    /// Nothing, until the program ends.
    Open,
}

fn run(mut command: Command, input: Input<'_>, limit: Duration) -> Result<Done> {
    if crate::interrupt::is_set() {
        return Err(LabError::Interrupted);
    }
    let text = words(&command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().doing("start", &text)?;
    let mut stdin = child.stdin.take().expect("piped above");
    let mut stdout = child.stdout.take().expect("piped above");
    let mut stderr = child.stderr.take().expect("piped above");
    thread::scope(|scope| {
        let held = match input {
            Input::Bytes(bytes) => {
                scope.spawn(move || {
                    // A program that does not read its input closes it: its status tells.
                    let _closed = stdin.write_all(bytes);
                });
                None
            }
            Input::Open => Some(stdin),
        };
        let out = scope.spawn(move || read_text(&mut stdout));
        let err = scope.spawn(move || read_text(&mut stderr));
        let status = wait(&mut child, limit).doing("wait for", &text)?;
        drop(held);
        let join = |reader: thread::ScopedJoinHandle<'_, String>| reader.join().unwrap_or_default();
        Ok(Done {
            command: text,
            status: status.map_or_else(
                || format!("no answer within {limit:?}"),
                |status| status.to_string(),
            ),
            success: status.is_some_and(|status| status.success()),
            stdout: join(out),
            stderr: join(err),
        })
    })
}

fn read_text(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // What arrived before a failing read is still worth showing.
    let _partial = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(300);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn words(command: &Command) -> String {
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    let program = command.get_program().to_string_lossy();
    std::iter::once(program)
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A process of the lab that runs until it is told to end. Dropping the value leaves it running: what
/// is recorded in the lab's directory is ended by the teardown.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    record: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output appended to `log`, and records pid and start time in `record`.
    ///
    /// # Errors
    /// It cannot start, or the record cannot be written (it is killed then).
    pub fn start(mut command: Command, log: &Path, record: &Path) -> Result<Self> {
        if crate::interrupt::is_set() {
            return Err(LabError::Interrupted);
        }
        let text = words(&command);
        let log_file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .doing("open log", log)?;
        let copy = log_file.try_clone().doing("open log", log)?;
        command.stdin(Stdio::null()).stdout(log_file).stderr(copy);
        let child = command.spawn().doing("start", &text)?;
        let mut daemon = Self {
            child,
            record: record.to_path_buf(),
        };
        let pid = daemon.pid();
        let line = format!("{pid} {}\n", start_time(pid).unwrap_or_default());
        if let Err(error) = fs::write(record, line) {
            daemon.kill();
            return Err(error).doing("record a process in", record);
        }
        Ok(daemon)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are positive i32")
    }

    /// How it ended, or `None` while it runs.
    pub fn exit_status(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()), signal).doing("signal", &self.record)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        // Both fail only when it is gone already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        let _forgotten = fs::remove_file(&self.record);
    }

    /// SIGTERM, then `kill -9` after `grace`. Returns true if it ended by itself.
    pub fn stop(&mut self, grace: Duration) -> bool {
        let asked = self.signal(Signal::SIGTERM).is_ok();
        let ended = asked && matches!(wait(&mut self.child, grace), Ok(Some(_)));
        self.kill();
        ended
    }
}

/// When a process started, in clock ticks since boot: together with the pid it names one process.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields after the parenthesised name; the start time is the 22nd of all.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}
