//! More time for an image: whose, and when not.

use std::sync::Arc;

use super::drive::Look;
use super::{PayError, Payments};
use crate::clock::Timestamp;
use crate::db::{payments as rows, renewals};
use crate::ids::ImageId;
use crate::model::image::Image;
use crate::model::payment::{Payment, Terms};
use crate::tiers::{Keep, LONGEST_KEEP, Tier};

/// Why an image gets no more time, for now or at all. Nothing was charged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRenewable {
    /// It needs none.
    #[error("Image {0} is kept until the service ends; there is nothing to renew.")]
    Permanent(ImageId),
    /// It is kept for a reason that is not its owner's.
    #[error("Image {0} can't be renewed: it is being looked into.")]
    Held(ImageId),
    /// It would be kept for longer than anything is.
    #[error(
        "Image {id} would be kept until {until}, which is more than ten years ahead. Renew it from {from} on."
    )]
    TooFar {
        /// The image.
        id: ImageId,
        /// When it would expire.
        until: Timestamp,
        /// When that is soon enough.
        from: Timestamp,
    },
    /// It is larger than what this tier keeps.
    #[error(
        "Image {id} has {bytes} bytes; tier {tier} keeps {limit}. Name a tier that takes it, with ?tier=."
    )]
    TooLarge {
        /// The image.
        id: ImageId,
        /// Its length.
        bytes: u64,
        /// The tier.
        tier: String,
        /// What that takes.
        limit: u64,
    },
    /// Another payment for the same image is under way, and both together can't be had.
    #[error("Another payment for more time is on its way to image {0}. Ask again in a minute.")]
    Busy(ImageId),
}

impl Payments {
    /// The image that `tier` would give more time.
    ///
    /// # Errors
    /// [`PayError::NoImage`] and [`PayError::NotRenewable`] when it gets none.
    pub async fn find_renewable(&self, id: &ImageId, tier: &Tier) -> Result<Image, PayError> {
        self.renewable(id, tier.name.as_str(), tier.keep, tier.max_bytes)
            .await
    }

    /// Whether these terms would give the image more time.
    pub(super) async fn check_renewal(
        &self,
        id: &ImageId,
        tier: &str,
        terms: &Terms,
    ) -> Result<(), PayError> {
        self.renewable(id, tier, terms.keep, terms.max_bytes)
            .await
            .map(|_| ())
    }

    async fn renewable(
        &self,
        id: &ImageId,
        tier: &str,
        keep: Keep,
        limit: u64,
    ) -> Result<Image, PayError> {
        let image = self.images.find_public(id).await?;
        let image = image.ok_or(PayError::NoImage)?;
        let Some(old) = image.expires_at else {
            return Err(NotRenewable::Permanent(image.id).into());
        };
        if renewals::is_held(&self.db, id).await? {
            return Err(NotRenewable::Held(image.id).into());
        }
        if image.size_bytes > limit {
            return Err(NotRenewable::TooLarge {
                id: image.id,
                bytes: image.size_bytes,
                tier: tier.to_owned(),
                limit,
            }
            .into());
        }
        // It is public, so its end lies ahead.
        let longest = self.clock.now().plus(LONGEST_KEEP);
        if let Some(until) = keep.end(old)
            && until > longest
        {
            return Err(NotRenewable::TooFar {
                id: image.id,
                until,
                from: until.minus(LONGEST_KEEP),
            }
            .into());
        }
        Ok(image)
    }

    /// Gives up a verified renewal that could not begin to settle, where that is because of its image. When
    /// the row was taken over, it answers.
    pub(super) async fn give_up_renewal(self: &Arc<Self>, row: &Payment) -> Result<(), PayError> {
        let Some(image) = &row.product.target else {
            return Ok(());
        };
        let seen = rows::find(&self.db, &row.id).await?;
        let is_ours = seen.is_some_and(|it| it.state == row.state && it.attempt == row.attempt);
        // Somebody else may have submitted it meanwhile, and paid is paid.
        if !is_ours {
            return Ok(());
        }
        match self.look_at(row).await? {
            Look::Moved => return Ok(()),
            Look::Open => {
                self.hand_back(row).await?;
                return Err(PayError::Pending);
            }
            Look::Still => {}
        }
        if !self.release(row, "its image can't be renewed").await? {
            return Ok(());
        }
        self.check_renewal(image, &row.product.tier, &row.terms)
            .await?;
        Err(NotRenewable::Busy(image.clone()).into())
    }
}
