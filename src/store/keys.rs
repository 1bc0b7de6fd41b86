//! The names of objects in a store.

use std::path::{Path, PathBuf};

use object_store::path::Path as Key;

use crate::model::ids::ImageId;

/// The prefix of images.
pub(super) const IMAGES: &str = "images";
/// The prefix of quarantined objects, which have no row.
pub(super) const QUARANTINE: &str = "quarantine";
/// The prefix of the content that the operator holds.
pub(super) const SEALED: &str = "sealed";
/// The key of the mark of the store's database. It is not under the prefix of images, and no route
/// serves it.
pub(super) const MARK: &str = "database.json";
/// The suffix of a sidecar, after the object's name.
pub(super) const SIDECAR: &str = ".json";

/// The path of an image's object in a local store.
pub(super) fn file(root: &Path, id: &ImageId) -> PathBuf {
    root.join(key(id).as_ref())
}

/// The path of the object of a content in a local store.
pub(super) fn content_file(root: &Path, id: &ImageId, version: u32) -> PathBuf {
    root.join(content_key(id, version).as_ref())
}

/// The path of an image's sidecar in a local store.
pub(super) fn sidecar_file(root: &Path, id: &ImageId) -> PathBuf {
    root.join(format!("{}{SIDECAR}", key(id)))
}

/// The path of a variant's object in a local store.
pub(super) fn variant_file(root: &Path, id: &ImageId, sha256: &str) -> PathBuf {
    root.join(variant_key(id, sha256).as_ref())
}

/// The key of an image's object: two levels of folders, 3,844 in all, so that each folder stays
/// small. With longer folder names, nearly every image would have a folder of its own, and empty
/// folders are never removed.
pub(super) fn key(id: &ImageId) -> Key {
    let text = id.as_str();
    let (one, rest) = text.split_at_checked(1).unwrap_or((text, ""));
    let (two, _) = rest.split_at_checked(1).unwrap_or((rest, ""));
    Key::from(format!("{IMAGES}/{one}/{two}/{text}"))
}

/// The key of the object of content `version` of an image. Content 0 has the key of the image.
pub(super) fn content_key(id: &ImageId, version: u32) -> Key {
    match version {
        0 => key(id),
        version => Key::from(format!("{}.{VERSION}{version}", key(id))),
    }
}

/// What stands before the number of a content in its key.
const VERSION: char = 'v';

/// The key of an image's sidecar.
pub(super) fn sidecar_key(id: &ImageId) -> Key {
    Key::from(format!("{}{SIDECAR}", key(id)))
}

/// How many digits of a variant's SHA-256 its key has. They say whether a listed object belongs to a
/// row.
pub(super) const VARIANT_DIGITS: usize = 32;

/// The key of a variant of an image, by the SHA-256 of its bytes. So an object never changes, and two
/// servers that make the same variant write the same object.
pub(super) fn variant_key(id: &ImageId, sha256: &str) -> Key {
    let digits = sha256.get(..VARIANT_DIGITS).unwrap_or(sha256);
    Key::from(format!("{}.{digits}", key(id)))
}

/// The key of an image's object under the sealed prefix.
pub(super) fn sealed_key(id: &ImageId) -> Key {
    Key::from(format!("{SEALED}/{id}"))
}

/// A key under the prefix of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// The object of content 0 of an image.
    Image(ImageId),
    /// The object of a later content of an image, with its number.
    Content(ImageId, u32),
    /// The sidecar of an image.
    Sidecar(ImageId),
    /// A variant of an image, with the first digits of its SHA-256.
    Variant(ImageId, String),
    /// A key that pixtoll does not write.
    Foreign(String),
}

impl Listed {
    pub(super) fn of(place: &Key) -> Self {
        let name = place.filename().unwrap_or_default();
        let (name, is_sidecar) = match name.strip_suffix(SIDECAR) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let parts = place.parts().count();
        let lies_right = |id: &ImageId| {
            parts == key(id).parts().count() && place.as_ref().starts_with(key(id).as_ref())
        };
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if let Some((id, version)) = name.split_once('.')
            && let Some(id) = ImageId::parse(id).filter(lies_right)
            && let Some(version) = version.strip_prefix(VERSION)
            && let Some(version) = version.parse().ok().filter(|version| *version > 0)
            && content_key(&id, version) == *place
        {
            return Self::Content(id, version);
        }
        if let Some((id, digits)) = name.split_once('.')
            && let Some(id) = ImageId::parse(id).filter(lies_right)
            && (digits.len(), is_sidecar) == (VARIANT_DIGITS, false)
            && digits.bytes().all(is_digit)
        {
            return Self::Variant(id, digits.to_owned());
        }
        match (ImageId::parse(name).filter(lies_right), is_sidecar) {
            (Some(id), false) => Self::Image(id),
            (Some(id), true) => Self::Sidecar(id),
            (None, _) => Self::Foreign(place.to_string()),
        }
    }
}
