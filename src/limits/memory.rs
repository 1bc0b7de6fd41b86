//! How the memory for bodies is divided.

use crate::images::clean::GROWTH;

/// The unit of accounting, since a semaphore's permits are 32-bit.
pub(super) const UNIT_BYTES: u64 = 1024;
/// The fraction of the memory that is reserved for copies: 1/4.
pub(super) const PART_OF_COPIES: u64 = 4;

/// The least memory, in bytes, that accepts bodies of `longest_body` bytes with images of at most
/// `largest_image` bytes.
pub const fn least_body_bytes(longest_body: u64, largest_image: u64) -> u64 {
    let copies =
        (units(largest_image.saturating_add(GROWTH as u64))).saturating_mul(PART_OF_COPIES);
    // Three quarters are for the bodies.
    let bodies = units(longest_body).div_ceil(PART_OF_COPIES - 1) * PART_OF_COPIES;
    let most = if copies > bodies { copies } else { bodies };
    most.saturating_mul(UNIT_BYTES)
}

pub(super) const fn units(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT_BYTES)
}
