//! A payment, and which moves exist between its states.
//!
//! [`transition`] is total and pure: for every state and event it says where the row goes, or that
//! this event does not move it. The database applies a [`Move`] only to a row that is still in the
//! state that the move leaves.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};

use crate::clock::Timestamp;
use crate::ids::ImageId;
use crate::networks::Network;
use crate::tiers::Keep;
use crate::x402::evm::Authorization;
use crate::x402::wire::{Offer, Version};

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentState {
    /// Written down; the facilitator has not confirmed it yet.
    Received,
    /// The facilitator says it would settle. No money has moved.
    Verified,
    /// The facilitator refused it at verify. No money has moved.
    Rejected,
    /// Given up before settle was called. No money has moved.
    Released,
    /// Settle is being called, or was when the process died.
    Settling,
    /// Settle was called and nobody knows yet whether the money moved.
    Unknown,
    /// The money did not move, and this payment will not move it.
    Failed,
    /// The money moved to us.
    Settled,
    /// The chain no longer shows the transfer; it decides again.
    Frozen,
    /// The transfer was undone by the chain.
    Reversed,
}

impl PaymentState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Received,
        Self::Verified,
        Self::Rejected,
        Self::Released,
        Self::Settling,
        Self::Unknown,
        Self::Failed,
        Self::Settled,
        Self::Frozen,
        Self::Reversed,
    ];

    /// The spelling in the database and in `pixtoll ledger`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Verified => "verified",
            Self::Rejected => "rejected",
            Self::Released => "released",
            Self::Settling => "settling",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::Settled => "settled",
            Self::Frozen => "frozen",
            Self::Reversed => "reversed",
        }
    }

    /// The state with this spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What can happen to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It is presented again and is to run afresh.
    PresentedAgain,
    /// Verify said yes.
    VerifyAccepted,
    /// Verify said no.
    VerifyRefused,
    /// Its goods can't be delivered, or its window closes too soon; settle was not called.
    GivenUp,
    /// The time in which it could be settled has passed; settle was not called.
    WindowClosed,
    /// The intent to call settle is written down.
    SettleStarted,
    /// The facilitator proved success, and the tier asks for no more.
    SettleProven,
    /// The first settle call was refused for a reason that means "nothing moved".
    SettleRefused,
    /// Settle gave no answer that decides.
    SettleUnclear,
    /// The chain shows the transfer to us.
    ChainPaid,
    /// The chain shows that this authorization can't pay us any more.
    ChainVoid,
    /// The chain no longer shows a transfer that it had shown.
    ChainForgot,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 12] = [
        Self::PresentedAgain,
        Self::VerifyAccepted,
        Self::VerifyRefused,
        Self::GivenUp,
        Self::WindowClosed,
        Self::SettleStarted,
        Self::SettleProven,
        Self::SettleRefused,
        Self::SettleUnclear,
        Self::ChainPaid,
        Self::ChainVoid,
        Self::ChainForgot,
    ];
}

/// A permitted change of state. Only [`transition`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    from: PaymentState,
    to: PaymentState,
}

impl Move {
    /// The state that the row must be in.
    pub const fn from(self) -> PaymentState {
        self.from
    }

    /// The state that the row goes to.
    pub const fn to(self) -> PaymentState {
        self.to
    }
}

/// Where `event` takes a payment in `state`; `None` when it does not move it.
pub const fn transition(state: PaymentState, event: Event) -> Option<Move> {
    use Event as E;
    use PaymentState as S;
    let to = match (state, event) {
        // Nothing is bound before verify succeeded, so a new attempt starts from the beginning.
        (S::Received | S::Rejected | S::Released, E::PresentedAgain) => S::Received,
        (S::Received, E::VerifyAccepted) => S::Verified,
        (S::Received, E::VerifyRefused | E::WindowClosed) => S::Rejected,
        (S::Received | S::Verified, E::GivenUp) | (S::Verified, E::WindowClosed) => S::Released,
        (S::Verified, E::SettleStarted) => S::Settling,
        // A success that a call still brings after its wait has ended counts like any other proof.
        (S::Settling | S::Unknown, E::SettleProven) => S::Settled,
        // A refusal decides only while the first call is the only one there was.
        (S::Settling, E::SettleRefused) => S::Failed,
        (S::Settling, E::SettleUnclear) => S::Unknown,
        (S::Settling | S::Unknown, E::ChainVoid) => S::Failed,
        // Proof from the chain moves any state to settled, once.
        (
            S::Received
            | S::Verified
            | S::Rejected
            | S::Released
            | S::Settling
            | S::Unknown
            | S::Failed
            | S::Frozen
            | S::Reversed,
            E::ChainPaid,
        ) => S::Settled,
        (S::Settled, E::ChainForgot) => S::Frozen,
        (S::Frozen, E::ChainVoid) => S::Reversed,
        _ => return None,
    };
    Some(Move { from: state, to })
}

/// What kind of thing a payment buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProductKind {
    /// An upload token.
    Token,
    /// The upload of the image that the same request carries.
    Upload,
    /// More time for an image that is public already.
    Renewal,
}

impl ProductKind {
    /// The spelling in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Upload => "upload",
            Self::Renewal => "renewal",
        }
    }

    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Token, Self::Upload, Self::Renewal];

    /// The kind with this spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What a payment buys. Two routes that sell the same product are the same to a payment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Product {
    /// The kind of thing.
    pub kind: ProductKind,
    /// The tier's name.
    pub tier: String,
    /// How many uploads; one for a renewal.
    pub uses: u32,
    /// The image that gets more time, of a renewal.
    pub target: Option<ImageId>,
}

/// What a renewal did, as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The image.
    pub image_id: ImageId,
    /// When it would have expired.
    pub from: Timestamp,
    /// When it expires by this renewal; `None`: never.
    pub to: Option<Timestamp>,
    /// Its tier before.
    pub from_tier: String,
    /// Its tier since.
    pub to_tier: String,
    /// When the payment settled.
    pub renewed_at: Timestamp,
}

/// On what terms: fixed when the offer was accepted, whatever the configuration says later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What was offered and accepted.
    pub offer: Offer,
    /// How long the image is kept.
    pub keep: Keep,
    /// The largest image, in bytes.
    pub max_bytes: u64,
    /// How many confirmations the transfer needs before the grant.
    pub confirmations: u32,
}

/// The name of a payment in the ledger: SHA-256 of (network, asset, payer, nonce), in hex.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PaymentId(String);

impl PaymentId {
    /// The id of the authorization `nonce` of `payer` for `network`'s token.
    pub fn of(network: &Network, payer: Address, nonce: B256) -> Self {
        let identity = format!("{}/{}/{payer}/{nonce}", network.caip2, network.usdc);
        Self(crate::secrets::sha256_hex(identity.as_bytes()))
    }

    /// The id spelled by `text`, when it has an id's form.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        valid.then(|| Self(text.to_owned()))
    }

    /// 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PaymentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A payment as the ledger holds it.
#[derive(Debug, Clone)]
pub struct Payment {
    /// Its name.
    pub id: PaymentId,
    /// What the payer signed.
    pub authorization: Authorization,
    /// The EIP-712 digest: two presentations are the same when it is equal.
    pub digest: B256,
    /// The signature in canonical form.
    pub signature: Bytes,
    /// Where it stands.
    pub state: PaymentState,
    /// Who drives it: each takes the next number, and moves only under its own.
    pub attempt: i64,
    /// Until when its driver may be believed alive.
    pub lease_until: Timestamp,
    /// What it buys.
    pub product: Product,
    /// On what terms.
    pub terms: Terms,
    /// The version that the client spoke.
    pub version: Version,
    /// What is sent to the facilitator, in full.
    pub request: String,
    /// SHA-256 of the uploaded bytes that it was bound to.
    pub body_sha256: Option<String>,
    /// The image that it publishes when settled.
    pub image_id: Option<ImageId>,
    /// Why it was rejected, released or failed.
    pub reason: Option<String>,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// The block from which its logs are searched.
    pub first_block: u64,
    /// The transaction that moved the money, or that a facilitator named.
    pub transaction: Option<B256>,
    /// When the money was known to have moved.
    pub settled_at: Option<Timestamp>,
    /// When the reconciler looks next; `None` when there is nothing left to look for.
    pub next_look: Option<Timestamp>,
    /// How often the reconciler looked.
    pub looks: u32,
}

impl Payment {
    /// The network that it moves money on.
    pub fn network(&self) -> &'static Network {
        self.terms.offer.network
    }

    /// Whether it is known from the chain alone, which doesn't tell what was signed: the row of a credit.
    pub fn is_credited(&self) -> bool {
        self.digest == UNKNOWN_DIGEST
    }

    /// Whether nobody drives it at `now`.
    pub fn is_unleased(&self, now: Timestamp) -> bool {
        self.lease_until <= now
    }

    /// The instant from which the token refuses the authorization.
    pub fn valid_before(&self) -> Timestamp {
        unix_seconds(self.authorization.valid_before)
    }
}

/// A 256-bit number of Unix seconds as an instant; saturates.
pub fn unix_seconds(seconds: alloy_primitives::U256) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// The transfer that settled a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Its transaction.
    pub transaction: B256,
    /// The index of its log in the block; unknown when only a facilitator spoke of it.
    pub log_index: Option<u64>,
}

/// What a settled payment bought, as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The payment.
    pub payment_id: PaymentId,
    /// What was bought.
    pub product: Product,
    /// How many uploads were published.
    pub used: u32,
    /// Which token of the payment is the valid one.
    pub serial: u32,
    /// What the database holds of it, see [`UploadToken::hash`](crate::model::token::UploadToken::hash).
    pub token_hash: String,
    /// When the token ends.
    pub token_expires: Timestamp,
    /// How long an image is kept.
    pub keep: Keep,
    /// The largest image, in bytes.
    pub max_bytes: u64,
}

/// What the ledger knows a transfer by whose payment's records are erased: SHA-256 of transaction, payer,
/// recipient and amount, each as the database spells it, in hex.
pub fn transfer_hash(transaction: &str, payer: &str, pay_to: &str, amount: &str) -> String {
    crate::secrets::sha256_hex(format!("{transaction}/{payer}/{pay_to}/{amount}").as_bytes())
}

/// What a credit is closed with whose transfer the chain forgot: it moved no money.
pub const FORGOTTEN: &str = "the chain does not show the transfer any more, and never will";

/// Stands where the digest of an authorization isn't known. No authorization has it.
pub const UNKNOWN_DIGEST: B256 = B256::ZERO;

/// How long one driver may be silent before another takes over.
pub const LEASE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
