//! Decodes PNG and APNG: inflates the image data in a window, counts rows and checks their filters.
//!
//! The filters are not applied, because no bytes can make them fail. As in Chromium, the Adler-32
//! checksum is not compared and the announced window size is ignored. Data behind the last row are
//! ignored too, except that the next symbol must be sound as far as inflate reads it before it
//! needs room for another byte: viewers stop there.

use flate2::{Decompress, FlushDecompress, Status};

use super::deadline::Deadline;
use super::{Fault, array};

/// How many inflated bytes are processed at a time.
const WINDOW: usize = 64 * 1024;
/// The memory of the window and of inflate with its own window and tables, in bytes.
pub(super) const MEMORY: u64 = 192 * 1024;

pub(super) fn decode(bytes: &[u8], deadline: &mut Deadline) -> Result<(), Fault> {
    let mut at = 8_usize;
    let mut walk: Option<Walk> = None;
    while let Some(chunk) = Chunk::read(bytes, &mut at) {
        match (&chunk.kind, walk.as_mut()) {
            (b"IHDR", None) => walk = Some(Walk::start(&chunk)?),
            // Browsers do not show the default image of an animation if it is not one of the
            // frames.
            (b"IDAT", Some(walk)) if walk.animated && !walk.started => {}
            (b"IDAT", Some(walk)) => walk.feed(chunk.body, chunk.offset, deadline)?,
            (b"acTL", Some(walk)) => walk.animated = true,
            (b"fcTL", Some(walk)) => walk.control(&chunk)?,
            (b"fdAT", Some(walk)) => {
                walk.feed(
                    chunk.body.get(4..).unwrap_or_default(),
                    chunk.offset,
                    deadline,
                )?;
            }
            (b"IEND", _) => break,
            _ => {}
        }
    }
    match walk {
        Some(walk) if walk.started => walk.complete(),
        _ => Err(Fault::Corrupt("there is no image data".to_owned())),
    }
}

struct Chunk<'a> {
    kind: [u8; 4],
    offset: usize,
    body: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn read(bytes: &'a [u8], at: &mut usize) -> Option<Self> {
        let offset = *at;
        let len = u32::from_be_bytes(array(bytes, offset)?) as usize;
        let kind = array(bytes, offset.checked_add(4)?)?;
        let start = offset.checked_add(8)?;
        let end = start.checked_add(len)?;
        let body = bytes.get(start..end)?;
        *at = end.checked_add(4)?;
        Some(Self { kind, offset, body })
    }
}

/// The frame that is being decoded, and the state of the whole file.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact about the file so far"
)]
struct Walk {
    bits_per_pixel: u64,
    interlaced: bool,
    frame: u32,
    /// Data of an image or a frame control was found.
    started: bool,
    /// An animation was announced.
    animated: bool,
    size: (u32, u32),
    rows: Rows,
    header: Header,
    ended: bool,
    decompress: Decompress,
    window: Vec<u8>,
}

/// The two bytes of the zlib header. Two chunks may share them.
#[derive(Clone, Copy)]
enum Header {
    Missing,
    Half(u8),
    Read,
}

impl Walk {
    fn start(header: &Chunk<'_>) -> Result<Self, Fault> {
        let size = |at| array(header.body, at).map(u32::from_be_bytes);
        let (Some(width), Some(height), Some([depth, colour, _, _, interlace])) =
            (size(0), size(4), array(header.body, 8))
        else {
            return Err(Fault::Corrupt("IHDR is too short".to_owned()));
        };
        let samples = match colour {
            2 => 3,
            4 => 2,
            6 => 4,
            _ => 1,
        };
        let mut walk = Self {
            bits_per_pixel: samples * u64::from(depth),
            interlaced: interlace == 1,
            frame: 1,
            started: false,
            animated: false,
            size: (width, height),
            rows: Rows::default(),
            header: Header::Missing,
            ended: false,
            decompress: Decompress::new(false),
            window: vec![0; WINDOW],
        };
        walk.begin();
        Ok(walk)
    }

    /// Prepares for the data of an image of the current size.
    fn begin(&mut self) {
        self.rows = Rows::of(self.size, self.bits_per_pixel, self.interlaced);
        self.header = Header::Missing;
        self.ended = false;
        self.decompress.reset(false);
    }

    /// Starts a frame. The previous one must be complete.
    fn control(&mut self, chunk: &Chunk<'_>) -> Result<(), Fault> {
        let side = |at| array(chunk.body, at).map(u32::from_be_bytes);
        let (Some(width), Some(height)) = (side(4), side(8)) else {
            return Err(Fault::Corrupt("fcTL is too short".to_owned()));
        };
        if self.started {
            self.complete()?;
            self.frame = self.frame.saturating_add(1);
        }
        self.started = true;
        self.size = (width, height);
        self.begin();
        Ok(())
    }

    fn feed(&mut self, body: &[u8], offset: usize, deadline: &mut Deadline) -> Result<(), Fault> {
        self.started = true;
        let rest = self.skip_header(body, offset)?;
        if self.ended || rest.is_empty() {
            return Ok(());
        }
        self.inflate(rest, deadline).map_err(|fault| match fault {
            Fault::Corrupt(what) => Fault::Corrupt(format!(
                "the image data of frame {} in the chunk at byte {offset} {what}",
                self.frame
            )),
            Fault::Timeout => fault,
        })
    }

    /// Reads the rest of the zlib header. Returns the bytes behind it.
    fn skip_header<'a>(&mut self, body: &'a [u8], offset: usize) -> Result<&'a [u8], Fault> {
        let mut rest = body;
        while let Some((first, behind)) = rest.split_first() {
            match self.header {
                Header::Read => break,
                Header::Missing => self.header = Header::Half(*first),
                Header::Half(method) => {
                    let check = u16::from_be_bytes([method, *first]);
                    if method & 0x0f != 8
                        || method >> 4 > 7
                        || first & 0x20 != 0
                        || !check.is_multiple_of(31)
                    {
                        return Err(Fault::Corrupt(format!(
                            "the image data of frame {} at byte {offset} begins with {check:04X}, \
                             which is no stream of zlib",
                            self.frame
                        )));
                    }
                    self.header = Header::Read;
                }
            }
            rest = behind;
        }
        Ok(rest)
    }

    fn inflate(&mut self, mut deflated: &[u8], deadline: &mut Deadline) -> Result<(), Fault> {
        let Self {
            decompress, window, ..
        } = self;
        loop {
            let (before_in, before_out) = (decompress.total_in(), decompress.total_out());
            // No room for a byte behind the last row, so a fault in that byte is not found.
            let room = usize::try_from(self.rows.missing)
                .unwrap_or(WINDOW)
                .min(WINDOW);
            let room = window.get_mut(..room).unwrap_or_default();
            let status = decompress.decompress(deflated, room, FlushDecompress::None);
            let moved = |before: u64, now: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
            let read = moved(before_in, decompress.total_in());
            let written = moved(before_out, decompress.total_out());
            // The most expensive bytes are copies from a distance of two, one after the other.
            deadline.spend(
                u32::try_from(written)
                    .unwrap_or(u32::MAX)
                    .saturating_add(1024),
            )?;
            self.rows.pass(window.get(..written).unwrap_or_default())?;
            deflated = deflated.get(read..).unwrap_or_default();
            self.ended = self.rows.complete();
            match status {
                Ok(Status::StreamEnd) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(_) if self.ended || (read == 0 && written == 0) => return Ok(()),
                Ok(_) => {}
                Err(_) => return Err(Fault::Corrupt("can't be inflated".to_owned())),
            }
        }
    }

    /// Checks that the current frame has all its rows.
    fn complete(&self) -> Result<(), Fault> {
        if self.rows.complete() {
            return Ok(());
        }
        let (frame, row) = (self.frame, self.rows.done);
        Err(Fault::Corrupt(format!(
            "the image data of frame {frame} ends in row {row}"
        )))
    }
}

/// The rows of one image, in the order of its data.
#[derive(Default)]
struct Rows {
    /// Number of rows, and bytes in each with its filter byte, for each pass: one pass, or the
    /// seven of Adam7.
    passes: [(u32, usize); 7],
    pass: usize,
    /// Number of rows of this pass that have begun.
    row: u32,
    /// Number of bytes that are missing in the current row.
    left: usize,
    /// Number of complete rows in all passes.
    done: u32,
    /// Number of bytes that are missing in all rows.
    missing: u64,
}

impl Rows {
    fn of((width, height): (u32, u32), bits_per_pixel: u64, interlaced: bool) -> Self {
        const ADAM7: [(u32, u32, u32, u32); 7] = [
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ];
        let bytes = |width: u32| {
            let bits = u64::from(width).saturating_mul(bits_per_pixel);
            usize::try_from(bits.div_ceil(8))
                .unwrap_or(usize::MAX)
                .saturating_add(1)
        };
        let mut rows = Self::default();
        if interlaced {
            for (pass, (left, top, right, down)) in rows.passes.iter_mut().zip(ADAM7) {
                let width = width.saturating_sub(left).div_ceil(right);
                let height = height.saturating_sub(top).div_ceil(down);
                *pass = (if width == 0 { 0 } else { height }, bytes(width));
            }
        } else if let Some(pass) = rows.passes.first_mut() {
            *pass = (height, bytes(width));
        }
        for (rows_of_pass, len) in rows.passes {
            let len = u64::try_from(len).unwrap_or(u64::MAX);
            rows.missing = rows
                .missing
                .saturating_add(u64::from(rows_of_pass).saturating_mul(len));
        }
        rows.skip_empty();
        rows
    }

    /// Moves to the next pass that has rows.
    fn skip_empty(&mut self) {
        while self
            .passes
            .get(self.pass)
            .is_some_and(|(rows, _)| self.row >= *rows)
        {
            self.pass += 1;
            self.row = 0;
        }
    }

    const fn complete(&self) -> bool {
        self.pass >= self.passes.len() && self.left == 0
    }

    /// Takes inflated bytes.
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.missing = self.missing.saturating_sub(len);
        loop {
            let taken = self.left.min(bytes.len());
            bytes = bytes.get(taken..).unwrap_or_default();
            if taken > 0 {
                self.left -= taken;
                if self.left == 0 {
                    self.done = self.done.saturating_add(1);
                    self.skip_empty();
                }
            }
            let (Some(filter), Some((_, len))) = (bytes.first(), self.passes.get(self.pass)) else {
                return Ok(());
            };
            if *filter > 4 {
                let row = self.done;
                return Err(Fault::Corrupt(format!(
                    "has the unknown filter {filter} in row {row}"
                )));
            }
            self.left = *len;
            self.row += 1;
        }
    }
}
