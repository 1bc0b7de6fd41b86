//! Blocks: the content and the wallets that the server refuses. The database holds them, and each
//! server keeps them in memory.
//!
//! Content is refused by the SHA-256 of the uploaded and of the stored bytes, and by the PDQ hash of
//! the picture, in any of its eight positions.

mod acts;
pub mod list;
mod operator;
mod snapshot;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alloy_primitives::Address;

use crate::db::{Db, DbError, blocks};
use crate::model::block::Kind;
use crate::model::pdq::Fingerprint;
use crate::system::clock::{Clock, Timestamp};

pub(super) use acts::entries;
pub use acts::{block, replace, unblock};
pub use operator::{BlockView, Imported};
use snapshot::Snapshot;

/// How often a server looks whether the blocks in the database have changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it reads them again in any case.
const READ_EVERY: Duration = Duration::from_mins(1);

/// When pictures count as the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closeness {
    /// The most bits in which two PDQ hashes differ.
    pub distance: u32,
    /// The least quality, from 0 to 100. Pictures with less detail match no PDQ hash.
    pub quality: u32,
}

impl Default for Closeness {
    /// As ThreatExchange recommends.
    fn default() -> Self {
        Self {
            distance: 31,
            quality: 50,
        }
    }
}

/// The blocks of a deployment, as this server knows them. They are at most a second old while the
/// database answers.
#[derive(Debug)]
pub struct Blocks {
    db: Db,
    clock: Arc<dyn Clock>,
    known: RwLock<Known>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    snapshot: Arc<Snapshot>,
    sanctioned: Arc<HashSet<Address>>,
    closeness: Closeness,
}

impl Blocks {
    /// Reads the blocks.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn open(
        db: Db,
        clock: Arc<dyn Clock>,
        closeness: Closeness,
        sanctioned: Arc<HashSet<Address>>,
    ) -> Result<Self, DbError> {
        let snapshot = Arc::new(Snapshot::read(&db, clock.now()).await?);
        let known = RwLock::new(Known {
            snapshot,
            sanctioned,
            closeness,
        });
        Ok(Self { db, clock, known })
    }

    fn known(&self) -> Known {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The version of the blocks that this server knows: how often they had changed.
    pub fn version(&self) -> i64 {
        self.known().snapshot.version()
    }

    /// Whether there are PDQ blocks, so that pictures need a fingerprint.
    pub fn need_fingerprints(&self) -> bool {
        self.known().snapshot.has_pdq()
    }

    /// Whether a wallet is blocked or on the sanctions list.
    pub fn refuse_wallet(&self, wallet: &Address) -> bool {
        let known = self.known();
        known.sanctioned.contains(wallet) || known.snapshot.has_wallet(wallet, self.clock.now())
    }

    /// Whether any wallet is refused, so that the payer of an upload matters.
    pub fn refuse_wallets(&self) -> bool {
        let known = self.known();
        !known.sanctioned.is_empty() || known.snapshot.has_wallets()
    }

    /// By what kind of block content is refused. `hashes` are SHA-256 in hexadecimal; without a
    /// fingerprint, PDQ blocks are not looked at. `None`: it is not blocked.
    pub fn find_content(&self, hashes: &[&str], fingerprint: Option<&Fingerprint>) -> Option<Kind> {
        let known = self.known();
        let (snapshot, now) = (&known.snapshot, self.clock.now());
        if hashes.iter().any(|hash| snapshot.has_sha256(hash, now)) {
            return Some(Kind::Sha256);
        }
        let detailed = fingerprint.filter(|it| it.quality >= known.closeness.quality)?;
        snapshot
            .has_near(&detailed.all, known.closeness.distance, now)
            .then_some(Kind::Pdq)
    }

    /// Applies new settings and a new sanctions list.
    pub fn change(&self, closeness: Closeness, sanctioned: Arc<HashSet<Address>>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.closeness = closeness;
        known.sanctioned = sanctioned;
    }

    /// Reads the blocks again.
    ///
    /// # Errors
    /// [`DbError`]. The blocks that were known stay.
    pub async fn read_again(&self) -> Result<(), DbError> {
        let fresh = Snapshot::read(&self.db, self.clock.now()).await?;
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .snapshot = Arc::new(fresh);
        Ok(())
    }

    /// Reads the blocks again when they have changed. Runs until it is dropped.
    pub async fn watch_forever(self: Arc<Self>) {
        let mut is_failing = false;
        let mut read_at = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let is_old = read_at.elapsed() >= READ_EVERY;
            match self.follow(is_old).await {
                Ok(has_read) => {
                    is_failing = false;
                    if has_read {
                        read_at = tokio::time::Instant::now();
                    }
                }
                Err(error) if !is_failing => {
                    is_failing = true;
                    tracing::warn!(%error, "the blocks could not be read; those known before still count");
                }
                Err(_) => {}
            }
        }
    }

    /// Reads the blocks again if they have changed or `is_old`. Returns whether it did.
    ///
    /// # Errors
    /// [`DbError`]. The blocks that were known stay.
    pub async fn follow(&self, is_old: bool) -> Result<bool, DbError> {
        let version = blocks::version(&self.db).await?;
        if version == self.known().snapshot.version() && !is_old {
            return Ok(false);
        }
        self.read_again().await?;
        Ok(true)
    }
}

/// Whether a block counts at `now`.
fn counts(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_none_or(|at| now < at)
}
