//! Connections to PostgreSQL: how they are opened, what each is told before it is used, and which are refused.
//!
//! What decides about money isn't left to the defaults of a role or a database: every connection is told to
//! wait for the disk at each commit. One that takes no writes, of a standby or after a failover, is
//! closed, and never used.

use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use tokio::time::{Instant, sleep, timeout};

use super::{DbError, POSTGRES_MIGRATIONS};
use crate::clock::Timestamp;
use crate::config::Connections;

/// How long a statement waits for a row that another transaction has locked. Ours are all short.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long the server ends a transaction whose process stands still, so that it locks out nobody.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to say that it lives, before and after its use. One to a machine that went
/// away without a word says nothing.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// The pause between two tries to reach a server that is being started.
const AGAIN: Duration = Duration::from_millis(100);

/// Says what a connection goes by, and answers whether it takes no writes and whether the server syncs.
///
/// `remote_apply` waits for more than `on` does, and stays. With another isolation level than that which
/// the statements are written for, some would fail.
const GREET_POSTGRES: &str = "SELECT set_config('synchronous_commit', \
    CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false), \
    set_config('default_transaction_isolation', 'read committed', false), \
    set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false), \
    set_config('idle_in_transaction_session_timeout', $3, false), \
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', current_setting('fsync')";

/// Whether a connection takes no writes any more.
const IS_READ_ONLY_POSTGRES: &str =
    "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'";

/// The server's time, and whether both ends of the connection have one address. A Unix socket has none.
const SERVER_CLOCK_POSTGRES: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT), \
    COALESCE(host(inet_server_addr()) = host(inet_client_addr()), TRUE)";

/// The clock of a database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerClock {
    /// The time that it shows.
    pub now: Timestamp,
    /// Whether the server was reached at an address of this machine, so that both have one clock.
    pub is_on_this_machine: bool,
}

/// A pool whose connections are all greeted. A server that is being started is waited for.
///
/// # Errors
/// [`DbError`]: it doesn't answer, takes no writes, or may forget commits.
pub(super) async fn connect(url: &str, connections: &Connections) -> Result<PgPool, DbError> {
    let options = PgConnectOptions::from_str(url)?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("pixtoll"),
    };
    let told = Greeting::new(connections.statement_timeout);
    // By hand, since a pool would only say that it waited in vain.
    let mut first = first_connection(&options, connections.acquire_timeout).await?;
    told.say(&mut first).await?;
    let pool = PgPoolOptions::new()
        .max_connections(connections.max_connections)
        .acquire_timeout(connections.acquire_timeout)
        .idle_timeout(connections.idle_timeout)
        .max_lifetime(connections.max_lifetime)
        // What is asked before each use says that the connection lives as well.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let told = told.clone();
            Box::pin(async move {
                let greeted = told.say(connection).await;
                greeted.map_err(|error| sqlx::Error::Configuration(error.into()))
            })
        })
        .before_acquire(|connection, _| Box::pin(async move { takes_writes(connection).await }))
        // Without a bound, one that says nothing would be asked for a quarter of an hour, and take a place.
        .after_release(|connection, _| Box::pin(async move { takes_writes(connection).await }))
        .connect_lazy_with(options);
    sqlx::Connection::close(first).await?;
    Ok(pool)
}

/// Runs the migrations on a connection of their own: who waits for the lock, or for an index on a large
/// table, must not be cut off.
pub(super) async fn migrate(pool: &PgPool) -> Result<(), DbError> {
    let mut connection = pool.connect_options().connect().await?;
    Greeting::new(None)
        .without_lock_timeout()
        .say(&mut connection)
        .await?;
    POSTGRES_MIGRATIONS.run(&mut connection).await?;
    sqlx::Connection::close(connection).await?;
    Ok(())
}

/// The server's clock, and whether it is this machine's.
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
        // It is starting, or stopping.
        sqlx::Error::Database(error) => error.code().as_deref() == Some("57P03"),
        _ => false,
    }
}

/// `Ok(false)`, or no answer: the pool closes it and opens another one.
async fn takes_writes(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let asked = sqlx::query_scalar(IS_READ_ONLY_POSTGRES).fetch_one(connection);
    let is_read_only: bool = timeout(SIGN_OF_LIFE, asked)
        .await
        .map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))??;
    Ok(!is_read_only)
}

/// What each connection is told.
#[derive(Debug, Clone)]
struct Greeting {
    statement_timeout: Duration,
    lock_timeout: Duration,
}

impl Greeting {
    fn new(statement_timeout: Option<Duration>) -> Self {
        Self {
            // To PostgreSQL, 0 is no limit.
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
