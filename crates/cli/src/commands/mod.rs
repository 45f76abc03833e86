// SPDX-License-Identifier: Apache-2.0
//! The commands, one file per subject: `run` asks the agent, what is beside it is pure.

mod bpf;
mod bpf_policy;
mod clusters;
mod completion;
mod config;
mod datapath;
mod endpoint;
#[cfg(test)]
mod golden;
mod identity;
mod ip;
mod kvstore;
mod metrics;
mod monitor;
mod node;
mod policy;
mod service;
mod status;
mod troubleshoot;
mod version;

use std::process::ExitCode;

use api::Client;
use api::models::{BpfMap, BpfMapList};

use crate::args::{Cli, Command, Map, Troubleshoot};
use crate::text::clean;
use crate::{Error, output};

/// Runs one command of the program of this name.
pub(crate) async fn run(program: &str, cli: Cli) -> Result<ExitCode, Error> {
    let client = Client::new(cli.host).same_version();
    match cli.command {
        Command::Status(args) => return status::run(client, args).await,
        Command::Config(args) => config::run(&client, args).await?,
        Command::Node(command) => node::run(&client, command).await?,
        Command::Endpoint(command) => endpoint::run(&client, command).await?,
        Command::Identity(command) => identity::run(&client, command).await?,
        Command::Ip(command) => ip::run(&client, command).await?,
        Command::Service(command) => service::run(&client, command).await?,
        Command::Policy(command) => policy::run(&client, command).await?,
        Command::Bpf(command) => bpf::run(&client, command).await?,
        Command::Kvstore(command) => kvstore::run(&client, command).await?,
        Command::Map(Map::List(output)) => {
            output::answer(output.output.as_ref(), &client.maps().await?, maps)?;
        }
        Command::Map(Map::Get { name, output }) => {
            output::answer(output.output.as_ref(), &client.map(&name).await?, rows)?;
        }
        Command::Metrics(command) => metrics::run(&client, command).await?,
        Command::Monitor(args) => monitor::run(&client, args).await?,
        Command::Troubleshoot(Troubleshoot::Clustermesh(args)) => {
            return troubleshoot::run(client, args).await;
        }
        Command::Completion { shell } => completion::run(program, shell)?,
        Command::Version(output) => return version::run(&client, output.output).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(map: &BpfMap) -> String {
    let mut text = "Key\tValue\tState\tError\n".to_owned();
    for row in map.cache.iter().flatten() {
        let [key, value] = [&row.key, &row.value].map(|text| clean(text));
        let [state, error] = [&row.desired_action, &row.last_error].map(|text| clean(text));
        text += &format!("{key}\t{value}\t{state}\t{error}\n");
    }
    crate::table::align(&text)
}

fn maps(list: &BpfMapList) -> String {
    let mut text = "Name\tNum entries\tNum errors\tCache enabled\n".to_owned();
    for map in &list.maps {
        let name = map.path.rsplit('/').next().unwrap_or_default();
        let entries = map.cache.as_ref();
        let count = entries.map_or("unknown".into(), |cache| cache.len().to_string());
        let errors = entries.into_iter().flatten();
        let errors = errors.filter(|entry| !entry.last_error.is_empty()).count();
        text += &format!("{name}\t{count}\t{errors}\t{}\n", entries.is_some());
    }
    crate::table::align(&text)
}
