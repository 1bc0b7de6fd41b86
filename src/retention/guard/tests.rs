use super::*;
use crate::system::clock::ManualClock;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const HOUR: Duration = Duration::from_hours(1);
const LONG_AGO: Option<Timestamp> = Some(Timestamp::from_seconds(1_700_000_000));

fn guard() -> (ClockGuard, ManualClock) {
    let clock = ManualClock::at(NOW);
    (ClockGuard::new(&clock, Vec::new()), clock)
}

fn reading(clock: &str, shown: Shown) -> Reading {
    let clock = clock.to_owned();
    Reading { clock, shown }
}

#[test]
fn a_run_counts_for_a_day_and_a_run_in_the_future_never() {
    let second = Duration::from_secs(1);
    for (last_run, expected) in [
        (None, false),
        (Some(NOW), true),
        (Some(NOW.minus(ONE_DAY)), true),
        (Some(NOW.minus(ONE_DAY + second)), false),
        (Some(NOW.minus(ONE_DAY * 400)), false),
        (Some(NOW.plus(TOLERANCE)), true),
        (Some(NOW.plus(TOLERANCE + second)), false),
        (Some(NOW.plus(ONE_DAY * 400)), false),
    ] {
        let (guard, clock) = guard();
        let believed = guard.believes(Moment::now(&clock), last_run);
        assert_eq!(believed, expected, "{last_run:?}");
    }
}

#[test]
fn a_clock_that_was_believed_stays_so_until_it_is_set() {
    let (guard, clock) = guard();
    guard.believe(Moment::now(&clock));
    clock.advance(ONE_DAY * 30);
    assert!(guard.believes(Moment::now(&clock), LONG_AGO));
    clock.jump(ONE_DAY);
    assert!(!guard.was_set(Moment::now(&clock)));
    assert!(guard.believes(Moment::now(&clock), LONG_AGO));
    clock.jump(ONE_DAY + Duration::from_millis(1));
    assert!(guard.was_set(Moment::now(&clock)));
    assert!(!guard.believes(Moment::now(&clock), LONG_AGO));
    assert!(!guard.believes(Moment::now(&clock), LONG_AGO));
}

#[test]
fn a_day_of_waiting_begins_at_the_start_and_again_when_the_clock_is_set() {
    let (guard, clock) = guard();
    let believes = || guard.believes(Moment::now(&clock), LONG_AGO);
    clock.advance(HOUR * 23);
    assert!(!believes());
    clock.jump(ONE_DAY * 400);
    assert!(!believes());
    clock.advance(HOUR * 23);
    assert!(!believes());
    clock.advance(HOUR);
    assert!(believes());
}

#[test]
fn clocks_agree_within_ten_minutes_either_way() {
    let second = Duration::from_secs(1);
    for (shown, expected) in [
        (NOW, true),
        (NOW.plus(TOLERANCE), true),
        (NOW.minus(TOLERANCE), true),
        (NOW.plus(TOLERANCE + second), false),
        (NOW.minus(TOLERANCE + second), false),
    ] {
        assert_eq!(agrees(&reading("", Shown::Time(shown)), NOW), expected);
    }
    assert!(!agrees(&reading("", Shown::OwnClock), NOW));
    let silent = Shown::Nothing("refused".to_owned());
    assert!(!agrees(&reading("", silent), NOW));
}

#[test]
fn the_message_names_each_clock_and_what_would_end_the_wait() {
    let mut doubt = Doubt {
        now: NOW,
        last_run: Some(NOW.minus(ONE_DAY * 400)),
        readings: vec![
            reading(
                "the newest block of base",
                Shown::Time(NOW.minus(ONE_DAY * 400)),
            ),
            reading("PostgreSQL", Shown::OwnClock),
            reading(
                "the image store",
                Shown::Nothing("certificate expired".to_owned()),
            ),
        ],
        left: HOUR * 23,
    };
    let text = doubt.to_string();
    for part in [
        "this machine's clock shows 2027-01-15T08:00:00.000Z",
        "the reaper last ran 1year 1month",
        "at 2025-12-11T08:00:00.000Z",
        "until the server has run for another 23h",
        "pixtoll reap --accept-clock",
        "the newest block of base shows 2025-12-11T08:00:00.000Z; ",
        "PostgreSQL is on this machine and does not count; ",
        "the image store gives no time (certificate expired)",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    doubt.readings.clear();
    doubt.last_run = None;
    let text = doubt.to_string();
    assert!(
        text.contains("the database has no record of a run of the reaper"),
        "{text}"
    );
    assert!(text.contains("No independent clock is available"), "{text}");
    doubt.last_run = Some(NOW.plus(HOUR));
    let text = doubt.to_string();
    assert!(
        text.contains("last ran at 2027-01-15T09:00:00.000Z, which is later"),
        "{text}"
    );
}

#[test]
fn a_warning_repeats_every_hour_and_a_change_is_logged_at_once() {
    let (guard, clock) = guard();
    let doubt = |shown: Shown| Doubt {
        now: NOW,
        last_run: None,
        readings: vec![reading("a clock", shown)],
        left: HOUR,
    };
    let silent = || doubt(Shown::Nothing("no answer".to_owned()));
    let warned_at = || guard.state().warned.clone().map(|(at, _)| at);
    assert_eq!(warned_at(), None);
    guard.warn(&clock, &silent());
    assert_eq!(warned_at(), Some(Duration::ZERO));
    clock.advance(Duration::from_secs(3599));
    guard.warn(&clock, &silent());
    assert_eq!(warned_at(), Some(Duration::ZERO));
    clock.advance(Duration::from_secs(1));
    guard.warn(&clock, &silent());
    assert_eq!(warned_at(), Some(HOUR));
    clock.advance(Duration::from_secs(1));
    guard.warn(&clock, &doubt(Shown::Time(LONG_AGO.unwrap())));
    assert_eq!(warned_at(), Some(HOUR + Duration::from_secs(1)));
    // Another time that also disagrees is no change.
    clock.advance(Duration::from_secs(1));
    guard.warn(&clock, &doubt(Shown::Time(NOW.plus(HOUR))));
    assert_eq!(warned_at(), Some(HOUR + Duration::from_secs(1)));
}
