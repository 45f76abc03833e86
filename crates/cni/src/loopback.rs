// SPDX-License-Identifier: Apache-2.0
//! The plugin under the name `loopback`: container runtimes bring a pod's own loopback device up with it, and most bring no
//! such plugin along. It needs no agent.

use std::path::Path;

use netlink::{NetNs, Socket};
use serde_json::json;

use crate::version::{self, Version};
use crate::{Error, Invocation, Output, refusal};

const DEVICE: &str = "lo";

/// Runs one invocation.
pub(crate) fn run(invocation: &Invocation) -> Output {
    let version = version::of_stdin(&invocation.stdin);
    match answer(invocation, &version) {
        Ok(text) => Output {
            text,
            success: true,
        },
        Err(error) => refusal(&version, &error.into()),
    }
}

fn answer(invocation: &Invocation, version: &str) -> Result<String, Error> {
    let command = invocation.command.as_deref().unwrap_or_default();
    match command {
        "ADD" => {
            let netns = netns(invocation)?;
            socket(netns)?.set_up(DEVICE)?;
            Ok(result(version, netns))
        }
        "CHECK" => {
            let device = socket(netns(invocation)?)?.link(DEVICE)?;
            if device.is_some_and(|device| device.up) {
                Ok(String::new())
            } else {
                Err(Error::Changed {
                    problem: format!("{DEVICE} is down"),
                })
            }
        }
        // The device goes with its namespace; one that is gone already is what was asked for.
        "DEL" | "STATUS" | "GC" => Ok(String::new()),
        "VERSION" => Ok(version::answer(version::for_answer(Some(version)))),
        other => Err(Error::Command {
            got: other.chars().take(32).collect(),
        }),
    }
}

fn netns(invocation: &Invocation) -> Result<&Path, Error> {
    let missing = || Error::Variable {
        name: "CNI_NETNS",
        problem: "is missing: the path of the container's network namespace".into(),
    };
    invocation
        .netns
        .as_deref()
        .map(Path::new)
        .ok_or_else(missing)
}

fn socket(netns: &Path) -> Result<Socket, Error> {
    Ok(Socket::open_in(&NetNs::open(netns)?)?)
}

/// Addresses are those that the kernel gives the device when it comes up.
fn result(version: &str, netns: &Path) -> String {
    let parsed = Version::parse(Some(version)).unwrap_or(Version::V1_1_0);
    let address = |address: &str, family: &str| {
        let mut ip = json!({ "address": address, "interface": 0 });
        if parsed < Version::V1_0_0 {
            ip["version"] = family.into();
        }
        ip
    };
    json!({
        "cniVersion": version,
        "interfaces": [{ "name": DEVICE, "mac": "00:00:00:00:00:00", "sandbox": netns }],
        "ips": [address("127.0.0.1/8", "4"), address("::1/128", "6")],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(command: &str, netns: Option<&str>) -> Output {
        run(&Invocation {
            command: Some(command.into()),
            netns: netns.map(str::to_owned),
            stdin: br#"{"cniVersion":"1.0.0","name":"cni-loopback","type":"loopback"}"#.to_vec(),
            ..Invocation::default()
        })
    }

    #[test]
    fn what_needs_no_namespace_and_what_does() {
        assert!(call("DEL", Some("/absent")).success);
        assert!(call("VERSION", None).text.contains("supportedVersions"));
        let refused = call("ADD", None);
        assert!(!refused.success && refused.text.contains("CNI_NETNS is missing"));
        assert!(!call("ADD", Some("/absent")).success);
        assert!(!call("WHAT", None).success);
    }

    #[test]
    fn older_versions_name_the_family() {
        assert!(result("0.4.0", Path::new("/n")).contains(r#""version":"4""#));
        assert!(!result("1.0.0", Path::new("/n")).contains(r#""version""#));
    }
}
