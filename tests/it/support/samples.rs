//! Payments for tests and benchmarks of the ledger.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use pixtoll::evm::exact::Authorization;
use pixtoll::model::client_kind::ClientKind;
use pixtoll::model::payment::{
    LEASE, Payment, PaymentId, PaymentState, Product, ProductKind, Terms,
};
use pixtoll::pricing::money::AtomicAmount;
use pixtoll::pricing::networks::BASE_SEPOLIA;
use pixtoll::pricing::tiers::Keep;
use pixtoll::system::clock::Timestamp;
use pixtoll::x402::wire::{Offer, Version};

pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

pub(crate) fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// A product of the tier `year`.
pub(crate) fn product(kind: ProductKind) -> Product {
    Product {
        kind,
        tier: "year".to_owned(),
        uses: 1,
        target: None,
        days: None,
    }
}

/// The terms of a payment of 0.01 USDC.
pub(crate) fn terms() -> Terms {
    Terms {
        offer: Offer {
            network: &BASE_SEPOLIA,
            amount: AtomicAmount::from_units(10_000),
            pay_to: Address::repeat_byte(0xee),
            max_timeout_seconds: 300,
        },
        keep: Keep::For(Duration::from_hours(365 * 24)),
        max_bytes: 5 << 20,
        confirmations: 0,
    }
}

/// A payment as `Payments::draft` makes it: in state `received`, leased to the first attempt.
pub(crate) fn payment(number: u8) -> Payment {
    let terms = terms();
    let authorization = Authorization {
        from: Address::repeat_byte(1),
        to: terms.offer.pay_to,
        value: terms.offer.amount.as_u256(),
        valid_after: U256::ZERO,
        valid_before: U256::from(u64::try_from(at(300).seconds()).unwrap()),
        nonce: B256::repeat_byte(number),
    };
    Payment {
        id: PaymentId::of(&BASE_SEPOLIA, authorization.from, authorization.nonce),
        digest: authorization.digest(&BASE_SEPOLIA),
        signature: Bytes::from(vec![number; 65]),
        state: PaymentState::Received,
        attempt: 1,
        lease_until: NOW.plus(LEASE),
        product: product(ProductKind::Token),
        version: Version::V2,
        client: ClientKind::Other,
        request: "{}".to_owned(),
        body_sha256: None,
        image_id: None,
        reason: None,
        first_seen: NOW,
        first_block: 7,
        transaction: None,
        settled_at: None,
        next_look: Some(at(360)),
        looks: 0,
        missing: None,
        voided_at: None,
        terms,
        authorization,
    }
}
