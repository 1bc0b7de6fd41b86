//! Stores the image of a direct upload, before settle is called: a pending row first, which is not
//! served, and after verify its bytes. An import is fetched in between, so that nothing is fetched
//! for a payment that is not verified, and nothing is charged for an image that is not stored.

use super::{Content, PayError, Payments, Presentation};
use crate::images::Checked;
use crate::imports::Import;
use crate::model::payment::{Payment, ProductKind};
use crate::system::kill::kill_point;

impl Payments {
    /// Records the pending image of a direct upload that the request holds. `false`: the lease was
    /// lost.
    pub(super) async fn stage_sent(
        &self,
        row: &mut Payment,
        presentation: &Presentation,
    ) -> Result<bool, PayError> {
        match presentation.sent() {
            Some(checked) if row.product.kind == ProductKind::Upload => {
                self.stage(row, checked).await
            }
            _ => Ok(true),
        }
    }

    /// Records a pending image and attaches it to the payment. `false`: the lease was lost.
    async fn stage(&self, row: &mut Payment, checked: &Checked) -> Result<bool, PayError> {
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
    /// The image or the payer was blocked meanwhile, or the image could not be fetched or stored.
    /// Nothing was charged.
    pub(super) async fn store(
        &self,
        row: &mut Payment,
        presentation: &Presentation,
    ) -> Result<bool, PayError> {
        if let Err(error) = self.refuse_blocked(presentation).await {
            return self
                .give_back(row, "the image or its payer is blocked", error)
                .await;
        }
        if row.product.kind != ProductKind::Upload {
            return Ok(true);
        }
        match presentation.content() {
            Some(Content::Sent(Ok(checked))) => self.store_checked(row, checked).await,
            Some(Content::Linked(import)) => self.store_import(row, import).await,
            Some(Content::Sent(Err(_))) | None => Ok(true),
        }
    }

    /// Fetches an import and stores its bytes, unless an earlier process has done so.
    async fn store_import(&self, row: &mut Payment, import: &Import) -> Result<bool, PayError> {
        let ordered = import.bound_sha256();
        if let Some(image) = &row.image_id
            && row.body_sha256.as_ref() == Some(&ordered)
            && self.images.is_stored(image).await?
        {
            return Ok(true);
        }
        row.body_sha256 = Some(ordered);
        kill_point!("image.fetch.before");
        let obtained = import.obtain(&row.product.tier, row.terms.max_bytes).await;
        kill_point!("image.fetch.after");
        let checked = match obtained {
            Ok(checked) => checked,
            Err(error) => {
                let reason = "the image could not be fetched";
                return self.give_back(row, reason, error.into()).await;
            }
        };
        let payer = row.authorization.from;
        let screened = self
            .images
            .screen(&checked, Some(&payer), &row.product.tier);
        if let Err(error) = screened.await {
            let reason = "the image was refused after it was fetched";
            return self.give_back(row, reason, error.into()).await;
        }
        if !self.stage(row, &checked).await? {
            return Ok(false);
        }
        self.store_checked(row, &checked).await
    }

    async fn store_checked(&self, row: &Payment, checked: &Checked) -> Result<bool, PayError> {
        let Some(image) = &row.image_id else {
            return Ok(true);
        };
        kill_point!("image.store.before");
        if let Err(error) = self.images.store(image, checked, row.terms.keep).await {
            let reason = "the image could not be stored";
            return self.give_back(row, reason, error.into()).await;
        }
        kill_point!("image.store.after");
        Ok(true)
    }

    /// Releases a payment whose image can't be delivered. `Ok(false)`: another driver took it over.
    async fn give_back(
        &self,
        row: &Payment,
        reason: &str,
        error: PayError,
    ) -> Result<bool, PayError> {
        if self.ledger.released(row, reason).await? {
            return Err(error);
        }
        Ok(false)
    }
}

impl Presentation {
    /// The image of a direct upload, or where it is. `None`: the request names none.
    pub(super) fn content(&self) -> Option<&Content> {
        self.body.as_ref().map(|body| &body.content)
    }

    /// The checked image in the request, if it holds one that the tier takes.
    pub(super) fn sent(&self) -> Option<&Checked> {
        match self.content()? {
            Content::Sent(checked) => checked.as_ref().ok(),
            Content::Linked(_) => None,
        }
    }
}
