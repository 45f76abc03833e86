// SPDX-License-Identifier: Apache-2.0
//! The plugin under the name `loopback`: container runtimes bring a pod's own loopback device up with it, and most bring no
//! such plugin along. It needs no agent.

use std::path::Path;

use netlink::{NetNs, Socket};
use serde_json::json;

use crate::input::at_least;
use crate::version::{self, Version};
use crate::{Error, Invocation, Output, refusal};

const DEVICE: &str = "lo";

/// Runs one invocation.
pub(crate) fn run(invocation: &Invocation) -> Output {
    match answer(invocation) {
        Ok(text) => Output {
            text,
            success: true,
        },
        Err(error) => refusal(&version::of_stdin(&invocation.stdin), &error.into()),
    }
}

fn answer(invocation: &Invocation) -> Result<String, Error> {
    let asked = version::asked(&invocation.stdin)?;
    let command = invocation.command.as_deref().unwrap_or_default();
    if command == "VERSION" {
        return Ok(version::answer(version::for_answer(asked.as_deref())));
    }
    let version = Version::parse(asked.as_deref())?;
    match command {
        "ADD" => {
            let netns = netns(invocation)?;
            socket(netns)?.set_up(DEVICE)?;
            Ok(result(version, netns))
        }
        "CHECK" => {
            at_least(version, Version::V0_4_0, "CHECK")?;
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
        "DEL" => Ok(String::new()),
        "STATUS" => at_least(version, Version::V1_1_0, "STATUS").map(|()| String::new()),
        "GC" => at_least(version, Version::V1_1_0, "GC").map(|()| String::new()),
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

/// The JSON for `version`. Addresses are those that the kernel gives the device when it comes up.
fn result(version: Version, netns: &Path) -> String {
    let (v4, v6) = ("127.0.0.1/8", "::1/128");
    let mut object = match version {
        Version::V0_1_0 | Version::V0_2_0 => json!({ "ip4": { "ip": v4 }, "ip6": { "ip": v6 } }),
        _ => {
            let address = |address: &str, family: &str| {
                let mut ip = json!({ "address": address, "interface": 0 });
                if version < Version::V1_0_0 {
                    ip["version"] = family.into();
                }
                ip
            };
            json!({
                "interfaces": [{ "name": DEVICE, "mac": "00:00:00:00:00:00", "sandbox": netns }],
                "ips": [address(v4, "4"), address(v6, "6")],
            })
        }
    };
    object["cniVersion"] = version.as_str().into();
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call_with(command: &str, netns: Option<&str>, stdin: &str) -> Output {
        run(&Invocation {
            command: Some(command.into()),
            netns: netns.map(str::to_owned),
            stdin: stdin.into(),
            ..Invocation::default()
        })
    }

    fn call(command: &str, netns: Option<&str>) -> Output {
        let stdin = r#"{"cniVersion":"1.0.0","name":"cni-loopback","type":"loopback"}"#;
        call_with(command, netns, stdin)
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
    fn versions_that_are_not_spoken_are_refused() {
        for command in ["ADD", "DEL", "CHECK"] {
            let output = call_with(command, Some("/absent"), r#"{"cniVersion":"9.9.9"}"#);
            assert!(!output.success, "{command}");
            assert!(output.text.contains(r#""code":1,"#), "{}", output.text);
            assert!(output.text.contains("9.9.9"), "{}", output.text);
        }
        // A runtime that speaks a newer one asks for a common one.
        let output = call_with("VERSION", None, r#"{"cniVersion":"9.9.9"}"#);
        assert!(output.success && output.text.contains("1.1.0"));
        // An absent version is the first, and has no CHECK.
        let output = call_with("CHECK", Some("/absent"), "{}");
        let told = r#"cniVersion 0.1.0 has no CHECK; it came with 0.4.0"#;
        assert!(output.text.contains(told), "{}", output.text);
        assert!(call_with("DEL", None, "{}").success);
        let output = call_with("ADD", Some("/absent"), "garbage");
        assert!(output.text.contains(r#""code":6,"#), "{}", output.text);
    }

    #[test]
    fn results_have_the_shape_of_their_version() {
        let of = |version| result(version, Path::new("/n"));
        let oldest: serde_json::Value = serde_json::from_str(&of(Version::V0_2_0)).expect("JSON");
        let wanted = json!({
            "cniVersion": "0.2.0",
            "ip4": { "ip": "127.0.0.1/8" },
            "ip6": { "ip": "::1/128" },
        });
        assert_eq!(oldest, wanted);
        assert!(of(Version::V0_4_0).contains(r#""version":"4""#));
        assert!(of(Version::V1_0_0).contains(r#""interfaces""#));
        assert!(!of(Version::V1_0_0).contains(r#""version""#));
    }
}
