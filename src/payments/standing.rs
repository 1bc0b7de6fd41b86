//! What a presentation of a known payment meets: the table of payments.md ("States"), as a pure
//! function.

use alloy_primitives::{B256, Bytes};

use crate::clock::Timestamp;
use crate::model::payment::{Payment, PaymentState, Product};

/// A presentation, as far as it decides.
#[derive(Debug, Clone)]
pub(super) struct Presented<'a> {
    pub(super) digest: B256,
    pub(super) signature: &'a Bytes,
    pub(super) product: &'a Product,
    /// SHA-256 of the body, where one came.
    pub(super) body_sha256: Option<&'a str>,
    /// It proved to come from the payer, or this very request drove the payment.
    pub(super) proven: bool,
    /// This request has already done what it could to move the row.
    pub(super) driven: bool,
    pub(super) now: Timestamp,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Check it afresh and run it under the next attempt.
    Attempt,
    /// Verified, and nobody drives it: go on to settle.
    Continue,
    /// Its outcome is unknown: ask the chain, then maybe settle again.
    Drive,
    /// Someone else drives it.
    Wait,
    /// It is settled, and its payer asks.
    Deliver,
    /// 402 `payment_invalid`, with the stored reason. The chain is asked first while it may speak.
    Rejected,
    /// 402 `payment_failed`, with the stored reason. The chain is asked first while it may speak.
    Failed,
    /// 409 `payment_known`.
    Known {
        /// Whether it moved money to us.
        charged: Option<bool>,
    },
    /// 409 `idempotency_conflict`.
    Conflict {
        /// Whether it moved money to us.
        charged: Option<bool>,
    },
    /// 503 `settlement_pending`.
    Pending,
}

/// Looks up the table.
pub(super) fn standing(row: &Payment, presented: &Presented<'_>) -> Standing {
    use PaymentState as S;
    let unleased = row.is_unleased(presented.now);
    if presented.digest != row.digest {
        return other_digest(row, presented.now);
    }
    let same_product = *presented.product == row.product;
    match row.state {
        S::Received if unleased => Standing::Attempt,
        S::Received => Standing::Wait,
        S::Rejected if same_product && *presented.signature == row.signature => Standing::Rejected,
        S::Rejected | S::Released => Standing::Attempt,
        S::Failed => failed(row, presented),
        S::Verified | S::Settling | S::Unknown if !same_product => {
            Standing::Known { charged: None }
        }
        S::Settled if !same_product => Standing::Known {
            charged: Some(true),
        },
        S::Verified if unleased => Standing::Continue,
        S::Verified => Standing::Wait,
        S::Settling | S::Unknown | S::Frozen if !presented.proven => {
            Standing::Known { charged: None }
        }
        S::Settled if !presented.proven => Standing::Known {
            charged: Some(true),
        },
        S::Reversed if !presented.proven => Standing::Known {
            charged: Some(false),
        },
        S::Settling | S::Unknown if other_body(row, presented) => {
            Standing::Conflict { charged: None }
        }
        S::Settled if other_body(row, presented) => Standing::Conflict {
            charged: Some(true),
        },
        S::Settling if unleased => Standing::Drive,
        S::Settling => Standing::Wait,
        S::Unknown if unleased && !presented.driven => Standing::Drive,
        S::Unknown | S::Frozen => Standing::Pending,
        S::Settled => Standing::Deliver,
        S::Reversed => Standing::Failed,
    }
}

/// Another authorization with the nonce of a known one: at most one of the two can ever move money.
fn other_digest(row: &Payment, now: Timestamp) -> Standing {
    use PaymentState as S;
    match row.state {
        S::Rejected | S::Released if row.is_unleased(now) => Standing::Attempt,
        S::Settled | S::Reversed => Standing::Known {
            charged: Some(false),
        },
        S::Failed if now >= row.valid_before() => Standing::Failed,
        _ => Standing::Known { charged: None },
    }
}

fn failed(row: &Payment, presented: &Presented<'_>) -> Standing {
    if presented.proven || presented.now >= row.valid_before() {
        Standing::Failed
    } else {
        Standing::Known { charged: None }
    }
}

/// A repeated upload without a body asks for its answer; one with other bytes asks for another thing.
fn other_body(row: &Payment, presented: &Presented<'_>) -> bool {
    match (row.body_sha256.as_deref(), presented.body_sha256) {
        (Some(bound), Some(body)) => bound != body,
        _ => false,
    }
}
