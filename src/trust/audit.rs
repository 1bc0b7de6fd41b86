//! The operator's log: pages of it, and the check of its chain of hashes.

use serde::Serialize;

use super::{ActError, Trust};
use crate::db::admin_log;
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
        let stored = admin_log::head(&self.db).await?;
        let mut head = Head::of_empty_log();
        let mut seen_expected = expected.is_none_or(|expected| *expected == head);
        let mut seen_stored = stored == head;
        loop {
            let page = admin_log::page_after(&self.db, head.number, PAGE).await?;
            if page.is_empty() {
                break;
            }
            for entry in &page {
                head = match head.followed_by(entry) {
                    Ok(next) => next,
                    Err(fault) => return Ok(broken(head, fault)),
                };
                seen_stored |= head == stored;
                seen_expected |= expected.is_some_and(|expected| *expected == head);
            }
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

fn broken(head: Head, fault: String) -> Verified {
    Verified {
        is_intact: false,
        head,
        fault: Some(fault),
    }
}
