// SPDX-License-Identifier: Apache-2.0
//! What the program is this time.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// What to be.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The agent of this node.
    Agent {
        /// Its arguments, without `agent`.
        args: Vec<OsString>,
    },
    /// The operator of a cluster.
    Operator {
        /// Its arguments, without `operator`.
        args: Vec<OsString>,
    },
    /// The CNI plugin.
    Cni,
    /// The CNI plugin for a pod's own loopback device.
    Loopback,
    /// Installing in a cluster or on a node.
    Install {
        /// The name to show in usage lines.
        program: String,
        /// Its arguments, without the program's name.
        args: Vec<OsString>,
    },
    /// An operator's command.
    Cli {
        /// The name to show in usage lines.
        program: String,
        /// Its arguments, without the program's name.
        args: Vec<OsString>,
    },
}

/// Reads the role off the command line (`words`, with the program's name first).
pub(crate) fn role(words: impl IntoIterator<Item = OsString>) -> Role {
    let mut words = words.into_iter();
    let name = words.next().unwrap_or_default();
    let name = Path::new(&name).file_name().and_then(OsStr::to_str);
    let program = name.unwrap_or("isthmus").to_owned();
    let mut args: Vec<OsString> = words.collect();
    if matches!(program.as_str(), "isthmus-cni" | "cilium-cni") {
        return Role::Cni;
    }
    if program == "loopback" {
        return Role::Loopback;
    }
    let word = |at: usize| args.get(at).and_then(|word| word.to_str());
    match (word(0), word(1)) {
        (Some("agent"), _) => {
            args.remove(0);
            Role::Agent { args }
        }
        (Some("operator"), _) => {
            args.remove(0);
            Role::Operator { args }
        }
        (Some("help"), Some("operator")) => Role::Operator {
            args: vec!["--help".into()],
        },
        (Some("help"), Some("agent")) => Role::Agent {
            args: vec!["--help".into()],
        },
        (Some("help"), Some(command)) if install::COMMANDS.contains(&command) => Role::Install {
            args: vec![command.into(), "--help".into()],
            program,
        },
        (Some("cni"), _) => Role::Cni,
        (Some(command), _) if install::COMMANDS.contains(&command) => {
            Role::Install { program, args }
        }
        _ => Role::Cli { program, args },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Role {
        role(line.split(' ').map(OsString::from))
    }

    #[test]
    fn by_name_and_by_first_argument() {
        for name in ["/opt/cni/bin/cilium-cni", "isthmus-cni", "isthmus cni"] {
            assert_eq!(of(name), Role::Cni);
        }
        let Role::Agent { args } = of("isthmus agent --cluster-name x") else {
            panic!("the agent");
        };
        assert_eq!(args, ["--cluster-name", "x"]);
        let Role::Agent { args } = of("isthmus help agent") else {
            panic!("the agent");
        };
        assert_eq!(args, ["--help"]);
        let Role::Operator { args } = of("isthmus operator --log-level debug") else {
            panic!("the operator");
        };
        assert_eq!(args, ["--log-level", "debug"]);
        let Role::Cli { program, args } = of("/usr/bin/cilium-dbg node list") else {
            panic!("a command");
        };
        assert_eq!((program.as_str(), args.len()), ("cilium-dbg", 2));
        assert_eq!(of("/opt/cni/bin/loopback"), Role::Loopback);
        assert!(matches!(of("isthmus install -n x"), Role::Install { .. }));
        let Role::Install { args, .. } = of("isthmus help uninstall") else {
            panic!("the installer");
        };
        assert_eq!(args, ["uninstall", "--help"]);
        assert!(matches!(of("isthmus"), Role::Cli { .. }));
        assert!(matches!(of("isthmus endpoint agent"), Role::Cli { .. }));
    }

    #[test]
    fn the_help_names_all_that_the_program_is() {
        let help = cli::command().render_help().to_string();
        for word in install::COMMANDS
            .iter()
            .chain(&["agent", "operator", "cni"])
        {
            assert!(help.contains(&format!("\n  {word} ")), "{word}: {help}");
        }
    }
}
