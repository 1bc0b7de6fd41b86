//! A host of images that servers fetch from, with every way in which such a host may misbehave.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Builder;
use super::process::Deployment;

/// What the host answers with.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Status 200 with these bytes.
    Image(Vec<u8>),
    /// These header lines, among them the status, and these bytes.
    Head(String, Vec<u8>),
    /// A body that never ends.
    Endless,
    /// A byte, and then nothing.
    Silent,
}

/// The host.
pub(crate) struct Origin {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    reply: Mutex<Reply>,
    connections: AtomicUsize,
    /// The heads of all requests.
    heads: Mutex<Vec<String>>,
}

impl Origin {
    /// Starts a host at 127.0.0.1 that answers each request in this way.
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::start_at("127.0.0.1:0", reply).await
    }

    /// Starts a host at another address.
    pub(crate) async fn start_at(address: &str, reply: Reply) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            reply: Mutex::new(reply),
            connections: AtomicUsize::new(0),
            heads: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (reply, state) = (shared.reply.lock().unwrap().clone(), Arc::clone(&shared));
                // The server may go away while it reads.
                tokio::spawn(async move { drop(answer(stream, reply, &state).await) });
            }
        });
        Self { address, state }
    }

    /// Answers in this way from now on.
    pub(crate) fn reply(&self, reply: Reply) {
        *self.state.reply.lock().unwrap() = reply;
    }

    /// The URL of an image here.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/image.png", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections were opened to this host.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The head of the last request, in lower case.
    pub(crate) fn last_head(&self) -> String {
        let heads = self.state.heads.lock().unwrap();
        heads.last().cloned().unwrap_or_default().to_lowercase()
    }

    /// The settings of a server that may fetch from this host, and from nothing else on this
    /// machine. Further ports may follow.
    fn settings(&self, ports: &[u16]) -> [(&'static str, String); 4] {
        let own = [self.port()];
        let ports = own.iter().chain(ports).map(u16::to_string);
        [
            ("import.allow", self.address.ip().to_string()),
            ("import.ports", ports.collect::<Vec<_>>().join(",")),
            ("import.per_host_per_minute", "0".to_owned()),
            ("limits.imports_per_address_per_minute", "0".to_owned()),
        ]
    }

    /// Lets a server fetch from this host, and from these ports of others.
    pub(crate) fn allowed(&self, builder: Builder, ports: &[u16]) -> Builder {
        let settings = self.settings(ports).into_iter();
        settings.fold(builder, |builder, (key, value)| builder.set(key, &value))
    }

    /// Lets the servers of a deployment fetch from this host.
    pub(crate) fn allowed_in(&self, deployment: Deployment) -> Deployment {
        let settings = self.settings(&[]).into_iter();
        settings.fold(deployment, |it, (key, value)| it.set(key, &value))
    }
}

async fn answer(mut stream: TcpStream, reply: Reply, state: &State) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let length = stream.read(&mut head).await?;
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    state.heads.lock().unwrap().push(head);
    let (head, body) = match reply {
        Reply::Image(bytes) => ("200 OK".to_owned(), bytes),
        Reply::Head(head, bytes) => (head, bytes),
        Reply::Silent => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n\u{7f}";
            stream.write_all(head.as_bytes()).await?;
            // Until the server gives up.
            while stream.read(&mut [0; 64]).await? > 0 {}
            return Ok(());
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(&[0x89; 16 * 1024]).await?;
            }
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await
}
