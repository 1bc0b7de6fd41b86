//! A payment, its states, and the transitions between them (docs/payments.md, States).
//!
//! [`transition`] is a total, pure function: for every state and event it returns the new state, or
//! that the event does not change the state. The database applies a [`Move`] only to a row that is
//! still in the state that the move leaves.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};

use crate::evm::exact::Authorization;
use crate::model::client_kind::ClientKind;
use crate::model::ids::ImageId;
use crate::pricing::networks::Network;
use crate::pricing::tiers::Keep;
use crate::system::clock::Timestamp;
use crate::x402::wire::{Offer, Version};

/// The state of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentState {
    /// Recorded; the facilitator has not verified it yet.
    Received,
    /// The facilitator verified it. No money has moved.
    Verified,
    /// The facilitator rejected it at verify. No money has moved.
    Rejected,
    /// Given up before settle was called. No money has moved.
    Released,
    /// Settle is being called, or was when its process stopped.
    Settling,
    /// Settle was called, and it is unknown whether the money moved.
    Unknown,
    /// The money did not move, and this payment will not move it.
    Failed,
    /// The money moved to us.
    Settled,
}

impl PaymentState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Verified,
        Self::Rejected,
        Self::Released,
        Self::Settling,
        Self::Unknown,
        Self::Failed,
        Self::Settled,
    ];

    /// The state's name in the database and in `pixtoll ledger`.
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
        }
    }

    /// Reads a name that [`PaymentState::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// An event that can change the state of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A request carries the payment again, and a new attempt begins.
    PresentedAgain,
    /// The facilitator accepted the payment at verify.
    VerifyAccepted,
    /// The facilitator rejected the payment at verify.
    VerifyRefused,
    /// The goods can't be delivered, or the window ends too soon. Settle was not called.
    GivenUp,
    /// The window has ended. Settle was not called.
    WindowClosed,
    /// The intent to call settle is recorded.
    SettleStarted,
    /// The facilitator proved that the money moved, and the tier needs no confirmations.
    SettleProven,
    /// The first settle call was refused by a code that proves that no money moved.
    SettleRefused,
    /// Settle returned nothing that decides.
    SettleUnclear,
    /// The chain shows the transfer to us.
    ChainPaid,
    /// The chain proves that this authorization can't pay us any more.
    ChainVoid,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 11] = [
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
    ];
}

/// A permitted change of state. Only [`transition`] creates one.
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

    /// The new state of the row.
    pub const fn to(self) -> PaymentState {
        self.to
    }
}

/// The change that `event` makes to a payment in `state`; `None` when there is none.
pub const fn transition(state: PaymentState, event: Event) -> Option<Move> {
    use Event as E;
    use PaymentState as S;
    let to = match (state, event) {
        // Nothing is bound before verify succeeds, so a new attempt starts from the beginning.
        (S::Received | S::Rejected | S::Released, E::PresentedAgain) => S::Received,
        (S::Received, E::VerifyAccepted) => S::Verified,
        (S::Received, E::VerifyRefused | E::WindowClosed) => S::Rejected,
        (S::Received | S::Verified, E::GivenUp) | (S::Verified, E::WindowClosed) => S::Released,
        (S::Verified, E::SettleStarted) => S::Settling,
        // A success of settle counts as proof even if it arrives after the wait has ended.
        (S::Settling | S::Unknown, E::SettleProven) => S::Settled,
        // A refusal decides only if the first settle call is the only one.
        (S::Settling, E::SettleRefused) => S::Failed,
        (S::Settling, E::SettleUnclear) => S::Unknown,
        (S::Settling | S::Unknown, E::ChainVoid) => S::Failed,
        // Proof from the chain settles a payment in any state, once.
        (
            S::Received
            | S::Verified
            | S::Rejected
            | S::Released
            | S::Settling
            | S::Unknown
            | S::Failed,
            E::ChainPaid,
        ) => S::Settled,
        _ => return None,
    };
    Some(Move { from: state, to })
}

/// The kind of product that a payment buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProductKind {
    /// An upload token.
    Token,
    /// The upload of the image that the same request carries.
    Upload,
    /// The renewal of a public image.
    Renewal,
    /// An upload link: a URL that takes uploads for some days.
    Link,
}

impl ProductKind {
    /// The kind's name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Upload => "upload",
            Self::Renewal => "renewal",
            Self::Link => "link",
        }
    }

    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Token, Self::Upload, Self::Renewal, Self::Link];

    /// Reads a name that [`ProductKind::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A product that a payment buys. Two routes may sell the same product.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Product {
    /// The kind of product.
    pub kind: ProductKind,
    /// The tier's name.
    pub tier: String,
    /// The number of uploads; 1 for a renewal.
    pub uses: u32,
    /// The image to renew; `None` for other products.
    pub target: Option<ImageId>,
    /// For how many days an upload link is valid; `None` for other products.
    pub days: Option<u32>,
}

impl Product {
    /// How long an upload link is valid; `None` for other products.
    pub fn link_life(&self) -> Option<Duration> {
        self.days.map(life_of_link)
    }
}

/// How long an upload link for so many days is valid.
pub const fn life_of_link(days: u32) -> Duration {
    const DAY: u64 = 24 * 60 * 60;
    Duration::from_secs(days as u64 * DAY)
}

/// A renewal that was paid, as the ledger stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The image's id.
    pub image_id: ImageId,
    /// When the image would have expired.
    pub from: Timestamp,
    /// When the image expires by this renewal; `None`: never.
    pub to: Option<Timestamp>,
    /// The image's tier before the renewal.
    pub from_tier: String,
    /// The image's tier since the renewal.
    pub to_tier: String,
    /// When the payment settled.
    pub renewed_at: Timestamp,
}

/// The terms of a purchase. They are fixed when the offer is accepted, and later changes of the
/// configuration don't affect them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The offer that the payment accepted.
    pub offer: Offer,
    /// How long the image is kept.
    pub keep: Keep,
    /// The largest image, in bytes.
    pub max_bytes: u64,
    /// How many confirmations the transfer needs before the goods are granted.
    pub confirmations: u32,
}

/// The ledger id of a payment: SHA-256 of network, asset, payer and nonce, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PaymentId(String);

impl PaymentId {
    /// The ledger id of the authorization with `nonce` by `payer`, for `network`'s token.
    pub fn of(network: &Network, payer: Address, nonce: B256) -> Self {
        let identity = format!("{}/{}/{payer}/{nonce}", network.caip2, network.usdc);
        Self(crate::keys::secrets::sha256_hex(identity.as_bytes()))
    }

    /// Reads a ledger id. `None`: the text is not 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        valid.then(|| Self(text.to_owned()))
    }

    /// The id's 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PaymentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A payment, as the ledger stores it.
#[derive(Debug, Clone)]
pub struct Payment {
    /// The ledger id.
    pub id: PaymentId,
    /// The authorization that the payer signed.
    pub authorization: Authorization,
    /// The EIP-712 digest of the authorization. Two requests carry the same payment if it is equal.
    pub digest: B256,
    /// The signature, in canonical form.
    pub signature: Bytes,
    /// The state.
    pub state: PaymentState,
    /// The number of the current driver. Each driver takes the next number and changes the row only
    /// under its own.
    pub attempt: i64,
    /// Until when the driver holds its lease.
    pub lease_until: Timestamp,
    /// What the payment buys.
    pub product: Product,
    /// The terms of the purchase.
    pub terms: Terms,
    /// The protocol version of the client.
    pub version: Version,
    /// The kind of client that sent the payment, for statistics.
    pub client: ClientKind,
    /// The whole body of facilitator calls.
    pub request: String,
    /// SHA-256 of the uploaded bytes that the payment is bound to; `None` before they are.
    pub body_sha256: Option<String>,
    /// The image that is published when the payment settles.
    pub image_id: Option<ImageId>,
    /// Why the payment was rejected, released or failed.
    pub reason: Option<String>,
    /// When the payment was first seen.
    pub first_seen: Timestamp,
    /// The block at which the search for its logs begins.
    pub first_block: u64,
    /// The transaction that moved the money, or the one that a facilitator named.
    pub transaction: Option<B256>,
    /// When it became known that the money moved.
    pub settled_at: Option<Timestamp>,
    /// Why the auditor marked a settled payment: the chain does not show its transfer. `None`: it
    /// is not marked.
    pub missing: Option<String>,
    /// When the operator voided a settled payment whose transfer is missing (`pixtoll ledger
    /// void`). From then on it buys nothing.
    pub voided_at: Option<Timestamp>,
    /// When the reconciler or the auditor looks next; `None`: never again.
    pub next_look: Option<Timestamp>,
    /// How often the reconciler or the auditor looked.
    pub looks: u32,
}

impl Payment {
    /// The network of the payment.
    pub fn network(&self) -> &'static Network {
        self.terms.offer.network
    }

    /// Whether only the transfer is known, and not what was signed: recovery found it on the chain.
    pub fn is_recovered(&self) -> bool {
        self.digest == UNKNOWN_DIGEST
    }

    /// Whether a settled payment moved money to us, as far as the chain shows; `None`: the chain
    /// doesn't show the transfer, and may still do so.
    ///
    /// A payment that is marked as missing counts as charged until the operator voids it: its goods
    /// are delivered. The auditor stops looking at a voided payment once the chain has decided.
    pub fn is_charged(&self) -> Option<bool> {
        match (self.voided_at, &self.missing, self.next_look) {
            (None, _, _) | (_, None, _) => Some(true),
            (Some(_), Some(_), None) => Some(false),
            (Some(_), Some(_), Some(_)) => None,
        }
    }

    /// Whether no driver holds a lease at `now`.
    pub fn is_unleased(&self, now: Timestamp) -> bool {
        self.lease_until <= now
    }

    /// The time from which the token rejects the authorization.
    pub fn valid_before(&self) -> Timestamp {
        unix_seconds(self.authorization.valid_before)
    }
}

/// Converts Unix seconds to a time. Times that are too late become the latest possible one.
pub fn unix_seconds(seconds: alloy_primitives::U256) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// The transfer that settled a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// The hash of its transaction.
    pub transaction: B256,
    /// The index of its log in the block; `None` if only a facilitator named the transaction.
    pub log_index: Option<u64>,
}

/// A grant: what a settled payment bought, as the ledger stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The payment's ledger id.
    pub payment_id: PaymentId,
    /// What was bought.
    pub product: Product,
    /// How many uploads were published.
    pub used: u32,
    /// The serial number of the payment's valid token.
    pub serial: u32,
    /// The hash of the token, see [`UploadToken::hash`](crate::model::token::UploadToken::hash).
    pub token_hash: String,
    /// When the token expires. The token of an upload link is the secret in its URL.
    pub token_expires: Timestamp,
    /// When the payment settled.
    pub created_at: Timestamp,
    /// When the owner revoked the upload link; `None`: it is not revoked.
    pub revoked_at: Option<Timestamp>,
    /// How long an image is kept.
    pub keep: Keep,
    /// The largest image, in bytes.
    pub max_bytes: u64,
    /// Whether the operator voided the payment, so that the grant buys nothing any more.
    pub is_void: bool,
}

/// The hash by which the ledger recognizes a transfer after its payment's records were erased:
/// SHA-256 of transaction, payer, recipient and amount, each as the database spells it, in
/// hexadecimal.
pub fn transfer_hash(transaction: &str, payer: &str, pay_to: &str, amount: &str) -> String {
    crate::keys::secrets::sha256_hex(format!("{transaction}/{payer}/{pay_to}/{amount}").as_bytes())
}

/// Stands for the digest of an authorization that is not known. No authorization has this digest.
pub const UNKNOWN_DIGEST: B256 = B256::ZERO;

/// How long a driver may be silent before another one takes over.
pub const LEASE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
