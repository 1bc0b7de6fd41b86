//! The public proof: what the service did, day by day, and how its ledger compares with the chain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::system::clock::Timestamp;

/// The `typ` header of public proofs. Nothing else that the same key signs has this type.
pub const PROOF_TYPE: &str = "pixtoll-proof";

/// Counts of a day, or of all days. No count names a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Totals {
    /// Requests that were asked to pay.
    pub challenged: i64,
    /// Requests that carried a payment which the ledger didn't know.
    pub presented: i64,
    /// Payments that ended without moving money: refused before they were recorded, refused by the facilitator, given up
    /// before they were settled, or failed.
    pub refused: i64,
    /// Payments that moved money.
    pub settled: i64,
    /// Files that were deleted after the end of their image.
    pub expired: i64,
    /// Files that were deleted before the end of their image, by its owner or the operator.
    pub deleted: i64,
}

impl Totals {
    /// Adds the counts of `other`.
    pub const fn add(&mut self, other: &Self) {
        self.challenged += other.challenged;
        self.presented += other.presented;
        self.refused += other.refused;
        self.settled += other.settled;
        self.expired += other.expired;
        self.deleted += other.deleted;
    }
}

/// The counts of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Day {
    /// The day, in UTC.
    #[schemars(extend("format" = "date"))]
    pub day: String,
    /// What happened on it.
    #[serde(flatten)]
    pub totals: Totals,
}

/// A number of transfers of USDC, and their sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sum {
    /// The number of transfers.
    pub transfers: u64,
    /// Their sum, in atomic units (10^-6 USDC).
    pub amount: String,
}

/// The transfers to the service on one network, compared with its ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compared {
    /// The network's CAIP-2 id.
    pub network: String,
    /// The first block whose transfers were read.
    pub first_block: u64,
    /// The last block whose transfers were read. Null: none was read yet.
    pub last_block: Option<u64>,
    /// Transfers that settled a payment of the ledger.
    pub paid: Sum,
    /// Transfers that belong to no payment: anybody can send money.
    pub other: Sum,
}

/// The last check of the ledger's own rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RulesCheck {
    /// When the rules were checked.
    #[schemars(with = "String")]
    pub checked_at: Timestamp,
    /// The number of rules.
    pub rules: u64,
    /// The number of rows that break one.
    pub broken_rows: u64,
}

/// The ledger, checked against its rules and against the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerProof {
    /// The last check of the rules. Null: there was none yet.
    pub rules: Option<RulesCheck>,
    /// When the transfers of the chain were last compared with the ledger, on every network. Null: never yet.
    #[schemars(with = "Option<String>")]
    pub compared_at: Option<Timestamp>,
    /// What the comparison found on each network.
    pub networks: Vec<Compared>,
    /// Settled payments whose transfer is not in a final block yet.
    pub unconfirmed: i64,
    /// Settled payments whose transfer the chain does not show.
    pub missing: i64,
    /// Transfers that look like a sale, belong to no payment, and that the operator has not explained.
    pub unexplained: i64,
}

/// The claims of a public proof, in the order in which they are signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The issuer: `http.base_url`.
    pub iss: String,
    /// When the proof was made.
    #[schemars(with = "String")]
    pub issued_at: Timestamp,
    /// Whether the money is that of the sandbox, which is worth nothing.
    pub play_money: bool,
    /// The first day that is counted.
    #[schemars(extend("format" = "date"))]
    pub since: String,
    /// Everything since then.
    pub totals: Totals,
    /// The last 30 days, today last.
    pub days: Vec<Day>,
    /// The ledger.
    pub ledger: LedgerProof,
}
