//! Detects a database that is older than its object store: one that was restored from a backup, or
//! that lost commits in a failover. It doesn't know the payments since, so it would sell twice and
//! deny what it sold.
//!
//! The store holds a mark: the database's id and its epoch, written at start, every hour, and after
//! a backup. The database advances to the next epoch before the mark is written, so a mark with a
//! later epoch proves that commits are lost. Paid routes are then closed until
//! `pixtoll ledger recover` has recorded the payments that the chain shows. Commits that were lost
//! since the last mark can't be detected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::db::{Db, epoch as rows};
use crate::model::mark::{Age, Mark, judge};
use crate::store::Store;
use crate::system::kill::kill_point;
use crate::system::random::Randomness;

/// How often the database advances to its next epoch.
const EVERY: Duration = Duration::from_hours(1);
/// How often the mark is read while the database is current, and while it isn't.
const LOOK: Duration = Duration::from_mins(1);
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
        let own = self.write().await?;
        if noted.is_none() && own.epoch > 1 {
            tracing::warn!(
                epoch = own.epoch,
                "the store's mark of this database was missing and has been written again"
            );
        }
        Ok(())
    }

    /// Makes the database the current one of its store, whatever it lost. Call it after the
    /// payments that the chain shows are recorded.
    ///
    /// # Errors
    /// When the database or the store doesn't answer.
    pub async fn accept(&self) -> anyhow::Result<()> {
        let (_, noted) = self.compare().await?;
        if let Some(noted) = noted {
            rows::raise(&self.db, noted.epoch).await?;
        }
        self.write().await?;
        self.note(Age::Current);
        Ok(())
    }

    /// Reads the mark repeatedly, and renews it every hour, until the future is dropped.
    pub async fn watch_forever(self: Arc<Self>) {
        let mut renewed = Instant::now();
        loop {
            let pause = if self.is_current() { LOOK } else { LOOK_AGAIN };
            tokio::time::sleep(pause).await;
            if self.is_current() && renewed.elapsed() >= EVERY {
                renewed = Instant::now();
                if let Err(error) = self.advance().await {
                    tracing::warn!(%error, "the store's mark of this database could not be renewed");
                }
            } else {
                self.look().await;
            }
        }
    }

    /// Reads the mark first: the database advances before the mark is written.
    async fn compare(&self) -> anyhow::Result<(Age, Option<Mark>)> {
        let noted = self.store.find_mark().await?;
        let own = rows::load(&self.db, &self.drawn).await?;
        Ok((judge(&own, noted.as_ref()), noted))
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
    Ok(own.map(|own| judge(&own, noted.as_ref())))
}
