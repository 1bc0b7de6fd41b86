//! Upload links: found by the secret in their URL, shown, revoked, and made without a payment in the
//! free tier. Payments make the others (`payments/deliver.rs`).

use std::sync::Arc;

use alloy_primitives::Address;

use crate::db::{Db, DbError, free_links, grants, payments};
use crate::images::{Images, UploadError};
use crate::keys::secrets::Keyring;
use crate::model::link::{FreeLink, Link, LinkId};
use crate::model::payment::{Grant, PaymentId, ProductKind, life_of_link};
use crate::model::token::UploadToken;
use crate::pricing::tiers::Tier;
use crate::system::clock::{Clock, Timestamp};
use crate::system::random::Randomness;

/// A link that takes uploads.
#[derive(Debug)]
pub enum OpenLink {
    /// A payment bought it.
    Paid(Grant),
    /// It uploads to the free tier.
    Free(FreeLink),
}

/// A page of the links of a wallet.
#[derive(Debug)]
pub struct OwnedLinks {
    /// The links, newest first.
    pub links: Vec<Link>,
    /// The position of the next page; `None`: there is none.
    pub next: Option<String>,
}

/// The upload links of a deployment.
#[derive(Debug)]
pub struct Links {
    db: Db,
    secrets: Keyring,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
    images: Arc<Images>,
}

impl Links {
    /// Creates the links of this database. `images` publishes what they upload.
    pub const fn new(
        db: Db,
        secrets: Keyring,
        clock: Arc<dyn Clock>,
        randomness: Randomness,
        images: Arc<Images>,
    ) -> Self {
        Self {
            db,
            secrets,
            clock,
            randomness,
            images,
        }
    }

    /// Finds the link with this secret for an upload that arrived at `arrived`. Links are looked up
    /// by the hash of their secret, so the time of the look-up says nothing about another secret.
    ///
    /// # Errors
    /// [`UploadError`] says why the link takes no upload.
    pub async fn find_open(
        &self,
        secret: &UploadToken,
        arrived: Timestamp,
    ) -> Result<OpenLink, UploadError> {
        match self.images.find_token(secret, arrived).await {
            Ok(grant) if grant.product.kind == ProductKind::Link => Ok(OpenLink::Paid(grant)),
            // An upload token is no link.
            Ok(_) | Err(UploadError::TokenExpired { .. }) => Err(UploadError::LinkUnknown),
            Err(UploadError::BadToken) => {
                let link = self.images.find_free_link(&secret.hash(), arrived).await?;
                Ok(OpenLink::Free(link))
            }
            Err(error) => Err(error),
        }
    }

    /// Finds the link with this secret, also one that has ended.
    ///
    /// # Errors
    /// [`UploadError::LinkUnknown`], [`UploadError::Lost`], [`UploadError::Voided`],
    /// [`UploadError::LinkRevoked`] for a link that another one replaced, and
    /// [`UploadError::Database`].
    pub async fn find(&self, secret: &UploadToken) -> Result<Link, UploadError> {
        let hash = secret.hash();
        let found = match grants::find_by_token_hash(&self.db, &hash).await? {
            Some(grant) if !grant.is_void => Link::of_grant(&self.secrets, &grant),
            Some(_) => None,
            None => {
                let free = free_links::find_by_hash(&self.db, &hash).await?;
                free.map(|link| link.link(&self.secrets))
            }
        };
        if let Some(link) = found.filter(|link| link.secret.is_some()) {
            return Ok(link);
        }
        match self.find_open(secret, self.clock.now()).await {
            Err(error) => Err(error),
            Ok(_) => Err(UploadError::LinkUnknown),
        }
    }

    /// Lists the links that a wallet bought on this network (a CAIP-2 id) or on all, newest first: at
    /// most `most`, from this position on.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn owned(
        &self,
        wallet: Address,
        network: Option<&str>,
        position: &str,
        most: u32,
    ) -> Result<OwnedLinks, DbError> {
        let after = position.split_once('.').and_then(|(created, id)| {
            let created = created.parse().ok()?;
            Some((Timestamp::from_millis(created), id))
        });
        let wallet = wallet.to_string();
        let more = most.saturating_add(1);
        let mut grants = free_links::find_paid(&self.db, &wallet, network, after, more).await?;
        let count = usize::try_from(most).unwrap_or(usize::MAX);
        let is_last = grants.len() <= count;
        grants.truncate(count);
        let next = grants
            .last()
            .filter(|_| !is_last)
            .map(|last| format!("{}.{}", last.created_at.millis(), last.payment_id.as_str()));
        let links = grants.iter();
        Ok(OwnedLinks {
            links: links
                .filter_map(|grant| Link::of_grant(&self.secrets, grant))
                .collect(),
            next,
        })
    }

    /// Revokes the link that a wallet bought with this payment, and returns it. `network`: the only
    /// network on which the wallet proved its address, as a CAIP-2 id. `None`: the wallet bought no
    /// link with it.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn revoke_owned(
        &self,
        wallet: Address,
        network: Option<&str>,
        payment: &PaymentId,
    ) -> Result<Option<Link>, DbError> {
        let row = payments::find(&self.db, payment).await?;
        let is_payer = row.is_some_and(|row| {
            row.authorization.from == wallet
                && network.is_none_or(|network| network == row.network().caip2)
        });
        let find = async || grants::find(&self.db, payment).await;
        let Some(grant) = find().await?.filter(|grant| is_payer && !grant.is_void) else {
            return Ok(None);
        };
        grants::revoke_link(&self.db, payment, grant.serial, self.clock.now()).await?;
        let grant = find().await?;
        Ok(grant.and_then(|grant| Link::of_grant(&self.secrets, &grant)))
    }

    /// Makes a link for this many uploads to the free tier, valid for this many days.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn make_free(&self, tier: &Tier, uses: u32, days: u32) -> Result<Link, DbError> {
        let id = hex::encode(self.randomness.bytes::<16>());
        let now = self.clock.now();
        let link = FreeLink {
            secret_hash: UploadToken::derive_free(self.secrets.current(), &id).hash(),
            id,
            tier: tier.name.to_string(),
            uses,
            used: 0,
            created_at: now,
            expires_at: now.plus(life_of_link(days)),
            revoked_at: None,
        };
        free_links::insert(&self.db, &link).await?;
        Ok(link.link(&self.secrets))
    }

    /// Revokes the link with this secret, and returns it. A link that is revoked already stays so.
    ///
    /// # Errors
    /// As [`Links::find`].
    pub async fn revoke(&self, secret: &UploadToken) -> Result<Link, UploadError> {
        let link = self.find(secret).await?;
        if link.revoked_at.is_some() {
            return Ok(link);
        }
        let now = self.clock.now();
        match &link.id {
            LinkId::Free(id) => {
                free_links::revoke(&self.db, id, now).await?;
            }
            LinkId::Paid(id) => {
                let grant = grants::find(&self.db, id).await?;
                let grant = grant.filter(|grant| grant.token_hash == secret.hash());
                let grant = grant.ok_or(UploadError::LinkRevoked)?;
                grants::revoke_link(&self.db, id, grant.serial, now).await?;
            }
        }
        self.find(secret).await
    }
}
