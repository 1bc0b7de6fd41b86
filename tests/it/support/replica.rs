//! Another server of the same deployment, in the same process: the same database, store, key, clock
//! and sandbox, on other ports.

use std::net::TcpListener;
use std::sync::Arc;

use pixtoll::app::{App, World};
use pixtoll::http::Servers;
use pixtoll::system::random::Randomness;
use tokio::sync::oneshot;

use super::{Answer, TestApp};

/// A replica. Stopped on drop.
pub(crate) struct Replica {
    pub(crate) app: Arc<App>,
    pub(crate) base: String,
    stop: Option<oneshot::Sender<()>>,
}

impl TestApp {
    /// Starts another server. Each number draws other ids.
    pub(crate) async fn replica(&self, number: u64) -> Replica {
        let public = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = self.app.config.clone();
        config.http.listen = public.local_addr().unwrap();
        config.http.admin_listen = admin.local_addr().unwrap();
        let base = format!("http://{}", config.http.listen);
        let world = World {
            clock: Arc::new(self.clock.clone()),
            randomness: Randomness::seeded(1000 + number),
            disk: self.disk.clone(),
        };
        let app = Arc::new(App::build(config, world).await.unwrap());
        let servers = Servers::start(Arc::clone(&app), public, admin).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(servers.run_until(async move {
            let _: Result<(), _> = stopped.await;
        }));
        Replica {
            app,
            base,
            stop: Some(stop),
        }
    }

    /// Uploads raw bytes for free to the server at this base URL.
    pub(crate) async fn upload_free_at(&self, base: &str, bytes: Vec<u8>) -> Answer {
        let request = self.http.post(format!("{base}/api/free"));
        let request = request.header("content-type", "image/png").body(bytes);
        Answer::of(request.send().await.unwrap()).await
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _: Result<(), ()> = stop.send(());
        }
    }
}
