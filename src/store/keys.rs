//! The names of objects in a store.

use std::path::{Path, PathBuf};

use object_store::path::Path as Key;

use crate::model::ids::ImageId;

/// The prefix of images.
pub(super) const IMAGES: &str = "images";
/// The prefix of quarantined objects, which have no row.
pub(super) const QUARANTINE: &str = "quarantine";
/// The key of the mark of the store's database. It is not under the prefix of images, and no route
/// serves it.
pub(super) const MARK: &str = "database.json";
/// The suffix of a sidecar, after the object's name.
pub(super) const SIDECAR: &str = ".json";

/// The path of an image's object in a local store.
pub(super) fn file(root: &Path, id: &ImageId) -> PathBuf {
    root.join(key(id).as_ref())
}

/// The path of an image's sidecar in a local store.
pub(super) fn sidecar_file(root: &Path, id: &ImageId) -> PathBuf {
    root.join(format!("{}{SIDECAR}", key(id)))
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

/// The key of an image's sidecar.
pub(super) fn sidecar_key(id: &ImageId) -> Key {
    Key::from(format!("{}{SIDECAR}", key(id)))
}

/// A key under the prefix of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// The object of an image.
    Image(ImageId),
    /// The sidecar of an image.
    Sidecar(ImageId),
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
        match (ImageId::parse(name).filter(lies_right), is_sidecar) {
            (Some(id), false) => Self::Image(id),
            (Some(id), true) => Self::Sidecar(id),
            (None, _) => Self::Foreign(place.to_string()),
        }
    }
}
