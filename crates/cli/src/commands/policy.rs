// SPDX-License-Identifier: Apache-2.0
//! `policy get|selectors|subject-selectors|wait`.

use std::time::Duration;

use api::Client;
use api::models::{Endpoint, EndpointState, Policy as Model, SelectorIdentities};

use crate::args::Policy;
use crate::table::{align, tall_row};
use crate::text::clean;
use crate::{Error, output};

/// Pause between two looks of `policy wait`.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn run(client: &Client, command: Policy) -> Result<(), Error> {
    match command {
        Policy::Get(args) => {
            let policy = client.policy().await?;
            output::answer(args.output.as_ref(), &policy, get)
        }
        Policy::Selectors(args) => {
            let selectors = client.policy_selectors().await?;
            output::answer(args.output.as_ref(), &selectors, |list| {
                self::selectors(list)
            })
        }
        Policy::SubjectSelectors(args) => {
            let selectors = client.policy_subject_selectors().await?;
            output::answer(args.output.as_ref(), &selectors, |list| {
                self::selectors(list)
            })
        }
        Policy::Wait {
            revision,
            max_wait_time,
        } => wait(client, revision, max_wait_time).await,
    }
}

/// The rules; line ends of the JSON text stay.
fn get(policy: &Model) -> String {
    let lines: Vec<String> = policy.policy.lines().map(clean).collect();
    format!("{}\nRevision: {}\n", lines.join("\n"), policy.revision)
}

fn selectors(list: &[SelectorIdentities]) -> String {
    let mut rows: Vec<&SelectorIdentities> = list.iter().collect();
    rows.sort_by(|a, b| a.selector.cmp(&b.selector));
    let mut text = "SELECTOR\tLABELS\tUSERS\tIDENTITIES\t\n".to_owned();
    for row in rows {
        let label = |key: &str| {
            let found = row.labels.iter().find(|label| label.key.ends_with(key));
            found.map(|label| clean(&label.value)).unwrap_or_default()
        };
        let labels = match (label("policy.namespace"), label("policy.name")) {
            (namespace, name) if namespace.is_empty() => name,
            (namespace, name) => format!("{namespace}/{name}"),
        };
        let identities: Vec<String> = row.identities.iter().map(i64::to_string).collect();
        let users = row.users.to_string();
        let cells = [&clean(&row.selector), labels.as_str(), &users, ""];
        text += &tall_row(&cells, 3, &identities, true);
    }
    align(&text)
}

async fn wait(client: &Client, revision: i64, longest: Duration) -> Result<(), Error> {
    let look = async {
        loop {
            let endpoints = client.endpoints(&[]).await?;
            let late: Vec<&Endpoint> = endpoints.iter().filter(|e| !has(e, revision)).collect();
            if late.is_empty() {
                return Ok::<_, Error>(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(longest, look).await {
        Ok(done) => done,
        Err(_) => {
            let endpoints = client.endpoints(&[]).await?;
            let late = endpoints.iter().filter(|e| !has(e, revision));
            let late: Vec<String> = late.map(|e| e.id.to_string()).collect();
            Err(Error::Wait {
                revision,
                seconds: longest.as_secs_f64(),
                waiting: format!("endpoints {} are behind", late.join(", ")),
            })
        }
    }
}

/// Whether the endpoint is ready and enforces `revision` or a later one.
fn has(endpoint: &Endpoint, revision: i64) -> bool {
    let status = endpoint.status.as_ref();
    let realized = status.and_then(|s| s.policy.as_ref()?.realized.as_ref());
    status.is_some_and(|s| s.state == EndpointState::Ready)
        && realized.is_some_and(|policy| policy.policy_revision >= revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::models::{EndpointPolicy, EndpointPolicyStatus, EndpointStatus};

    #[test]
    fn rules_and_selectors() {
        let policy = Model {
            revision: 2,
            policy: "[\n  {}\n]".into(),
        };
        assert_eq!(get(&policy), "[\n  {}\n]\nRevision: 2\n");
        let selector = SelectorIdentities {
            selector: "k8s:app=web".into(),
            users: 1,
            identities: vec![5, 6],
            ..Default::default()
        };
        assert_eq!(
            selectors(&[selector]),
            "SELECTOR      LABELS   USERS   IDENTITIES   \n\
             k8s:app=web            1       5            \n                               6            \n"
        );
    }

    #[test]
    fn ready_and_new_enough() {
        let endpoint = |state, policy_revision| Endpoint {
            status: Some(EndpointStatus {
                state,
                policy: Some(EndpointPolicyStatus {
                    realized: Some(EndpointPolicy {
                        policy_revision,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(has(&endpoint(EndpointState::Ready, 3), 3));
        assert!(!has(&endpoint(EndpointState::Ready, 2), 3));
        assert!(!has(&endpoint(EndpointState::Regenerating, 3), 3));
        assert!(!has(&Endpoint::default(), 0));
    }
}
