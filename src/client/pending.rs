//! Signed payments whose upload has not ended, one private file each. After a crash or an unknown outcome, the same
//! command sends the same payment again and signs no other.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pay::SignedPayment;
use super::wallet::write_new_private;
use crate::keys::secrets::sha256_hex;
use crate::x402::header::MAX_HEADER_BYTES;

/// The directory of pending payments. It is created when the first payment is saved.
#[derive(Debug, Clone)]
pub struct PendingPayments {
    dir: PathBuf,
}

/// Identifies what a payment was signed for: a hash of server, tier and the file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingKey(String);

/// A record of a payment that can't be used. No other payment is signed in its place, because the first may have been
/// settled.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    /// The file holds no payment.
    #[error(
        "{path} should hold a saved payment, but can't be parsed. That payment may have been made, so no other is \
         signed. Remove the file only if you are sure that it was not.", path = path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be read, written or removed.
    #[error("The file for the saved payment, {path}, can't be used: {error}.", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
}

/// The content of a file.
#[derive(Serialize, Deserialize)]
struct Record {
    payment: String,
}

impl PendingKey {
    /// The key of uploading `bytes` to `tier` of `server`.
    pub fn of(server: &str, tier: &str, bytes: &[u8]) -> Self {
        Self(sha256_hex(
            format!("{server}\n{tier}\n{}", sha256_hex(bytes)).as_bytes(),
        ))
    }
}

impl PendingPayments {
    /// The pending payments below the client's data folder.
    pub fn below(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.join("pending"),
        }
    }

    /// The saved payment of this upload; `None` when there is none.
    ///
    /// # Errors
    /// [`PendingError`].
    pub fn find(&self, key: &PendingKey) -> Result<Option<SignedPayment>, PendingError> {
        let path = self.path(key);
        let mut text = Vec::new();
        let limit = u64::try_from(2 * MAX_HEADER_BYTES).unwrap_or(u64::MAX);
        let read = File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PendingError::File { path, error }),
            Ok(_) => {}
        }
        serde_json::from_slice(&text)
            .ok()
            .and_then(|record: Record| SignedPayment::parse(record.payment))
            .map(Some)
            .ok_or(PendingError::Corrupt { path })
    }

    /// Saves `payment` before it is first sent, and returns the payment to send. That is another one when another
    /// process with the same upload saved its payment first; both then send that one.
    ///
    /// # Errors
    /// [`PendingError`].
    pub fn keep(
        &self,
        key: &PendingKey,
        payment: SignedPayment,
    ) -> Result<SignedPayment, PendingError> {
        let path = self.path(key);
        let record = Record {
            payment: payment.header().to_owned(),
        };
        let kept = serde_json::to_vec(&record)
            .map_err(io::Error::other)
            .and_then(|text| write_new_private(&path, &text));
        match kept {
            Ok(true) => Ok(payment),
            Ok(false) => self.find(key)?.ok_or(PendingError::File {
                path,
                error: io::Error::other(
                    "another upload of this file has just ended; run the command again",
                ),
            }),
            Err(error) => Err(PendingError::File { path, error }),
        }
    }

    /// Deletes the saved payment of this upload, after its final response. It is no error if there is none.
    ///
    /// # Errors
    /// [`PendingError::File`].
    pub fn forget(&self, key: &PendingKey) -> Result<(), PendingError> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PendingError::File { path, error })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, key: &PendingKey) -> PathBuf {
        self.dir.join(format!("{}.json", key.0))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::x402::header;

    fn payment(nonce: u8) -> SignedPayment {
        let document = serde_json::json!({
            "x402Version": 2,
            "accepted": {"scheme": "exact", "network": "eip155:84532"},
            "extensions": {"payment-identifier": {"info": {"id": "0123456789abcdef"}}},
            "payload": {"signature": "0x00", "authorization": {
                "from": format!("0x{}", "11".repeat(20)), "to": format!("0x{}", "22".repeat(20)),
                "value": "10000", "validAfter": "0", "validBefore": "1900000000",
                "nonce": format!("0x{}", hex::encode([nonce; 32])),
            }},
        });
        SignedPayment::parse(header::encode(&document)).unwrap()
    }

    #[test]
    fn the_first_saved_payment_stays_until_it_is_deleted() {
        let home = tempfile::tempdir().unwrap();
        let pending = PendingPayments::below(home.path());
        let key = PendingKey::of("https://a", "year", b"image");
        assert!(pending.find(&key).unwrap().is_none());
        let first = pending.keep(&key, payment(1)).unwrap();
        assert_eq!(
            pending.keep(&key, payment(2)).unwrap().header(),
            first.header()
        );
        assert_eq!(
            pending.find(&key).unwrap().unwrap().header(),
            first.header()
        );
        pending.forget(&key).unwrap();
        pending.forget(&key).unwrap();
        assert!(pending.find(&key).unwrap().is_none());
    }

    #[test]
    fn a_record_is_private_and_none_is_left_half_written() {
        let home = tempfile::tempdir().unwrap();
        let pending = PendingPayments::below(home.path());
        let key = PendingKey::of("https://a", "year", b"image");
        pending.keep(&key, payment(1)).unwrap();
        pending.keep(&key, payment(2)).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&pending.path(&key)), 0o600);
        assert_eq!(mode(&pending.dir), 0o700);
        assert_eq!(pending.dir.read_dir().unwrap().count(), 1);
    }

    #[test]
    fn another_server_tier_or_file_is_another_upload() {
        let key = PendingKey::of("https://a", "year", b"image");
        assert_eq!(key, PendingKey::of("https://a", "year", b"image"));
        assert_ne!(key, PendingKey::of("https://b", "year", b"image"));
        assert_ne!(key, PendingKey::of("https://a", "month", b"image"));
        assert_ne!(key, PendingKey::of("https://a", "year", b"image2"));
    }

    #[test]
    fn an_unreadable_record_is_an_error_rather_than_no_payment() {
        let home = tempfile::tempdir().unwrap();
        let pending = PendingPayments::below(home.path());
        let key = PendingKey::of("https://a", "year", b"image");
        pending.keep(&key, payment(1)).unwrap();
        for text in ["", "{}", r#"{"payment":"AAAA"}"#] {
            std::fs::write(pending.path(&key), text).unwrap();
            assert!(
                matches!(pending.find(&key), Err(PendingError::Corrupt { .. })),
                "{text}"
            );
            let kept = pending.keep(&key, payment(2));
            assert!(matches!(kept, Err(PendingError::Corrupt { .. })));
        }
    }
}
