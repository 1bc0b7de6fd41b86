//! Rates of USDC in the operator's currency, as the operator supplies them: one for each day, or one
//! for all.

use std::collections::BTreeMap;

use super::decimal::Rate;
use crate::db::limits::day_of;
use crate::system::clock::Timestamp;

/// Rates by UTC day, counted from 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rates {
    /// The same rate for every day.
    One(Rate),
    /// The rate of some days. It holds until the next day that has one.
    Daily(BTreeMap<i64, Rate>),
}

/// Why a file is no table of rates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} is \"{text}\", but each line has a date and a rate: write it like 2026-11-01,0.9234; the first line may \
     have names of columns"
)]
pub struct BadRates {
    line: usize,
    text: String,
}

impl Rates {
    /// Reads lines of `date,rate`, with dates as `2026-11-01`. Empty lines are skipped, and the
    /// first line may be a heading.
    ///
    /// # Errors
    /// [`BadRates`] names the first wrong line.
    pub fn parse(text: &str) -> Result<Self, BadRates> {
        let mut days = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            match read_line(line) {
                Some((day, rate)) => {
                    days.insert(day, rate);
                }
                None if index == 0 && line.starts_with(|first: char| !first.is_ascii_digit()) => {}
                None => {
                    return Err(BadRates {
                        line: index + 1,
                        text: line
                            .chars()
                            .filter(|char| !char.is_control())
                            .take(40)
                            .collect(),
                    });
                }
            }
        }
        Ok(Self::Daily(days))
    }

    /// The rate of the day of `at`: that of the newest day up to it. `None`: there is no rate yet.
    pub fn at(&self, at: Timestamp) -> Option<Rate> {
        match self {
            Self::One(rate) => Some(*rate),
            Self::Daily(days) => days.range(..=day_of(at)).next_back().map(|(_, rate)| *rate),
        }
    }
}

fn read_line(line: &str) -> Option<(i64, Rate)> {
    let (date, rate) = line.split_once(',')?;
    let rate = Rate::parse(rate.trim()).ok()?;
    Some((day_of(start_of_date(date.trim())?), rate))
}

/// The beginning of a date such as `2026-11-01`, in UTC.
pub fn start_of_date(date: &str) -> Option<Timestamp> {
    let is_date = date.len() == 10
        && date
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_date
        .then(|| Timestamp::parse(&format!("{date}T00:00:00Z")))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        Timestamp::parse(time).unwrap()
    }

    #[test]
    fn the_newest_rate_up_to_a_day_holds() {
        let text = "date,EUR\n2026-11-02,0.92\n\n2026-11-05, 0.93 \r\n";
        let rates = Rates::parse(text).unwrap();
        let rate = |time| rates.at(at(time)).map(|rate| rate.to_string());
        assert_eq!(rate("2026-11-01T23:59:59.999Z"), None);
        assert_eq!(rate("2026-11-02T00:00:00Z").as_deref(), Some("0.92"));
        assert_eq!(rate("2026-11-04T23:59:59.999Z").as_deref(), Some("0.92"));
        assert_eq!(rate("2026-12-31T00:00:00Z").as_deref(), Some("0.93"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, line) in [
            ("2026-11-31,0.92", 1),
            ("date,rate\ndate,rate", 2),
            ("2026-11-01,0.92\n2026-11-02;0.93", 2),
            ("2026-11-01,-1", 1),
            ("01.11.2026,0.9", 1),
            ("2026-11-01T12:00:00Z,0.9", 1),
        ] {
            assert_eq!(Rates::parse(text).unwrap_err().line, line, "{text}");
        }
    }
}
