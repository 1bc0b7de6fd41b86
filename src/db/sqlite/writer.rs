//! The one connection that writes to a SQLite database. Writes that wait for each other share a
//! transaction, so that they share its commit and the sync to disk.
//!
//! A caller takes its [`Turn`], executes its statements in the open transaction, and waits for the
//! commit. A task commits as soon as everybody who waited has had a turn. No call returns before
//! the commit that holds its writes. If that commit fails, every caller with writes in it receives
//! the error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::time::timeout;

use super::BUSY_TIMEOUT;
use crate::db::DbError;

/// A transaction with this many jobs is committed although more callers wait.
const MOST_JOBS: usize = 256;

const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";
const SAVEPOINT: &str = "SAVEPOINT job";
const ROLLBACK_TO: &str = "ROLLBACK TO job";
const RELEASE: &str = "RELEASE job";

/// The connection that writes. Cloning it clones a handle.
#[derive(Debug, Clone)]
pub(crate) struct Writer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: SqliteConnectOptions,
    /// Callers have their turns in the order in which they asked.
    lane: Arc<Mutex<Lane>>,
    /// The number of callers that wait for a turn.
    waiting: AtomicUsize,
    /// The runtime that opened the database, on which commits run.
    runtime: Handle,
}

/// The connection, and the transaction that is open on it.
#[derive(Debug, Default)]
struct Lane {
    /// `None`: the next turn opens a new connection. It is not here while a transaction begins or
    /// ends: if that is interrupted, the connection is closed.
    connection: Option<SqliteConnection>,
    batch: Option<Batch>,
    is_closed: bool,
}

/// An open transaction.
#[derive(Debug, Default)]
struct Batch {
    /// The callers with writes in the transaction.
    members: Vec<oneshot::Sender<Result<(), DbError>>>,
    /// The job that has the turn. At the beginning of a turn, it is one that was cancelled.
    current: Option<Job>,
}

/// How the writes of a job are undone if it fails or is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    /// One statement: SQLite undoes it by itself.
    Statement,
    /// The transaction holds nothing else, so all of it is rolled back.
    Whole,
    /// The transaction is rolled back to the savepoint.
    Savepoint,
}

impl Writer {
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Self, DbError> {
        let lane = Lane {
            connection: Some(options.connect().await?),
            ..Lane::default()
        };
        Ok(Self(Arc::new(Shared {
            options,
            lane: Arc::new(Mutex::new(lane)),
            waiting: AtomicUsize::new(0),
            runtime: Handle::current(),
        })))
    }

    /// Waits for a turn to execute one statement. If nobody else waits, it is committed by itself.
    pub(super) async fn begin_statement(&self) -> Result<Turn, DbError> {
        let mut lane = self.0.turn().await?;
        lane.undo().await;
        if lane.batch.is_none() && !self.0.is_awaited() {
            lane.connect(&self.0.options).await?;
            return Ok(Turn {
                lane,
                is_alone: true,
            });
        }
        self.join(lane, Job::Statement).await
    }

    /// Waits for a turn to execute several statements, of which all or none take effect.
    pub(super) async fn begin(&self) -> Result<Turn, DbError> {
        let mut lane = self.0.turn().await?;
        lane.undo().await;
        let job = match &lane.batch {
            Some(batch) if !batch.members.is_empty() => Job::Savepoint,
            _ => Job::Whole,
        };
        self.join(lane, job).await
    }

    /// Waits for a turn outside of any transaction, for a caller that begins and ends its own.
    pub(super) async fn begin_alone(&self) -> Result<Turn, DbError> {
        let mut lane = self.0.turn().await?;
        lane.commit().await;
        lane.connect(&self.0.options).await?;
        Ok(Turn {
            lane,
            is_alone: true,
        })
    }

    /// Begins a job in the open transaction, or in a new one.
    async fn join(&self, mut lane: OwnedMutexGuard<Lane>, job: Job) -> Result<Turn, DbError> {
        if lane.batch.is_none() {
            lane.begin(&self.0.options).await?;
            let commit = commit_later(Arc::clone(&self.0));
            // Not on the caller's runtime, which ends earlier if it is that of an HTTP worker.
            self.0.runtime.spawn(commit);
        }
        lane.begin_job(job).await?;
        Ok(Turn {
            lane,
            is_alone: false,
        })
    }

    /// The number of callers that wait for a turn.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Commits what is open, and closes the connection.
    pub(super) async fn close(&self) {
        let mut lane = Arc::clone(&self.0.lane).lock_owned().await;
        lane.commit().await;
        lane.is_closed = true;
        if let Some(connection) = lane.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database was not closed properly");
        }
    }
}

impl Shared {
    async fn turn(&self) -> Result<OwnedMutexGuard<Lane>, DbError> {
        let lane = if let Ok(lane) = Arc::clone(&self.lane).try_lock_owned() {
            lane
        } else {
            let _waiting = Waiting::new(&self.waiting);
            timeout(BUSY_TIMEOUT, Arc::clone(&self.lane).lock_owned())
                .await
                .map_err(|_| sqlx::Error::PoolTimedOut)?
        };
        if lane.is_closed {
            return Err(sqlx::Error::PoolClosed.into());
        }
        Ok(lane)
    }

    /// Whether callers wait for a turn. It only decides how writes are grouped, so it may be late.
    fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// Counts a caller that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A caller's turn to write. If it is dropped before it ends, the next turn undoes its writes.
#[derive(Debug)]
pub(crate) struct Turn {
    lane: OwnedMutexGuard<Lane>,
    /// Whether the connection has no transaction, so that each statement is committed by itself.
    is_alone: bool,
}

impl Turn {
    /// The connection, which sees its own writes.
    ///
    /// # Errors
    /// None in a turn.
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.lane
            .connection
            .as_mut()
            .ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Ends the turn after one statement. Returns when it is committed, or with its error.
    ///
    /// # Errors
    /// The statement's own error, or that of the commit.
    pub(crate) async fn end_statement<T>(
        mut self,
        outcome: Result<T, sqlx::Error>,
    ) -> Result<T, DbError> {
        if self.is_alone {
            if matches!(outcome, Err(sqlx::Error::WorkerCrashed)) {
                self.lane.connection = None;
            }
            return Ok(outcome?);
        }
        match outcome {
            Ok(output) => self.committed(output).await,
            Err(error) => {
                self.lane.undo().await;
                Err(error.into())
            }
        }
    }

    /// Ends the turn after a job of several statements. If `keeps`, returns when they are
    /// committed. Otherwise, or after an error, they are undone first.
    ///
    /// # Errors
    /// The job's own error, or that of the commit.
    pub(crate) async fn end<T>(
        mut self,
        outcome: Result<T, DbError>,
        keeps: bool,
    ) -> Result<T, DbError> {
        match outcome {
            Ok(output) if keeps => {
                self.lane.release().await?;
                self.committed(output).await
            }
            outcome => {
                self.lane.undo().await;
                outcome
            }
        }
    }

    /// Lets the next caller have its turn, and waits for the commit.
    async fn committed<T>(mut self, output: T) -> Result<T, DbError> {
        let (member, committed) = oneshot::channel();
        // The transaction ended without this job's knowledge: SQLite rolled it back.
        let batch = self.lane.batch.as_mut().ok_or(sqlx::Error::BeginFailed)?;
        batch.current = None;
        batch.members.push(member);
        drop(self);
        match committed.await {
            Ok(result) => result.map(|()| output),
            Err(_) => Err(sqlx::Error::WorkerCrashed.into()),
        }
    }
}

impl Lane {
    /// Opens the connection if there is none.
    async fn connect(&mut self, options: &SqliteConnectOptions) -> Result<(), DbError> {
        if self.connection.is_none() {
            self.connection = Some(options.connect().await?);
        }
        Ok(())
    }

    /// Begins a transaction.
    async fn begin(&mut self, options: &SqliteConnectOptions) -> Result<(), DbError> {
        self.connect(options).await?;
        let mut connection = self.connection.take().ok_or(sqlx::Error::WorkerCrashed)?;
        let begun = run(&mut connection, BEGIN).await;
        if !matches!(begun, Err(sqlx::Error::WorkerCrashed)) {
            self.connection = Some(connection);
        }
        begun?;
        self.batch = Some(Batch::default());
        Ok(())
    }

    async fn begin_job(&mut self, job: Job) -> Result<(), DbError> {
        if let Some(batch) = &mut self.batch {
            batch.current = Some(job);
        }
        if job == Job::Savepoint
            && let Err(error) = self.run(SAVEPOINT).await
        {
            return Err(self.fail(error).await);
        }
        Ok(())
    }

    /// Ends the savepoint of a job that succeeded.
    async fn release(&mut self) -> Result<(), DbError> {
        let Some(batch) = &mut self.batch else {
            return Ok(());
        };
        if batch.current != Some(Job::Savepoint) {
            return Ok(());
        }
        // If this is cancelled, the savepoint is released all the same.
        batch.current = Some(Job::Statement);
        if let Err(error) = self.run(RELEASE).await {
            return Err(self.fail(error).await);
        }
        Ok(())
    }

    /// Undoes the writes of the job that had the last turn, if it failed or was cancelled.
    ///
    /// After some errors SQLite has rolled back the whole transaction by itself. Then every caller
    /// with writes in it receives an error, and no transaction is open any more.
    async fn undo(&mut self) {
        let Some(batch) = &mut self.batch else { return };
        let job = batch.current.take();
        let is_only = batch.members.is_empty();
        let Some(mut connection) = self.connection.take() else {
            // An earlier call of this function was cancelled.
            self.fail(sqlx::Error::WorkerCrashed).await;
            return;
        };
        let undone = match job {
            None => Ok(()),
            Some(_) if is_only => run(&mut connection, ROLLBACK).await,
            Some(Job::Statement) => assert_open(&mut connection).await,
            Some(Job::Whole | Job::Savepoint) => match run(&mut connection, ROLLBACK_TO).await {
                Ok(()) => run(&mut connection, RELEASE).await,
                Err(error) => Err(error),
            },
        };
        self.connection = Some(connection);
        match undone {
            Ok(()) if job.is_some() && is_only => self.batch = None,
            Ok(()) => {}
            Err(error) => {
                self.fail(error).await;
            }
        }
    }

    /// Ends a transaction that can't be committed. Every caller with writes in it receives the
    /// error. Returns the error.
    async fn fail(&mut self, error: sqlx::Error) -> DbError {
        let error = Arc::new(error);
        let batch = self.batch.take();
        self.close_connection().await;
        if let Some(batch) = batch {
            batch.tell(Some(&error));
        }
        DbError::Lost(error)
    }

    /// Commits the open transaction, and tells its callers.
    async fn commit(&mut self) {
        self.undo().await;
        let Some(batch) = self.batch.take() else {
            return;
        };
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let end = if batch.members.is_empty() {
            ROLLBACK
        } else {
            COMMIT
        };
        let ended = run(&mut connection, end).await;
        self.connection = Some(connection);
        match ended {
            Ok(()) => batch.tell(None),
            Err(error) => {
                self.close_connection().await;
                batch.tell(Some(&Arc::new(error)));
            }
        }
    }

    /// Closes the connection, which rolls back what is open on it.
    async fn close_connection(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the connection that writes to the database was not closed properly");
        }
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        let connection = self.connection.as_mut();
        run(connection.ok_or(sqlx::Error::WorkerCrashed)?, sql).await
    }
}

impl Batch {
    /// Tells the callers that their writes are committed, or why they may be lost.
    fn tell(self, error: Option<&Arc<sqlx::Error>>) {
        for member in self.members {
            let result = match error {
                None => Ok(()),
                Some(error) => Err(DbError::Lost(Arc::clone(error))),
            };
            if member.send(result).is_err() {
                tracing::debug!("a caller was cancelled before its writes were committed");
            }
        }
    }
}

/// Checks that SQLite hasn't ended the transaction by itself.
async fn assert_open(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    // This fails inside a transaction, and only there.
    match run(connection, BEGIN).await {
        Err(_) => Ok(()),
        Ok(()) => Err(sqlx::Error::BeginFailed),
    }
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await?;
    Ok(())
}

/// Commits a transaction after the turns of all who waited when it began, and of those who came
/// during these turns.
async fn commit_later(shared: Arc<Shared>) {
    let lane = || Arc::clone(&shared.lane).lock_owned();
    let mut turn = lane().await;
    let jobs = turn.batch.as_ref().map_or(0, |batch| batch.members.len());
    if shared.is_awaited() && jobs < MOST_JOBS {
        drop(turn);
        turn = lane().await;
    }
    turn.commit().await;
}
