//! Checks an uploaded file before any charge: the format, the limits, and that viewers show the
//! image. Removes metadata that the owner may not have meant to publish.
//!
//! A file is cleaned first, then its structure is walked, then it is decoded. The walk and the
//! decoder read the cleaned bytes, which are the bytes to store, so they also catch mistakes of the
//! cleaner.

use std::borrow::Cow;

use bytes::Bytes;

use super::clean::Cleaned;
use super::format::{FormatError, PixelLimits, format_of, probe};
use super::pipeline::cleaned;
use super::{Metadata, Refusal, UploadError, length};
use crate::keys::secrets::sha256_hex;
use crate::model::format::Format;
use crate::model::metadata::{Kind, Metadata as Outcome};
use crate::model::visibility::Visibility;
use crate::system::pages;
use crate::system::workers;

/// The rules that an upload must keep.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The name of the tier, for error messages.
    pub tier: &'a str,
    /// The largest upload that the tier accepts, in bytes.
    pub max_bytes: u64,
    /// Whether the server removes or keeps the metadata in the file.
    pub metadata: Metadata,
    /// The limits on pixels.
    pub limits: PixelLimits,
}

/// An upload that passed all checks, with the bytes to store.
#[derive(Debug, Clone)]
pub struct Checked {
    stored: Bytes,
    picture: Picture,
    sha256: String,
    upload_bytes: u64,
    upload_sha256: String,
    visibility: Visibility,
}

/// An image as viewers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// The format of the image, told by its bytes.
    pub format: Format,
    /// Width in pixels as browsers show it: the Exif orientation is applied, and the screen of a
    /// GIF is extended by its first frame.
    pub width: u32,
    /// Height in pixels as browsers show it, by the same rules as the width.
    pub height: u32,
    /// Number of frames that are shown; 1 for a still image.
    pub frames: u32,
    /// The metadata that was removed, or that was found and kept.
    pub metadata: Outcome,
}

impl Checked {
    /// Replaces the bytes to store by what `hold` returns for them. Use it to tie another resource,
    /// such as a memory permit, to their lifetime.
    #[must_use]
    pub fn held_by(self, hold: impl FnOnce(Bytes) -> Bytes) -> Self {
        Self {
            stored: hold(self.stored),
            ..self
        }
    }

    /// Sets who may see the image. Without it, the image is public.
    #[must_use]
    pub fn seen_by(self, visibility: Visibility) -> Self {
        Self { visibility, ..self }
    }

    /// The visibility of the image: public, or private with the wallet that may make links.
    pub const fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// The hash that a payment is bound to: that of the uploaded bytes and of who may see them.
    pub fn bound_sha256(&self) -> String {
        self.visibility.bind(&self.upload_sha256)
    }

    /// The bytes to store.
    pub const fn stored(&self) -> &Bytes {
        &self.stored
    }

    /// SHA-256 of the uploaded bytes, in hexadecimal. Two uploads with this hash are the same
    /// upload.
    pub fn upload_sha256(&self) -> &str {
        &self.upload_sha256
    }

    /// The image as viewers show it.
    pub const fn picture(&self) -> Picture {
        self.picture
    }

    /// SHA-256 of the bytes to store, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether the bytes to store differ from the uploaded bytes.
    pub fn is_copy(&self) -> bool {
        self.sha256 != self.upload_sha256
    }

    /// Length of the bytes to store.
    pub fn stored_bytes(&self) -> u64 {
        length(&self.stored)
    }

    /// Length of the uploaded bytes, which the limits of tiers and quotas count.
    pub const fn upload_bytes(&self) -> u64 {
        self.upload_bytes
    }
}

/// Checks the size and the content of an upload, and cleans it. Runs on a worker thread.
/// A large image waits until memory for decoding it is free.
///
/// # Errors
/// [`UploadError::Refused`] if the upload breaks a rule, [`UploadError::Interrupted`] if the worker
/// stopped.
pub async fn check(bytes: Bytes, rules: Rules<'_>) -> Result<Checked, UploadError> {
    let upload_bytes = length(&bytes);
    if upload_bytes > rules.max_bytes {
        let tier = rules.tier.to_owned();
        return Err(Refusal::TooLarge {
            bytes: upload_bytes,
            at_least: false,
            limit: rules.max_bytes,
            tier,
        }
        .into());
    }
    let Rules {
        metadata, limits, ..
    } = rules;
    workers::run(move || {
        let Examined { picture, changed } = examine(&bytes, metadata, limits)?;
        let upload_sha256 = sha256_hex(&bytes);
        let sha256 = changed
            .as_deref()
            .map_or_else(|| upload_sha256.clone(), sha256_hex);
        Ok(Checked {
            stored: changed.map_or(bytes, pages::own),
            picture,
            sha256,
            upload_bytes,
            upload_sha256,
            visibility: Visibility::Public,
        })
    })
    .await
    .ok_or(UploadError::Interrupted)?
}

/// A file that passed all checks of its content.
#[derive(Debug)]
pub struct Examined {
    /// The image as viewers show it.
    pub picture: Picture,
    /// The bytes to store, if they differ from the given bytes.
    pub changed: Option<Vec<u8>>,
}

/// Checks the content of a file as its upload would, without storing anything.
///
/// # Errors
/// [`Refusal::Format`]. If metadata is to be kept, also [`Refusal::Trailing`] and
/// [`Refusal::Damaged`].
pub fn examine(bytes: &[u8], metadata: Metadata, limits: PixelLimits) -> Result<Examined, Refusal> {
    let format = format_of(bytes)?;
    let (probe, cleaned) = cleaned(bytes, format, limits)?;
    let Cleaned {
        bytes: stored,
        removed,
        is_turned,
        ..
    } = cleaned;
    let (width, height) = if is_turned {
        (probe.height, probe.width)
    } else {
        (probe.width, probe.height)
    };
    let picture = |metadata| Picture {
        format,
        width,
        height,
        frames: probe.frames,
        metadata,
    };
    match metadata {
        Metadata::Remove => Ok(Examined {
            picture: picture(Outcome::Removed(removed)),
            changed: match stored {
                Cow::Owned(changed) => Some(changed),
                Cow::Borrowed(_) => None,
            },
        }),
        Metadata::Keep => {
            if removed.has(Kind::Trailing) {
                return Err(Refusal::Trailing);
            }
            // A stored file must be sound, and the cleaner may have repaired damage in a part that
            // `keep` would store.
            probe_kept(bytes, limits, removed.has(Kind::Damage))?;
            Ok(Examined {
                picture: picture(Outcome::Kept(removed)),
                changed: None,
            })
        }
    }
}

fn probe_kept(bytes: &[u8], limits: PixelLimits, is_damaged: bool) -> Result<(), Refusal> {
    match probe(bytes, limits) {
        Ok(_) if !is_damaged => Ok(()),
        Ok(_) => Err(Refusal::Damaged(
            "it breaks a rule of its format that viewers tolerate".to_owned(),
        )),
        Err(FormatError::Corrupt { what, .. }) => Err(Refusal::Damaged(what)),
        Err(error) => Err(error.into()),
    }
}
