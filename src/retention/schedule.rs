//! When the reaper runs: a cron expression, or never.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::Timestamp;

/// When something runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Never: somebody else starts it.
    Off,
    /// At the instants of a cron expression, in UTC.
    Cron(Box<Cron>),
}

/// A cron expression: five fields as everywhere, or six with the seconds first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    schedule: cron::Schedule,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It has no cron expression's form.
    #[error("is no cron expression of five fields")]
    Form,
    /// Programs don't agree on which day 1 is.
    #[error("names a day of the week by number, and programs don't agree which day that is")]
    NumberedDay,
    /// It names a day that no calendar has.
    #[error("never comes")]
    Never,
}

impl Schedule {
    /// Every minute.
    pub fn every_minute() -> Self {
        Self::parse("* * * * *").unwrap_or(Self::Off)
    }

    /// Reads `off` or a cron expression.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if text == "off" {
            return Ok(Self::Off);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        // The crate counts days of the week from Sunday = 1, cron itself from Sunday = 0.
        let day = fields.last().copied().unwrap_or_default();
        if day
            .split('/')
            .next()
            .is_some_and(|days| days.contains(|c: char| c.is_ascii_digit()))
        {
            return Err(ScheduleError::NumberedDay);
        }
        let full = match fields.len() {
            5 => format!("0 {text}"),
            6 => text.to_owned(),
            _ => return Err(ScheduleError::Form),
        };
        let schedule = cron::Schedule::from_str(&full).map_err(|_| ScheduleError::Form)?;
        if schedule.after(&DateTime::UNIX_EPOCH).next().is_none() {
            return Err(ScheduleError::Never);
        }
        Ok(Self::Cron(Box::new(Cron {
            text: text.to_owned(),
            schedule,
        })))
    }

    /// How long after `now` its next instant lies; `None`: there is none.
    pub fn until_next(&self, now: Timestamp) -> Option<Duration> {
        let Self::Cron(cron) = self else { return None };
        let from: DateTime<Utc> = DateTime::from_timestamp_millis(now.millis())?;
        let next = cron.schedule.after(&from).next()?;
        Some(Timestamp::from_millis(next.timestamp_millis()).since(now))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Cron(cron) => &cron.text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2027-01-15 08:00:00 UTC, a Friday.
    const FRIDAY: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn seconds(text: &str) -> Option<u64> {
        let next = Schedule::parse(text).unwrap().until_next(FRIDAY);
        next.map(|duration| duration.as_secs())
    }

    #[test]
    fn the_next_instant_lies_after_now_in_utc() {
        for (text, expected) in [
            ("* * * * *", 60),
            ("*/5 * * * * *", 5),
            ("30 8 * * *", 1800),
            ("0 8 * * *", 86_400),
            ("0 0 * * SUN", 40 * 3600),
            ("0 0 1 * *", 16 * 86_400 + 16 * 3600),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        assert_eq!(seconds("off"), None);
        assert_eq!(Schedule::every_minute().to_string(), "* * * * *");
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for (text, error) in [
            ("", ScheduleError::Form),
            ("hourly", ScheduleError::Form),
            ("* * * *", ScheduleError::Form),
            ("61 * * * *", ScheduleError::Form),
            ("0 0 * * 0", ScheduleError::NumberedDay),
            ("0 0 * * 1-5", ScheduleError::NumberedDay),
            ("0 0 30 2 *", ScheduleError::Never),
        ] {
            assert_eq!(Schedule::parse(text), Err(error), "{text}");
        }
    }
}
