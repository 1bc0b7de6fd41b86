//! Replaces the content of an image by what its origin has now.
//!
//! The new content is stored as an object of its own, and one transaction makes it the image's. A
//! process that stops before leaves an object that is deleted later; one that stops after it leaves
//! the object of the earlier content, which is deleted later in any case (`retention::contents`).

use std::time::Duration;

use super::{Checked, Images, UploadError};
use crate::db::refreshes::{self, Due, Steps};
use crate::model::image::Image;
use crate::model::refresh::Validators;
use crate::system::kill::kill_point;

/// How long a server may take to store new content.
const STORE: Duration = Duration::from_mins(2);
/// How long the earlier content stays stored for requests that have found its row: longer than
/// other servers serve it from memory, and than reading it into memory takes.
const READERS: Duration = Duration::from_mins(1);

impl Images {
    /// Makes `checked` the content of an image, on every server within two seconds. The image is
    /// next compared with its origin after `every`. `false`: the image is not served any more,
    /// another server compares it, or the blocks changed meanwhile. Call [`Images::screen`] before.
    ///
    /// # Errors
    /// [`UploadError`]. The image keeps its content.
    pub async fn replace(
        &self,
        due: &mut Due,
        image: &Image,
        checked: &Checked,
        (validators, every): (&Validators, Duration),
    ) -> Result<bool, UploadError> {
        self.has_room()?;
        let (db, id) = (&self.db, &image.id);
        let claimed = refreshes::claim_version(db, due, self.clock.now(), STORE).await?;
        let Some(version) = claimed else {
            return Ok(false);
        };
        kill_point!("refresh.put.before");
        let bytes = checked.stored().clone();
        self.store.put_content(id, version, bytes).await?;
        kill_point!("refresh.put.after");
        let now = self.clock.now();
        let steps = Steps {
            now,
            next: now.plus(every),
            clean: now.plus(READERS),
            blocks_version: checked.compared_with(),
        };
        let fresh = fresh(image, checked, version);
        if !refreshes::replace(db, due, &fresh, validators, steps).await? {
            let owner = image.owner.as_ref().map(|owner| &owner.wallet);
            self.refuse_blocked(checked, owner).await?;
            return Ok(false);
        }
        kill_point!("refresh.replace.after");
        self.hot.forget(id);
        self.describe(id).await;
        Ok(true)
    }
}

/// The image with new content.
fn fresh(image: &Image, checked: &Checked, version: u32) -> Image {
    let picture = checked.picture();
    Image {
        format: picture.format,
        size_bytes: checked.stored_bytes(),
        width: picture.width,
        height: picture.height,
        metadata: Some(picture.metadata),
        look: checked.look().cloned(),
        sha256: checked.sha256().to_owned(),
        upload_sha256: checked.upload_sha256().to_owned(),
        version,
        ..image.clone()
    }
}
