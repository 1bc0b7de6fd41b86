//! Reduces ICC profiles to the parts that colour transforms read, by ICC.1:2022 and ICC.1:2001.
//!
//! A profile of one display or printer identifies it: maker, model and serial number stand in
//! private tags, descriptions and header fields, and its date tells when the owner calibrated the
//! device. [`clean_profile`] keeps, bit for bit, the tags and the header fields that colour
//! management reads. It removes everything else, so unknown tags are removed too.
//!
//! Required texts are replaced: readers such as `ColorSync` reject a profile without a description
//! or a copyright. The names of well-known profiles are kept, because tools recognise profiles by
//! them.

pub(in crate::images::clean) mod jpeg;
pub(in crate::images::clean) mod png;
mod text;

use std::borrow::Cow;
use std::ops::Range;

/// Length of the header. The number of tags follows it.
const HEADER_LEN: usize = 128;
const TABLE_AT: usize = HEADER_LEN + 4;
const ENTRY_LEN: usize = 12;

/// The result of cleaning a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::images::clean) enum Profile {
    /// The profile contains only colours and stays unchanged.
    Unchanged,
    /// The profile without private parts, never longer than the input. Cleaning it again gives
    /// [`Profile::Unchanged`].
    Rewritten(Vec<u8>),
    /// Chromium does not accept the bytes as a profile and ignores them. They should not be stored.
    Invalid,
}

/// Removes the parts of an ICC profile that no colour transform reads. The input is the whole
/// profile: joined from its parts in JPEG, inflated in PNG.
///
/// A profile is [`Profile::Invalid`] if Chromium's reader rejects its header or its tag table. This
/// also holds if the fault is in a tag that cleaning removes: without that tag, Chromium would
/// begin to use the profile.
pub(in crate::images::clean) fn clean_profile(profile: &[u8]) -> Profile {
    match rebuild(profile) {
        Some(rebuilt) if rebuilt == profile => Profile::Unchanged,
        Some(rebuilt) => Profile::Rewritten(rebuilt),
        None => Profile::Invalid,
    }
}

fn rebuild(bytes: &[u8]) -> Option<Vec<u8>> {
    let declared = usize::try_from(u32_at(bytes, 0)?).ok()?;
    // No reader reads bytes behind the declared end.
    let profile = bytes.get(..declared)?;
    check_header(profile)?;
    let blocks = merge(read_tags(profile)?)?;
    write(profile, &blocks)
}

/// The checks that Chromium makes before it reads tags.
fn check_header(profile: &[u8]) -> Option<()> {
    let version = *profile.get(8)?;
    let is_profile = profile.get(36..40)? == b"acsp" && version <= 4;
    let connection_space = profile.get(20..24)?;
    let illuminant = [(68, 0xf6d6_u32), (72, 0x1_0000), (76, 0xd32d)];
    // D50, with a tolerance of a hundredth.
    let is_d50 = illuminant
        .into_iter()
        .all(|(at, wanted)| u32_at(profile, at).is_some_and(|found| found.abs_diff(wanted) <= 655));
    (is_profile && is_d50 && matches!(connection_space, b"XYZ " | b"Lab ")).then_some(())
}

/// A tag that is kept: the place of its data, and the data to write there.
struct Tag<'a> {
    signature: [u8; 4],
    place: Range<usize>,
    data: Cow<'a, [u8]>,
}

/// The tags to keep, in the order of the table. Returns `None` if Chromium rejects the whole table.
fn read_tags(profile: &[u8]) -> Option<Vec<Tag<'_>>> {
    let count = usize::try_from(u32_at(profile, HEADER_LEN)?).ok()?;
    let table = profile
        .get(TABLE_AT..)?
        .get(..count.checked_mul(ENTRY_LEN)?)?;
    let table_end = TABLE_AT + table.len();
    let mut tags: Vec<Tag<'_>> = Vec::new();
    for entry in table.chunks_exact(ENTRY_LEN) {
        let signature: [u8; 4] = *entry.first_chunk()?;
        let start = usize::try_from(u32_at(entry, 4)?).ok()?;
        let len = usize::try_from(u32_at(entry, 8)?).ok()?;
        let data = profile.get(start..start.checked_add(len)?)?;
        if len < 4 {
            return None;
        }
        // Readers take the first of two equal tags. A tag inside of the header or of the table
        // would change with them.
        let second = tags.iter().any(|tag| tag.signature == signature);
        if second || start < table_end {
            continue;
        }
        let data = match &signature {
            b"desc" => text::description(data).map(Cow::Owned),
            b"cprt" => text::copyright(data).map(Cow::Owned),
            signature => is_colour(*signature).then_some(Cow::Borrowed(used_part(data))),
        };
        if let Some(data) = data {
            let place = if is_colour(signature) {
                start..start + data.len()
            } else {
                start..start + len
            };
            tags.push(Tag {
                signature,
                place,
                data,
            });
        }
    }
    Some(tags)
}

/// Whether colour transforms read this tag, by the source code of `LittleCMS`, `skcms`, `qcms` and
/// `moxcms`. They do not read measured light (`lumi`, `meas`), viewing conditions (`view`, `vued`),
/// gamma tables of graphics cards (`vcgt`) and descriptions of devices (`dmnd`, `dmdd`, `pseq`,
/// `mmod`).
fn is_colour(signature: [u8; 4]) -> bool {
    matches!(
        &signature,
        // Matrix and curves.
        b"rXYZ" | b"gXYZ" | b"bXYZ" | b"rTRC" | b"gTRC" | b"bTRC" | b"kTRC"
        // White, black, and the adaptation to D50.
        | b"wtpt" | b"bkpt" | b"chad"
        // Tables, for each rendering intent, as integers and as floats.
        | b"A2B0" | b"A2B1" | b"A2B2" | b"A2B3" | b"B2A0" | b"B2A1" | b"B2A2" | b"B2A3"
        | b"D2B0" | b"D2B1" | b"D2B2" | b"D2B3" | b"B2D0" | b"B2D1" | b"B2D2" | b"B2D3"
        | b"gamt" | b"pre0" | b"pre1" | b"pre2"
        // Code points of video, named colours.
        | b"cicp" | b"ncl2"
    )
}

/// The bytes of a tag that belong to its type, for types of simple length. Other bytes may follow
/// them.
fn used_part(data: &[u8]) -> &[u8] {
    let used = match data.first_chunk() {
        Some(b"XYZ ") => Some(20),
        // A matrix of three by three.
        Some(b"sf32") => Some(8 + 9 * 4),
        Some(b"cicp") => Some(12),
        Some(b"curv") => u32_at(data, 8)
            .and_then(|count| usize::try_from(count).ok()?.checked_mul(2)?.checked_add(12)),
        Some(b"para") => match data.get(8..10) {
            Some([0, 0]) => Some(12 + 4),
            Some([0, 1]) => Some(12 + 3 * 4),
            Some([0, 2]) => Some(12 + 4 * 4),
            Some([0, 3]) => Some(12 + 5 * 4),
            Some([0, 4]) => Some(12 + 7 * 4),
            _ => None,
        },
        _ => None,
    };
    used.and_then(|used| data.get(..used)).unwrap_or(data)
}

/// Bytes that are written once, for one tag or for several that share them.
struct Block<'a> {
    place: Range<usize>,
    data: Cow<'a, [u8]>,
    /// The signatures of the tags, and the place of each in the block.
    tags: Vec<([u8; 4], Range<usize>, usize)>,
}

/// Joins tags that share bytes, in the order of their places. A text that shares bytes with colours
/// is removed, because it would have to change without them.
fn merge(mut tags: Vec<Tag<'_>>) -> Option<Vec<Block<'_>>> {
    let order: Vec<[u8; 4]> = tags.iter().map(|tag| tag.signature).collect();
    let colours: Vec<Range<usize>> = tags
        .iter()
        .filter(|tag| is_colour(tag.signature))
        .map(|tag| tag.place.clone())
        .collect();
    tags.retain(|tag| {
        is_colour(tag.signature) || !colours.iter().any(|place| overlap(place, &tag.place))
    });
    tags.sort_by_key(|tag| (tag.place.start, tag.place.end));
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for tag in tags {
        let Tag {
            signature,
            place,
            data,
        } = tag;
        let rank = order.iter().position(|found| *found == signature)?;
        match blocks.last_mut() {
            Some(block) if overlap(&block.place, &place) => {
                if is_colour(signature) {
                    let at = place.start - block.place.start;
                    join(block, &place, &data)?;
                    block.tags.push((signature, at..at + place.len(), rank));
                } else if block.place == place {
                    // If two texts have the same place, the first one decides the text of both.
                    block.tags.push((signature, 0..block.data.len(), rank));
                }
            }
            _ => {
                let tags = vec![(signature, 0..data.len(), rank)];
                blocks.push(Block { place, data, tags });
            }
        }
    }
    Some(blocks)
}

const fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Extends a block by the part of a further tag behind the block's end.
fn join(block: &mut Block<'_>, place: &Range<usize>, data: &[u8]) -> Option<()> {
    if place.end > block.place.end {
        let known = block.place.end - place.start;
        block.data.to_mut().extend_from_slice(data.get(known..)?);
        block.place.end = place.end;
    }
    Some(())
}

/// Writes each block at the first free place with the same remainder by four as its old place. No
/// block moves back, so the result is never longer than the profile, and a profile without gaps
/// stays unchanged.
fn write(profile: &[u8], blocks: &[Block<'_>]) -> Option<Vec<u8>> {
    let count: usize = blocks.iter().map(|block| block.tags.len()).sum();
    let mut out = header(profile)?;
    out.extend_from_slice(&u32::try_from(count).ok()?.to_be_bytes());
    let table_end = TABLE_AT + count * ENTRY_LEN;
    out.resize(table_end, 0);
    let mut entries = Vec::with_capacity(count);
    for block in blocks {
        pad(&mut out, block.place.start);
        let start = out.len();
        out.extend_from_slice(&block.data);
        for (signature, within, rank) in &block.tags {
            entries.push((rank, *signature, start + within.start, within.len()));
        }
    }
    pad(&mut out, profile.len());
    entries.sort_unstable();
    let table: Vec<u8> = entries
        .into_iter()
        .map(|(_, signature, start, len)| {
            let (start, len) = (u32::try_from(start).ok()?, u32::try_from(len).ok()?);
            Some([signature, start.to_be_bytes(), len.to_be_bytes()].concat())
        })
        .collect::<Option<Vec<_>>>()?
        .concat();
    out.get_mut(TABLE_AT..table_end)?.copy_from_slice(&table);
    let len = u32::try_from(out.len()).ok()?.to_be_bytes();
    out.get_mut(..4)?.copy_from_slice(&len);
    Some(out)
}

/// Adds zeros until the length has the same remainder by four as `like`.
fn pad(out: &mut Vec<u8>, like: usize) {
    while out.len() % 4 != like % 4 {
        out.push(0);
    }
}

/// Keeps version, class, colour spaces, flags, attributes, intent and illuminant. The rest is zero:
/// size (written last), colour engine, date, platform, manufacturer, model, creator, and the
/// profile's checksum.
fn header(profile: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; HEADER_LEN];
    for kept in [8..10, 12..24, 36..40, 64..80] {
        out.get_mut(kept.clone())?
            .copy_from_slice(profile.get(kept)?);
    }
    // The other bits belong to vendors.
    *out.get_mut(47)? = profile.get(47)? & 0x03;
    *out.get_mut(63)? = profile.get(63)? & 0x0f;
    Some(out)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(super) mod tests;
