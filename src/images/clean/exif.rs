//! Reads and rewrites the parts of Exif that change how a picture looks, by TIFF 6.0 and Exif 2.32.
//!
//! Browsers use three values: the orientation, the display size that a resolution asks for, and (in
//! photographs of iPhones) the headroom of a gain map. This module reads them as Chromium does: the
//! first block decides, whatever it contains; a truncated directory counts as far as it is there;
//! an entry counts by its type. Browsers ignore an orientation of another type, but libraries apply
//! it. It is kept as it is, so that each viewer shows the same picture as before.
//!
//! Malformed Exif is not an error. It contains nothing to keep.

use super::gain_map::Headroom;
use super::tiff::{Directory, Entry, Order, Tiff, Writer};

pub(super) mod kinds;

const ORIENTATION: u16 = 0x0112;
const X_RESOLUTION: u16 = 0x011a;
const Y_RESOLUTION: u16 = 0x011b;
const RESOLUTION_UNIT: u16 = 0x0128;
const EXIF_DIRECTORY: u16 = 0x8769;
const PIXEL_WIDTH: u16 = 0xa002;
const PIXEL_HEIGHT: u16 = 0xa003;
const MAKER_NOTE: u16 = 0x927c;

const LONG: u16 = 4;
const UNDEFINED: u16 = 7;
/// Dots per inch at which a pixel of the image is a pixel of CSS, as in browsers.
const PIXELS_AN_INCH: u64 = 72;
const UNIT_INCH: u16 = 2;

/// The parts of an Exif block that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exif {
    order: Order,
    orientation: Option<Orientation>,
    density: Density,
    /// Present only in a photograph with a gain map.
    headroom: Option<Headroom>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orientation {
    /// A single number of type short from 1 to 8, which every viewer applies.
    Applied(u8),
    /// Type and value of an orientation that browsers ignore and some libraries apply.
    Foreign(u16, [u8; 4]),
}

/// A resolution, and the size in pixels that belongs to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Density {
    x: Option<[u32; 2]>,
    y: Option<[u32; 2]>,
    unit: Option<u16>,
    width: Option<u32>,
    height: Option<u32>,
}

impl Exif {
    /// Reads TIFF bytes. `size` is the size of the stored pixels. Returns `None` if the bytes are
    /// not TIFF.
    pub(super) fn read(tiff: &[u8], size: (u32, u32)) -> Option<Self> {
        let tiff = Tiff::open(tiff)?;
        let mut exif = Self {
            order: tiff.order,
            orientation: None,
            density: Density::default(),
            headroom: None,
        };
        exif.take(&tiff, tiff.directory(tiff.first)?, true);
        if !exif.density.counts(size) {
            exif.density = Density::default();
        }
        Some(exif)
    }

    /// Sets the headroom of the photograph's gain map.
    pub(super) fn with_headroom(self, headroom: Option<Headroom>) -> Self {
        Self { headroom, ..self }
    }

    /// Drops the display size and the headroom, which only browsers use.
    pub(super) fn orientation_alone(self) -> Self {
        Self {
            density: Density::default(),
            ..self
        }
    }

    fn says_nothing(&self) -> bool {
        self.density == Density::default()
            && self.headroom.is_none()
            && matches!(self.orientation, None | Some(Orientation::Applied(1)))
    }

    fn take(&mut self, tiff: &Tiff<'_>, directory: Directory<'_>, is_root: bool) {
        for entry in directory {
            match entry.tag {
                ORIENTATION => self.take_orientation(&entry),
                EXIF_DIRECTORY if is_root => {
                    if let Some(directory) = entry.long().and_then(|at| tiff.directory(at)) {
                        self.take(tiff, directory, false);
                    }
                }
                X_RESOLUTION => self.density.x = self.density.x.or(tiff.rational(&entry)),
                Y_RESOLUTION => self.density.y = self.density.y.or(tiff.rational(&entry)),
                RESOLUTION_UNIT => self.density.unit = self.density.unit.or(entry.short()),
                PIXEL_WIDTH => self.density.width = self.density.width.or(entry.short_or_long()),
                PIXEL_HEIGHT => {
                    self.density.height = self.density.height.or(entry.short_or_long());
                }
                _ => {}
            }
        }
    }

    fn take_orientation(&mut self, entry: &Entry<'_>) {
        let applied = entry.short().and_then(|value| u8::try_from(value).ok());
        let applied = applied.filter(|value| (1..=8).contains(value));
        match (self.orientation, applied) {
            (Some(Orientation::Applied(_)), _) => {}
            (_, Some(value)) => self.orientation = Some(Orientation::Applied(value)),
            (None, None) if entry.is_orientation_of_another_type() => {
                self.orientation = Some(Orientation::Foreign(entry.kind, entry.value()));
            }
            (_, None) => {}
        }
    }

    /// The orientation that browsers apply, 1 to 8.
    pub(super) const fn orientation(&self) -> u8 {
        match self.orientation {
            Some(Orientation::Applied(value)) => value,
            Some(Orientation::Foreign(..)) | None => 1,
        }
    }

    /// Writes the smallest TIFF file with these values. Returns `None` if there are none.
    pub(super) fn to_tiff(&self) -> Option<Vec<u8>> {
        if self.says_nothing() {
            return None;
        }
        let mut root = Writer::new(self.order);
        match self.orientation {
            Some(Orientation::Applied(value)) => root.short(ORIENTATION, u16::from(value)),
            Some(Orientation::Foreign(kind, value)) => root.raw(ORIENTATION, kind, value),
            None => {}
        }
        if let Density {
            x: Some(x),
            y: Some(y),
            unit: Some(unit),
            ..
        } = self.density
        {
            root.rational(X_RESOLUTION, x);
            root.rational(Y_RESOLUTION, y);
            root.short(RESOLUTION_UNIT, unit);
        }
        let mut camera = Writer::new(self.order);
        if let Some(headroom) = self.headroom {
            camera.bytes(MAKER_NOTE, UNDEFINED, &headroom.to_maker_note());
        }
        if let (Some(width), Some(height)) = (self.density.width, self.density.height) {
            camera.long(PIXEL_WIDTH, width);
            camera.long(PIXEL_HEIGHT, height);
        }
        root.directory(EXIF_DIRECTORY, camera);
        Some(root.finish())
    }
}

impl Density {
    /// Whether the resolution makes a browser show another size than `size`. The resolution and the
    /// named size must agree.
    fn counts(&self, size: (u32, u32)) -> bool {
        let scaled = |side: u32, resolution: Option<[u32; 2]>| {
            let [over, under] = resolution?.map(u64::from);
            let dots = u64::from(side) * PIXELS_AN_INCH * under;
            (over > 0 && under > 0).then(|| (2 * dots + over) / (2 * over))
        };
        let named = (self.width.map(u64::from), self.height.map(u64::from));
        let shown = (scaled(size.0, self.x), scaled(size.1, self.y));
        let (width, height) = size;
        self.unit == Some(UNIT_INCH)
            && shown.0.is_some_and(|side| side > 0)
            && shown.1.is_some_and(|side| side > 0)
            && shown == named
            && named != (Some(width.into()), Some(height.into()))
    }
}

impl Entry<'_> {
    /// Whether the entry is an orientation from 1 to 8 whose type is not short.
    fn is_orientation_of_another_type(&self) -> bool {
        const SIGNED_SHORT: u16 = 8;
        const SIGNED_LONG: u16 = 9;
        let value = match self.kind {
            LONG | SIGNED_LONG => self.number(),
            SIGNED_SHORT => self.half(),
            _ => return false,
        };
        self.count == 1 && (1..=8).contains(&value)
    }
}

#[cfg(test)]
pub(super) mod tests;
