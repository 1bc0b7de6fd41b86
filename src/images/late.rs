//! Screens a pending image again, right before it is published: a block may have come since its
//! upload was screened (docs/payments.md, rule 2).
//!
//! A statement can compare SHA-256 and wallets, but not PDQ hashes. So the blocks have a version,
//! and an image is published only under the version that its picture was compared with.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::screen::taken;
use super::{Checked, Images, UploadError};
use crate::db::{DbError, blocks, images};
use crate::model::ids::ImageId;
use crate::model::image::Image;

/// The most images whose version is remembered. Others are compared again.
const MOST: usize = 10_000;

/// Whether a block came for a pending image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// None did, as of this version of the blocks. `None`: nothing is screened.
    Clear(Option<i64>),
    /// The image is blocked, or could not be compared.
    Withheld(&'static str),
}

/// The version of the blocks that pending images of this process were compared with.
#[derive(Debug, Default)]
pub(super) struct Compared(Mutex<HashMap<ImageId, i64>>);

impl Compared {
    fn note(&self, id: &ImageId, version: i64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(id.clone(), version);
    }

    fn find(&self, id: &ImageId) -> Option<i64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).copied()
    }

    fn forget(&self, id: &ImageId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(id);
    }
}

impl Images {
    /// Notes that a pending image was screened as this upload.
    pub(super) fn note_compared(&self, id: &ImageId, checked: &Checked) {
        if let Some(version) = checked.compared_with() {
            self.compared.note(id, version);
        }
    }

    /// Forgets a pending image that was published or given up.
    pub fn forget_compared(&self, id: &ImageId) {
        self.compared.forget(id);
    }

    /// Whether a block came for a pending image since it was screened. If the blocks have not
    /// changed as far as this server knows, this reads nothing. `is_again` asks the database.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn screen_late(&self, id: &ImageId, is_again: bool) -> Result<Late, DbError> {
        let Some(screening) = &self.screening else {
            return Ok(Late::Clear(None));
        };
        let blocks = screening.blocks();
        let known = self.compared.find(id);
        if let Some(version) = known.filter(|_| !is_again) {
            return Ok(Late::Clear(Some(version)));
        }
        let version = blocks::version(&self.db).await?;
        if known == Some(version) {
            return Ok(Late::Clear(known));
        }
        blocks.follow(false).await?;
        let version = blocks.version();
        if blocks.need_fingerprints()
            && let Some(image) = images::find(&self.db, id).await?
        {
            match self.is_near_block(&image).await {
                Ok(false) => {}
                Ok(true) => {
                    return Ok(Late::Withheld("a block withholds the image of this upload"));
                }
                Err(error) => {
                    tracing::error!(%error, image.id = %id, "a new block could not be compared with a paid image; its upload is owed");
                    return Ok(Late::Withheld(
                        "the image could not be compared with a new block",
                    ));
                }
            }
        }
        self.compared.note(id, version);
        Ok(Late::Clear(Some(version)))
    }

    /// Whether the picture of a stored image is that of a block. An image without a file or without
    /// a fingerprint is near none.
    async fn is_near_block(&self, image: &Image) -> Result<bool, UploadError> {
        let Some(screening) = &self.screening else {
            return Ok(false);
        };
        let Some(object) = self.store.open_whole(&image.id, image.version).await? else {
            return Ok(false);
        };
        let fingerprint = taken(object.read_all().await?, image.format).await?;
        Ok(screening.check_content(&[], fingerprint.as_ref()).is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_compared_images_is_bounded() {
        let compared = Compared::default();
        let id = |number: usize| ImageId::parse(&format!("{number:012}")).unwrap();
        for number in 0..=MOST {
            compared.note(&id(number), 7);
        }
        assert_eq!(compared.find(&id(0)), None);
        assert_eq!(compared.find(&id(MOST)), Some(7));
        compared.forget(&id(MOST));
        assert_eq!(compared.find(&id(MOST)), None);
    }
}
