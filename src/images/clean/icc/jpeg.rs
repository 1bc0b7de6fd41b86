//! ICC profiles in JPEG files: split into parts, each in an APP2 segment, by ICC.1:2022, annex B.4.

use std::borrow::Cow;

use super::{Profile, clean_profile};

const NAME: &[u8] = b"ICC_PROFILE\0";
/// The name, the number of the part (from 1), and the number of parts.
const HEAD_LEN: usize = 14;
const MAX_PART_LEN: usize = 0xffff - 2 - HEAD_LEN;

/// The segments of an image's cleaned profile, with their markers. Empty if there is no profile, or
/// if it is removed. `bodies` are those of all APP2 segments before the first scan, in order.
///
/// The profile is split into as few parts as possible, in order. A clean profile that was split
/// like this stays unchanged, and no result is longer than its source.
pub(in crate::images::clean) fn clean_segments<'a>(
    bodies: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let Some(joined) = join(bodies) else {
        return Vec::new();
    };
    match clean_profile(&joined) {
        Profile::Unchanged => split(&joined),
        Profile::Rewritten(profile) => split(&profile),
        Profile::Invalid => Vec::new(),
    }
}

/// Joins the parts as Chromium does. It ignores empty parts, and parts after the last one that was
/// missing. Parts that contradict each other are not a profile.
fn join<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Option<Cow<'a, [u8]>> {
    let mut parts: Vec<Option<&[u8]>> = Vec::new();
    let mut missing = 0;
    for body in bodies {
        let Some((number, count, part)) = read_part(body) else {
            continue;
        };
        if parts.is_empty() {
            parts.resize(count, None);
            missing = count;
        }
        if parts.len() != count {
            return None;
        }
        let place = parts.get_mut(number.checked_sub(1)?)?;
        if place.is_some() {
            return None;
        }
        *place = Some(part);
        missing -= 1;
        if missing == 0 {
            let parts: Vec<&[u8]> = parts.into_iter().flatten().collect();
            return Some(match parts.as_slice() {
                [part] => Cow::Borrowed(part),
                parts => Cow::Owned(parts.concat()),
            });
        }
    }
    None
}

fn read_part(body: &[u8]) -> Option<(usize, usize, &[u8])> {
    let [number, count, part @ ..] = body.strip_prefix(NAME)? else {
        return None;
    };
    (!part.is_empty()).then_some((usize::from(*number), usize::from(*count), part))
}

fn split(profile: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let parts = profile.chunks(MAX_PART_LEN);
    let count = u8::try_from(parts.len()).unwrap_or_default();
    for (number, part) in (1..=count).zip(parts) {
        let len = u16::try_from(part.len() + HEAD_LEN + 2).unwrap_or_default();
        out.extend_from_slice(b"\xff\xe2");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(NAME);
        out.extend_from_slice(&[number, count]);
        out.extend_from_slice(part);
    }
    out
}
