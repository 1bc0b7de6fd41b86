//! Resolves a change of an image whose database answer was lost. The commit may have succeeded, so
//! the row is read again before the caller returns a result.

use super::{Images, UploadError};
use crate::db::{DbError, images};
use crate::model::ids::ImageId;
use crate::model::image::ImageState;

impl Images {
    /// Resolves a failed call to publish an image. Returns `Ok(true)` if the image is public all
    /// the same. Otherwise returns `error`. If the database can be reached, the image is then
    /// discarded and its token use is free again.
    pub(super) async fn resolve_in_doubt(
        &self,
        id: &ImageId,
        error: DbError,
    ) -> Result<bool, UploadError> {
        // Discard first: the statement waits for a commit that is still running and excludes it.
        match images::discard(&self.db, id).await {
            Ok(true) => {
                self.delete_object(id).await;
                return Err(error.into());
            }
            Ok(false) => {}
            Err(_) => return Err(error.into()),
        }
        let found = images::find(&self.db, id).await;
        match found {
            Ok(Some(image)) if image.state == ImageState::Live => Ok(true),
            _ => Err(error.into()),
        }
    }
}
