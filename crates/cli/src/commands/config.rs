// SPDX-License-Identifier: Apache-2.0
//! `config` and `config get`.

use std::collections::BTreeMap;

use api::Client;
use api::models::{DaemonConfigurationSpec, DaemonConfigurationStatus};
use serde_json::{Map, Value};

use crate::args::{Config, ConfigCommand};
use crate::text::{clean, enabled};
use crate::{Error, output};

/// What can be changed besides options, in the name that Cilium has for it.
const ENFORCEMENT: &str = "PolicyEnforcement";

pub(super) async fn run(client: &Client, args: Config) -> Result<(), Error> {
    if let Some(change) = args.changes.into_iter().next() {
        return Err(Error::Argument {
            argument: change,
            why: "options are set when the agent starts (isthmus agent --help); show one with: config get OPTION".into(),
        });
    }
    if args.command.is_some() && (args.all || args.read_only) {
        return Err(Error::Argument {
            argument: "--all or --read-only".into(),
            why: "config get shows one option; leave the flag out".into(),
        });
    }
    let status = client.config().await?.status.unwrap_or_default();
    if let Some(ConfigCommand::Get { name, output }) = args.command {
        let value = find(&status, &name)?;
        let format = output.output.or(args.output.output);
        return output::answer(format.as_ref(), &value, |value| line(value) + "\n");
    }
    let shown = Shown {
        read_only: args.read_only || args.all,
        changeable: args.all || !args.read_only,
    };
    match &args.output.output {
        Some(format) => output::print(&format.text(&values(&status, shown))?),
        None => output::print(&text(&status, shown)),
    }
}

/// Which of the two parts are shown.
#[derive(Clone, Copy)]
struct Shown {
    /// What is set when the agent starts.
    read_only: bool,
    /// What could be changed while it runs.
    changeable: bool,
}

fn realized(status: &DaemonConfigurationStatus) -> DaemonConfigurationSpec {
    status.realized.clone().unwrap_or_default()
}

/// For `-o`: the options alone, as long as only one part is shown.
fn values(status: &DaemonConfigurationStatus, shown: Shown) -> Value {
    let realized = realized(status);
    let options: Map<String, Value> = realized
        .options
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    if !shown.read_only {
        return options.into();
    }
    let mut all = status.daemon_configuration_map.clone();
    if shown.changeable {
        all.insert("options".into(), options.into());
        all.insert(
            "policy-enforcement".into(),
            realized.policy_enforcement.into(),
        );
    }
    all.into()
}

fn text(status: &DaemonConfigurationStatus, shown: Shown) -> String {
    let mut text = String::new();
    if shown.read_only {
        text += "#### Read-only configurations ####\n";
        let mut names: Vec<&String> = status.daemon_configuration_map.keys().collect();
        names.sort();
        for name in names {
            text += &row(name, &line(&status.daemon_configuration_map[name]));
        }
        text += &row("k8s-configuration", &status.k8s_configuration);
        text += &row("k8s-endpoint", &status.k8s_endpoint);
        text += &switches(&status.immutable);
    }
    if shown.changeable {
        let realized = realized(status);
        text += "##### Read-write configurations #####\n";
        text += &switches(&realized.options);
        if let Some(monitor) = &status.node_monitor {
            text += &row("MonitorNumPages", &monitor.npages.to_string());
        }
        text += &row(ENFORCEMENT, &realized.policy_enforcement);
    }
    text
}

fn row(name: &str, value: &str) -> String {
    format!("{:<34}: {}\n", clean(name), clean(value))
}

/// Options of which most are on or off.
fn switches(options: &BTreeMap<String, String>) -> String {
    let word = |value: &str| match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "enable" | "enabled" | "1" => enabled(true).to_owned(),
        "false" | "off" | "disable" | "disabled" | "0" => enabled(false).to_owned(),
        _ => value.to_owned(),
    };
    let rows = options.iter().map(|(name, value)| row(name, &word(value)));
    rows.collect()
}

/// A value on one line.
fn line(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    }
}

/// The option of this name, whether it is written like a flag or like a field.
fn find(status: &DaemonConfigurationStatus, name: &str) -> Result<Value, Error> {
    let plain = |name: &str| -> String {
        let kept = name.chars().filter(|c| c.is_ascii_alphanumeric());
        kept.map(|c| c.to_ascii_lowercase()).collect()
    };
    let wanted = plain(name);
    let realized = realized(status);
    if wanted == plain(ENFORCEMENT) {
        return Ok(realized.policy_enforcement.into());
    }
    let mut changeable = realized.options.into_iter();
    if let Some((_, value)) = changeable.find(|(name, _)| plain(name) == wanted) {
        return Ok(value.into());
    }
    let mut fixed = status.daemon_configuration_map.iter();
    let found = fixed.find(|(name, _)| plain(name) == wanted);
    let value = found.map(|(_, value)| value.clone());
    value.ok_or_else(|| Error::Argument {
        argument: name.to_owned(),
        why: "the agent has no such option; list all with: config --all".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> DaemonConfigurationStatus {
        let text = json!({
            "realized": {"options": {"Debug": "false"}, "policy-enforcement": "default"},
            "nodeMonitor": {"npages": 64},
            "daemonConfigurationMap": {
                "ClusterName": "east", "ClusterId": "1", "Devices": "a\nb", "EnableIPv4": "true",
            },
        });
        serde_json::from_value(text).expect("a status")
    }

    fn shown(read_only: bool, changeable: bool) -> Shown {
        Shown {
            read_only,
            changeable,
        }
    }

    const FIXED: &str = "#### Read-only configurations ####\n\
        ClusterId                         : 1\n\
        ClusterName                       : east\n\
        Devices                           : a\u{fffd}b\n\
        EnableIPv4                        : true\n\
        k8s-configuration                 : \n\
        k8s-endpoint                      : \n";
    const CHANGEABLE: &str = "##### Read-write configurations #####\n\
        Debug                             : Disabled\n\
        MonitorNumPages                   : 64\n\
        PolicyEnforcement                 : default\n";

    #[test]
    fn each_part_has_its_title() {
        let text = |read_only, changeable| text(&status(), shown(read_only, changeable));
        assert_eq!(text(true, false), FIXED);
        assert_eq!(text(false, true), CHANGEABLE);
        assert_eq!(text(true, true), FIXED.to_owned() + CHANGEABLE);
    }

    #[test]
    fn values_are_those_of_the_parts() {
        let values = |read_only, changeable| values(&status(), shown(read_only, changeable));
        assert_eq!(values(false, true), json!({"Debug": "false"}));
        assert_eq!(values(true, false)["ClusterName"], "east");
        let all = values(true, true);
        assert_eq!(all["ClusterName"], "east");
        assert_eq!(all["options"]["Debug"], "false");
        assert_eq!(all["policy-enforcement"], "default");
    }

    #[test]
    fn options_are_found_however_they_are_written() {
        for (name, value) in [
            ("ClusterName", "east"),
            ("cluster-name", "east"),
            ("CLUSTER_NAME", "east"),
            ("enable-ipv4", "true"),
            ("debug", "false"),
            ("policy-enforcement", "default"),
        ] {
            assert_eq!(find(&status(), name).expect(name), value, "{name}");
        }
        for name in ["cluster", "", "-"] {
            assert!(find(&status(), name).is_err(), "{name}");
        }
    }
}
