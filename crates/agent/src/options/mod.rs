// SPDX-License-Identifier: Apache-2.0
//! Reading options: flags win over the environment (`CILIUM_…`), which wins over the directory.
//!
//! Flags and environment are written for this program: an unknown one is an error that names the nearest. The
//! directory is a map that people share with other parts: an unknown key is a warning, see [`foreign`].

mod defs;
mod foreign;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, ArgAction, Command};

use defs::{Def, Kind, OPTIONS};

/// Environment variables with our prefix that are no options of the agent.
const OTHER_ENV: &[&str] = &[
    "CILIUM_SOCK",
    "CILIUM_HEALTH_SOCK",
    "CILIUM_MONITOR_SOCK",
    "CILIUM_K8S_NAMESPACE",
    "CILIUM_CLI_MODE",
    "CILIUM_ETCD_STATUS_CHECK_INTERVAL",
];

/// Largest file of the directory that is read as a value.
const MAX_VALUE: u64 = 1 << 20;

/// Values by option name, complete with defaults, and what to tell the operator.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Values {
    values: BTreeMap<&'static str, String>,
    /// Options that somebody set.
    given: BTreeMap<&'static str, String>,
    /// Keys of the directory that have no effect.
    pub(crate) warnings: Vec<String>,
}

/// Why options are refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum OptionError {
    /// Clap's text: unknown flag, missing value, or `--help`.
    #[error("{text}")]
    Flags {
        /// What to print.
        text: String,
        /// It is help, not an error.
        help: bool,
    },
    /// An environment variable with our prefix that is no option.
    #[error("environment variable {name} is not an option of the agent{}", nearest_env(.nearest))]
    UnknownEnv {
        /// The variable.
        name: String,
        /// The nearest option.
        nearest: Option<&'static str>,
    },
    /// The directory cannot be read.
    #[error("cannot read option directory {path}: {reason}; check --config-dir and its mount")]
    Directory {
        /// The directory or file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A key of the directory asks for a feature that is not there.
    #[error(
        "{key}: {value:?} in {dir} asks for something that this agent does not do; remove the key or set it to one of: {harmless}"
    )]
    Refused {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// Values that are accepted.
        harmless: String,
        /// The directory.
        dir: String,
    },
}

fn nearest_env(nearest: &Option<&'static str>) -> String {
    nearest
        .map(|name| format!("; did you mean {}?", env_name(name)))
        .unwrap_or_default()
}

fn env_name(option: &str) -> String {
    format!("CILIUM_{}", option.replace('-', "_").to_ascii_uppercase())
}

impl Values {
    /// Reads flags, environment and directory.
    pub(crate) fn read(
        args: impl IntoIterator<Item = OsString>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Values, OptionError> {
        let mut given = BTreeMap::new();
        from_flags(args, &mut given)?;
        from_env(env, &mut given)?;
        let mut warnings = Vec::new();
        if let Some(dir) = given
            .get("config-dir")
            .cloned()
            .filter(|dir| !dir.is_empty())
        {
            from_directory(Path::new(&dir), &mut given, &mut warnings)?;
        }
        let mut values: BTreeMap<_, _> = OPTIONS
            .iter()
            .map(|def| (def.name, def.default.to_owned()))
            .collect();
        values.extend(given.clone());
        Ok(Values {
            values,
            given,
            warnings,
        })
    }

    /// The value of an option of the table.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.values
            .get(name)
            .map(String::as_str)
            .expect("an option of the table")
    }

    /// All options and values, for status.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
    }
}

fn command() -> Command {
    let args = OPTIONS.iter().map(|def| {
        let arg = Arg::new(def.name)
            .long(def.name)
            .help(help_of(def))
            .help_heading(def.section);
        match def.kind {
            Kind::Bool => arg
                .num_args(0..=1)
                .default_missing_value("true")
                .require_equals(true)
                .value_name("BOOL"),
            Kind::List | Kind::Map => arg.action(ArgAction::Append).value_name("VALUE,…"),
            Kind::Duration => arg.value_name("DURATION"),
            Kind::Number => arg.value_name("N"),
            Kind::Text => arg.value_name("VALUE"),
        }
    });
    Command::new("isthmus agent")
        .about("The node's agent: addresses for pods, the node's part of the mesh, and the datapath")
        .after_help("Every option can also be set by environment (CILIUM_CLUSTER_NAME=… for --cluster-name) or by a file of that name in --config-dir.")
        .no_binary_name(true)
        .args(args)
}

fn help_of(def: &Def) -> String {
    if def.default.is_empty() {
        def.help.to_owned()
    } else {
        format!("{} [default: {}]", def.help, def.default)
    }
}

fn from_flags(
    args: impl IntoIterator<Item = OsString>,
    given: &mut BTreeMap<&'static str, String>,
) -> Result<(), OptionError> {
    let matches = command()
        .try_get_matches_from(args)
        .map_err(|error| OptionError::Flags {
            text: error.render().to_string(),
            help: error.kind() == clap::error::ErrorKind::DisplayHelp,
        })?;
    for def in OPTIONS {
        if let Some(values) = matches.get_many::<String>(def.name) {
            given.insert(def.name, values.cloned().collect::<Vec<_>>().join(","));
        }
    }
    Ok(())
}

fn from_env(
    env: impl IntoIterator<Item = (String, String)>,
    given: &mut BTreeMap<&'static str, String>,
) -> Result<(), OptionError> {
    for (name, value) in env {
        let Some(rest) = name.strip_prefix("CILIUM_") else {
            continue;
        };
        if OTHER_ENV.contains(&name.as_str()) || is_service_variable(rest) {
            continue;
        }
        let option = rest.replace('_', "-").to_ascii_lowercase();
        match defs::find(&option) {
            Some(def) => {
                given.entry(def.name).or_insert(value);
            }
            None => {
                return Err(OptionError::UnknownEnv {
                    name,
                    nearest: defs::nearest(&option),
                });
            }
        }
    }
    Ok(())
}

/// Kubernetes sets such variables for every Service, e.g. for one named `cilium-ingress`.
fn is_service_variable(rest: &str) -> bool {
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || rest.contains("_PORT_")
}

fn from_directory(
    dir: &Path,
    given: &mut BTreeMap<&'static str, String>,
    warnings: &mut Vec<String>,
) -> Result<(), OptionError> {
    let error = |path: &Path, reason: std::io::Error| OptionError::Directory {
        path: path.display().to_string(),
        reason: reason.to_string(),
    };
    for entry in std::fs::read_dir(dir).map_err(|e| error(dir, e))? {
        let path = entry.map_err(|e| error(dir, e))?.path();
        let Some(key) = path
            .file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
        else {
            continue;
        };
        if key.starts_with('.') || !path.is_file() {
            continue;
        }
        let size = std::fs::metadata(&path).map_err(|e| error(&path, e))?.len();
        let text = if size > MAX_VALUE {
            None
        } else {
            std::fs::read_to_string(&path).ok()
        };
        let Some(value) = text.map(|text| text.trim_end_matches('\n').to_owned()) else {
            warnings.push(format!(
                "{key} in {}: not a text of at most 1 MiB; it has no effect",
                dir.display()
            ));
            continue;
        };
        if let Some(def) = defs::find(&key) {
            given.entry(def.name).or_insert(value);
            continue;
        }
        match foreign::take(&key, &value) {
            foreign::Taken::Accepted => {}
            foreign::Taken::Refused { harmless } => {
                return Err(OptionError::Refused {
                    key,
                    value,
                    harmless,
                    dir: dir.display().to_string(),
                });
            }
            foreign::Taken::Unknown => {
                let near = defs::nearest(&key)
                    .map(|near| format!("; did you mean {near}?"))
                    .unwrap_or_default();
                warnings.push(format!(
                    "{key} in {} is not known and has no effect{near}",
                    dir.display()
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], env: &[(&str, &str)]) -> Result<Values, OptionError> {
        let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        Values::read(args.iter().map(OsString::from), env)
    }

    #[test]
    fn flags_win_over_environment_and_directory() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("cluster-name"), "from-dir\n").expect("write");
        std::fs::write(dir.path().join("cluster-id"), "7").expect("write");
        std::fs::write(dir.path().join("enable-ipv6"), "false").expect("write");
        let dir = dir.path().to_str().expect("utf-8");
        let values = read(
            &["--cluster-name=flag", "--config-dir", dir],
            &[("CILIUM_CLUSTER_ID", "5")],
        )
        .expect("valid");
        assert_eq!(values.get("cluster-name"), "flag");
        assert_eq!(values.get("cluster-id"), "5");
        assert_eq!(values.get("enable-ipv6"), "false");
        assert_eq!(values.get("tunnel-port"), "8472");
    }

    #[test]
    fn unknown_flags_and_variables_name_the_nearest() {
        let error = read(&["--cluster-nam=x"], &[])
            .expect_err("unknown")
            .to_string();
        assert!(error.contains("--cluster-name"), "{error}");
        let error = read(&[], &[("CILIUM_CLUSTER_NAM", "x")])
            .expect_err("unknown")
            .to_string();
        assert!(error.contains("CILIUM_CLUSTER_NAME"), "{error}");
        assert!(
            read(
                &[],
                &[
                    ("CILIUM_INGRESS_SERVICE_HOST", "10.0.0.1"),
                    ("CILIUM_SOCK", "/x")
                ]
            )
            .is_ok()
        );
    }

    #[test]
    fn directory_keys_of_others() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().to_str().expect("utf-8");
        for (key, value) in [
            ("enable-wireguard", "false"),
            ("enable-hubble", "true"),
            ("clustermesh-confg", "/x"),
            ("routing-mode", "tunnel"),
        ] {
            std::fs::write(dir.path().join(key), value).expect("write");
        }
        let values = read(&["--config-dir", path], &[]).expect("valid");
        assert_eq!(values.warnings.len(), 2);
        assert!(
            values
                .warnings
                .iter()
                .any(|w| w.contains("did you mean clustermesh-config?"))
        );
        std::fs::write(dir.path().join("enable-wireguard"), "true").expect("write");
        let error = read(&["--config-dir", path], &[])
            .expect_err("refused")
            .to_string();
        assert!(error.contains("enable-wireguard"), "{error}");
    }

    #[test]
    fn help_lists_every_option() {
        let Err(OptionError::Flags { text, help: true }) = read(&["--help"], &[]) else {
            panic!("no help")
        };
        assert!(OPTIONS.iter().all(|def| text.contains(def.name)));
    }
}
