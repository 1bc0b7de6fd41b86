//! Exact decimals: amounts with a fixed number of decimals, and rates of currencies. Nothing is
//! rounded.

use alloy_primitives::U256;

use crate::pricing::money::DECIMALS;

/// The most decimals of a rate, and the number with which rates are stored.
const RATE_DECIMALS: usize = 12;
/// The most digits of a rate before its point.
const RATE_WHOLE: usize = 12;
/// The decimals of an amount that was multiplied by a rate.
pub const FIAT_DECIMALS: usize = DECIMALS + RATE_DECIMALS;

/// The price of one USDC in another currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u128);

/// The text is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no rate: write a positive decimal number with at most 12 digits before and after the point, such as 0.9234"
)]
pub struct BadRate;

impl Rate {
    /// Reads a rate: digits, and at most one point with digits after it.
    ///
    /// # Errors
    /// [`BadRate`].
    pub fn parse(text: &str) -> Result<Self, BadRate> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |digits: &str, most: usize| {
            (1..=most).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(whole, RATE_WHOLE) || !is_number(decimals, RATE_DECIMALS) {
            return Err(BadRate);
        }
        let digits = format!("{whole}{decimals:0<RATE_DECIMALS$}");
        let units: u128 = digits.parse().map_err(|_| BadRate)?;
        if units == 0 {
            Err(BadRate)
        } else {
            Ok(Self(units))
        }
    }

    /// The value of an amount in atomic units, with [`FIAT_DECIMALS`] decimals.
    pub fn value(self, amount: U256) -> U256 {
        amount.saturating_mul(U256::from(self.0))
    }
}

/// Writes the rate without trailing zeros.
impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&write(U256::from(self.0), RATE_DECIMALS))
    }
}

/// Writes an amount with this many decimals, without trailing zeros but with at least two decimals.
pub fn write(units: U256, decimals: usize) -> String {
    let digits = format!("{:0>width$}", units.to_string(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    let fraction = fraction.trim_end_matches('0');
    format!("{whole}.{fraction:0<2}")
}

/// Writes the difference of two amounts of USDC, which may be negative.
pub fn write_difference(amount: U256, less: U256) -> String {
    match amount.checked_sub(less) {
        Some(left) => write(left, DECIMALS),
        None => format!("-{}", write(less.saturating_sub(amount), DECIMALS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::money::AtomicAmount;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_exact_and_have_at_least_two_places() {
        for (units, text) in [
            (0u128, "0.00"),
            (1, "0.000001"),
            (10_000, "0.01"),
            (1_000_000, "1.00"),
            (1_230_000, "1.23"),
            (1_234_567, "1.234567"),
            (12_345_678_901, "12345.678901"),
        ] {
            assert_eq!(write(U256::from(units), 6), text);
        }
        let [a, b] = [10_000, 12_345].map(U256::from);
        assert_eq!(write_difference(b, a), "0.002345");
        assert_eq!(write_difference(a, b), "-0.002345");
        assert_eq!(write_difference(a, a), "0.00");
    }

    #[test]
    fn a_rate_is_a_positive_decimal() {
        let value = |rate: &str, amount: u64| {
            let rate = Rate::parse(rate).unwrap();
            write(rate.value(U256::from(amount)), FIAT_DECIMALS)
        };
        assert_eq!(value("0.9234", 10_000), "0.009234");
        assert_eq!(value("1", 1), "0.000001");
        assert_eq!(value("151.37", 1_000_000), "151.37");
        assert_eq!(value("0.000000000001", 1), "0.000000000000000001");
        assert_eq!(Rate::parse("0.9200").unwrap().to_string(), "0.92");
        for text in [
            "",
            "0",
            "0.0",
            "-1",
            "+1",
            "1,5",
            "1e3",
            ".5",
            "1.",
            " 1",
            "1.0000000000001",
            "1234567890123",
            "NaN",
            "=1",
        ] {
            assert_eq!(Rate::parse(text), Err(BadRate), "{text}");
        }
    }

    proptest! {
        #[test]
        fn amounts_of_usdc_are_written_as_everywhere_else(units: u128) {
            let amount = AtomicAmount::from_units(units);
            prop_assert_eq!(write(amount.as_u256(), DECIMALS), amount.to_decimal_usd());
        }
    }
}
