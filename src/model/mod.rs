//! The plain types of the domain. No I/O.

pub mod admin_log;
pub mod api_key;
pub mod block;
pub mod client_kind;
pub mod format;
pub mod ids;
pub mod image;
pub mod link;
pub mod look;
pub mod mark;
pub mod metadata;
pub mod owner;
pub mod payment;
pub mod pdq;
pub mod proof;
pub mod receipt;
pub mod refresh;
pub mod removal;
pub mod report;
pub mod sidecar;
pub mod signed_link;
pub mod token;
pub mod variant;
pub mod visibility;
