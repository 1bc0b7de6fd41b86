//! What a settled payment gets, whenever its payer asks.

use super::{Goods, PayError, Payments, Sold};
use crate::db::{grants, payments as rows, renewals};
use crate::images::UploadError;
use crate::kill::kill_point;
use crate::model::payment::{Grant, Payment, ProductKind};
use crate::model::token::UploadToken;
use crate::x402::wire::Version;

impl Payments {
    /// The same token while it has uploads left, then the image; of several, the token with none left. Goods that were lost are owed as a
    /// fresh token of the payment's terms.
    pub(super) async fn deliver(&self, row: &Payment, version: Version) -> Result<Sold, PayError> {
        let receipt = self.receipt(row, version);
        loop {
            // Grant and settlement are one transaction, so a settled payment has one.
            let grant = grants::find(&self.db, &row.id)
                .await?
                .ok_or(PayError::Pending)?;
            if grant.product.uses > 1 && grant.used >= grant.product.uses {
                // Each upload gave its image; the token tells that there is nothing left of it.
                return Ok(Sold {
                    goods: Goods::Token {
                        // One of a key that is gone would be refused as well as this one is.
                        token: self
                            .token_of(&grant)
                            .unwrap_or_else(|| self.derive(&grant, grant.serial)),
                        expires_at: grant.token_expires,
                        tier: grant.product.tier,
                        uploads: 0,
                    },
                    receipt,
                    version,
                });
            }
            if let Some(renewal) = renewals::find(&self.db, &row.id).await? {
                let image = self.images.find_public(&renewal.image_id).await;
                let Some(image) = image.map_err(unread)? else {
                    // The payment of its upload may be the one that the chain decides about.
                    let id = &renewal.image_id;
                    let is_withheld = self.images.is_withheld(id).await.map_err(unread)?;
                    return Err(if is_withheld {
                        PayError::Pending
                    } else {
                        PayError::Gone
                    });
                };
                return Ok(Sold {
                    goods: Goods::Renewed { image, renewal },
                    receipt,
                    version,
                });
            }
            if grant.used > 0
                && (grant.used >= grant.product.uses || grant.product.kind == ProductKind::Upload)
            {
                let image = self
                    .images
                    .find_published(&row.id)
                    .await
                    .map_err(unread)?
                    .ok_or(PayError::Gone)?;
                if !image.is_public(self.clock.now()) {
                    return Err(PayError::Gone);
                }
                return Ok(Sold {
                    goods: Goods::Image(image),
                    receipt,
                    version,
                });
            }
            if let Some(goods) = self.token(&grant).await? {
                kill_point!("owed.clear.before");
                let is_due = rows::clear_owed(&self.db, &grant).await?;
                kill_point!("owed.clear.after");
                if !is_due {
                    return Err(PayError::Resolved);
                }
                return Ok(Sold {
                    goods,
                    receipt,
                    version,
                });
            }
        }
    }

    /// The valid token. One that expired unused, or that was made by a key that is gone, is replaced by the next,
    /// and is dead. `None`: the grant changed meanwhile.
    async fn token(&self, grant: &Grant) -> Result<Option<Goods>, PayError> {
        let now = self.clock.now();
        let valid = self.token_of(grant).filter(|_| grant.token_expires > now);
        let (token, expires_at) = if let Some(token) = valid {
            (token, grant.token_expires)
        } else {
            let next = self.derive(grant, grant.serial.saturating_add(1));
            let expires_at = now.plus(self.settings.token_ttl);
            kill_point!("token.replace.before");
            let replaced = grants::replace_token(&self.db, grant, &next.hash(), expires_at).await?;
            kill_point!("token.replace.after");
            if !replaced {
                return Ok(None);
            }
            (next, expires_at)
        };
        Ok(Some(Goods::Token {
            token,
            expires_at,
            tier: grant.product.tier.clone(),
            uploads: grant.product.uses.saturating_sub(grant.used),
        }))
    }
}

impl Payments {
    /// The token of a grant, by the key that made it.
    fn token_of(&self, grant: &Grant) -> Option<UploadToken> {
        UploadToken::find(
            &self.secrets,
            &grant.payment_id,
            grant.serial,
            &grant.token_hash,
        )
    }

    fn derive(&self, grant: &Grant, serial: u32) -> UploadToken {
        UploadToken::derive(self.secrets.current(), &grant.payment_id, serial)
    }
}

/// The goods of a settled payment could not be read: that says nothing of an upload, and the money has moved.
fn unread(error: UploadError) -> PayError {
    match error {
        UploadError::Database(error) => PayError::Database(error),
        other => PayError::Upload(other),
    }
}
