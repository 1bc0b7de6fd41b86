//! What a database's tables are made of, as the database itself says: which columns, of which kind, which of
//! them are the key, and in which order tables may be filled. Read, not listed, so that no migration is forgotten
//! where whole tables are copied.

use std::collections::BTreeSet;

use super::{Db, DbError};

/// Tables that belong to the database they are in, and are never copied. Withdrawals are numbered by its own
/// transactions, and worth something for seconds only.
const OWN: [&str; 3] = ["_sqlx_migrations", "moves", "withdrawals"];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// Bytes.
    Bytes,
    /// Yes or no.
    Boolean,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in their order.
    pub columns: Vec<Column>,
    /// Where the columns of its primary key stand among them.
    pub key: Vec<usize>,
    /// Tables that its rows speak of.
    references: BTreeSet<String>,
}

impl Kind {
    /// By its name in either database.
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
    /// The columns of its primary key.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|index| self.columns.get(*index))
    }
}

/// The tables of a SQLite database, each after those that it speaks of.
///
/// # Errors
/// [`DbError`], also when a table is made in a way that can't be copied.
pub async fn read(db: &Db) -> Result<Vec<Table>, DbError> {
    let Db::Sqlite(pool) = db else {
        return Err(DbError::Uncopied(
            "only SQLite says in which order tables are filled".to_owned(),
        ));
    };
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
            return Err(DbError::Uncopied("tables speak of each other".to_owned()));
        }
        ordered.extend(ready);
        left = waiting;
    }
    Ok(ordered)
}

/// Whether a PostgreSQL database has exactly these tables, with these columns. The first difference, in words.
///
/// # Errors
/// [`DbError`].
pub async fn find_difference(db: &Db, tables: &[Table]) -> Result<Option<String>, DbError> {
    let Db::Postgres(pool) = db else {
        return Ok(Some("it is no PostgreSQL database".to_owned()));
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
    fn a_table_comes_after_those_that_it_speaks_of() {
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
    fn what_has_no_key_or_an_unknown_kind_is_not_copied() {
        let columns = |declared: &str, place| vec![("id".to_owned(), declared.to_owned(), place)];
        assert!(table("t".to_owned(), columns("TEXT", 0), Vec::new()).is_err());
        assert!(table("t".to_owned(), columns("REAL", 1), Vec::new()).is_err());
    }
}
