//! Checks an uploaded file before any charge: the format, the limits, and that viewers show the
//! image. Removes metadata that the owner may not have meant to publish.
//!
//! A file is cleaned first, then its structure is walked, then it is decoded. The walk and the
//! decoder read the cleaned bytes, which are the bytes to store, so they also catch mistakes of the
//! cleaner.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::clean::{Cleaned, Content};
use super::decode::jpeg::pixels::Small;
use super::format::{FormatError, PixelLimits, format_of, probe};
use super::pipeline::cleaned;
use super::render::{self, Stop};
use super::{Metadata, Refusal, UploadError, decode, length, pdq};
use crate::keys::secrets::sha256_hex;
use crate::model::format::Format;
use crate::model::image::Image;
use crate::model::look::Look;
use crate::model::metadata::{Kind, Metadata as Outcome};
use crate::model::pdq::Fingerprint;
use crate::model::refresh::{Origin, Refresh};
use crate::model::visibility::Visibility;
use crate::system::pages::Buffer;
use crate::system::workers;

/// How long making the look of an image may take.
const LOOK: Duration = Duration::from_secs(10);

/// The most pixels of an image that is decoded a second time for its look.
const MAX_LOOK_PIXELS: u64 = 64_000_000;

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
    /// How the image is kept up to date, and with what; `None`: it never changes.
    refresh: Option<Box<(Refresh, Origin)>>,
    look: Option<Look>,
    /// The fingerprint, once it was needed; `None` in it: the picture has none.
    fingerprint: Arc<OnceLock<Option<Fingerprint>>>,
    /// The version of the blocks that the image was compared with last.
    compared_with: Arc<Mutex<Option<i64>>>,
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

    /// Keeps the image up to date with its origin. Without it, the image never changes.
    #[must_use]
    pub fn kept_fresh(self, refresh: Refresh, origin: Origin) -> Self {
        let refresh = Some(Box::new((refresh, origin)));
        Self { refresh, ..self }
    }

    /// How the image is kept up to date; `None`: it never changes.
    pub fn refresh(&self) -> Option<&Refresh> {
        self.refresh.as_ref().map(|it| &it.0)
    }

    /// Where the image comes from, if it is kept up to date.
    pub fn origin(&self) -> Option<&Origin> {
        self.refresh.as_ref().map(|it| &it.1)
    }

    /// Whether `image` was stored for the same order: of the same bytes, for the same eyes, and
    /// kept up to date with the same origin or not at all.
    pub fn is_order_of(&self, image: &Image) -> bool {
        let origin = |refresh: &Refresh| refresh.origin.clone();
        image.upload_sha256 == self.upload_sha256
            && image.visibility == self.visibility
            && image.refresh.as_ref().map(origin) == self.refresh().map(origin)
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

    /// What a page can show before the image is loaded. `None`: it could not be made, which
    /// refuses no upload.
    pub const fn look(&self) -> Option<&Look> {
        self.look.as_ref()
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

    /// The fingerprint of the picture, if [`Checked::take_fingerprint`] was called and found one.
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        self.fingerprint.get()?.as_ref()
    }

    /// Computes the fingerprint of the picture, once. Runs on a worker thread.
    ///
    /// # Errors
    /// [`UploadError::Interrupted`] if the worker stopped.
    pub async fn take_fingerprint(&self) -> Result<(), UploadError> {
        if self.fingerprint.get().is_some() {
            return Ok(());
        }
        let (bytes, picture) = (self.stored.clone(), self.picture);
        let format = picture.format;
        let taken = workers::run(move || {
            let pixels = u64::from(picture.width) * u64::from(picture.height);
            let _held = decode::hold_memory(pixels.saturating_mul(4));
            pdq::fingerprint(&bytes, format)
        });
        let taken = taken.await;
        let taken = taken.ok_or(UploadError::Interrupted)?;
        if let Err(why) = &taken {
            let format = format.extension();
            tracing::warn!(
                %why,
                format,
                "an image has no fingerprint, since it could not be decoded again"
            );
        }
        self.fingerprint.get_or_init(|| taken.ok());
        Ok(())
    }

    /// The version of the blocks that the image was compared with. `None`: with none.
    pub(super) fn compared_with(&self) -> Option<i64> {
        *self
            .compared_with
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that no block of this version refuses the image.
    pub(super) fn note_compared_with(&self, version: i64) {
        *self
            .compared_with
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(version);
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
        let Examined {
            picture,
            changed,
            small,
        } = examine(&bytes, metadata, limits)?;
        let upload_sha256 = sha256_hex(&bytes);
        let sha256 = changed
            .as_deref()
            .map_or_else(|| upload_sha256.clone(), sha256_hex);
        let stored = changed.map_or(bytes, Buffer::freeze);
        Ok(Checked {
            look: look(
                &stored,
                &picture,
                small
                    .as_ref()
                    .map(|(small, orientation)| (small, *orientation)),
            ),
            stored,
            picture,
            sha256,
            upload_bytes,
            upload_sha256,
            visibility: Visibility::Public,
            refresh: None,
            fingerprint: Arc::default(),
            compared_with: Arc::default(),
        })
    })
    .await
    .ok_or(UploadError::Interrupted)?
}

/// Whether a look is made of a picture. JPEGs cost little, since their check gathers a small picture.
/// Others are decoded again, which may cost as much as the check.
fn has_look(picture: &Picture) -> bool {
    let pixels = u64::from(picture.width) * u64::from(picture.height);
    picture.format == Format::Jpeg || pixels <= MAX_LOOK_PIXELS
}

/// Makes the look of a checked image.
fn look(stored: &[u8], picture: &Picture, small: Option<(&Small, u8)>) -> Option<Look> {
    let format = picture.format;
    if !has_look(picture) {
        return None;
    }
    match render::look(stored, format, small, &Stop::after(LOOK)) {
        Ok(look) => Some(look),
        Err(error) => {
            tracing::warn!(%error, %format, "an image is stored without a preview, because none could be made");
            None
        }
    }
}

/// A file that passed all checks of its content.
#[derive(Debug)]
pub struct Examined {
    /// The image as viewers show it.
    pub picture: Picture,
    /// The bytes to store, if they differ from the given bytes.
    pub changed: Option<Buffer>,
    /// An eighth of the picture and its orientation, if it is a JPEG.
    small: Option<(Small, u8)>,
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
        orientation,
        small,
        ..
    } = cleaned;
    let (width, height) = if orientation > 4 {
        (probe.height, probe.width)
    } else {
        (probe.width, probe.height)
    };
    let small = small.map(|small| (small, orientation));
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
                Content::Changed(changed) => Some(changed),
                Content::Unchanged(_) => None,
            },
            small,
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
                small,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metadata::Kinds;

    #[test]
    fn an_image_that_costs_much_to_decode_again_has_no_look() {
        let picture = |format, width, height| Picture {
            format,
            width,
            height,
            frames: 1,
            metadata: Outcome::Kept(Kinds::default()),
        };
        assert!(has_look(&picture(Format::Png, 8000, 8000)));
        assert!(!has_look(&picture(Format::Png, 8000, 8001)));
        assert!(!has_look(&picture(Format::Webp, u32::MAX, u32::MAX)));
        assert!(has_look(&picture(Format::Jpeg, 16_000, 12_000)));
    }
}
