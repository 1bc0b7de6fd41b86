//! The state of a database during `pixtoll migrate`: the records of both sides of a move, and the
//! triggers that reject every change while rows are copied.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::layout::{Table, Value};
use super::{Db, DbError, deployment, from_row, images, in_tx, jobs, payments, read_db, write_db};
use crate::model::mark::stamps;
use crate::system::clock::Timestamp;

/// The state of a database with respect to moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveState {
    /// No move is under way: the deployment uses this database.
    Open,
    /// Its rows are being copied. It rejects every change.
    Moving {
        /// Host and name of the database that it is copied to.
        to: String,
    },
    /// Another database has replaced it. It rejects every change for good.
    Moved {
        /// Host and name of the database that replaced it.
        to: String,
    },
    /// An unfinished copy, which no server may use.
    Unfinished {
        /// Host and name of the source database.
        from: String,
    },
}

/// A row of table `moves`: one side of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Id of the move.
    pub id: String,
    /// The id that the source database drew for itself.
    pub database_id: String,
    /// Host and name of the database on the other side.
    pub place: String,
    state: String,
    at_table: Option<String>,
    at_key: Option<String>,
}
from_row!(Stamp: id, database_id, place, state, at_table, at_key);

/// Progress of a copy: the table, and the key of the last row that was copied.
pub type Progress = (String, Vec<Value>);

/// Values of the columns `state` and `side`.
mod names {
    pub(super) const MOVING: &str = "moving";
    pub(super) const MOVED: &str = "moved";
    pub(super) const COPYING: &str = "copying";
    pub(super) const READY: &str = "ready";
    pub(super) const OPEN: &str = "open";
    pub(super) const TO: &str = "to";
    pub(super) const FROM: &str = "from";
}

use names::{COPYING, FROM, MOVED, MOVING, OPEN, READY, TO};

impl Stamp {
    /// Whether another database has replaced this one. Only true on the source's side.
    pub fn is_moved(&self) -> bool {
        self.state == MOVED
    }

    /// Whether this copy was compared with its source and found equal. Neither has changed since.
    pub fn is_ready(&self) -> bool {
        self.state == READY
    }

    /// Whether servers may use this copy.
    pub fn is_open(&self) -> bool {
        self.state == OPEN
    }

    /// How far this copy has come. `None` before its first page.
    pub fn progress(&self) -> Option<Progress> {
        let key = serde_json::from_str(self.at_key.as_deref()?).ok()?;
        Some((self.at_table.clone()?, key))
    }
}

/// Returns the state of the database. A schema without the table `moves` counts as
/// [`MoveState::Open`].
///
/// # Errors
/// [`DbError::Driver`].
pub async fn standing(db: &Db) -> Result<MoveState, DbError> {
    let is_there: bool = match db {
        Db::Sqlite(sqlite) => {
            sqlx::query_scalar("SELECT COUNT(*) > 0 FROM sqlite_master WHERE name = 'moves'")
                .fetch_one(sqlite.readers())
                .await?
        }
        Db::Postgres(pool) => {
            sqlx::query_scalar("SELECT to_regclass('moves') IS NOT NULL")
                .fetch_one(pool)
                .await?
        }
    };
    if !is_there {
        return Ok(MoveState::Open);
    }
    if let Some(stamp) = find_to(db).await? {
        let to = stamp.place;
        return Ok(match stamp.state.as_str() {
            MOVED => MoveState::Moved { to },
            _ => MoveState::Moving { to },
        });
    }
    Ok(match find_from(db).await? {
        Some(stamp) if !stamp.is_open() => MoveState::Unfinished { from: stamp.place },
        _ => MoveState::Open,
    })
}

/// Finds the record of a move away from this database, under way or finished.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_to(db: &Db) -> Result<Option<Stamp>, DbError> {
    find(db, TO).await
}

/// Finds the record of a move that made this database, under way or finished.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_from(db: &Db) -> Result<Option<Stamp>, DbError> {
    find(db, FROM).await
}

/// Whether `copy` records a copy of this database that may be continued or restarted.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_copy_of(db: &Db, copy: &Stamp) -> Result<bool, DbError> {
    if find_to(db).await?.is_some_and(|stamp| stamp.id == copy.id) {
        return Ok(true);
    }
    let own = deployment::find(db, stamps::DATABASE).await?;
    Ok(!copy.is_open() && own.as_ref() == Some(&copy.database_id))
}

async fn find(db: &Db, side: &str) -> Result<Option<Stamp>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(FIND)
        .bind(side)
        .fetch_optional(pool)
        .await)?)
}

const FIND: &str =
    "SELECT id, database_id, place, state, at_table, at_key FROM moves WHERE side = $1";

/// Rejects every change to a SQLite database from now on, by triggers, and records where the
/// database moves to, in one transaction. Changes nothing if the database is fenced already.
/// Returns the record in force.
///
/// # Errors
/// [`DbError`], also when no server has ever used the database.
pub async fn fence(
    db: &Db,
    tables: &[Table],
    (id, place): (&str, &str),
    now: Timestamp,
) -> Result<Stamp, DbError> {
    let Db::Sqlite(sqlite) = db else {
        return Err(not_here());
    };
    let database_id = deployment::find(db, stamps::DATABASE).await?;
    let database_id = database_id.ok_or_else(|| {
        DbError::Uncopied(
            "no server has used this database yet, so there is nothing to move".to_owned(),
        )
    })?;
    Ok(in_tx!(sqlite: sqlite, |tx| {
        if let Some(stamp) = sqlx::query_as(FIND)
            .bind(TO)
            .fetch_optional(&mut *tx)
            .await?
        {
            return Ok(stamp);
        }
        sqlx::query(WRITE)
            .bind(TO)
            .bind(id)
            .bind(&database_id)
            .bind(place)
            .bind(MOVING)
            .bind(now.millis())
            .execute(&mut *tx)
            .await?;
        for table in tables {
            for change in CHANGES {
                let name = trigger(table, change);
                let table = &table.name;
                let sql = format!(
                    "CREATE TRIGGER {name} BEFORE {change} ON {table} BEGIN \
                     SELECT RAISE(ABORT, 'this database is being moved by pixtoll migrate, and takes no changes'); END"
                );
                sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?;
            }
        }
        sqlx::query_as(FIND).bind(TO).fetch_one(&mut *tx).await?
    }))
}

const CHANGES: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

fn trigger(table: &Table, change: &str) -> String {
    format!("moving_{}_{}", table.name, change.to_ascii_lowercase())
}

const WRITE: &str = "INSERT INTO moves (side, id, database_id, place, state, changed_ms) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (side) DO UPDATE SET id = excluded.id, \
    database_id = excluded.database_id, place = excluded.place, state = excluded.state, \
    at_table = NULL, at_key = NULL, changed_ms = excluded.changed_ms";

/// Allows changes again in a database whose move has not finished. `false`: no move is under way.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn lift(db: &Db, tables: &[Table]) -> Result<bool, DbError> {
    let Db::Sqlite(sqlite) = db else {
        return Err(not_here());
    };
    Ok(in_tx!(sqlite: sqlite, |tx| {
        let gone = sqlx::query(LIFT).execute(&mut *tx).await?;
        if gone.rows_affected() == 0 {
            return Ok(false);
        }
        for table in tables {
            for change in CHANGES {
                let sql = format!("DROP TRIGGER IF EXISTS {}", trigger(table, change));
                sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?;
            }
        }
        true
    }))
}

const LIFT: &str = "DELETE FROM moves WHERE side = 'to' AND state = 'moving'";

/// Records that another database has replaced this one. It stays fenced for good.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn leave(db: &Db, id: &str, now: Timestamp) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(LEAVE)
        .bind(id)
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const LEAVE: &str = "UPDATE moves SET state = 'moved', changed_ms = $2 WHERE side = 'to' AND id = $1 AND state = 'moving'";

/// How a target database receives a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reception {
    /// The target is the copy of this move, new or unfinished.
    Taken(Stamp),
    /// It holds rows that are no copy of this database.
    Occupied {
        /// The first table that has rows.
        table: String,
    },
}

/// Records that an empty PostgreSQL database is the copy of `source`. An unfinished copy of the
/// same database from an abandoned move is emptied first.
///
/// # Errors
/// [`DbError`].
pub async fn receive(
    db: &Db,
    tables: &[Table],
    source: &Stamp,
    place: &str,
    now: Timestamp,
) -> Result<Reception, DbError> {
    let Db::Postgres(pool) = db else {
        return Err(not_here());
    };
    let mut tx = pool.begin().await?;
    // A concurrent move waits here and then sees the record that this one wrote.
    sqlx::query("LOCK TABLE moves IN EXCLUSIVE MODE")
        .execute(&mut *tx)
        .await?;
    let found: Option<Stamp> = sqlx::query_as(FIND)
        .bind(FROM)
        .fetch_optional(&mut *tx)
        .await?;
    match found {
        Some(stamp) if stamp.id == source.id => return Ok(Reception::Taken(stamp)),
        Some(stamp) if stamp.database_id == source.database_id && !stamp.is_open() => {
            for table in tables {
                let sql = AssertSqlSafe(format!("TRUNCATE {} CASCADE", table.name));
                sqlx::query(sql).execute(&mut *tx).await?;
            }
        }
        _ => {}
    }
    for table in tables {
        let sql = AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM {})", table.name));
        if sqlx::query_scalar(sql).fetch_one(&mut *tx).await? {
            let table = table.name.clone();
            return Ok(Reception::Occupied { table });
        }
    }
    sqlx::query(WRITE)
        .bind(FROM)
        .bind(&source.id)
        .bind(&source.database_id)
        .bind(place)
        .bind(COPYING)
        .bind(now.millis())
        .execute(&mut *tx)
        .await?;
    let stamp = sqlx::query_as(FIND).bind(FROM).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(Reception::Taken(stamp))
}

/// Records the progress of a copy, in the transaction that wrote the rows.
///
/// # Errors
/// [`DbError`], also when another move has taken over the copy.
pub(super) async fn note_progress(
    connection: &mut PgConnection,
    id: &str,
    table: &str,
    key: &[Value],
    now: Timestamp,
) -> Result<(), DbError> {
    let noted = sqlx::query(NOTE_PROGRESS)
        .bind(id)
        .bind(table)
        .bind(serde_json::to_string(key).unwrap_or_default())
        .bind(now.millis())
        .execute(connection)
        .await?;
    if noted.rows_affected() == 1 {
        return Ok(());
    }
    Err(DbError::Uncopied(
        "another move has taken over this copy".to_owned(),
    ))
}

const NOTE_PROGRESS: &str = "UPDATE moves SET at_table = $2, at_key = $3, changed_ms = $4 \
    WHERE side = 'from' AND id = $1 AND state = 'copying'";

/// Marks a copy as equal to its source, and ends the leases, reservations and jobs of processes
/// that used the source, in one transaction.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn make_ready(db: &Db, id: &str, now: Timestamp) -> Result<(), DbError> {
    in_tx!(db, |tx| {
        for sql in [
            payments::END_ALL_LEASES,
            images::END_RESERVATIONS,
            jobs::RETURN_ALL_JOBS,
        ] {
            sqlx::query(sql).execute(&mut *tx).await?;
        }
        sqlx::query(ADVANCE)
            .bind(id)
            .bind(COPYING)
            .bind(READY)
            .bind(now.millis())
            .execute(&mut *tx)
            .await?;
    });
    Ok(())
}

/// Allows servers to use the copy.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn open(db: &Db, id: &str, now: Timestamp) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(ADVANCE)
        .bind(id)
        .bind(READY)
        .bind(OPEN)
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const ADVANCE: &str =
    "UPDATE moves SET state = $3, changed_ms = $4 WHERE side = 'from' AND id = $1 AND state = $2";

fn not_here() -> DbError {
    DbError::Uncopied("databases move only from SQLite to PostgreSQL".to_owned())
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("moves::FIND", FIND),
    ("moves::WRITE", WRITE),
    ("moves::LIFT", LIFT),
    ("moves::LEAVE", LEAVE),
    ("moves::NOTE_PROGRESS", NOTE_PROGRESS),
    ("moves::ADVANCE", ADVANCE),
];
