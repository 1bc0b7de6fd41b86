//! Closes connections whose clients are idle or too slow.
//!
//! actix has a deadline for the head of a connection's first request, and one for a connection
//! without a further request. It has none for a later head that was only started, and none for a
//! client that doesn't read the response. Such connections could stay open forever, and the number
//! of connections is limited.

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

/// How often the deadlines of all connections are checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// The deadline while a request is handled, since the handler has deadlines of its own.
const NO_DEADLINE: u64 = u64::MAX;

/// How long a client may take before its connection is closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// From the end of a response to the end of the next request's head.
    pub(super) next_head: Duration,
    /// Until the client has read enough of a response that more of it can be sent.
    pub(super) reading: Duration,
}

/// The open connections of a listener, with their deadlines.
#[derive(Debug)]
pub(super) struct Deadlines {
    timeouts: Timeouts,
    /// The time from which deadlines are counted.
    started: Instant,
    connections: Mutex<Connections>,
}

/// The open connections by their numbers.
#[derive(Debug, Default)]
struct Connections {
    /// The number of the newest connection.
    last: u64,
    open: HashMap<u64, Weak<Connection>>,
}

/// An open connection. It closes its copy of the socket when the last request on the connection is
/// dropped.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    socket: TcpStream,
    /// When the connection is closed, in milliseconds after [`Deadlines::started`], or
    /// [`NO_DEADLINE`].
    deadline: AtomicU64,
    /// Whether a request was handled on the connection.
    is_used: AtomicBool,
    /// Whether a request on the connection had a malformed body.
    is_broken: AtomicBool,
    deadlines: Arc<Deadlines>,
}

impl Deadlines {
    /// An empty list of connections.
    pub(super) fn new(timeouts: Timeouts) -> Arc<Self> {
        Arc::new(Self {
            timeouts,
            started: Instant::now(),
            connections: Mutex::default(),
        })
    }

    /// Adds a connection that actix has accepted, without a deadline: actix limits the head of the
    /// first request. `None`: the socket could not be duplicated, so no deadline applies.
    pub(super) fn accept(
        self: &Arc<Self>,
        socket: &actix_web::rt::net::TcpStream,
    ) -> Option<Arc<Connection>> {
        match socket.as_fd().try_clone_to_owned() {
            Ok(socket) => Some(self.add(socket.into())),
            Err(error) => {
                tracing::warn!(%error, "a connection has no deadlines: its socket could not be duplicated");
                None
            }
        }
    }

    /// Adds a connection to the list.
    fn add(self: &Arc<Self>, socket: TcpStream) -> Arc<Connection> {
        let mut connections = self.connections();
        connections.last += 1;
        let connection = Arc::new(Connection {
            number: connections.last,
            socket,
            deadline: AtomicU64::new(NO_DEADLINE),
            is_used: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            deadlines: Arc::clone(self),
        });
        connections
            .open
            .insert(connection.number, Arc::downgrade(&connection));
        connection
    }

    /// Closes overdue connections once a second.
    pub(super) async fn enforce_forever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            self.close_overdue(Instant::now());
        }
    }

    /// Closes the connections whose deadline is not after `now`.
    fn close_overdue(&self, now: Instant) {
        let now = self.millis(now);
        // Closed without the lock, because dropping a connection takes it.
        let open: Vec<Arc<Connection>> = {
            let connections = self.connections();
            connections
                .open
                .values()
                .filter_map(Weak::upgrade)
                .collect()
        };
        for connection in open {
            if connection.deadline.load(Ordering::Relaxed) <= now {
                // The kernel still sends what it has buffered. A socket that is already closed is
                // no failure.
                if let Err(error) = connection.socket.shutdown(Shutdown::Both) {
                    tracing::debug!(%error, "a connection was closed already");
                }
            }
        }
    }

    /// `at` in milliseconds after [`Deadlines::started`].
    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(NO_DEADLINE)
    }

    /// Locks the list of connections.
    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Whether a request was handled on the connection.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Whether a request had a malformed body. The connection then ends with the response.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// Notes that a request had a malformed body.
    pub(super) fn note_broken(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    /// Sets the deadline to `timeout` from now.
    fn set_deadline(&self, timeout: Duration) {
        let deadline = self.deadlines.millis(Instant::now() + timeout);
        self.deadline.store(deadline, Ordering::Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.deadlines.connections().open.remove(&self.number);
    }
}

/// Middleware that sets the deadline of the connection: none while the request is handled, and
/// [`Timeouts::reading`] from the response on.
pub(super) async fn set_deadlines(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    if let Some(connection) = &connection {
        connection.deadline.store(NO_DEADLINE, Ordering::Relaxed);
        connection.is_used.store(true, Ordering::Relaxed);
    }
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| timed(body, connection.as_ref())))
}

/// The body of a response on this connection, with the deadline for reading it.
pub(super) fn timed(
    body: impl MessageBody + 'static,
    connection: Option<&Arc<Connection>>,
) -> BoxBody {
    let Some(connection) = connection else {
        return BoxBody::new(body);
    };
    connection.is_used.store(true, Ordering::Relaxed);
    connection.set_deadline(connection.deadlines.timeouts.reading);
    BoxBody::new(TimedBody {
        body: Box::pin(body),
        connection: Arc::clone(connection),
    })
}

/// The body of a response. It moves the deadline whenever the client has taken a part: actix asks
/// for the next part when it has room for it.
struct TimedBody<B> {
    body: Pin<Box<B>>,
    connection: Arc<Connection>,
}

impl<B: MessageBody> MessageBody for TimedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.connection
            .set_deadline(self.connection.deadlines.timeouts.reading);
        self.body.as_mut().poll_next(context)
    }
}

impl<B> Drop for TimedBody<B> {
    fn drop(&mut self) {
        self.connection
            .set_deadline(self.connection.deadlines.timeouts.next_head);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        next_head: Duration::from_secs(25),
        reading: Duration::from_mins(1),
    };

    fn connected(deadlines: &Arc<Deadlines>) -> (TcpStream, Arc<Connection>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        (client, deadlines.add(listener.accept().unwrap().0))
    }

    fn is_open(mut client: &TcpStream) -> bool {
        let read = client.read(&mut [0]);
        matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Waits for the end of the connection, which the client notices after a moment.
    fn is_ended(mut client: &TcpStream) -> bool {
        client.set_nonblocking(false).unwrap();
        let timeout = Some(Duration::from_secs(10));
        client.set_read_timeout(timeout).unwrap();
        client.read(&mut [0]).is_ok_and(|read| read == 0)
    }

    #[test]
    fn only_overdue_connections_are_closed() {
        let deadlines = Deadlines::new(TIMEOUTS);
        let (client, connection) = connected(&deadlines);
        let (other, _other) = connected(&deadlines);
        let before = Instant::now();
        connection.set_deadline(TIMEOUTS.next_head);
        deadlines.close_overdue(before + Duration::from_secs(24));
        assert!(is_open(&client) && is_open(&other));
        deadlines.close_overdue(Instant::now() + Duration::from_secs(26));
        assert!(is_ended(&client) && is_open(&other));
        // actix may keep the closed connection for a moment.
        deadlines.close_overdue(Instant::now() + Duration::from_secs(27));
        assert!(is_open(&other));
    }

    #[test]
    fn a_dropped_connection_is_forgotten() {
        let deadlines = Deadlines::new(TIMEOUTS);
        let (client, connection) = connected(&deadlines);
        assert_eq!(deadlines.connections().open.len(), 1);
        drop(connection);
        assert_eq!(deadlines.connections().open.len(), 0);
        assert!(is_ended(&client));
        deadlines.close_overdue(Instant::now() + Duration::from_secs(1000));
    }

    #[test]
    fn reading_a_response_moves_the_deadline_and_its_end_shortens_it() {
        let deadlines = Deadlines::new(TIMEOUTS);
        let (client, connection) = connected(&deadlines);
        let mut body = TimedBody {
            body: Box::pin(Bytes::from_static(b"bytes")),
            connection: Arc::clone(&connection),
        };
        let mut context = Context::from_waker(std::task::Waker::noop());
        let before = Instant::now();
        assert!(Pin::new(&mut body).poll_next(&mut context).is_ready());
        deadlines.close_overdue(before + Duration::from_secs(59));
        assert!(is_open(&client));
        drop(body);
        deadlines.close_overdue(Instant::now() + Duration::from_secs(26));
        assert!(is_ended(&client));
    }
}
