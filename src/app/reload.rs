//! Other prices and limits while the server runs (operations.md, "Configuration").

use anyhow::ensure;

use super::App;
use crate::config::{Config, least_body_bytes, show};

impl App {
    /// Takes the tiers and the counts of the limits of `fresh` from now on. `false`: other settings differ as well, and
    /// wait for a restart.
    ///
    /// # Errors
    /// When an upload would not fit into the memory for bodies, which stays as it is, and when what was offered until
    /// now can't be noted. Then all stays as it was.
    pub async fn reload(&self, fresh: &Config) -> anyhow::Result<bool> {
        let tiers = fresh.tiers.clone();
        let least = least_body_bytes(&tiers);
        let room = self.config.limits.body_bytes;
        ensure!(
            least <= room,
            "the tiers need limits.body_bytes of {least} bytes or more, and it was {room} at start: restart for that"
        );
        match &self.till {
            Some(till) => {
                let shop = &till.shop;
                shop.change_tiers(&self.db, tiers, self.clock.now()).await?;
            }
            None => self.tiers.replace(tiers),
        }
        self.limits.change_counts(fresh.limits);
        let mut expected = self.config.clone();
        expected.tiers = fresh.tiers.clone();
        expected.limits = expected.limits.with_counts_of(fresh.limits);
        Ok(show(&expected) == show(fresh))
    }
}
