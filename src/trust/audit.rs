//! The operator's log: pages of it, and the check of its chain of hashes.

use serde::Serialize;

use super::{ActError, Trust};
use crate::db::{Db, DbError, admin_log};
use crate::model::admin_log::{Head, Logged};

/// How many entries are read at a time.
const PAGE: u32 = 500;

/// The outcome of a check of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Whether nothing is wrong.
    pub is_intact: bool,
    /// The newest entry that is intact with all before it. Keep a copy elsewhere: it shows later
    /// that no entry at the end was deleted.
    pub head: Head,
    /// What is wrong, and where; null: nothing.
    pub fault: Option<String>,
}

impl Trust {
    /// Returns entries before `number`, newest first: all, or those about `subject`.
    ///
    /// # Errors
    /// [`ActError::Database`].
    pub async fn log(
        &self,
        number: Option<i64>,
        subject: Option<&str>,
        most: u32,
    ) -> Result<Vec<Logged>, ActError> {
        let before = number.unwrap_or(i64::MAX);
        let subject = subject.unwrap_or_default();
        Ok(admin_log::page_before(&self.db, before, subject, most).await?)
    }

    /// Checks every entry against the one before it, and the last one against the head that is
    /// stored apart. `expected` is a head that was noted earlier: the log must still hold it.
    ///
    /// # Errors
    /// [`ActError::Database`].
    pub async fn verify_log(&self, expected: Option<&Head>) -> Result<Verified, ActError> {
        // Read first: entries that are appended meanwhile come after it.
        let stored = match stored_head(&self.db).await? {
            Ok(stored) => stored,
            Err(fault) => return Ok(broken(Head::of_empty_log(), fault)),
        };
        let mut head = Head::of_empty_log();
        let mut seen_expected = expected.is_none_or(|expected| *expected == head);
        let mut seen_stored = stored == head;
        // Numbers below 1 are read as well: somebody may have inserted them.
        let mut next = i64::MIN;
        loop {
            let page = match admin_log::page_from(&self.db, next, PAGE).await {
                Ok(page) if page.is_empty() => break,
                Ok(page) => page,
                Err(error) if error.is_foreign_value() => {
                    let fault = format!(
                        "an entry from number {} on holds a value that pixtoll does not write: it was changed",
                        head.number.saturating_add(1)
                    );
                    return Ok(broken(head, fault));
                }
                Err(error) => return Err(error.into()),
            };
            for entry in &page {
                head = match head.followed_by(entry) {
                    Ok(next) => next,
                    Err(fault) => return Ok(broken(head, fault)),
                };
                seen_stored |= head == stored;
                seen_expected |= expected.is_some_and(|expected| *expected == head);
            }
            next = head.number.saturating_add(1);
        }
        if !seen_stored {
            let fault = format!(
                "the newest entry should be number {} with the hash {}: entries at the end were deleted or replaced",
                stored.number, stored.hash
            );
            return Ok(broken(head, fault));
        }
        if let Some(expected) = expected.filter(|_| !seen_expected) {
            let fault = format!(
                "there is no entry {} with the hash {} any more: the log was cut or rewritten",
                expected.number, expected.hash
            );
            return Ok(broken(head, fault));
        }
        Ok(Verified {
            is_intact: true,
            head,
            fault: None,
        })
    }
}

/// The head that is stored apart from the entries; or what is wrong with it, in words.
async fn stored_head(db: &Db) -> Result<Result<Head, String>, DbError> {
    let found = match admin_log::head(db).await {
        Err(error) if error.is_foreign_value() => {
            return Ok(Err(
                "the head holds a value that pixtoll does not write: it was changed".to_owned(),
            ));
        }
        found => found?,
    };
    if let Some(head) = found {
        return Ok(Ok(head));
    }
    // Without a head there is no entry, unless the first one has been appended meanwhile.
    let is_empty = admin_log::page_from(db, i64::MIN, 1).await;
    let is_empty = match is_empty {
        Err(error) if error.is_foreign_value() => false,
        page => page?.is_empty(),
    };
    if is_empty || admin_log::head(db).await?.is_some() {
        return Ok(Ok(Head::of_empty_log()));
    }
    Ok(Err(
        "there are entries, but the head that is stored apart from them was deleted".to_owned(),
    ))
}

fn broken(head: Head, fault: String) -> Verified {
    Verified {
        is_intact: false,
        head,
        fault: Some(fault),
    }
}
