// SPDX-License-Identifier: Apache-2.0
//! What the runtime gets for input that is wrong: text and code of every refusal. Touches nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use cni::{Invocation, run};

const CONF: &str = r#"{"cniVersion":"1.0.0","name":"cilium","type":"cilium-cni","socket-path":"/nonexistent/sock","connect-timeout":0}"#;

fn add() -> Invocation {
    Invocation {
        command: Some("ADD".into()),
        container: Some("c1".into()),
        netns: Some("/nonexistent/netns".into()),
        interface: Some("eth0".into()),
        stdin: CONF.into(),
        ..Invocation::default()
    }
}

fn refused(change: impl FnOnce(&mut Invocation)) -> String {
    let mut invocation = add();
    change(&mut invocation);
    let output = run(&invocation);
    assert!(!output.success, "{}", output.text);
    output.text
}

fn conf(change: &str) -> String {
    let text = format!("{},{change}}}", CONF.trim_end_matches('}'));
    refused(|i| i.stdin = text.into())
}

#[test]
fn environment() {
    let texts = [
        refused(|i| i.command = None),
        refused(|i| i.command = Some("gc".into())),
        refused(|i| i.container = None),
        refused(|i| i.container = Some("../x".into())),
        refused(|i| i.interface = None),
        refused(|i| i.interface = Some("a-very-long-interface".into())),
        refused(|i| i.netns = None),
        refused(|i| i.args = Some("K8S_POD_NAME".into())),
        refused(|i| i.args = Some("IgnoreUnknown=1;K8S_POD_NAME=a".into())),
        refused(|i| i.args = Some("K8S_POD_NAME=a/b;K8S_POD_NAMESPACE=c".into())),
    ];
    let expected = [
        r#"{"cniVersion":"1.0.0","code":4,"msg":"CNI_COMMAND is \"\": expected ADD, DEL, CHECK, GC, STATUS or VERSION"}"#,
        r#"{"cniVersion":"1.0.0","code":4,"msg":"CNI_COMMAND is \"gc\": expected ADD, DEL, CHECK, GC, STATUS or VERSION"}"#,
        r#"{"cniVersion":"1.0.0","code":4,"msg":"CNI_CONTAINERID is not set"}"#,
        r#"{"cniVersion":"1.0.0","code":4,"msg":"CNI_CONTAINERID is \"../x\": expected a container id"}"#,
        r#"{"cniVersion":"1.0.0","code":4,"msg":"CNI_IFNAME is not set"}"#,
        r#"{"cniVersion":"1.0.0","code":4,"msg":"CNI_IFNAME is \"a-very-long-interface\": expected a device name"}"#,
        r#"{"cniVersion":"1.0.0","code":4,"msg":"CNI_NETNS is not set"}"#,
        r#"{"cniVersion":"1.0.0","code":4,"msg":"CNI_ARGS is \"K8S_POD_NAME\": expected KEY=VALUE"}"#,
        r#"{"cniVersion":"1.0.0","code":4,"msg":"CNI_ARGS has only one of K8S_POD_NAME and K8S_POD_NAMESPACE"}"#,
        r#"{"cniVersion":"1.0.0","code":4,"msg":"CNI_ARGS is \"K8S_POD_NAME=a/b\": expected a Kubernetes name after the equals sign"}"#,
    ];
    assert_eq!(texts, expected);
}

#[test]
fn configuration() {
    let texts = [
        refused(|i| i.stdin = b"\x00\xffgarbage".to_vec()),
        refused(|i| i.stdin.clear()),
        refused(|i| i.stdin = b"[]".to_vec()),
        refused(|i| i.stdin = br#"{"cniVersion":"3.0.0"}"#.to_vec()),
        conf(r#""chaining-mode":"portmap""#),
        conf(r#""ipam":{"type":"host-local"}"#),
        conf(r#""prevResult":{"ips":[]}"#),
        conf(r#""mtu":20"#),
        conf(r#""mtu":null,"enable-debug":null,"chaining-mode":"portmap""#),
        refused(|i| {
            i.stdin = CONF
                .replace(r#""connect-timeout":0"#, r#""connect-timeout":301"#)
                .into()
        }),
        refused(|i| i.command = Some("STATUS".into())),
        refused(|i| i.command = Some("CHECK".into())),
        refused(|i| i.command = Some("GC".into())),
        refused(|i| {
            i.command = Some("GC".into());
            i.stdin = CONF.replace("1.0.0", "1.1.0").into();
        }),
        refused(|i| {
            i.command = Some("CHECK".into());
            i.stdin = CONF.replace('{', r#"{"prevResult":5,"#).into();
        }),
        refused(|i| {
            i.command = Some("CHECK".into());
            i.stdin = CONF.replace('{', r#"{"prevResult":{"ips":[0]},"#).into();
        }),
        refused(|i| i.stdin = CONF.replace('{', r#"{"ipam":"host-local","#).into()),
    ];
    let expected = [
        r#"{"cniVersion":"1.1.0","code":6,"msg":"the network configuration on standard input is not understood: expected value at line 1 column 1"}"#,
        r#"{"cniVersion":"1.1.0","code":6,"msg":"the network configuration on standard input is not understood: EOF while parsing a value at line 1 column 0"}"#,
        r#"{"cniVersion":"1.1.0","code":6,"msg":"the network configuration on standard input is not understood: invalid length 0, expected a JSON object at line 1 column 2"}"#,
        r#"{"cniVersion":"1.1.0","code":1,"msg":"cniVersion \"3.0.0\" is not supported; supported are 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"}"#,
        r#"{"cniVersion":"1.0.0","code":2,"msg":"the network configuration asks for something that is not supported: chaining-mode: \"portmap\": the plugin is not chained"}"#,
        r#"{"cniVersion":"1.0.0","code":2,"msg":"the network configuration asks for something that is not supported: ipam.type: \"host-local\": addresses come from the agent"}"#,
        r#"{"cniVersion":"1.0.0","code":2,"msg":"the network configuration asks for something that is not supported: prevResult: another plugin ran before: the plugin must be the first of its list"}"#,
        r#"{"cniVersion":"1.0.0","code":7,"msg":"the network configuration is invalid: mtu: 20 is not between 576 and 65535"}"#,
        r#"{"cniVersion":"1.0.0","code":2,"msg":"the network configuration asks for something that is not supported: chaining-mode: \"portmap\": the plugin is not chained"}"#,
        r#"{"cniVersion":"1.0.0","code":7,"msg":"the network configuration is invalid: connect-timeout: 301 s is more than 300 s"}"#,
        r#"{"cniVersion":"1.0.0","code":1,"msg":"cniVersion 1.0.0 has no STATUS; it came with 1.1.0"}"#,
        r#"{"cniVersion":"1.0.0","code":7,"msg":"the network configuration is invalid: prevResult: CHECK needs the result of ADD"}"#,
        r#"{"cniVersion":"1.0.0","code":1,"msg":"cniVersion 1.0.0 has no GC; it came with 1.1.0"}"#,
        r#"{"cniVersion":"1.1.0","code":7,"msg":"the network configuration is invalid: cni.dev/valid-attachments: GC needs the list of what lives"}"#,
        r#"{"cniVersion":"1.0.0","code":7,"msg":"the network configuration is invalid: prevResult: invalid type: integer `5`, expected the result of ADD"}"#,
        r#"{"cniVersion":"1.0.0","code":7,"msg":"the network configuration is invalid: prevResult: invalid type: integer `0`, expected an address as {\"address\": …}"}"#,
        r#"{"cniVersion":"1.0.0","code":6,"msg":"the network configuration on standard input is not understood: invalid type: string \"host-local\", expected ipam as {\"type\": …} at line 1 column 20"}"#,
    ];
    assert_eq!(texts, expected);
}

#[test]
fn namespaces() {
    assert_eq!(
        refused(|_| {}),
        r#"{"cniVersion":"1.0.0","code":3,"msg":"CNI_NETNS: cannot open network namespace /nonexistent/netns: No such file or directory (os error 2)","details":"nothing was made, and there is nothing to delete"}"#
    );
    let text = refused(|i| i.netns = Some("/dev/null".into()));
    assert!(
        text.contains(r#""code":4,"msg":"CNI_NETNS: /dev/null is not a network namespace""#),
        "{text}"
    );
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let text = refused(|i| i.netns = Some(pipe.display().to_string()));
    assert!(text.contains("is not a network namespace"), "{text}");
    let text = refused(|i| i.netns = Some("/proc/self/ns/net".into()));
    assert!(
        text.contains("is the network namespace of the host itself"),
        "{text}"
    );
}

#[test]
fn version() {
    // A runtime of the future gets the list all the same.
    let mut invocation = add();
    invocation.command = Some("VERSION".into());
    invocation.stdin = br#"{"cniVersion":"2.0.0"}"#.to_vec();
    let output = run(&invocation);
    assert!(output.success && output.text.starts_with(r#"{"cniVersion":"1.1.0","supp"#));
    let mut invocation = add();
    invocation.command = Some("VERSION".into());
    let output = run(&invocation);
    assert!(output.success);
    assert_eq!(
        output.text,
        r#"{"cniVersion":"1.0.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#
    );
}
