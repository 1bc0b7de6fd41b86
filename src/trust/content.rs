//! The content of images: where it is, and what to block so that it is refused from now on.

use serde_json::json;

use super::{ActError, By, Trust};
use crate::db::{admin_log, images};
use crate::images::targets_of;
use crate::model::admin_log::Act;
use crate::model::block::Target;
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::store::{Object, Store, StoreError};

/// Opens the content of an image, where it is served from or sealed; `None`: it is gone.
pub(super) async fn open(store: &Store, image: &Image) -> Result<Option<Object>, StoreError> {
    match store.open_whole(&image.id, image.version).await? {
        Some(object) => Ok(Some(object)),
        None => store.open_sealed(&image.id).await,
    }
}

impl Trust {
    /// Opens the content of an image for the operator's eyes, in any state in which it exists: served
    /// or removed, private, or sealed under a hold. The log says who looked and why, before the first
    /// byte is read.
    ///
    /// # Errors
    /// [`ActError`]; [`ActError::ContentMissing`] if the content was deleted.
    pub async fn view_content(&self, id: &ImageId, by: &By) -> Result<(Image, Object), ActError> {
        let image = images::find(&self.db, id).await?;
        let image = image.ok_or_else(|| ActError::Unknown(id.clone()))?;
        let object = open(&self.store, &image).await?;
        let object = object.ok_or_else(|| ActError::ContentMissing(id.clone()))?;
        let details =
            json!({"state": image.state.as_str(), "visibility": image.visibility.as_str()});
        let entry = by.entry(Act::View, id, details);
        admin_log::append(&self.db, &entry, self.clock.now()).await?;
        Ok((image, object))
    }
}

/// What to block so that an image is refused from now on: its bytes and its picture. If its file is
/// gone, its bytes alone.
///
/// # Errors
/// [`ActError::Store`] and [`ActError::Stopping`].
pub async fn targets(store: &Store, image: &Image) -> Result<Vec<Target>, ActError> {
    let bytes = if let Some(object) = open(store, image).await? {
        Some(object.read_all().await?)
    } else {
        tracing::warn!(image.id = %image.id, "the file of this image is gone, so its picture is not blocked, only its bytes");
        None
    };
    let targets = targets_of(image, bytes).await;
    targets.map_err(|_| ActError::Stopping)
}
