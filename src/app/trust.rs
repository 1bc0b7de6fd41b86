//! Builds the operator's acts, for a server and for the commands beside it.

use std::sync::Arc;

use anyhow::Context;

use crate::cdn::Cdn;
use crate::config::Config;
use crate::db::Db;
use crate::store::Store;
use crate::system::clock::Clock;
use crate::system::random::Randomness;
use crate::trust::Trust;

/// Builds the operator's acts.
///
/// # Errors
/// When no client for the CDN can be built.
pub fn open_trust(
    config: &Config,
    db: Db,
    store: Store,
    clock: Arc<dyn Clock>,
    randomness: &Randomness,
) -> anyhow::Result<Trust> {
    let cdn = config.cdn.as_ref().map(Cdn::new).transpose();
    let cdn = cdn.context("no client for cdn.api_url can be built")?;
    let url = &config.images.base_url;
    let trust = Trust::new(db, store, clock, randomness, config.trust, url);
    Ok(trust.behind(cdn.map(Arc::new)))
}
