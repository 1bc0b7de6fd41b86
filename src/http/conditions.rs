//! Conditional requests and ranges (RFC 9110, sections 13 and 14): what a request's headers ask of a
//! representation. Decides nothing else, and reads no clock.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{
    self, EntityTag, Header, HeaderName, HttpDate, IfMatch, IfNoneMatch, IfRange,
};

/// What tells one representation from another, and how long it is.
#[derive(Debug)]
pub(super) struct Validators {
    pub(super) etag: EntityTag,
    /// `Last-Modified`, in seconds since 1970. Images never change, so it is as strong as the tag.
    pub(super) modified: Option<u64>,
    pub(super) length: u64,
}

/// What to answer with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The whole representation.
    Whole,
    /// Its bytes from here to there.
    Part(Range<u64>),
    /// The client has it: 304.
    Nothing,
    /// The client wants another one: 412.
    Another,
    /// There are no such bytes: 416.
    NoSuchPart,
}

/// Evaluates the headers in the order of RFC 9110, section 13.2.2.
pub(super) fn wanted(request: &HttpRequest, current: &Validators) -> Wanted {
    let has = |name: HeaderName| request.headers().contains_key(name);
    if has(header::IF_MATCH) {
        if !matches_strongly(request, current) {
            return Wanted::Another;
        }
    } else if date(request, &header::IF_UNMODIFIED_SINCE)
        .is_some_and(|since| current.modified.is_some_and(|at| at > since))
    {
        return Wanted::Another;
    }
    if has(header::IF_NONE_MATCH) {
        if matches_weakly(request, current) {
            return Wanted::Nothing;
        }
    } else if date(request, &header::IF_MODIFIED_SINCE)
        .is_some_and(|since| current.modified.is_some_and(|at| at <= since))
    {
        return Wanted::Nothing;
    }
    // A range means something to GET alone: the head of a part is no head of the image.
    if request.method() == Method::GET && is_same_for_range(request, current) {
        only(request, &header::RANGE)
            .and_then(|text| part(text, current.length))
            .unwrap_or(Wanted::Whole)
    } else {
        Wanted::Whole
    }
}

fn matches_strongly(request: &HttpRequest, current: &Validators) -> bool {
    match IfMatch::parse(request) {
        Ok(IfMatch::Any) => true,
        Ok(IfMatch::Items(tags)) => tags.iter().any(|tag| tag.strong_eq(&current.etag)),
        Err(_) => false,
    }
}

fn matches_weakly(request: &HttpRequest, current: &Validators) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&current.etag)),
        Err(_) => false,
    }
}

/// Without `If-Range`, or with one that names exactly this representation. What can't be read names none.
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

/// A date; one that can't be read, or that comes twice, counts as none.
fn date(request: &HttpRequest, name: &HeaderName) -> Option<u64> {
    seconds(only(request, name)?.parse().ok()?)
}

fn seconds(date: HttpDate) -> Option<u64> {
    let since = SystemTime::from(date).duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

fn only<'a>(request: &'a HttpRequest, name: &HeaderName) -> Option<&'a str> {
    let mut values = request.headers().get_all(name);
    let first = values.next()?;
    if values.next().is_some() {
        return None;
    }
    first.to_str().ok()
}

/// One range of bytes. `None`: several, or none that the syntax knows, which a server may ignore.
///
/// Not actix's `Range`: it passes over the bad items of a list, so that `0-1,x` would be one range, and
/// knows nothing of a position that needs more than 64 bits.
fn part(text: &str, length: u64) -> Option<Wanted> {
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
        Wanted::NoSuchPart
    } else {
        Wanted::Part(range)
    })
}

/// Digits and nothing else. A number past all numbers is past the end of everything.
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

    fn ask(method: Method, headers: &[(&str, &str)]) -> Wanted {
        let mut request = TestRequest::default().method(method);
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        let current = Validators {
            etag: EntityTag::new_strong("ours".to_owned()),
            modified: Some(784_111_777),
            length: 10,
        };
        wanted(&request.to_http_request(), &current)
    }

    #[test]
    fn a_single_range_is_a_part_and_what_is_no_range_is_ignored() {
        for (range, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-5", Wanted::Part(2..6)),
            ("BYTES=2-5", Wanted::Part(2..6)),
            ("bytes= 2-5 ", Wanted::Part(2..6)),
            ("bytes=9-", Wanted::Part(9..10)),
            ("bytes=0-", Wanted::Part(0..10)),
            ("bytes=-1", Wanted::Part(9..10)),
            ("bytes=-10", Wanted::Part(0..10)),
            ("bytes=-999", Wanted::Part(0..10)),
            ("bytes=5-999", Wanted::Part(5..10)),
            ("bytes=5-99999999999999999999999", Wanted::Part(5..10)),
            ("bytes=10-", Wanted::NoSuchPart),
            ("bytes=10-10", Wanted::NoSuchPart),
            ("bytes=99999999999999999999999-", Wanted::NoSuchPart),
            ("bytes=-0", Wanted::NoSuchPart),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=12-11", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=1-2-3", Wanted::Whole),
            ("bytes=--1", Wanted::Whole),
            ("bytes=0-1,4-5", Wanted::Whole),
            ("bytes=0-1,x", Wanted::Whole),
            ("bytes=0-1,", Wanted::Whole),
            ("pixels=0-1", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(ask(Method::GET, &[("range", range)]), expected, "{range}");
            assert_eq!(ask(Method::HEAD, &[("range", range)]), Wanted::Whole);
        }
        let twice = [("range", "bytes=0-1"), ("range", "bytes=0-1")];
        assert_eq!(ask(Method::GET, &twice), Wanted::Whole);
    }

    #[test]
    fn a_range_of_another_image_is_the_whole_one() {
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
                Wanted::Part(0..2)
            } else {
                Wanted::Whole
            };
            let headers = [("if-range", validator), ("range", "bytes=0-1")];
            assert_eq!(ask(Method::GET, &headers), expected, "{validator}");
            assert_eq!(ask(Method::GET, &headers[..1]), Wanted::Whole);
        }
        let past = [("if-range", OTHER), ("range", "bytes=10-")];
        assert_eq!(ask(Method::GET, &past), Wanted::Whole);
    }

    #[test]
    fn tags_come_before_dates_and_what_is_demanded_before_what_is_known() {
        use Wanted::{Another, NoSuchPart, Nothing, Part, Whole};
        let table: [(&[(&str, &str)], Wanted); 24] = [
            (&[("if-none-match", OURS)], Nothing),
            (&[("if-none-match", "W/\"ours\"")], Nothing),
            (&[("if-none-match", "\"other\" , W/\"ours\"")], Nothing),
            (
                &[("if-none-match", OTHER), ("if-none-match", OURS)],
                Nothing,
            ),
            (&[("if-none-match", "*")], Nothing),
            (&[("if-none-match", OTHER)], Whole),
            (
                &[("if-none-match", OTHER), ("if-modified-since", AFTER)],
                Whole,
            ),
            (
                &[("if-none-match", OURS), ("if-modified-since", BEFORE)],
                Nothing,
            ),
            (&[("if-modified-since", THEN)], Nothing),
            (&[("if-modified-since", AFTER)], Nothing),
            (&[("if-modified-since", BEFORE)], Whole),
            (&[("if-modified-since", "yesterday")], Whole),
            (
                &[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")],
                Nothing,
            ),
            (
                &[("if-modified-since", "Sun Nov  6 08:49:37 1994")],
                Nothing,
            ),
            (&[("if-match", OURS)], Whole),
            (&[("if-match", "*")], Whole),
            (&[("if-match", "W/\"ours\"")], Another),
            (&[("if-match", OTHER), ("if-none-match", OURS)], Another),
            (
                &[("if-match", OURS), ("if-unmodified-since", BEFORE)],
                Whole,
            ),
            (&[("if-match", OURS), ("if-none-match", OURS)], Nothing),
            (&[("if-unmodified-since", BEFORE)], Another),
            (
                &[("if-unmodified-since", THEN), ("range", "bytes=1-")],
                Part(1..10),
            ),
            (&[("if-none-match", OURS), ("range", "bytes=99-")], Nothing),
            (&[("if-match", OURS), ("range", "bytes=99-")], NoSuchPart),
        ];
        for (headers, expected) in table {
            assert_eq!(ask(Method::GET, headers), expected, "{headers:?}");
        }
    }
}
