//! Screens a payment before money moves: its payer and its image by the blocks, and its image by
//! the operator's scanner (docs/payments.md, rule 2).

use super::{PayError, Payments, Presentation};
use crate::model::payment::ProductKind;

impl Payments {
    /// Refuses a payment of a blocked wallet, blocked content, and what the scanner rejects.
    ///
    /// # Errors
    /// [`PayError::Upload`]. Nothing was charged.
    pub(super) async fn screen(&self, presentation: &Presentation) -> Result<(), PayError> {
        let payer = presentation.header.authorization.from;
        match presentation.sent() {
            Some(checked) if presentation.product.kind == ProductKind::Upload => {
                let tier = &presentation.product.tier;
                Ok(self.images.screen(checked, Some(&payer), tier).await?)
            }
            _ => Ok(self.images.refuse_wallet(&payer)?),
        }
    }

    /// Looks at the blocks once more, right before settle is called: one may have come while the
    /// payment was verified.
    ///
    /// # Errors
    /// [`PayError::Upload`].
    pub(super) async fn refuse_blocked(&self, presentation: &Presentation) -> Result<(), PayError> {
        let payer = presentation.header.authorization.from;
        match presentation.sent() {
            Some(checked) => Ok(self.images.refuse_blocked(checked, Some(&payer)).await?),
            None => Ok(self.images.refuse_wallet(&payer)?),
        }
    }
}
