//! What a database writes into its store, so that each knows the other.

use serde::{Deserialize, Serialize};

/// Which database keeps the rows of a store, and how far it had come when this was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The name that the database drew for itself.
    pub database: String,
    /// Its epoch: a number that only grows.
    pub epoch: u64,
}

/// Names of the values that a database keeps of it.
pub mod stamps {
    /// The name that the database drew for itself.
    pub const DATABASE: &str = "database_id";
    /// Its epoch.
    pub const EPOCH: &str = "epoch";
}

impl Mark {
    /// As it lies in the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Text and a number: nothing in it can fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The mark that these bytes are, when they are one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// What a store's mark says of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It has all that the store has seen of it, as far as marks tell.
    Current,
    /// The store has seen it at a later epoch: it was restored, or lost what it had committed.
    Behind,
    /// The store's rows were in another database.
    Other,
}

/// What `noted`, from the store, says of a database that stands at `own`. Read in this order: a database
/// moves on before it writes so into the store.
pub fn judge(own: &Mark, noted: Option<&Mark>) -> Age {
    match noted {
        Some(noted) if noted.database != own.database => Age::Other,
        Some(noted) if noted.epoch > own.epoch => Age::Behind,
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
    fn a_database_is_behind_when_its_store_has_seen_more_of_it() {
        let own = mark("a", 7);
        for (noted, age) in [
            (None, Age::Current),
            (Some(mark("a", 6)), Age::Current),
            (Some(mark("a", 7)), Age::Current),
            (Some(mark("a", 8)), Age::Behind),
            (Some(mark("b", 1)), Age::Other),
            (Some(mark("b", 9)), Age::Other),
        ] {
            assert_eq!(judge(&own, noted.as_ref()), age, "{noted:?}");
        }
    }

    #[test]
    fn a_mark_is_read_back_and_nothing_else_is_one() {
        let own = mark("a", u64::from(u32::MAX));
        assert_eq!(Mark::parse(&own.to_bytes()), Some(own));
        for bytes in [&b""[..], b"{}", b"\xff", br#"{"database":"a","epoch":-1}"#] {
            assert_eq!(Mark::parse(bytes), None);
        }
    }
}
