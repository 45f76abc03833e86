// SPDX-License-Identifier: Apache-2.0
//! What can go wrong on the socket: one line each, saying what is wrong, where, and what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;

/// An error of the server's socket or of the client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bind: somebody answers there already.
    #[error(
        "an agent already listens on {path}: only one agent can run on a node; stop the other one, or give this one its own --socket-path and --state-dir"
    )]
    AgentRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Bind: something else has that name.
    #[error("{path} exists and is not a socket: remove it, or choose another --socket-path")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// Bind: the operating system refuses.
    #[error("cannot {step} {path}: {source}")]
    Bind {
        /// What was tried.
        step: &'static str,
        /// The socket.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// Connect: no such file.
    #[error(
        "no agent here: socket {path} does not exist; start the agent (isthmus agent), or name its socket with -H or CILIUM_SOCK"
    )]
    NoSocket {
        /// The socket.
        path: PathBuf,
    },
    /// Connect: the file is there, the process is not.
    #[error(
        "the agent is down: nobody listens on {path}; start it (isthmus agent) and look at the end of its log"
    )]
    AgentDown {
        /// The socket.
        path: PathBuf,
    },
    /// Connect: not allowed.
    #[error("no permission to use {path}: run as root or as a member of the group cilium")]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// Connect: any other refusal.
    #[error("cannot connect to {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// Exchange: what answers is no agent of ours.
    #[error(
        "{path} is not the socket of an Isthmus agent: {why}; name the right one with -H or CILIUM_SOCK (usually /var/run/cilium/cilium.sock)"
    )]
    NotAnAgent {
        /// The socket.
        path: PathBuf,
        /// How it was noticed.
        why: String,
    },
    /// Exchange: program and agent are of different releases.
    #[error(
        "version mismatch: the agent on {path} speaks version {theirs} of the API and this program version {ours}; use the program of the agent's release"
    )]
    Version {
        /// The socket.
        path: PathBuf,
        /// Of the agent.
        theirs: String,
        /// Of this program.
        ours: u32,
    },
    /// Exchange: no answer in time.
    #[error(
        "the agent on {path} did not answer within {} s: it is overloaded or stopped; look at its process and its log", .after.as_secs()
    )]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// Exchange: the connection broke in the middle of an answer.
    #[error("the connection to the agent on {path} broke: {why}; try again")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// The agent refused.
    #[error("the agent refused: {} ({})", reason(*.code, .text), .code.as_u16())]
    Refused {
        /// Status code.
        code: StatusCode,
        /// Its words.
        text: String,
    },
    /// Answer: not what this program understands.
    #[error("the answer of the agent on {path} to {request} is not understood: {why}")]
    Answer {
        /// The socket.
        path: PathBuf,
        /// Path of the request.
        request: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Whether no agent could be reached at all (it may be started later).
    pub fn is_agent_down(&self) -> bool {
        matches!(self, Error::NoSocket { .. } | Error::AgentDown { .. })
    }

    /// The status code, if the agent refused.
    pub fn refused(&self) -> Option<StatusCode> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// The agent's words, or what its code says where the API gives it none.
fn reason(code: StatusCode, words: &str) -> &str {
    match code {
        _ if !words.is_empty() => words,
        StatusCode::NOT_FOUND => "it has no such thing",
        _ => "no reason given",
    }
}
