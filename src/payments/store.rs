//! Stores the image of a direct upload, before settle is called: a pending row first, which is not
//! served, and after verify its bytes.

use super::{PayError, Payments, Presentation};
use crate::images::Checked;
use crate::model::payment::{Payment, ProductKind};
use crate::system::kill::kill_point;

impl Payments {
    /// Records the pending image of a direct upload and attaches it to the payment. `false`: the
    /// lease was lost.
    pub(super) async fn stage(
        &self,
        row: &mut Payment,
        presentation: &Presentation,
    ) -> Result<bool, PayError> {
        let (ProductKind::Upload, Some(checked)) = (row.product.kind, presentation.image()) else {
            return Ok(true);
        };
        kill_point!("image.stage.before");
        let image = self
            .images
            .stage(checked, &row.product.tier, &row.id)
            .await?;
        kill_point!("image.stage.after");
        if !self.ledger.attach(row, &image).await? {
            self.images.discard(&image).await;
            return Ok(false);
        }
        // An earlier process may have staged an image with other bytes.
        if let Some(old) = row.image_id.replace(image) {
            self.images.discard(&old).await;
        }
        Ok(true)
    }

    /// Stores the bytes of a direct upload. `false`: another driver took the payment over.
    ///
    /// # Errors
    /// The image could not be stored. Nothing was charged.
    pub(super) async fn store(
        &self,
        row: &Payment,
        presentation: &Presentation,
    ) -> Result<bool, PayError> {
        let (Some(image), Some(checked)) = (&row.image_id, presentation.image()) else {
            return Ok(true);
        };
        kill_point!("image.store.before");
        if let Err(error) = self.images.store(image, checked, row.terms.keep).await {
            let reason = "the image could not be stored";
            if self.ledger.released(row, reason).await? {
                return Err(error.into());
            }
            return Ok(false);
        }
        kill_point!("image.store.after");
        Ok(true)
    }
}

impl Presentation {
    /// The checked image of an upload, if it has one that the tier takes.
    fn image(&self) -> Option<&Checked> {
        self.body.as_ref()?.checked.as_ref().ok()
    }
}
