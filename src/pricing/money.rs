//! Amounts of money, in whole atomic units of an asset with six decimals (USDC).
//!
//! There are no floats and no rounding: a price is exact from the configuration to the signature.

use std::fmt;

use alloy_primitives::U256;

/// The decimals of the asset: one USD is a million atomic units.
pub const DECIMALS: usize = 6;
const UNITS_PER_USD: u128 = 1_000_000;

/// An exact amount in atomic units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtomicAmount(u128);

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The text has characters other than digits and, in USD, one point between digits.
    #[error("not a plain number")]
    Malformed,
    /// The text has more than six decimals.
    #[error("more than {DECIMALS} decimals")]
    TooFine,
    /// The amount exceeds 128 bits.
    #[error("too large")]
    TooLarge,
}

impl AtomicAmount {
    /// The amount zero.
    pub const ZERO: Self = Self(0);
    /// The largest amount, which no wallet holds.
    pub const MOST: Self = Self(u128::MAX);

    /// The amount of this many atomic units.
    pub const fn from_units(units: u128) -> Self {
        Self(units)
    }

    /// Reads decimal USD: `0.01` is 10000 units. The text has digits, and at most one point with
    /// one to six digits after it; no sign, exponent or separators.
    pub fn from_decimal_usd(text: &str) -> Result<Self, AmountError> {
        let (whole, decimals) = match text.split_once('.') {
            Some((whole, decimals)) => (whole, Some(decimals)),
            None => (text, None),
        };
        let whole = parse_digits(whole)?;
        let fraction = match decimals {
            None => 0,
            Some(decimals) => parse_decimals(decimals)?,
        };
        whole
            .checked_mul(UNITS_PER_USD)
            .and_then(|units| units.checked_add(fraction))
            .map(Self)
            .ok_or(AmountError::TooLarge)
    }

    /// Reads atomic units as the protocol writes them: digits only. Leading zeros are accepted and
    /// dropped.
    pub fn from_atomic(text: &str) -> Result<Self, AmountError> {
        parse_digits(text).map(Self)
    }

    /// The amount in atomic units.
    pub const fn units(self) -> u128 {
        self.0
    }

    /// The amount as the token and authorizations count it.
    pub fn as_u256(self) -> U256 {
        U256::from(self.0)
    }

    /// The amount in USD with at least two decimals: `0.01`, `1.00`, `0.0125`.
    pub fn to_decimal_usd(self) -> String {
        let mut decimals = format!("{:0DECIMALS$}", self.0 % UNITS_PER_USD);
        while decimals.len() > 2 && decimals.ends_with('0') {
            decimals.pop();
        }
        format!("{}.{decimals}", self.0 / UNITS_PER_USD)
    }

    /// Whether the amount is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum of two amounts. `None`: it exceeds 128 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The share of one of `count`. `None`: the amount is no multiple of `count`.
    pub fn shared_by(self, count: u32) -> Option<Self> {
        let count = u128::from(count);
        let share = self.0.checked_div(count)?;
        (share.checked_mul(count) == Some(self.0)).then_some(Self(share))
    }

    /// The amount multiplied by `times`. `None`: the result exceeds 128 bits.
    pub fn checked_mul(self, times: u64) -> Option<Self> {
        self.0.checked_mul(u128::from(times)).map(Self)
    }
}

/// Writes atomic units as decimal digits, as the protocol does.
impl fmt::Display for AtomicAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn parse_digits(text: &str) -> Result<u128, AmountError> {
    // `u128::from_str` alone would accept a leading plus sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AmountError::Malformed);
    }
    text.parse().map_err(|_| AmountError::TooLarge)
}

fn parse_decimals(decimals: &str) -> Result<u128, AmountError> {
    if decimals.is_empty() || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AmountError::Malformed);
    }
    if decimals.len() > DECIMALS {
        return Err(AmountError::TooFine);
    }
    parse_digits(&format!("{decimals:0<DECIMALS$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimal_usd_becomes_atomic_units() {
        for (text, units) in [
            ("0.01", 10_000),
            ("1", 1_000_000),
            ("1.00", 1_000_000),
            ("0.000001", 1),
            ("0", 0),
            ("00.10", 100_000),
            ("12.5", 12_500_000),
        ] {
            assert_eq!(
                AtomicAmount::from_decimal_usd(text),
                Ok(AtomicAmount(units)),
                "{text}"
            );
        }
    }

    #[test]
    fn text_that_is_not_a_plain_decimal_is_rejected() {
        for text in [
            "", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "1_000", " 1", "1 ", "0x1", "1.2.3",
            "$1", "1.-5", "1.+5", "٣", "0.1e-9", "NaN",
        ] {
            assert_eq!(
                AtomicAmount::from_decimal_usd(text),
                Err(AmountError::Malformed),
                "{text}"
            );
        }
        assert_eq!(
            AtomicAmount::from_decimal_usd("0.0000001"),
            Err(AmountError::TooFine)
        );
        assert_eq!(
            AtomicAmount::from_decimal_usd("0.0100000"),
            Err(AmountError::TooFine)
        );
        let most = "340282366920938463463374607431768.211455";
        assert_eq!(
            AtomicAmount::from_decimal_usd(most),
            Ok(AtomicAmount(u128::MAX))
        );
        let over = "340282366920938463463374607431768.211456";
        assert_eq!(
            AtomicAmount::from_decimal_usd(over),
            Err(AmountError::TooLarge)
        );
    }

    #[test]
    fn atomic_text_is_digits_only_and_loses_leading_zeros() {
        let amount = AtomicAmount::from_atomic("0010000").unwrap();
        assert_eq!(amount.to_string(), "10000");
        for text in ["", "+1", "-1", "1.0", "0x10", "1e4", " 1"] {
            assert_eq!(
                AtomicAmount::from_atomic(text),
                Err(AmountError::Malformed),
                "{text}"
            );
        }
        let over = "340282366920938463463374607431768211456";
        assert_eq!(AtomicAmount::from_atomic(over), Err(AmountError::TooLarge));
    }

    #[test]
    fn usd_is_written_with_at_least_two_decimals() {
        for (units, text) in [
            (0, "0.00"),
            (1, "0.000001"),
            (10_000, "0.01"),
            (12_500, "0.0125"),
            (1_000_000, "1.00"),
        ] {
            assert_eq!(AtomicAmount(units).to_decimal_usd(), text);
        }
    }

    #[test]
    fn multiplying_beyond_128_bits_returns_none() {
        assert_eq!(
            AtomicAmount(10_000).checked_mul(100),
            Some(AtomicAmount(1_000_000))
        );
        assert_eq!(
            AtomicAmount(u128::MAX).checked_mul(1),
            Some(AtomicAmount(u128::MAX))
        );
        assert_eq!(AtomicAmount(u128::MAX).checked_mul(2), None);
        assert!(AtomicAmount(5).checked_mul(0).unwrap().is_zero());
    }

    proptest! {
        #[test]
        fn every_amount_survives_both_texts(units: u128) {
            let amount = AtomicAmount(units);
            prop_assert_eq!(AtomicAmount::from_atomic(&amount.to_string()), Ok(amount));
            prop_assert_eq!(AtomicAmount::from_decimal_usd(&amount.to_decimal_usd()), Ok(amount));
            prop_assert_eq!(amount.as_u256().to_string(), amount.to_string());
        }

        #[test]
        fn parsing_never_panics_and_accepts_only_digits(text in "\\PC{0,50}|[0-9.+eE-]{0,50}") {
            if AtomicAmount::from_decimal_usd(&text).is_ok() {
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
            }
            if let Ok(amount) = AtomicAmount::from_atomic(&text) {
                let kept = text.trim_start_matches('0');
                prop_assert_eq!(amount.to_string(), if kept.is_empty() { "0" } else { kept });
            }
        }

        #[test]
        fn multiplying_agrees_with_adding(units in 0u128..1 << 100, times in 0u64..200) {
            let sum: u128 = (0..times).map(|_| units).sum();
            prop_assert_eq!(AtomicAmount(units).checked_mul(times), Some(AtomicAmount(sum)));
        }
    }
}
