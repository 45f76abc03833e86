// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, in words and in the codes of the CNI specification.

use api::queue::QueueError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::version;

/// A failed invocation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Input: no or a wrong `CNI_COMMAND`.
    #[error("CNI_COMMAND is {got:?}: expected ADD, DEL, CHECK, GC, STATUS or VERSION")]
    Command {
        /// What it is.
        got: String,
    },
    /// Input: an environment variable is missing or wrong.
    #[error("{name} {problem}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Input: standard input cannot be read.
    #[error("cannot read the network configuration from standard input: {source}")]
    Stdin {
        /// Why.
        source: io::Error,
    },
    /// Input: no JSON of the right shape.
    #[error("the network configuration on standard input is not understood: {problem}")]
    Json {
        /// What is wrong with it.
        problem: String,
    },
    /// Input: a version that is not spoken.
    #[error(
        "cniVersion {got:?} is not supported; supported are {}",
        version::supported()
    )]
    Version {
        /// The version.
        got: String,
    },
    /// Input: a command that the asked version does not have.
    #[error("cniVersion {version} has no {command}; it came with {since}")]
    TooOld {
        /// The version.
        version: &'static str,
        /// The command.
        command: &'static str,
        /// First version that has it.
        since: &'static str,
    },
    /// Input: a field that asks for something that the plugin does not do.
    #[error(
        "the network configuration asks for something that is not supported: {field}: {problem}"
    )]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What it asks for.
        problem: String,
    },
    /// Input: a field with a value that cannot be right.
    #[error("the network configuration is invalid: {field}: {problem}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Start: no tokio runtime.
    #[error("cannot start: {source}")]
    Runtime {
        /// Why.
        source: io::Error,
    },
    /// Namespace: `CNI_NETNS` does not lead to one.
    #[error("CNI_NETNS: {source}")]
    Namespace {
        /// Why.
        source: netlink::Error,
    },
    /// Namespace: `CNI_NETNS` is the host's own.
    #[error("CNI_NETNS {path} is the network namespace of the host itself", path = .path.display())]
    HostNamespace {
        /// The path.
        path: PathBuf,
    },
    /// Agent: it could not be reached in time.
    #[error("{source}")]
    AgentDown {
        /// How long was waited.
        waited: Duration,
        /// The last failure.
        source: api::Error,
    },
    /// Agent: it refused, or broke off.
    #[error("cannot {operation}: {source}")]
    Agent {
        /// What was asked.
        operation: &'static str,
        /// Why not.
        source: api::Error,
    },
    /// Agent: it answered something that cannot be used.
    #[error("cannot use the agent's answer: {problem}")]
    Answer {
        /// What is wrong with it.
        problem: String,
    },
    /// ADD: there is such an endpoint.
    #[error(
        "container {container} has a working interface {interface} already: DEL comes before another ADD"
    )]
    Present {
        /// Container id.
        container: String,
        /// Interface.
        interface: String,
    },
    /// ADD: another one is not done.
    #[error("another ADD still works in CNI_NETNS {path}", path = .path.display())]
    UnderWay {
        /// The path.
        path: PathBuf,
    },
    /// ADD: the namespace has an interface of this name, and it is of no attachment of this container.
    #[error("CNI_NETNS has an interface {interface} already, of another plugin or container")]
    Occupied {
        /// Interface.
        interface: String,
    },
    /// ADD, DEL: the kernel refused.
    #[error("{source}")]
    Kernel {
        /// What and why.
        #[from]
        source: netlink::Error,
    },
    /// DEL: the deletion could not be queued.
    #[error("cannot queue the deletion for the agent: {source}")]
    Queue {
        /// Why not.
        #[from]
        source: QueueError,
    },
    /// CHECK: the agent says that the endpoint failed.
    #[error(
        "the agent reports overall health {health:?} of the endpoint of container {container}{}",
        because(.reason.as_deref())
    )]
    Unhealthy {
        /// Container id.
        container: String,
        /// The agent's word.
        health: String,
        /// The newest line of the endpoint's log.
        reason: Option<String>,
    },
    /// CHECK: the container's network is not as ADD left it.
    #[error("the network of the container is not as it was made: {problem}")]
    Changed {
        /// What differs.
        problem: String,
    },
    /// STATUS: no pod can be added now.
    #[error("the agent is not ready: {problem}")]
    NotReady {
        /// Why.
        problem: String,
    },
}

impl Error {
    /// The number for the runtime: below 100 as the specification says, from 100 on our own.
    pub fn code(&self) -> u32 {
        match self {
            Error::Version { .. } | Error::TooOld { .. } => 1,
            Error::Unsupported { .. } => 2,
            Error::Namespace { source } if source.is_absent() => 3,
            Error::Command { .. }
            | Error::Variable { .. }
            | Error::Namespace { .. }
            | Error::HostNamespace { .. } => 4,
            Error::Queue {
                source: QueueError::Full { .. },
            } => 11,
            Error::Stdin { .. }
            | Error::Runtime { .. }
            | Error::Kernel { .. }
            | Error::Queue { .. } => 5,
            Error::Json { .. } => 6,
            Error::Config { .. } => 7,
            Error::AgentDown { .. } | Error::UnderWay { .. } => 11,
            Error::Agent { source, .. } if passes(source) => 11,
            Error::NotReady { .. } => 50,
            Error::Agent { .. } | Error::Answer { .. } => 100,
            Error::Unhealthy { .. } => 101,
            Error::Present { .. } | Error::Occupied { .. } => 102,
            Error::Changed { .. } => 103,
        }
    }

    /// What to look at.
    fn details(&self) -> String {
        match self {
            Error::AgentDown { waited, .. } => format!(
                "waited {:.1} s for the agent; check that its pod or process runs on this node, its log, and that \
                 CILIUM_SOCK or socket-path names its socket",
                waited.as_secs_f64()
            ),
            Error::Agent {
                source: api::Error::Refused { code, .. },
                ..
            } => {
                format!("status {} of the agent", code.as_u16())
            }
            Error::Namespace { .. } => "nothing was made, and there is nothing to delete".into(),
            _ => String::new(),
        }
    }
}

fn because(reason: Option<&str>) -> String {
    reason
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default()
}

/// Whether trying again later may help.
fn passes(error: &api::Error) -> bool {
    match error {
        api::Error::Refused { code, .. } => matches!(code.as_u16(), 429 | 503),
        other => {
            other.is_agent_down()
                || matches!(
                    other,
                    api::Error::Timeout { .. } | api::Error::Broken { .. }
                )
        }
    }
}

/// Whether the failure of a request says that the agent is away or not ready, so that waiting or queueing is right.
pub(crate) fn is_away(error: &api::Error) -> bool {
    passes(error)
}

/// An error, and what else failed while its traces were removed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) left: Vec<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            left: Vec::new(),
        }
    }
}

impl Failure {
    fn details(&self) -> String {
        let mut details = self.error.details();
        for left in &self.left {
            if !details.is_empty() {
                details += "; ";
            }
            details += "also, while undoing: ";
            details += left;
        }
        details
    }

    pub(crate) fn to_json(&self, version: &str) -> String {
        let mut object = json!({
            "cniVersion": version,
            "code": self.error.code(),
            "msg": self.error.to_string(),
        });
        let details = self.details();
        if !details.is_empty() {
            object["details"] = details.into();
        }
        object.to_string()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}: {}", self.error.code(), self.error)?;
        match self.details().as_str() {
            "" => Ok(()),
            details => write!(f, " ({details})"),
        }
    }
}
