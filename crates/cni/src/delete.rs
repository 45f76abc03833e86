// SPDX-License-Identifier: Apache-2.0
//! DEL: idempotent, and without the agent too.

use std::time::Duration;

use api::models::EndpointBatchDelete;
use api::{Client, Deleted, StatusCode};
use netlink::Socket;

use crate::error::is_away;
use crate::input::{Delete, Request};
use crate::log::Log;
use crate::names::{attachment, host_device};
use crate::{Error, agent};
use api::queue::{Deletion, Queue};

/// How long DEL waits for an agent that does not answer.
const CONNECT: Duration = Duration::from_millis(1500);
/// How long it waits for the deletion itself, first and once more before it is queued: the runtime's own patience, which
/// ends with another DEL, is to be longer than all of this.
const ANSWER: Duration = Duration::from_secs(5);
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// Removes the devices here, and the endpoint at the agent, or queues that; one even if the other fails. In this order: the
/// agent makes no endpoint on a device that is gone, so one that it is making for an ADD that was given up fails.
pub(crate) async fn delete(request: &Request, delete: &Delete, log: &Log) -> Result<String, Error> {
    let container = delete.container.clone();
    let deletion = match delete.interface.as_deref() {
        Some(interface) => Deletion::Endpoint(attachment(&container, Some(interface))),
        None => Deletion::Container(EndpointBatchDelete {
            container_id: container,
        }),
    };
    let removed = match delete.interface.as_deref() {
        Some(interface) => remove_devices(&delete.container, interface),
        None => Ok(()),
    };
    let told = tell_agent(request, &deletion, log).await;
    told.and(removed).map(|()| String::new())
}

async fn tell_agent(request: &Request, deletion: &Deletion, log: &Log) -> Result<(), Error> {
    let client = agent::client(request);
    if try_agent(&client, CONNECT, ANSWER, deletion, log).await {
        return Ok(());
    }
    queue_deletion(request, &client, deletion, log).await
}

/// Queues a deletion, unless the agent answers by now.
pub(crate) async fn queue_deletion(
    request: &Request,
    client: &Client,
    deletion: &Deletion,
    log: &Log,
) -> Result<(), Error> {
    let queue = Queue::lock_for_adding(&request.run_dir)?;
    if try_agent(client, Duration::ZERO, LAST_ANSWER, deletion, log).await {
        return Ok(());
    }
    let path = queue.add(deletion)?;
    log.info(&format!(
        "the agent is down, slow or not ready: deletion queued as {}",
        path.display()
    ));
    Ok(())
}

/// Whether the agent took the deletion, or refused it for good.
async fn try_agent(
    client: &Client,
    wait: Duration,
    answer: Duration,
    deletion: &Deletion,
    log: &Log,
) -> bool {
    let client = &client.clone().with_timeout(answer);
    match agent::connect(client, wait).await {
        Err(Error::AgentDown { .. }) => return false,
        Err(error) => log.warn(&error.to_string()),
        Ok(_) => {}
    }
    let result = match deletion {
        Deletion::Endpoint(id) => client.delete_endpoint(id).await,
        Deletion::Container(batch) => client.delete_endpoints(batch).await,
    };
    match result {
        Ok(Deleted::All) => {}
        Ok(Deleted::WithErrors(count)) => {
            log.warn(&format!(
                "the agent had {count} errors while it deleted the endpoint"
            ));
        }
        Err(error) if error.refused() == Some(StatusCode::NOT_FOUND) => {
            log.debug("the agent knows no such endpoint");
        }
        Err(error) if is_away(&error) => return false,
        Err(error) => log.warn(&format!("the agent did not delete the endpoint: {error}")),
    }
    true
}

/// Removes the pair by its host's end, whose name is the attachment's. The namespace is not looked at: an interface there
/// may be another container's by now.
fn remove_devices(container: &str, interface: &str) -> Result<(), Error> {
    Ok(Socket::open()?.delete_link(&host_device(container, interface))?)
}
