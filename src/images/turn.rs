//! Checks a received image when a place for it is free, and accounts for the memory that it takes
//! until it is stored.

use std::net::IpAddr;

use bytes::Bytes;
use tracing::Instrument;

use super::{Checked, Metadata, Rules, UploadError, check, length};
use crate::limits::{Limited, Limits, Room};
use crate::model::visibility::Visibility;

/// An image that was received, in a body or from its URL.
#[derive(Debug)]
pub struct ReceivedImage {
    /// The bytes as they were sent.
    pub bytes: Bytes,
    /// What the server does with the image's metadata.
    pub metadata: Metadata,
    /// The visibility of the image: public, or private with the wallet that may make links.
    pub visibility: Visibility,
    /// The share of the memory for request bodies that these bytes take.
    pub room: Room,
}

/// Checks the image of a client at `address` when a place for it is free.
///
/// # Errors
/// [`Limited`]: the image was not checked. `Ok(Err(_))`: it was checked and is refused.
pub async fn check_in_turn(
    limits: &Limits,
    address: Option<IpAddr>,
    received: ReceivedImage,
    rules: Rules<'_>,
) -> Result<Result<Checked, UploadError>, Limited> {
    let place = limits.enter_check(address).await?;
    let size = length(&received.bytes);
    // The check makes a cleaned copy, even if the original is stored in the end.
    let copy = if size <= rules.max_bytes {
        Some(limits.begin_copy(size).await?)
    } else {
        None
    };
    let tier = rules.tier.to_owned();
    let Rules {
        max_bytes,
        metadata,
        limits: pixels,
        ..
    } = rules;
    // The place stays taken until the work is done, even if the client disconnects before.
    let work = async move {
        let ReceivedImage {
            bytes,
            visibility,
            room,
            ..
        } = received;
        let rules = Rules {
            tier: &tier,
            max_bytes,
            metadata,
            limits: pixels,
        };
        let checked = check(bytes, rules).await;
        drop(place);
        // Only the bytes to be stored stay in memory from now on, until the payment is done: the
        // body, or a copy of its image alone.
        let held = checked.map(|checked| {
            let is_copy = checked.is_copy();
            checked.seen_by(visibility).held_by(|stored| {
                let room = if is_copy {
                    room.lowered(length(&stored))
                } else {
                    room
                };
                room.fill(stored)
            })
        });
        drop(copy);
        held
    };
    let done = tokio::spawn(work.in_current_span());
    Ok(done.await.unwrap_or(Err(UploadError::Interrupted)))
}
