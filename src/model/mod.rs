//! The plain types of the domain. No I/O.

pub mod api_key;
pub mod format;
pub mod ids;
pub mod image;
pub mod link;
pub mod mark;
pub mod metadata;
pub mod owner;
pub mod payment;
pub mod receipt;
pub mod sidecar;
pub mod signed_link;
pub mod token;
pub mod visibility;
