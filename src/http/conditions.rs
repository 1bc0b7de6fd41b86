//! Conditional requests and ranges (RFC 9110, sections 13 and 14): evaluates which part of a
//! representation a request's headers ask for. This module decides nothing else, and reads no
//! clock.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{
    self, EntityTag, Header, HeaderName, HttpDate, IfMatch, IfNoneMatch, IfRange,
};

/// The properties of a representation that conditional headers are compared with.
#[derive(Debug)]
pub(super) struct Validators {
    /// The entity tag, a strong one.
    pub(super) etag: EntityTag,
    /// `Last-Modified`, in seconds since 1970. Images never change, so this date is as strong a
    /// validator as the tag.
    pub(super) modified: Option<u64>,
    /// The length in bytes.
    pub(super) length: u64,
}

/// The response that the headers ask for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The whole representation: 200.
    Whole,
    /// The byte range `start..end`: 206.
    Part(Range<u64>),
    /// The client already has this representation: 304.
    NotModified,
    /// The client demands another representation: 412.
    PreconditionFailed,
    /// The requested range starts past the end: 416.
    NotSatisfiable,
}

/// Evaluates the headers in the order of RFC 9110, section 13.2.2.
pub(super) fn evaluate(request: &HttpRequest, current: &Validators) -> Outcome {
    let has = |name: HeaderName| request.headers().contains_key(name);
    if has(header::IF_MATCH) {
        if !matches_strongly(request, current) {
            return Outcome::PreconditionFailed;
        }
    } else if date(request, &header::IF_UNMODIFIED_SINCE)
        .is_some_and(|since| current.modified.is_some_and(|at| at > since))
    {
        return Outcome::PreconditionFailed;
    }
    if has(header::IF_NONE_MATCH) {
        if matches_weakly(request, current) {
            return Outcome::NotModified;
        }
    } else if date(request, &header::IF_MODIFIED_SINCE)
        .is_some_and(|since| current.modified.is_some_and(|at| at <= since))
    {
        return Outcome::NotModified;
    }
    // `Range` applies to GET only (RFC 9110, section 14.2).
    if request.method() == Method::GET && is_same_for_range(request, current) {
        only(request, &header::RANGE)
            .and_then(|text| part(text, current.length))
            .unwrap_or(Outcome::Whole)
    } else {
        Outcome::Whole
    }
}

/// Whether `If-Match` names the current tag, by strong comparison. An unreadable header names none.
fn matches_strongly(request: &HttpRequest, current: &Validators) -> bool {
    match IfMatch::parse(request) {
        Ok(IfMatch::Any) => true,
        Ok(IfMatch::Items(tags)) => tags.iter().any(|tag| tag.strong_eq(&current.etag)),
        Err(_) => false,
    }
}

/// Whether `If-None-Match` names the current tag, by weak comparison. An unreadable header names
/// none.
fn matches_weakly(request: &HttpRequest, current: &Validators) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&current.etag)),
        Err(_) => false,
    }
}

/// Whether the range applies: `If-Range` is absent or names exactly this representation. An
/// unreadable header names none.
fn is_same_for_range(request: &HttpRequest, current: &Validators) -> bool {
    if !request.headers().contains_key(header::IF_RANGE) {
        return true;
    }
    match IfRange::parse(request) {
        Ok(IfRange::EntityTag(tag)) => tag.strong_eq(&current.etag),
        Ok(IfRange::Date(date)) => seconds(date).is_some() && seconds(date) == current.modified,
        Err(_) => false,
    }
}

/// The date in a header, in seconds since 1970. An unreadable or repeated header counts as absent.
fn date(request: &HttpRequest, name: &HeaderName) -> Option<u64> {
    seconds(only(request, name)?.parse().ok()?)
}

/// The date in seconds since 1970. `None`: it is earlier.
fn seconds(date: HttpDate) -> Option<u64> {
    let since = SystemTime::from(date).duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// The value of a header that is sent exactly once, as text.
fn only<'a>(request: &'a HttpRequest, name: &HeaderName) -> Option<&'a str> {
    let mut values = request.headers().get_all(name);
    let first = values.next()?;
    if values.next().is_some() {
        return None;
    }
    first.to_str().ok()
}

/// Parses one range of bytes. `None`: several ranges, another unit or invalid syntax, all of which
/// a server may ignore.
///
/// actix's `Range` is not used. It skips the invalid items of a list, so that `0-1,x` would be one
/// range, and it can't read positions that need more than 64 bits.
fn part(text: &str, length: u64) -> Option<Outcome> {
    let (unit, range) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let range = match range.trim().split_once('-')? {
        ("", suffix) => length.saturating_sub(position(suffix)?)..length,
        (first, "") => position(first)?..length,
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            if first > last {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some(if range.is_empty() {
        Outcome::NotSatisfiable
    } else {
        Outcome::Part(range)
    })
}

/// Parses decimal digits and nothing else. A number above `u64::MAX` counts as `u64::MAX`, which is
/// past the end of every image.
fn position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const OURS: &str = "\"ours\"";
    const OTHER: &str = "\"other\"";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn ask(method: Method, headers: &[(&str, &str)]) -> Outcome {
        let mut request = TestRequest::default().method(method);
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        let current = Validators {
            etag: EntityTag::new_strong("ours".to_owned()),
            modified: Some(784_111_777),
            length: 10,
        };
        evaluate(&request.to_http_request(), &current)
    }

    #[test]
    fn one_valid_range_is_a_part_and_other_ranges_are_ignored() {
        for (range, expected) in [
            ("bytes=0-0", Outcome::Part(0..1)),
            ("bytes=2-5", Outcome::Part(2..6)),
            ("BYTES=2-5", Outcome::Part(2..6)),
            ("bytes= 2-5 ", Outcome::Part(2..6)),
            ("bytes=9-", Outcome::Part(9..10)),
            ("bytes=0-", Outcome::Part(0..10)),
            ("bytes=-1", Outcome::Part(9..10)),
            ("bytes=-10", Outcome::Part(0..10)),
            ("bytes=-999", Outcome::Part(0..10)),
            ("bytes=5-999", Outcome::Part(5..10)),
            ("bytes=5-99999999999999999999999", Outcome::Part(5..10)),
            ("bytes=10-", Outcome::NotSatisfiable),
            ("bytes=10-10", Outcome::NotSatisfiable),
            ("bytes=99999999999999999999999-", Outcome::NotSatisfiable),
            ("bytes=-0", Outcome::NotSatisfiable),
            ("bytes=5-2", Outcome::Whole),
            ("bytes=12-11", Outcome::Whole),
            ("bytes=-", Outcome::Whole),
            ("bytes=", Outcome::Whole),
            ("bytes", Outcome::Whole),
            ("bytes=a-b", Outcome::Whole),
            ("bytes=+1-2", Outcome::Whole),
            ("bytes=1-2-3", Outcome::Whole),
            ("bytes=--1", Outcome::Whole),
            ("bytes=0-1,4-5", Outcome::Whole),
            ("bytes=0-1,x", Outcome::Whole),
            ("bytes=0-1,", Outcome::Whole),
            ("pixels=0-1", Outcome::Whole),
            ("", Outcome::Whole),
        ] {
            assert_eq!(ask(Method::GET, &[("range", range)]), expected, "{range}");
            assert_eq!(ask(Method::HEAD, &[("range", range)]), Outcome::Whole);
        }
        let twice = [("range", "bytes=0-1"), ("range", "bytes=0-1")];
        assert_eq!(ask(Method::GET, &twice), Outcome::Whole);
    }

    #[test]
    fn a_range_with_another_validator_gets_the_whole_image() {
        for (validator, is_ours) in [
            (OURS, true),
            (THEN, true),
            (OTHER, false),
            ("W/\"ours\"", false),
            (BEFORE, false),
            (AFTER, false),
            ("ours", false),
            ("*", false),
            ("", false),
        ] {
            let expected = if is_ours {
                Outcome::Part(0..2)
            } else {
                Outcome::Whole
            };
            let headers = [("if-range", validator), ("range", "bytes=0-1")];
            assert_eq!(ask(Method::GET, &headers), expected, "{validator}");
            assert_eq!(ask(Method::GET, &headers[..1]), Outcome::Whole);
        }
        let past = [("if-range", OTHER), ("range", "bytes=10-")];
        assert_eq!(ask(Method::GET, &past), Outcome::Whole);
    }

    #[test]
    fn tags_override_dates_and_preconditions_come_first() {
        use Outcome::{NotModified, NotSatisfiable, Part, PreconditionFailed, Whole};
        let table: [(&[(&str, &str)], Outcome); 24] = [
            (&[("if-none-match", OURS)], NotModified),
            (&[("if-none-match", "W/\"ours\"")], NotModified),
            (&[("if-none-match", "\"other\" , W/\"ours\"")], NotModified),
            (
                &[("if-none-match", OTHER), ("if-none-match", OURS)],
                NotModified,
            ),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", OTHER)], Whole),
            (
                &[("if-none-match", OTHER), ("if-modified-since", AFTER)],
                Whole,
            ),
            (
                &[("if-none-match", OURS), ("if-modified-since", BEFORE)],
                NotModified,
            ),
            (&[("if-modified-since", THEN)], NotModified),
            (&[("if-modified-since", AFTER)], NotModified),
            (&[("if-modified-since", BEFORE)], Whole),
            (&[("if-modified-since", "yesterday")], Whole),
            (
                &[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")],
                NotModified,
            ),
            (
                &[("if-modified-since", "Sun Nov  6 08:49:37 1994")],
                NotModified,
            ),
            (&[("if-match", OURS)], Whole),
            (&[("if-match", "*")], Whole),
            (&[("if-match", "W/\"ours\"")], PreconditionFailed),
            (
                &[("if-match", OTHER), ("if-none-match", OURS)],
                PreconditionFailed,
            ),
            (
                &[("if-match", OURS), ("if-unmodified-since", BEFORE)],
                Whole,
            ),
            (&[("if-match", OURS), ("if-none-match", OURS)], NotModified),
            (&[("if-unmodified-since", BEFORE)], PreconditionFailed),
            (
                &[("if-unmodified-since", THEN), ("range", "bytes=1-")],
                Part(1..10),
            ),
            (
                &[("if-none-match", OURS), ("range", "bytes=99-")],
                NotModified,
            ),
            (
                &[("if-match", OURS), ("range", "bytes=99-")],
                NotSatisfiable,
            ),
        ];
        for (headers, expected) in table {
            assert_eq!(ask(Method::GET, headers), expected, "{headers:?}");
        }
    }
}
