// SPDX-License-Identifier: Apache-2.0
//! `endpoint list|get|health|labels|log`.

use api::Client;
use api::models::{Endpoint, EndpointHealth, EndpointStatusChange, LabelConfiguration};

use crate::args::{Endpoint as Command, EndpointArgs};
use crate::output::Format;
use crate::table::{align, tall_row};
use crate::text::{clean, sorted};
use crate::{Error, output};

pub(super) async fn run(client: &Client, command: Command) -> Result<(), Error> {
    match command {
        Command::List(args) => {
            let mut endpoints = client.endpoints(&[]).await?;
            endpoints.sort_by_key(|endpoint| endpoint.id);
            output::answer(args.output.as_ref(), &endpoints, |list| self::list(list))
        }
        Command::Get(EndpointArgs { id, output }) => {
            let found = vec![client.endpoint(&id).await?];
            let format = output.output.unwrap_or(Format::Json);
            output::print(&format.text(&found)?)
        }
        Command::Health(EndpointArgs { id, output }) => {
            let health = client.endpoint_health(&id).await?;
            output::answer(output.output.as_ref(), &health, self::health)
        }
        Command::Labels(EndpointArgs { id, output }) => {
            let labels = client.endpoint_labels(&id).await?;
            output::answer(output.output.as_ref(), &labels, self::labels)
        }
        Command::Log(EndpointArgs { id, output }) => {
            let log = client.endpoint_log(&id).await?;
            output::answer(output.output.as_ref(), &log, |log| self::log(log))
        }
    }
}

const HEAD: &str = "ENDPOINT\tPOLICY (ingress)\tPOLICY (egress)\tIDENTITY\tLABELS (source:key[=value])\tIPv6\tIPv4\tSTATUS\t\n\
\tENFORCEMENT\tENFORCEMENT\t\t\t\t\t\n";

/// The table, in the given order.
pub(super) fn list(endpoints: &[Endpoint]) -> String {
    let rows: String = endpoints.iter().map(row).collect();
    align(&(HEAD.to_owned() + &rows))
}

fn row(endpoint: &Endpoint) -> String {
    let status = endpoint.status.clone().unwrap_or_default();
    let policy = status.policy.and_then(|policy| policy.realized);
    let (ingress, egress) = enforcement(&policy.unwrap_or_default().policy_enabled);
    let identity = status.identity.as_ref();
    let number = identity.map_or("<no label id>".into(), |identity| identity.id.to_string());
    let mut labels = sorted(identity.map_or(&[], |identity| &identity.labels));
    if labels.is_empty() {
        labels.push("no labels".into());
    }
    let networking = status.networking.unwrap_or_default();
    let (ipv4, ipv6) = match networking.addressing.first() {
        Some(pair) => (clean(&pair.ipv4), clean(&pair.ipv6)),
        None => ("No address".into(), "No address".into()),
    };
    let id = endpoint.id.to_string();
    let state = status.state.as_str();
    let cells = [&id, ingress, egress, &number, "", &ipv6, &ipv4, state];
    tall_row(&cells, 4, &labels, true)
}

/// Words for both directions.
fn enforcement(mode: &str) -> (&'static str, &'static str) {
    match mode {
        "both" => ("Enabled", "Enabled"),
        "ingress" => ("Enabled", "Disabled"),
        "egress" => ("Disabled", "Enabled"),
        "audit-both" => ("Disabled (Audit)", "Disabled (Audit)"),
        "audit-ingress" => ("Disabled (Audit)", "Disabled"),
        "audit-egress" => ("Disabled", "Disabled (Audit)"),
        _ => ("Disabled", "Disabled"),
    }
}

fn health(health: &EndpointHealth) -> String {
    let connected = if health.connected { "yes" } else { "no" };
    align(&format!(
        "Overall Health:\t{}\nBPF Health:\t{}\nPolicy Health:\t{}\nConnected:\t{connected}\n",
        health.overall_health, health.bpf, health.policy
    ))
}

/// Those that make the identity first, then those that are left out of it.
fn labels(labels: &LabelConfiguration) -> String {
    let status = labels.status.clone().unwrap_or_default();
    let mut used = status.security_relevant;
    used.extend(status.realized.unwrap_or_default().user);
    let lines = |labels: &[String], word: &str| -> String {
        let labels = sorted(labels).into_iter();
        labels.map(|label| format!("{label}\t{word}\n")).collect()
    };
    align(&(lines(&used, "Enabled") + &lines(&status.disabled, "Disabled")))
}

fn log(log: &[EndpointStatusChange]) -> String {
    let mut text = "Timestamp\tStatus\tState\tMessage\n".to_owned();
    for change in log {
        let state = change.state.map_or("", |state| state.as_str());
        let message = clean(&change.message);
        let (time, code) = (clean(&change.timestamp), clean(&change.code));
        text += &format!("{time}\t{code}\t{state}\t{message}\n");
    }
    align(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::models::LabelConfigurationStatus;

    #[test]
    fn labels_and_what_becomes_of_them() {
        let configuration = LabelConfiguration {
            status: Some(LabelConfigurationStatus {
                security_relevant: vec!["k8s:app=web".into(), "k8s:a=b".into()],
                disabled: vec!["k8s:x".into()],
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(
            labels(&configuration),
            "k8s:a=b       Enabled\nk8s:app=web   Enabled\nk8s:x         Disabled\n"
        );
        assert_eq!(labels(&LabelConfiguration::default()), "");
    }
}
