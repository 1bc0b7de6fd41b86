//! Connections to PostgreSQL: how they are opened, how each is configured, and which are rejected.
//!
//! The durability of payments must not depend on the defaults of a role or a database, so every
//! connection sets `synchronous_commit`. A read-only connection, to a standby or after a failover,
//! is closed and never used.

use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use tokio::time::{Instant, sleep, timeout};

use super::{DbError, migrations};
use crate::config::Connections;
use crate::system::clock::Timestamp;

/// How long a statement waits for a row that another transaction has locked. All transactions of
/// pixtoll are short.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The PostgreSQL server ends a transaction that is idle for this long, so that a stopped process
/// doesn't block others.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to answer a check, before and after its use. A connection to a
/// machine that vanished never answers.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// The pause between two attempts to reach a server that is starting.
const AGAIN: Duration = Duration::from_millis(100);

/// Configures a connection, and returns whether it is read-only and whether the server syncs to
/// disk.
///
/// `synchronous_commit = remote_apply` waits for more than `on` does, and is kept. The statements
/// are written for the isolation level that is set here; some would fail under another one.
const GREET_POSTGRES: &str = "SELECT set_config('synchronous_commit', \
    CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false), \
    set_config('default_transaction_isolation', 'read committed', false), \
    set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false), \
    set_config('idle_in_transaction_session_timeout', $3, false), \
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', current_setting('fsync')";

/// Returns whether a connection is read-only.
const IS_READ_ONLY_POSTGRES: &str =
    "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'";

/// Returns the server's time, and whether both ends of the connection have the same address. A Unix
/// socket has none.
const SERVER_CLOCK_POSTGRES: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT), \
    COALESCE(host(inet_server_addr()) = host(inet_client_addr()), TRUE)";

/// The clock of a database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerClock {
    /// The time that the clock shows.
    pub now: Timestamp,
    /// Whether the server has an address of this machine, so that both share one clock.
    pub is_on_this_machine: bool,
}

/// Opens a pool whose connections are all configured. Waits for a server that is starting.
///
/// # Errors
/// [`DbError`], when the server doesn't answer, is read-only, or may lose commits.
pub(super) async fn connect(url: &str, connections: &Connections) -> Result<PgPool, DbError> {
    let options = PgConnectOptions::from_str(url)?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("pixtoll"),
    };
    let told = Greeting::new(connections.statement_timeout);
    // Opened without the pool, which would only report a timeout and not its cause.
    let mut first = first_connection(&options, connections.acquire_timeout).await?;
    told.say(&mut first).await?;
    let pool = PgPoolOptions::new()
        .max_connections(connections.max_connections)
        .acquire_timeout(connections.acquire_timeout)
        .idle_timeout(connections.idle_timeout)
        .max_lifetime(connections.max_lifetime)
        // The check before each use also shows that the connection works.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let told = told.clone();
            Box::pin(async move {
                let greeted = told.say(connection).await;
                greeted.map_err(|error| sqlx::Error::Configuration(error.into()))
            })
        })
        .before_acquire(|connection, _| Box::pin(async move { takes_writes(connection).await }))
        // Without a time limit, a silent connection would block its place in the pool for a quarter
        // of an hour.
        .after_release(|connection, _| Box::pin(async move { takes_writes(connection).await }))
        .connect_lazy_with(options);
    sqlx::Connection::close(first).await?;
    Ok(pool)
}

/// Runs the migrations on a separate connection without timeouts: waiting for the lock, or for an
/// index on a large table, must not be interrupted.
pub(super) async fn migrate(pool: &PgPool) -> Result<(), DbError> {
    let mut connection = pool.connect_options().connect().await?;
    Greeting::new(None)
        .without_lock_timeout()
        .say(&mut connection)
        .await?;
    migrations::POSTGRES.run(&mut connection).await?;
    sqlx::Connection::close(connection).await?;
    Ok(())
}

/// Returns the server's clock, and whether it is this machine's.
pub(super) async fn server_clock(pool: &PgPool) -> Result<ServerClock, DbError> {
    let (millis, is_on_this_machine): (i64, bool) = sqlx::query_as(SERVER_CLOCK_POSTGRES)
        .fetch_one(pool)
        .await?;
    Ok(ServerClock {
        now: Timestamp::from_millis(millis),
        is_on_this_machine,
    })
}

async fn first_connection(
    options: &PgConnectOptions,
    patience: Duration,
) -> Result<PgConnection, DbError> {
    let end = Instant::now() + patience;
    loop {
        let tried = timeout(
            end.saturating_duration_since(Instant::now()),
            options.connect(),
        )
        .await;
        match tried {
            Err(_) => return Err(sqlx::Error::PoolTimedOut.into()),
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if is_starting(&error) && Instant::now() < end => sleep(AGAIN).await,
            Ok(Err(error)) => return Err(error.into()),
        }
    }
}

fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        // The server is starting or stopping.
        sqlx::Error::Database(error) => error.code().as_deref() == Some("57P03"),
        _ => false,
    }
}

/// `Ok(false)`, or no answer: the pool closes the connection and opens another one.
async fn takes_writes(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let asked = sqlx::query_scalar(IS_READ_ONLY_POSTGRES).fetch_one(connection);
    let is_read_only: bool = timeout(SIGN_OF_LIFE, asked)
        .await
        .map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))??;
    Ok(!is_read_only)
}

/// The settings of each connection.
#[derive(Debug, Clone)]
struct Greeting {
    statement_timeout: Duration,
    lock_timeout: Duration,
}

impl Greeting {
    fn new(statement_timeout: Option<Duration>) -> Self {
        Self {
            // PostgreSQL reads 0 as no limit.
            statement_timeout: statement_timeout.unwrap_or_default(),
            lock_timeout: LOCK_TIMEOUT,
        }
    }

    fn without_lock_timeout(self) -> Self {
        Self {
            lock_timeout: Duration::ZERO,
            ..self
        }
    }

    async fn say(&self, connection: &mut PgConnection) -> Result<(), DbError> {
        let (.., is_read_only, fsync): (String, String, String, String, String, bool, String) =
            sqlx::query_as(GREET_POSTGRES)
                .bind(self.statement_timeout.as_millis().to_string())
                .bind(self.lock_timeout.as_millis().to_string())
                .bind(IDLE_TRANSACTION_TIMEOUT.as_millis().to_string())
                .fetch_one(connection)
                .await?;
        if is_read_only {
            return Err(DbError::ReadOnly);
        }
        if fsync == "off" {
            return Err(DbError::NotDurable {
                setting: "fsync",
                value: fsync,
                needed: "on",
            });
        }
        Ok(())
    }
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("postgres::GREET_POSTGRES", GREET_POSTGRES),
    ("postgres::IS_READ_ONLY_POSTGRES", IS_READ_ONLY_POSTGRES),
    ("postgres::SERVER_CLOCK_POSTGRES", SERVER_CLOCK_POSTGRES),
];
