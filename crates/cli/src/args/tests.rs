// SPDX-License-Identifier: Apache-2.0
//! The command line, as words are taken.

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(line.split(' '))?;
    clap::FromArgMatches::from_arg_matches(&matches)
}

fn status(flags: &str) -> StatusArgs {
    match parse(&format!("cilium status {flags}"))
        .expect(flags)
        .command
    {
        Command::Status(args) => args,
        other => panic!("{flags}: {other:?}"),
    }
}

#[test]
fn of_a_repeated_flag_the_last_counts() {
    let args = status("-o json --output=yaml -o=json -o yaml --timeout 1s --timeout=500ms");
    assert_eq!(args.output.output, Some(Format::Yaml));
    assert_eq!(args.timeout, Duration::from_millis(500));
    assert!(!status("--brief --brief=true --brief=false").brief);
    assert!(status("--brief=false --brief").brief);
    let cli = parse("cilium -H /a status -H /b").expect("valid");
    assert_eq!(cli.host, PathBuf::from("/b"));
    let Ok(Cli {
        command: Command::Identity(Identity::List { labels, .. }),
        ..
    }) = parse("cilium identity list k8s:a=b k8s:c=d")
    else {
        panic!("labels are no flags")
    };
    assert_eq!(labels, ["k8s:a=b", "k8s:c=d"]);
    assert!(parse("cilium endpoint get 61 62").is_err());
}

#[test]
fn a_boolean_may_have_a_value() {
    let args = status("--verbose --all-clusters=true --all-addresses=f");
    assert!(args.verbose && args.all_clusters && !args.all_addresses && !args.brief);
    assert!(args.require_k8s_connectivity);
    for (flags, expected) in [
        ("--require-k8s-connectivity", true),
        ("--require-k8s-connectivity=false", false),
        ("--require-k8s-connectivity false", false),
    ] {
        assert_eq!(status(flags).require_k8s_connectivity, expected, "{flags}");
    }
    let list = |flags: &str| match parse(&format!("cilium ip list {flags}")) {
        Ok(Cli {
            command: Command::Ip(Ip::List {
                verbose, numeric, ..
            }),
            ..
        }) => (verbose, numeric),
        other => panic!("{flags}: {other:?}"),
    };
    for (flags, expected) in [
        ("-vn", (true, true)),
        ("-v=false -n", (false, true)),
        ("-n=0 -v=1", (true, false)),
        ("--numeric=True --verbose=F", (false, true)),
    ] {
        assert_eq!(list(flags), expected, "{flags}");
    }
    for line in ["status --brief=x", "status --brief false", "bpf policy get"] {
        assert!(parse(&format!("cilium {line}")).is_err(), "{line}");
    }
}

#[test]
fn the_command_line_is_sound() {
    command().debug_assert();
}

#[test]
fn sockets() {
    for (text, path) in [
        ("unix:///run/x.sock", "/run/x.sock"),
        ("/run/x.sock", "/run/x.sock"),
        ("", api::DEFAULT_SOCKET),
    ] {
        let cli = {
            let words = ["cilium", "-H", text, "version"];
            Cli::try_parse_from(words).expect("valid")
        };
        assert_eq!(cli.host, PathBuf::from(path));
    }
}
