//! Finds out what an unknown token of this server's own means: that it expired, that its records were
//! erased, or that the database lost commits.

use std::time::Duration;

use super::{Images, UploadError};
use crate::db::{DbError, epoch, grants, images};
use crate::model::ids::ImageId;
use crate::model::mark::LostCommit;
use crate::model::token::{DeleteToken, UploadToken};
use crate::system::clock::Timestamp;

/// How far the clocks of two servers may differ. A token whose expiry is so near may have been
/// replaced by a server whose clock is ahead.
const CLOCKS: Duration = Duration::from_mins(1);
/// For how long the record of an image exists in any case. `retention.records`, the time between an
/// image's deletion and the erasure of its record, is at least a day.
const RECORDED: Duration = Duration::from_hours(23);

impl Images {
    /// What an upload token means that the database does not know.
    pub(super) async fn unknown_token(&self, token: &UploadToken) -> Result<UploadError, DbError> {
        if let Some(created) = token.find_creation(&self.secrets) {
            return self.unknown_link(token, created).await;
        }
        let Some(expires) = token.find_expiry(&self.secrets) else {
            return Ok(UploadError::BadToken);
        };
        // An expired token is replaced by the next one of its payment, and is not known any more.
        // Until then its payment's records are not erased.
        if expires <= self.clock.now().plus(CLOCKS) {
            return Ok(UploadError::TokenExpired { at: expires });
        }
        if epoch::is_token_accepted(&self.db, expires).await? {
            return Ok(UploadError::Recovered);
        }
        let hash = token.hash();
        // A token is also replaced when its key is missing on the server that was asked.
        if grants::was_replaced(&self.db, &hash).await? {
            return Ok(UploadError::BadToken);
        }
        let what = format!("the upload token with hash {hash}, valid until {expires}");
        Ok(UploadError::Lost(LostCommit(what)))
    }

    /// What the secret of an upload link means that the database does not know. It was made at
    /// `created`.
    async fn unknown_link(
        &self,
        secret: &UploadToken,
        created: Timestamp,
    ) -> Result<UploadError, DbError> {
        let hash = secret.hash();
        if grants::was_replaced(&self.db, &hash).await? {
            return Ok(UploadError::LinkRevoked);
        }
        let now = self.clock.now();
        // The records of an older link may be erased.
        let is_recent = created > now.minus(RECORDED) && created <= now.plus(CLOCKS);
        if !is_recent {
            return Ok(UploadError::LinkUnknown);
        }
        if epoch::is_image_accepted(&self.db, created).await? {
            return Ok(UploadError::Recovered);
        }
        let what = format!("the upload link with hash {hash}, made at {created}");
        Ok(UploadError::Lost(LostCommit(what)))
    }

    /// Whether a delete token proves that the database lost its image. `text` must be the delete
    /// token of `id`.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_lost(
        &self,
        id: &ImageId,
        text: &str,
    ) -> Result<Option<LostCommit>, UploadError> {
        let Some(created) = DeleteToken::find_time(&self.secrets, id, text) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let is_recent = created > now.minus(RECORDED) && created <= now.plus(CLOCKS);
        if !is_recent
            || images::find(&self.db, id).await?.is_some()
            || epoch::is_image_accepted(&self.db, created).await?
        {
            return Ok(None);
        }
        Ok(Some(LostCommit(format!(
            "the delete token of image {id}, uploaded at {created}"
        ))))
    }
}
