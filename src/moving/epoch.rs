//! Detects a database that is older than its object store: one that was restored from a backup, or
//! that lost commits in a failover. It doesn't know the payments since, so it would sell twice and
//! deny what it sold.
//!
//! The store holds a mark: the database's id and its epoch, written at start, every minute in which
//! something was sold, every hour, and after a backup. The database advances to the next epoch before
//! the mark is written, so a mark with a later epoch proves that commits are lost. So does an upload
//! token or a delete token that this server made and its database doesn't know. Paid routes are then
//! closed on every server until `pixtoll ledger recover` has recorded the payments that the chain
//! shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::db::{Db, epoch as rows};
use crate::model::mark::{Age, LostCommit, Mark, judge};
use crate::store::Store;
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;
use crate::system::random::Randomness;

/// How often the database advances to its next epoch while nothing is sold.
const EVERY: Duration = Duration::from_hours(1);
/// How often the mark is read while the database is current. The database advances at most this
/// often, if something was sold.
const LOOK: Duration = Duration::from_mins(1);
/// How often the mark is read while the database isn't current, and how often another server's proof
/// of a loss is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

const UNKNOWN: u8 = 0;
const CURRENT: u8 = 1;
const BEHIND: u8 = 2;

/// The epoch of a deployment.
#[derive(Debug)]
pub struct Epoch {
    db: Db,
    store: Store,
    /// The id for a database that has none yet.
    drawn: String,
    standing: AtomicU8,
    /// Whether this process has sold something since it last advanced the database.
    has_sold: AtomicBool,
}

impl Epoch {
    /// Creates the epoch of this database and this store. The database's age is unknown until
    /// [`Epoch::advance`] or [`Epoch::look`].
    pub fn new(db: Db, store: Store, randomness: &Randomness) -> Self {
        Self {
            db,
            store,
            drawn: hex::encode(randomness.bytes::<16>()),
            standing: AtomicU8::new(UNKNOWN),
            has_sold: AtomicBool::new(false),
        }
    }

    /// Whether the database is known to be as new as its store. Only then does the server sell
    /// anything.
    pub fn is_current(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == CURRENT
    }

    /// Whether the database is known to be older than its store, or another store's.
    pub fn is_behind(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == BEHIND
    }

    /// Notes that something was sold, so that the mark is renewed within a minute.
    pub fn note_sale(&self) {
        self.has_sold.store(true, Ordering::Relaxed);
    }

    /// Pauses sales on every server: `lost` proves that the database lost commits. They resume when
    /// the operator has run `pixtoll ledger recover`.
    pub async fn note_lost(&self, lost: &LostCommit, now: Timestamp) {
        tracing::error!(%lost, "the server made this, and its database doesn't know it");
        kill_point!("epoch.lost.before");
        if let Err(error) = rows::note_lost(&self.db, &lost.0, now).await {
            tracing::error!(%error, "the proof of a lost commit could not be recorded");
        }
        kill_point!("epoch.lost.after");
        self.note(Age::Behind);
    }

    /// Compares the database with its mark in the store. The last result stands while one of them
    /// doesn't answer.
    pub async fn look(&self) {
        match self.compare().await {
            Ok((age, _)) => self.note(age),
            Err(error) => {
                tracing::warn!(%error, "the database could not be compared with its store");
            }
        }
    }

    /// Advances a current database to its next epoch, and writes the mark into the store. A
    /// database that is older than its store is not changed.
    ///
    /// # Errors
    /// When the database or the store doesn't answer. If the mark could be read, its result stands.
    pub async fn advance(&self) -> anyhow::Result<()> {
        let (age, noted) = self.compare().await?;
        self.note(age);
        if age != Age::Current {
            return Ok(());
        }
        let has_sold = self.has_sold.swap(false, Ordering::Relaxed);
        let own = match self.write().await {
            Ok(own) => own,
            Err(error) => {
                self.has_sold.fetch_or(has_sold, Ordering::Relaxed);
                return Err(error);
            }
        };
        if noted.is_none() && own.epoch > 1 {
            tracing::warn!(
                epoch = own.epoch,
                "the store's mark of this database was missing and has been written again"
            );
        }
        Ok(())
    }

    /// Makes the database the current one of its store, whatever it lost until `now`. Call it after
    /// the payments that the chain shows are recorded. `token_ttl`: how long an upload token from
    /// before then is valid.
    ///
    /// # Errors
    /// When the database or the store doesn't answer.
    pub async fn accept(&self, now: Timestamp, token_ttl: Duration) -> anyhow::Result<()> {
        let (_, noted) = self.compare().await?;
        if let Some(noted) = noted {
            rows::raise(&self.db, noted.epoch).await?;
        }
        self.write().await?;
        // Tokens name their times in seconds, rounded up.
        let now = Timestamp::from_seconds(now.seconds().saturating_add(1));
        kill_point!("epoch.accept.before");
        rows::accept_lost(&self.db, now, now.plus(token_ttl)).await?;
        kill_point!("epoch.accept.after");
        self.note(Age::Current);
        Ok(())
    }

    /// Keeps comparing the database with its mark, and renews the mark, until the future is dropped.
    pub async fn watch_forever(self: Arc<Self>) {
        let (mut renewed, mut looked) = (Instant::now(), Instant::now());
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if !self.is_current() {
                self.look().await;
            } else if looked.elapsed() < LOOK {
                self.look_for_loss().await;
            } else if self.watch(renewed.elapsed() >= EVERY).await {
                (renewed, looked) = (Instant::now(), Instant::now());
            } else {
                looked = Instant::now();
            }
        }
    }

    /// What a server does every minute: renews the mark if it `is_due` or something was sold, and
    /// otherwise reads it. Returns whether it tried to renew the mark.
    pub async fn watch(&self, is_due: bool) -> bool {
        let renews = is_due || self.has_sold.load(Ordering::Relaxed);
        if !renews {
            self.look().await;
        } else if let Err(error) = self.advance().await {
            tracing::warn!(%error, "the store's mark of this database could not be renewed");
        }
        renews
    }

    /// Looks whether another server has proof of a lost commit.
    async fn look_for_loss(&self) {
        match rows::find_lost(&self.db).await {
            Ok(None) => {}
            Ok(Some(_)) => self.note(Age::Behind),
            Err(error) => {
                tracing::debug!(%error, "the database could not be asked for lost commits");
            }
        }
    }

    /// Reads the mark first: the database advances before the mark is written.
    async fn compare(&self) -> anyhow::Result<(Age, Option<Mark>)> {
        let noted = self.store.find_mark().await?;
        let own = rows::load(&self.db, &self.drawn).await?;
        let has_lost = rows::find_lost(&self.db).await?.is_some();
        Ok((judge(&own, noted.as_ref(), has_lost), noted))
    }

    async fn write(&self) -> anyhow::Result<Mark> {
        kill_point!("epoch.advance.before");
        rows::advance(&self.db).await?;
        kill_point!("epoch.advance.after");
        loop {
            let own = rows::load(&self.db, &self.drawn).await?;
            self.store.put_mark(&own).await?;
            // Another process may have advanced and written a later mark, which must not be
            // replaced.
            if rows::load(&self.db, &self.drawn).await? == own {
                kill_point!("epoch.mark.after");
                return Ok(own);
            }
        }
    }

    fn note(&self, age: Age) {
        let standing = if age == Age::Current { CURRENT } else { BEHIND };
        let before = self.standing.swap(standing, Ordering::Relaxed);
        match age {
            _ if before == standing => {}
            Age::Current if before == UNKNOWN => {}
            Age::Current => {
                tracing::info!("the database is as new as its store: paid routes are open");
            }
            Age::Behind => {
                tracing::error!(
                    "the database is older than its store, so it has lost commits: paid routes are closed. Run \
                     pixtoll ledger recover to record the payments since from the chain"
                );
            }
            Age::Other => {
                tracing::error!(
                    "the store belongs to another database: paid routes are closed. Set database.url to \
                     that database, or run pixtoll ledger recover --from-block if it is lost"
                );
            }
        }
    }
}

/// Advances a current database to its next epoch, and writes the mark into the store. Like
/// [`Epoch::advance`], for commands.
///
/// # Errors
/// When the database or the store doesn't answer.
pub async fn advance(db: &Db, store: &Store) -> anyhow::Result<()> {
    let epoch = Epoch::new(db.clone(), store.clone(), &Randomness::system());
    epoch.advance().await
}

/// Compares a database with its store, for commands; `None`: no server has used the database yet.
///
/// # Errors
/// When the database or the store doesn't answer.
pub async fn age(db: &Db, store: &Store) -> anyhow::Result<Option<Age>> {
    let noted = store.find_mark().await?;
    let own = rows::find(db).await?;
    let has_lost = rows::find_lost(db).await?.is_some();
    Ok(own.map(|own| judge(&own, noted.as_ref(), has_lost)))
}
