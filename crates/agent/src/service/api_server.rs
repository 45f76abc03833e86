// SPDX-License-Identifier: Apache-2.0
//! What status says about the API server: whether it answers, its version, and which kinds are followed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::models::{K8sStatus, State};
use kubernetes::Problem;
use kubernetes::api::{Client, Kind, SERVER, server_version};

use super::Service;

/// The server is asked so often.
const INTERVAL: Duration = Duration::from_secs(10);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(2);

/// The last answer: the version, or why there is none.
#[derive(Debug, Default)]
pub(crate) struct Server(Mutex<Option<Result<String, String>>>);

impl Server {
    fn answer(&self) -> MutexGuard<'_, Option<Result<String, String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the server for its version, for ever.
pub(crate) async fn ask(service: Arc<Service>, client: Client) {
    let Some(server) = &service.kubernetes else {
        return std::future::pending().await;
    };
    loop {
        let answer = server_version(&client).await;
        let pause = if answer.is_ok() { INTERVAL } else { AGAIN };
        *server.answer() = Some(answer);
        tokio::time::sleep(pause).await;
    }
}

impl Service {
    pub(super) fn kubernetes_status(&self, problems: &[Problem]) -> K8sStatus {
        let Some(server) = &self.kubernetes else {
            return K8sStatus {
                state: State::Disabled,
                ..Default::default()
            };
        };
        status(server.answer().as_ref(), problems)
    }
}

fn status(answer: Option<&Result<String, String>>, problems: &[Problem]) -> K8sStatus {
    let (state, msg) = match answer {
        None => (State::Warning, "the API server was not asked yet"),
        Some(Ok(version)) => (State::Ok, version.as_str()),
        Some(Err(reason)) => (State::Failure, reason.as_str()),
    };
    let is_away = |kind: &Kind| {
        let prefix = format!("{}: ", kind.plural());
        let mut of_server = problems.iter().filter(|problem| problem.file == SERVER);
        of_server.any(|problem| problem.object.is_none() && problem.reason.starts_with(&prefix))
    };
    let name = |kind: Kind| match kind.api_version().strip_prefix("cilium.io/") {
        Some(version) => format!("cilium/{version}::{}", kind.as_str()),
        None if kind.api_version().contains('/') => {
            format!("{}::{}", kind.api_version(), kind.as_str())
        }
        None => format!("core/{}::{}", kind.api_version(), kind.as_str()),
    };
    let followed = Kind::ALL.into_iter().filter(|kind| !is_away(kind));
    K8sStatus {
        state,
        msg: msg.to_owned(),
        k8s_api_versions: followed.map(name).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_names_the_version_and_what_is_followed() {
        let missing = Problem {
            file: SERVER.into(),
            document: 0,
            object: None,
            reason: "ciliumnetworkpolicies: not served".into(),
            previous_stays: false,
        };
        let version = "1.36 (v1.36.0) [linux/amd64]";
        let told = status(Some(&Ok(version.into())), &[missing]);
        assert_eq!((told.state, told.msg.as_str()), (State::Ok, version));
        assert_eq!(
            told.k8s_api_versions,
            [
                "core/v1::Namespace",
                "core/v1::Pod",
                "core/v1::Service",
                "discovery.k8s.io/v1::EndpointSlice",
                "cilium/v2::CiliumClusterwideNetworkPolicy",
                "networking.k8s.io/v1::NetworkPolicy",
                "cilium/v2::CiliumCIDRGroup"
            ]
        );
        let away = status(Some(&Err("refused".into())), &[]);
        assert_eq!((away.state, away.msg.as_str()), (State::Failure, "refused"));
        assert_eq!(status(None, &[]).state, State::Warning);
    }
}
