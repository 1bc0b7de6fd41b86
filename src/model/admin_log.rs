//! The operator's log: what was done, by whom and why. Its entries form a chain of hashes.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::system::clock::Timestamp;

/// The name of the hashed form. It separates these hashes from all others.
const FORM: &str = "pixtoll-admin-log-1";

/// The hash that the first entry holds as that of the entry before it.
pub const FIRST_PREVIOUS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// An act of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// An image is not served any more.
    Remove,
    /// A removed image is served again.
    Restore,
    /// The content of an image is preserved.
    Hold,
    /// A hold ended.
    Release,
    /// The files and facts of an image were written into a report package.
    Package,
    /// The content of an image was shown to the operator.
    View,
    /// An authority acknowledged a report.
    Acknowledge,
    /// Content or a wallet was blocked.
    Block,
    /// A block ended.
    Unblock,
    /// A list of blocks was imported.
    ImportBlocks,
    /// A refund of a payment was recorded.
    Refund,
    /// A case was upheld.
    Uphold,
    /// A case was dismissed.
    Dismiss,
}

impl Act {
    /// The name in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Restore => "restore",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Package => "package",
            Self::View => "view",
            Self::Acknowledge => "acknowledge",
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::ImportBlocks => "import_blocks",
            Self::Refund => "refund",
            Self::Uphold => "uphold",
            Self::Dismiss => "dismiss",
        }
    }
}

/// An entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The person or program that acted.
    pub actor: String,
    /// What was done.
    pub act: Act,
    /// What the act was about, such as the id of an image.
    pub subject: String,
    /// Why it was done, in the actor's words.
    pub reason: String,
    /// Further facts: a JSON object.
    pub details: serde_json::Value,
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Logged {
    /// The place in the log, from 1, without gaps.
    pub number: i64,
    /// When the entry was written.
    pub at: Timestamp,
    /// The person or program that acted.
    pub actor: String,
    /// The name of the act.
    pub act: String,
    /// What the act was about.
    pub subject: String,
    /// Why it was done.
    pub reason: String,
    /// Further facts: the text of a JSON object.
    #[serde(serialize_with = "as_json")]
    pub details: String,
    /// The hash of the entry before this one, in hexadecimal.
    pub previous_hash: String,
    /// The hash of this entry, in hexadecimal.
    pub hash: String,
}

impl Logged {
    /// The entry at this place, with its hash.
    pub fn new(entry: &Entry, number: i64, at: Timestamp, previous_hash: String) -> Self {
        let mut logged = Self {
            number,
            at,
            actor: entry.actor.clone(),
            act: entry.act.as_str().to_owned(),
            subject: entry.subject.clone(),
            reason: entry.reason.clone(),
            details: entry.details.to_string(),
            previous_hash,
            hash: String::new(),
        };
        logged.hash = logged.hash_of_fields();
        logged
    }

    /// The hash that an entry with these fields has: the SHA-256 of a JSON array without spaces, of
    /// the name of the form, the previous hash, the number, the time in milliseconds since the Unix
    /// epoch, the actor, the act, the subject, the reason and the details.
    pub fn hash_of_fields(&self) -> String {
        let fields = serde_json::json!([
            FORM,
            self.previous_hash,
            self.number,
            self.at.millis(),
            self.actor,
            self.act,
            self.subject,
            self.reason,
            self.details,
        ]);
        hex::encode(Sha256::digest(fields.to_string()))
    }
}

/// The newest entry of a log: its number, and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// The number of the newest entry, which is the number of entries.
    pub number: i64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

impl Head {
    /// The head of a log without entries.
    pub fn of_empty_log() -> Self {
        Self {
            number: 0,
            hash: FIRST_PREVIOUS.to_owned(),
        }
    }

    /// Checks that `next` follows this entry unchanged, and returns the head after it.
    ///
    /// # Errors
    /// What is wrong with `next`, in words.
    pub fn followed_by(&self, next: &Logged) -> Result<Self, String> {
        let expected = self.number.saturating_add(1);
        if next.number < expected {
            return Err(format!(
                "entry {} was inserted: the next one should be {expected}",
                next.number
            ));
        }
        if next.number != expected {
            return Err(format!(
                "entry {expected} is missing: the next one is {}",
                next.number
            ));
        }
        if next.previous_hash != self.hash {
            return Err(format!(
                "entry {expected} follows another entry than the one before it: one of the two was replaced"
            ));
        }
        if next.hash != next.hash_of_fields() {
            return Err(format!(
                "entry {expected} was changed: its hash is not that of its fields"
            ));
        }
        Ok(Self {
            number: next.number,
            hash: next.hash.clone(),
        })
    }
}

/// Writes the stored text as the JSON that it is. A text that somebody changed may be none: it is
/// then written as a string.
fn as_json<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => value.serialize(serializer),
        Err(_) => serializer.serialize_str(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(subject: &str) -> Entry {
        Entry {
            actor: "ada".to_owned(),
            act: Act::Remove,
            subject: subject.to_owned(),
            reason: "a \"report\"\nof two lines, ü".to_owned(),
            details: serde_json::json!({"ground": "legal"}),
        }
    }

    fn log(count: i64) -> Vec<Logged> {
        let mut head = Head::of_empty_log();
        let mut log = Vec::new();
        for number in 1..=count {
            let at = Timestamp::from_seconds(number);
            let logged = Logged::new(&entry("abc"), number, at, head.hash.clone());
            head = head.followed_by(&logged).unwrap();
            log.push(logged);
        }
        log
    }

    fn verify(log: &[Logged]) -> Result<Head, String> {
        log.iter()
            .try_fold(Head::of_empty_log(), |head, next| head.followed_by(next))
    }

    #[test]
    fn the_hash_is_that_of_the_documented_array() {
        let first = log(1).remove(0);
        let text = format!(
            r#"["pixtoll-admin-log-1","{FIRST_PREVIOUS}",1,1000,"ada","remove","abc","a \"report\"\nof two lines, ü","{{\"ground\":\"legal\"}}"]"#
        );
        assert_eq!(first.hash, hex::encode(Sha256::digest(text)));
    }

    #[test]
    fn every_changed_field_of_every_entry_is_noticed() {
        let whole = log(3);
        assert_eq!(verify(&whole).unwrap().hash, whole[2].hash);
        let edits: [fn(&mut Logged); 8] = [
            |it| it.number += 1,
            |it| it.at = it.at.plus(std::time::Duration::from_millis(1)),
            |it| it.actor.push('x'),
            |it| it.act = "restore".to_owned(),
            |it| it.subject.push('x'),
            |it| it.reason.clear(),
            |it| it.details = "{}".to_owned(),
            |it| it.previous_hash = it.hash.clone(),
        ];
        for place in 0..3 {
            for edit in edits {
                let mut changed = whole.clone();
                edit(&mut changed[place]);
                assert!(verify(&changed).is_err(), "{place}");
                // With a new hash, the entry contradicts the next one, unless it is the newest.
                changed[place].hash = changed[place].hash_of_fields();
                let fault = verify(&changed);
                assert!(fault.is_err() || place == 2, "{place}");
                assert_ne!(fault.ok(), verify(&whole).ok());
            }
        }
    }

    #[test]
    fn a_deleted_or_moved_entry_is_noticed() {
        let whole = log(4);
        for place in 0..3 {
            let mut changed = whole.clone();
            changed.remove(place);
            assert!(verify(&changed).is_err());
            let mut changed = whole.clone();
            changed.swap(place, place + 1);
            assert!(verify(&changed).is_err());
        }
    }
}
