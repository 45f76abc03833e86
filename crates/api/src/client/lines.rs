// SPDX-License-Identifier: Apache-2.0
//! Reading a feed: one JSON text per line, as they come.

use std::marker::PhantomData;
use std::path::PathBuf;

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::Client;
use super::transport::{Ask, Connection};
use crate::Error;

/// Longest line, bytes.
const MAX_LINE: usize = 1 << 20;

/// A feed that is being read.
pub struct Lines<T> {
    path: PathBuf,
    request: String,
    body: Incoming,
    buffer: BytesMut,
    /// Bytes of `buffer` known to hold no end of line.
    searched: usize,
    _connection: Connection,
    item: PhantomData<fn() -> T>,
}

impl Client {
    /// Opens a feed. The time-out is for its head only.
    pub(super) async fn lines<T>(&self, request: &str) -> Result<Lines<T>, Error> {
        let opened = tokio::time::timeout(self.timeout, self.open(Ask::get(request))).await;
        let (response, connection) = opened.unwrap_or_else(|_| Err(self.late()))?;
        Ok(Lines {
            path: self.path().into(),
            request: request.into(),
            body: response.into_body(),
            buffer: BytesMut::new(),
            searched: 0,
            _connection: connection,
            item: PhantomData,
        })
    }
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next item; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Broken`] when the agent goes away, [`Error::Answer`] for a line that is not understood.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(line) = self.line() {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| self.not_understood(error.to_string()));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(self.not_understood("a line is longer than 1 MiB".into()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(Error::Broken {
                        path: self.path.clone(),
                        why: error.to_string(),
                    });
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// All that is still to come.
    ///
    /// # Errors
    /// As [`Lines::next`].
    pub async fn collect(mut self) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await? {
            items.push(item);
        }
        Ok(items)
    }

    fn line(&mut self) -> Option<BytesMut> {
        let found = self.buffer[self.searched..]
            .iter()
            .position(|&c| c == b'\n');
        match found {
            Some(offset) => {
                let line = self.buffer.split_to(self.searched + offset);
                self.buffer.advance(1);
                self.searched = 0;
                Some(line)
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }

    fn not_understood(&self, why: String) -> Error {
        Error::Answer {
            path: self.path.clone(),
            request: self.request.clone(),
            why,
        }
    }
}
