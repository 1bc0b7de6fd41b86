//! Times and sizes as pages write them, as `assets/words.js` does in the browser.

use crate::system::clock::Timestamp;

/// Seconds of a unit, and its name. A year has 365.25 days.
const UNITS: [(u64, &str); 4] = [
    (31_557_600, "year"),
    (86_400, "day"),
    (3600, "hour"),
    (60, "minute"),
];
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// How long an image is still there: `6 days left`. `None` as the end: `kept until the service ends`.
pub(in crate::http) fn time_left(end: Option<Timestamp>, now: Timestamp) -> String {
    let Some(end) = end else {
        return "kept until the service ends".to_owned();
    };
    if end <= now {
        return "expired".to_owned();
    }
    let seconds = end.since(now).as_secs();
    // From two of a unit on, so that little is rounded away: 47 hours, not 2 days. A minute is added
    // here, so that an upload that was just made for two days has days left.
    let has = |count: u64| move |(size, _): &&(u64, &str)| seconds + 60 >= count * size;
    let unit = UNITS.iter().find(has(2));
    let unit = unit.or_else(|| UNITS.iter().find(has(1)));
    match unit.map(|(size, name)| (((seconds + size / 2) / size).max(1), name)) {
        None => "less than a minute left".to_owned(),
        Some((1, name)) => format!("1 {name} left"),
        Some((count, name)) => format!("{count} {name}s left"),
    }
}

/// A size with at most one decimal: `1.4 MiB`.
pub(in crate::http) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        1 => return "1 byte".to_owned(),
        0..KIB => return format!("{bytes} bytes"),
        KIB..MIB => (KIB, "KiB"),
        MIB.. => (MIB, "MiB"),
    };
    let tenths = (bytes * 10 + unit / 2) / unit;
    match (tenths / 10, tenths % 10) {
        (whole @ 0..10, tenth @ 1..) => format!("{whole}.{tenth} {name}"),
        (whole @ 0..10, _) => format!("{whole} {name}"),
        _ => format!("{} {name}", (bytes + unit / 2) / unit),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    #[test]
    fn little_of_the_time_left_is_rounded_away() {
        for (seconds, words) in [
            (0, "expired"),
            (1, "1 minute left"),
            (119, "2 minutes left"),
            (3599, "60 minutes left"),
            (7200, "2 hours left"),
            (47 * 3600, "47 hours left"),
            (7 * 86_400 - 1, "7 days left"),
            (7 * 86_400 - 90, "7 days left"),
            (364 * 86_400, "364 days left"),
            (10 * 31_557_600, "10 years left"),
        ] {
            let end = NOW.plus(Duration::from_secs(seconds));
            assert_eq!(time_left(Some(end), NOW), words, "{seconds}");
        }
        assert_eq!(time_left(None, NOW), "kept until the service ends");
        assert_eq!(
            time_left(Some(NOW.minus(Duration::from_secs(9))), NOW),
            "expired"
        );
    }

    #[test]
    fn sizes_have_at_most_one_decimal() {
        for (bytes, words) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (24_891, "24 KiB"),
            (1_468_006, "1.4 MiB"),
            (10 * 1024 * 1024, "10 MiB"),
            (52_428_799, "50 MiB"),
        ] {
            assert_eq!(size(bytes), words);
        }
    }
}
