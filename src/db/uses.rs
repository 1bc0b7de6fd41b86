//! Uses of free links and API keys: each is counted in the transaction that publishes the image.

use super::api_keys;
use super::free_links;
use super::limits::day_of;
use crate::model::api_key::ApiKey;
use crate::model::link::FreeLink;
use crate::system::clock::Timestamp;

/// What an upload uses beside a grant or a place of the day.
#[derive(Debug, Clone)]
pub enum Through {
    /// A free upload link.
    Link(FreeLink),
    /// An API key.
    Key(ApiKey),
}

/// A statement that counts a use, with what it is bound to. It changes one row, or none if the link
/// or key takes no upload.
#[derive(Debug, Clone)]
pub(super) struct Count<'a> {
    pub(super) sql: &'static str,
    pub(super) id: &'a str,
    /// The UTC day, in days since 1970.
    pub(super) day: i64,
    pub(super) bytes: i64,
    pub(super) now: i64,
}

impl Through {
    /// The statement that counts an upload of `bytes` bytes.
    pub(super) fn count(&self, bytes: u64, now: Timestamp) -> Count<'_> {
        let (sql, id) = match self {
            Self::Link(link) => (free_links::COUNT_USE, &link.id),
            Self::Key(key) => (api_keys::COUNT_USE, &key.id),
        };
        Count {
            sql,
            id,
            day: day_of(now),
            bytes: super::rows::signed(bytes),
            now: now.millis(),
        }
    }
}

/// Counts the use in an open transaction. Yields whether it was counted.
macro_rules! count_use {
    ($tx:ident, $count:expr) => {{
        let count = $count;
        sqlx::query(count.sql)
            .bind(count.id)
            .bind(count.day)
            .bind(count.bytes)
            .bind(count.now)
            .execute(&mut *$tx)
            .await?
            .rows_affected()
            == 1
    }};
}

/// Counts the use for a pending image of the free tier, and notes the free link on the image. Yields
/// whether both were done.
macro_rules! count_free_use {
    ($tx:ident, $through:ident, $image:ident, $now:ident) => {{
        let is_counted = crate::db::uses::count_use!($tx, $through.count($image.size_bytes, $now));
        match $through {
            crate::db::uses::Through::Link(link) if is_counted => {
                sqlx::query(crate::db::free_links::NOTE_IMAGE)
                    .bind(&link.id)
                    .bind($image.id.as_str())
                    .bind($now.millis())
                    .execute(&mut *$tx)
                    .await?
                    .rows_affected()
                    == 1
            }
            _ => is_counted,
        }
    }};
}

pub(super) use {count_free_use, count_use};
