//! How objects are named: the layout of a store.

use std::path::{Path, PathBuf};

use object_store::path::Path as Key;

use crate::ids::ImageId;

/// Where images lie.
pub(super) const IMAGES: &str = "images";
/// Where objects lie that no row speaks of.
pub(super) const QUARANTINE: &str = "quarantine";
/// Where the mark of the database lies that keeps the rows: not among images, and served by no route.
pub(super) const MARK: &str = "database.json";
/// How the record beside an object is named: the object's name, and this.
pub(super) const SIDECAR: &str = ".json";

/// Where a local store has the object of an image.
pub(super) fn file(root: &Path, id: &ImageId) -> PathBuf {
    root.join(key(id).as_ref())
}

/// And the record beside it.
pub(super) fn sidecar_file(root: &Path, id: &ImageId) -> PathBuf {
    root.join(format!("{}{SIDECAR}", key(id)))
}

/// Two levels of folders, 3,844 in all, so that no folder grows without bound. With more letters a level,
/// nearly every image would have a folder of its own, which nobody removes.
pub(super) fn key(id: &ImageId) -> Key {
    let text = id.as_str();
    let (one, rest) = text.split_at_checked(1).unwrap_or((text, ""));
    let (two, _) = rest.split_at_checked(1).unwrap_or((rest, ""));
    Key::from(format!("{IMAGES}/{one}/{two}/{text}"))
}

/// Where the record beside it lies.
pub(super) fn sidecar_key(id: &ImageId) -> Key {
    Key::from(format!("{}{SIDECAR}", key(id)))
}

/// Something that lies where images lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An image's object.
    Image(ImageId),
    /// The record beside an image's object.
    Sidecar(ImageId),
    /// Something else, by its key.
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
