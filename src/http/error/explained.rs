//! What an error page shows of an error. Each error response carries it in its extensions.

use super::codes::{Action, Code};

/// An error in words.
#[derive(Debug, Clone)]
pub(in crate::http) struct Explained {
    /// The code.
    pub(in crate::http) code: Code,
    /// The message of the response.
    pub(in crate::http) message: String,
    /// What to do next.
    pub(in crate::http) action: Action,
    /// How long to wait before the next request.
    pub(in crate::http) seconds: Option<u32>,
}
