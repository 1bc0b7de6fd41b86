//! Reads segments (the frame, its tables and the headers of scans) with the checks of libjpeg.

use super::fault::{Fault, Reason};
use super::tables::{Spec, standard};

/// The longest side that libjpeg accepts, in pixels.
const MAX_SIDE: u16 = 65_500;

/// The size and the components of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images::decode) struct Frame {
    /// Width in pixels, before any orientation is applied.
    pub width: u16,
    /// Height in pixels, before any orientation is applied.
    pub height: u16,
    /// Whether the frame is progressive (SOF2) and not sequential (SOF0 or SOF1).
    pub progressive: bool,
    /// The components in the order of the frame: 1, 3 or 4.
    pub components: Vec<Component>,
}

/// A component of a [`Frame`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images::decode) struct Component {
    /// The id. Several components may have the same one.
    pub id: u8,
    /// Horizontal sampling factor, 1 to 4.
    pub h: u8,
    /// Vertical sampling factor, 1 to 4.
    pub v: u8,
    /// Number of blocks of 8 by 8 pixels in a row.
    pub blocks_wide: u32,
    /// Number of rows of blocks.
    pub blocks_high: u32,
    pub(super) quantization: u8,
    /// Whether a scan contained the component, so that its quantization table can't change any
    /// more.
    seen: bool,
}

impl Frame {
    pub(super) fn largest(&self) -> (u8, u8) {
        self.components.iter().fold((1, 1), |(h, v), component| {
            (h.max(component.h), v.max(component.v))
        })
    }
}

/// Reads big-endian values of one segment.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first)
    }
}

/// A component in a scan.
pub(super) struct ScanComponent {
    /// Index of the component in the frame.
    pub(super) index: usize,
    pub(super) dc: u8,
    pub(super) ac: u8,
}

/// The header of a scan.
pub(super) struct ScanHeader {
    pub(super) components: Vec<ScanComponent>,
    pub(super) ss: u8,
    pub(super) se: u8,
    pub(super) ah: u8,
    pub(super) al: u8,
}

/// Everything that the segments before a scan define.
#[derive(Default)]
pub(super) struct Headers {
    pub(super) frame: Option<Frame>,
    pub(super) restart_interval: u16,
    dc: [Option<Spec>; 4],
    ac: [Option<Spec>; 4],
    /// The quantization tables, in zigzag order.
    quantization: [Option<[u16; 64]>; 4],
    /// Slots (whether DC, and slot) of standard tables that the file does not define.
    implied: Vec<(bool, u8)>,
}

impl Headers {
    /// Reads the contents of a DQT segment.
    pub(super) fn quantization(&mut self, mut fields: Fields<'_>) -> Result<(), Reason> {
        while let Some(first) = fields.u8() {
            let slot = first & 15;
            let defined = self
                .quantization
                .get_mut(usize::from(slot))
                .ok_or(Reason::QuantizationSlot(slot))?;
            let is_wide = first >> 4 > 0;
            let length = if is_wide { 128 } else { 64 };
            let mut values = Fields(fields.bytes(length).ok_or(Reason::Length(0xdb))?);
            let mut table = [0; 64];
            for place in &mut table {
                let value = if is_wide {
                    values.u16()
                } else {
                    values.u8().map(u16::from)
                };
                *place = value.unwrap_or(0);
            }
            *defined = Some(table);
        }
        Ok(())
    }

    /// Reads the contents of a DHT segment.
    pub(super) fn huffman(&mut self, mut fields: Fields<'_>) -> Result<(), Reason> {
        while let Some(first) = fields.u8() {
            let length = Reason::Length(0xc4);
            let counts: [u8; 16] = *fields
                .bytes(16)
                .and_then(<[u8]>::first_chunk)
                .ok_or(length)?;
            let count = counts.iter().map(|&count| usize::from(count)).sum();
            let symbols = fields
                .bytes(count)
                .filter(|_| count <= 256)
                .ok_or(Reason::Huffman)?;
            let (slots, slot) = if first & 0x10 == 0 {
                (&mut self.dc, first)
            } else {
                (&mut self.ac, first - 0x10)
            };
            let place = slots
                .get_mut(usize::from(slot))
                .ok_or(Reason::HuffmanSlot(slot))?;
            *place = Some(Spec {
                counts,
                symbols: symbols.to_vec(),
            });
            self.implied
                .retain(|&implied| implied != (first & 0x10 == 0, slot));
        }
        Ok(())
    }

    /// Reads the contents of a DRI segment.
    pub(super) fn restart_interval(&mut self, mut fields: Fields<'_>) -> Result<(), Reason> {
        let interval = fields.u16().filter(|_| fields.0.is_empty());
        self.restart_interval = interval.ok_or(Reason::Length(0xdd))?;
        Ok(())
    }

    /// Reads the contents of a SOF segment.
    pub(super) fn frame(&mut self, code: u8, mut fields: Fields<'_>) -> Result<(), Reason> {
        if self.frame.is_some() {
            return Err(Reason::SecondFrame);
        }
        let length = || Reason::Length(code);
        let precision = fields.u8().ok_or_else(length)?;
        let height = fields.u16().ok_or_else(length)?;
        let width = fields.u16().ok_or_else(length)?;
        let count = fields.u8().ok_or_else(length)?;
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(Reason::Size(width, height));
        }
        if precision != 8 {
            return Err(Reason::Precision(precision));
        }
        if fields.0.len() != usize::from(count) * 3 {
            return Err(length());
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(Reason::Components(count));
        }
        let mut components = Vec::with_capacity(usize::from(count));
        while let (Some(id), Some(sampling), Some(quantization)) =
            (fields.u8(), fields.u8(), fields.u8())
        {
            let (h, v) = (sampling >> 4, sampling & 15);
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) {
                return Err(Reason::Sampling(h, v));
            }
            components.push(Component {
                id,
                h,
                v,
                blocks_wide: 0,
                blocks_high: 0,
                quantization,
                seen: false,
            });
        }
        let mut frame = Frame {
            width,
            height,
            progressive: code == 0xc2,
            components,
        };
        let (h, v) = frame.largest();
        for component in &mut frame.components {
            if h % component.h != 0 || v % component.v != 0 {
                return Err(Reason::FractionalSampling);
            }
            component.blocks_wide =
                (u32::from(width) * u32::from(component.h)).div_ceil(u32::from(h) * 8);
            component.blocks_high =
                (u32::from(height) * u32::from(component.v)).div_ceil(u32::from(v) * 8);
        }
        self.frame = Some(frame);
        Ok(())
    }

    /// Reads the contents of a SOS segment, and fixes the quantization tables of its components.
    pub(super) fn scan(&mut self, mut fields: Fields<'_>) -> Result<ScanHeader, Reason> {
        let frame = self.frame.as_mut().ok_or(Reason::NoFrame)?;
        let length = || Reason::Length(0xda);
        let count = fields.u8().ok_or_else(length)?;
        if !(1..=4).contains(&count) || fields.0.len() != usize::from(count) * 2 + 3 {
            return Err(length());
        }
        let mut components: Vec<ScanComponent> = Vec::with_capacity(4);
        for _ in 0..count {
            let (id, tables) = fields.u8().zip(fields.u8()).ok_or_else(length)?;
            // libjpeg-turbo takes the first component of this id whose *index* is not yet a place
            // in the scan. So components can share an id, and most scans that are out of the
            // frame's order are refused.
            let taken = components.len();
            let mut candidates = frame.components.iter().enumerate().skip(taken);
            let (index, _) = candidates
                .find(|(_, component)| component.id == id)
                .ok_or(Reason::ScanComponent(id))?;
            if components.iter().any(|component| component.index == index) {
                return Err(Reason::ScanComponent(id));
            }
            components.push(ScanComponent {
                index,
                dc: tables >> 4,
                ac: tables & 15,
            });
        }
        let (ss, se) = fields.u8().zip(fields.u8()).ok_or_else(length)?;
        let approximation = fields.u8().ok_or_else(length)?;
        let scan = ScanHeader {
            components,
            ss,
            se,
            ah: approximation >> 4,
            al: approximation & 15,
        };
        for part in &scan.components {
            let Some(component) = frame.components.get_mut(part.index) else {
                continue;
            };
            let slot = component.quantization;
            let defined = self
                .quantization
                .get(usize::from(slot))
                .is_some_and(Option::is_some);
            if !component.seen && !defined {
                return Err(Reason::NoQuantization(slot));
            }
            component.seen = true;
        }
        Ok(scan)
    }

    /// Defines the standard tables in the slots 0 and 1 that the file left undefined, as
    /// libjpeg-turbo does at the first scan of a sequential image.
    pub(super) fn imply_standard(&mut self) {
        for (dc, slots) in [(true, &mut self.dc), (false, &mut self.ac)] {
            for (slot, place) in (0..2).zip(slots) {
                if place.is_none() {
                    *place = standard(dc, slot);
                    self.implied.push((dc, slot));
                }
            }
        }
    }

    /// The standard tables that `scan` uses and the file does not define.
    pub(super) fn implied(&self, scan: &ScanHeader) -> Vec<(bool, u8)> {
        let used = |&&(dc, slot): &&(bool, u8)| {
            scan.components
                .iter()
                .any(|part| slot == if dc { part.dc } else { part.ac })
        };
        self.implied.iter().filter(used).copied().collect()
    }

    /// The Huffman table in `slot`, if it is defined and valid.
    pub(super) fn table(&self, dc: bool, slot: u8) -> Result<&Spec, Reason> {
        let slots = if dc { &self.dc } else { &self.ac };
        let spec = slots.get(usize::from(slot)).and_then(Option::as_ref);
        let spec = spec.ok_or(Reason::NoHuffman(dc, slot))?;
        if spec.is_valid(dc) {
            Ok(spec)
        } else {
            Err(Reason::Huffman)
        }
    }

    /// The quantization table of this component, in zigzag order.
    pub(super) fn quantization_of(&self, component: &Component) -> Option<[u16; 64]> {
        *self.quantization.get(usize::from(component.quantization))?
    }

    /// Whether each component was in a scan.
    pub(super) fn all_seen(&self) -> bool {
        self.frame
            .as_ref()
            .is_some_and(|frame| frame.components.iter().all(|component| component.seen))
    }
}

/// Checks a DAC segment as libjpeg does, although only arithmetic coding would use it.
pub(super) fn check_conditioning(mut fields: Fields<'_>) -> Result<(), Reason> {
    while let Some(index) = fields.u8() {
        let value = fields.u8().ok_or(Reason::Length(0xcc))?;
        if index >= 32 || index < 16 && value & 15 > value >> 4 {
            return Err(Reason::Marker(0xcc));
        }
    }
    Ok(())
}

impl Fault {
    /// Makes faults of the segment whose marker is at `offset`.
    pub(super) fn at(offset: usize) -> impl Fn(Reason) -> Self {
        move |reason| Self::new(offset, reason)
    }
}
