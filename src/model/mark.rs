//! The mark that a database writes into its object store, by which a restored or foreign database
//! is recognized.

use serde::{Deserialize, Serialize};

/// The mark: which database holds the rows of the store, and its epoch when it wrote this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The random id of the database.
    pub database: String,
    /// The database's epoch, a number that only grows.
    pub epoch: u64,
}

/// The keys under which a database stores its own id and epoch.
pub mod stamps {
    /// The random id of the database.
    pub const DATABASE: &str = "database_id";
    /// The epoch.
    pub const EPOCH: &str = "epoch";
    /// What proved that the database lost commits, and when that was seen. There is no such value
    /// while nothing is known to be lost.
    pub const LOST: &str = "lost_commit";
    /// Images from before this time are no proof that commits are lost: the operator accepted what
    /// was lost until then. In milliseconds since the Unix epoch.
    pub const LOST_IMAGES: &str = "lost_images_until_ms";
    /// The same for upload tokens that expire until this time.
    pub const LOST_TOKENS: &str = "lost_tokens_until_ms";
}

/// Proof that a database lost commits: what this server gave away and its database doesn't know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostCommit(pub String);

impl std::fmt::Display for LostCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Mark {
    /// The mark as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A text and a number can always be serialized.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a stored mark. `None`: the bytes are not one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// How a database compares with the mark in its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// The database is at least as new as the mark.
    Current,
    /// The database is older than the mark: it was restored from a backup, or lost commits.
    Behind,
    /// The mark was written by another database.
    Other,
}

/// Compares a database's own mark with the one in its store. A database that is known to have lost
/// commits is behind in any case. Read the mark first: a database
/// increases its epoch before it writes the mark, so the own mark is never older than one that was
/// read before it.
pub fn judge(own: &Mark, noted: Option<&Mark>, has_lost: bool) -> Age {
    match noted {
        Some(noted) if noted.database != own.database => Age::Other,
        Some(noted) if noted.epoch > own.epoch => Age::Behind,
        _ if has_lost => Age::Behind,
        Some(_) | None => Age::Current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(database: &str, epoch: u64) -> Mark {
        Mark {
            database: database.to_owned(),
            epoch,
        }
    }

    #[test]
    fn a_database_is_behind_when_the_mark_has_a_later_epoch() {
        let own = mark("a", 7);
        for (noted, age) in [
            (None, Age::Current),
            (Some(mark("a", 6)), Age::Current),
            (Some(mark("a", 7)), Age::Current),
            (Some(mark("a", 8)), Age::Behind),
            (Some(mark("b", 1)), Age::Other),
            (Some(mark("b", 9)), Age::Other),
        ] {
            assert_eq!(judge(&own, noted.as_ref(), false), age, "{noted:?}");
            let lost = if age == Age::Current {
                Age::Behind
            } else {
                age
            };
            assert_eq!(judge(&own, noted.as_ref(), true), lost, "{noted:?}");
        }
    }

    #[test]
    fn a_mark_is_read_back_and_other_bytes_are_rejected() {
        let own = mark("a", u64::from(u32::MAX));
        assert_eq!(Mark::parse(&own.to_bytes()), Some(own));
        for bytes in [&b""[..], b"{}", b"\xff", br#"{"database":"a","epoch":-1}"#] {
            assert_eq!(Mark::parse(bytes), None);
        }
    }
}
