//! GIF: which blocks stay, by `GIF89a`, <https://www.w3.org/Graphics/GIF/spec-gif89a.txt>.
//!
//! Plain text goes. By the specification it takes the graphic control before it for itself; browsers
//! render no text and apply that control to the next frame. It stays, so that they still do.

use std::borrow::Cow;
use std::ops::Range;

use super::output::Output;
use crate::images::format::FormatError;
use crate::images::format::gif::{skip_colour_table, skip_sub_blocks};
use crate::images::format::reader::Reader;
use crate::model::image::Format;

/// Application identifiers with their length: both say how often an animation repeats.
const LOOPS: [&[u8; 12]; 2] = [b"\x0bNETSCAPE2.0", b"\x0bANIMEXTS1.0"];
/// A colour profile, as libwebp and `ImageMagick` read it.
const PROFILE: &[u8] = b"\x0bICCRGBG1012";

/// Copies screen, frames and what controls them, up to the trailer.
pub(super) fn clean(bytes: &[u8]) -> Result<Cow<'_, [u8]>, FormatError> {
    let mut reader = Reader::new(Format::Gif, bytes);
    let mut output = Output::new(bytes);
    reader.take(10, "signature and screen size")?;
    let [flags, _background, _aspect] = reader.array("screen descriptor")?;
    skip_colour_table(&mut reader, flags)?;
    output.keep(0..reader.offset());
    loop {
        let start = reader.offset();
        match reader.u8("block or trailer")? {
            b'!' => extension(&mut reader, &mut output, start)?,
            b',' => {
                reader.take(8, "frame rectangle")?;
                let flags = reader.u8("frame flags")?;
                skip_colour_table(&mut reader, flags)?;
                reader.u8("LZW code size")?;
                skip_sub_blocks(&mut reader)?;
                output.keep(start..reader.offset());
            }
            b';' => {
                output.keep(start..reader.offset());
                return Ok(output.finish());
            }
            other => {
                return Err(reader.corrupt(format_args!(
                    "at byte {start} should be a block or the trailer and is {other:02X}"
                )));
            }
        }
    }
}

fn extension(
    reader: &mut Reader<'_>,
    output: &mut Output<'_>,
    start: usize,
) -> Result<(), FormatError> {
    const GRAPHIC_CONTROL: u8 = 0xf9;
    const APPLICATION: u8 = 0xff;
    let label = reader.u8("extension label")?;
    let (body, body_start) = (reader.rest(), reader.offset());
    skip_sub_blocks(reader)?;
    let end = reader.offset();
    let body = body.get(..end - body_start).unwrap_or_default();
    match label {
        GRAPHIC_CONTROL => output.keep(start..end),
        APPLICATION => application(output, start..end, body),
        _ => {}
    }
    Ok(())
}

fn application(output: &mut Output<'_>, whole: Range<usize>, body: &[u8]) {
    if body.starts_with(PROFILE) {
        output.keep(whole);
        return;
    }
    let Some((name, data)) = body.split_first_chunk::<12>() else {
        return;
    };
    if !LOOPS.contains(&name) {
        return;
    }
    // The other sub-blocks that are known speak of buffering, and no browser listens.
    let Some(data) = first_loop(data) else {
        return;
    };
    if body.get(name.len()..) == Some(&data) {
        output.keep(whole);
    } else {
        output.write(b"!\xff");
        output.write(name);
        output.write(&data);
    }
}

/// The sub-block with the number of repetitions, as the only one of its extension.
fn first_loop(mut data: &[u8]) -> Option<[u8; 5]> {
    while let [len, rest @ ..] = data {
        let (block, rest) = rest.split_at_checked(usize::from(*len))?;
        if let [1, low, high, ..] = block {
            return Some([3, 1, *low, *high, 0]);
        }
        data = rest;
    }
    None
}

#[cfg(test)]
mod tests;
