//! The application: builds all adapters, then the domain services that use them. Nothing else
//! builds adapters.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::accounting::funnel::Funnel;
use crate::accounting::proof::{Issuer, Proofs};
use crate::apikeys::ApiKeys;
use crate::catalog::RECORD_EVERY;
use crate::checkout::Checkout;
use crate::config::{Config, StorePlace};
use crate::db::{Db, payments as rows};
use crate::fetch::{Fetcher, Rules, SystemNames};
use crate::images::hot::Hot;
use crate::images::render;
use crate::images::variants::Variants;
use crate::images::{Images, Metadata};
use crate::imports::Importer;
use crate::imports::refresher::Refresher;
use crate::keys::secrets::{Keyring, SecretKey};
use crate::keys::signing::SigningKeys;
use crate::limits::Limits;
use crate::links::Links;
use crate::monitoring::{Monitor, Watched};
use crate::moving::epoch::Epoch;
use crate::moving::{Moving, refuse_closed};
use crate::payments::access::Networks;
use crate::pricing::tiers::Tiers;
use crate::receipts::Receipts;
use crate::retention::Retention;
use crate::sandbox::Listening;
use crate::signin::{SignIn, SignInParts, WalletChain};
use crate::store::{Store, Unfit};
use crate::system::clock::Clock;
use crate::system::disk::{Disk, Floor};
use crate::system::logs::job_span;
use crate::system::metrics;
use crate::system::random::Randomness;
use crate::trust::blocks::Blocks;
use crate::trust::reports::Reports;
use crate::trust::scanner::Scanner;
use crate::trust::{Screening, Trust};

mod checkout;
mod clocks;
mod disk;
mod reload;
mod secrets;
mod trust;

pub use checkout::open_access;
pub use clocks::{independent_clocks, open_rails_beside};
pub use disk::{lock_server, open_database_beside, open_source, reaper_lock, register_networks};
pub use secrets::{find_secrets, read_secrets};
pub use trust::open_trust;

use checkout::{CheckoutNeeds, learn_supported, open_checkout, stamp_first_blocks};
use disk::open_database;
use secrets::open_secrets;

/// The environment of a deployment: time, randomness and disk. Tests replace them.
#[derive(Debug, Clone)]
pub struct World {
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub randomness: Randomness,
    /// The source of free disk space.
    pub disk: Disk,
}

/// Names of the values that a database is stamped with.
pub mod stamps {
    /// The kind of money: `sandbox`, `test` or `real`.
    pub const MODE: &str = "mode";
    /// The fingerprint of the master key that makes secrets.
    pub const KEY: &str = "key_fingerprint";
    /// With a dot and the fingerprint of an older key: when it was replaced, in milliseconds since
    /// the Unix epoch.
    pub const OLD_KEY: &str = "old_key";
    /// With a dot and a CAIP-2 id: the definition of a configured network, as JSON.
    pub const NETWORK: &str = "network";
    /// The current recipient of payments.
    pub const PAY_TO: &str = "pay_to";
    /// The recipient that was drawn for a sandbox in a process of its own.
    pub const SANDBOX_PAY_TO: &str = "sandbox_pay_to";
    /// The URL of the sandbox's chain, so that `pixtoll ledger` needs no flag.
    pub const SANDBOX_RPC: &str = "sandbox_rpc_url";
    /// With a dot and a CAIP-2 id: the newest block when the ledger first saw that chain.
    pub const FIRST_BLOCK: &str = "first_block";
}

/// Everything that a server needs to answer requests.
#[derive(Debug)]
pub struct App {
    /// The configuration at start. Tiers and limits may have changed since: see `tiers` and
    /// `limits`.
    pub config: Config,
    /// The price table.
    pub tiers: Tiers,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub randomness: Randomness,
    /// The database.
    pub db: Db,
    /// The images.
    pub images: Arc<Images>,
    /// Variants of images.
    pub variants: Arc<Variants>,
    /// Compares the database with the store's mark.
    pub epoch: Arc<Epoch>,
    /// Watches whether the database is being moved.
    pub moving: Arc<Moving>,
    /// Rate limits and quotas.
    pub limits: Arc<Limits>,
    /// Fetches images from URLs.
    pub imports: Arc<Importer>,
    /// Keeps imported images up to date.
    pub refresher: Arc<Refresher>,
    /// The blocks and the scanner.
    pub screening: Arc<Screening>,
    /// Upload links.
    pub links: Arc<Links>,
    /// What people reported.
    pub reports: Reports,
    /// API keys.
    pub api_keys: Arc<ApiKeys>,
    /// The reaper and owners' deletes.
    pub retention: Arc<Retention>,
    /// The operator's acts.
    pub trust: Arc<Trust>,
    /// Signed receipts of payments.
    pub receipts: Arc<Receipts>,
    /// Signs wallets in.
    pub sign_in: Arc<SignIn>,
    /// Counts challenges and payments for statistics.
    pub funnel: Arc<Funnel>,
    /// The public proof of what the service did.
    pub proofs: Proofs,
    /// The part that takes payments; `None` while payments are disabled.
    pub checkout: Option<Checkout>,
    _lock: Option<File>,
    _sandbox: Option<Listening>,
}

impl App {
    /// Opens everything that `config` names, and creates missing files and folders.
    ///
    /// # Errors
    /// When something can't be opened, with what to do about it.
    pub async fn build(config: Config, world: World) -> anyhow::Result<Self> {
        let (clock, randomness) = (Arc::clone(&world.clock), world.randomness.clone());
        let (db, lock) = open_own_database(&config).await?;
        let secrets = open_secrets(&db, &config, &randomness, clock.now()).await?;
        let receipts = open_receipts(&db, secrets.current(), &config, &clock).await?;
        let store = open_store(&config.images.store, &randomness).await?;
        start_metrics(&config, &db, &store);
        let epoch = open_epoch(&db, &store, &randomness).await;
        let hot = Arc::new(Hot::new(config.images.cache_bytes));
        let retention =
            retain_in(&db, &store, &config, &clock, &randomness).forgetting(Arc::clone(&hot));
        let trust = trust_in(&config, &db, &store, &clock, &randomness, &hot)?;
        let screening = open_screening(&db, &config, &clock).await?;
        let images = images_in(&config, &db, &store, &secrets, world);
        let images = Arc::new(images.kept_in(hot).screened_by(Arc::clone(&screening)));
        let limits = count_in(&db, secrets.current(), &config, &clock, &randomness);
        let variants = variants_of(&config, &images, &limits);
        let tiers = Tiers::new(config.tiers.clone());
        let funnel = Arc::new(Funnel::new(db.clone(), Arc::clone(&clock)));
        let needs = CheckoutNeeds {
            db: &db,
            secrets: secrets.clone(),
            keys: receipts.keys(),
            clock: &clock,
            randomness: &randomness,
            images: &images,
            epoch: &epoch,
            limits: &limits,
            funnel: &funnel,
            tiers: &tiers,
        };
        let (checkout, sandbox) = open_sale(&config, needs).await?.unzip();
        let networks = checkout.as_ref().map(|checkout| &checkout.networks);
        let parts = sign_in_parts(&db, secrets, &clock, &randomness, &limits, networks);
        let (links, api_keys) = credentials_in(&parts, &images);
        let sign_in = SignIn::new(parts, &config.http.base_url)?;
        let clocks = independent_clocks(&config, networks, &db, &store);
        let imports = Arc::new(imports_of(&config, &limits));
        let refresher = Refresher::new(&db, &images, &imports, &clock);
        Ok(Self {
            proofs: proofs_of(&config, &db, &clock, &receipts, checkout.as_ref()),
            reports: Reports::new(db.clone(), Arc::clone(&clock), randomness.clone()),
            config,
            tiers,
            clock,
            randomness,
            moving: Arc::new(Moving::new(db.clone())),
            db,
            images,
            variants,
            epoch,
            limits,
            imports,
            refresher: Arc::new(refresher),
            screening,
            links: Arc::new(links),
            api_keys: Arc::new(api_keys),
            retention: Arc::new(retention.checked_by(clocks)),
            trust,
            receipts: Arc::new(receipts),
            sign_in: Arc::new(sign_in),
            funnel,
            checkout,
            _lock: lock,
            _sandbox: sandbox.flatten(),
        })
    }

    /// Starts the background jobs: the reaper, the reconciler, the auditor, and the record of
    /// offers. Dropping the set ends them all, which is safe at any point. A move of the database
    /// ends them too.
    pub fn start_jobs(&self) -> JoinSet<()> {
        let mut jobs = JoinSet::new();
        jobs.spawn(
            Arc::clone(&self.moving)
                .watch_forever()
                .instrument(job_span("move_watch")),
        );
        let while_open = || Arc::clone(&self.moving);
        let (retention, schedule) = (&self.retention, &self.config.retention.schedule);
        let (retention, schedule) = (Arc::clone(retention), schedule.clone());
        jobs.spawn(
            while_open()
                .run_while_open(move || Arc::clone(&retention).reap_forever(schedule.clone()))
                .instrument(job_span("reaper")),
        );
        let retention = Arc::clone(&self.retention);
        jobs.spawn(
            while_open()
                .run_while_open(move || Arc::clone(&retention).watch_clock_forever())
                .instrument(job_span("clock_watch")),
        );
        self.start_trust_jobs(&mut jobs);
        self.start_refresh_jobs(&mut jobs);
        let epoch = Arc::clone(&self.epoch);
        jobs.spawn(
            while_open()
                .run_while_open(move || Arc::clone(&epoch).watch_forever())
                .instrument(job_span("database_mark")),
        );
        let limits = Arc::clone(&self.limits);
        jobs.spawn(
            while_open()
                .run_while_open(move || Arc::clone(&limits).forget_forever())
                .instrument(job_span("limits")),
        );
        jobs.spawn(
            Arc::clone(&self.images)
                .watch_withdrawals()
                .instrument(job_span("withdrawals")),
        );
        let blocks = Arc::clone(self.screening.blocks());
        jobs.spawn(blocks.watch_forever().instrument(job_span("blocks")));
        jobs.spawn(
            Arc::clone(&self.images)
                .watch_room_forever()
                .instrument(job_span("free_space")),
        );
        self.start_jobs_of_proofs(&mut jobs);
        let Some(checkout) = &self.checkout else {
            return jobs;
        };
        self.start_jobs_of_sales(checkout, &mut jobs);
        jobs
    }

    /// Starts the jobs of a server that sells.
    fn start_jobs_of_sales(&self, checkout: &Checkout, jobs: &mut JoinSet<()>) {
        let while_open = || Arc::clone(&self.moving);
        let funnel = Arc::clone(&self.funnel);
        jobs.spawn(
            while_open()
                .run_while_open(move || Arc::clone(&funnel).record_forever())
                .instrument(job_span("funnel")),
        );
        let payments = Arc::clone(&checkout.payments);
        jobs.spawn(
            while_open()
                .run_while_open(move || Arc::clone(&payments).reconcile_forever())
                .instrument(job_span("reconciler")),
        );
        let payments = Arc::clone(&checkout.payments);
        jobs.spawn(
            while_open()
                .run_while_open(move || Arc::clone(&payments).audit_forever())
                .instrument(job_span("auditor")),
        );
        jobs.spawn(
            learn_supported(checkout.networks.clone()).instrument(job_span("facilitator_kinds")),
        );
        let (db, checkout) = (self.db.clone(), checkout.clone());
        let record = move || record_forever(db.clone(), checkout.clone());
        jobs.spawn(
            while_open()
                .run_while_open(record)
                .instrument(job_span("offers")),
        );
    }
}

impl App {
    /// Reads what the metrics show of rows and parts.
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Watched {
            db: self.db.clone(),
            clock: Arc::clone(&self.clock),
            images: Arc::clone(&self.images),
            limits: Arc::clone(&self.limits),
            epoch: Arc::clone(&self.epoch),
            payments: self.checkout.as_ref().map(|it| Arc::clone(&it.payments)),
        })
    }

    /// Starts the hourly check of the ledger's rules, and the record of each day's totals.
    fn start_jobs_of_proofs(&self, jobs: &mut JoinSet<()>) {
        let totals = self.proofs.totals().clone();
        let record =
            Arc::clone(&self.moving).run_while_open(move || totals.clone().record_forever());
        jobs.spawn(record.instrument(job_span("daily_totals")));
        let monitor = Arc::new(self.monitor());
        let check = Arc::clone(&self.moving)
            .run_while_open(move || Arc::clone(&monitor).check_ledger_forever());
        jobs.spawn(check.instrument(job_span("ledger_check")));
    }
}

impl App {
    /// Starts what keeps imported images up to date, and deletes what was replaced.
    fn start_refresh_jobs(&self, jobs: &mut JoinSet<()>) {
        let refresher = Arc::clone(&self.refresher);
        jobs.spawn(
            Arc::clone(&self.moving)
                .run_while_open(move || Arc::clone(&refresher).refresh_forever())
                .instrument(job_span("refresh")),
        );
        let retention = Arc::clone(&self.retention);
        jobs.spawn(
            Arc::clone(&self.moving)
                .run_while_open(move || Arc::clone(&retention).clean_contents_forever())
                .instrument(job_span("replaced")),
        );
    }

    /// Starts what finishes holds and purges images at the CDN.
    fn start_trust_jobs(&self, jobs: &mut JoinSet<()>) {
        let while_open = || Arc::clone(&self.moving);
        let trust = Arc::clone(&self.trust);
        jobs.spawn(
            while_open()
                .run_while_open(move || Arc::clone(&trust).finish_holds_forever())
                .instrument(job_span("holds")),
        );
        let trust = Arc::clone(&self.trust);
        jobs.spawn(
            while_open()
                .run_while_open(move || Arc::clone(&trust).purge_forever())
                .instrument(job_span("purges")),
        );
    }
}

/// Records the current offers repeatedly, so that offers stay valid after a change of prices.
async fn record_forever(db: Db, checkout: Checkout) {
    loop {
        tokio::time::sleep(RECORD_EVERY).await;
        // Another replica may know a network that this one doesn't; its rows are in the same
        // ledger.
        if let Err(error) = register_networks(&db).await {
            tracing::warn!(%error, "the networks of this ledger could not be read");
        }
        if let Err(error) = checkout.catalog.record_offers().await {
            tracing::warn!(%error, "the current offers could not be recorded");
        }
        stamp_first_blocks(&db, &checkout.networks, checkout.catalog.pay_to()).await;
    }
}

/// Opens the deployment's database, and migrates it.
async fn open_own_database(config: &Config) -> anyhow::Result<(Db, Option<File>)> {
    let (db, lock) = open_database(config).await?;
    refuse_closed(&db).await?;
    db.migrate().await?;
    register_networks(&db).await?;
    if lock.is_some() {
        end_what_was_held(&db).await?;
    }
    Ok((db, lock))
}

/// Ends leases and reservations. No other process uses this database, so their holders are gone.
async fn end_what_was_held(db: &Db) -> anyhow::Result<()> {
    rows::end_all_leases(db).await?;
    crate::db::images::end_reservations(db).await?;
    crate::db::jobs::return_all_jobs(db).await?;
    Ok(())
}

/// The public proof of a server.
fn proofs_of(
    config: &Config,
    db: &Db,
    clock: &Arc<dyn Clock>,
    receipts: &Receipts,
    checkout: Option<&Checkout>,
) -> Proofs {
    let issuer = Issuer {
        name: config.http.base_url.clone(),
        has_play_money: checkout.is_some_and(|checkout| checkout.catalog.is_play_money()),
        keys: Arc::clone(receipts.keys()),
    };
    Proofs::new(db.clone(), Arc::clone(clock), issuer)
}

/// The networks on which contract wallets sign in: those that payments are taken on.
fn wallet_chains(networks: Option<&Networks>) -> Vec<WalletChain> {
    let networks = networks.into_iter().flatten();
    networks
        .map(|access| WalletChain {
            network: access.network,
            chain: Arc::clone(&access.chain),
        })
        .collect()
}

fn retain_in(
    db: &Db,
    store: &Store,
    config: &Config,
    clock: &Arc<dyn Clock>,
    randomness: &Randomness,
) -> Retention {
    let (clock, records) = (Arc::clone(clock), config.retention.records);
    Retention::new(db.clone(), store.clone(), clock, randomness, records)
        .restorable_for(config.trust.restorable)
        .behind_cdn(config.cdn.is_some())
        .locked_by(reaper_lock(&config.database))
}

/// The operator's acts of a server, which drops removed images from its own cache at once.
fn trust_in(
    config: &Config,
    db: &Db,
    store: &Store,
    clock: &Arc<dyn Clock>,
    randomness: &Randomness,
    hot: &Arc<Hot>,
) -> anyhow::Result<Arc<Trust>> {
    let (db, store) = (db.clone(), store.clone());
    let trust = open_trust(config, db, store, Arc::clone(clock), randomness)?;
    Ok(Arc::new(trust.forgetting(Arc::clone(hot))))
}

/// Opens the part that takes payments, if it is configured.
async fn open_sale(
    config: &Config,
    needs: CheckoutNeeds<'_>,
) -> anyhow::Result<Option<(Checkout, Option<Listening>)>> {
    match &config.payments {
        None => Ok(None),
        Some(payments) => Ok(Some(open_checkout(config, payments, needs).await?)),
    }
}

/// Begins to count, if the settings say so.
fn start_metrics(config: &Config, db: &Db, store: &Store) {
    if config.metrics.enabled {
        metrics::start(db.kind(), store.kind());
    }
}

/// The images of a database and its store.
fn images_in(config: &Config, db: &Db, store: &Store, secrets: &Keyring, world: World) -> Images {
    let World {
        clock,
        randomness,
        disk,
    } = world;
    let (db, store) = (db.clone(), store.clone());
    let floor = floor(config, disk);
    Images::new(db, store, floor, secrets.clone(), clock, randomness)
}

/// Makes other sizes and formats of these images.
fn variants_of(config: &Config, images: &Arc<Images>, limits: &Arc<Limits>) -> Arc<Variants> {
    let (images, limits) = (Arc::clone(images), Arc::clone(limits));
    let variants = Variants::new(images, limits, config.variants, Arc::new(render::render));
    Arc::new(variants)
}

/// Reads the blocks, and makes the client of the scanner.
async fn open_screening(
    db: &Db,
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Arc<Screening>> {
    let settings = &config.screening;
    let sanctioned = Arc::clone(&settings.sanctioned);
    let blocks = Blocks::open(
        db.clone(),
        Arc::clone(clock),
        settings.closeness,
        sanctioned,
    )
    .await?;
    let scanner = settings.scanner.clone();
    let scanner = scanner.map(|settings| Scanner::new(settings, Arc::clone(clock)));
    Ok(Arc::new(Screening::new(
        Arc::new(blocks),
        scanner.transpose()?,
    )))
}

fn sign_in_parts(
    db: &Db,
    secrets: Keyring,
    clock: &Arc<dyn Clock>,
    randomness: &Randomness,
    limits: &Arc<Limits>,
    networks: Option<&Networks>,
) -> SignInParts {
    SignInParts {
        db: db.clone(),
        secrets,
        clock: Arc::clone(clock),
        randomness: randomness.clone(),
        limits: Arc::clone(limits),
        chains: wallet_chains(networks),
    }
}

/// The credentials that upload in the place of a payment.
fn credentials_in(parts: &SignInParts, images: &Arc<Images>) -> (Links, ApiKeys) {
    let links = Links::new(
        parts.db.clone(),
        parts.secrets.clone(),
        Arc::clone(&parts.clock),
        parts.randomness.clone(),
        Arc::clone(images),
    );
    let api_keys = ApiKeys::new(
        parts.db.clone(),
        Arc::clone(&parts.clock),
        parts.randomness.clone(),
        Arc::clone(images),
    );
    (links, api_keys)
}

fn imports_of(config: &Config, limits: &Arc<Limits>) -> Importer {
    let rules = Rules {
        enabled: config.import.enabled,
        ports: config.import.ports.clone(),
        allow: config.import.allow.clone(),
        per_host_per_minute: config.import.per_host_per_minute,
    };
    let fetcher = Fetcher::new(rules, Arc::new(SystemNames), &config.http.base_url);
    let (limits, metadata) = (
        Arc::clone(limits),
        Metadata::default_of(config.images.clean),
    );
    Importer::new(fetcher, limits, config.images.limits, metadata)
}

fn floor(config: &Config, disk: Disk) -> Floor {
    Floor {
        disk,
        folder: folder_of(&config.images.store),
        min_free: config.images.min_free,
    }
}

fn count_in(
    db: &Db,
    key: &SecretKey,
    config: &Config,
    clock: &Arc<dyn Clock>,
    randomness: &Randomness,
) -> Arc<Limits> {
    let limits = Limits::new(config.limits, Arc::clone(clock), randomness.clone());
    Arc::new(match db {
        // A single server counts in memory, and stores nothing about clients.
        Db::Sqlite(_) => limits,
        Db::Postgres(_) => limits.shared_by(db.clone(), key.clone()),
    })
}

async fn open_receipts(
    db: &Db,
    key: &SecretKey,
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Receipts> {
    let keys = Arc::new(SigningKeys::derive(key)?);
    Ok(Receipts::open(db.clone(), keys, &config.http.base_url, clock.now()).await?)
}

/// Compares the database with its store, if both answer. Otherwise the server starts, but sells
/// nothing.
async fn open_epoch(db: &Db, store: &Store, randomness: &Randomness) -> Arc<Epoch> {
    let epoch = Epoch::new(db.clone(), store.clone(), randomness);
    if let Err(error) = epoch.advance().await {
        tracing::warn!(%error, "the database could not be compared with its store; paid routes are closed until it can");
    }
    Arc::new(epoch)
}

/// Opens the store, and rejects an unsuitable bucket. A bucket that doesn't answer stores nothing
/// until it does, but the server starts.
async fn open_store(place: &StorePlace, randomness: &Randomness) -> anyhow::Result<Store> {
    let store =
        Store::at(place).with_context(|| format!("the image store {place} can't be opened"))?;
    if store.is_unchecked() {
        match store.check(&hex::encode(randomness.bytes::<16>())).await {
            Ok(()) => {}
            Err(Unfit::Unknown(error)) => {
                tracing::warn!(%error, "the image store does not answer; uploads are rejected until it does");
            }
            Err(unfit) => return Err(anyhow::Error::new(unfit).context("images.store")),
        }
    }
    Ok(store)
}

/// The folder whose free space is watched. A bucket has none.
fn folder_of(place: &StorePlace) -> Option<PathBuf> {
    match place {
        StorePlace::Directory(root) => Some(root.clone()),
        StorePlace::S3(_) => None,
    }
}
