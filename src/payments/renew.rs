//! Renewals: which images can be renewed, and why others can't.

use super::recovery::Money;
use super::{PayError, Payments};
use crate::db::{removals, renewals};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::payment::{Payment, Terms};
use crate::pricing::tiers::{Keep, LONGEST_KEEP, Tier};
use crate::system::clock::Timestamp;

/// Why an image can't be renewed, now or ever. Nothing was charged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRenewable {
    /// The image never expires.
    #[error("Image {0} is kept until the service ends; there is nothing to renew.")]
    Permanent(ImageId),
    /// The image is held, for example while a report about it is reviewed.
    #[error("Image {0} is under review and can't be renewed now.")]
    Held(ImageId),
    /// The operator removed the image.
    #[error("The operator removed image {0}, so it can't be renewed. Ask the operator.")]
    Removed(ImageId),
    /// The image would expire later than the latest time that is allowed.
    #[error(
        "Image {id} would be kept until {until}, but at most ten years ahead are allowed. Renew it on or after {from}."
    )]
    TooFar {
        /// The image's id.
        id: ImageId,
        /// When it would expire.
        until: Timestamp,
        /// From when on this renewal is possible.
        from: Timestamp,
    },
    /// The image is larger than the tier allows.
    #[error(
        "Image {id} has {bytes} bytes, but tier {tier} allows at most {limit}. Name a larger tier with ?tier=."
    )]
    TooLarge {
        /// The image's id.
        id: ImageId,
        /// The size of the image, in bytes.
        bytes: u64,
        /// The tier of the renewal.
        tier: String,
        /// The size limit of the tier, in bytes.
        limit: u64,
    },
    /// Another renewal of the image is under way, and the two can't both be granted.
    #[error("Another renewal of image {0} is under way. Try again in a minute.")]
    Busy(ImageId),
}

impl Payments {
    /// Finds an image that can be renewed in `tier`.
    ///
    /// # Errors
    /// [`PayError::NoImage`] and [`PayError::NotRenewable`] if it can't.
    pub async fn find_renewable(&self, id: &ImageId, tier: &Tier) -> Result<Image, PayError> {
        self.renewable(id, tier.name.as_str(), tier.keep, tier.max_bytes)
            .await
    }

    /// Checks that an image can be renewed on these terms.
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
        let Some(image) = self.images.find_live(id).await? else {
            return Err(match removals::find(&self.db, id).await? {
                Some(_) => NotRenewable::Removed(id.clone()).into(),
                None => PayError::NoImage,
            });
        };
        self.images.refuse_blocked_image(&image)?;
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
        // The image is live, so it has not expired yet.
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

    /// Releases a verified renewal that could not start to settle because of its image. If another
    /// driver took the payment over, its row decides.
    pub(super) async fn give_up_renewal(&self, row: &Payment) -> Result<(), PayError> {
        let Some(image) = &row.product.target else {
            return Ok(());
        };
        let seen = self.ledger.find(&row.id).await?;
        let is_ours = seen.is_some_and(|it| it.state == row.state && it.attempt == row.attempt);
        // Somebody else may have submitted the transfer meanwhile, and then it counts.
        if !is_ours {
            return Ok(());
        }
        match self.ask_chain(row).await? {
            Money::Moved => return Ok(()),
            Money::Open => {
                self.ledger.hand_back(row).await?;
                return Err(PayError::Pending);
            }
            Money::Still => {}
        }
        if !self
            .ledger
            .released(row, "its image can't be renewed")
            .await?
        {
            return Ok(());
        }
        self.check_renewal(image, &row.product.tier, &row.terms)
            .await?;
        Err(NotRenewable::Busy(image.clone()).into())
    }
}
