//! An eighth of the picture, gathered from the DC coefficients that the check of an upload reads.

use super::super::header::{Frame, Headers, ScanHeader};
use super::super::scan::Part;
use super::Channels;
use super::colour::Conversion;
use super::planes::Planes;
use super::rows::Strips;
use super::transform::Side;

/// A picture with one pixel for each block of 8 by 8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images) struct Small {
    /// Width and height of the whole picture in pixels, before any orientation is applied.
    pub(in crate::images) whole: (u32, u32),
    /// The meaning of the bytes.
    pub(in crate::images) channels: Channels,
    /// The rows, each an eighth of the width long, rounded up.
    pub(in crate::images) bytes: Vec<u8>,
}

impl Small {
    /// Whether the picture has enough pixels for the blurred preview of a look.
    pub(in crate::images) fn is_enough(&self) -> bool {
        self.whole.0.max(self.whole.1) >= 400
    }
}

/// The coefficients gathered so far.
pub(in super::super) struct Gathering {
    planes: Planes,
    strips: Strips,
    channels: Channels,
}

impl Gathering {
    /// Begins at the first scan. `has_jfif` and `adobe` are from the segments before it.
    pub(in super::super) fn new(frame: &Frame, has_jfif: bool, adobe: Option<u8>) -> Self {
        let conversion = Conversion::of(frame, has_jfif, adobe);
        Self {
            planes: Planes::new(frame, Side::ONE),
            strips: Strips::new(frame, Side::ONE, conversion),
            channels: conversion.channels(),
        }
    }

    /// Takes the coefficients of a scan.
    pub(in super::super) fn take(
        &mut self,
        headers: &Headers,
        scan: &ScanHeader,
        parts: &[Part<'_>],
    ) {
        if let Some(frame) = &headers.frame {
            self.strips.quantize(headers, frame, scan);
        }
        let places = self.planes.places(scan);
        for (part, layout) in parts.iter().zip(&places.parts) {
            let Some(plane) = self.planes.part(layout.index) else {
                continue;
            };
            let blocks = (0..places.total)
                .flat_map(|mcu| (0..layout.blocks()).map(move |number| (mcu, number)));
            for (&dc, (mcu, number)) in part.kept.iter().flatten().zip(blocks) {
                if let Some(place) = plane.block_mut(layout.block(mcu, number)).first_mut() {
                    *place = dc;
                }
            }
        }
    }

    /// The picture, after the last scan.
    pub(in super::super) fn finish(mut self, frame: &Frame) -> Option<Small> {
        let mut bytes = Vec::new();
        let mut take = |row: &[u8]| {
            bytes.extend_from_slice(row);
            true
        };
        self.planes.show(&mut self.strips, &mut take).ok()?;
        Some(Small {
            whole: (u32::from(frame.width), u32::from(frame.height)),
            channels: self.channels,
            bytes,
        })
    }
}
