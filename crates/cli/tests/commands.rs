// SPDX-License-Identifier: Apache-2.0
//! Whole commands against an agent behind a real socket: what is printed where, and the exit status.
//!
//! A command prints to the process's own standard output, so every one runs in a child: this test binary again.
#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(
    dead_code,
    unused_imports,
    reason = "the fake agent is shared with the tests of the api crate"
)]

#[path = "../../api/tests/common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};

const ARGS: &str = "ISTHMUS_TEST_ARGS";

#[test]
fn child() {
    let Ok(args) = std::env::var(ARGS) else {
        return;
    };
    let args = args.split('\n').map(Into::into).collect();
    let code = cli::main("isthmus", args);
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 1 });
}

fn command(socket: &Path, line: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--quiet"])
        .env(ARGS, line.replace(' ', "\n"))
        .env("CILIUM_SOCK", socket);
    command
}

async fn run(socket: &Path, line: &str) -> Output {
    let mut command = command(socket, line);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.into()).unwrap()
}

#[tokio::test]
async fn a_command_of_cilium_that_is_not_here_says_why() {
    let lab = common::lab();
    for line in ["encrypt status -o json", "-H /x encrypt status"] {
        let done = run(&lab.socket, line).await;
        assert!(!done.status.success(), "{line}");
        let told = text(&done.stderr);
        let expected = "encrypt status is not supported: the tunnel is not encrypted";
        assert!(told.contains(expected), "{line}: {told}");
    }
    let unknown = text(&run(&lab.socket, "encript").await.stderr);
    assert!(unknown.contains("unrecognized subcommand"), "{unknown}");
}

#[tokio::test]
async fn commands_print_and_succeed() {
    let lab = common::lab();
    for (line, expected) in [
        ("status", "Cilium:                  Ok   0.1.0\n"),
        ("status --brief", "OK\n"),
        ("status -o jsonpath={.cilium.state}", "Ok\n"),
        (
            "node list",
            "Name   IPv4 Address   Endpoint CIDR   IPv6 Address   Endpoint CIDR   Source\n",
        ),
        (
            "endpoint list",
            "61         Disabled           Disabled          <no label id>   no labels",
        ),
        ("endpoint list -o yaml", "- id: 61\n"),
        ("endpoint labels 61", "k8s:app=web   Enabled\n"),
        (
            "endpoint labels 61 -o jsonpath={.status.security-relevant[0]}",
            "k8s:app=web\n",
        ),
        ("config", "##### Read-write configurations #####\n"),
        ("config -a", "\nClusterName                       : east\n"),
        ("config -r -o json", "{\n  \"ClusterName\": \"east\"\n}\n"),
        ("config get cluster-name", "east\n"),
        ("config get ClusterName -o json", "\"east\"\n"),
        ("config -o yaml get ClusterName -o json", "\"east\"\n"),
        ("config -o json get ClusterName", "\"east\"\n"),
        ("endpoint health 61", "Overall Health:   OK\n"),
        ("identity get 70312", "\"id\": 70312"),
        ("ip list", "IP   IDENTITY   SOURCE\n"),
        (
            "service list",
            "ID   Frontend   Service Type   Backend   \n",
        ),
        ("policy get", "Revision: 0\n"),
        (
            "bpf metrics list",
            "REASON   DIRECTION   PACKETS   BYTES   LINE   FILE\n",
        ),
        (
            "map list",
            "Name        Num entries   Num errors   Cache enabled\nist_flows   unknown       0            false\n",
        ),
        (
            "map get ist_flows",
            "Key             Value             State   Error\naddr=10.5.1.2   identity=327681   ok      \n",
        ),
        (
            "metrics list",
            "cilium_drop_count_total   direction=INGRESS reason=Policy denied   12.000000\n",
        ),
        (
            "metrics list -p map_name=ist -o json",
            "[\n  {\n    \"labels\": {\n      \"map_name\": \"ist_flows\"\n    },\n    \"name\": \"cilium_bpf_map_pressure\",\n    \"value\": 0.25\n  }\n]\n",
        ),
        (
            "metrics list --match-pattern drop_count.*total$ -o jsonpath={[*].value}",
            "12\n",
        ),
        ("kvstore get a/b", "a/b => {\"x\":1}\n"),
        ("kvstore get a --recursive", "a/1 => one\na/2 => two\n"),
        (
            "kvstore get a --recursive -o json",
            "{\n  \"a/1\": \"one\",\n",
        ),
        ("completion bash", "complete -F _isthmus"),
        ("version", "Daemon: 1.2.3\n"),
        ("version", "Client: 0.1.0 rust version "),
        ("version -o jsonpath={.Daemon.Version}", "1.2.3\n"),
        (
            "troubleshoot clustermesh",
            "expected when Cluster Mesh is disabled",
        ),
        ("status --timeout 1m30s", "Cilium:"),
        ("status --brief=false --timeout 2500ms", "Cilium:"),
        ("status -o json -o jsonpath={.cilium.state}", "Ok\n"),
        ("--help", "Show dropped packets as they happen"),
        ("help bpf ct list", "Show how long each flow still lives"),
    ] {
        let output = run(&lab.socket, line).await;
        let stdout = text(&output.stdout);
        assert!(output.status.success(), "{line}: {output:?}");
        assert!(stdout.contains(expected), "{line}: {stdout}");
        assert!(output.stderr.is_empty(), "{line}: {output:?}");
    }
}

#[tokio::test]
async fn failures_are_one_line_and_an_exit_status() {
    let lab = common::lab();
    let nowhere = lab.socket.with_file_name("nowhere.sock");
    for (socket, line, expected) in [
        (&nowhere, "status", "Error: no agent here: socket "),
        (&nowhere, "monitor", "Error: no agent here: socket "),
        (
            &lab.socket,
            "endpoint get 9",
            "Error: the agent refused: no endpoint cilium-local:9 (404)\n",
        ),
        (
            &lab.socket,
            "bpf ipcache list",
            "Error: the agent refused: the map is gone (500)\n",
        ),
        (
            &lab.socket,
            "bpf policy get --all=false",
            "Error: bpf policy get: the number of an endpoint, or --all, is expected\n",
        ),
        (
            &lab.socket,
            "config get colour",
            "Error: colour: the agent has no such option; list all with: config --all\n",
        ),
        (
            &lab.socket,
            "config -a get ClusterName",
            "Error: --all or --read-only: config get shows one option",
        ),
        (
            &nowhere,
            "config -H /nowhere/x.sock get ClusterName",
            "Error: no agent here: socket /nowhere/x.sock",
        ),
        (
            &lab.socket,
            "config Debug=true",
            "Error: Debug=true: options are set when the agent starts",
        ),
        (
            &lab.socket,
            "bpf ct list mine",
            "Error: mine: global or the number of an endpoint is expected\n",
        ),
    ] {
        let output = run(socket, line).await;
        let stderr = text(&output.stderr);
        assert!(!output.status.success(), "{line}");
        assert!(stderr.starts_with(expected), "{line}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{line}: {stderr}");
    }
    for (line, expected) in [
        ("endpoint get x:1", "unknown endpoint ID prefix"),
        ("status -o xml", "json, yaml or jsonpath="),
        ("sttus", "status"),
        ("metrics list -p a(", "a regular expression is expected: "),
        ("monitor -t trace", "possible values: drop"),
    ] {
        let output = run(&lab.socket, line).await;
        assert!(!output.status.success(), "{line}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(expected), "{line}: {stderr}");
    }
    let version = run(&nowhere, "version").await;
    assert!(!version.status.success());
    assert!(text(&version.stdout).contains("Daemon: Not responding\n"));
    assert!(text(&version.stderr).starts_with("Error: no agent here: socket "));
}

/// A refusal may hold words of others; they must not control the terminal.
#[tokio::test]
async fn control_characters_in_refusals_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cilium.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).unwrap();
        let answer =
            "HTTP/1.1 500 No\r\nisthmus-api: 1\r\ncontent-length: 12\r\n\r\nno\x1b[2J\nOK \x07.";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let output = run(&socket, "node list").await;
    assert!(!output.status.success());
    assert_eq!(
        text(&output.stderr),
        "Error: the agent refused: no\u{fffd}[2J\u{fffd}OK \u{fffd}. (500)\n"
    );
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_command_quietly() {
    let lab = common::lab();
    let mut child = command(&lab.socket, "bpf ct list")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = tokio::task::spawn_blocking(move || {
        // The test harness of the child writes first, and does not bear a closed pipe.
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("expires=") {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "a flow is printed");
        }
        drop(stdout);
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[tokio::test]
async fn monitor_prints_drops_as_they_happen() {
    let lab = common::lab();
    let mut child = command(&lab.socket, "monitor -t drop --to 2 -j")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = tokio::task::spawn_blocking(move || {
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let line = stdout
            .lines()
            .map_while(Result::ok)
            .find(|l| l.starts_with('{'));
        child.kill().unwrap();
        child.wait().unwrap();
        line.unwrap()
    });
    let line = line.await.unwrap();
    let drop: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(drop["type"], "drop");
    assert_eq!(drop["source"], 2);
}
