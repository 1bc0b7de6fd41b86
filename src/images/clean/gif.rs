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
    repetitions(output, whole, data);
}

/// Keeps the sub-blocks that say how often, in the form in which they say it: some readers look at every
/// one, some at the first alone, and some only if it has three bytes. What else stands in them or
/// before them becomes zero, as buffering that nobody does; what follows the last one goes.
fn repetitions(output: &mut Output<'_>, whole: Range<usize>, data: &[u8]) {
    const LOOP: u8 = 1;
    const BUFFERING: u8 = 2;
    const ZEROS: [u8; 255] = [0; 255];
    let head = |block: &[u8]| match block {
        [LOOP, low, high, ..] => [LOOP, *low, *high],
        _ => [BUFFERING, 0, 0],
    };
    let is_loop = |block: &[u8]| head(block).starts_with(&[LOOP]);
    let loops = sub_blocks(data)
        .enumerate()
        .filter(|(_, block)| is_loop(block));
    let Some((last, _)) = loops.last() else {
        return;
    };
    let mut source = whole.end.saturating_sub(data.len());
    output.keep(whole.start..source);
    for block in sub_blocks(data).take(last + 1) {
        let end = source.saturating_add(1).saturating_add(block.len());
        output.keep(source..end);
        source = end;
        let known = block.len().min(3);
        let at = output.len().saturating_sub(block.len());
        output.patch(at, head(block).get(..known).unwrap_or_default());
        let rest = ZEROS.get(..block.len() - known).unwrap_or_default();
        output.patch(at.saturating_add(known), rest);
    }
    output.keep(whole.end.saturating_sub(1)..whole.end);
}

/// The sub-blocks up to their terminator.
fn sub_blocks(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = data.split_first()?;
        let (block, rest) = rest.split_at_checked(usize::from(*len))?;
        data = rest;
        (*len > 0).then_some(block)
    })
}

#[cfg(test)]
mod tests;
