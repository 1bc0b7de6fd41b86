//! Blocks of content and wallets.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;

use super::admin_log::append_entry;
use super::{Db, DbError, admin_log, from_row, in_tx, read_db};
use crate::model::admin_log::Entry;
use crate::model::block::{Block, Kind, Target};
use crate::model::ids::ImageId;
use crate::system::clock::Timestamp;

/// The rows that one statement of an import writes.
const ROWS: usize = 500;
/// The rows that one transaction of an import writes.
const BATCH: usize = 5000;

/// What a change of the blocks did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Blocks that were added.
    pub added: u64,
    /// Blocks whose reason or expiry was changed.
    pub updated: u64,
    /// Blocks that were removed.
    pub removed: u64,
}

/// Writes a block inside a transaction, and replaces the one of the same target and source.
/// [`CHANGE`] has to follow in the same transaction.
macro_rules! insert_block {
    ($tx:ident, $block:expr) => {{
        let block: &$crate::model::block::Block = $block;
        sqlx::query($crate::db::blocks::INSERT)
            .bind(block.target.kind().as_str())
            .bind(block.target.value())
            .bind(&block.source)
            .bind(&block.reason)
            .bind(block.created_at.millis())
            .bind(
                block
                    .expires_at
                    .map($crate::system::clock::Timestamp::millis),
            )
            .execute(&mut *$tx)
            .await?;
    }};
}

/// Writes blocks inside a transaction, with their entries of the operator's log.
macro_rules! insert_blocks {
    ($tx:ident, $new:expr, $now:expr) => {{
        let new: $crate::db::blocks::NewBlocks<'_> = $new;
        for block in new.blocks {
            $crate::db::blocks::insert_block!($tx, block);
        }
        if !new.blocks.is_empty() {
            sqlx::query($crate::db::blocks::CHANGE)
                .execute(&mut *$tx)
                .await?;
        }
        for entry in new.entries {
            $crate::db::admin_log::append_entry!($tx, entry, $now);
        }
    }};
}

pub(crate) use {insert_block, insert_blocks};

/// Blocks to write, and their entries for the operator's log.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewBlocks<'a> {
    /// The blocks.
    pub blocks: &'a [Block],
    /// The entries.
    pub entries: &'a [Entry],
}

/// Writes blocks, and replaces those of the same target and source, with entries of the operator's
/// log.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn insert(db: &Db, new: NewBlocks<'_>, now: Timestamp) -> Result<(), DbError> {
    in_tx!(db, |tx| {
        insert_blocks!(tx, new, now);
    });
    Ok(())
}

pub(crate) const INSERT: &str = "INSERT INTO blocks (kind, value, source, reason, created_ms, expires_ms) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, value, source) DO UPDATE SET \
    reason = excluded.reason, expires_ms = excluded.expires_ms";
/// Tells the servers that the blocks changed.
pub(crate) const CHANGE: &str = "INSERT INTO block_changes (id, version) VALUES (1, 1) \
    ON CONFLICT (id) DO UPDATE SET version = block_changes.version + 1";

/// Removes the blocks of a target, of all sources or of one. Returns how many there were; without
/// any, nothing is logged.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn remove(
    db: &Db,
    target: &Target,
    source: Option<&str>,
    entry: &Entry,
    now: Timestamp,
) -> Result<u64, DbError> {
    Ok(in_tx!(db, |tx| {
        let removed = sqlx::query(REMOVE)
            .bind(target.kind().as_str())
            .bind(target.value())
            .bind(source)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if removed > 0 {
            sqlx::query(CHANGE).execute(&mut *tx).await?;
            append_entry!(tx, entry, now);
        }
        removed
    }))
}

const REMOVE: &str = "DELETE FROM blocks WHERE kind = $1 AND value = $2 \
    AND source = COALESCE(CAST($3 AS TEXT), source)";

/// Makes the blocks of a source exactly these. Blocks that stay keep the time at which they were
/// made. No target may occur twice. `entry` makes the entry of the operator's log, which stands before
/// the first change; without a change, nothing is logged.
///
/// A long list is written in several transactions, so that the server's own writes don't wait for it.
/// If the process dies in between, the same list again does the rest.
///
/// # Errors
/// [`DbError`].
pub async fn replace(
    db: &Db,
    source: &str,
    blocks: &[Block],
    entry: impl Fn(&Changed) -> Entry,
    now: Timestamp,
) -> Result<Changed, DbError> {
    let rows: Vec<BlockRow> = read_db!(db, |pool| sqlx::query_as(LIST_SOURCE)
        .bind(source)
        .fetch_all(pool)
        .await)?;
    let mut old = HashMap::with_capacity(rows.len());
    for row in rows {
        let block = Block::try_from(row)?;
        old.insert(block.target, block);
    }
    let mut changed = Changed::default();
    let mut writes = Vec::new();
    for block in blocks {
        match old.remove(&block.target) {
            None => changed.added += 1,
            Some(old) if (&old.reason, old.expires_at) == (&block.reason, block.expires_at) => {
                continue;
            }
            Some(_) => changed.updated += 1,
        }
        writes.push(block);
    }
    let gone: Vec<Target> = old.into_keys().collect();
    changed.removed = u64::try_from(gone.len()).unwrap_or(u64::MAX);
    if changed == Changed::default() {
        return Ok(changed);
    }
    admin_log::append(db, &entry(&changed), now).await?;
    for part in writes.chunks(BATCH) {
        apply(db, source, part, &[]).await?;
    }
    for part in gone.chunks(BATCH) {
        apply(db, source, &[], part).await?;
    }
    Ok(changed)
}

/// Writes blocks of a source and removes others, in one transaction.
async fn apply(db: &Db, source: &str, writes: &[&Block], gone: &[Target]) -> Result<(), DbError> {
    in_tx!(db, |tx| {
        for part in writes.chunks(ROWS) {
            let mut query = sqlx::query(AssertSqlSafe(insert_rows(part.len())));
            for block in part {
                query = query
                    .bind(block.target.kind().as_str())
                    .bind(block.target.value())
                    .bind(&block.source)
                    .bind(&block.reason)
                    .bind(block.created_at.millis())
                    .bind(block.expires_at.map(Timestamp::millis));
            }
            query.execute(&mut *tx).await?;
        }
        for part in gone.chunks(ROWS) {
            let mut query = sqlx::query(AssertSqlSafe(remove_rows(part.len()))).bind(source);
            for target in part {
                query = query.bind(target.kind().as_str()).bind(target.value());
            }
            query.execute(&mut *tx).await?;
        }
        sqlx::query(CHANGE).execute(&mut *tx).await?;
    });
    Ok(())
}

/// [`INSERT`] for several rows.
fn insert_rows(count: usize) -> String {
    let row = |index: usize| {
        let first = 6 * index;
        let binds: Vec<String> = (1..=6).map(|bind| format!("${}", first + bind)).collect();
        format!("({})", binds.join(", "))
    };
    let rows: Vec<String> = (0..count).map(row).collect();
    INSERT.replacen("($1, $2, $3, $4, $5, $6)", &rows.join(", "), 1)
}

/// Removes several targets of the source `$1`.
fn remove_rows(count: usize) -> String {
    let target = |index: usize| format!("(${}, ${})", 2 * index + 2, 2 * index + 3);
    let targets: Vec<String> = (0..count).map(target).collect();
    format!(
        "DELETE FROM blocks WHERE source = $1 AND (kind, value) IN (VALUES {})",
        targets.join(", ")
    )
}

/// Finds live images with these bytes, stored or uploaded, at most `most`. Looks at every image.
///
/// # Errors
/// [`DbError`].
pub async fn find_served(db: &Db, sha256: &str, most: u32) -> Result<Vec<ImageId>, DbError> {
    let ids: Vec<String> = read_db!(db, |pool| sqlx::query_scalar(FIND_SERVED)
        .bind(sha256)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    Ok(ids.iter().filter_map(|id| ImageId::parse(id)).collect())
}

const FIND_SERVED: &str = "SELECT id FROM images WHERE state = 'live' AND (sha256 = $1 OR upload_sha256 = $1) \
    ORDER BY id LIMIT $2";

/// How often the blocks have changed.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn version(db: &Db) -> Result<i64, DbError> {
    let version: Option<i64> = read_db!(db, |pool| sqlx::query_scalar(VERSION)
        .fetch_optional(pool)
        .await)?;
    Ok(version.unwrap_or(0))
}

const VERSION: &str = "SELECT version FROM block_changes WHERE id = 1";

/// What every block refuses and until when, without those that expired before `now`.
///
/// # Errors
/// [`DbError`].
pub async fn targets(db: &Db, now: Timestamp) -> Result<Vec<(Target, Option<Timestamp>)>, DbError> {
    let rows: Vec<(String, String, Option<i64>)> = read_db!(db, |pool| sqlx::query_as(TARGETS)
        .bind(now.millis())
        .fetch_all(pool)
        .await)?;
    rows.into_iter()
        .map(|(kind, value, expires)| {
            let target = target(&kind, &value)?;
            Ok((target, expires.map(Timestamp::from_millis)))
        })
        .collect()
}

const TARGETS: &str = "SELECT kind, value, expires_ms FROM blocks \
    WHERE expires_ms IS NULL OR expires_ms > $1";

/// Which blocks [`list`] returns.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those of this source.
    pub source: Option<String>,
    /// Only those of this kind.
    pub kind: Option<Kind>,
    /// Only those that come after this one, in order of kind, value and source.
    pub after: Option<(Kind, String, String)>,
}

/// Lists blocks in order of kind, value and source, at most `most`. Expired ones are among them.
///
/// # Errors
/// [`DbError`].
pub async fn list(db: &Db, filter: &Filter, most: u32) -> Result<Vec<Block>, DbError> {
    let (kind, value, source) = match &filter.after {
        Some((kind, value, source)) => (kind.as_str(), value.as_str(), source.as_str()),
        None => ("", "", ""),
    };
    let rows: Vec<BlockRow> = read_db!(db, |pool| sqlx::query_as(LIST)
        .bind(filter.source.as_deref())
        .bind(filter.kind.map(Kind::as_str))
        .bind(kind)
        .bind(value)
        .bind(source)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Block::try_from).collect()
}

macro_rules! columns {
    () => {
        "SELECT kind, value, source, reason, created_ms, expires_ms FROM blocks "
    };
}
const LIST: &str = concat!(
    columns!(),
    "WHERE source = COALESCE(CAST($1 AS TEXT), source) AND kind = COALESCE(CAST($2 AS TEXT), kind) \
     AND (kind, value, source) > ($3, $4, $5) ORDER BY kind, value, source LIMIT $6"
);
const LIST_SOURCE: &str = concat!(columns!(), "WHERE source = $1");

/// Counts the blocks of each source and kind.
///
/// # Errors
/// [`DbError`].
pub async fn count(db: &Db) -> Result<Vec<(String, Kind, u64)>, DbError> {
    let rows: Vec<(String, String, i64)> =
        read_db!(db, |pool| sqlx::query_as(COUNT).fetch_all(pool).await)?;
    rows.into_iter()
        .map(|(source, kind, count)| {
            let kind = Kind::parse(&kind).ok_or_else(|| corrupt(&kind, "kind"))?;
            Ok((source, kind, u64::try_from(count).unwrap_or(0)))
        })
        .collect()
}

const COUNT: &str =
    "SELECT source, kind, COUNT(*) FROM blocks GROUP BY source, kind ORDER BY source, kind";

/// A condition of statements on a row of `images`: no block of its bytes or of its owner counts at
/// the time in `$now`. A block that comes between the check and the publication withholds the image.
macro_rules! unblocked {
    ($now:literal) => {
        unblocked!($now, "images.sha256, images.upload_sha256")
    };
    ($now:literal, $hashes:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM blocks WHERE ((kind = 'sha256' AND value IN (",
            $hashes,
            ")) \
             OR (kind = 'wallet' AND value = images.owner)) AND (blocks.expires_ms IS NULL OR blocks.expires_ms > ",
            $now,
            "))"
        )
    };
}

/// A condition of statements: the blocks have the version in `$version`, or that is null. PDQ
/// hashes are compared outside of the database, and this tells whether they were compared with all
/// blocks.
macro_rules! blocks_as_of {
    ($version:literal) => {
        concat!(
            "COALESCE(CAST(",
            $version,
            " AS BIGINT), (SELECT version FROM block_changes WHERE id = 1), 0) \
             = COALESCE((SELECT version FROM block_changes WHERE id = 1), 0)"
        )
    };
}
pub(super) use {blocks_as_of, unblocked};

/// Whether a block of its bytes or of its owner keeps an image from being published at `now`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn withholds(db: &Db, image: &ImageId, now: Timestamp) -> Result<bool, DbError> {
    let found: Option<i64> = read_db!(db, |pool| sqlx::query_scalar(WITHHOLDS)
        .bind(image.as_str())
        .bind(now.millis())
        .fetch_optional(pool)
        .await)?;
    Ok(found.is_some())
}

const WITHHOLDS: &str = concat!(
    "SELECT created_ms FROM images WHERE id = $1 AND NOT ",
    unblocked!("$2")
);

struct BlockRow {
    kind: String,
    value: String,
    source: String,
    reason: String,
    created_ms: i64,
    expires_ms: Option<i64>,
}
from_row!(BlockRow: kind, value, source, reason, created_ms, expires_ms);

impl TryFrom<BlockRow> for Block {
    type Error = DbError;

    fn try_from(row: BlockRow) -> Result<Self, DbError> {
        Ok(Self {
            target: target(&row.kind, &row.value)?,
            source: row.source,
            reason: row.reason,
            created_at: Timestamp::from_millis(row.created_ms),
            expires_at: row.expires_ms.map(Timestamp::from_millis),
        })
    }
}

fn target(kind: &str, value: &str) -> Result<Target, DbError> {
    let known = Kind::parse(kind).ok_or_else(|| corrupt(kind, "kind"))?;
    Target::read(known, value).ok_or_else(|| corrupt(value, "value"))
}

fn corrupt(row: &str, column: &'static str) -> DbError {
    DbError::Corrupt {
        table: "blocks",
        column,
        row: row.to_owned(),
    }
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("blocks::INSERT", INSERT),
    ("blocks::CHANGE", CHANGE),
    ("blocks::REMOVE", REMOVE),
    ("blocks::FIND_SERVED", FIND_SERVED),
    ("blocks::VERSION", VERSION),
    ("blocks::TARGETS", TARGETS),
    ("blocks::LIST", LIST),
    ("blocks::LIST_SOURCE", LIST_SOURCE),
    ("blocks::COUNT", COUNT),
    ("blocks::WITHHOLDS", WITHHOLDS),
];
