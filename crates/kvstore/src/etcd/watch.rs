// SPDX-License-Identifier: Apache-2.0
//! One watch: requires a leader, checks every header, and turns what the server says into events. Reads no further than its
//! consumer does.

use std::collections::VecDeque;

use etcd_client::{WatchOptions, WatchResponse, WatchStream as Answers};
use futures::StreamExt;

use super::convert::convert;
use super::{Etcd, MAX_MESSAGE};
use crate::error::{Error, cut};
use crate::store::{Result, WatchEvent, WatchStream};

const PUT: i32 = 0;
const DELETE: i32 = 1;

struct Watch {
    etcd: Etcd,
    answers: Answers,
    prefix: String,
    from: i64,
    /// The cluster that the watch began with.
    cluster_id: u64,
    ready: VecDeque<WatchEvent>,
    broken: tokio::sync::watch::Receiver<Option<Error>>,
    over: bool,
}

/// Opens a watch; it is in place when this returns.
pub(super) async fn open(etcd: &Etcd, prefix: &str, from: i64) -> Result<WatchStream> {
    let operation = format!("watch {prefix}");
    // Without fragments: to cut one revision with a hundred thousand deletions takes etcd a minute for each watcher. What is
    // larger than a message is listed instead.
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(from)
        .with_progress_notify();
    let client = etcd.client().await?.watch_client();
    let mut client = client.max_decoding_message_size(MAX_MESSAGE);
    let broken = etcd.inner.broken.subscribe();
    let opened = async {
        let mut answers = client.watch(prefix, Some(options)).await?;
        let first = answers.message().await?;
        Ok((answers, first))
    };
    let (answers, first) = etcd.call(&operation, opened).await?;
    let mut watch = Watch {
        etcd: etcd.clone(),
        answers,
        prefix: prefix.to_owned(),
        from,
        cluster_id: 0,
        ready: VecDeque::new(),
        broken,
        over: false,
    };
    let first = first.ok_or_else(|| watch.closed("the server closed it"))?;
    let revision = etcd.check(&operation, first.header())?;
    if revision + 1 < from {
        // The server has lost what was listed: such a watch would be silent until it has caught up.
        return Err(watch.closed("the revision of the store went backwards"));
    }
    watch.cluster_id = first.header().map_or(0, |header| header.cluster_id());
    watch.take(first)?;
    let events = futures::stream::unfold(watch, |mut watch| async move {
        if watch.over {
            return None;
        }
        let event = watch.next().await;
        watch.over = event.is_err();
        Some((event, watch))
    });
    Ok(events.boxed())
}

impl Watch {
    fn closed(&self, reason: &str) -> Error {
        Error::WatchClosed {
            prefix: self.prefix.clone(),
            reason: cut(reason, 512),
        }
    }

    async fn next(&mut self) -> Result<WatchEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let answer = tokio::select! {
                biased;
                answer = self.answers.message() => answer,
                Ok(()) = self.broken.changed() => {
                    let error = self.broken.borrow_and_update().clone();
                    return Err(error.unwrap_or_else(|| self.closed("the connection is broken")));
                }
            };
            let answer = match answer {
                Ok(answer) => answer.ok_or_else(|| self.closed("the server closed it"))?,
                Err(error) => {
                    return Err(self.etcd.explain(&format!("watch {}", self.prefix), error));
                }
            };
            let operation = "watch";
            let actual = answer.header().map_or(0, |header| header.cluster_id());
            self.etcd.check(operation, answer.header())?;
            if actual != self.cluster_id {
                let expected = self.cluster_id;
                return Err(Error::ClusterIdChanged { expected, actual });
            }
            self.take(answer)?;
        }
    }

    fn take(&mut self, answer: WatchResponse) -> Result<()> {
        if answer.compact_revision() != 0 {
            return Err(Error::Compacted {
                prefix: self.prefix.clone(),
                revision: self.from,
            });
        }
        if answer.canceled() {
            let reason = answer.cancel_reason();
            if reason.contains("permission denied") {
                return Err(Error::Permission {
                    operation: format!("watch {}", self.prefix),
                    reason: cut(reason, 512),
                });
            }
            return Err(self.closed(reason));
        }
        for event in answer.0.events {
            // The client crate's own accessor panics on an unknown kind.
            let kind = event.r#type;
            let Some(kv) = event.kv.and_then(|mut kv| convert(&mut kv)) else {
                continue;
            };
            match kind {
                PUT => self.ready.push_back(WatchEvent::Put(kv)),
                DELETE => self.ready.push_back(WatchEvent::Delete {
                    key: kv.key,
                    revision: kv.mod_revision,
                }),
                other => return Err(self.closed(&format!("event of unknown kind {other}"))),
            }
        }
        Ok(())
    }
}
