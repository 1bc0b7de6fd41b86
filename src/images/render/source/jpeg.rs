//! Reads JPEG by the decoder of this program.

use super::{Colours, Head, Sink};
use crate::images::decode::jpeg::pixels::{self, Shape};
use crate::images::decode::jpeg::{Fault, Reason};
use crate::images::render::RenderError;
use crate::images::render::picture::Channels;
use crate::images::render::stop::Stop;

pub(super) fn read(bytes: &[u8], stop: &Stop, sink: &mut dyn Sink) -> Result<(), RenderError> {
    let shape = pixels::shape(bytes).map_err(|fault| failure(&fault))?;
    let side = sink.begin(head(&shape))?;
    let mut failed = None;
    let mut take = |row: &[u8]| {
        let taken = stop.check().and_then(|()| sink.row(row));
        taken.map_err(|error| failed = Some(error)).is_ok()
    };
    let read = pixels::read(bytes, side, stop.deadline(), &mut take);
    match failed {
        Some(error) => Err(error),
        None => read.map_err(|fault| failure(&fault)),
    }
}

/// What the segments before the first scan tell.
pub(in crate::images::render) fn head_of(bytes: &[u8]) -> Result<Head, RenderError> {
    let shape = pixels::shape(bytes).map_err(|fault| failure(&fault))?;
    Ok(head(&shape))
}

fn head(shape: &Shape) -> Head {
    Head {
        width: shape.width,
        height: shape.height,
        channels: match shape.channels {
            pixels::Channels::Grey => Channels::Grey,
            pixels::Channels::Rgb => Channels::Rgb,
            pixels::Channels::Cmyk => Channels::Cmyk,
        },
        colours: match &shape.profile {
            Some(profile) => Colours::Icc(profile.clone()),
            None => Colours::Unknown,
        },
        can_reduce: true,
        memory: shape.kept_bytes,
    }
}

fn failure(fault: &Fault) -> RenderError {
    match fault.reason {
        Reason::TimeLimit => RenderError::Stopped,
        _ => RenderError::Undecodable(fault.to_string()),
    }
}
