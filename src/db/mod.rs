//! The database: SQLite or PostgreSQL, one SQL text for both. sqlx lives only in this folder.
//!
//! Functions here are small and atomic: each is one statement or one transaction, none spans a call
//! over the network, and each change of state says in its `WHERE` which state it expects.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgPool;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::config::Connections;
use crate::disk::create_private;

pub mod audit;
pub mod auditor;
pub mod copies;
pub mod copying;
pub mod credits;
pub mod deployment;
pub mod epoch;
pub mod erasure;
pub mod grants;
pub mod images;
pub mod jobs;
pub mod keys;
pub mod layout;
pub mod limits;
pub mod moves;
pub mod offers;
pub mod payments;
mod postgres;
pub mod renewals;
pub mod retention;
mod rows;
pub mod withdrawals;

/// Runs an expression on whichever pool the database has.
macro_rules! on_db {
    ($db:expr, |$pool:ident| $body:expr) => {
        match $db {
            $crate::db::Db::Sqlite($pool) => $body,
            $crate::db::Db::Postgres($pool) => $body,
        }
    };
}

/// Runs a block inside a transaction that may write, and commits it. An error rolls back.
///
/// SQLite needs `BEGIN IMMEDIATE`: a plain `BEGIN` that reads before it writes fails as locked under
/// load instead of waiting.
///
/// PostgreSQL ends one of two transactions that wait for each other's rows. Ours lock in one order (payment,
/// grant, image), but for statements on many rows at a time; whoever is ended did nothing, and is run again. So
/// a block may run more than once, and only its last run counts.
macro_rules! in_tx {
    ($db:expr, |$tx:ident| $body:block) => {
        match $db {
            $crate::db::Db::Sqlite(pool) => {
                let mut $tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                let output = $body;
                $tx.commit().await?;
                output
            }
            $crate::db::Db::Postgres(pool) => {
                let mut tries = 1;
                loop {
                    let outcome = async {
                        let mut $tx = pool.begin().await?;
                        let output = $body;
                        $tx.commit().await?;
                        Ok::<_, $crate::db::DbError>(output)
                    };
                    match outcome.await {
                        Err(error) if tries < $crate::db::TRIES && error.is_undone() => tries += 1,
                        outcome => break outcome?,
                    }
                }
            }
        }
    };
}

pub use postgres::ServerClock;
pub(crate) use {in_tx, on_db};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

const NEWEST_MIGRATION: &str = "SELECT MAX(version) FROM _sqlx_migrations";

/// How long a statement waits for SQLite's write lock, and a request for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers beside the one writer that SQLite has.
const SQLITE_CONNECTIONS: u32 = 8;
/// How often a transaction is run that PostgreSQL ends, without a trace, to let another one pass.
const TRIES: u32 = 4;

/// A pool of connections to one of the two databases.
#[derive(Debug, Clone)]
pub enum Db {
    /// One file, in WAL mode, synced at every commit.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The driver failed: the statement may or may not have been carried out.
    #[error("the database failed: {0}")]
    Driver(#[from] sqlx::Error),
    /// A migration could not run, or the database is newer than this binary.
    #[error("the database could not be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A stored value can't be read: someone else wrote it.
    #[error("{table}.{column} of row {row} holds a value that pixtoll does not write")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
    },
    /// The server takes no writes.
    #[error(
        "the PostgreSQL server takes no writes: it is a standby, or default_transaction_read_only is on; database.url has to lead to the primary"
    )]
    ReadOnly,
    /// A table or a value that can't be copied into another database.
    #[error("it can't be copied: {0}")]
    Uncopied(String),
    /// A setting of the database would lose money in a power cut.
    #[error(
        "the database has {setting} = {value}, and pixtoll needs {needed}: a committed payment must survive a power cut"
    )]
    NotDurable {
        /// The setting.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        needed: &'static str,
    },
}

impl Db {
    /// Opens a SQLite file. One that is not there is created, readable by its owner only; SQLite gives the files that
    /// it keeps beside it the same mode.
    ///
    /// # Errors
    /// When the file can't be opened, or isn't durable.
    pub async fn open_sqlite(path: &Path) -> Result<Self, DbError> {
        create_private(path).map_err(sqlx::Error::Io)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(SQLITE_CONNECTIONS)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options)
            .await?;
        assert_durable(&pool).await?;
        Ok(Self::Sqlite(pool))
    }

    /// Connects to a PostgreSQL server by its URL, as a server with the default settings.
    ///
    /// # Errors
    /// As [`Db::connect_postgres_with`].
    pub async fn connect_postgres(url: &str) -> Result<Self, DbError> {
        Self::connect_postgres_with(url, &Connections::default()).await
    }

    /// Connects to a PostgreSQL server by its URL. One that is being started is waited for.
    ///
    /// # Errors
    /// When the server doesn't answer, isn't durable, or takes no writes.
    pub async fn connect_postgres_with(
        url: &str,
        connections: &Connections,
    ) -> Result<Self, DbError> {
        Ok(Self::Postgres(postgres::connect(url, connections).await?))
    }

    /// The same database by a connection of its own, for what must not wait until others are done. Of SQLite it is the
    /// same pool, whose readers wait for nobody's commit.
    #[must_use]
    pub fn aside(&self) -> Self {
        match self {
            Self::Sqlite(pool) => Self::Sqlite(pool.clone()),
            Self::Postgres(pool) => {
                let options = pool.connect_options().as_ref().clone();
                let one = pool.options().clone().max_connections(1);
                Self::Postgres(one.connect_lazy_with(options))
            }
        }
    }

    /// The clock of the PostgreSQL server. `None`: SQLite has no clock but this machine's.
    ///
    /// # Errors
    /// [`DbError::Driver`].
    pub async fn server_clock(&self) -> Result<Option<ServerClock>, DbError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(pool) => postgres::server_clock(pool).await.map(Some),
        }
    }

    /// Brings the schema up to date, under a lock. A database newer than this binary is an error.
    ///
    /// # Errors
    /// [`DbError::Migrate`].
    pub async fn migrate(&self) -> Result<(), DbError> {
        match self {
            Self::Sqlite(pool) => SQLITE_MIGRATIONS.run(pool).await?,
            Self::Postgres(pool) => postgres::migrate(pool).await?,
        }
        Ok(())
    }

    /// Whether the schema is this binary's, neither older nor newer. For commands beside a running
    /// server, which must not migrate under it.
    ///
    /// # Errors
    /// [`DbError::Driver`], also when there is no schema at all.
    pub async fn is_current(&self) -> Result<bool, DbError> {
        let migrator = match self {
            Self::Sqlite(_) => &SQLITE_MIGRATIONS,
            Self::Postgres(_) => &POSTGRES_MIGRATIONS,
        };
        let newest: Option<i64> = on_db!(self, |pool| sqlx::query_scalar(NEWEST_MIGRATION)
            .fetch_one(pool)
            .await)?;
        Ok(newest == migrator.iter().map(|migration| migration.version).max())
    }

    /// The statement that this database is asked, where one text can't be for both.
    pub(crate) fn pick(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`DbError::Driver`] when it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        on_db!(self, |pool| sqlx::query("SELECT 1")
            .execute(pool)
            .await
            .map(|_| ()))?;
        Ok(())
    }

    /// Closes all connections, after what they are doing.
    pub async fn close(&self) {
        on_db!(self, |pool| pool.close().await);
    }
}

impl DbError {
    /// Whether PostgreSQL says that a transaction was undone to let another one pass: a deadlock, or a
    /// serialization failure.
    pub(crate) fn is_undone(&self) -> bool {
        let Self::Driver(sqlx::Error::Database(error)) = self else {
            return false;
        };
        matches!(error.code().as_deref(), Some("40P01" | "40001"))
    }
}

/// A settled payment must not be lost by a power cut (payments.md, rule 9).
async fn assert_durable(pool: &SqlitePool) -> Result<(), DbError> {
    let level: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(pool)
        .await?;
    // 2 is FULL, 3 is EXTRA.
    if level < 2 {
        return Err(DbError::NotDurable {
            setting: "synchronous",
            value: level.to_string(),
            needed: "FULL",
        });
    }
    Ok(())
}

/// Every SQL text of this folder with its name, so that a test can prepare each on both databases; one whose
/// name ends in `_POSTGRES` or `_SQLITE`, on that one.
#[doc(hidden)]
pub fn statements() -> Vec<(&'static str, &'static str)> {
    let modules = [
        audit::STATEMENTS,
        auditor::STATEMENTS,
        copies::STATEMENTS,
        credits::STATEMENTS,
        deployment::STATEMENTS,
        epoch::STATEMENTS,
        erasure::STATEMENTS,
        grants::STATEMENTS,
        images::STATEMENTS,
        jobs::STATEMENTS,
        keys::STATEMENTS,
        moves::STATEMENTS,
        limits::STATEMENTS,
        offers::STATEMENTS,
        payments::STATEMENTS,
        postgres::STATEMENTS,
        renewals::STATEMENTS,
        retention::STATEMENTS,
        withdrawals::STATEMENTS,
    ];
    modules
        .into_iter()
        .flatten()
        .copied()
        .chain([("mod::NEWEST_MIGRATION", NEWEST_MIGRATION)])
        .chain(audit::rules())
        .collect()
}
