//! When the database's answer to a change of an image was lost, the change may have been made: a commit is read
//! back before anything is said of it.

use super::{Images, UploadError};
use crate::db::{DbError, images};
use crate::ids::ImageId;
use crate::model::image::ImageState;

impl Images {
    /// What became of publishing an image, where the database failed at it. `Ok(true)`: it is public all the
    /// same. Otherwise it is given up, as far as the database can be reached, and nothing is held for it.
    pub(super) async fn in_doubt(&self, id: &ImageId, error: DbError) -> Result<bool, UploadError> {
        // First the change that excludes the other: it waits for a commit that is still under way.
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
