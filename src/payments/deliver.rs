//! Returns the goods of a settled payment, as often as its payer asks.

use alloy_primitives::Address;

use super::{Goods, PayError, Payments, Sold};
use crate::db::{DbError, claims, grants, renewals};
use crate::images::UploadError;
use crate::model::link::Link;
use crate::model::payment::{Grant, Payment, PaymentId, ProductKind, Renewal};
use crate::model::token::UploadToken;
use crate::pricing::networks::Network;
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;
use crate::x402::wire::Version;

/// The most payments whose goods one claim returns.
const PAGE: u32 = 100;

/// What a payer paid for and may not have received.
#[derive(Debug)]
pub struct Unreceived {
    /// The payments with their goods, in the order of their ledger ids.
    pub purchases: Vec<(Payment, Sold)>,
    /// The ledger id after which the next page begins; `None`: this is the last one.
    pub next: Option<PaymentId>,
    /// The number of the payer's payments of which it is not known yet whether they moved money.
    pub open: u64,
}

impl Payments {
    /// Returns the payment's token while it has uploads left, and then the image. A token for
    /// several uploads is returned even without uploads left. If the goods were lost, the payer
    /// receives a new token on the payment's terms. A link is returned as it is; if it ended or was
    /// revoked with uploads left, a new one of the same duration replaces it.
    pub(super) async fn deliver(&self, row: &Payment, version: Version) -> Result<Sold, PayError> {
        let receipt = self.receipt(row, version);
        loop {
            // Settling creates the grant in the same transaction, so it exists.
            let grant = grants::find(&self.db, &row.id)
                .await?
                .ok_or(PayError::Pending)?;
            if grant.is_void {
                return Err(self.refuse_void(row).await?);
            }
            if grant.product.kind == ProductKind::Link {
                let Some(goods) = self.link(&grant).await? else {
                    continue;
                };
                return Ok(Sold {
                    goods,
                    receipt,
                    version,
                });
            }
            if grant.product.uses > 1 && grant.used >= grant.product.uses {
                // Each upload returned its image. The token shows that no uploads are left.
                return Ok(Sold {
                    goods: self.used_up(grant),
                    receipt,
                    version,
                });
            }
            if let Some(renewal) = self.renewal_of(row).await? {
                let image = self.images.find_live(&renewal.image_id).await;
                let image = image.map_err(unread)?.ok_or(PayError::Gone)?;
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
                if !image.is_live(self.clock.now()) {
                    return Err(PayError::Gone);
                }
                return Ok(Sold {
                    goods: Goods::Image(image),
                    receipt,
                    version,
                });
            }
            if let Some(goods) = self.token(&grant).await? {
                if !self.ledger.delivered(&grant).await? {
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

    /// Why the grant of a payment buys nothing: the operator refunded the payment, or voided it since
    /// its row was read.
    async fn refuse_void(&self, row: &Payment) -> Result<PayError, DbError> {
        let fresh = self.ledger.find(&row.id).await?;
        Ok(match fresh {
            Some(fresh) if fresh.voided_at.is_none() => PayError::Resolved,
            fresh => PayError::Voided {
                charged: fresh.and_then(|fresh| fresh.is_charged()),
            },
        })
    }

    /// The token of a grant without uploads left.
    fn used_up(&self, grant: Grant) -> Goods {
        Goods::Token {
            // If the key that made the token is gone, every token of this grant is refused. The
            // database doesn't know one of the current key, so it must not look like a valid one
            // that was lost: it has expired.
            token: self
                .token_of(&grant)
                .unwrap_or_else(|| self.derive(&grant, grant.serial, grant.created_at)),
            expires_at: grant.token_expires,
            tier: grant.product.tier,
            uploads: 0,
        }
    }

    /// Returns the link of a grant while it takes uploads, or once all of them are used. Otherwise
    /// the next one replaces it. `None`: the grant changed; look at it again.
    async fn link(&self, grant: &Grant) -> Result<Option<Goods>, PayError> {
        if grant.used < grant.product.uses && !self.is_open_link(grant) {
            self.replace_token(grant).await?;
            return Ok(None);
        }
        let link = Link::of_grant(&self.secrets, grant).ok_or(PayError::Pending)?;
        if !self.ledger.delivered(grant).await? {
            return Err(PayError::Resolved);
        }
        Ok(Some(Goods::Link(link)))
    }

    /// Returns what a payer paid for and may not have received, on this network or on all: the
    /// goods of at most 100 payments, in the order of their ledger ids, after `after`. The
    /// caller has proof that the request comes from the payer.
    ///
    /// An upload that is left counts as not received, since nobody used it. So does the image of a
    /// direct upload: the ledger doesn't know whether its response arrived.
    ///
    /// # Errors
    /// [`PayError::Database`], or the store does not answer.
    pub async fn unreceived(
        &self,
        payer: Address,
        network: Option<&'static Network>,
        after: Option<&PaymentId>,
    ) -> Result<Unreceived, PayError> {
        let (payer, network) = (payer.to_string(), network.map(|network| network.caip2));
        let after = after.map_or("", PaymentId::as_str);
        let found = claims::find_unreceived(&self.db, &payer, network, after, PAGE + 1).await?;
        let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let next = match found.get(page) {
            None => None,
            Some(_) => found.get(page - 1).map(|last| last.id.clone()),
        };
        let mut unreceived = Unreceived {
            purchases: Vec::new(),
            next,
            open: claims::count_open(&self.db, &payer, network).await?,
        };
        for payment in found.into_iter().take(page) {
            match self.deliver(&payment, payment.version).await {
                Ok(sold) => unreceived.purchases.push((payment, sold)),
                // Deleted, resolved or voided since the search.
                Err(
                    PayError::Gone
                    | PayError::Resolved
                    | PayError::Voided { .. }
                    | PayError::Pending,
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(unreceived)
    }

    /// The renewal that a payment bought, if it was for one.
    async fn renewal_of(&self, row: &Payment) -> Result<Option<Renewal>, DbError> {
        match &row.product.target {
            Some(_) => renewals::find(&self.db, &row.id).await,
            None => Ok(None),
        }
    }

    /// Returns the valid token. If it expired unused, or the key that made it is gone, a new token
    /// with the next serial replaces it, and the old one stops working. `None`: the grant changed
    /// meanwhile.
    async fn token(&self, grant: &Grant) -> Result<Option<Goods>, PayError> {
        let now = self.clock.now();
        let valid = self.token_of(grant).filter(|_| grant.token_expires > now);
        let (token, expires_at) = match valid {
            Some(token) => (token, grant.token_expires),
            None => match self.replace_token(grant).await? {
                Some(next) => next,
                None => return Ok(None),
            },
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
    /// Replaces the token of a grant, or the secret of its link, by the next one. `None`: the grant
    /// changed meanwhile.
    async fn replace_token(
        &self,
        grant: &Grant,
    ) -> Result<Option<(UploadToken, Timestamp)>, DbError> {
        let life = grant.product.link_life();
        let expires_at = self
            .clock
            .now()
            .plus(life.unwrap_or(self.settings.token_ttl));
        let next = self.derive(grant, grant.serial.saturating_add(1), expires_at);
        kill_point!("token.replace.before");
        let replaced = grants::replace_token(&self.db, grant, &next.hash(), expires_at).await?;
        kill_point!("token.replace.after");
        Ok(replaced.then_some((next, expires_at)))
    }

    /// Whether a grant's link still takes uploads, as far as its time and its key decide.
    fn is_open_link(&self, grant: &Grant) -> bool {
        grant.revoked_at.is_none()
            && grant.token_expires > self.clock.now()
            && self.token_of(grant).is_some()
    }

    /// The token of a grant; `None` if the key that made it is gone.
    fn token_of(&self, grant: &Grant) -> Option<UploadToken> {
        UploadToken::of_grant(&self.secrets, grant)
    }

    fn derive(&self, grant: &Grant, serial: u32, expires: Timestamp) -> UploadToken {
        let (key, life) = (self.secrets.current(), grant.product.link_life());
        UploadToken::grant(key, &grant.payment_id, life, serial, expires)
    }
}

/// Turns a failure to read the goods of a settled payment into an error of the payment, not of an
/// upload: the money has moved.
fn unread(error: UploadError) -> PayError {
    match error {
        UploadError::Database(error) => PayError::Database(error),
        other => PayError::Upload(other),
    }
}
