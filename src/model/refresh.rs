//! How an imported image is kept up to date with its origin, the URL that it was imported from.

use std::time::Duration;

use crate::system::clock::Timestamp;

/// The longest time between two comparisons of an image with its origin.
pub const LONGEST: Duration = Duration::from_hours(30 * 24);

/// What the row of an image says about its origin. The URL is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The time from one comparison to the next.
    pub every: Duration,
    /// SHA-256 of the URL and of `every`, in hexadecimal. Two imports with this hash ask for the
    /// same image.
    pub origin: String,
    /// When the origin last confirmed or replaced the content; `None`: not since the import.
    pub checked_at: Option<Timestamp>,
    /// When the origin last replaced the content; `None`: never.
    pub replaced_at: Option<Timestamp>,
    /// SHA-256 of the content that was imported, once another one has replaced it.
    pub first_sha256: Option<String>,
}

impl Refresh {
    /// An image that is being imported.
    pub const fn new(every: Duration, origin: String) -> Self {
        Self {
            every,
            origin,
            checked_at: None,
            replaced_at: None,
            first_sha256: None,
        }
    }
}

/// Proof of the content that the server has, which an origin compares with its own (RFC 9110,
/// section 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// The header `ETag` of the response, as it was sent.
    pub etag: Option<String>,
    /// The header `Last-Modified` of the response, as it was sent.
    pub last_modified: Option<String>,
    /// SHA-256 of the URL that sent the response, after all redirects, in hexadecimal. The
    /// validators say nothing about another URL.
    pub url_sha256: String,
}

impl Validators {
    /// Whether an origin can compare anything.
    pub const fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// What the server has to know to fetch an image again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The URL of the import, in its canonical form.
    pub url: String,
    /// Whether the metadata in the file is kept.
    pub keeps_metadata: bool,
    /// The size limit of the import, in bytes.
    pub max_bytes: u64,
    /// The validators of the last response.
    pub validators: Validators,
}
