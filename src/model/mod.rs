//! The domain's plain types. No I/O.

pub mod image;
pub mod payment;
pub mod token;
