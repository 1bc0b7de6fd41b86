//! The sentences that follow the protocol's code of a refused payment: which field does not fit, what was received, what was
//! expected, and what to sign instead. Nothing here decides.

use alloy_primitives::{Address, B256, U256};
use serde_json::Value;

use crate::evm::exact;
use crate::model::payment::{Payment, Terms};
use crate::pricing::money::DECIMALS;
use crate::pricing::networks::Network;
use crate::x402::header::PaymentHeader;

/// The longest value of a client's that a sentence repeats, in characters.
const LONGEST_VALUE: usize = 80;

/// An amount in atomic units and in USDC: `10000 (0.01 USDC)`.
pub(super) fn amount(units: U256) -> String {
    let scale = U256::from(10_u64.pow(u32::try_from(DECIMALS).unwrap_or(6)));
    let (whole, part) = (units / scale, units % scale);
    let digits = format!("{part:0>DECIMALS$}");
    let digits = digits.trim_end_matches('0');
    format!("{units} ({whole}.{digits:0<2} USDC)")
}

/// Why no offer of the route fits the payment: the first field that differs from the nearest offer.
pub(super) fn no_offer(header: &PaymentHeader, offered: &[Terms]) -> String {
    let Some(first) = offered.first() else {
        return "This route sells nothing now.".to_owned();
    };
    let mut networks: Vec<&str> = offered
        .iter()
        .map(|terms| terms.offer.network.caip2)
        .collect();
    networks.sort_unstable();
    networks.dedup();
    let same_network = offered
        .iter()
        .find(|terms| header.network == Some(terms.offer.network));
    let Some(nearest) = same_network else {
        let received = match header.network {
            Some(network) => network.caip2,
            None => "one that this server does not know",
        };
        return format!(
            "The payment's network is {received}; this route takes {}. Sign an offer of such a network.",
            networks.join(", ")
        );
    };
    let offer = nearest.offer.v2();
    let difference = header
        .accepted
        .as_ref()
        .and_then(|accepted| difference(&offer, accepted));
    match difference {
        Some(difference) => format!("{difference} Accept an offer of this route unchanged."),
        None => format!(
            "The payment fits no offer of this route. The price is {}.",
            amount(first.offer.amount.as_u256())
        ),
    }
}

/// Why a payment for a smaller image doesn't buy an image of this many bytes.
pub(super) fn too_little(bytes: u64, paid: &Terms, needed: &Terms) -> String {
    format!(
        "The image has {bytes} bytes, and {} pays for at most {}. The price of this image is {}. Sign exactly that.",
        amount(paid.offer.amount.as_u256()),
        paid.max_bytes,
        amount(needed.offer.amount.as_u256())
    )
}

/// The first field of `accepted` that differs from the offer.
fn difference(offer: &Value, accepted: &Value) -> Option<String> {
    let (ours, theirs) = (offer.as_object()?, accepted.as_object()?);
    for (name, expected) in ours {
        match theirs.get(name) {
            None => {
                return Some(format!(
                    "accepted.{name} is missing; the offer says {expected}."
                ));
            }
            Some(received) if same(name, received, expected) => {}
            Some(received) => {
                let usd = |value: &Value| {
                    let units = value.as_str().filter(|_| name == "amount");
                    units
                        .and_then(|units| units.parse().ok())
                        .map_or_else(|| shown(value), amount)
                };
                return Some(format!(
                    "accepted.{name} is {}; the offer says {}.",
                    usd(received),
                    usd(expected)
                ));
            }
        }
    }
    let unknown = theirs.keys().find(|name| !ours.contains_key(*name))?;
    let unknown: String = unknown.chars().take(LONGEST_VALUE).collect();
    Some(format!("accepted.{unknown} is not a field of the offer."))
}

fn same(name: &str, received: &Value, expected: &Value) -> bool {
    let address = |value: &Value| value.as_str().and_then(|text| text.parse::<Address>().ok());
    match (name, received.as_object(), expected.as_object()) {
        ("extra", Some(received), Some(expected)) => expected
            .iter()
            .all(|(name, value)| received.get(name) == Some(value)),
        ("asset" | "payTo", _, _) => address(received) == address(expected),
        _ => received == expected,
    }
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(LONGEST_VALUE).collect()
}

/// Why a signature is refused: the address that it recovers to, and the domain that had to be signed.
pub(super) fn wrong_signature(header: &PaymentHeader, digest: &B256, network: &Network) -> String {
    let payer = header.authorization.from;
    let recovered = match exact::recover(digest, &header.signature) {
        Some(address) => format!("The signature recovers to {address}, not to the payer {payer}"),
        None => format!("The signature is not one that the key of the payer {payer} can make"),
    };
    format!(
        "{recovered}, and no contract wallet at the payer accepts it. Expected is EIP-712 typed data with the domain name \"{}\", version \"{}\", \
         chainId {}, verifyingContract {}, signed by the payer.",
        network.domain_name, network.domain_version, network.chain_id, network.usdc
    )
}

/// Why a payer is refused who has too little money.
pub(super) fn no_funds(payer: Address, balance: U256, needs: U256, network: &Network) -> String {
    format!(
        "{payer} has {} on {} and the price is {}. Add USDC to this address on this network, or pay from another wallet.",
        amount(balance),
        network.name(),
        amount(needs)
    )
}

/// Why a payment is refused whose payer has too little money beside what is being settled.
pub(super) fn overdrawn(row: &Payment, balance: U256, open: U256) -> String {
    let network = row.network();
    format!(
        "{} has {} on {}, other payments of {} are being settled, and the price is {}. \
         Add USDC to this address on this network, or repeat this request when they are settled.",
        row.authorization.from,
        amount(balance),
        network.name(),
        amount(open),
        amount(row.terms.offer.amount.as_u256()),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_shown_in_atomic_units_and_usdc() {
        for (units, expected) in [
            (0, "0 (0.00 USDC)"),
            (1, "1 (0.000001 USDC)"),
            (10_000, "10000 (0.01 USDC)"),
            (1_500_000, "1500000 (1.50 USDC)"),
            (12_345_678, "12345678 (12.345678 USDC)"),
        ] {
            assert_eq!(amount(U256::from(units)), expected);
        }
    }

    #[test]
    fn the_first_field_that_differs_is_named_with_both_values() {
        let offer =
            json!({"amount": "10000", "extra": {"name": "USDC"}, "network": "eip155:84532"});
        for (accepted, expected) in [
            (
                json!({"amount": "1", "extra": {"name": "USDC"}, "network": "eip155:84532"}),
                "accepted.amount is 1 (0.000001 USDC); the offer says 10000 (0.01 USDC).",
            ),
            (
                json!({"amount": "10000", "extra": {"name": "USD Coin"}, "network": "eip155:84532"}),
                "accepted.extra is {\"name\":\"USD Coin\"}; the offer says {\"name\":\"USDC\"}.",
            ),
            (
                json!({"amount": "10000", "extra": {"name": "USDC"}}),
                "accepted.network is missing; the offer says \"eip155:84532\".",
            ),
            (
                json!({"amount": "10000", "extra": {"name": "USDC"}, "network": "eip155:84532", "tip": 1}),
                "accepted.tip is not a field of the offer.",
            ),
        ] {
            assert_eq!(difference(&offer, &accepted).as_deref(), Some(expected));
        }
        assert_eq!(difference(&offer, &offer), None);
    }
}
