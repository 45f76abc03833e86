// SPDX-License-Identifier: Apache-2.0
//! Where options come from, who wins, and what is said about those that are wrong.

use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

fn read(args: &[&str], env: &[(&str, &str)]) -> Values {
    let env = env.iter().map(|(k, v)| (k.into(), v.into()));
    Values::read(Process::Agent, args.iter().map(OsString::from), env)
        .expect("no help was asked for")
}

fn from_dir(dir: &Path) -> Values {
    read(&["--config-dir", dir.to_str().expect("UTF-8")], &[])
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        std::fs::write(dir.join(name), text).expect("write");
    }
}

fn none(texts: &[String]) {
    assert!(texts.is_empty(), "{texts:?}");
}

#[test]
fn flags_win_over_environment_and_directory() {
    let dir = tempfile::tempdir().expect("temp dir");
    write(
        dir.path(),
        &[
            ("cluster-name", "from-dir\n"),
            ("cluster-id", "7"),
            ("enable-ipv6", "false\r\n"),
        ],
    );
    let path = dir.path().to_str().expect("utf-8");
    let values = read(
        &["--cluster-name=flag", "--config-dir", path],
        &[("CILIUM_CLUSTER_ID", "5")],
    );
    none(&values.problems);
    assert_eq!(values.get("cluster-name"), "flag");
    assert_eq!(values.get("cluster-id"), "5");
    assert_eq!(values.get("enable-ipv6"), "false");
    assert_eq!(values.get("tunnel-port"), "8472");
    assert_eq!(values.named("cluster-name"), "--cluster-name=flag");
    assert_eq!(values.named("cluster-id"), "CILIUM_CLUSTER_ID=5");
    let file = dir.path().join("enable-ipv6");
    let named = format!("{} (enable-ipv6=false)", file.display());
    assert_eq!(values.named("enable-ipv6"), named);
    assert!(values.is_given("enable-ipv6") && !values.is_given("mtu"));
}

#[test]
fn the_last_of_a_flag_counts_and_lists_are_joined() {
    let values = read(
        &[
            "--cluster-id=1",
            "--cluster-id",
            "2",
            "--devices=a",
            "--devices=b,c",
        ],
        &[],
    );
    none(&values.problems);
    assert_eq!(values.get("cluster-id"), "2");
    assert_eq!(values.get("devices"), "a,b,c");
}

#[test]
fn unknown_flags_and_variables_are_all_named_with_the_nearest() {
    let values = read(
        &[
            "--cluster-nam=x",
            "--kvstor",
            "etcd",
            "--enable-hubble=true",
            "--zzz",
        ],
        &[
            ("CILIUM_CLUSTER_NAM", "x"),
            ("CILIUM_ENABLE_WIREGUARD", "true"),
            ("CILIUM_INGRESS_SERVICE_HOST", "10.0.0.1"),
            ("CILIUM_SOCK", "/x"),
            ("PATH", "/bin"),
        ],
    );
    let text = values.problems.join("\n");
    assert_eq!(values.problems.len(), 6, "{text}");
    for part in [
        "--cluster-nam is not an option of the agent; did you mean --cluster-name?",
        "--kvstor is not an option of the agent; did you mean --kvstore?",
        "--enable-hubble is an option of Cilium that this agent does not have",
        "--zzz is not an option of the agent (isthmus agent --help",
        "variable CILIUM_CLUSTER_NAM is not an option of the agent; did you mean CILIUM_CLUSTER_NAME?",
        "CILIUM_ENABLE_WIREGUARD is not an option of the agent: Cilium has",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for args in [&["--mtu"][..], &["stray"], &["-x"]] {
        let values = read(args, &[]);
        assert_eq!(values.problems.len(), 1, "{:?}", values.problems);
        assert!(!values.problems[0].contains('\n'));
    }
}

#[test]
fn bytes_that_are_no_text_are_an_error_and_no_panic() {
    let bad = || OsString::from_vec(b"\xff\xfe".to_vec());
    let mut flag = OsString::from("--cluster-name=");
    flag.push(bad());
    for args in [vec![flag], vec![bad()]] {
        let values = Values::read(Process::Agent, args, []).expect("no help");
        assert_eq!(values.problems.len(), 1, "{:?}", values.problems);
    }
    let env = [
        (OsString::from("CILIUM_CLUSTER_NAME"), bad()),
        (bad(), bad()),
        ("LANG".into(), bad()),
    ];
    let values = Values::read(Process::Agent, [], env).expect("no help");
    assert_eq!(values.problems, ["CILIUM_CLUSTER_NAME: not UTF-8 text"]);
}

#[test]
fn a_mounted_config_map() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("..2026_05_04_10_00_00.123");
    std::fs::create_dir(&data).expect("a directory");
    write(&data, &[("cluster-name", "west\n"), ("mtu", "")]);
    symlink(data.file_name().expect("a name"), dir.path().join("..data")).expect("a link");
    for key in ["cluster-name", "mtu"] {
        symlink(format!("..data/{key}"), dir.path().join(key)).expect("a link");
    }
    symlink("..data/gone", dir.path().join("cluster-id")).expect("a link");
    std::fs::create_dir(dir.path().join("lost+found")).expect("a directory");
    let values = from_dir(dir.path());
    none(&values.problems);
    assert_eq!(values.get("cluster-name"), "west");
    assert_eq!(values.get("mtu"), "0", "an empty number is not given");
    assert_eq!(values.get("cluster-id"), "0");
    assert_eq!(values.warnings.len(), 1, "{:?}", values.warnings);
    assert!(values.warnings[0].contains("cluster-id: named like an option but not a file"));
}

#[test]
fn empty_texts_are_values() {
    let dir = tempfile::tempdir().expect("temp dir");
    write(dir.path(), &[("state-dir", ""), ("labels", "\n")]);
    let values = from_dir(dir.path());
    assert_eq!((values.get("state-dir"), values.get("labels")), ("", ""));
}

#[test]
fn files_that_are_no_values() {
    let dir = tempfile::tempdir().expect("temp dir");
    let huge = "x".repeat((1 << 20) + 1);
    write(dir.path(), &[("cluster-name", &huge), ("notes", &huge)]);
    std::fs::write(dir.path().join("labels"), b"\xff").expect("write");
    let values = from_dir(dir.path());
    let problems = values.problems.join("\n");
    assert!(problems.contains("larger than 1 MiB"), "{problems}");
    assert!(problems.contains("not UTF-8 text"), "{problems}");
    assert_eq!(values.problems.len(), 2, "{problems}");
    assert_eq!(values.warnings.len(), 1, "{:?}", values.warnings);
    let nowhere = from_dir(&dir.path().join("nowhere"));
    assert!(nowhere.problems[0].contains("check its mount"));
}

#[test]
fn directory_keys_of_others() {
    let dir = tempfile::tempdir().expect("temp dir");
    write(
        dir.path(),
        &[
            ("enable-wireguard", "false"),
            ("enable-hubble", "true"),
            ("clustermesh-confg", "/x"),
            ("routing-mode", "tunnel"),
        ],
    );
    let values = from_dir(dir.path());
    none(&values.problems);
    let warnings = values.warnings.join("\n");
    assert_eq!(values.warnings.len(), 2, "{warnings}");
    assert!(warnings.contains("did you mean clustermesh-config?"));
    assert!(warnings.contains("enable-hubble: \"true\""), "{warnings}");
    write(
        dir.path(),
        &[("enable-wireguard", "true"), ("routing-mode", "native")],
    );
    let values = from_dir(dir.path());
    let problems = values.problems.join("\n");
    assert_eq!(values.problems.len(), 2, "{problems}");
    assert!(
        problems.contains("enable-wireguard: \"true\""),
        "{problems}"
    );
    assert!(problems.contains("set it to one of: tunnel"), "{problems}");
}

/// The keys and values that an installation of Cilium with its defaults has in its map.
#[test]
fn a_map_made_for_cilium_does_not_stop_the_agent() {
    let dir = tempfile::tempdir().expect("temp dir");
    for line in include_str!("tests/cilium-config").lines() {
        let Some((key, value)) = line.split_once(": ") else {
            continue;
        };
        std::fs::write(dir.path().join(key), value.trim_matches('"')).expect("write");
    }
    let values = from_dir(dir.path());
    none(&values.problems);
    let told: Vec<_> = values
        .warnings
        .iter()
        .map(|text| text.split(':').next().unwrap_or_default())
        .collect();
    assert_eq!(told, ["enable-hubble"], "{:?}", values.warnings);
}

#[test]
fn help_lists_every_option_and_default() {
    let mut listed = std::collections::BTreeSet::new();
    for process in [Process::Agent, Process::Operator] {
        let Err(OptionErrors::Help(text)) = Values::read(process, ["--help".into()], []) else {
            panic!("no help")
        };
        // As wide as the terminal: lines break anywhere.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for def in options() {
            // Behind the name its value is described.
            let is_listed = [" <", "[=<"]
                .iter()
                .any(|value| text.contains(&format!("--{}{value}", def.name)));
            assert_eq!(is_listed, defs::is_of(process, def), "{}", def.name);
            if !is_listed {
                continue;
            }
            listed.insert(def.name);
            let default = format!("[default: {}]", def.default);
            assert!(
                def.default.is_empty() || text.contains(&default),
                "{default}"
            );
        }
        assert!(text.contains("K8S_NODE_NAME"));
    }
    assert_eq!(listed.len(), options().count(), "no option is nobody's");
    let version = Values::read(Process::Agent, ["--version".into()], []);
    let expected = format!("isthmus agent {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(version, Err(OptionErrors::Help(expected)));
    // Asked for help, nobody wants to read about errors first.
    let args = ["--nonsense".into(), "--help".into()];
    assert!(Values::read(Process::Agent, args, []).is_ok());
}

#[test]
fn names_are_unique_and_documented() {
    let names: std::collections::BTreeSet<_> = defs::options().map(|def| def.name).collect();
    assert_eq!(names.len(), defs::options().count());
    assert!(defs::options().all(|def| def.help.len() > 10));
}
