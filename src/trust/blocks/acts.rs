//! What an operator does with blocks. Each act has its entry in the operator's log, in the same
//! transaction or, for a list, before the first change.

use serde_json::json;

use crate::db::blocks::{self, Changed, NewBlocks};
use crate::db::{Db, DbError};
use crate::model::admin_log::{Act, Entry};
use crate::model::block::{Block, Target};
use crate::system::clock::Timestamp;

/// Blocks targets in the name of `actor`. A block of the same target and source is replaced.
///
/// # Errors
/// [`DbError`].
pub async fn block(db: &Db, actor: &str, blocks: &[Block], now: Timestamp) -> Result<(), DbError> {
    let entries = &entries(actor, blocks);
    blocks::insert(db, NewBlocks { blocks, entries }, now).await
}

/// The entries of the operator's log about new blocks.
pub(in crate::trust) fn entries(actor: &str, blocks: &[Block]) -> Vec<Entry> {
    let entry = |block: &Block| Entry {
        actor: actor.to_owned(),
        act: Act::Block,
        subject: block.target.to_string(),
        reason: block.reason.clone(),
        details: json!({"source": block.source, "expires": block.expires_at}),
    };
    blocks.iter().map(entry).collect()
}

/// Lifts the blocks of a target, of all sources or of one. Returns how many there were.
///
/// # Errors
/// [`DbError`].
pub async fn unblock(
    db: &Db,
    target: &Target,
    source: Option<&str>,
    (actor, reason): (&str, &str),
    now: Timestamp,
) -> Result<u64, DbError> {
    let entry = Entry {
        actor: actor.to_owned(),
        act: Act::Unblock,
        subject: target.to_string(),
        reason: reason.to_owned(),
        details: json!({"source": source}),
    };
    blocks::remove(db, target, source, &entry, now).await
}

/// Makes the blocks of a source exactly these. The same list again changes nothing, and writes no
/// entry.
///
/// # Errors
/// [`DbError`].
pub async fn replace(
    db: &Db,
    source: &str,
    blocks: &[Block],
    (actor, reason): (&str, &str),
    now: Timestamp,
) -> Result<Changed, DbError> {
    let entry = |changed: &Changed| Entry {
        actor: actor.to_owned(),
        act: Act::ImportBlocks,
        subject: source.to_owned(),
        reason: reason.to_owned(),
        details: json!({
            "added": changed.added,
            "updated": changed.updated,
            "removed": changed.removed,
        }),
    };
    blocks::replace(db, source, blocks, entry, now).await
}
