//! The layout of a database's tables, read from the database itself: columns, their kinds, primary
//! keys, and the order in which tables can be filled. It is read and not hard-coded, so that copies
//! of whole tables include the tables of every migration.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Db, DbError};

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// SQL `NULL`.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A signed 64-bit integer.
    Integer(i64),
    /// Text.
    Text(String),
    /// A byte string.
    Bytes(Vec<u8>),
}

/// Tables that belong to their database and are never copied. Withdrawals are numbered by the
/// database's own transactions, and matter for seconds only.
const OWN: [&str; 3] = ["_sqlx_migrations", "moves", "withdrawals"];

/// The kind of value that a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Text, UTF-8.
    Text,
    /// A signed 64-bit integer.
    Integer,
    /// A byte string.
    Bytes,
    /// A boolean.
    Boolean,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    /// The name in the schema.
    pub name: String,
    /// The kind of its values.
    pub kind: Kind,
}

/// A table of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The name in the schema.
    pub name: String,
    /// The columns, in schema order.
    pub columns: Vec<Column>,
    /// Indices into `columns` of the primary key's columns.
    pub key: Vec<usize>,
    /// Names of the tables that its foreign keys reference.
    references: BTreeSet<String>,
}

impl Kind {
    /// Returns the kind for a type name of either database; `None`: the type is unknown.
    fn of(declared: &str) -> Option<Self> {
        match declared.to_ascii_uppercase().as_str() {
            "TEXT" => Some(Self::Text),
            "BIGINT" | "INTEGER" => Some(Self::Integer),
            "BLOB" | "BYTEA" => Some(Self::Bytes),
            "BOOLEAN" => Some(Self::Boolean),
            _ => None,
        }
    }
}

impl Table {
    /// The columns of the primary key.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|index| self.columns.get(*index))
    }
}

/// Reads the tables of a SQLite database, each after the tables that it references.
///
/// # Errors
/// [`DbError`], also when a table has no primary key or a column of an unknown type.
pub async fn read(db: &Db) -> Result<Vec<Table>, DbError> {
    let Db::Sqlite(sqlite) = db else {
        return Err(DbError::Uncopied(
            "the order of tables can only be read from SQLite".to_owned(),
        ));
    };
    let pool = sqlite.readers();
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name",
    )
    .fetch_all(pool)
    .await?;
    let mut tables = Vec::new();
    for name in names {
        if OWN.contains(&name.as_str()) {
            continue;
        }
        let columns: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid")
                .bind(&name)
                .fetch_all(pool)
                .await?;
        let references: Vec<String> =
            sqlx::query_scalar("SELECT \"table\" FROM pragma_foreign_key_list($1)")
                .bind(&name)
                .fetch_all(pool)
                .await?;
        tables.push(table(name, columns, references)?);
    }
    in_order(tables)
}

fn table(
    name: String,
    columns: Vec<(String, String, i64)>,
    references: Vec<String>,
) -> Result<Table, DbError> {
    let mut key: Vec<(i64, usize)> = columns
        .iter()
        .enumerate()
        .filter(|(_, (_, _, place))| *place > 0)
        .map(|(index, (_, _, place))| (*place, index))
        .collect();
    key.sort_unstable();
    if key.is_empty() {
        return Err(DbError::Uncopied(format!("{name} has no primary key")));
    }
    let columns = columns
        .into_iter()
        .map(|(column, declared, _)| column_of(&name, column, &declared))
        .collect::<Result<_, _>>()?;
    Ok(Table {
        columns,
        key: key.into_iter().map(|(_, index)| index).collect(),
        references: references
            .into_iter()
            .filter(|other| *other != name)
            .collect(),
        name,
    })
}

fn column_of(table: &str, name: String, declared: &str) -> Result<Column, DbError> {
    let kind = Kind::of(declared)
        .ok_or_else(|| DbError::Uncopied(format!("{table}.{name} is {declared}")))?;
    Ok(Column { name, kind })
}

fn in_order(mut left: Vec<Table>) -> Result<Vec<Table>, DbError> {
    let mut ordered: Vec<Table> = Vec::new();
    while !left.is_empty() {
        let is_ready = |table: &Table| {
            let is_there = |name: &String| ordered.iter().any(|other| other.name == *name);
            table.references.iter().all(is_there)
        };
        let (ready, waiting): (Vec<Table>, Vec<Table>) = left.into_iter().partition(is_ready);
        if ready.is_empty() {
            return Err(DbError::Uncopied(
                "tables reference each other in a circle".to_owned(),
            ));
        }
        ordered.extend(ready);
        left = waiting;
    }
    Ok(ordered)
}

/// Compares a PostgreSQL database's tables and columns with `tables`. Returns the first difference,
/// in words; `None`: they are the same.
///
/// # Errors
/// [`DbError`].
pub async fn find_difference(db: &Db, tables: &[Table]) -> Result<Option<String>, DbError> {
    let Db::Postgres(pool) = db else {
        return Ok(Some("the target is not a PostgreSQL database".to_owned()));
    };
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT c.table_name::TEXT, c.column_name::TEXT, c.data_type::TEXT FROM information_schema.columns c \
         JOIN information_schema.tables t USING (table_schema, table_name) \
         WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'",
    )
    .fetch_all(pool)
    .await?;
    let mut theirs = BTreeSet::new();
    for (table, name, declared) in rows {
        if !OWN.contains(&table.as_str()) {
            let column = column_of(&table, name, &declared)?;
            theirs.insert((table, column));
        }
    }
    let ours: BTreeSet<(String, Column)> = tables
        .iter()
        .flat_map(|table| {
            let named = |column: &Column| (table.name.clone(), column.clone());
            table.columns.iter().map(named).collect::<Vec<_>>()
        })
        .collect();
    Ok(ours
        .symmetric_difference(&theirs)
        .next()
        .map(|(table, column)| format!("{table}.{} is not the same in both", column.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, references: &[&str]) -> Table {
        let columns = vec![("id".to_owned(), "TEXT".to_owned(), 1)];
        let references = references.iter().map(|name| (*name).to_owned()).collect();
        table(name.to_owned(), columns, references).unwrap()
    }

    #[test]
    fn a_table_comes_after_the_tables_that_it_references() {
        let tables = vec![made("a", &["c"]), made("b", &["b"]), made("c", &["b"])];
        let names: Vec<_> = in_order(tables)
            .unwrap()
            .into_iter()
            .map(|t| t.name)
            .collect();
        assert_eq!(names, ["b", "c", "a"]);
        assert!(in_order(vec![made("a", &["b"]), made("b", &["a"])]).is_err());
    }

    #[test]
    fn tables_without_a_key_or_with_an_unknown_column_type_are_rejected() {
        let columns = |declared: &str, place| vec![("id".to_owned(), declared.to_owned(), place)];
        assert!(table("t".to_owned(), columns("TEXT", 0), Vec::new()).is_err());
        assert!(table("t".to_owned(), columns("REAL", 1), Vec::new()).is_err());
    }
}
