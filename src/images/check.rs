//! What an upload has to be: an image that viewers show, within the limits, without what its owner didn't mean to publish.
//!
//! The way of the bytes: cleaned, walked, decoded. Walk and decoder look at what is going to be stored, so a mistake of
//! cleaning ends here, before anyone pays.

use std::borrow::Cow;

use bytes::Bytes;

use super::clean::Cleaned;
use super::format::{FormatError, PixelLimits, format_of, probe};
use super::sound::cleaned;
use super::{Metadata, Refusal, UploadError, length};
use crate::model::format::Format;
use crate::model::metadata::{Kind, Metadata as Outcome};
use crate::pages;
use crate::secrets::sha256_hex;
use crate::workers;

/// What an upload is held to.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The tier, for messages.
    pub tier: &'a str,
    /// The largest upload.
    pub max_bytes: u64,
    /// What becomes of the metadata in the file.
    pub metadata: Metadata,
    /// The bounds on pixels.
    pub limits: PixelLimits,
}

/// Bytes that were found to be an image that a tier takes, and what is stored of them.
#[derive(Debug, Clone)]
pub struct Checked {
    stored: Bytes,
    picture: Picture,
    sha256: String,
    upload_bytes: u64,
    upload_sha256: String,
}

/// What viewers show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// The format of the bytes.
    pub format: Format,
    /// Width in pixels as browsers show it: the orientation is applied, a GIF's screen is extended by its first frame.
    pub width: u32,
    /// Height in pixels as browsers show it.
    pub height: u32,
    /// Frames: 1 for a still image.
    pub frames: u32,
    /// What became of the metadata.
    pub metadata: Outcome,
}

impl Checked {
    /// The same, with what is stored held by something else as well.
    #[must_use]
    pub fn held_by(self, hold: impl FnOnce(Bytes) -> Bytes) -> Self {
        Self {
            stored: hold(self.stored),
            ..self
        }
    }

    /// What is stored.
    pub const fn stored(&self) -> &Bytes {
        &self.stored
    }

    /// SHA-256 of the uploaded bytes: by it, bytes are the same bytes.
    pub fn upload_sha256(&self) -> &str {
        &self.upload_sha256
    }

    /// What viewers show of the image.
    pub const fn picture(&self) -> Picture {
        self.picture
    }

    /// SHA-256 of what is stored.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether what is stored are bytes of their own, and not the uploaded ones.
    pub fn is_copy(&self) -> bool {
        self.sha256 != self.upload_sha256
    }

    /// Length of what is stored.
    pub fn stored_bytes(&self) -> u64 {
        length(&self.stored)
    }

    /// Length of the uploaded bytes, which limits count.
    pub const fn upload_bytes(&self) -> u64 {
        self.upload_bytes
    }
}

/// Checks bytes against a tier's size and the rules for images, and cleans them, off the async
/// threads. A large image waits until the memory for decoding it is free.
///
/// # Errors
/// [`UploadError`] says what to send instead.
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
        })
    })
    .await
    .ok_or(UploadError::Interrupted)?
}

/// A file that was found to be an image.
#[derive(Debug)]
pub struct Examined {
    /// What viewers show.
    pub picture: Picture,
    /// The bytes that are stored, where they aren't those that came.
    pub changed: Option<Vec<u8>>,
}

/// Looks at a file as an upload of it would.
///
/// # Errors
/// [`Refusal::Format`] and, where metadata is to be kept, [`Refusal::Trailing`] and [`Refusal::Damaged`].
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
            // Stored files are sound, and the damage may be in what is to be kept.
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
            "it was not written as its format wants it".to_owned(),
        )),
        Err(FormatError::Corrupt { what, .. }) => Err(Refusal::Damaged(what)),
        Err(error) => Err(error.into()),
    }
}
