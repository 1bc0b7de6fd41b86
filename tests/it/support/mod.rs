//! The base of every test: the real server on port 0 with a temporary database and store, a clock
//! that tests advance, seeded randomness, and a sandbox behind a proxy that injects faults.

pub(crate) mod answer;
pub(crate) mod bucket;
#[cfg(feature = "test-s3")]
pub(crate) mod cable;
#[cfg(feature = "test-postgres")]
pub(crate) mod cluster;
pub(crate) mod collector;
pub(crate) mod database;
pub(crate) mod documented;
pub(crate) mod expect;
#[cfg(feature = "test-postgres")]
pub(crate) mod line;
pub(crate) mod origin;
pub(crate) mod photos;
pub(crate) mod pictures;
pub(crate) mod process;
pub(crate) mod proxy;
#[cfg(feature = "test-postgres")]
pub(crate) mod replica;
pub(crate) mod samples;
pub(crate) mod sign_in;
pub(crate) mod signing;
pub(crate) mod store;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Once;
use std::time::Duration;

use alloy_signer_local::PrivateKeySigner;
use pixtoll::app::{App, World};
use pixtoll::config::{Sources, load};
use pixtoll::db::Db;
use pixtoll::http::Servers;
use pixtoll::payments::recovery::check::{ChainSide, Report, check};
use pixtoll::pricing::tiers::TierTable;
use pixtoll::sandbox::{Listening, Location, Sandbox, Transfer};
use pixtoll::system::clock::{Clock, ManualClock, SystemClock, Timestamp};
use pixtoll::system::disk::Disk;
use pixtoll::system::random::Randomness;
use tokio::sync::oneshot;

pub(crate) use answer::Answer;
use database::TestDatabase;
use proxy::Proxy;
pub(crate) use signing::{Payment, Wire};

/// The time at which every test's clock starts.
pub(crate) const START: i64 = 1_800_000_000;
/// The timeout of facilitator calls, generous for slow machines: every call is answered.
const TIMEOUT: &str = "30s";
/// The timeout of facilitator calls in tests where a call is never answered.
const SILENCE: &str = "3s";

/// A running server and its environment.
pub(crate) struct TestApp {
    pub(crate) app: Arc<App>,
    pub(crate) base: String,
    pub(crate) admin: String,
    pub(crate) clock: ManualClock,
    /// The chain's own clock. [`TestApp::advance`] advances both.
    pub(crate) chain_clock: ManualClock,
    /// The actual state of the facilitator and the chain.
    pub(crate) chain: Sandbox,
    /// The proxy in front of the facilitator.
    pub(crate) facilitator: Proxy,
    /// The proxy in front of the chain's node.
    pub(crate) node: Proxy,
    /// The proxy in front of the same node that is configured as the second one.
    pub(crate) second_node: Option<Proxy>,
    pub(crate) http: reqwest::Client,
    pub(crate) wallet: PrivateKeySigner,
    /// A large disk, until a test fills it.
    pub(crate) disk: Disk,
    stop: Option<oneshot::Sender<()>>,
    database: TestDatabase,
    folder: tempfile::TempDir,
    listening: Listening,
}

/// The settings of a [`TestApp`].
#[derive(Default)]
pub(crate) struct Builder {
    env: BTreeMap<String, String>,
    is_free_only: bool,
    is_on_disk: bool,
    has_second_node: bool,
    database: Option<TestDatabase>,
    reached_at: Option<String>,
    start: Option<Timestamp>,
    /// The tables of the configuration file.
    tiers: String,
}

impl Builder {
    /// Sets a setting, as `section.key`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        let name = format!("PIXTOLL_{}", key.to_uppercase().replace('.', "__"));
        self.env.insert(name, value.to_owned());
        self
    }

    /// Sells these tiers, as tables of the configuration file.
    pub(crate) fn tiers(self, tables: &str) -> Self {
        Self {
            tiers: tables.to_owned(),
            ..self
        }
    }

    /// Uses this PostgreSQL database, which the server reaches at `reached_at`.
    #[cfg(feature = "test-postgres")]
    pub(crate) fn on(self, url: &str, reached_at: &str) -> Self {
        Self {
            database: Some(TestDatabase::at(url)),
            reached_at: Some(reached_at.to_owned()),
            ..self
        }
    }

    /// Starts the clocks at the system's time, which commands beside the server use.
    pub(crate) fn today(self) -> Self {
        Self {
            start: Some(SystemClock.now()),
            ..self
        }
    }

    /// Disables the facilitator, and so the paid tiers.
    pub(crate) fn without_facilitator(self) -> Self {
        Self {
            is_free_only: true,
            ..self
        }
    }

    /// Configures a second node.
    pub(crate) fn with_second_node(self) -> Self {
        Self {
            has_second_node: true,
            ..self
        }
    }

    /// Starts the server.
    pub(crate) async fn spawn(mut self) -> TestApp {
        install_tls();
        let folder = tempfile::tempdir().unwrap();
        let database = match self.database.take() {
            Some(database) => database,
            None => TestDatabase::fresh(folder.path()).await,
        };
        let reached_at = self.reached_at.take();
        let reached_at = reached_at.unwrap_or_else(|| database.url().to_owned());
        let start = self.start.unwrap_or(Timestamp::from_seconds(START));
        let [clock, chain_clock] = [(); 2].map(|()| ManualClock::at(start));
        let randomness = Randomness::seeded(7);
        let chain = Sandbox::open(Location::Memory, Arc::new(chain_clock.clone()), &randomness)
            .await
            .unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let listening = chain.listen(any, any).unwrap();
        let facilitator = Proxy::before(&listening.facilitator_url);
        let node = Proxy::before(&listening.rpc_url);
        let second_node = self
            .has_second_node
            .then(|| Proxy::before(&listening.rpc_url));
        if let Some(second) = &second_node {
            self = self.set("payments.second_rpc_url", &second.url);
        }
        let public = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", public.local_addr().unwrap());
        let admin_url = format!("http://{}", admin.local_addr().unwrap());
        let this = self
            .with_store(folder.path())
            .set("http.listen", &public.local_addr().unwrap().to_string())
            .set(
                "http.admin_listen",
                &admin.local_addr().unwrap().to_string(),
            )
            .set("http.base_url", &base)
            .set("database.url", &reached_at)
            .set("payments.facilitator", "sandbox")
            .set("payments.networks", "base-sepolia")
            .set("payments.facilitator_url", &facilitator.url)
            .set("payments.rpc_url", &node.url)
            // A well-known test key.
            .set("secrets.key", &"42".repeat(32));
        let disk = Disk::with_free(1 << 40);
        let world = World {
            clock: Arc::new(clock.clone()),
            randomness,
            disk: disk.clone(),
        };
        let app = this.build(&folder, world).await;
        let servers = Servers::start(Arc::clone(&app), public, admin).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(servers.run_until(async move {
            let _: Result<(), _> = stopped.await;
        }));
        let http = client_from("127.0.0.1");
        let wallet = signing::wallet(1);
        TestApp {
            app,
            base,
            admin: admin_url,
            clock,
            chain_clock,
            chain,
            facilitator,
            node,
            second_node,
            http,
            wallet,
            disk,
            stop: Some(stop),
            database,
            folder,
            listening,
        }
    }

    /// Stores the images in a directory, even where tests use a bucket: for tests that look at the
    /// files.
    pub(crate) fn on_disk(self) -> Self {
        Self {
            is_on_disk: true,
            ..self
        }
    }

    /// Sets a fresh image store, unless the test has chosen one.
    fn with_store(self, folder: &Path) -> Self {
        if self.env.contains_key("PIXTOLL_IMAGES__STORE") {
            return self;
        }
        if self.is_on_disk {
            return self.set("images.store", folder.join("images").to_str().unwrap());
        }
        let settings = store::fresh(folder);
        let settings = settings.iter();
        settings.fold(self, |this, (key, value)| this.set(key, value))
    }

    async fn build(mut self, folder: &tempfile::TempDir, world: World) -> Arc<App> {
        // Every test uses one address. Tests of limits set their own.
        for limit in [
            "FREE_PER_DAY",
            "FREE_PER_ADDRESS_PER_HOUR",
            "PAYMENTS_PER_ADDRESS_PER_MINUTE",
        ] {
            let name = format!("PIXTOLL_LIMITS__{limit}");
            self.env.entry(name).or_insert_with(|| "0".to_owned());
        }
        self.env
            .entry("PIXTOLL_PAYMENTS__TIMEOUT".to_owned())
            .or_insert_with(|| TIMEOUT.to_owned());
        let file: PathBuf = folder.path().join("pixtoll.toml");
        std::fs::write(&file, &self.tiers).unwrap();
        if self.is_free_only {
            self.env
                .retain(|name, _| !name.starts_with("PIXTOLL_PAYMENTS__"));
        }
        let sources = Sources {
            file: Some(file),
            sandbox: !self.is_free_only,
            env: self.env,
        };
        let config = load(&sources)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config;
        Arc::new(App::build(config, world).await.unwrap())
    }
}

impl TestApp {
    /// Starts a server with the default tiers.
    pub(crate) async fn spawn() -> Self {
        Builder::default().spawn().await
    }

    /// Starts a server whose images are in a directory.
    pub(crate) async fn on_disk() -> Self {
        Self::builder().on_disk().spawn().await
    }

    /// Starts a server whose facilitator doesn't answer some calls.
    pub(crate) async fn impatient() -> Self {
        let builder = Self::builder();
        builder.set("payments.timeout", SILENCE).spawn().await
    }

    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    /// Advances the server's time and the chain's.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.chain_clock.advance(by);
    }

    /// The server's time after this much more time, as the API writes it.
    pub(crate) fn clock_text(&self, after: Duration) -> String {
        self.clock.now().plus(after).to_string()
    }

    /// Runs the reconciler once.
    pub(crate) async fn reconcile(&self) {
        self.app
            .checkout
            .as_ref()
            .unwrap()
            .payments
            .reconcile()
            .await;
    }

    /// Runs the auditor once, with a new block since its last run.
    pub(crate) async fn audit(&self) {
        self.app.checkout.as_ref().unwrap().payments.audit().await;
    }

    pub(crate) fn db(&self) -> &Db {
        &self.app.db
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.http.get(self.url(path)).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        Answer::of(self.http.post(self.url(path)).send().await.unwrap()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.base)
        }
    }

    /// Uploads raw bytes for free.
    pub(crate) async fn upload_free(&self, bytes: Vec<u8>) -> Answer {
        let request = self
            .http
            .post(self.url("/api/free"))
            .header("content-type", "image/png");
        Answer::of(request.body(bytes).send().await.unwrap()).await
    }

    /// Uploads raw bytes with a token.
    pub(crate) async fn upload_with(&self, token: &str, bytes: Vec<u8>) -> Answer {
        let request = self
            .http
            .post(self.url("/api/upload"))
            .header("content-type", "image/png");
        let request = request.header("X-Upload-Token", token).body(bytes);
        Answer::of(request.send().await.unwrap()).await
    }

    /// Signs a payment for a token of this tier, with a ticket. It is not sent yet.
    pub(crate) async fn sign_for(&self, tier: &str) -> Payment {
        self.sign_at(&format!("/api/upload/token/{tier}")).await
    }

    /// Signs a payment for the product of `path`, with the test's wallet.
    pub(crate) async fn sign_at(&self, path: &str) -> Payment {
        self.sign_by(path, &self.wallet).await
    }

    /// Signs a payment for the product of `path`, with another wallet than the test's.
    pub(crate) async fn sign_by(&self, path: &str, wallet: &PrivateKeySigner) -> Payment {
        let challenge = self.post(path).await;
        assert_eq!(challenge.status, 402, "{}", challenge.text());
        Payment::answering(&challenge, path, wallet, self.clock.now())
    }

    /// Sends a payment to the route it was signed for, without a body.
    pub(crate) async fn pay(&self, payment: &Payment) -> Answer {
        self.pay_at(&payment.path, payment).await
    }

    /// Sends a payment to a route, without a body.
    pub(crate) async fn pay_at(&self, path: &str, payment: &Payment) -> Answer {
        self.send_payment(path, payment, None).await
    }

    /// Sends a payment with an image.
    pub(crate) async fn pay_with(&self, payment: &Payment, bytes: &[u8]) -> Answer {
        self.send_payment(&payment.path, payment, Some(bytes.to_vec()))
            .await
    }

    async fn send_payment(&self, path: &str, payment: &Payment, body: Option<Vec<u8>>) -> Answer {
        let mut request = self.http.post(self.url(path));
        for (name, value) in payment.headers() {
            request = request.header(name, value);
        }
        if let Some(bytes) = body {
            request = request.header("content-type", "image/png").body(bytes);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    /// Sends any headers and body to any route. Redirects are not followed.
    pub(crate) async fn send<N: AsRef<str>, V: AsRef<str>>(
        &self,
        method: &str,
        path: &str,
        headers: &[(N, V)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, self.url(path));
        for (name, value) in headers {
            request = request.header(name.as_ref(), value.as_ref());
        }
        Answer::of(request.body(body).send().await.unwrap()).await
    }

    /// The number of calls to the facilitator and the chain's node.
    pub(crate) fn calls(&self) -> [usize; 3] {
        let facilitator = &self.facilitator;
        [
            facilitator.calls("verify"),
            facilitator.calls("settle"),
            self.node.all_calls(),
        ]
    }

    /// Counts the rows of a table.
    pub(crate) async fn rows(&self, table: &str) -> i64 {
        database::count(self.db(), table).await
    }

    /// Sends the same request many times at once.
    pub(crate) async fn pay_at_once(&self, copies: &[Payment], body: Option<&[u8]>) -> Vec<Answer> {
        let requests = copies
            .iter()
            .map(|copy| self.send_payment(&copy.path, copy, body.map(<[u8]>::to_vec)));
        futures_util::future::join_all(requests).await
    }

    /// Waits until `/readyz` returns this status and problem.
    pub(crate) async fn until_ready(&self, status: u16, problem: &str) {
        process::eventually("readiness", async || {
            let answer = self.get(&format!("{}/readyz", self.admin)).await;
            (answer.status == status && answer.text().contains(problem)).then_some(())
        })
        .await;
    }

    /// Waits until the ledger has the payment in this state.
    pub(crate) async fn until(&self, payment: &Payment, state: &str) {
        process::eventually(state, async || {
            (self.state_of(payment).await.as_deref() == Some(state)).then_some(())
        })
        .await;
    }

    /// Reconciles repeatedly, advancing three seconds each time, until the payment is in this
    /// state.
    pub(crate) async fn reconcile_until(&self, payment: &Payment, state: &str) {
        for _ in 0..200 {
            if self.state_of(payment).await.as_deref() == Some(state) {
                return;
            }
            self.advance(Duration::from_secs(3));
            self.reconcile().await;
        }
        panic!("{:?} never became {state}", self.state_of(payment).await);
    }

    /// Sets columns of a payment as a killed process would have left them.
    pub(crate) async fn rewind(&self, payment: &Payment, columns: &str) {
        let id = payment.ledger_id();
        let text =
            format!("UPDATE payments SET attempt = attempt + 1, {columns} WHERE id = '{id}'");
        let changed = database::execute(self.db(), &text).await;
        assert_eq!(changed, 1);
    }

    /// Voids a payment whose transfer is marked as missing.
    pub(crate) async fn void(&self, payment: &Payment) -> pixtoll::db::auditor::Voiding {
        let id = payment.ledger_id();
        let now = self.clock.now();
        pixtoll::db::auditor::void(self.db(), &id, "a test", now)
            .await
            .unwrap()
    }

    /// The transfers to us that the chain shows.
    pub(crate) async fn transfers(&self) -> Vec<Transfer> {
        let pay_to = self.app.checkout.as_ref().unwrap().catalog.pay_to();
        self.chain.transfers_to(pay_to).await.unwrap()
    }

    /// The ledger's state of a payment; `None` when it has no row.
    pub(crate) async fn state_of(&self, payment: &Payment) -> Option<String> {
        let id = payment.ledger_id();
        pixtoll::db::payments::find(self.db(), &id)
            .await
            .unwrap()
            .map(|row| row.state.as_str().to_owned())
    }

    /// Runs `pixtoll ledger check`, with the chain.
    pub(crate) async fn check_ledger(&self) -> Report {
        let checkout = self.app.checkout.as_ref().unwrap();
        let sides: Vec<ChainSide<'_>> = checkout
            .networks
            .iter()
            .map(|access| ChainSide {
                network: access.network,
                chain: &*access.chain,
                pay_to: checkout.catalog.pay_to(),
                first_block: 0,
            })
            .collect();
        let tiers = checkout.catalog.tiers();
        check(self.db(), self.clock.now(), &sides, &tiers)
            .await
            .unwrap()
    }

    /// The newest block, as the node shows it.
    pub(crate) async fn chain_head(&self) -> u64 {
        let checkout = self.app.checkout.as_ref().unwrap();
        let access = checkout.networks.iter().next().unwrap();
        access.chain.head().await.unwrap().number
    }

    /// The URL of the facilitator, without the proxy.
    pub(crate) fn honest_facilitator(&self) -> &str {
        &self.listening.facilitator_url
    }

    /// The URL of the chain's node, without the proxy.
    pub(crate) fn honest_node(&self) -> &str {
        &self.listening.rpc_url
    }

    /// The database's URL, for a second process or a command.
    pub(crate) fn database_url(&self) -> &str {
        self.database.url()
    }

    /// The folder of this test's files.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

/// Checks after every test that there is no token without a settled payment, and no image without a
/// grant.
impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _: Result<(), ()> = stop.send(());
        }
        if std::thread::panicking() {
            return;
        }
        let (url, now) = (self.database.url().to_owned(), self.clock.now());
        let checked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let db = database::open(&url).await;
                let tiers = TierTable::default();
                let report = check(&db, now, &[], &tiers).await.unwrap();
                db.close().await;
                report
            })
        });
        let report = checked.join().unwrap();
        assert!(
            report.is_balanced(),
            "the ledger does not balance: {:?}",
            report.broken
        );
    }
}

/// A client at a loopback address: another address is another client for the server.
pub(crate) fn client_from(address: &str) -> reqwest::Client {
    let address: std::net::IpAddr = address.parse().unwrap();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .local_address(address)
        // The server closes connections that are idle for 5 seconds, which a busy test notices too
        // late.
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
}

/// Installs the TLS provider once, as `main` does for the program.
pub(crate) fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .unwrap();
    });
}
