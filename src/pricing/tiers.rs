//! The price table: what is sold, at which price, and how long images are kept.
//!
//! Every price, size and time that the service states comes from this table. This module has the
//! table's rules; `config` reads the table from a file.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::pricing::money::AtomicAmount;
use crate::system::clock::Timestamp;

/// The largest `max_bytes` of a tier.
pub const LARGEST_MAX_BYTES: u64 = 64 * MIB;
/// The largest number of confirmations: two minutes on Base. With more, sales would pause because
/// of payments that only wait (docs/payments.md, "Facilitators").
const MOST_CONFIRMATIONS: u32 = 60;
/// The longest time that a tier keeps images, except for ever. Renewals have the same bound.
pub const LONGEST_KEEP: Duration = Duration::from_secs(10 * 366 * DAY);
/// From this price on, a payment waits for a confirmation unless the tier says otherwise.
pub const DEAR_FROM: AtomicAmount = AtomicAmount::from_units(100_000);

const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
const DAY: u64 = 24 * HOUR;
const HOUR: u64 = 60 * MINUTE;
const MINUTE: u64 = 60;

/// How long an image is kept. Longer times are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// For this time after its upload.
    For(Duration),
    /// For as long as the service exists.
    Forever,
}

impl Keep {
    /// The expiry of an image that is kept from `start`; `None`: never.
    pub fn end(self, start: Timestamp) -> Option<Timestamp> {
        match self {
            Self::For(duration) => Some(start.plus(duration)),
            Self::Forever => None,
        }
    }
}

/// The name of a tier: 1 to 32 lower-case letters, digits and hyphens, so that it fits into a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TierName(String);

/// A tier: one row of the price table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The name in routes and records.
    pub name: TierName,
    /// The price of one image, whatever its size. Zero makes it the free tier, unless it has a
    /// price by size.
    pub price: AtomicAmount,
    /// What each started MiB of the image costs beside `price`.
    pub price_per_mib: AtomicAmount,
    /// The largest image that it accepts, in bytes.
    pub max_bytes: u64,
    /// How long an image is kept.
    pub keep: Keep,
    /// How many blocks must contain the transfer before the goods are granted: 0 to 60.
    pub confirmations: u32,
}

/// The largest part of a form beside the image: boundaries, names and other fields, in bytes.
pub const FORM_OVERHEAD: u64 = 64 * KIB;

/// The longest body, in bytes, that can contain an image of `max_bytes` bytes: base64 takes 4/3 of
/// them.
pub const fn longest_body(max_bytes: u64) -> u64 {
    max_bytes / 3 * 4 + 4 + FORM_OVERHEAD
}

/// All tiers, in the operator's order. Names are unique, at most one tier is free, and if any has a
/// price, one of those is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierTable {
    tiers: Vec<Tier>,
    default: Option<TierName>,
}

/// The current table, shared by all clones. It may be replaced at any time.
#[derive(Clone, Debug)]
pub struct Tiers(Arc<RwLock<Arc<TierTable>>>);

impl Tiers {
    /// Creates a handle with this table.
    pub fn new(table: TierTable) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(table))))
    }

    /// The current table.
    pub fn now(&self) -> Arc<TierTable> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the table, for all clones.
    pub fn replace(&self, table: TierTable) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}

/// A rule of the table that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierProblem {
    /// The tier that breaks it; `None`: the table as a whole.
    pub tier: Option<TierName>,
    /// The rule.
    pub fault: TierFault,
}

/// The rules of the table, as messages for when they are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum TierFault {
    #[error("is not a valid tier name")]
    BadName,
    #[error("is a second tier of this name")]
    SameName,
    #[error("is the name of a tier with a price, but `token` and `free` are reserved for routes")]
    ReservedName,
    #[error("is a second tier without a price, but only one tier may be free")]
    SecondFree,
    #[error("must be between 1 byte and 64 MiB")]
    BadSize,
    #[error("must be between 1 second and 10 years, or for ever")]
    BadKeep,
    #[error("is {0}, but at most 60 confirmations are allowed")]
    TooManyConfirmations(u32),
    #[error("makes the price of the largest image larger than any amount")]
    TooDear,
    #[error("is the default, but has no price")]
    FreeDefault,
    #[error("names a default tier that does not exist")]
    UnknownDefault,
    #[error("several tiers have a price and none is the default")]
    NoDefault,
    #[error("the table is empty")]
    Empty,
}

impl TierFault {
    /// The field of the tier that breaks the rule.
    pub fn field(self) -> &'static str {
        match self {
            Self::BadName | Self::SameName | Self::ReservedName => "name",
            Self::SecondFree => "price",
            Self::BadSize => "max_bytes",
            Self::BadKeep => "keep",
            Self::TooManyConfirmations(_) => "confirmations",
            Self::TooDear => "price_per_mib",
            Self::FreeDefault | Self::UnknownDefault | Self::NoDefault | Self::Empty => "default",
        }
    }

    /// What the operator should do about it.
    pub fn mend(self) -> &'static str {
        match self {
            Self::BadName => "use 1 to 32 lower-case letters, digits and hyphens",
            Self::SameName | Self::ReservedName => "give it another name",
            Self::SecondFree => "give one of them a price, or remove one",
            Self::BadSize => "write a size such as \"5 MiB\"",
            Self::BadKeep => "write a time such as \"30d\", or \"forever\"",
            Self::TooManyConfirmations(_) => "write a number from 0 to 60",
            Self::TooDear => "write a lower price, such as \"0.002\"",
            Self::FreeDefault | Self::UnknownDefault | Self::NoDefault => {
                "set `default = true` in one tier that has a price"
            }
            Self::Empty => "add a tier, or remove `tiers` to get the three default tiers",
        }
    }
}

impl TierTable {
    /// Creates a table that keeps the rules, or returns every broken rule. Without `default`, the
    /// only tier with a price becomes the default.
    pub fn new(tiers: Vec<Tier>, default: Option<TierName>) -> Result<Self, Vec<TierProblem>> {
        let mut problems = Vec::new();
        for (index, tier) in tiers.iter().enumerate() {
            let earlier = || tiers.iter().take(index);
            let mut report = |fault| {
                problems.push(TierProblem {
                    tier: Some(tier.name.clone()),
                    fault,
                });
            };
            tier.faults().into_iter().for_each(&mut report);
            if earlier().any(|other| other.name == tier.name) {
                report(TierFault::SameName);
            }
            if tier.is_free() && earlier().any(Tier::is_free) {
                report(TierFault::SecondFree);
            }
        }
        let default = match choose_default(&tiers, default) {
            Ok(default) => default,
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        if problems.is_empty() {
            Ok(Self { tiers, default })
        } else {
            Err(problems)
        }
    }

    /// Finds the tier with this name.
    pub fn find(&self, name: &str) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.name.as_str() == name)
    }

    /// The tier that a paid route sells when the request names none; `None` if no tier has a price.
    pub fn default_paid(&self) -> Option<&Tier> {
        self.default
            .as_ref()
            .and_then(|name| self.find(name.as_str()))
    }

    /// The free tier.
    pub fn free(&self) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.is_free())
    }

    /// The tiers with a price.
    pub fn paid(&self) -> impl Iterator<Item = &Tier> {
        self.tiers.iter().filter(|tier| !tier.is_free())
    }

    /// All tiers, in the operator's order.
    pub fn iter(&self) -> std::slice::Iter<'_, Tier> {
        self.tiers.iter()
    }
}

fn choose_default(
    tiers: &[Tier],
    default: Option<TierName>,
) -> Result<Option<TierName>, TierProblem> {
    let Some(name) = default else {
        let mut paid = tiers.iter().filter(|tier| !tier.is_free());
        return match (paid.next(), paid.next()) {
            (Some(_), Some(_)) => Err(TierProblem {
                tier: None,
                fault: TierFault::NoDefault,
            }),
            (None, _) if tiers.is_empty() => Err(TierProblem {
                tier: None,
                fault: TierFault::Empty,
            }),
            (only, _) => Ok(only.map(|tier| tier.name.clone())),
        };
    };
    match tiers.iter().find(|tier| tier.name == name) {
        None => Err(TierProblem {
            tier: Some(name),
            fault: TierFault::UnknownDefault,
        }),
        Some(tier) if tier.is_free() => Err(TierProblem {
            tier: Some(name),
            fault: TierFault::FreeDefault,
        }),
        Some(_) => Ok(Some(name)),
    }
}

impl<'a> IntoIterator for &'a TierTable {
    type Item = &'a Tier;
    type IntoIter = std::slice::Iter<'a, Tier>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The three tiers of a service that configures none.
impl Default for TierTable {
    fn default() -> Self {
        let tier = |name: &str, units, max_bytes, keep| {
            let price = AtomicAmount::from_units(units);
            Tier {
                name: TierName(name.to_owned()),
                price,
                price_per_mib: AtomicAmount::ZERO,
                max_bytes,
                keep,
                confirmations: default_confirmations(price),
            }
        };
        let days = |count| Keep::For(Duration::from_secs(count * DAY));
        let year = tier("year", 10_000, 5 * MIB, days(365));
        Self {
            default: Some(year.name.clone()),
            tiers: vec![
                tier("free", 0, MIB, days(7)),
                year,
                tier("permanent", 1_000_000, 5 * MIB, Keep::Forever),
            ],
        }
    }
}

/// The number of confirmations of a tier that doesn't set it. An expensive tier waits for the
/// block; the transfer of a cheap one is checked afterwards.
pub fn default_confirmations(price: AtomicAmount) -> u32 {
    u32::from(price >= DEAR_FROM)
}

impl Tier {
    /// The longest body of an upload to this tier, in bytes.
    pub const fn longest_body(&self) -> u64 {
        longest_body(self.max_bytes)
    }

    /// Whether the tier is free.
    pub fn is_free(&self) -> bool {
        self.price.is_zero() && self.price_per_mib.is_zero()
    }

    /// What one purchase buys, for challenges, pages and help:
    /// `one image up to 5 MiB, kept 365 days`.
    pub fn describe(&self) -> String {
        self.describe_many(1)
    }

    /// What a purchase of `images` images buys.
    pub fn describe_many(&self, images: u32) -> String {
        let size = SizeText(self.max_bytes);
        let what = match images {
            1 => format!("one image up to {size}"),
            many => format!("{many} images up to {size} each"),
        };
        match self.keep {
            Keep::Forever => format!("{what}, kept until the service ends"),
            Keep::For(time) => format!("{what}, kept {}", time_in_words(time)),
        }
    }

    /// What a renewal buys: `365 days more`.
    pub fn describe_renewal(&self) -> String {
        match self.keep {
            Keep::Forever => "kept until the service ends".to_owned(),
            Keep::For(time) => format!("{} more", time_in_words(time)),
        }
    }

    fn faults(&self) -> Vec<TierFault> {
        let mut faults = Vec::new();
        if !self.is_free() && matches!(self.name.as_str(), "token" | "free") {
            faults.push(TierFault::ReservedName);
        }
        if !(1..=LARGEST_MAX_BYTES).contains(&self.max_bytes) {
            faults.push(TierFault::BadSize);
        }
        if let Keep::For(time) = self.keep
            && !(Duration::from_secs(1)..=LONGEST_KEEP).contains(&time)
        {
            faults.push(TierFault::BadKeep);
        }
        if self.price_of(self.max_bytes).is_none() {
            faults.push(TierFault::TooDear);
        }
        if self.confirmations > MOST_CONFIRMATIONS {
            faults.push(TierFault::TooManyConfirmations(self.confirmations));
        }
        faults
    }
}

impl TierName {
    /// Parses a name, by the rule for names.
    pub fn parse(text: &str) -> Result<Self, TierFault> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TierFault::BadName)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes the time as the configuration reads it: `365d`, `90s`, `forever`.
impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::For(time) => match whole_units(*time) {
                Some((count, unit)) => write!(f, "{count}{}", unit.short()),
                None => write!(f, "{}ms", time.as_millis()),
            },
        }
    }
}

/// A number of bytes for people: `5 MiB`, `100 KiB`, `1234 bytes`.
#[derive(Clone, Copy, Debug)]
pub struct SizeText(pub u64);

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            bytes if bytes >= MIB && bytes.is_multiple_of(MIB) => write!(f, "{} MiB", bytes / MIB),
            bytes if bytes >= KIB && bytes.is_multiple_of(KIB) => write!(f, "{} KiB", bytes / KIB),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Day,
    Hour,
    Minute,
    Second,
}

impl Unit {
    fn short(self) -> &'static str {
        match self {
            Self::Day => "d",
            Self::Hour => "h",
            Self::Minute => "m",
            Self::Second => "s",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Minute => "minute",
            Self::Second => "second",
        }
    }
}

/// A time for people, in the largest unit that divides it: `365 days`, `1 hour`.
pub fn time_in_words(time: Duration) -> String {
    match whole_units(time) {
        Some((1, unit)) => format!("1 {}", unit.word()),
        Some((count, unit)) => format!("{count} {}s", unit.word()),
        None => format!("{} milliseconds", time.as_millis()),
    }
}

/// The time in the largest unit that divides it. humantime would write 365 days as eleven months,
/// thirty days and some hours.
fn whole_units(time: Duration) -> Option<(u64, Unit)> {
    if time.subsec_nanos() != 0 {
        return None;
    }
    let seconds = time.as_secs();
    [(DAY, Unit::Day), (HOUR, Unit::Hour), (MINUTE, Unit::Minute)]
        .into_iter()
        .find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size))
        .map(|(size, unit)| (seconds / size, unit))
        .or(Some((seconds, Unit::Second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(name: &str, price_usd: &str) -> Tier {
        let price = AtomicAmount::from_decimal_usd(price_usd).unwrap();
        Tier {
            name: TierName::parse(name).unwrap(),
            price,
            price_per_mib: AtomicAmount::ZERO,
            max_bytes: 5 * MIB,
            keep: Keep::For(Duration::from_secs(DAY)),
            confirmations: default_confirmations(price),
        }
    }

    fn faults(tiers: Vec<Tier>, default: Option<&str>) -> Vec<TierFault> {
        let default = default.map(|name| TierName::parse(name).unwrap());
        match TierTable::new(tiers, default) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.into_iter().map(|problem| problem.fault).collect(),
        }
    }

    #[test]
    fn the_default_tiers_are_free_year_and_permanent() {
        let table = TierTable::default();
        let rows: Vec<_> = table
            .iter()
            .map(|tier| {
                let usd = tier.price.to_decimal_usd();
                (
                    tier.name.to_string(),
                    usd,
                    tier.confirmations,
                    tier.describe(),
                )
            })
            .collect();
        let row = |name: &str, usd: &str, confirmations, text: &str| {
            (
                name.to_owned(),
                usd.to_owned(),
                confirmations,
                text.to_owned(),
            )
        };
        assert_eq!(
            rows,
            [
                row("free", "0.00", 0, "one image up to 1 MiB, kept 7 days"),
                row("year", "0.01", 0, "one image up to 5 MiB, kept 365 days"),
                row(
                    "permanent",
                    "1.00",
                    1,
                    "one image up to 5 MiB, kept until the service ends"
                ),
            ]
        );
        assert_eq!(table.default_paid().unwrap().name.as_str(), "year");
        assert_eq!(table.free().unwrap().name.as_str(), "free");
        assert_eq!(table.paid().count(), 2);
        assert_eq!(table.into_iter().count(), 3);
        assert!(table.find("nothing").is_none());
        let TierTable { tiers, default } = table.clone();
        assert_eq!(TierTable::new(tiers, default), Ok(table));
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "year", "10-mib", &"x".repeat(32)] {
            assert_eq!(TierName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "Year", "a b", "a_b", "ä", "a/b", &"x".repeat(33)] {
            assert_eq!(TierName::parse(name), Err(TierFault::BadName), "{name}");
        }
    }

    #[test]
    fn reserved_words_of_routes_are_rejected_as_names_of_paid_tiers() {
        assert_eq!(
            faults(vec![tier("token", "1")], None),
            [TierFault::ReservedName]
        );
        assert_eq!(
            faults(vec![tier("free", "1")], None),
            [TierFault::ReservedName]
        );
        assert_eq!(faults(vec![tier("free", "0")], None), []);
    }

    #[test]
    fn names_are_unique_and_one_tier_at_most_is_free() {
        let twice = vec![tier("a", "1"), tier("a", "2")];
        assert_eq!(faults(twice, Some("a")), [TierFault::SameName]);
        let free = vec![tier("a", "0"), tier("b", "0")];
        assert_eq!(faults(free, None), [TierFault::SecondFree]);
    }

    #[test]
    fn sizes_times_and_confirmations_have_bounds() {
        let sized = |max_bytes| {
            vec![Tier {
                max_bytes,
                ..tier("a", "1")
            }]
        };
        assert_eq!(faults(sized(0), None), [TierFault::BadSize]);
        assert_eq!(faults(sized(1), None), []);
        assert_eq!(faults(sized(64 * MIB), None), []);
        assert_eq!(faults(sized(64 * MIB + 1), None), [TierFault::BadSize]);
        let kept = |time| {
            vec![Tier {
                keep: Keep::For(time),
                ..tier("a", "1")
            }]
        };
        assert_eq!(
            faults(kept(Duration::from_millis(999)), None),
            [TierFault::BadKeep]
        );
        assert_eq!(faults(kept(Duration::from_secs(1)), None), []);
        assert_eq!(faults(kept(LONGEST_KEEP), None), []);
        let longer = LONGEST_KEEP + Duration::from_secs(1);
        assert_eq!(faults(kept(longer), None), [TierFault::BadKeep]);
        let confirmed = |confirmations| {
            vec![Tier {
                confirmations,
                ..tier("a", "1")
            }]
        };
        assert_eq!(faults(confirmed(60), None), []);
        assert_eq!(
            faults(confirmed(61), None),
            [TierFault::TooManyConfirmations(61)]
        );
    }

    #[test]
    fn the_default_tier_must_have_a_price() {
        let several = || vec![tier("free", "0"), tier("a", "1"), tier("b", "2")];
        assert_eq!(faults(several(), None), [TierFault::NoDefault]);
        assert_eq!(faults(several(), Some("c")), [TierFault::UnknownDefault]);
        assert_eq!(faults(several(), Some("free")), [TierFault::FreeDefault]);
        assert_eq!(faults(several(), Some("b")), []);
        assert_eq!(faults(Vec::new(), None), [TierFault::Empty]);
        let only = TierTable::new(vec![tier("free", "0"), tier("a", "1")], None).unwrap();
        assert_eq!(only.default_paid().unwrap().name.as_str(), "a");
        let none = TierTable::new(vec![tier("free", "0")], None).unwrap();
        assert_eq!(none.default_paid(), None);
    }

    #[test]
    fn tiers_from_ten_cents_on_wait_for_a_confirmation() {
        assert_eq!(tier("a", "0.099999").confirmations, 0);
        assert_eq!(tier("a", "0.10").confirmations, 1);
    }

    #[test]
    fn sizes_and_times_are_written_in_whole_units() {
        let sizes = [1, 1023, 1024, 1536, 5 * MIB, 5 * MIB + 1].map(|n| SizeText(n).to_string());
        assert_eq!(
            sizes,
            [
                "1 byte",
                "1023 bytes",
                "1 KiB",
                "1536 bytes",
                "5 MiB",
                "5242881 bytes"
            ]
        );
        let keeps = [1, 90, 120, 5400, 7200, DAY, 36 * HOUR]
            .map(|seconds| Keep::For(Duration::from_secs(seconds)));
        let texts = keeps.map(|keep| keep.to_string());
        assert_eq!(texts, ["1s", "90s", "2m", "90m", "2h", "1d", "36h"]);
        let sentence = Tier {
            keep: keeps[5],
            ..tier("a", "1")
        }
        .describe();
        assert_eq!(sentence, "one image up to 5 MiB, kept 1 day");
        assert_eq!(Keep::For(Duration::from_millis(1500)).to_string(), "1500ms");
    }
}
