//! Connections that are held and not used: they are ended.
//!
//! actix has a deadline for the head of a connection's first request, and one for a connection on which
//! nothing comes after an answer. It has none for a later head that was begun, and none for a client that
//! doesn't read what it asked for: each could be held for ever, and their number is bounded.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use bytes::Bytes;

/// How often all connections are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// While a request is handled, its handler has deadlines of its own.
const NEVER: u64 = u64::MAX;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the end of an answer to the end of the next request's head.
    pub(super) next_head: Duration,
    /// To make room for more of an answer.
    pub(super) reading: Duration,
}

/// The connections of a listener.
#[derive(Debug)]
pub(super) struct Watch {
    patience: Patience,
    started: Instant,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    last: u64,
    open: HashMap<u64, Weak<Connection>>,
}

/// One of them. It closes its socket when the last request on it is gone.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    socket: TcpStream,
    /// Milliseconds after the watch was started.
    until: AtomicU64,
    /// A request was handled on it.
    is_used: AtomicBool,
    /// The body of a request on it was malformed.
    is_broken: AtomicBool,
    watch: Arc<Watch>,
}

impl Watch {
    pub(super) fn new(patience: Patience) -> Arc<Self> {
        Arc::new(Self {
            patience,
            started: Instant::now(),
            connections: Mutex::default(),
        })
    }

    /// Watches a connection that actix has accepted. The head of its first request is actix's matter.
    pub(super) fn accept(
        self: &Arc<Self>,
        socket: &actix_web::rt::net::TcpStream,
    ) -> Option<Arc<Connection>> {
        match socket.as_fd().try_clone_to_owned() {
            Ok(socket) => Some(self.add(socket.into())),
            Err(error) => {
                tracing::warn!(%error, "a connection can't be watched");
                None
            }
        }
    }

    fn add(self: &Arc<Self>, socket: TcpStream) -> Arc<Connection> {
        let mut connections = self.connections();
        connections.last += 1;
        let connection = Arc::new(Connection {
            number: connections.last,
            socket,
            until: AtomicU64::new(NEVER),
            is_used: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            watch: Arc::clone(self),
        });
        connections
            .open
            .insert(connection.number, Arc::downgrade(&connection));
        connection
    }

    /// Ends what is held too long, once a second.
    pub(super) async fn forever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.end_overdue(Instant::now());
        }
    }

    fn end_overdue(&self, now: Instant) {
        let now = self.millis(now);
        // Not under the lock: whoever drops a connection takes it.
        let open: Vec<Arc<Connection>> = {
            let connections = self.connections();
            connections
                .open
                .values()
                .filter_map(Weak::upgrade)
                .collect()
        };
        for connection in open {
            if connection.until.load(Ordering::Relaxed) <= now {
                // What is in the kernel's hands still goes out. Who closed it already is no matter.
                if let Err(error) = connection.socket.shutdown(Shutdown::Both) {
                    tracing::debug!(%error, "a connection was closed already");
                }
            }
        }
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(NEVER)
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Whether a request was handled on it.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Whether the body of a request on it was malformed, so that it ends with the answer.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// Notes that the body of a request on it is malformed.
    pub(super) fn note_broken(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    fn give(&self, patience: Duration) {
        let until = self.watch.millis(Instant::now() + patience);
        self.until.store(until, Ordering::Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.watch.connections().open.remove(&self.number);
    }
}

/// Sets the deadlines as requests and answers come and go.
pub(super) async fn answers(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    if let Some(connection) = &connection {
        connection.until.store(NEVER, Ordering::Relaxed);
        connection.is_used.store(true, Ordering::Relaxed);
    }
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| match connection {
        Some(connection) => {
            connection.give(connection.watch.patience.reading);
            BoxBody::new(Watched {
                body: Box::pin(body),
                connection,
            })
        }
        None => BoxBody::new(body),
    }))
}

/// A body that tells when the client took a part of it. actix asks for the next part when it has room.
struct Watched<B> {
    body: Pin<Box<B>>,
    connection: Arc<Connection>,
}

impl<B: MessageBody> MessageBody for Watched<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.connection.give(self.connection.watch.patience.reading);
        self.body.as_mut().poll_next(context)
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        self.connection
            .give(self.connection.watch.patience.next_head);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Patience = Patience {
        next_head: Duration::from_secs(25),
        reading: Duration::from_mins(1),
    };

    fn connected(watch: &Arc<Watch>) -> (TcpStream, Arc<Connection>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        (client, watch.add(listener.accept().unwrap().0))
    }

    fn is_open(mut client: &TcpStream) -> bool {
        let read = client.read(&mut [0]);
        matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Waits for the end, which the system's network takes a moment to bring.
    fn is_ended(mut client: &TcpStream) -> bool {
        client.set_nonblocking(false).unwrap();
        let patience = Some(Duration::from_secs(10));
        client.set_read_timeout(patience).unwrap();
        client.read(&mut [0]).is_ok_and(|read| read == 0)
    }

    #[test]
    fn who_is_overdue_is_ended_and_nobody_else() {
        let watch = Watch::new(PATIENCE);
        let (client, connection) = connected(&watch);
        let (other, _other) = connected(&watch);
        let before = Instant::now();
        connection.give(PATIENCE.next_head);
        watch.end_overdue(before + Duration::from_secs(24));
        assert!(is_open(&client) && is_open(&other));
        watch.end_overdue(Instant::now() + Duration::from_secs(26));
        assert!(is_ended(&client) && is_open(&other));
        // It may take a moment until actix lets it go.
        watch.end_overdue(Instant::now() + Duration::from_secs(27));
        assert!(is_open(&other));
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let watch = Watch::new(PATIENCE);
        let (client, connection) = connected(&watch);
        assert_eq!(watch.connections().open.len(), 1);
        drop(connection);
        assert_eq!(watch.connections().open.len(), 0);
        assert!(is_ended(&client));
        watch.end_overdue(Instant::now() + Duration::from_secs(1000));
    }

    #[test]
    fn a_body_that_is_taken_has_time_and_the_next_head_has_less() {
        let watch = Watch::new(PATIENCE);
        let (client, connection) = connected(&watch);
        let mut body = Watched {
            body: Box::pin(Bytes::from_static(b"bytes")),
            connection: Arc::clone(&connection),
        };
        let mut context = Context::from_waker(std::task::Waker::noop());
        let before = Instant::now();
        assert!(Pin::new(&mut body).poll_next(&mut context).is_ready());
        watch.end_overdue(before + Duration::from_secs(59));
        assert!(is_open(&client));
        drop(body);
        watch.end_overdue(Instant::now() + Duration::from_secs(26));
        assert!(is_ended(&client));
    }
}
