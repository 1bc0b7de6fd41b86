//! Reloads prices and limits while the server runs (docs/operations.md).

use std::sync::Arc;

use anyhow::ensure;

use super::App;
use crate::config::{Config, least_body_bytes};

impl App {
    /// Applies the tiers, limits and blocks of `fresh`. `false`: other settings differ as well, and need a
    /// restart.
    ///
    /// # Errors
    /// When an upload would not fit into the memory for bodies, which can't be changed while the
    /// server runs, or when the current offers can't be recorded. Nothing is changed then.
    pub async fn reload(&self, fresh: &Config) -> anyhow::Result<bool> {
        let tiers = fresh.tiers.clone();
        let least = least_body_bytes(&tiers);
        let room = self.config.limits.body_bytes;
        ensure!(
            least <= room,
            "the tiers need limits.body_bytes of at least {least}, but it was {room} at start: restart the server to change it"
        );
        match &self.checkout {
            Some(checkout) => checkout.catalog.change_tiers(tiers).await?,
            None => self.tiers.replace(tiers),
        }
        self.limits.change_counts(fresh.limits);
        let blocks = self.screening.blocks();
        blocks.change(
            fresh.screening.closeness,
            Arc::clone(&fresh.screening.sanctioned),
        );
        // A database that does not answer leaves the blocks as they were; a job reads them again.
        if let Err(error) = blocks.read_again().await {
            tracing::warn!(%error, "the blocks could not be read again");
        }
        Ok(self.config.is_same_until_restart(fresh))
    }
}
