//! A connection between a server and PostgreSQL that can be cut before a request arrives, or after
//! the answer has left, so that the server doesn't know what was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A connection that is cut once, on demand.
pub(crate) struct Line {
    /// The database's URL through this connection.
    pub(crate) url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How many answers pass until one is lost; negative: none is lost.
    left: AtomicI64,
    lost: AtomicU64,
}

impl Line {
    /// Forwards to the server of `url`, on a new port.
    pub(crate) async fn to(url: &str) -> Self {
        let parsed = reqwest::Url::parse(url).unwrap();
        let there = format!("{}:{}", parsed.host_str().unwrap(), parsed.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        state.left.store(-1, Ordering::SeqCst);
        let this = Self {
            url: url.replace(&there, &here),
            state: Arc::clone(&state),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (state, there) = (Arc::clone(&state), there.clone());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(&there).await else {
                        return;
                    };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    // When one direction ends, both are dropped, and the connection is closed.
                    tokio::select! {
                        () = carry(from_client, to_server, || false) => {}
                        () = carry(from_server, to_client, || state.loses()) => {}
                    }
                });
            }
        });
        this
    }

    /// Loses the answer after the next `count` answers of the server, with its connection.
    pub(crate) fn lose_answer_after(&self, count: i64) {
        self.state.left.store(count, Ordering::SeqCst);
    }

    /// Whether an answer was lost since the last call. From then on, none is lost.
    pub(crate) fn has_lost(&self) -> bool {
        self.state.left.store(-1, Ordering::SeqCst);
        self.state.lost.swap(0, Ordering::SeqCst) > 0
    }
}

impl State {
    fn loses(&self) -> bool {
        let is_lost = self.left.fetch_sub(1, Ordering::SeqCst) == 0;
        self.lost.fetch_add(u64::from(is_lost), Ordering::SeqCst);
        is_lost
    }
}

/// Forwards bytes, until one end closes or an answer is to be lost.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    is_lost: impl Fn() -> bool,
) {
    let mut piece = vec![0; 1 << 16];
    while let Ok(length) = from.read(&mut piece).await
        && length > 0
        && !is_lost()
    {
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
