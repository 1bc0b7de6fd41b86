//! The ledger's balance against the chain: what the hourly search for transfers read, summed up block
//! by block, and the result of the last check of the ledger's rules. Both are in the database, so that
//! every replica shows the same.

use alloy_primitives::U256;
use serde::{Deserialize, Serialize};

use crate::db::counts::{self, Doubts};
use crate::db::deployment::{self, Advance};
use crate::db::{Db, DbError, jobs, orphans};
use crate::model::proof::{Compared, LedgerProof, RulesCheck, Sum};
use crate::system::clock::Timestamp;

/// The name of the job that reads the chain's transfers to us.
pub const SEARCH: &str = "orphans";
/// With a dot, the CAIP-2 id, another dot and the recipient: the next block to read.
pub const NEXT_BLOCK: &str = "orphans_next_block";
/// With the same: the sums of the transfers in the blocks before that, as JSON.
const SUMS: &str = "transfers";
/// The last check of the ledger's rules, as JSON.
const RULES: &str = "ledger_check";

/// Transfers that were read, in two sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Read {
    /// Transfers that settled a payment.
    pub paid: Transfers,
    /// The others.
    pub other: Transfers,
}

/// A number of transfers and their sum in atomic units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transfers {
    count: u64,
    amount: U256,
}

impl Transfers {
    /// Adds a transfer.
    pub fn add(&mut self, amount: U256) {
        self.join(Self { count: 1, amount });
    }

    fn join(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.amount = self.amount.saturating_add(other.amount);
    }

    fn of(sum: &Sum) -> Option<Self> {
        let amount = sum.amount.parse().ok()?;
        let count = sum.transfers;
        Some(Self { count, amount })
    }

    fn sum(self) -> Sum {
        Sum {
            transfers: self.count,
            amount: self.amount.to_string(),
        }
    }
}

/// What is recorded of one recipient.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recorded {
    first_block: u64,
    paid: Sum,
    other: Sum,
}

impl Recorded {
    /// Nothing was read before this block.
    fn starting_at(block: u64) -> Self {
        let none = Transfers::default().sum();
        Self {
            first_block: block,
            paid: none.clone(),
            other: none,
        }
    }

    fn add(&mut self, read: Read) -> Option<()> {
        for (sum, more) in [(&mut self.paid, read.paid), (&mut self.other, read.other)] {
            let mut all = Transfers::of(sum)?;
            all.join(more);
            *sum = all.sum();
        }
        Some(())
    }

    fn parse(name: &str, text: &str) -> Result<Self, DbError> {
        serde_json::from_str(text).map_err(|_| corrupt(name))
    }
}

fn corrupt(name: &str) -> DbError {
    DbError::Corrupt {
        table: "deployment",
        column: "value",
        row: name.to_owned(),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Records that the blocks from `from` to before `to` were read for `of`, a CAIP-2 id and a recipient
/// with a dot between them, and what was found there. `false`: another process has read them, and
/// nothing is changed.
///
/// # Errors
/// [`DbError`].
pub async fn note_read(db: &Db, of: &str, from: u64, to: u64, read: Read) -> Result<bool, DbError> {
    let sums = format!("{SUMS}.{of}");
    let mut recorded = match deployment::find(db, &sums).await? {
        Some(text) => Recorded::parse(&sums, &text)?,
        None => Recorded::starting_at(from),
    };
    recorded.add(read).ok_or_else(|| corrupt(&sums))?;
    let advance = Advance {
        name: &format!("{NEXT_BLOCK}.{of}"),
        from: &from.to_string(),
        to: &to.to_string(),
        beside: (&sums, &json(&recorded)),
    };
    deployment::advance(db, &advance).await
}

#[derive(Serialize, Deserialize)]
struct RecordedCheck {
    at_ms: i64,
    rules: u64,
    broken_rows: u64,
}

/// Records the result of a check of the ledger's rules.
///
/// # Errors
/// [`DbError`].
pub async fn note_check(db: &Db, check: &RulesCheck) -> Result<(), DbError> {
    let recorded = RecordedCheck {
        at_ms: check.checked_at.millis(),
        rules: check.rules,
        broken_rows: check.broken_rows,
    };
    deployment::set(db, RULES, &json(&recorded)).await
}

/// The ledger's state as it was last checked.
///
/// # Errors
/// [`DbError`].
pub async fn load(db: &Db) -> Result<LedgerProof, DbError> {
    let rules = match deployment::find(db, RULES).await? {
        Some(text) => {
            let check: RecordedCheck = serde_json::from_str(&text).map_err(|_| corrupt(RULES))?;
            Some(RulesCheck {
                checked_at: Timestamp::from_millis(check.at_ms),
                rules: check.rules,
                broken_rows: check.broken_rows,
            })
        }
        None => None,
    };
    let Doubts {
        unconfirmed,
        missing,
    } = counts::count_doubts(db).await?;
    let unexplained = orphans::list_open(db).await?.len();
    Ok(LedgerProof {
        rules,
        compared_at: jobs::last_run(db, SEARCH).await?,
        networks: networks(db).await?,
        unconfirmed,
        missing,
        unexplained: i64::try_from(unexplained).unwrap_or(i64::MAX),
    })
}

/// The sums of each network. A deployment that changed its recipient has read a network for several.
async fn networks(db: &Db) -> Result<Vec<Compared>, DbError> {
    let sums = deployment::list(db, SUMS).await?;
    let mut networks: Vec<Compared> = Vec::new();
    for (of, next_block) in deployment::list(db, NEXT_BLOCK).await? {
        let Some((network, _)) = of.rsplit_once('.') else {
            continue;
        };
        let next: u64 = next_block.parse().map_err(|_| corrupt(&of))?;
        let recorded = match sums.iter().find(|(name, _)| *name == of) {
            Some((name, text)) => Recorded::parse(name, text)?,
            None => Recorded::starting_at(next),
        };
        let last = next
            .checked_sub(1)
            .filter(|last| *last >= recorded.first_block);
        match networks.iter_mut().find(|known| known.network == network) {
            None => networks.push(Compared {
                network: network.to_owned(),
                first_block: recorded.first_block,
                last_block: last,
                paid: recorded.paid,
                other: recorded.other,
            }),
            Some(known) => {
                known.first_block = known.first_block.min(recorded.first_block);
                known.last_block = known.last_block.max(last);
                for (sum, more) in [
                    (&mut known.paid, &recorded.paid),
                    (&mut known.other, &recorded.other),
                ] {
                    let (all, more) = (Transfers::of(sum), Transfers::of(more));
                    let (mut all, more) = all.zip(more).ok_or_else(|| corrupt(&of))?;
                    all.join(more);
                    *sum = all.sum();
                }
            }
        }
    }
    Ok(networks)
}
