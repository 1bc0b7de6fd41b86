//! Decides what to do about a request for a payment that the ledger knows, as a pure function of
//! the table in docs/payments.md, Requests with a known payment.

use alloy_primitives::{B256, Bytes};

use crate::model::payment::{Payment, PaymentState, Product};
use crate::system::clock::Timestamp;

/// The parts of a request that decide how it is answered.
#[derive(Debug, Clone)]
pub(super) struct Presented<'a> {
    pub(super) digest: B256,
    pub(super) signature: &'a Bytes,
    pub(super) product: &'a Product,
    /// SHA-256 of the request's body; `None` without a body.
    pub(super) body_sha256: Option<&'a str>,
    /// Whether the request proved to come from the payer, or has driven the payment itself.
    pub(super) proven: bool,
    /// Whether this request has already driven the payment.
    pub(super) driven: bool,
    pub(super) now: Timestamp,
}

/// What to do about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Check the payment again and run it as the next attempt.
    Attempt,
    /// Settle it: it is verified and has no driver.
    Continue,
    /// Ask the chain, and maybe call settle again: the outcome is unknown.
    Drive,
    /// Wait: another driver works on it.
    Wait,
    /// Return the goods: the payment is settled, and the request proved to come from the payer.
    Deliver,
    /// Respond with 402 `payment_invalid` and the recorded reason, after asking the chain if it may
    /// still show a transfer.
    Rejected,
    /// Respond with 402 `payment_failed` and the recorded reason, after asking the chain if it may
    /// still show a transfer.
    Failed,
    /// Respond with 409 `payment_resolved`: the operator voided the payment.
    Voided {
        /// Whether the payment moved money to us; `None`: unknown.
        charged: Option<bool>,
    },
    /// Respond with 409 `payment_known`.
    Known {
        /// Whether the payment moved money to us; `None`: unknown.
        charged: Option<bool>,
    },
    /// Respond with 409 `idempotency_conflict`.
    Conflict {
        /// Whether the payment moved money to us; `None`: unknown.
        charged: Option<bool>,
    },
    /// Respond with 503 `settlement_pending`.
    Pending,
}

/// Looks the request up in the table of states.
pub(super) fn decide(row: &Payment, presented: &Presented<'_>) -> Decision {
    use PaymentState as S;
    let unleased = row.is_unleased(presented.now);
    if presented.digest != row.digest {
        return other_digest(row, presented.now);
    }
    let same_product = *presented.product == row.product;
    match row.state {
        S::Received if unleased => Decision::Attempt,
        S::Received => Decision::Wait,
        S::Rejected if same_product && *presented.signature == row.signature => Decision::Rejected,
        S::Rejected | S::Released if unleased => Decision::Attempt,
        // The reconciler is asking the chain about the payment.
        S::Rejected | S::Released => Decision::Wait,
        S::Failed => failed(row, presented),
        S::Verified | S::Settling | S::Unknown if !same_product => {
            Decision::Known { charged: None }
        }
        S::Settled if !same_product => Decision::Known {
            charged: row.is_charged(),
        },
        S::Verified if unleased => Decision::Continue,
        S::Verified => Decision::Wait,
        S::Settling | S::Unknown if !presented.proven => Decision::Known { charged: None },
        S::Settled if !presented.proven => Decision::Known {
            charged: row.is_charged(),
        },
        S::Settled if row.voided_at.is_some() => Decision::Voided {
            charged: row.is_charged(),
        },
        S::Settling | S::Unknown if other_body(row, presented) => {
            Decision::Conflict { charged: None }
        }
        S::Settled if other_body(row, presented) => Decision::Conflict {
            charged: Some(true),
        },
        S::Settling if unleased => Decision::Drive,
        S::Settling => Decision::Wait,
        S::Unknown if unleased && !presented.driven => Decision::Drive,
        S::Unknown => Decision::Pending,
        S::Settled => Decision::Deliver,
    }
}

/// The request has another authorization with the same nonce. At most one of the two can ever move
/// money.
fn other_digest(row: &Payment, now: Timestamp) -> Decision {
    use PaymentState as S;
    match row.state {
        S::Rejected | S::Released if row.is_unleased(now) => Decision::Attempt,
        S::Rejected | S::Released => Decision::Wait,
        // The ledger does not know which authorization was signed, only that the nonce paid us.
        S::Settled if row.is_recovered() => Decision::Known {
            charged: Some(true),
        },
        // The nonce may have been used by this authorization instead.
        S::Settled if row.missing.is_some() => Decision::Known { charged: None },
        S::Settled => Decision::Known {
            charged: Some(false),
        },
        S::Failed if now >= row.valid_before() => Decision::Failed,
        _ => Decision::Known { charged: None },
    }
}

/// A request for a failed payment. Without proof, it learns of the failure only after the window has
/// ended.
fn failed(row: &Payment, presented: &Presented<'_>) -> Decision {
    if presented.proven || presented.now >= row.valid_before() {
        Decision::Failed
    } else {
        Decision::Known { charged: None }
    }
}

/// Whether the request uploads other bytes than the payment did. A repeated request without a body
/// asks for the answer.
fn other_body(row: &Payment, presented: &Presented<'_>) -> bool {
    match (row.body_sha256.as_deref(), presented.body_sha256) {
        (Some(bound), Some(body)) => bound != body,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alloy_primitives::{Address, U256};

    use super::*;
    use crate::evm::exact::Authorization;
    use crate::model::client_kind::ClientKind;
    use crate::model::payment::{PaymentId, ProductKind, Terms};
    use crate::pricing::money::AtomicAmount;
    use crate::pricing::networks::BASE_SEPOLIA;
    use crate::pricing::tiers::Keep;
    use crate::x402::wire::{Offer, Version};

    const NOW: Timestamp = Timestamp::from_seconds(1000);
    const VALID_BEFORE: i64 = 2000;

    fn product(tier: &str) -> Product {
        Product {
            kind: ProductKind::Token,
            tier: tier.to_owned(),
            uses: 1,
            target: None,
            days: None,
        }
    }

    fn row(state: PaymentState, leased: bool) -> Payment {
        let amount = AtomicAmount::from_units(10_000);
        let offer = Offer {
            network: &BASE_SEPOLIA,
            amount,
            pay_to: Address::repeat_byte(2),
            max_timeout_seconds: 300,
        };
        let authorization = Authorization {
            from: Address::repeat_byte(1),
            to: offer.pay_to,
            value: amount.as_u256(),
            valid_after: U256::ZERO,
            valid_before: U256::from(2000),
            nonce: B256::repeat_byte(3),
        };
        Payment {
            id: PaymentId::of(&BASE_SEPOLIA, authorization.from, authorization.nonce),
            digest: B256::repeat_byte(4),
            signature: Bytes::from_static(b"signature"),
            authorization,
            state,
            attempt: 1,
            lease_until: if leased {
                NOW.plus(Duration::from_secs(5))
            } else {
                NOW
            },
            product: product("year"),
            terms: Terms {
                offer,
                keep: Keep::Forever,
                max_bytes: 1,
                confirmations: 0,
            },
            version: Version::V2,
            client: ClientKind::Other,
            request: String::new(),
            body_sha256: Some("bound".to_owned()),
            image_id: None,
            reason: None,
            first_seen: NOW,
            first_block: 0,
            transaction: None,
            settled_at: None,
            next_look: None,
            looks: 0,
            missing: None,
            voided_at: None,
        }
    }

    /// The decision about the same payment at the same route.
    fn meets(
        state: PaymentState,
        leased: bool,
        change: impl FnOnce(&mut Presented<'_>),
    ) -> Decision {
        let (row, product) = (row(state, leased), product("year"));
        let mut presented = Presented {
            digest: row.digest,
            signature: &row.signature,
            product: &product,
            body_sha256: Some("bound"),
            proven: true,
            driven: false,
            now: NOW,
        };
        change(&mut presented);
        decide(&row, &presented)
    }

    #[test]
    fn the_table_of_the_states_holds_with_proof_and_without() {
        use Decision as T;
        use PaymentState as S;
        let (null, yes) = (
            T::Known { charged: None },
            T::Known {
                charged: Some(true),
            },
        );
        // State, whether leased; then the decision with proof and without.
        let table = [
            (S::Received, true, T::Wait, T::Wait),
            (S::Received, false, T::Attempt, T::Attempt),
            (S::Verified, true, T::Wait, T::Wait),
            (S::Verified, false, T::Continue, T::Continue),
            (S::Rejected, false, T::Rejected, T::Rejected),
            (S::Rejected, true, T::Rejected, T::Rejected),
            (S::Released, false, T::Attempt, T::Attempt),
            (S::Released, true, T::Wait, T::Wait),
            (S::Settling, true, T::Wait, null),
            (S::Settling, false, T::Drive, null),
            (S::Unknown, true, T::Pending, null),
            (S::Unknown, false, T::Drive, null),
            (S::Failed, false, T::Failed, null),
            (S::Settled, false, T::Deliver, yes),
        ];
        for (state, leased, with, without) in table {
            assert_eq!(meets(state, leased, |_| {}), with, "{state:?} with proof");
            let got = meets(state, leased, |presented| presented.proven = false);
            assert_eq!(got, without, "{state:?} without");
        }
    }

    #[test]
    fn an_open_or_settled_payment_at_another_route_is_never_a_402() {
        use PaymentState as S;
        let other = product("permanent");
        for (state, charged) in [
            (S::Verified, None),
            (S::Settling, None),
            (S::Unknown, None),
            (S::Settled, Some(true)),
        ] {
            let row = row(state, false);
            let presented = Presented {
                digest: row.digest,
                signature: &row.signature,
                product: &other,
                body_sha256: None,
                proven: true,
                driven: false,
                now: NOW,
            };
            assert_eq!(
                decide(&row, &presented),
                Decision::Known { charged },
                "{state:?}"
            );
        }
    }

    #[test]
    fn another_digest_is_no_new_payment_while_the_first_may_move_money() {
        use PaymentState as S;
        let other = |presented: &mut Presented<'_>| presented.digest = B256::repeat_byte(9);
        for state in [S::Received, S::Verified, S::Settling, S::Unknown, S::Failed] {
            assert_eq!(
                meets(state, false, other),
                Decision::Known { charged: None },
                "{state:?}"
            );
        }
        assert_eq!(
            meets(S::Settled, false, other),
            Decision::Known {
                charged: Some(false)
            }
        );
        assert_eq!(meets(S::Rejected, false, other), Decision::Attempt);
        assert_eq!(meets(S::Released, false, other), Decision::Attempt);
        // While the reconciler asks the chain, no attempt can begin.
        assert_eq!(meets(S::Rejected, true, other), Decision::Wait);
        assert_eq!(meets(S::Released, true, other), Decision::Wait);
    }

    #[test]
    fn a_request_without_proof_learns_of_a_failure_after_the_window() {
        let late = |presented: &mut Presented<'_>| {
            presented.proven = false;
            presented.now = Timestamp::from_seconds(VALID_BEFORE);
        };
        assert_eq!(meets(PaymentState::Failed, false, late), Decision::Failed);
    }

    #[test]
    fn other_bytes_conflict_and_no_bytes_return_the_answer() {
        use PaymentState as S;
        let with = |body: Option<&'static str>| {
            move |presented: &mut Presented<'_>| presented.body_sha256 = body
        };
        assert_eq!(
            meets(S::Settled, false, with(Some("other"))),
            Decision::Conflict {
                charged: Some(true)
            }
        );
        assert_eq!(
            meets(S::Unknown, false, with(Some("other"))),
            Decision::Conflict { charged: None }
        );
        assert_eq!(meets(S::Settled, false, with(None)), Decision::Deliver);
        assert_eq!(
            meets(S::Verified, false, with(Some("other"))),
            Decision::Continue
        );
    }

    #[test]
    fn one_request_drives_an_unknown_payment_once() {
        let driven = |presented: &mut Presented<'_>| presented.driven = true;
        assert_eq!(
            meets(PaymentState::Unknown, false, driven),
            Decision::Pending
        );
    }
}
