// SPDX-License-Identifier: Apache-2.0
//! A connection, with or without TLS, that can be given up from outside.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A TLS stream whose first bytes were already read.
pub(super) struct Started {
    stream: TlsStream<TcpStream>,
    first: Vec<u8>,
}

impl Started {
    pub(super) fn new(stream: TlsStream<TcpStream>, first: &[u8]) -> Self {
        let first = first.to_vec();
        Self { stream, first }
    }
}

/// What requests under way on a connection say that was ended here. Why it was, the probe says.
pub(super) const LEFT: &str = "the server was of no use and was left";

/// Ends a connection whatever its other end does.
#[derive(Default, Debug)]
pub(super) struct End {
    over: AtomicBool,
    reader: AtomicWaker,
}

impl End {
    pub(super) fn now(&self) {
        self.over.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Wakes the reader when it is over, or tells that it is.
    fn poll(&self, cx: &Context<'_>) -> io::Result<()> {
        self.reader.register(cx.waker());
        match self.over.load(Ordering::Acquire) {
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, LEFT)),
            false => Ok(()),
        }
    }
}

/// A connection.
pub(super) struct Io {
    stream: Stream,
    end: Arc<End>,
}

enum Stream {
    Plain {
        stream: TcpStream,
        /// The server said something.
        is_heard: bool,
    },
    Tls(Box<Started>),
}

impl Io {
    pub(super) fn plain(stream: TcpStream, end: Arc<End>) -> Self {
        let is_heard = false;
        let stream = Stream::Plain { stream, is_heard };
        Self { stream, end }
    }

    pub(super) fn tls(stream: Started, end: Arc<End>) -> Self {
        let stream = Stream::Tls(Box::new(stream));
        Self { stream, end }
    }
}

/// The first read without TLS: a server that wants TLS closes, because it does not understand.
fn first_read(read: Poll<io::Result<()>>, filled: usize) -> Poll<io::Result<()>> {
    let is_over = match &read {
        Poll::Ready(Ok(())) => filled == 0,
        Poll::Ready(Err(error)) => error.kind() == io::ErrorKind::ConnectionReset,
        Poll::Pending => false,
    };
    if !is_over {
        return read;
    }
    Poll::Ready(Err(io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the server closed the connection before it said anything: if it speaks TLS, its address begins with https://",
    )))
}

/// A server that ends without a farewell is explained by the TLS library at length, with an address of its manual.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::UnexpectedEof => {
            io::Error::new(kind, "the server closed the connection")
        }
        _ => error,
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.end.poll(cx)?;
        match &mut this.stream {
            Stream::Plain { stream, is_heard } => {
                let before = buf.filled().len();
                let read = Pin::new(stream).poll_read(cx, buf);
                if *is_heard {
                    return read;
                }
                let filled = buf.filled().len() - before;
                *is_heard = filled > 0;
                first_read(read, filled)
            }
            Stream::Tls(started) if started.first.is_empty() => {
                let read = Pin::new(&mut started.stream).poll_read(cx, buf);
                read.map_err(in_words)
            }
            Stream::Tls(started) => {
                let taken = started.first.len().min(buf.remaining());
                buf.put_slice(&started.first[..taken]);
                started.first.drain(..taken);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(started) => Pin::new(&mut started.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_flush(cx),
            Stream::Tls(started) => Pin::new(&mut started.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(started) => Pin::new(&mut started.stream).poll_shutdown(cx),
        }
    }
}
