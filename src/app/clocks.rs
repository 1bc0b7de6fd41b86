//! Builds the clocks of other machines with which the reaper compares this machine's clock.

use std::sync::Arc;

use super::checkout::{open_access, sandbox_access};
use crate::config::{Config, FacilitatorChoice, StorePlace, is_on_this_machine};
use crate::db::Db;
use crate::payments::access::{NetworkAccess, Networks};
use crate::pricing::networks::Network;
use crate::retention::independent::{ClockPlace, ClockSource, IndependentClock};
use crate::store::Store;
use crate::system::clock::Clock;
use crate::system::random::Randomness;

/// Returns the clocks of the configured services. A sandbox in this process has none.
pub fn independent_clocks(
    config: &Config,
    networks: Option<&Networks>,
    db: &Db,
    store: &Store,
) -> Vec<IndependentClock> {
    let mut clocks = Vec::new();
    let is_own_sandbox = config
        .sandbox
        .as_ref()
        .is_some_and(|sandbox| sandbox.separate.is_none());
    for access in networks.into_iter().flatten().filter(|_| !is_own_sandbox) {
        // The place of the node doesn't matter: the time of a block is set by its producer.
        let chain = ClockSource::Chain(access.network, Arc::clone(&access.chain));
        clocks.push((chain, ClockPlace::Elsewhere));
        let facilitator = ClockSource::Facilitator(access.network, Arc::clone(&access.facilitator));
        clocks.push((facilitator, facilitator_place(config, access.network)));
    }
    if matches!(db, Db::Postgres(_)) {
        clocks.push((ClockSource::Database(db.clone()), ClockPlace::Unknown));
    }
    if let StorePlace::S3(bucket) = &config.images.store {
        let place = place_of(bucket.endpoint.as_deref());
        clocks.push((ClockSource::Store(store.clone()), place));
    }
    let named = config.retention.clocks.as_deref();
    clocks
        .into_iter()
        .filter(|(source, _)| named.is_none_or(|kinds| kinds.contains(&source.kind())))
        .map(|(source, place)| IndependentClock {
            source,
            // The operator knows where the named ones are.
            place: named.map_or(place, |_| ClockPlace::Elsewhere),
        })
        .collect()
}

/// Opens the networks for a command beside a server. Sends no request.
///
/// # Errors
/// When no client can be built.
pub fn open_rails_beside(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Networks> {
    let Some(payments) = &config.payments else {
        return Ok(Networks::new(Vec::new()));
    };
    let networks: Vec<NetworkAccess> = match &config.sandbox {
        Some(sandbox) => {
            let separate = sandbox.separate.as_ref();
            let access =
                separate.map(|ends| sandbox_access(&ends.facilitator_url, &ends.rpc_urls(), clock));
            access.into_iter().collect::<anyhow::Result<_>>()?
        }
        None => payments
            .networks
            .iter()
            .map(|known| open_access(known, clock, &Randomness::system()))
            .collect::<anyhow::Result<_>>()?,
    };
    Ok(Networks::new(networks))
}

fn facilitator_place(config: &Config, network: &Network) -> ClockPlace {
    let networks = config
        .payments
        .iter()
        .flat_map(|payments| &payments.networks);
    let known = networks
        .into_iter()
        .find(|known| known.network.caip2 == network.caip2);
    match known.map(|known| &known.facilitator) {
        Some(FacilitatorChoice::Url { url, .. } | FacilitatorChoice::Coinbase { url, .. }) => {
            place_of(Some(url))
        }
        // `pixtoll sandbox` listens on loopback.
        Some(FacilitatorChoice::Sandbox) | None => ClockPlace::Here,
    }
}

/// Where the server of a URL is, by its host name. Without a URL it is the provider's.
fn place_of(url: Option<&str>) -> ClockPlace {
    match url {
        Some(url) if is_on_this_machine(url) => ClockPlace::Here,
        Some(_) | None => ClockPlace::Elsewhere,
    }
}
