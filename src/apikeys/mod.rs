//! API keys: a wallet makes them, suspends, resumes and revokes them, and each uploads in its name.
//! The server reads a key at each use, so a change counts at once on every replica.

use std::sync::Arc;

use crate::db::api_keys::Bought;
use crate::db::{Db, DbError, api_keys};
use crate::images::{Images, UploadError};
use crate::model::api_key::{ApiKey, KeySecret};
use crate::model::owner::Owner;
use crate::system::clock::Clock;
use crate::system::random::Randomness;

/// The most keys that one list returns.
const MOST_LISTED: u32 = 1000;

/// The API keys of a deployment.
#[derive(Debug)]
pub struct ApiKeys {
    db: Db,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
    images: Arc<Images>,
}

/// What a wallet says of a key that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What the wallet calls the key.
    pub name: Option<String>,
    /// How many uploads the key may make in a UTC day.
    pub uploads_per_day: u64,
}

/// A change of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChange {
    /// The key takes no uploads until it is resumed.
    Suspend,
    /// The key takes uploads again.
    Resume,
    /// The key never takes uploads again.
    Revoke,
}

impl ApiKeys {
    /// Creates the keys of this database. `images` publishes what they upload.
    pub const fn new(
        db: Db,
        clock: Arc<dyn Clock>,
        randomness: Randomness,
        images: Arc<Images>,
    ) -> Self {
        Self {
            db,
            clock,
            randomness,
            images,
        }
    }

    /// Makes a key for a wallet. The secret is returned this once. `None`: the wallet has `most`
    /// keys that are not revoked.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn make(
        &self,
        owner: Owner,
        new: NewKey,
        most: u32,
    ) -> Result<Option<(ApiKey, KeySecret)>, DbError> {
        let secret = KeySecret::draw(&self.randomness);
        let key = ApiKey {
            id: hex::encode(self.randomness.bytes::<8>()),
            secret_hash: secret.hash(),
            wallet: owner.wallet,
            network: owner.network,
            name: new.name,
            uploads_per_day: new.uploads_per_day,
            created_at: self.clock.now(),
            suspended_at: None,
            revoked_at: None,
            day: 0,
            uploads_on_day: 0,
            uploads: 0,
            bytes: 0,
            last_used_at: None,
        };
        let is_made = api_keys::insert(&self.db, &key, most).await?;
        Ok(is_made.then_some((key, secret)))
    }

    /// Lists the newest 1000 keys of a wallet, newest first, also revoked ones.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn list(&self, owner: &Owner) -> Result<Vec<ApiKey>, DbError> {
        let (wallet, network) = (owner.wallet.to_string(), owner.network.as_deref());
        api_keys::list(&self.db, &wallet, network, MOST_LISTED).await
    }

    /// Changes a key of this wallet, and returns it. A key that is so already stays as it is, and a
    /// revoked one stays revoked. `None`: the wallet has no such key.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn change(
        &self,
        owner: &Owner,
        id: &str,
        change: KeyChange,
    ) -> Result<Option<ApiKey>, DbError> {
        if self.find_own(owner, id).await?.is_none() {
            return Ok(None);
        }
        let now = self.clock.now();
        match change {
            KeyChange::Suspend => api_keys::suspend(&self.db, id, Some(now)).await?,
            KeyChange::Resume => api_keys::suspend(&self.db, id, None).await?,
            KeyChange::Revoke => api_keys::revoke(&self.db, id, now).await?,
        }
        self.find_own(owner, id).await
    }

    async fn find_own(&self, owner: &Owner, id: &str) -> Result<Option<ApiKey>, DbError> {
        let key = api_keys::find(&self.db, id).await?;
        Ok(key.filter(|key| key.owner() == *owner))
    }

    /// Finds the key with this secret, if it is neither suspended nor revoked. Keys are looked up by
    /// the hash of their secret, so the time of the look-up says nothing about another secret.
    ///
    /// # Errors
    /// [`UploadError`] says why the key takes no upload.
    pub async fn find_open(&self, secret: &KeySecret) -> Result<ApiKey, UploadError> {
        self.images.find_key(&secret.hash()).await
    }

    /// Finds how large the images are that the key's wallet bought in this tier. `None`: it bought
    /// nothing.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn find_bought(&self, key: &ApiKey, tier: &str) -> Result<Option<Bought>, DbError> {
        api_keys::find_bought(&self.db, &key.owner(), tier).await
    }
}
