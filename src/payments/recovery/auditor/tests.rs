use alloy_primitives::{Address, B256, Bytes, U256};

use super::*;
use crate::evm::chain::{CANCELED, Named, NextTransfer, NonceLog, SPENT_ELSEWHERE};
use crate::evm::exact::Authorization;
use crate::model::client_kind::ClientKind;
use crate::model::payment::PaymentState;
use crate::model::payment::{PaymentId, Product, ProductKind, Terms};
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks::BASE_SEPOLIA;
use crate::pricing::tiers::Keep;
use crate::system::clock::Timestamp;
use crate::x402::wire::{Offer, Version};

const SETTLED_AT: Timestamp = Timestamp::from_seconds(1000);
const NOW: Timestamp = Timestamp::from_seconds(5000);
/// The time of the newest block of [`evidence`], which serves as the present.
const HEAD_TIME: Timestamp = Timestamp::from_seconds(4990);

/// Whether a payment is marked, and whether the operator voided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Clear,
    Missing,
    Void,
}

fn audited(mark: Mark, missing: Option<Missing>) -> Audited {
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
        valid_before: U256::from(1300),
        nonce: B256::repeat_byte(3),
    };
    let payment = Payment {
        id: PaymentId::of(&BASE_SEPOLIA, authorization.from, authorization.nonce),
        digest: B256::repeat_byte(4),
        signature: Bytes::from_static(b"signature"),
        authorization,
        state: PaymentState::Settled,
        attempt: 1,
        lease_until: NOW,
        product: Product {
            kind: ProductKind::Token,
            tier: "year".to_owned(),
            uses: 1,
            target: None,
            days: None,
        },
        terms: Terms {
            offer,
            keep: Keep::Forever,
            max_bytes: 1,
            confirmations: 0,
        },
        version: Version::V2,
        client: ClientKind::Other,
        request: String::new(),
        body_sha256: None,
        image_id: None,
        reason: None,
        first_seen: SETTLED_AT,
        first_block: 0,
        transaction: Some(B256::repeat_byte(9)),
        settled_at: Some(SETTLED_AT),
        next_look: Some(NOW),
        looks: 0,
        missing: (mark != Mark::Clear).then(|| GONE.to_owned()),
        voided_at: (mark == Mark::Void).then_some(NOW),
    };
    Audited {
        payment,
        seen_block: Some(50),
        missing,
    }
}

fn block(number: u64, seconds: i64) -> Block {
    Block {
        number,
        hash: B256::repeat_byte(8),
        time: Timestamp::from_seconds(seconds),
    }
}

/// What a node shows when its newest block is 100, its safe block is 90, and the window is over.
fn evidence(is_used: bool, logs: Vec<NonceLog>) -> Evidence {
    Evidence {
        head: block(100, 4990),
        named: Named::Nothing,
        used: Some(is_used),
        logs,
        safe: Some(block(90, 4900)),
        used_at_safe: Some(is_used),
    }
}

fn used(to: u8, block: u64) -> NonceLog {
    NonceLog::Used {
        transaction: B256::repeat_byte(7),
        block,
        next: Some(NextTransfer {
            to: Address::repeat_byte(to),
            value: U256::from(10_000),
            log_index: 5,
        }),
    }
}

/// A used nonce without a transfer after it.
fn unfollowed() -> NonceLog {
    NonceLog::Used {
        transaction: B256::repeat_byte(7),
        block: 80,
        next: None,
    }
}

fn step(audited: &Audited, evidence: &Evidence) -> Step {
    let query = Query::about(&audited.payment);
    decide(audited, find(&query, evidence))
}

const TRANSFER: Transfer = Transfer {
    transaction: B256::repeat_byte(7),
    log_index: Some(5),
};

/// What the node shows, then the step of a settled payment and that of a voided one.
fn table() -> Vec<(&'static str, Evidence, Step, Step)> {
    let note = |block, is_final| Step::Note {
        transfer: TRANSFER,
        block,
        is_final,
    };
    let first = Missing {
        looks: 1,
        since: HEAD_TIME,
        block: 100,
    };
    let first_miss = Step::Miss(first);
    let mut in_time = evidence(false, vec![]);
    in_time.safe = Some(block(90, 1200));
    vec![
        (
            "the transfer, in a new block",
            evidence(true, vec![used(2, 91)]),
            note(91, false),
            note(91, false),
        ),
        (
            "the transfer, in a safe block",
            evidence(true, vec![used(2, 90)]),
            note(90, true),
            note(90, true),
        ),
        (
            "to another, in a new block",
            evidence(true, vec![used(3, 91)]),
            Step::Mark(first, SPENT_ELSEWHERE),
            Step::Wait,
        ),
        (
            "to another, in a safe block",
            evidence(true, vec![used(3, 90)]),
            Step::Mark(first, SPENT_ELSEWHERE),
            Step::Close,
        ),
        (
            "cancelled, in a new block",
            evidence(true, vec![NonceLog::Canceled { block: 91 }]),
            Step::Mark(first, CANCELED),
            Step::Wait,
        ),
        (
            "cancelled, in a safe block",
            evidence(true, vec![NonceLog::Canceled { block: 90 }]),
            Step::Mark(first, CANCELED),
            Step::Close,
        ),
        ("unused, and still valid", in_time, first_miss, Step::Wait),
        (
            "unused, and over",
            evidence(false, vec![]),
            first_miss,
            Step::Close,
        ),
        (
            "used, without its log",
            evidence(true, vec![]),
            Step::Wait,
            Step::Wait,
        ),
        (
            "used, without its transfer",
            evidence(true, vec![unfollowed()]),
            Step::Wait,
            Step::Wait,
        ),
    ]
}

#[test]
fn each_finding_is_recorded_as_the_table_says() {
    for (name, evidence, settled, voided) in table() {
        let got = |mark| step(&audited(mark, None), &evidence);
        assert_eq!(got(Mark::Clear), settled, "{name}");
        assert_eq!(got(Mark::Void), voided, "{name}");
        // A marked payment waits for the operator, or for its transfer.
        let marked = match settled {
            Step::Note { .. } => settled,
            _ => Step::Wait,
        };
        assert_eq!(got(Mark::Missing), marked, "{name}");
    }
}

#[test]
fn a_transfer_counts_as_gone_after_three_looks_over_ten_minutes() {
    let missing = |looks, seconds_ago: u64, block| Missing {
        looks,
        since: HEAD_TIME.minus(Duration::from_secs(seconds_ago)),
        block,
    };
    let after = |looks, seconds_ago| missing(looks, seconds_ago, 100);
    let gone = evidence(false, vec![]);
    for (before, expected) in [
        (missing(2, 600, 99), Step::Mark(after(3, 600), GONE)),
        (missing(7, 6000, 99), Step::Mark(after(8, 6000), GONE)),
        // Too few looks, too short a time, no new block.
        (missing(1, 600, 99), Step::Miss(after(2, 600))),
        (missing(2, 599, 99), Step::Miss(after(3, 599))),
        (missing(2, 600, 100), Step::Wait),
        (missing(2, 600, 101), Step::Wait),
    ] {
        let row = audited(Mark::Clear, Some(before));
        assert_eq!(step(&row, &gone), expected, "{before:?}");
    }
}

#[test]
fn a_node_that_is_behind_the_settlement_counts_no_miss() {
    let row = audited(Mark::Clear, None);
    for (number, seconds, counts) in [(50, 1001, true), (49, 1001, false), (50, 1000, false)] {
        let mut gone = evidence(false, vec![]);
        gone.head = block(number, seconds);
        gone.safe = Some(block(40, 900));
        assert_eq!(
            step(&row, &gone) != Step::Wait,
            counts,
            "{number} at {seconds}"
        );
    }
}

#[test]
fn pauses_double_up_to_ten_minutes() {
    let minutes: Vec<u64> = (0..6).map(|looks| pause(looks).as_secs() / 60).collect();
    assert_eq!(minutes, [1, 2, 4, 8, 10, 10]);
    assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
}
