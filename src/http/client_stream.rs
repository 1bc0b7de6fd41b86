//! The connection to a client as a byte stream. It adds a body to the error responses that actix
//! writes itself.
//!
//! A head that is no valid HTTP never becomes a request, and actix answers it without a body. Such
//! a response is recognised in the byte stream, as the first bytes of a connection on which no
//! request was handled. After a malformed chunked body, actix writes a second response to a request
//! that the handler has already answered. That second response is dropped.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use bytes::{Buf, Bytes};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deadlines::{Connection, Deadlines};
use super::error::Code;

/// How each response that actix writes itself starts, after the status line.
const BARE: &[u8] = b"content-length: 0\r\n";
/// An upper limit for the length of such a response, in bytes.
const LONGEST_BARE: usize = 200;

/// A connection of the public listener.
pub(super) struct ClientStream {
    socket: TcpStream,
    /// The deadlines and state of the connection. `None`: the socket could not be duplicated.
    connection: Option<Arc<Connection>>,
    /// Whether anything was written to the connection.
    is_begun: bool,
    /// The unsent part of a response that replaces one of actix's.
    unsent: Bytes,
}

impl ClientStream {
    /// Wraps a connection that was just accepted.
    pub(super) fn new(socket: TcpStream, deadlines: &Arc<Deadlines>) -> Self {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set on a connection");
        }
        Self {
            connection: deadlines.accept(&socket),
            socket,
            is_begun: false,
            unsent: Bytes::new(),
        }
    }

    /// The address of the client or proxy at the other end.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.socket.peer_addr().ok()
    }

    /// Makes the state of the connection available to its requests.
    pub(super) fn describe(&self, data: &mut Extensions) {
        if let Some(connection) = &self.connection {
            data.insert(Arc::clone(connection));
        }
    }

    /// Writes the unsent part of a replaced response.
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = Pin::new(&mut self.socket).poll_write(context, &self.unsent);
            let Poll::Ready(written) = written? else {
                return Poll::Pending;
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.poll_unsent(context)?.is_pending() {
            return Poll::Pending;
        }
        let connection = this.connection.as_deref();
        let is_unused = !this.is_begun && connection.is_some_and(|it| !it.is_used());
        this.is_begun = true;
        if is_unused && let Some(answer) = with_body(bytes) {
            this.unsent = answer;
            // `poll_flush`, which actix calls next, writes the part that can't be written now.
            return match this.poll_unsent(context) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Ready(Ok(bytes.len())),
            };
        }
        let kept = match connection {
            Some(connection) if connection.is_broken() => without_bare(bytes),
            _ => bytes,
        };
        if kept.is_empty() {
            return Poll::Ready(Ok(bytes.len()));
        }
        match Pin::new(&mut this.socket).poll_write(context, kept)? {
            Poll::Ready(written) if written == kept.len() => Poll::Ready(Ok(bytes.len())),
            Poll::Ready(written) => Poll::Ready(Ok(written)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_unsent(context)?.is_pending() {
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_unsent(context)?.is_pending() {
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// The status of an error response without a body, as actix writes it itself. `None`: `bytes` are
/// anything else.
fn bare_status(bytes: &[u8]) -> Option<u16> {
    if bytes.len() > LONGEST_BARE || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let line = bytes.strip_prefix(b"HTTP/1.")?;
    let end = line.windows(2).position(|pair| pair == b"\r\n")?;
    let status = std::str::from_utf8(line.get(2..5)?).ok()?.parse().ok()?;
    let is_bare = line.get(end + 2..)?.starts_with(BARE);
    (is_bare && status >= 400).then_some(status)
}

/// The same error response with a JSON body. `None`: `bytes` are not such a response.
fn with_body(bytes: &[u8]) -> Option<Bytes> {
    let status = bare_status(bytes)?;
    let (code, message, action) = match status {
        408 => (
            Code::RequestTimeout,
            "The head of the request took longer than 10 seconds. Send the whole head at once.",
            json!({"type": "retry", "retryAfterSeconds": 1}),
        ),
        431 => (
            Code::HeadersTooLarge,
            "The head of the request has more than 96 header fields or 128 KiB. Send fewer or shorter headers.",
            json!({"type": "fix_request"}),
        ),
        _ => (
            Code::BadRequest,
            "The request is not valid HTTP/1.1: its request line, a header or the length of its body is malformed. Send it with an HTTP client library.",
            json!({"type": "fix_request"}),
        ),
    };
    // The request was not read. It may carry a payment, so the response doesn't say whether that
    // was charged.
    let body =
        json!({"error": code.facts().name, "message": message, "charged": null, "action": action});
    let body = body.to_string();
    let head = std::str::from_utf8(bytes).ok()?;
    let (status_line, headers) = head.split_once("\r\n")?;
    let headers = headers.strip_prefix("content-length: 0\r\n")?;
    let retry = if status == 408 {
        "retry-after: 1\r\n"
    } else {
        ""
    };
    let close = if headers.contains("connection: close\r\n") {
        ""
    } else {
        "connection: close\r\n"
    };
    Some(Bytes::from(format!(
        "{status_line}\r\ncontent-length: {}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\ncontent-security-policy: default-src 'none'; sandbox\r\n\
         access-control-allow-origin: *\r\n{retry}{close}{headers}{body}",
        body.len()
    )))
}

/// `bytes` without the response of actix's own at their end, if there is one.
fn without_bare(bytes: &[u8]) -> &[u8] {
    let earliest = bytes.len().saturating_sub(LONGEST_BARE);
    let start = (earliest..bytes.len()).find(|start| {
        bytes
            .get(*start..)
            .is_some_and(|end| bare_status(end).is_some())
    });
    start.and_then(|start| bytes.get(..start)).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n";

    #[test]
    fn an_error_response_of_actix_gets_a_json_body() {
        let answer = with_body(BAD).unwrap();
        let answer = std::str::from_utf8(&answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
        assert_eq!(head.matches("connection: close").count(), 1);
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"], "bad_request");
        assert_eq!(body["charged"], serde_json::Value::Null);
    }

    #[test]
    fn responses_of_handlers_stay_unchanged() {
        for bytes in [
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".as_slice(),
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            &BAD[..BAD.len() - 1],
            b"",
        ] {
            assert_eq!(with_body(bytes), None);
            assert_eq!(without_bare(bytes), bytes);
        }
    }

    #[test]
    fn a_second_response_to_a_malformed_body_is_dropped() {
        let ours = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}".as_slice();
        assert_eq!(without_bare(&[ours, BAD].concat()), ours);
        assert_eq!(without_bare(BAD), b"");
    }
}
