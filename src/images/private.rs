//! Private images: who may see them, and the signed links that show them.
//!
//! Private images are never kept in memory (`hot`), so each request reads the row. The end of all
//! links and the deletion of the image therefore count on every server at once.

use std::time::Duration;

use super::{Images, UploadError};
use crate::db::{images, removals};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::removal::Removal;
use crate::model::signed_link::SignedLink;
use crate::system::clock::Timestamp;

/// The longest life of a signed link.
pub const LONGEST_LINK: Duration = Duration::from_hours(365 * 24);

/// What a request shows of its right to see a private image.
#[derive(Debug, Clone, Copy, Default)]
pub struct Access {
    /// The signature in the link that was requested.
    pub link: Option<SignedLink>,
    /// Whether the request proved to come from the owner of the image.
    pub is_owner: bool,
}

impl Images {
    /// Finds the image with this id if it is served now and `access` shows it. The answer is the
    /// same for an image that does not exist and a private one that is not shown.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_visible(
        &self,
        id: &ImageId,
        access: &Access,
    ) -> Result<Option<Image>, UploadError> {
        let image = self.find_live(id).await?;
        Ok(image.filter(|image| self.is_visible(image, access)))
    }

    /// Finds the removal of an image that the operator removed, if `access` would show the image.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_removal(
        &self,
        id: &ImageId,
        access: &Access,
    ) -> Result<Option<Removal>, UploadError> {
        let Some(removal) = removals::find(&self.db, id).await? else {
            return Ok(None);
        };
        let image = images::find(&self.db, id).await?;
        let is_shown = image.is_some_and(|image| self.is_visible(&image, access));
        Ok(is_shown.then_some(removal))
    }

    /// Whether `access` shows this image.
    pub fn is_visible(&self, image: &Image, access: &Access) -> bool {
        !image.visibility.is_private()
            || access.is_owner
            || access.link.is_some_and(|link| self.is_shown(image, link))
    }

    /// Whether the link was signed for this image, has not ended, and was not ended by the owner.
    pub fn is_shown(&self, image: &Image, link: SignedLink) -> bool {
        self.was_shown(image, link) && self.clock.now() < link.expires()
    }

    /// Whether the link was signed for this image and was not ended by the owner, although its own time
    /// may be over. Who saw an image may report it later.
    pub fn was_shown(&self, image: &Image, link: SignedLink) -> bool {
        link.is_signed(&self.secrets, &image.id, image.link_serial)
    }

    /// Signs a link to an image for `life`. It ends with the image at the latest, and after
    /// [`LONGEST_LINK`].
    pub fn sign_link(&self, image: &Image, life: Duration) -> SignedLink {
        let end = self.clock.now().plus(life.min(LONGEST_LINK));
        let end = image.expires_at.map_or(end, |last| last.min(end));
        SignedLink::sign(self.secrets.current(), &image.id, end, image.link_serial)
    }

    /// Ends every signed link of a private image, on every server at once. `false`: there is no
    /// such image.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn end_links(&self, id: &ImageId) -> Result<bool, UploadError> {
        let is_done = images::rotate_links(&self.db, id, self.clock.now()).await?;
        if is_done {
            self.describe(id).await;
        }
        Ok(is_done)
    }
}

/// When caches must forget an image that a link shows: at the end of the image or of the link,
/// whichever comes first. `None`: neither ends.
pub fn end_of(image: &Image, link: Option<SignedLink>) -> Option<Timestamp> {
    let ends = [image.expires_at, link.map(|link| link.expires())];
    ends.into_iter().flatten().min()
}
