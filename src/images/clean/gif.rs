//! Cleans GIF files, by `GIF89a`, <https://www.w3.org/Graphics/GIF/spec-gif89a.txt>.
//!
//! Plain text is removed. By the specification, the graphic control before it belongs to the text.
//! Browsers render no text and apply that control to the next frame. The control is kept, so that
//! they still do.
//!
//! A missing trailer is written. Junk in its place is removed, unless another frame follows the
//! junk: some viewers would show that frame and others not.

use std::ops::Range;

use super::output::Output;
use super::{Cleaned, kinds};
use crate::images::format::FormatError;
use crate::images::format::gif::{skip_colour_table, skip_sub_blocks};
use crate::images::format::reader::Reader;
use crate::model::image::Format;
use crate::model::metadata::{Kind, Kinds};

const PLAIN_TEXT: u8 = 0x01;
const GRAPHIC_CONTROL: u8 = 0xf9;
const COMMENT: u8 = 0xfe;
const APPLICATION: u8 = 0xff;
/// Application identifiers with their length. Both tell how often an animation repeats.
const LOOPS: [&[u8; 12]; 2] = [b"\x0bNETSCAPE2.0", b"\x0bANIMEXTS1.0"];
/// A colour profile, as libwebp and `ImageMagick` read it; browsers don't.
const PROFILE: &[u8] = b"\x0bICCRGBG1012";
/// Length of the smallest frame: rectangle, flags, code size and some data.
const SMALLEST_FRAME: usize = 13;
const XMP: &[u8] = b"\x0bXMP DataXMP";

/// Copies the screen, the frames and their controls, up to the trailer.
pub(super) fn clean(bytes: &[u8]) -> Result<Cleaned<'_>, FormatError> {
    let mut reader = Reader::new(Format::Gif, bytes);
    reader.take(10, "signature and screen size")?;
    let [flags, _background, _aspect] = reader.array("screen descriptor")?;
    skip_colour_table(&mut reader, flags)?;
    let mut walk = Walk {
        output: Output::new(bytes),
        removed: Kinds::default(),
        controls: Vec::new(),
        has_frame: false,
    };
    walk.output.keep(0..reader.offset());
    loop {
        let start = reader.offset();
        let block = match reader.peek(0) {
            Some(b'!') => extension(&mut reader),
            Some(b',') => frame(&mut reader),
            Some(b';') => {
                walk.output.keep(start..start + 1);
                if reader.left() > 1 {
                    walk.removed.add(Kind::Trailing);
                }
                break;
            }
            other => Err(no_block(&reader, other)),
        };
        match block {
            Ok(block) => {
                if walk.block(start..reader.offset(), block) {
                    break;
                }
            }
            Err(_) if walk.has_frame && ends_here(bytes.get(start..).unwrap_or_default()) => {
                walk.removed.add(Kind::Damage);
                walk.output.write(b";");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    if !walk.controls.is_empty() {
        walk.removed.add(Kind::Other);
    }
    Ok(walk.output.cleaned(walk.removed, 1))
}

struct Walk<'a> {
    output: Output<'a>,
    removed: Kinds,
    /// Graphic controls that wait for their frame. Viewers ignore one behind the last frame.
    controls: Vec<Range<usize>>,
    has_frame: bool,
}

impl Walk<'_> {
    /// Keeps the parts of a block that belong to the picture. Returns whether it was the last
    /// block.
    fn block(&mut self, whole: Range<usize>, block: Block<'_>) -> bool {
        match block {
            Block::Frame { cut } => {
                self.keep_controls();
                self.output.keep(whole);
                self.has_frame = true;
                if let Some(data) = cut {
                    self.close(data);
                }
                cut.is_some()
            }
            Block::Extension { label, body } => {
                match label {
                    GRAPHIC_CONTROL => self.controls.push(whole),
                    APPLICATION if self.application(whole, body) => {}
                    APPLICATION if body.starts_with(XMP) => self.removed.join(kinds::of_xmp(body)),
                    APPLICATION if body.starts_with(PROFILE) => self.removed.add(Kind::Profile),
                    PLAIN_TEXT | COMMENT => self.removed.add(Kind::Comment),
                    _ => self.removed.add(Kind::Other),
                }
                false
            }
        }
    }

    fn keep_controls(&mut self) {
        for control in self.controls.drain(..) {
            self.output.keep(control);
        }
    }

    /// Ends a frame that is cut by the end of the file, and the file. All pixels may be there
    /// nevertheless.
    fn close(&mut self, data: &[u8]) {
        for block in data.chunks(255) {
            self.output
                .write(&[u8::try_from(block.len()).unwrap_or_default()]);
            self.output.write(block);
        }
        self.output.write(b"\0;");
        self.removed.add(Kind::Damage);
    }

    /// Keeps the number of repetitions of an animation. Returns whether the block contained it.
    fn application(&mut self, whole: Range<usize>, body: &[u8]) -> bool {
        let Some((name, data)) = body.split_first_chunk::<12>() else {
            return false;
        };
        if !LOOPS.contains(&name) {
            return false;
        }
        let Some(last) = last_loop(data) else {
            return false;
        };
        self.keep_controls();
        repetitions(&mut self.output, whole, data, last);
        true
    }
}

/// A block before the trailer.
#[derive(Clone, Copy)]
enum Block<'a> {
    /// A frame. If the end of the file cuts it, with the data of its last sub-block.
    Frame {
        cut: Option<&'a [u8]>,
    },
    Extension {
        label: u8,
        body: &'a [u8],
    },
}

fn no_block(reader: &Reader<'_>, found: Option<u8>) -> FormatError {
    let at = reader.offset();
    let found = found.map_or("the end of the file".to_owned(), |byte| {
        format!("{byte:02X}")
    });
    reader.corrupt(format_args!(
        "at byte {at} should be a block or the trailer and is {found}"
    ))
}

/// Whether the picture ends before `rest`, which does not begin with a block. An extension that is
/// cut by the end of the file is the last block. In junk, libraries search for a frame.
fn ends_here(rest: &[u8]) -> bool {
    rest.first() == Some(&b'!') || !has_frame_ahead(rest)
}

fn has_frame_ahead(junk: &[u8]) -> bool {
    let before_trailer = junk.split(|byte| *byte == b';').next().unwrap_or_default();
    let at = before_trailer.iter().position(|byte| *byte == b',');
    at.is_some_and(|at| junk.len() - at >= SMALLEST_FRAME)
}

fn frame<'a>(reader: &mut Reader<'a>) -> Result<Block<'a>, FormatError> {
    reader.take(9, "frame rectangle")?;
    let flags = reader.u8("frame flags")?;
    skip_colour_table(reader, flags)?;
    reader.u8("LZW code size")?;
    loop {
        let Some(len) = reader.peek(0).map(usize::from) else {
            return Ok(Block::Frame { cut: Some(b"") });
        };
        if reader.left() <= len {
            let cut = reader.rest().get(1..).unwrap_or_default();
            return Ok(Block::Frame { cut: Some(cut) });
        }
        reader.take(len + 1, "sub-block")?;
        if len == 0 {
            return Ok(Block::Frame { cut: None });
        }
    }
}

fn extension<'a>(reader: &mut Reader<'a>) -> Result<Block<'a>, FormatError> {
    reader.u8("extension")?;
    let label = reader.u8("extension label")?;
    let body = reader.rest();
    skip_sub_blocks(reader)?;
    let body = body.get(..body.len() - reader.left()).unwrap_or_default();
    Ok(Block::Extension { label, body })
}

const LOOP: u8 = 1;

/// The index of the last sub-block that contains the number of repetitions.
fn last_loop(data: &[u8]) -> Option<usize> {
    let loops = sub_blocks(data)
        .enumerate()
        .filter(|(_, block)| matches!(block, [LOOP, _, _, ..]));
    loops.last().map(|(number, _)| number)
}

/// Keeps the sub-blocks with the number of repetitions, up to `last`, in their form: some readers
/// look at all of them, some at the first alone, and some only if it has three bytes. Other
/// sub-blocks before `last` become empty buffering requests, which no reader uses. Other bytes become
/// zero, and sub-blocks behind `last` are removed.
fn repetitions(output: &mut Output<'_>, whole: Range<usize>, data: &[u8], last: usize) {
    const BUFFERING: u8 = 2;
    const ZEROS: [u8; 255] = [0; 255];
    let head = |block: &[u8]| match block {
        [LOOP, low, high, ..] => [LOOP, *low, *high],
        _ => [BUFFERING, 0, 0],
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
