//! Whether the database is as young as its store. One that was restored from a backup, or that lost commits
//! in a failover, doesn't know what was paid since: it would sell twice and deny what it sold.
//!
//! The store holds a mark: the database's name and its epoch, written at start, every hour, and after a
//! backup. The database moves to the next epoch before that is written, so a mark from a later one speaks
//! of commits that are gone. Paid routes are closed then, until `pixtoll ledger recover` has written down what
//! the chain knows. What was lost since the last mark can't be seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::db::{Db, epoch as rows};
use crate::kill::kill_point;
use crate::model::mark::{Age, Mark, judge};
use crate::random::Randomness;
use crate::store::Store;

/// How often the database moves to its next epoch.
const EVERY: Duration = Duration::from_hours(1);
/// How often the mark is read while all is well, and while it isn't.
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
    /// The name of a database that has none yet.
    drawn: String,
    standing: AtomicU8,
}

impl Epoch {
    /// The epoch of this database, as this store knows it. Nothing is known before [`Epoch::advance`] or
    /// [`Epoch::look`].
    pub fn new(db: Db, store: Store, randomness: &Randomness) -> Self {
        Self {
            db,
            store,
            drawn: hex::encode(randomness.bytes::<16>()),
            standing: AtomicU8::new(UNKNOWN),
        }
    }

    /// Whether the database is known to be as young as its store: only then is anything sold.
    pub fn is_current(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == CURRENT
    }

    /// Whether the database is known to be older than its store, or another one's.
    pub fn is_behind(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == BEHIND
    }

    /// Compares the database with its mark in the store. While one of them doesn't answer, what was known
    /// stands.
    pub async fn look(&self) {
        match self.compare().await {
            Ok((age, _)) => self.note(age),
            Err(error) => {
                tracing::warn!(%error, "the database could not be compared with its store");
            }
        }
    }

    /// Moves a database that is current to its next epoch, and writes that into the store. A database that
    /// is older than its store stays where it is.
    ///
    /// # Errors
    /// When database or store doesn't answer. Where the mark could be read, what it says stands.
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
                "the store had no mark of this database, and has one again"
            );
        }
        Ok(())
    }

    /// Lets the database stand for its store from now on, whatever was lost: what the chain knew of it is
    /// written down.
    ///
    /// # Errors
    /// When database or store doesn't answer.
    pub async fn accept(&self) -> anyhow::Result<()> {
        let (_, noted) = self.compare().await?;
        if let Some(noted) = noted {
            rows::raise(&self.db, noted.epoch).await?;
        }
        self.write().await?;
        self.note(Age::Current);
        Ok(())
    }

    /// Watches the mark, and renews it every hour, until it is dropped.
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

    /// The mark is read first: a database that moved on has done so before it was written.
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
            // Another process may have moved on and written that first; ours must not stand in its place.
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
                tracing::info!("the database stands for its store: paid routes are open");
            }
            Age::Behind => {
                tracing::error!(
                    "the database is older than its store, so commits are lost: paid routes are closed until \
                     pixtoll ledger recover has asked the chain what was paid since"
                );
            }
            Age::Other => {
                tracing::error!(
                    "the store belongs to another database: paid routes are closed; name the right one in \
                     database.url, or run pixtoll ledger recover --from-block if that one is lost"
                );
            }
        }
    }
}

/// Moves a database that is current to its next epoch, and writes that into the store: what
/// [`Epoch::advance`] does, for commands.
///
/// # Errors
/// When database or store doesn't answer.
pub async fn advance(db: &Db, store: &Store) -> anyhow::Result<()> {
    let epoch = Epoch::new(db.clone(), store.clone(), &Randomness::system());
    epoch.advance().await
}

/// What the store says of a database, for commands; `None` when no server was started on it yet.
///
/// # Errors
/// When database or store doesn't answer.
pub async fn age(db: &Db, store: &Store) -> anyhow::Result<Option<Age>> {
    let noted = store.find_mark().await?;
    let own = rows::find(db).await?;
    Ok(own.map(|own| judge(&own, noted.as_ref())))
}
