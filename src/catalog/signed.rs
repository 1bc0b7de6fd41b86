//! Signed offers. Challenges are free for clients, so they must be cheap for the server: each offer
//! is signed once a period, and the memory for them is bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::MAX_TIMEOUT_SECONDS;
use crate::keys::signing::SigningKeys;
use crate::system::clock::Clock;
use crate::x402::offer_receipt::{OfferPayload, signed_offer};
use crate::x402::wire::Offer;

/// The length of a period, in seconds. Offers of one period expire together, so that each is signed
/// once. None promises a longer time than the server accepts it for.
const PERIOD_SECONDS: u64 = 60;
/// The most signed offers that are remembered: more than the products of ten tiers, in under 2 MB.
const MOST: usize = 1024;

/// Signs offers in the server's name.
#[derive(Debug)]
pub struct SignedOffers {
    keys: Arc<SigningKeys>,
    clock: Arc<dyn Clock>,
    made: Mutex<Made>,
}

/// The signed offers of one period, by resource and amount.
#[derive(Debug, Default)]
struct Made {
    valid_until: u64,
    offers: HashMap<String, Vec<Value>>,
}

impl SignedOffers {
    /// Creates offers that `keys` sign.
    pub fn new(keys: Arc<SigningKeys>, clock: Arc<dyn Clock>) -> Self {
        Self {
            keys,
            clock,
            made: Mutex::default(),
        }
    }

    /// Signs `offers` for a resource, each with its index among them.
    pub fn of(&self, resource_url: &str, offers: &[Offer]) -> Vec<Value> {
        let Some(amount) = offers.first().map(|offer| offer.amount) else {
            return Vec::new();
        };
        let now = u64::try_from(self.clock.now().seconds()).unwrap_or(0);
        let valid_until = now - now % PERIOD_SECONDS + MAX_TIMEOUT_SECONDS;
        let name = format!("{amount} {resource_url}");
        if let Some(known) = self.find(&name, valid_until) {
            return known;
        }
        // Signing happens outside the lock. Two requests may sign the same offer, with the same
        // result.
        let signed: Vec<Value> = offers
            .iter()
            .enumerate()
            .map(|(index, offer)| {
                let payload = OfferPayload::new(offer, resource_url, valid_until);
                let signature = self.keys.sign_digest(&payload.digest());
                signed_offer(&payload, &signature, index)
            })
            .collect();
        self.keep(name, valid_until, &signed);
        signed
    }

    fn find(&self, name: &str, valid_until: u64) -> Option<Vec<Value>> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.offers.get(name)?;
        (made.valid_until == valid_until).then(|| known.clone())
    }

    fn keep(&self, name: String, valid_until: u64, signed: &[Value]) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.valid_until != valid_until || made.offers.len() >= MOST {
            made.offers.clear();
            made.valid_until = valid_until;
        }
        made.offers.insert(name, signed.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alloy_primitives::Address;

    use super::*;
    use crate::evm::exact::recover;
    use crate::keys::secrets::SecretKey;
    use crate::pricing::money::AtomicAmount;
    use crate::pricing::networks::{BASE, BASE_SEPOLIA, Network};
    use crate::system::clock::{ManualClock, Timestamp};

    fn offers() -> (SignedOffers, ManualClock) {
        let clock = ManualClock::at(Timestamp::from_seconds(1_800_000_059));
        let keys = SigningKeys::derive(&SecretKey::from_bytes([7; 32])).unwrap();
        let signed = SignedOffers::new(Arc::new(keys), Arc::new(clock.clone()));
        (signed, clock)
    }

    fn offer(network: &'static Network, units: u128) -> Offer {
        Offer {
            network,
            amount: AtomicAmount::from_units(units),
            pay_to: Address::repeat_byte(0x22),
            max_timeout_seconds: MAX_TIMEOUT_SECONDS,
        }
    }

    #[test]
    fn an_offer_is_signed_by_the_published_key_and_has_its_index() {
        let (signed, _) = offers();
        let made = signed.of("https://x/1", &[offer(&BASE, 5), offer(&BASE_SEPOLIA, 5)]);
        assert_eq!(made.len(), 2);
        let address = signed.keys.public()[1].address();
        for (index, entry) in made.iter().enumerate() {
            assert_eq!(entry["acceptIndex"], index);
            assert_eq!(entry["payload"]["validUntil"], 1_800_000_300_u64);
            let payload: OfferPayload = serde_json::from_value(entry["payload"].clone()).unwrap();
            let signature = entry["signature"].as_str().unwrap().parse().unwrap();
            assert_eq!(recover(&payload.digest(), &signature), address);
        }
    }

    #[test]
    fn an_offer_expires_before_it_stops_being_accepted() {
        let (signed, clock) = offers();
        let until = |made: Vec<Value>| made[0]["payload"]["validUntil"].as_u64().unwrap();
        let first = until(signed.of("https://x/1", &[offer(&BASE, 5)]));
        assert_eq!(first, 1_800_000_300);
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            until(signed.of("https://x/1", &[offer(&BASE, 5)])),
            first + 60
        );
        assert_eq!(signed.made.lock().unwrap().offers.len(), 1);
    }

    #[test]
    fn remembered_offers_are_bounded_and_keyed_by_resource_and_amount() {
        let (signed, _) = offers();
        for number in 0..u128::try_from(MOST).unwrap() + 10 {
            let made = signed.of("https://x/1", &[offer(&BASE, number)]);
            assert_eq!(made[0]["payload"]["amount"], number.to_string());
            assert!(signed.made.lock().unwrap().offers.len() <= MOST);
        }
        let other = signed.of("https://x/2", &[offer(&BASE, 5)]);
        assert_eq!(other[0]["payload"]["resourceUrl"], "https://x/2");
        assert!(signed.of("https://x/1", &[]).is_empty());
    }
}
