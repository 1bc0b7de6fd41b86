//! Builds the part that sells: the facilitator and the node of each network, and the
//! stamps of a database that has sold something.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use anyhow::{Context, bail};
use futures_util::future::join_all;

use super::disk::{check_stamp, make_parent};
use super::stamps;
use crate::accounting::funnel::Funnel;
use crate::catalog::{Catalog, SaleTerms, SignedOffers};
use crate::checkout::Checkout;
use crate::config::{
    Config, FacilitatorChoice, Mode, NetworkConfig, PaymentsConfig, SandboxConfig,
};
use crate::db::{Db, deployment, payments as rows};
use crate::evm::chain::rpc::RpcChain;
use crate::facilitator::http::{Credentials, HttpFacilitator};
use crate::images::Images;
use crate::keys::secrets::Keyring;
use crate::keys::signing::SigningKeys;
use crate::limits::Limits;
use crate::moving::epoch::Epoch;
use crate::payments::access::{NetworkAccess, Networks};
use crate::payments::recovery::orphans;
use crate::payments::{Payments, Ports, Settings};
use crate::pricing::networks::{self, Definition};
use crate::pricing::tiers::Tiers;
use crate::sandbox::{Listening, Location, Sandbox};
use crate::system::clock::Clock;
use crate::system::random::Randomness;

/// How long a facilitator may take to answer what it supports.
const SUPPORTED_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a facilitator is asked what it supports; below, the first and the longest pause while
/// it doesn't list the network.
const LEARN_EVERY: Duration = Duration::from_hours(1);
const LEARN_AGAIN: Duration = Duration::from_mins(1);
const LEARN_SLOWEST: Duration = Duration::from_mins(10);

/// The services that verify, settle and read payments.
struct Endpoints {
    networks: Networks,
    pay_to: Address,
    /// The URL of a sandbox's chain.
    sandbox_rpc: Option<String>,
}

/// What the checkout is built from.
pub(super) struct CheckoutNeeds<'a> {
    pub(super) db: &'a Db,
    pub(super) secrets: Keyring,
    pub(super) keys: &'a Arc<SigningKeys>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) randomness: &'a Randomness,
    pub(super) images: &'a Arc<Images>,
    pub(super) epoch: &'a Arc<Epoch>,
    pub(super) limits: &'a Arc<Limits>,
    pub(super) funnel: &'a Arc<Funnel>,
    pub(super) tiers: &'a Tiers,
}

/// Builds the part that takes payments, with a sandbox in this process where configured.
pub(super) async fn open_checkout(
    config: &Config,
    payments: &PaymentsConfig,
    needs: CheckoutNeeds<'_>,
) -> anyhow::Result<(Checkout, Option<Listening>)> {
    let db = needs.db;
    let mut sandbox = None;
    let ends = endpoints(
        config,
        payments,
        db,
        needs.clock,
        needs.randomness,
        &mut sandbox,
    )
    .await?;
    let mode = match config.mode {
        Some(Mode::Sandbox) => "sandbox",
        Some(Mode::Test) => "test",
        Some(Mode::Real) | None => "real",
    };
    check_stamp(
        db,
        stamps::MODE,
        mode,
        "another kind of money (sandbox, test or real)",
    )
    .await?;
    stamp_networks(db, &ends.networks).await?;
    refuse_open_elsewhere(db, &ends.networks).await?;
    check_chain_ids(&ends.networks).await?;
    deployment::set(db, stamps::PAY_TO, &ends.pay_to.to_string()).await?;
    if let Some(url) = &ends.sandbox_rpc {
        deployment::set(db, stamps::SANDBOX_RPC, url).await?;
    }
    stamp_first_blocks(db, &ends.networks, ends.pay_to).await;
    let play_money = mode == "sandbox";
    let catalog = open_catalog(config, &needs, &ends, play_money).await?;
    let ports = Ports {
        db: db.clone(),
        secrets: needs.secrets.clone(),
        keys: Arc::clone(needs.keys),
        clock: Arc::clone(needs.clock),
        randomness: needs.randomness.clone(),
        networks: ends.networks.clone(),
        images: Arc::clone(needs.images),
        limits: Arc::clone(needs.limits),
        epoch: Arc::clone(needs.epoch),
        funnel: Arc::clone(needs.funnel),
    };
    let settings = Settings {
        timeout: payments.timeout,
        token_ttl: config.token_ttl,
    };
    let payments = Arc::new(Payments::new(ports, Arc::clone(&catalog), settings));
    let checkout = Checkout {
        catalog,
        payments,
        networks: ends.networks,
        images: Arc::clone(needs.images),
        epoch: Arc::clone(needs.epoch),
        funnel: Arc::clone(needs.funnel),
    };
    Ok((checkout, sandbox))
}

/// The catalog, with its current offers on record.
async fn open_catalog(
    config: &Config,
    needs: &CheckoutNeeds<'_>,
    ends: &Endpoints,
    play_money: bool,
) -> anyhow::Result<Arc<Catalog>> {
    let terms = SaleTerms {
        tiers: needs.tiers.clone(),
        networks: ends.networks.iter().map(|access| access.network).collect(),
        pay_to: ends.pay_to,
        base_url: config.http.base_url.clone(),
        play_money,
        randomness: needs.randomness.clone(),
    };
    let signed = SignedOffers::new(Arc::clone(needs.keys), Arc::clone(needs.clock));
    let catalog = Catalog::new(needs.db.clone(), Arc::clone(needs.clock), terms, signed);
    let catalog = Arc::new(catalog);
    catalog.record_offers().await?;
    Ok(catalog)
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
    for known in &payments.networks {
        if known.is_public_node() {
            tracing::warn!(
                network = known.network.name(),
                "payments.rpc_url is not set: the built-in endpoint is public, refuses busy callers, and is not for production"
            );
        }
    }
    let networks = payments
        .networks
        .iter()
        .map(|known| open_access(known, clock, randomness))
        .collect::<anyhow::Result<_>>()?;
    Ok(Endpoints {
        networks: Networks::new(networks),
        pay_to: payments.pay_to.context("payments.pay_to is missing")?,
        sandbox_rpc: None,
    })
}

/// Builds the clients for the facilitator and the node of a configured network. Sends no request.
///
/// # Errors
/// When no client can be built.
pub fn open_access(
    known: &NetworkConfig,
    clock: &Arc<dyn Clock>,
    randomness: &Randomness,
) -> anyhow::Result<NetworkAccess> {
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
        FacilitatorChoice::Sandbox => bail!("the sandbox has no client settings"),
    };
    let chain = RpcChain::new(known.network, &known.rpc_urls())?;
    Ok(NetworkAccess::new(
        known.network,
        Arc::new(facilitator),
        Arc::new(chain),
    ))
}

async fn sandbox_endpoints(
    sandbox: &SandboxConfig,
    payments: &PaymentsConfig,
    db: &Db,
    clock: &Arc<dyn Clock>,
    randomness: &Randomness,
    listening: &mut Option<Listening>,
) -> anyhow::Result<Endpoints> {
    let (facilitator_url, rpc_urls, drawn) = if let Some(separate) = &sandbox.separate {
        let drawn = Address::from(randomness.bytes::<20>()).to_string();
        let drawn = deployment::stamp(db, stamps::SANDBOX_PAY_TO, &drawn).await?;
        (
            separate.facilitator_url.clone(),
            separate.rpc_urls(),
            drawn.parse()?,
        )
    } else {
        make_parent(&sandbox.database)?;
        let location = Location::File(sandbox.database.clone());
        let chain = Sandbox::open(location, Arc::clone(clock), randomness).await?;
        let ports = chain.listen(sandbox.listen, sandbox.rpc_listen)?;
        let urls = (ports.facilitator_url.clone(), vec![ports.rpc_url.clone()]);
        *listening = Some(ports);
        (urls.0, urls.1, chain.recipient())
    };
    let access = sandbox_access(&facilitator_url, &rpc_urls, clock)?;
    Ok(Endpoints {
        networks: Networks::new(vec![access]),
        pay_to: payments.pay_to.unwrap_or(drawn),
        sandbox_rpc: rpc_urls.into_iter().next(),
    })
}

/// The one network of a sandbox at these URLs. Sends no request.
pub(super) fn sandbox_access(
    facilitator_url: &str,
    rpc_urls: &[String],
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<NetworkAccess> {
    let network = &networks::BASE_SEPOLIA;
    let clock = Arc::clone(clock);
    let facilitator = HttpFacilitator::new("sandbox", facilitator_url, Credentials::None, clock)?;
    let chain = RpcChain::new(network, rpc_urls)?;
    Ok(NetworkAccess::new(
        network,
        Arc::new(facilitator),
        Arc::new(chain),
    ))
}

/// Asks each facilitator what it supports, and in which version: repeatedly until it lists the
/// network, then every hour, since the facilitator may be replaced. Challenges don't depend on the
/// answers.
pub(super) async fn learn_supported(networks: Networks) {
    join_all(networks.iter().map(learn_from)).await;
}

async fn learn_from(access: &NetworkAccess) {
    let (network, facilitator) = (access.network.name(), access.facilitator.name());
    let mut pause = LEARN_AGAIN;
    loop {
        let listed = access.ask_supported(SUPPORTED_TIMEOUT).await;
        match &listed {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                network,
                facilitator,
                "the facilitator doesn't support this network: it will reject payments on it"
            ),
            Err(why) => tracing::warn!(
                network,
                facilitator,
                why,
                "the facilitator did not answer what it supports"
            ),
        }
        if listed == Ok(true) {
            pause = LEARN_AGAIN;
            tokio::time::sleep(LEARN_EVERY).await;
        } else {
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LEARN_SLOWEST);
        }
    }
}

/// Stamps the database with the definitions of configured networks.
async fn stamp_networks(db: &Db, networks: &Networks) -> anyhow::Result<()> {
    for access in networks {
        if networks::BUILT_IN.contains(&access.network) {
            continue;
        }
        let name = format!("{}.{}", stamps::NETWORK, access.network.caip2);
        let definition = serde_json::to_string(&Definition::of(access.network))?;
        check_stamp(db, &name, &definition, "another definition of this network").await?;
    }
    Ok(())
}

/// Rejects a configuration without a network that has open payments: they would stay open for ever.
async fn refuse_open_elsewhere(db: &Db, networks: &Networks) -> anyhow::Result<()> {
    for caip2 in rows::open_networks(db).await? {
        if !networks.iter().any(|access| access.network.caip2 == caip2) {
            bail!(
                "payments on {caip2} are still open, and it is not in payments.networks: keep it there until \
                 they are finished, some minutes after the last sale"
            );
        }
    }
    Ok(())
}

/// Rejects a node of another chain, which would deny every payment. A node that doesn't answer is
/// checked later.
async fn check_chain_ids(networks: &Networks) -> anyhow::Result<()> {
    for access in networks {
        match access.chain.chain_id().await {
            Ok(id) if id != access.network.chain_id => bail!(
                "payments.rpc_url of {} is a node of the chain {id}: set it to a node of {}",
                access.network.name(),
                access.network.caip2
            ),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Records the ledger's first block on each network, from which `pixtoll ledger check` adds up. It
/// is recorded when the node first answers, which is before the first payment, since a payment
/// needs the node too.
pub(super) async fn stamp_first_blocks(db: &Db, networks: &Networks, pay_to: Address) {
    for access in networks {
        let caip2 = access.network.caip2;
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
            None => match access.chain.head().await {
                Ok(head) => head.number.to_string(),
                Err(error) => {
                    tracing::warn!(%error, network = access.network.name(),
                        "the chain's node does not answer; paid routes are closed until it does");
                    continue;
                }
            },
        };
        let orphans = format!("{}.{caip2}.{pay_to}", orphans::NEXT_BLOCK);
        let noted = async {
            // Another server may have recorded an earlier block meanwhile.
            let first_block = deployment::stamp(db, &name, &first_block).await?;
            // From this block on, transfers to this recipient without a payment are looked for.
            deployment::stamp(db, &orphans, &first_block).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, "the ledger's first block could not be recorded");
        }
    }
}
