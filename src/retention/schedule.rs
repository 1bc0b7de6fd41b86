//! The schedule of the reaper: a cron expression, or never.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::system::clock::Timestamp;

/// When a job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Never: another program starts it.
    Off,
    /// At the times of a cron expression, in UTC.
    Cron(Box<Cron>),
}

/// A cron expression of five fields, or of six with the seconds first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    schedule: cron::Schedule,
}

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It doesn't have the form of a cron expression.
    #[error("is no cron expression of five fields")]
    Form,
    /// It names a day of the week by number, which programs count differently.
    #[error(
        "names a day of the week by number, which programs count from different days. Use a name such as `mon`"
    )]
    NumberedDay,
    /// It names a date that doesn't exist.
    #[error("names a date that never occurs")]
    Never,
}

impl Schedule {
    /// The schedule that runs every minute.
    pub fn every_minute() -> Self {
        Self::parse("* * * * *").unwrap_or(Self::Off)
    }

    /// Parses `off` or a cron expression.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if text == "off" {
            return Ok(Self::Off);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        // The crate `cron` counts days of the week from Sunday = 1, the program cron from Sunday =
        // 0.
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

    /// The time from `now` to the next run; `None`: there is none.
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
    fn an_invalid_schedule_is_rejected_with_the_reason() {
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
