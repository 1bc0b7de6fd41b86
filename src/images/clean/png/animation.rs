//! Finds how much of an animation browsers play: as many frames as `acTL` announces, or as there
//! are. If it announces none or an impossible number, they show a still image.

use std::ops::RangeInclusive;

use super::chunks::Chunk;

/// The largest number in PNG: 31 bits.
const MAX_NUMBER: u32 = u32::MAX >> 1;

/// The chunks of the animation that are kept, by their index in the file.
#[derive(Default)]
pub(super) struct Animation {
    control: Option<usize>,
    frames: Vec<RangeInclusive<usize>>,
}

impl Animation {
    /// Reads the animation from the chunks of a file with this canvas.
    pub(super) fn of(chunks: &[Chunk<'_>], canvas: (u32, u32)) -> Self {
        let data_at = chunks.iter().position(|chunk| &chunk.kind == b"IDAT");
        let control = chunks.iter().position(|chunk| &chunk.kind == b"acTL");
        let control = control.filter(|at| Some(*at) < data_at);
        let announced = control.and_then(|at| announced(chunks.get(at)?));
        let Some(announced) = announced else {
            return Self::default();
        };
        let mut frames = frames(chunks, control.unwrap_or_default(), canvas);
        frames.truncate(usize::try_from(announced).unwrap_or(usize::MAX));
        let mut before_data = chunks.iter().take(data_at.unwrap_or_default());
        let has_first = before_data.any(|chunk| &chunk.kind == b"fcTL");
        if frames.is_empty() && has_first {
            // Browsers show nothing if the first frame is faulty. All chunks are kept, and the
            // probe refuses the file.
            frames.push(0..=chunks.len());
        } else if frames.is_empty() {
            return Self::default();
        }
        Self { control, frames }
    }

    /// Number of frames to keep.
    pub(super) fn frames(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(u32::MAX)
    }

    /// Whether the chunk with this index is kept.
    pub(super) fn keeps(&self, number: usize) -> bool {
        let following = self.frames.partition_point(|frame| *frame.end() < number);
        let is_in_frame = self
            .frames
            .get(following)
            .is_some_and(|frame| frame.contains(&number));
        self.control == Some(number) || is_in_frame
    }
}

/// The number of frames that browsers read from `acTL`. They ignore an `acTL` with an impossible
/// number of repetitions.
fn announced(control: &Chunk<'_>) -> Option<u32> {
    let number = number_at(control, 0).filter(|_| control.is_sound && control.body.len() == 8);
    let is_repeatable = number_at(control, 4).is_some_and(|plays| plays <= MAX_NUMBER);
    number.filter(|number| is_repeatable && (1..=MAX_NUMBER).contains(number))
}

/// The chunks of each frame, from its control to its last data. Browsers play the frames before the
/// first faulty one, or the first one without data.
fn frames(chunks: &[Chunk<'_>], control: usize, canvas: (u32, u32)) -> Vec<RangeInclusive<usize>> {
    let mut frames: Vec<RangeInclusive<usize>> = Vec::new();
    let mut open: Option<usize> = None;
    let mut sequence = 0_u32;
    for (number, chunk) in chunks.iter().enumerate().skip(control) {
        let is_numbered = matches!(&chunk.kind, b"fcTL" | b"fdAT");
        if is_numbered && number_at(chunk, 0) != Some(sequence) {
            break;
        }
        sequence = sequence.saturating_add(u32::from(is_numbered));
        match &chunk.kind {
            b"fcTL" if open.is_none() && is_frame(chunk, canvas) => open = Some(number),
            b"fcTL" => break,
            b"IDAT" | b"fdAT" => {
                if let Some(start) = open.take() {
                    frames.push(start..=number);
                } else if let Some(frame) = frames.last_mut() {
                    *frame = *frame.start()..=number;
                }
            }
            _ => {}
        }
    }
    frames
}

fn number_at(chunk: &Chunk<'_>, at: usize) -> Option<u32> {
    let bytes = chunk.body.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Whether a frame control is sound: complete, inside of the canvas, with known operations.
fn is_frame(chunk: &Chunk<'_>, canvas: (u32, u32)) -> bool {
    let fits = |side_at: usize, offset_at: usize, canvas: u32| {
        let (side, offset) = (number_at(chunk, side_at), number_at(chunk, offset_at));
        let end = side
            .zip(offset)
            .and_then(|(side, offset)| side.checked_add(offset));
        side.is_some_and(|side| side > 0) && end.is_some_and(|end| end <= canvas)
    };
    let operations = matches!(chunk.body.get(24..), Some([0..=2, 0..=1]));
    chunk.is_sound && operations && fits(4, 12, canvas.0) && fits(8, 16, canvas.1)
}
