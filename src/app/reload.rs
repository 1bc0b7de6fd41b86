//! Other prices and limits while the server runs (operations.md, "Configuration").

use super::App;
use crate::config::{Config, show};
use crate::db::DbError;

impl App {
    /// Takes the tiers and the counts of the limits of `fresh` from now on. `false`: other settings differ as well, and
    /// wait for a restart.
    ///
    /// # Errors
    /// [`DbError`], when what was offered until now can't be noted; then all stays as it was.
    pub async fn reload(&self, fresh: &Config) -> Result<bool, DbError> {
        let tiers = fresh.tiers.clone();
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
