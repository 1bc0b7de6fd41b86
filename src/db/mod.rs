//! The database: SQLite or PostgreSQL, with one SQL text for both. Only this folder uses sqlx.
//!
//! Each function is one statement or one transaction. None spans a network call, and each change of
//! state names the expected state in its `WHERE`.

use std::path::Path;
use std::sync::Arc;

use sqlx::postgres::PgPool;

use crate::config::Connections;
use crate::system::metrics;

pub mod admin_log;
pub mod api_keys;
pub mod audit;
pub mod auditor;
pub mod blocks;
pub mod claims;
pub mod contents;
pub mod copies;
pub mod copying;
pub mod counts;
pub mod daily_totals;
pub mod deployment;
pub mod epoch;
pub mod erasure;
pub mod free_links;
pub mod funnel;
mod goods;
pub mod grants;
pub mod images;
pub mod jobs;
pub mod keys;
pub mod layout;
pub mod limits;
mod migrations;
pub mod moves;
pub mod offers;
pub mod orphans;
pub mod payments;
mod postgres;
pub mod proofs;
pub mod purges;
pub mod recovery;
pub mod refreshes;
pub mod refunds;
pub mod removals;
pub mod renewals;
pub mod reports;
pub mod retention;
mod rows;
pub mod sales;
pub mod searches;
pub mod settlements;
pub mod signin;
mod sqlite;
pub mod stats;
pub mod uses;
pub mod variants;
pub mod withdrawals;

/// Runs a query that reads, on a pool of whichever database is used. On SQLite its connections
/// refuse to write.
macro_rules! read_db {
    ($db:expr, |$pool:ident| $body:expr) => {{
        let _call = $crate::system::metrics::statement(module_path!(), "read");
        match $db {
            $crate::db::Db::Sqlite(sqlite) => {
                let $pool = sqlite.readers();
                $body
            }
            $crate::db::Db::Postgres($pool) => $body,
        }
    }};
}

/// Executes one statement that writes, and yields its result when it is committed. An error of the
/// commit is an error of the statement.
macro_rules! write_db {
    ($db:expr, |$on:ident| $body:expr) => {{
        let _call = $crate::system::metrics::statement(module_path!(), "write");
        match $db {
            $crate::db::Db::Sqlite(sqlite) => match sqlite.begin_statement().await {
                Ok(mut turn) => {
                    let outcome = match turn.connection() {
                        Ok($on) => $body,
                        Err(error) => Err(error),
                    };
                    turn.end_statement(outcome).await
                }
                Err(error) => Err(error),
            },
            $crate::db::Db::Postgres($on) => ($body).map_err($crate::db::DbError::from),
        }
    }};
}

/// Runs a block inside a write transaction, and commits it. An error, or a `return` from the block,
/// rolls back: then the macro yields what the block returned.
///
/// On SQLite the transaction may hold the blocks of other callers, each of which is rolled back by
/// itself.
///
/// PostgreSQL ends one of two transactions that wait for each other's rows. Ours lock rows in one
/// order (payment, grant, image), except for statements on many rows. A transaction that PostgreSQL
/// ended has changed nothing and runs again. So a block may run several times, and only its last
/// run counts.
macro_rules! in_tx {
    ($db:expr, |$tx:ident| $body:block) => {{
        let _call = $crate::system::metrics::statement(module_path!(), "transaction");
        match $db {
            $crate::db::Db::Sqlite(sqlite) => $crate::db::in_tx!(sqlite: sqlite, |$tx| $body),
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
    }};
    (sqlite: $sqlite:expr, |$tx:ident| $body:block) => {{
        let mut turn = $sqlite.begin().await?;
        let mut is_done = false;
        let outcome = async {
            let $tx = turn.connection()?;
            let output = $body;
            is_done = true;
            Ok::<_, $crate::db::DbError>(output)
        };
        let outcome = outcome.await;
        turn.end(outcome, is_done).await?
    }};
}

/// Implements `sqlx::FromRow` for a struct whose fields are named after columns, on both databases. A field after the
/// semicolon is itself read from the same row.
///
/// sqlx has a derive for this. It makes the compiler build sqlx, its drivers and SQLite a second time.
macro_rules! from_row {
    ($name:ident: $($column:ident),+ $(; $part:ident)?) => {
        $crate::db::from_row!(@ sqlx::sqlite::SqliteRow, $name, [$($column)+] [$($part)?]);
        $crate::db::from_row!(@ sqlx::postgres::PgRow, $name, [$($column)+] [$($part)?]);
    };
    (@ $row:ty, $name:ident, [$($column:ident)+] [$($part:ident)?]) => {
        impl sqlx::FromRow<'_, $row> for $name {
            fn from_row(row: &$row) -> Result<Self, sqlx::Error> {
                Ok(Self {
                    $($column: sqlx::Row::try_get(row, stringify!($column))?,)+
                    $($part: sqlx::FromRow::from_row(row)?,)?
                })
            }
        }
    };
}

pub use postgres::ServerClock;
pub use sqlite::Sqlite;
pub(crate) use {from_row, in_tx, read_db, write_db};

const NEWEST_MIGRATION: &str = "SELECT MAX(version) FROM _sqlx_migrations";

/// How often a transaction runs that PostgreSQL rolls back because of a deadlock or serialization
/// failure.
const TRIES: u32 = 4;

/// The connections to one of the two databases.
#[derive(Debug, Clone)]
pub enum Db {
    /// One file, in WAL mode, synced to disk at every commit.
    Sqlite(Sqlite),
    /// A PostgreSQL server.
    Postgres(PgPool),
}

/// Errors of the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The driver failed: the statement may or may not have been executed.
    #[error("the database failed: {0}")]
    Driver(#[source] sqlx::Error),
    /// The commit that held the statement failed, together with others: it may or may not have been
    /// executed.
    #[error("the database failed: {0}")]
    Lost(Arc<sqlx::Error>),
    /// A migration failed, or the database is newer than this binary.
    #[error("the database could not be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A stored value can't be read: pixtoll did not write it.
    #[error("{table}.{column} of row {row} holds a value that pixtoll does not write")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
    },
    /// The server is read-only.
    #[error(
        "the PostgreSQL server is read-only: it is a standby, or default_transaction_read_only is on. Set database.url to the address of the primary"
    )]
    ReadOnly,
    /// A table or a value can't be copied into another database.
    #[error("the database can't be copied: {0}")]
    Uncopied(String),
    /// A setting of the database could lose committed payments in a power cut.
    #[error(
        "the database has {setting} = {value}, but pixtoll needs {needed} so that committed payments survive a power cut. Change that setting"
    )]
    NotDurable {
        /// The name of the setting.
        setting: &'static str,
        /// The value that the database has.
        value: String,
        /// The value that pixtoll needs.
        needed: &'static str,
    },
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        metrics::database_error();
        Self::Driver(error)
    }
}

impl Db {
    /// Opens a SQLite file. Creates it if it is missing, readable by its owner only; SQLite gives
    /// its other files the same mode.
    ///
    /// # Errors
    /// When the file can't be opened, or its settings aren't durable.
    pub async fn open_sqlite(path: &Path) -> Result<Self, DbError> {
        Ok(Self::Sqlite(Sqlite::open(path).await?))
    }

    /// Connects to a PostgreSQL server by its URL, with the default settings of a server.
    ///
    /// # Errors
    /// As [`Db::connect_postgres_with`].
    pub async fn connect_postgres(url: &str) -> Result<Self, DbError> {
        Self::connect_postgres_with(url, &Connections::default()).await
    }

    /// Connects to a PostgreSQL server by its URL. Waits for a server that is starting.
    ///
    /// # Errors
    /// When the server doesn't answer, isn't durable, or is read-only.
    pub async fn connect_postgres_with(
        url: &str,
        connections: &Connections,
    ) -> Result<Self, DbError> {
        Ok(Self::Postgres(postgres::connect(url, connections).await?))
    }

    /// Opens a separate connection to the same database, for queries that must not wait for others.
    /// For SQLite it is the same, since its readers never wait for a commit.
    #[must_use]
    pub fn aside(&self) -> Self {
        match self {
            Self::Sqlite(sqlite) => Self::Sqlite(sqlite.clone()),
            Self::Postgres(pool) => {
                let options = pool.connect_options().as_ref().clone();
                let one = pool.options().clone().max_connections(1);
                Self::Postgres(one.connect_lazy_with(options))
            }
        }
    }

    /// Returns the clock of the PostgreSQL server. `None` for SQLite, which has no clock but this
    /// machine's.
    ///
    /// # Errors
    /// [`DbError::Driver`].
    pub async fn server_clock(&self) -> Result<Option<ServerClock>, DbError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(pool) => postgres::server_clock(pool).await.map(Some),
        }
    }

    /// Migrates the schema to this binary's version, under a lock. A database that is newer than
    /// this binary is an error.
    ///
    /// # Errors
    /// [`DbError::Migrate`].
    pub async fn migrate(&self) -> Result<(), DbError> {
        match self {
            Self::Sqlite(sqlite) => {
                let mut turn = sqlite.begin_alone().await?;
                migrations::SQLITE.run(turn.connection()?).await?;
            }
            Self::Postgres(pool) => postgres::migrate(pool).await?,
        }
        Ok(())
    }

    /// Whether the schema has exactly this binary's version. For commands beside a running server,
    /// which must not migrate its database.
    ///
    /// # Errors
    /// [`DbError::Driver`], also when there is no schema.
    pub async fn is_current(&self) -> Result<bool, DbError> {
        let migrator = match self {
            Self::Sqlite(_) => &migrations::SQLITE,
            Self::Postgres(_) => &migrations::POSTGRES,
        };
        let newest: Option<i64> = read_db!(self, |pool| sqlx::query_scalar(NEWEST_MIGRATION)
            .fetch_one(pool)
            .await)?;
        Ok(newest == migrator.iter().map(|migration| migration.version).max())
    }

    /// The kind of the database, as metrics name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Picks the statement for this database, where one text doesn't work on both.
    pub(crate) fn pick(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// [`DbError::Driver`] when it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        read_db!(self, |pool| sqlx::query("SELECT 1")
            .execute(pool)
            .await
            .map(|_| ()))?;
        Ok(())
    }

    /// Closes all connections after their current statements.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl DbError {
    /// Whether PostgreSQL rolled the transaction back because of a deadlock or a serialization
    /// failure.
    pub(crate) fn is_undone(&self) -> bool {
        let Self::Driver(sqlx::Error::Database(error)) = self else {
            return false;
        };
        matches!(error.code().as_deref(), Some("40P01" | "40001"))
    }

    /// Whether the database answered with a value of a type that pixtoll does not write.
    pub fn is_foreign_value(&self) -> bool {
        let decode = |error: &sqlx::Error| {
            matches!(
                error,
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
            )
        };
        match self {
            Self::Driver(error) => decode(error),
            Self::Corrupt { .. } => true,
            _ => false,
        }
    }
}

/// Every SQL text of this folder with its name, so that a test can prepare each on both databases.
/// A text whose name ends in `_POSTGRES` or `_SQLITE` is for that database only.
#[doc(hidden)]
pub fn statements() -> Vec<(&'static str, &'static str)> {
    let modules = [
        admin_log::STATEMENTS,
        api_keys::STATEMENTS,
        audit::STATEMENTS,
        auditor::STATEMENTS,
        blocks::STATEMENTS,
        claims::STATEMENTS,
        copies::STATEMENTS,
        counts::STATEMENTS,
        daily_totals::STATEMENTS,
        deployment::STATEMENTS,
        epoch::STATEMENTS,
        erasure::STATEMENTS,
        free_links::STATEMENTS,
        funnel::STATEMENTS,
        goods::STATEMENTS,
        grants::STATEMENTS,
        images::STATEMENTS,
        jobs::STATEMENTS,
        keys::STATEMENTS,
        moves::STATEMENTS,
        limits::STATEMENTS,
        offers::STATEMENTS,
        orphans::STATEMENTS,
        payments::STATEMENTS,
        postgres::STATEMENTS,
        proofs::STATEMENTS,
        purges::STATEMENTS,
        contents::STATEMENTS,
        refreshes::STATEMENTS,
        recovery::STATEMENTS,
        refunds::STATEMENTS,
        removals::STATEMENTS,
        renewals::STATEMENTS,
        reports::STATEMENTS,
        retention::STATEMENTS,
        sales::STATEMENTS,
        searches::STATEMENTS,
        settlements::STATEMENTS,
        signin::STATEMENTS,
        stats::STATEMENTS,
        variants::STATEMENTS,
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
