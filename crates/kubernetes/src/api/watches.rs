// SPDX-License-Identifier: Apache-2.0
//! One kind, listed and watched for ever. kube's watcher resumes a watch at its version and lists anew when the server
//! does not know that version any more; here its events are named as everywhere else, and its failures told.

use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::utils::Backoff as KubeBackoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Error};
use tables::{Backoff, Event};
use tokio::sync::mpsc;

use super::objects::{Document, Name};
use super::{Kind, trim};
use crate::Condition;

/// Pauses between attempts while the server is away.
pub(super) const FIRST: Duration = Duration::from_millis(200);
pub(super) const LONGEST: Duration = Duration::from_secs(10);
/// Longest reason that is told.
const MAX_REASON: usize = 400;

/// What a watch has to say.
#[derive(Debug)]
pub(super) enum Notice {
    /// A change.
    Event(Event<Name, Document>),
    /// It cannot go on for now.
    Failed(String),
    /// The server does not know the kind.
    NotServed(String),
}

/// Follows `kind` until nobody listens.
pub(super) async fn follow(
    client: Client,
    kind: Kind,
    node: String,
    to: mpsc::Sender<(Kind, Notice)>,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &kind.resource());
    let config = watcher::Config {
        field_selector: kind.field_selector(&node),
        label_selector: kind.label_selector(),
        ..watcher::Config::default()
    };
    let events = watcher::watcher(api, config).backoff(Pause(Backoff::new(FIRST, LONGEST)));
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let notice = match event {
            Ok(event) => Notice::Event(converted(kind, event)),
            Err(error) => failure(&error),
        };
        if to.send((kind, notice)).await.is_err() {
            return;
        }
    }
}

fn converted(kind: Kind, event: watcher::Event<DynamicObject>) -> Event<Name, Document> {
    let parts = |object: DynamicObject| {
        let name = Name {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        };
        let document = serde_json::to_value(object).expect("it came from JSON");
        let shown = kind.is_policy().then(|| Condition::shown_by(&document));
        let document = Document {
            value: trim::trimmed(kind, document),
            shown: shown.flatten(),
        };
        (name, document)
    };
    match event {
        watcher::Event::Init => Event::Init,
        watcher::Event::InitDone => Event::InitDone,
        watcher::Event::InitApply(object) => {
            let (name, document) = parts(object);
            Event::InitApply(name, document)
        }
        watcher::Event::Apply(object) => {
            let (name, document) = parts(object);
            Event::Apply(name, document)
        }
        watcher::Event::Delete(object) => Event::Delete(parts(object).0),
    }
}

fn failure(error: &watcher::Error) -> Notice {
    let (cause, is_missing) = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => (
            told(cause),
            matches!(cause, Error::Api(status) if status.code == 404),
        ),
        other => (other.to_string(), false),
    };
    if is_missing {
        Notice::NotServed("the API server does not serve this kind yet".into())
    } else {
        Notice::Failed(cause)
    }
}

/// An error of a request: of an answer what the server said.
pub(super) fn told(error: &Error) -> String {
    match error {
        Error::Api(status) if !status.message.is_empty() => {
            let text = status.message.chars().filter(|c| !c.is_control());
            text.take(MAX_REASON).collect()
        }
        other => chain(other),
    }
}

/// An error with its causes: the outermost alone says little.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_REASON)
        .collect()
}

/// Our pauses in the watcher's terms.
pub(super) struct Pause(pub(super) Backoff);

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next(rand::random()))
    }
}

impl KubeBackoff for Pause {
    fn reset(&mut self) {
        self.0.reset();
    }
}
