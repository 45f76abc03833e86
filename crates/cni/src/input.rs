// SPDX-License-Identifier: Apache-2.0
//! What the runtime hands over: environment and network configuration, checked.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::Error;
use crate::config::NetConf;
use crate::result::Previous;
use crate::version::{self, Version};

/// Largest network configuration, bytes.
const STDIN_MAX: u64 = 1 << 20;
/// Longest container id and Kubernetes name, bytes.
const NAME_MAX: usize = 253;
/// Longest device name, bytes.
const DEVICE_MAX: usize = 15;

/// Environment and standard input of one start of the plugin, unchecked.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Invocation {
    /// `CNI_COMMAND`.
    pub command: Option<String>,
    /// `CNI_CONTAINERID`.
    pub container: Option<String>,
    /// `CNI_NETNS`.
    pub netns: Option<String>,
    /// `CNI_IFNAME`.
    pub interface: Option<String>,
    /// `CNI_ARGS`.
    pub args: Option<String>,
    /// `CILIUM_SOCK`.
    pub socket: Option<String>,
    /// Standard input.
    pub stdin: Vec<u8>,
}

impl Invocation {
    /// Reads the environment and standard input of the process.
    ///
    /// # Errors
    /// [`Error::Stdin`], [`Error::Json`] if it is too long.
    pub fn from_process() -> Result<Self, Error> {
        let variable = |name| {
            env::var_os(name)
                .map(readable)
                .filter(|value| !value.is_empty())
        };
        Ok(Self {
            command: variable("CNI_COMMAND"),
            container: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            interface: variable("CNI_IFNAME"),
            args: variable("CNI_ARGS"),
            socket: variable(api::SOCKET_ENV),
            stdin: read_bounded(io::stdin().lock())?,
        })
    }

    pub(crate) fn parse(&self) -> Result<Request, Error> {
        let kind = self.command.as_deref().unwrap_or_default();
        if !matches!(kind, "ADD" | "DEL" | "CHECK" | "GC" | "STATUS" | "VERSION") {
            return Err(Error::Command {
                got: kind.chars().take(32).collect(),
            });
        }
        let conf: NetConf = serde_json::from_slice(&self.stdin).map_err(|e| Error::Json {
            problem: e.to_string(),
        })?;
        let asked = conf.cni_version.as_deref();
        if kind == "VERSION" {
            let version = version::for_answer(asked);
            return conf.request(Command::Version, version, None);
        }
        let version = Version::parse(asked)?;
        let command = match kind {
            "ADD" => Command::Add(Add {
                container: self.container()?,
                interface: self.interface()?,
                netns: self.netns()?,
                pod: self.pod()?,
            }),
            "DEL" => Command::Delete(Delete {
                container: self.container()?,
                interface: self
                    .interface
                    .is_some()
                    .then(|| self.interface())
                    .transpose()?,
            }),
            "CHECK" => Command::Check(self.check(version, conf.prev_result.clone())?),
            "GC" => Command::Collect(conf.collect(version)?),
            _ => {
                at_least(version, Version::V1_1_0, "STATUS")?;
                Command::Status
            }
        };
        if let Command::Add(_) = command {
            conf.refuse_unsupported()?;
        }
        conf.request(command, version, self.socket.as_deref())
    }

    fn check(&self, version: Version, previous: Option<serde_json::Value>) -> Result<Check, Error> {
        at_least(version, Version::V0_4_0, "CHECK")?;
        let config = |problem: String| Error::Config {
            field: "prevResult",
            problem,
        };
        let previous = previous.ok_or_else(|| config("CHECK needs the result of ADD".into()))?;
        Ok(Check {
            container: self.container()?,
            interface: self.interface()?,
            netns: self.netns()?,
            previous: serde_json::from_value(previous).map_err(|e| config(e.to_string()))?,
        })
    }

    fn container(&self) -> Result<String, Error> {
        const NAME: &str = "CNI_CONTAINERID";
        let text = required(NAME, self.container.as_deref())?;
        let good = text.len() <= NAME_MAX
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if good {
            Ok(text.to_owned())
        } else {
            Err(wrong(NAME, text, "a container id"))
        }
    }

    fn interface(&self) -> Result<String, Error> {
        const NAME: &str = "CNI_IFNAME";
        let text = required(NAME, self.interface.as_deref())?;
        let good = text.len() <= DEVICE_MAX
            && !matches!(text, "." | ".." | "lo")
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
        if good {
            Ok(text.to_owned())
        } else {
            Err(wrong(NAME, text, "a device name"))
        }
    }

    fn netns(&self) -> Result<PathBuf, Error> {
        required("CNI_NETNS", self.netns.as_deref()).map(PathBuf::from)
    }

    /// The pod of `CNI_ARGS`: `K8S_POD_NAME=…;K8S_POD_NAMESPACE=…`. Other keys belong to others.
    fn pod(&self) -> Result<Pod, Error> {
        const NAME: &str = "CNI_ARGS";
        let mut pod = Pod::default();
        let text = self.args.as_deref().unwrap_or_default();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(wrong(NAME, pair, "KEY=VALUE"));
            };
            let field = match key {
                "K8S_POD_NAME" => &mut pod.name,
                "K8S_POD_NAMESPACE" => &mut pod.namespace,
                "K8S_POD_UID" => &mut pod.uid,
                _ => continue,
            };
            let good = value.len() <= NAME_MAX
                && value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
            if !good {
                return Err(wrong(NAME, pair, "a Kubernetes name after the equals sign"));
            }
            *field = value.to_owned();
        }
        if pod.name.is_empty() != pod.namespace.is_empty() {
            let problem = "has only one of K8S_POD_NAME and K8S_POD_NAMESPACE".to_owned();
            return Err(Error::Variable {
                name: NAME,
                problem,
            });
        }
        Ok(pod)
    }
}

fn required<'a>(name: &'static str, value: Option<&'a str>) -> Result<&'a str, Error> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Error::Variable {
            name,
            problem: "is not set".into(),
        })
}

fn wrong(name: &'static str, text: &str, expected: &str) -> Error {
    let text: String = text.chars().take(64).collect();
    Error::Variable {
        name,
        problem: format!("is {text:?}: expected {expected}"),
    }
}

/// Refuses a command that the version does not have.
pub(crate) fn at_least(
    version: Version,
    since: Version,
    command: &'static str,
) -> Result<(), Error> {
    if version >= since {
        Ok(())
    } else {
        Err(Error::TooOld {
            version: version.as_str(),
            command,
            since: since.as_str(),
        })
    }
}

/// A variable that is no text is set all the same: what replaces its bytes is refused where it stands. A DEL without a name
/// would take all interfaces of its container.
fn readable(variable: OsString) -> String {
    variable.to_string_lossy().into_owned()
}

/// Reads a bounded configuration.
fn read_bounded(from: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    from.take(STDIN_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Stdin { source })?;
    if bytes.len() as u64 > STDIN_MAX {
        return Err(Error::Json {
            problem: "it is longer than 1 MiB".into(),
        });
    }
    Ok(bytes)
}

/// What is to be done, with everything that it needs.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Command {
    Add(Add),
    Delete(Delete),
    Check(Check),
    Collect(Collect),
    Status,
    Version,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Add {
    pub(crate) container: String,
    pub(crate) interface: String,
    pub(crate) netns: PathBuf,
    pub(crate) pod: Pod,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Delete {
    pub(crate) container: String,
    /// `None`: all interfaces of the container.
    pub(crate) interface: Option<String>,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Check {
    pub(crate) container: String,
    pub(crate) interface: String,
    pub(crate) netns: PathBuf,
    pub(crate) previous: Previous,
}

/// What GC is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Collect {
    pub(crate) valid: BTreeSet<Living>,
}

impl Collect {
    pub(crate) fn lives(&self, container: &str, interface: &str) -> bool {
        self.valid.contains(&Living {
            container: container.to_owned(),
            interface: interface.to_owned(),
        })
    }
}

/// An interface that a container has.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Debug)]
#[serde(expecting = "an attachment as {\"containerID\": …, \"ifname\": …}")]
pub(crate) struct Living {
    #[serde(rename = "containerID")]
    pub(crate) container: String,
    #[serde(rename = "ifname")]
    pub(crate) interface: String,
}

/// A Kubernetes pod; all empty outside Kubernetes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
}

/// A checked invocation.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) version: Version,
    pub(crate) socket: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) connect_timeout: Duration,
    /// MTU wished for the container, bytes; 0: the agent's.
    pub(crate) mtu: u32,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) debug: bool,
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn endless_input_is_cut() {
        let error = read_bounded(io::repeat(b' ')).expect_err("too long");
        assert_eq!(error.code(), 6);
        assert_eq!(read_bounded(&b"{}"[..]).expect("short"), b"{}");
    }

    #[test]
    fn a_name_that_is_no_text_is_not_absent() {
        let bytes = OsString::from_vec(b"eth\xff".to_vec());
        let invocation = Invocation {
            command: Some("DEL".into()),
            container: Some("c1".into()),
            interface: Some(readable(bytes)),
            stdin: br#"{"cniVersion":"1.0.0"}"#.to_vec(),
            ..Invocation::default()
        };
        let error = invocation.parse().expect_err("no device has such a name");
        assert!(error.to_string().contains("CNI_IFNAME"), "{error}");
    }
}
