//! Copies whole tables from SQLite to PostgreSQL. Pages are read in order of the primary key. Each
//! page is written in one transaction with the progress of the copy. Tables are compared row by row
//! in order of the key.
//!
//! The statements are built from the schema's own names ([`super::layout`]), so they are not
//! constants.

use std::cmp::Ordering;
use std::fmt::Write as _;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Postgres, Row, Sqlite};

use super::layout::{Column, Kind, Table, Value};
use super::{Db, DbError, moves};
use crate::system::clock::Timestamp;

/// A row, in the order of its table's columns.
type Values = Vec<Value>;

macro_rules! read_values {
    ($row:expr, $columns:expr) => {
        $columns
            .iter()
            .enumerate()
            .map(|(index, column)| match column.kind {
                Kind::Text => $row
                    .try_get::<Option<String>, _>(index)
                    .map(|value| value.map_or(Value::Null, Value::Text)),
                Kind::Integer => $row
                    .try_get::<Option<i64>, _>(index)
                    .map(|value| value.map_or(Value::Null, Value::Integer)),
                Kind::Bytes => $row
                    .try_get::<Option<Vec<u8>>, _>(index)
                    .map(|value| value.map_or(Value::Null, Value::Bytes)),
                Kind::Boolean => $row
                    .try_get::<Option<bool>, _>(index)
                    .map(|value| value.map_or(Value::Null, Value::Boolean)),
            })
            .collect::<Result<Values, sqlx::Error>>()
    };
}

fn of_sqlite(row: &SqliteRow, table: &Table) -> Result<Values, DbError> {
    Ok(read_values!(row, table.columns)?)
}

fn of_postgres(row: &PgRow, table: &Table) -> Result<Values, DbError> {
    Ok(read_values!(row, table.columns)?)
}

/// Counts the rows of a table.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count(db: &Db, table: &Table) -> Result<u64, DbError> {
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {}", table.name));
    let count: i64 = match db {
        Db::Sqlite(sqlite) => sqlx::query_scalar(sql).fetch_one(sqlite.readers()).await?,
        Db::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await?,
    };
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Reads the rows of a SQLite table after the key `after`, in order of the key.
///
/// # Errors
/// [`DbError`], also when PostgreSQL doesn't accept a value.
pub async fn page(
    db: &Db,
    table: &Table,
    after: Option<&[Value]>,
    most: usize,
) -> Result<Vec<Values>, DbError> {
    let Db::Sqlite(sqlite) = db else {
        return Err(not_here("read"));
    };
    let sql = AssertSqlSafe(page_statement(table, after.is_some(), most));
    let mut query = sqlx::query(sql);
    for value in after.unwrap_or_default() {
        query = bind_sqlite(query, value);
    }
    let rows = query.fetch_all(sqlite.readers()).await?;
    let rows: Vec<Values> = rows
        .iter()
        .map(|row| of_sqlite(row, table))
        .collect::<Result<_, _>>()?;
    for row in &rows {
        let has_nul = |value: &Value| matches!(value, Value::Text(text) if text.contains('\0'));
        if row.iter().any(has_nul) {
            let row = key_text(&key_of(table, row));
            let table = &table.name;
            return Err(DbError::Uncopied(format!(
                "the row {row} of {table} contains U+0000, which PostgreSQL doesn't accept in text"
            )));
        }
    }
    Ok(rows)
}

fn page_statement(table: &Table, continues: bool, most: usize) -> String {
    let key: Vec<&str> = table
        .key_columns()
        .map(|column| column.name.as_str())
        .collect();
    let key = key.join(", ");
    let places: Vec<String> = (1..=table.key.len())
        .map(|place| format!("${place}"))
        .collect();
    let mut sql = select(table);
    if continues {
        let places = places.join(", ");
        // Writing to a string can't fail.
        write!(sql, " WHERE ({key}) > ({places})").unwrap_or_default();
    }
    write!(sql, " ORDER BY {key} LIMIT {most}").unwrap_or_default();
    sql
}

fn select(table: &Table) -> String {
    format!("SELECT {} FROM {}", names(table), table.name)
}

fn names(table: &Table) -> String {
    let names: Vec<&str> = table
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    names.join(", ")
}

fn bind_sqlite<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    value: &Value,
) -> Query<'q, Sqlite, SqliteArguments> {
    match value {
        Value::Null => query.bind(None::<String>),
        Value::Boolean(value) => query.bind(*value),
        Value::Integer(value) => query.bind(*value),
        Value::Text(value) => query.bind(value.clone()),
        Value::Bytes(value) => query.bind(value.clone()),
    }
}

/// The primary key of a row.
pub fn key_of(table: &Table, row: &[Value]) -> Values {
    let value = |index: &usize| row.get(*index).cloned().unwrap_or(Value::Null);
    table.key.iter().map(value).collect()
}

/// Formats a key for people.
pub fn key_text(key: &[Value]) -> String {
    let text = |value: &Value| match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Text(value) => value.clone(),
        Value::Bytes(value) => hex::encode(value),
    };
    key.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// Writes a page into an unfinished copy, with the progress of the copy, in one transaction.
///
/// # Errors
/// [`DbError`]; nothing of the page is written then.
pub async fn write(
    db: &Db,
    table: &Table,
    rows: Vec<Values>,
    id: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let Db::Postgres(pool) = db else {
        return Err(not_here("written"));
    };
    let Some(last) = rows.last().map(|row| key_of(table, row)) else {
        return Ok(());
    };
    let sql = AssertSqlSafe(insert_statement(table));
    let mut query = sqlx::query(sql);
    let mut columns: Vec<Vec<Value>> = table.columns.iter().map(|_| Vec::new()).collect();
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    for (column, values) in table.columns.iter().zip(columns) {
        query = bind_column(query, column, values);
    }
    let mut tx = pool.begin().await?;
    query.execute(&mut *tx).await?;
    moves::note_progress(&mut tx, id, &table.name, &last, now).await?;
    tx.commit().await?;
    Ok(())
}

fn insert_statement(table: &Table) -> String {
    let arrays: Vec<String> = table
        .columns
        .iter()
        .zip(1..)
        .map(|(column, place)| format!("${place}::{}[]", postgres_name(column.kind)))
        .collect();
    format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT * FROM UNNEST({})",
        table.name,
        names(table),
        arrays.join(", ")
    )
}

const fn postgres_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "TEXT",
        Kind::Integer => "BIGINT",
        Kind::Bytes => "BYTEA",
        Kind::Boolean => "BOOLEAN",
    }
}

fn bind_column<'q>(
    query: Query<'q, Postgres, PgArguments>,
    column: &Column,
    values: Vec<Value>,
) -> Query<'q, Postgres, PgArguments> {
    macro_rules! array {
        ($variant:ident) => {
            values
                .into_iter()
                .map(|value| match value {
                    Value::$variant(value) => Some(value),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
    }
    match column.kind {
        Kind::Text => query.bind(array!(Text)),
        Kind::Integer => query.bind(array!(Integer)),
        Kind::Bytes => query.bind(array!(Bytes)),
        Kind::Boolean => query.bind(array!(Boolean)),
    }
}

/// Sets the sequences so that they continue after the copied numbers.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn set_sequences(db: &Db, tables: &[Table]) -> Result<(), DbError> {
    let Db::Postgres(pool) = db else {
        return Err(not_here("written"));
    };
    for table in tables {
        for column in &table.columns {
            if column.kind != Kind::Integer {
                continue;
            }
            let (table, column) = (&table.name, &column.name);
            let sql = AssertSqlSafe(format!(
                "SELECT setval(s.name, (SELECT MAX({column}) FROM {table})) \
                 FROM (SELECT pg_get_serial_sequence('{table}', '{column}') AS name) s \
                 WHERE s.name IS NOT NULL AND EXISTS (SELECT 1 FROM {table})"
            ));
            sqlx::query(sql).execute(pool).await?;
        }
    }
    Ok(())
}

/// The result of comparing a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The number of rows on each side.
    pub rows: [u64; 2],
    /// SHA-256 over the rows of each side, in order of the key.
    pub sha256: [String; 2],
    /// The keys of the first differing rows, and how each differs.
    pub differences: Vec<(String, &'static str)>,
}

impl Compared {
    /// Whether both sides hold the same rows.
    pub fn is_equal(&self) -> bool {
        let [one, other] = &self.sha256;
        let [rows, others] = self.rows;
        one == other && rows == others && self.differences.is_empty()
    }
}

/// How many differing rows of a table are reported.
const NAMED: usize = 20;
/// The number of rows between two calls of `tell`.
const TELL_EVERY: u64 = 1000;

/// Compares a table of a SQLite database with the same table of a PostgreSQL database, row by row.
/// Calls `tell` with the number of rows compared so far.
///
/// # Errors
/// [`DbError`].
pub async fn compare(
    source: &Db,
    target: &Db,
    table: &Table,
    mut tell: impl FnMut(u64),
) -> Result<Compared, DbError> {
    let mut sides = [Side::open(source, table), Side::open(target, table)];
    let mut differences = Vec::new();
    loop {
        let [one, other] = &mut sides;
        let (row, copied) = (one.next().await?, other.next().await?);
        let (difference, forward) = match (row, copied) {
            (None, None) => break,
            (Some(row), None) => (Some((row, "is missing in the copy")), [true, false]),
            (None, Some(row)) => (Some((row, "is in the copy only")), [false, true]),
            (Some(row), Some(copied)) => match key_of(table, row).cmp(&key_of(table, copied)) {
                Ordering::Less => (Some((row, "is missing in the copy")), [true, false]),
                Ordering::Greater => (Some((copied, "is in the copy only")), [false, true]),
                Ordering::Equal if row != copied => (Some((row, "differs")), [true, true]),
                Ordering::Equal => (None, [true, true]),
            },
        };
        if let Some((row, how)) = difference
            && differences.len() < NAMED
        {
            differences.push((key_text(&key_of(table, row)), how));
        }
        for (side, goes_on) in sides.iter_mut().zip(forward) {
            if goes_on {
                side.take();
            }
        }
        let [one, _] = &sides;
        if one.rows % TELL_EVERY == 0 {
            tell(one.rows);
        }
    }
    let [one, other] = sides;
    Ok(Compared {
        rows: [one.rows, other.rows],
        sha256: [one.hash.finalize(), other.hash.finalize()].map(hex::encode),
        differences,
    })
}

/// One side of a comparison, read in order of the key.
struct Side<'a> {
    stream: BoxStream<'a, Result<Values, DbError>>,
    row: Option<Values>,
    rows: u64,
    hash: Sha256,
}

impl<'a> Side<'a> {
    fn open(db: &'a Db, table: &'a Table) -> Self {
        // Text is compared by bytes, whatever the database's collation.
        let order = |column: &Column| match (db, column.kind) {
            (Db::Postgres(_), Kind::Text) => format!("{} COLLATE \"C\"", column.name),
            _ => column.name.clone(),
        };
        let order: Vec<String> = table.key_columns().map(order).collect();
        let sql = format!("{} ORDER BY {}", select(table), order.join(", "));
        let sql = AssertSqlSafe(sql);
        let stream = match db {
            Db::Sqlite(sqlite) => sqlx::query(sql)
                .fetch(sqlite.readers())
                .map(|row| of_sqlite(&row?, table))
                .boxed(),
            Db::Postgres(pool) => sqlx::query(sql)
                .fetch(pool)
                .map(|row| of_postgres(&row?, table))
                .boxed(),
        };
        Self {
            stream,
            row: None,
            rows: 0,
            hash: Sha256::new(),
        }
    }

    /// Returns the current row; `None` after the last one.
    async fn next(&mut self) -> Result<Option<&Values>, DbError> {
        if self.row.is_none() {
            self.row = self.stream.next().await.transpose()?;
        }
        Ok(self.row.as_ref())
    }

    /// Moves on to the next row.
    fn take(&mut self) {
        if let Some(row) = self.row.take() {
            self.rows += 1;
            for value in &row {
                add(&mut self.hash, value);
            }
        }
    }
}

/// Hashes a value in an unambiguous form: its kind, its length and its bytes.
fn add(hash: &mut Sha256, value: &Value) {
    let (kind, bytes): (u8, &[u8]) = match value {
        Value::Null => (b'n', &[]),
        Value::Boolean(value) => (b'b', &[u8::from(*value)]),
        Value::Integer(value) => (b'i', &value.to_be_bytes()),
        Value::Text(value) => (b't', value.as_bytes()),
        Value::Bytes(value) => (b'x', value),
    };
    hash.update([kind]);
    hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    hash.update(bytes);
}

fn not_here(what: &str) -> DbError {
    DbError::Uncopied(format!("tables can't be {what} in this kind of database"))
}
