//! A SQLite database: one connection that writes, and a pool of connections that only read.

use std::path::Path;
use std::time::Duration;

use sqlx::Connection;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteQueryResult, SqliteSynchronous,
};

use super::DbError;
use crate::system::disk::create_private;

#[cfg(test)]
mod tests;
mod writer;

pub(crate) use writer::Turn;
use writer::Writer;

/// How long a statement waits for another process that writes, and a request for its turn to write
/// or for a connection to read.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of connections that read.
const READERS: u32 = 8;
/// How many prepared statements each connection keeps: more than this folder has.
const STATEMENTS_KEPT: usize = 512;

/// The pages that the writer keeps in memory: at most 16 MiB, as a negative number of KiB.
const WRITER_CACHE: &str = "-16384";

/// A SQLite database. Cloning it clones a handle.
#[derive(Debug, Clone)]
pub struct Sqlite {
    readers: SqlitePool,
    writer: Writer,
}

impl Sqlite {
    /// Opens a file. Creates it if it is missing, readable by its owner only; SQLite gives its
    /// other files the same mode.
    pub(super) async fn open(path: &Path) -> Result<Self, DbError> {
        create_private(path).map_err(sqlx::Error::Io)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .statement_cache_capacity(STATEMENTS_KEPT)
            .busy_timeout(BUSY_TIMEOUT);
        // The writer comes first: it sets the journal mode. What it has read stays valid, while each
        // commit makes the readers read again.
        let writer = Writer::open(options.clone().pragma("cache_size", WRITER_CACHE)).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(BUSY_TIMEOUT)
            // A connection to a file doesn't break. The test would cost as much as a query.
            .test_before_acquire(false)
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        let opened = Self { readers, writer };
        opened.assert_durable().await?;
        Ok(opened)
    }

    /// The connections that read. Each statement sees what is committed when it begins. They refuse
    /// to write.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Executes one statement that changes the database. The change is committed when this returns.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn execute(
        &self,
        query: Query<'_, sqlx::Sqlite, SqliteArguments>,
    ) -> Result<SqliteQueryResult, DbError> {
        let mut turn = self.begin_statement().await?;
        let outcome = query.execute(turn.connection()?).await;
        turn.end_statement(outcome).await
    }

    /// Waits for the turn to execute one statement that changes the database.
    pub(super) async fn begin_statement(&self) -> Result<Turn, DbError> {
        self.writer.begin_statement().await
    }

    /// Waits for the turn to execute several statements, of which all or none take effect.
    pub(super) async fn begin(&self) -> Result<Turn, DbError> {
        self.writer.begin().await
    }

    /// Waits for a turn outside of any transaction, for a caller that begins and ends its own.
    pub(super) async fn begin_alone(&self) -> Result<Turn, DbError> {
        self.writer.begin_alone().await
    }

    /// Writes the committed data into a new file, while others may write.
    pub(super) async fn copy_into(&self, file: &str) -> Result<(), DbError> {
        // SQLite counts this as a write, although it only reads from this database.
        let mut connection = self.readers.acquire().await?.detach();
        sqlx::query("PRAGMA query_only = OFF")
            .execute(&mut connection)
            .await?;
        sqlx::query("VACUUM INTO $1")
            .bind(file)
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    }

    /// Closes all connections after their current statements.
    pub(super) async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }

    /// A settled payment must survive a power cut (docs/payments.md, rule 9).
    async fn assert_durable(&self) -> Result<(), DbError> {
        let mut turn = self.begin_statement().await?;
        let level = sqlx::query_scalar("PRAGMA synchronous")
            .fetch_one(turn.connection()?)
            .await;
        let level: i64 = turn.end_statement(level).await?;
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
}
