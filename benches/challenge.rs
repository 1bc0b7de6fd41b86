//! What a 402 costs: the first challenge of a minute is built, and the others get a new ticket.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails stops")]

use divan::Bencher;
use pixtoll::pricing::money::AtomicAmount;
use pixtoll::pricing::networks::BASE_SEPOLIA;
use pixtoll::system::random::Randomness;
use pixtoll::x402::challenge::{Challenge, ChallengeTerms, Sale, challenge};
use pixtoll::x402::wire::{Offer, Resource};

fn main() {
    divan::main();
}

/// Builds a challenge from the terms of a sale.
#[divan::bench]
fn build(bencher: Bencher<'_, '_>) {
    let randomness = Randomness::seeded(1);
    bencher.bench_local(|| made(&randomness));
}

/// Sends a known challenge again, with a ticket of its own.
#[divan::bench]
fn repeat(bencher: Bencher<'_, '_>) {
    let randomness = Randomness::seeded(1);
    let template = made(&randomness).template().unwrap();
    bencher.bench_local(|| template.fill(&randomness));
}

fn made(randomness: &Randomness) -> Challenge {
    let offer = Offer {
        network: &BASE_SEPOLIA,
        amount: AtomicAmount::from_units(10_000),
        pay_to: alloy_primitives::Address::repeat_byte(2),
        max_timeout_seconds: 300,
    };
    let terms = ChallengeTerms {
        sale: Sale::Token,
        tier: "year",
        resource: Resource {
            url: "https://img.example/api/upload/token/year".to_owned(),
            description: "Upload token".to_owned(),
            mime_type: "application/json".to_owned(),
        },
        offers: vec![offer],
        signed: Vec::new(),
        reason: "Pay to receive an upload token.",
        play_money: false,
    };
    challenge(&terms, randomness)
}
