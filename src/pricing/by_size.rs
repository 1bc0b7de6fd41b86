//! Prices by size: `price_per_mib` beside the flat price.
//!
//! A tier with `price_per_mib` is sold in steps of one MiB. Each step is a tier with a flat price and
//! a largest image of its own. So an offer, a ledger entry and a grant say by `max_bytes` for which
//! size they were paid, and no other rule about money knows of sizes.

use super::money::AtomicAmount;
use super::tiers::{MIB, Tier, default_confirmations};

impl Tier {
    /// Whether the price depends on the size of the image.
    pub const fn is_by_size(&self) -> bool {
        !self.price_per_mib.is_zero()
    }

    /// The price of an image of this many bytes: the flat price, and `price_per_mib` for each
    /// started MiB. `None`: it exceeds 128 bits, which [`TierFault::TooDear`] excludes.
    ///
    /// [`TierFault::TooDear`]: super::tiers::TierFault::TooDear
    pub(super) fn price_of(&self, bytes: u64) -> Option<AtomicAmount> {
        let by_size = self.price_per_mib.checked_mul(bytes.div_ceil(MIB))?;
        self.price.checked_add(by_size)
    }

    /// The step that an image of this many bytes needs: the tier with its price as a flat price,
    /// and with the largest image that this price buys. Without a size, and for an image that is
    /// too large, it is the step of the largest image. A tier with a flat price is its only step.
    /// An expensive step waits for a confirmation, as an expensive tier does.
    #[must_use]
    pub fn step(&self, bytes: Option<u64>) -> Self {
        if !self.is_by_size() {
            return self.clone();
        }
        let bytes = bytes.unwrap_or(self.max_bytes).clamp(1, self.max_bytes);
        let price = self.price_of(bytes).unwrap_or(AtomicAmount::MOST);
        Self {
            price,
            price_per_mib: AtomicAmount::ZERO,
            confirmations: self.confirmations.max(default_confirmations(price)),
            max_bytes: (bytes.div_ceil(MIB) * MIB).min(self.max_bytes),
            ..self.clone()
        }
    }

    /// Every step of the tier, cheapest first.
    pub fn steps(&self) -> impl Iterator<Item = Self> {
        let last = if self.is_by_size() {
            self.max_bytes.div_ceil(MIB)
        } else {
            1
        };
        (1..=last).map(|mib| self.step(Some(mib * MIB)))
    }

    /// The price of the cheapest image.
    pub fn least_price(&self) -> AtomicAmount {
        self.step(Some(1)).price
    }

    /// The price of the largest image. It is also the price of what is sold before the image is
    /// known: an upload by token, link or URL.
    pub fn most_price(&self) -> AtomicAmount {
        self.step(None).price
    }

    /// The price as people read it, in USDC: `free`, `0.01 USDC`, or
    /// `0.01 USDC + 0.002 USDC for each started MiB`.
    pub fn price_in_words(&self) -> String {
        if self.is_free() {
            return "free".to_owned();
        }
        let flat = self.price.to_decimal_usd();
        if self.is_by_size() {
            let each = self.price_per_mib.to_decimal_usd();
            format!("{flat} USDC + {each} USDC for each started MiB")
        } else {
            format!("{flat} USDC")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::pricing::tiers::{Keep, LARGEST_MAX_BYTES, TierFault, TierName, TierTable};

    fn tier(price: u128, price_per_mib: u128, max_bytes: u64) -> Tier {
        Tier {
            name: TierName::parse("sized").unwrap(),
            price: AtomicAmount::from_units(price),
            price_per_mib: AtomicAmount::from_units(price_per_mib),
            max_bytes,
            keep: Keep::For(Duration::from_mins(1)),
            confirmations: 0,
        }
    }

    #[test]
    fn each_started_mib_costs_the_same_beside_the_flat_price() {
        let tier = tier(10_000, 2_000, 5 * MIB / 2);
        let priced = |bytes| {
            let step = tier.step(bytes);
            (step.price.units(), step.max_bytes)
        };
        assert_eq!(priced(Some(1)), (12_000, MIB));
        assert_eq!(priced(Some(MIB)), (12_000, MIB));
        assert_eq!(priced(Some(MIB + 1)), (14_000, 2 * MIB));
        assert_eq!(priced(Some(2 * MIB + 1)), (16_000, 5 * MIB / 2));
        assert_eq!(priced(Some(99 * MIB)), (16_000, 5 * MIB / 2));
        assert_eq!(priced(None), (16_000, 5 * MIB / 2));
        assert_eq!(tier.steps().count(), 3);
        assert_eq!(
            tier.price_in_words(),
            "0.01 USDC + 0.002 USDC for each started MiB"
        );
    }

    #[test]
    fn a_flat_tier_is_its_only_step() {
        let flat = tier(10_000, 0, 5 * MIB);
        for bytes in [None, Some(1), Some(3 * MIB), Some(99 * MIB)] {
            assert_eq!(flat.step(bytes), flat);
        }
        assert_eq!(
            flat.steps().collect::<Vec<_>>(),
            std::slice::from_ref(&flat)
        );
        assert_eq!(flat.price_in_words(), "0.01 USDC");
        assert_eq!(tier(0, 0, MIB).price_in_words(), "free");
    }

    #[test]
    fn an_expensive_step_waits_for_a_confirmation() {
        let tier = tier(50_000, 25_000, 3 * MIB);
        let waits: Vec<u32> = tier.steps().map(|step| step.confirmations).collect();
        assert_eq!(waits, [0, 1, 1]);
    }

    #[test]
    fn a_tier_with_only_a_price_by_size_is_not_free() {
        let only = tier(0, 1, MIB);
        assert!(!only.is_free());
        assert_eq!(only.least_price().units(), 1);
        assert!(TierTable::new(vec![only], None).unwrap().free().is_none());
    }

    #[test]
    fn a_price_that_no_amount_can_hold_is_refused() {
        let dear = tier(1, u128::MAX / 4, 5 * MIB);
        let problems = TierTable::new(vec![dear], None).unwrap_err();
        assert_eq!(problems[0].fault, TierFault::TooDear);
    }

    proptest! {
        #[test]
        fn a_larger_image_never_costs_less_and_no_started_mib_is_given_away(
            price in 0_u128..1 << 60,
            per_mib in 1_u128..1 << 60,
            max_bytes in 1..=LARGEST_MAX_BYTES,
            sizes in prop::collection::vec(1..=LARGEST_MAX_BYTES, 2..20),
        ) {
            let tier = tier(price, per_mib, max_bytes);
            let mut sizes: Vec<u64> = sizes.into_iter().map(|size| size.min(max_bytes)).collect();
            sizes.sort_unstable();
            let steps: Vec<Tier> = sizes.iter().map(|size| tier.step(Some(*size))).collect();
            for (size, step) in sizes.iter().zip(&steps) {
                // The exact price in whole numbers: size * per_mib / MIB, never rounded below.
                let paid = (step.price.units() - price) * u128::from(MIB);
                let exact = u128::from(*size) * per_mib;
                prop_assert!(paid >= exact && paid < exact + u128::from(MIB) * per_mib);
                prop_assert!(step.max_bytes >= *size && step.max_bytes <= max_bytes);
                prop_assert_eq!(&step.step(Some(*size)), step);
            }
            prop_assert!(steps.is_sorted_by_key(|step| step.price));
            // The steps that are offered are the steps that images need, each with its own price.
            let offered: Vec<Tier> = tier.steps().collect();
            prop_assert!(steps.iter().all(|step| offered.contains(step)));
            prop_assert!(offered.is_sorted_by(|one, next| one.price < next.price && one.max_bytes < next.max_bytes));
            prop_assert_eq!(offered.last().unwrap().price, tier.most_price());
        }
    }
}
