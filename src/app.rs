//! The application: builds the ports, then what decides. The sole builder of adapters.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use anyhow::{Context, bail};

use crate::chain::rpc::RpcChain;
use crate::clock::Clock;
use crate::config::{
    Config, DatabaseUrl, FacilitatorChoice, Mode, NetworkConfig, PaymentsConfig, SandboxConfig,
    SecretKeySource, parse_secret_key,
};
use crate::db::{Db, deployment, payments as rows};
use crate::disk::{Disk, Floor};
use crate::epoch::Epoch;
use crate::facilitator::http::{Credentials, HttpFacilitator};
use crate::images::Images;
use crate::limits::Limits;
use crate::networks::{self, Definition};
use crate::payments::offers::SignedOffers;
use crate::payments::orphans;
use crate::payments::rails::{Rail, Rails};
use crate::payments::shop::{RECORD_EVERY, Shop};
use crate::payments::{Payments, Ports, Settings};
use crate::random::Randomness;
use crate::receipts::Receipts;
use crate::retention::Retention;
use crate::sandbox::{Listening, Location, Sandbox};
use crate::secrets::SecretKey;
use crate::signing::SigningKeys;
use crate::store::Store;

/// For how long a facilitator may take to say what it supports.
const SUPPORTED_TIMEOUT: Duration = Duration::from_secs(30);

/// What a deployment doesn't choose: time, chance, and the disk.
#[derive(Debug, Clone)]
pub struct World {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The chance.
    pub randomness: Randomness,
    /// The disk.
    pub disk: Disk,
}

/// Names of the values that a database is stamped with.
pub mod stamps {
    /// `sandbox`, `test` or `real`.
    pub const MODE: &str = "mode";
    /// The fingerprint of the master key.
    pub const KEY: &str = "key_fingerprint";
    /// With a dot and a CAIP-2 id: what a network from configuration is, as JSON.
    pub const NETWORK: &str = "network";
    /// The recipient that is in force.
    pub const PAY_TO: &str = "pay_to";
    /// The recipient that was drawn for a sandbox in a process of its own.
    pub const SANDBOX_PAY_TO: &str = "sandbox_pay_to";
    /// Where the sandbox's chain is read, so that `pixtoll ledger` needs no flag.
    pub const SANDBOX_RPC: &str = "sandbox_rpc_url";
    /// With a dot and a CAIP-2 id: the newest block when the ledger first saw that chain.
    pub const FIRST_BLOCK: &str = "first_block";
}

/// Everything that a server needs, ready to answer requests.
#[derive(Debug)]
pub struct App {
    /// What is in force.
    pub config: Config,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The chance.
    pub randomness: Randomness,
    /// The database.
    pub db: Db,
    /// The images.
    pub images: Arc<Images>,
    /// Whether the database is as young as its store.
    pub epoch: Arc<Epoch>,
    /// How much may be asked for.
    pub limits: Arc<Limits>,
    /// What makes images and rows disappear.
    pub retention: Arc<Retention>,
    /// What was paid, signed.
    pub receipts: Arc<Receipts>,
    /// What is sold; `None` while payments are off.
    pub till: Option<Till>,
    _lock: Option<File>,
    _sandbox: Option<Listening>,
}

/// The part of the application that takes money.
#[derive(Debug, Clone)]
pub struct Till {
    /// Offers and challenges.
    pub shop: Arc<Shop>,
    /// Payments.
    pub payments: Arc<Payments>,
    /// Who settles and shows the chain, on each network.
    pub rails: Rails,
}

impl App {
    /// Opens everything that `config` names, and creates what isn't there.
    ///
    /// # Errors
    /// Whatever can't be opened, with what to do about it.
    pub async fn build(config: Config, world: World) -> anyhow::Result<Self> {
        let World {
            clock,
            randomness,
            disk,
        } = world;
        let (db, lock) = open_database(&config.database).await?;
        db.migrate().await?;
        know_networks(&db).await?;
        if lock.is_some() {
            end_what_was_held(&db).await?;
        }
        let key = open_key(&db, &config, &randomness).await?;
        let receipts = open_receipts(&db, &key, &config, &clock).await?;
        let store = open_store(&config.images.store)?;
        let epoch = open_epoch(&db, &store, &randomness).await;
        let retention = Retention::new(
            db.clone(),
            store.clone(),
            Arc::clone(&clock),
            &randomness,
            config.retention.records,
        )
        .locked_by(reaper_lock(&config.database));
        let images = Arc::new(Images::new(
            db.clone(),
            store,
            Floor {
                disk,
                folder: config.images.store.clone(),
                min_free: config.images.min_free,
            },
            key.clone(),
            Arc::clone(&clock),
            randomness.clone(),
        ));
        let limits = Limits::new(config.limits, Arc::clone(&clock), randomness.clone());
        let limits = Arc::new(limits);
        let mut sandbox = None;
        let till = match &config.payments {
            None => None,
            Some(payments) => {
                let ends =
                    endpoints(&config, payments, &db, &clock, &randomness, &mut sandbox).await?;
                let ports = Bench {
                    db: &db,
                    key,
                    keys: receipts.keys(),
                    clock: &clock,
                    randomness: &randomness,
                    images: &images,
                    limits: &limits,
                };
                Some(open_till(&config, payments, ends, ports).await?)
            }
        };
        Ok(Self {
            config,
            clock,
            randomness,
            db,
            images,
            epoch,
            limits,
            retention: Arc::new(retention),
            receipts: Arc::new(receipts),
            till,
            _lock: lock,
            _sandbox: sandbox,
        })
    }

    /// Starts what runs beside the requests: the reaper, the reconciler, the auditor, and the record of offers.
    pub fn start_jobs(&self) {
        let schedule = self.config.retention.schedule.clone();
        tokio::spawn(Arc::clone(&self.retention).reap_forever(schedule));
        tokio::spawn(Arc::clone(&self.epoch).watch_forever());
        let Some(till) = &self.till else { return };
        tokio::spawn(Arc::clone(&till.payments).reconcile_forever());
        tokio::spawn(Arc::clone(&till.payments).audit_forever());
        tokio::spawn(warn_of_unsupported(till.rails.clone()));
        let (db, clock, till) = (self.db.clone(), Arc::clone(&self.clock), till.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RECORD_EVERY).await;
                if let Err(error) = till.shop.record_offers(&db, clock.now()).await {
                    tracing::warn!(%error, "the offers that are made could not be recorded");
                }
                stamp_first_blocks(&db, &till.rails, till.shop.pay_to()).await;
            }
        });
    }
}

/// Nobody else uses this database, so whoever held a lease or a reservation is gone.
async fn end_what_was_held(db: &Db) -> anyhow::Result<()> {
    rows::end_all_leases(db).await?;
    crate::db::images::end_reservations(db).await?;
    crate::db::jobs::return_all_jobs(db).await?;
    Ok(())
}

/// The master key, which must be the one that this database was made with.
async fn open_key(db: &Db, config: &Config, randomness: &Randomness) -> anyhow::Result<SecretKey> {
    let key = load_key(&config.secrets_key, randomness)?;
    check_stamp(db, stamps::KEY, &key.fingerprint(), "another secrets.key").await?;
    Ok(key)
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

/// Where money is checked, moved and read.
struct Endpoints {
    rails: Rails,
    pay_to: Address,
    /// Where a sandbox's chain is read.
    sandbox_rpc: Option<String>,
}

/// What a till is built from.
struct Bench<'a> {
    db: &'a Db,
    key: SecretKey,
    keys: &'a Arc<SigningKeys>,
    clock: &'a Arc<dyn Clock>,
    randomness: &'a Randomness,
    images: &'a Arc<Images>,
    limits: &'a Arc<Limits>,
}

async fn open_till(
    config: &Config,
    payments: &PaymentsConfig,
    ends: Endpoints,
    bench: Bench<'_>,
) -> anyhow::Result<Till> {
    let db = bench.db;
    let mode = match config.mode {
        Some(Mode::Sandbox) => "sandbox",
        Some(Mode::Test) => "test",
        Some(Mode::Real) | None => "real",
    };
    check_stamp(
        db,
        stamps::MODE,
        mode,
        "money of another kind (sandbox, test or real)",
    )
    .await?;
    stamp_networks(db, &ends.rails).await?;
    refuse_open_elsewhere(db, &ends.rails).await?;
    check_chain_ids(&ends.rails).await?;
    deployment::set(db, stamps::PAY_TO, &ends.pay_to.to_string()).await?;
    if let Some(url) = &ends.sandbox_rpc {
        deployment::set(db, stamps::SANDBOX_RPC, url).await?;
    }
    stamp_first_blocks(db, &ends.rails, ends.pay_to).await;
    let shop = Arc::new(Shop::new(
        config.tiers.clone(),
        ends.rails.iter().map(|rail| rail.network).collect(),
        ends.pay_to,
        config.http.base_url.clone(),
        mode == "sandbox",
        bench.randomness.clone(),
        SignedOffers::new(Arc::clone(bench.keys), Arc::clone(bench.clock)),
    ));
    shop.record_offers(db, bench.clock.now()).await?;
    let ports = Ports {
        db: db.clone(),
        key: bench.key,
        keys: Arc::clone(bench.keys),
        clock: Arc::clone(bench.clock),
        randomness: bench.randomness.clone(),
        rails: ends.rails.clone(),
        images: Arc::clone(bench.images),
        limits: Arc::clone(bench.limits),
    };
    let settings = Settings {
        timeout: payments.timeout,
        token_ttl: config.token_ttl,
    };
    let payments = Arc::new(Payments::new(ports, Arc::clone(&shop), settings));
    Ok(Till {
        shop,
        payments,
        rails: ends.rails,
    })
}

async fn endpoints(
    config: &Config,
    payments: &PaymentsConfig,
    db: &Db,
    clock: &Arc<dyn Clock>,
    randomness: &Randomness,
    listening: &mut Option<Listening>,
) -> anyhow::Result<Endpoints> {
    if let Some(sandbox) = &config.sandbox {
        return sandbox_endpoints(sandbox, payments, db, clock, randomness, listening).await;
    }
    let rails = payments
        .networks
        .iter()
        .map(|known| open_rail(known, clock, randomness))
        .collect::<anyhow::Result<_>>()?;
    Ok(Endpoints {
        rails: Rails::new(rails),
        pay_to: payments.pay_to.context("payments.pay_to is missing")?,
        sandbox_rpc: None,
    })
}

/// Who settles on a configured network, and who shows its chain. Costs no call.
///
/// # Errors
/// When no client can be built.
pub fn open_rail(
    known: &NetworkConfig,
    clock: &Arc<dyn Clock>,
    randomness: &Randomness,
) -> anyhow::Result<Rail> {
    let facilitator = match &known.facilitator {
        FacilitatorChoice::Url { url, bearer } => {
            let credentials = bearer
                .clone()
                .map_or(Credentials::None, Credentials::Bearer);
            HttpFacilitator::new("url", url, credentials, Arc::clone(clock))?
        }
        FacilitatorChoice::Coinbase { url, key } => {
            let credentials = Credentials::Cdp {
                key: Arc::clone(key),
                randomness: randomness.clone(),
            };
            HttpFacilitator::new("coinbase", url, credentials, Arc::clone(clock))?
        }
        FacilitatorChoice::Sandbox => bail!("the sandbox has no settings"),
    };
    let rpc_url = known
        .rpc_url
        .as_deref()
        .context("payments.rpc_url is missing")?;
    Ok(Rail {
        network: known.network,
        facilitator: Arc::new(facilitator),
        chain: Arc::new(RpcChain::new(known.network, rpc_url)?),
    })
}

async fn sandbox_endpoints(
    sandbox: &SandboxConfig,
    payments: &PaymentsConfig,
    db: &Db,
    clock: &Arc<dyn Clock>,
    randomness: &Randomness,
    listening: &mut Option<Listening>,
) -> anyhow::Result<Endpoints> {
    let (facilitator_url, rpc_url, drawn) = if let Some(separate) = &sandbox.separate {
        let drawn = Address::from(randomness.bytes::<20>()).to_string();
        let drawn = deployment::stamp(db, stamps::SANDBOX_PAY_TO, &drawn).await?;
        (
            separate.facilitator_url.clone(),
            separate.rpc_url.clone(),
            drawn.parse()?,
        )
    } else {
        make_parent(&sandbox.database)?;
        let location = Location::File(sandbox.database.clone());
        let chain = Sandbox::open(location, Arc::clone(clock), randomness).await?;
        let ports = chain.listen(sandbox.listen, sandbox.rpc_listen)?;
        let urls = (ports.facilitator_url.clone(), ports.rpc_url.clone());
        *listening = Some(ports);
        (urls.0, urls.1, chain.recipient())
    };
    let network = &networks::BASE_SEPOLIA;
    let rail = Rail {
        network,
        facilitator: Arc::new(HttpFacilitator::new(
            "sandbox",
            &facilitator_url,
            Credentials::None,
            Arc::clone(clock),
        )?),
        chain: Arc::new(RpcChain::new(network, &rpc_url)?),
    };
    Ok(Endpoints {
        rails: Rails::new(vec![rail]),
        pay_to: payments.pay_to.unwrap_or(drawn),
        sandbox_rpc: Some(rpc_url),
    })
}

/// Asks each facilitator once whether it settles on its network. Challenges are made whatever it says.
async fn warn_of_unsupported(rails: Rails) {
    for rail in &rails {
        let network = rail.network.name();
        match rail.facilitator.supported(SUPPORTED_TIMEOUT).await {
            Ok(kinds) if kinds.iter().any(|kind| kind.is_exact_on(rail.network)) => {}
            Ok(_) => tracing::warn!(
                network,
                facilitator = rail.facilitator.name(),
                "the facilitator doesn't list this network: it will refuse payments on it"
            ),
            Err(why) => tracing::warn!(
                network,
                facilitator = rail.facilitator.name(),
                why,
                "the facilitator doesn't say what it supports"
            ),
        }
    }
}

/// Makes the networks known that this database was made with, so that its rows can be read whatever
/// the configuration says today.
async fn know_networks(db: &Db) -> anyhow::Result<()> {
    for (caip2, definition) in deployment::list(db, stamps::NETWORK).await? {
        let definition = serde_json::from_str(&definition)
            .with_context(|| format!("what the database says of {caip2} can't be read"))?;
        networks::add(definition).with_context(|| {
            format!(
                "the configuration describes {caip2} otherwise than the ledger does: correct [[networks]]"
            )
        })?;
    }
    Ok(())
}

/// Writes down what the networks from configuration are.
async fn stamp_networks(db: &Db, rails: &Rails) -> anyhow::Result<()> {
    for rail in rails {
        if networks::BUILT_IN.contains(&rail.network) {
            continue;
        }
        let name = format!("{}.{}", stamps::NETWORK, rail.network.caip2);
        let definition = serde_json::to_string(&Definition::of(rail.network))?;
        check_stamp(db, &name, &definition, "another definition of this network").await?;
    }
    Ok(())
}

/// A payment that is open on a network which nobody asks any more would stay open for ever.
async fn refuse_open_elsewhere(db: &Db, rails: &Rails) -> anyhow::Result<()> {
    for caip2 in rows::open_networks(db).await? {
        if !rails.iter().any(|rail| rail.network.caip2 == caip2) {
            bail!(
                "payments on {caip2} are still open, and it is not in payments.networks: keep it there \
                 until they are through (minutes after the last sale)"
            );
        }
    }
    Ok(())
}

/// A node of another chain would deny every payment. One that doesn't answer is waited for later.
async fn check_chain_ids(rails: &Rails) -> anyhow::Result<()> {
    for rail in rails {
        match rail.chain.chain_id().await {
            Ok(id) if id != rail.network.chain_id => bail!(
                "payments.rpc_url of {} leads to the chain {id}: name a node of {}",
                rail.network.name(),
                rail.network.caip2
            ),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// The ledger's first block on each network: from there `pixtoll ledger check` adds up. Noted when the
/// node first answers, which is before the first payment, since that needs the node too.
async fn stamp_first_blocks(db: &Db, rails: &Rails, pay_to: Address) {
    for rail in rails {
        let caip2 = rail.network.caip2;
        let name = format!("{}.{caip2}", stamps::FIRST_BLOCK);
        let found = match deployment::find(db, &name).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the ledger's first block could not be read");
                continue;
            }
        };
        let first_block = match found {
            Some(block) => block,
            None => match rail.chain.head().await {
                Ok(head) => head.number.to_string(),
                Err(error) => {
                    tracing::warn!(%error, network = rail.network.name(),
                        "the chain's node does not answer; paid routes wait for it");
                    continue;
                }
            },
        };
        // From there on, orphans of this recipient are looked for.
        let orphans = format!("{}.{caip2}.{pay_to}", orphans::NEXT_BLOCK);
        for name in [name, orphans] {
            if let Err(error) = deployment::stamp(db, &name, &first_block).await {
                tracing::warn!(%error, "the ledger's first block could not be noted");
            }
        }
    }
}

/// Compares the database with its store, as far as they answer: a server starts without, and sells nothing.
async fn open_epoch(db: &Db, store: &Store, randomness: &Randomness) -> Arc<Epoch> {
    let epoch = Epoch::new(db.clone(), store.clone(), randomness);
    if let Err(error) = epoch.advance().await {
        tracing::warn!(%error, "the database could not be compared with its store; paid routes wait for that");
    }
    Arc::new(epoch)
}

fn open_store(root: &Path) -> anyhow::Result<Store> {
    Store::open_local(root)
        .with_context(|| format!("the image store {} can't be opened", root.display()))
}

/// Opens the database. On SQLite the lock keeps a second server out, and ends with the process.
async fn open_database(url: &DatabaseUrl) -> anyhow::Result<(Db, Option<File>)> {
    match url {
        DatabaseUrl::Sqlite(path) => {
            make_parent(path)?;
            let lock_path = path.with_extension("lock");
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&lock_path)
                .with_context(|| format!("{} can't be opened", lock_path.display()))?;
            if lock.try_lock().is_err() {
                bail!(
                    "another pixtoll server uses {}: stop it, or give this one another database.url \
                     (several servers share a PostgreSQL database)",
                    path.display()
                );
            }
            Ok((Db::open_sqlite(path).await?, Some(lock)))
        }
        DatabaseUrl::Postgres(url) => Ok((Db::connect_postgres(url).await?, None)),
    }
}

/// The file by which the reapers of a SQLite database keep apart: they are all on its machine.
pub fn reaper_lock(url: &DatabaseUrl) -> Option<PathBuf> {
    match url {
        DatabaseUrl::Sqlite(path) => Some(path.with_extension("reaper.lock")),
        DatabaseUrl::Postgres(_) => None,
    }
}

/// Opens the database beside a server that may be running, for commands.
///
/// # Errors
/// When there is none, or it can't be opened.
pub async fn open_database_beside(url: &DatabaseUrl) -> anyhow::Result<Db> {
    let db = match url {
        DatabaseUrl::Sqlite(path) => {
            if !path.exists() {
                bail!(
                    "there is no database at {}: start the server once, or set database.url",
                    path.display()
                );
            }
            Db::open_sqlite(path).await?
        }
        DatabaseUrl::Postgres(url) => Db::connect_postgres(url).await?,
    };
    if !db.is_current().await? {
        bail!(
            "this database was made by another version of pixtoll: start that server once, or use its command"
        );
    }
    know_networks(&db).await?;
    Ok(db)
}

async fn check_stamp(db: &Db, name: &str, value: &str, what: &str) -> anyhow::Result<()> {
    let stamped = deployment::stamp(db, name, value).await?;
    if stamped != value {
        bail!(
            "this database was made for {what}: it is stamped {name} = {stamped}, and the configuration \
             says {value}; use the old settings, or another database.url"
        );
    }
    Ok(())
}

fn load_key(source: &SecretKeySource, randomness: &Randomness) -> anyhow::Result<SecretKey> {
    match source {
        SecretKeySource::Given(key) => Ok(key.clone()),
        SecretKeySource::FileUnderData(path) => {
            make_parent(path)?;
            if !path.exists() {
                write_key(path, randomness)?;
            }
            read_key(path)
        }
    }
}

fn read_key(path: &Path) -> anyhow::Result<SecretKey> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} can't be read", path.display()))?;
    parse_secret_key(text.trim()).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// The key, for commands beside a server: none is made where there is none.
///
/// # Errors
/// When its file can't be read, or holds no key.
pub fn find_key(source: &SecretKeySource) -> anyhow::Result<Option<SecretKey>> {
    match source {
        SecretKeySource::Given(key) => Ok(Some(key.clone())),
        SecretKeySource::FileUnderData(path) if path.exists() => read_key(path).map(Some),
        SecretKeySource::FileUnderData(_) => Ok(None),
    }
}

/// Writes a new key whole or not at all: half a key would be another key.
fn write_key(path: &Path, randomness: &Randomness) -> anyhow::Result<()> {
    let folder = path.parent().context("secrets.key lies nowhere")?;
    // A temporary file is readable by its owner only.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", hex::encode(randomness.bytes::<32>()))?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)
        .with_context(|| format!("{} can't be written", path.display()))?;
    Ok(())
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} can't be made", folder.display()))?;
    }
    Ok(())
}
