//! The images of a wallet, for requests that the wallet signed in for.

use alloy_primitives::Address;

use super::{Images, UploadError};
use crate::db::images;
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::system::clock::Timestamp;

/// The most images on one page.
pub const MOST_OWNED: u32 = 100;

/// A position in a wallet's images, newest first: the image after which the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedPosition {
    created_at: Timestamp,
    id: ImageId,
}

impl OwnedPosition {
    /// The position after this image.
    pub fn after(image: &Image) -> Self {
        Self {
            created_at: image.created_at,
            id: image.id.clone(),
        }
    }

    /// Reads what `to_string` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (millis, id) = text.split_once('.')?;
        Some(Self {
            created_at: Timestamp::from_millis(millis.parse().ok()?),
            id: ImageId::parse(id)?,
        })
    }
}

impl std::fmt::Display for OwnedPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.created_at.millis(), self.id)
    }
}

/// A page of a wallet's images.
#[derive(Debug)]
pub struct OwnedPage {
    /// The images, newest first.
    pub images: Vec<Image>,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<OwnedPosition>,
}

impl Images {
    /// The public images of a wallet, newest first: at most `most`, and at most [`MOST_OWNED`].
    /// `network` is the only network, as a CAIP-2 id, on which the wallet proved its address;
    /// `None`: all. Images that are added or deleted meanwhile move no other image to another page.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn owned(
        &self,
        wallet: Address,
        network: Option<&str>,
        after: Option<&OwnedPosition>,
        most: u32,
    ) -> Result<OwnedPage, UploadError> {
        let most = most.clamp(1, MOST_OWNED);
        let before = match after {
            Some(position) => (position.created_at, position.id.as_str()),
            None => (Timestamp::from_millis(i64::MAX), ""),
        };
        let (wallet, now) = (wallet.to_string(), self.clock.now());
        let found = images::find_owned(&self.db, &wallet, network, before, now, most + 1);
        let mut found = found.await?;
        let page = usize::try_from(most).unwrap_or(usize::MAX);
        let has_more = found.len() > page;
        found.truncate(page);
        let last = found.last().filter(|_| has_more);
        Ok(OwnedPage {
            next: last.map(OwnedPosition::after),
            images: found,
        })
    }

    /// Finds the first of these images that the wallet does not own, or that has no record. An image
    /// that was deleted still has its owner, until its record is erased.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_foreign(
        &self,
        ids: &[ImageId],
        wallet: Address,
        network: Option<&str>,
    ) -> Result<Option<ImageId>, UploadError> {
        for id in ids {
            let image = images::find(&self.db, id).await?;
            let owner = image.and_then(|image| image.owner);
            if !owner.is_some_and(|owner| owner.is(wallet, network)) {
                return Ok(Some(id.clone()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let text = "1800000000123.k3v9Qw2mZr7T";
        assert_eq!(OwnedPosition::parse(text).unwrap().to_string(), text);
        for other in ["", ".", "1", "1.", "x.k3v9Qw2mZr7T", "1.k3v9Qw2mZr7"] {
            assert_eq!(OwnedPosition::parse(other), None, "{other}");
        }
    }
}
