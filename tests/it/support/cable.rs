//! A TCP connection between a server and a service, which a test can cut: bytes are forwarded
//! unseen.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A forwarding address of a service.
pub(crate) struct Cable {
    pub(crate) url: String,
    is_in: Arc<watch::Sender<bool>>,
    task: JoinHandle<()>,
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Cable {
    /// Forwards to the server of a URL such as `http://127.0.0.1:3900`.
    pub(crate) async fn to(url: &str) -> Self {
        let target = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let is_in = Arc::new(watch::Sender::new(true));
        let watched = Arc::clone(&is_in);
        let task = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let (target, mut watch) = (target.clone(), watched.subscribe());
                tokio::spawn(async move {
                    if !*watch.borrow_and_update() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = watch.wait_for(|is_in| !is_in) => {}
                    }
                });
            }
        });
        Self { url, is_in, task }
    }

    /// Closes every connection, and rejects new ones.
    pub(crate) fn pull(&self) {
        self.is_in.send_replace(false);
    }

    /// Accepts connections again.
    pub(crate) fn plug(&self) {
        self.is_in.send_replace(true);
    }
}
