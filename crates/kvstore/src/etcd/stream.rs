// SPDX-License-Identifier: Apache-2.0
//! A connection, with or without TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

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

/// A connection.
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<Started>),
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
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(started) if started.first.is_empty() => {
                let read = Pin::new(&mut started.stream).poll_read(cx, buf);
                read.map_err(in_words)
            }
            Io::Tls(started) => {
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
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(started) => Pin::new(&mut started.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(started) => Pin::new(&mut started.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(started) => Pin::new(&mut started.stream).poll_shutdown(cx),
        }
    }
}
