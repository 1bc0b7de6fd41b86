//! The line between a server and PostgreSQL, which can be cut: before a request arrives, or after its answer
//! has left, so that what was done stays unknown to who asked for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A line that is cut once, when it was told to.
pub(crate) struct Line {
    /// The database's URL by this line.
    pub(crate) url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How many answers pass until one is lost; negative: none is.
    left: AtomicI64,
    lost: AtomicU64,
}

impl Line {
    /// To the server that `url` names, on a port of its own.
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
                    // Whichever ends first, both are dropped, and the connection is gone.
                    tokio::select! {
                        () = carry(from_client, to_server, || false) => {}
                        () = carry(from_server, to_client, || state.loses()) => {}
                    }
                });
            }
        });
        this
    }

    /// After `count` more answers of the server, the next is lost, with its connection.
    pub(crate) fn lose_answer_after(&self, count: i64) {
        self.state.left.store(count, Ordering::SeqCst);
    }

    /// Whether an answer was lost since this was last asked. From then on, none is.
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

/// Passes on what comes, until one end goes away or a piece is to be lost.
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
