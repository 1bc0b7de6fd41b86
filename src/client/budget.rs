//! The most that may be paid in 24 hours, across restarts and processes. Each payment is reserved in a file before it is
//! sent. One that was sent counts for a day, also where the server refused it: a server that lies could settle it.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Failure;
use super::pay::SignedPayment;
use crate::pricing::money::AtomicAmount;
use crate::system::clock::Timestamp;

/// How long a payment counts, in seconds. No payment can be settled later: its authorization ends within an hour.
const DAY_SECONDS: i64 = 24 * 3600;
/// The largest file that is read, in bytes. It has room for many thousands of payments.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A limit on the payments of 24 hours, and the file that remembers them.
#[derive(Debug, Clone)]
pub struct Budget {
    dir: PathBuf,
    per_day: AtomicAmount,
}

/// The content of the file.
#[derive(Default, Serialize, Deserialize)]
struct Spent {
    payments: Vec<Entry>,
}

/// A payment that was reserved.
#[derive(Serialize, Deserialize)]
struct Entry {
    nonce: String,
    /// The amount in atomic units.
    units: String,
    at_seconds: i64,
}

impl Budget {
    /// A limit of `per_day`, whose file is in `dir`. Nothing is read or written yet.
    pub fn new(dir: &Path, per_day: AtomicAmount) -> Self {
        Self {
            dir: dir.to_owned(),
            per_day,
        }
    }

    /// Reserves a payment before it is sent. One that is reserved already stays as it is.
    ///
    /// # Errors
    /// [`Failure::NotPayable`] above the limit; [`Failure::Unexpected`] if the file can't be used, since nothing is paid
    /// that isn't counted.
    pub fn reserve(&self, payment: &SignedPayment, now: Timestamp) -> Result<(), Failure> {
        let nonce = payment.nonce().unwrap_or_default();
        self.change(|spent| {
            let now = now.seconds();
            // A time in the future counts as well: a clock that was set back gives nothing back.
            spent
                .payments
                .retain(|entry| entry.at_seconds > now.saturating_sub(DAY_SECONDS));
            if spent.payments.iter().any(|entry| entry.nonce == nonce) {
                return Ok(());
            }
            let used = spent.total()?;
            let total = used.checked_add(payment.amount.units());
            if total.is_none_or(|total| total > self.per_day.units()) {
                let left = self.per_day.units().saturating_sub(used);
                return Err(Failure::NotPayable(format!(
                    "The price is {} USDC, and {} USDC are left of the limit of {} USDC for 24 hours (--max-per-day). \
                     Nothing was paid. Wait until earlier payments are a day old, or ask the user to raise the limit.",
                    payment.amount.to_decimal_usd(),
                    AtomicAmount::from_units(left).to_decimal_usd(),
                    self.per_day.to_decimal_usd(),
                )));
            }
            spent.payments.push(Entry {
                nonce,
                units: payment.amount.units().to_string(),
                at_seconds: now,
            });
            Ok(())
        })
    }

    /// Gives a payment back that was never sent.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] if the file can't be used.
    pub fn release(&self, payment: &SignedPayment) -> Result<(), Failure> {
        let nonce = payment.nonce().unwrap_or_default();
        self.change(|spent| {
            spent.payments.retain(|entry| entry.nonce != nonce);
            Ok(())
        })
    }

    /// Changes the file while no other process does. It is replaced as a whole, durably.
    fn change(
        &self,
        change: impl FnOnce(&mut Spent) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let unusable = |error: io::Error| {
            Failure::Unexpected(format!(
                "The record of payments in {} can't be used: {error}. Nothing is paid without it. Check the folder's \
                 permissions and space.",
                self.dir.display()
            ))
        };
        let lock = self.lock().map_err(unusable)?;
        let mut spent = self.read()?;
        change(&mut spent)?;
        self.write(&spent).map_err(unusable)?;
        lock.unlock().map_err(unusable)
    }

    fn lock(&self) -> io::Result<File> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let path = self.dir.join("spent.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        lock.lock()?;
        Ok(lock)
    }

    fn path(&self) -> PathBuf {
        self.dir.join("spent.json")
    }

    fn read(&self) -> Result<Spent, Failure> {
        let path = self.path();
        let mut text = Vec::new();
        let read =
            File::open(&path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
        let broken = |reason: String| {
            Failure::Unexpected(format!(
                "The record of payments {} can't be read ({reason}), so it isn't known what was paid today and nothing is \
                 paid. Remove the file only if you are sure that the limit for 24 hours isn't used up.",
                path.display()
            ))
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Spent::default()),
            Err(error) => Err(broken(error.to_string())),
            Ok(_) => serde_json::from_slice(&text).map_err(|error| broken(error.to_string())),
        }
    }

    fn write(&self, spent: &Spent) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&self.dir)?;
        file.write_all(&serde_json::to_vec(spent)?)?;
        file.as_file().sync_all()?;
        file.persist(self.path()).map_err(|lost| lost.error)?;
        File::open(&self.dir)?.sync_all()
    }
}

impl Spent {
    /// The sum of all amounts, in atomic units.
    fn total(&self) -> Result<u128, Failure> {
        let mut total = 0_u128;
        for entry in &self.payments {
            let units: Option<u128> = entry.units.parse().ok();
            total = units
                .and_then(|units| total.checked_add(units))
                .ok_or_else(|| {
                    Failure::Unexpected(
                        "The record of payments holds an amount that is no number, so nothing is paid."
                            .to_owned(),
                    )
                })?;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x402::header;

    fn payment(nonce: u8, units: u64) -> SignedPayment {
        let document = serde_json::json!({
            "x402Version": 2,
            "accepted": {"scheme": "exact", "network": "eip155:84532"},
            "extensions": {"payment-identifier": {"info": {"id": "0123456789abcdef"}}},
            "payload": {"signature": "0x00", "authorization": {
                "from": format!("0x{}", "11".repeat(20)), "to": format!("0x{}", "22".repeat(20)),
                "value": units.to_string(), "validAfter": "0", "validBefore": "1900000000",
                "nonce": format!("0x{}", hex::encode([nonce; 32])),
            }},
        });
        SignedPayment::parse(header::encode(&document)).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    fn budget(dir: &Path, usd: &str) -> Budget {
        Budget::new(dir, AtomicAmount::from_decimal_usd(usd).unwrap())
    }

    #[test]
    fn payments_up_to_the_limit_are_reserved_and_none_above_it() {
        let home = tempfile::tempdir().unwrap();
        let budget = budget(home.path(), "0.03");
        budget.reserve(&payment(1, 20_000), at(0)).unwrap();
        // The same payment counts once.
        budget.reserve(&payment(1, 20_000), at(5)).unwrap();
        let refused = budget.reserve(&payment(2, 10_001), at(10)).unwrap_err();
        assert!(matches!(refused, Failure::NotPayable(_)));
        let text = refused.to_string();
        assert!(
            text.contains("0.01 USDC are left") && text.contains("--max-per-day"),
            "{text}"
        );
        budget.reserve(&payment(3, 10_000), at(10)).unwrap();
        assert!(budget.reserve(&payment(4, 1), at(11)).is_err());
    }

    #[test]
    fn a_payment_counts_for_a_day_and_less_if_it_is_given_back() {
        let home = tempfile::tempdir().unwrap();
        let budget = budget(home.path(), "0.01");
        budget.reserve(&payment(1, 10_000), at(0)).unwrap();
        assert!(budget.reserve(&payment(2, 1), at(DAY_SECONDS - 1)).is_err());
        // A clock that was set back gives nothing back.
        assert!(budget.reserve(&payment(2, 1), at(-DAY_SECONDS)).is_err());
        budget
            .reserve(&payment(2, 10_000), at(DAY_SECONDS))
            .unwrap();
        budget.release(&payment(2, 10_000)).unwrap();
        budget
            .reserve(&payment(3, 10_000), at(DAY_SECONDS))
            .unwrap();
    }

    #[test]
    fn many_at_once_stay_within_the_limit() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        let reserved = std::thread::scope(|scope| {
            let all: Vec<_> = (0..20)
                .map(|nonce| {
                    // Each has a handle of its own, as processes have.
                    scope.spawn(move || budget(dir, "0.05").reserve(&payment(nonce, 10_000), at(0)))
                })
                .collect();
            let done = all.into_iter().map(|one| one.join().unwrap());
            done.flatten().count()
        });
        assert_eq!(reserved, 5);
    }

    #[test]
    fn nothing_is_paid_without_a_readable_record() {
        let home = tempfile::tempdir().unwrap();
        let budget = budget(home.path(), "1");
        for text in ["", "{}", "{\"payments\":[{}]}"] {
            std::fs::write(budget.path(), text).unwrap();
            let refused = budget.reserve(&payment(1, 1), at(0));
            assert!(matches!(refused, Err(Failure::Unexpected(_))), "{text}");
        }
        let broken = "{\"payments\":[{\"nonce\":\"a\",\"units\":\"x\",\"at_seconds\":1900000000}]}";
        std::fs::write(budget.path(), broken).unwrap();
        assert!(budget.reserve(&payment(1, 1), at(0)).is_err());
    }
}
