//! Receipts: a signed statement of what was paid for an image, for the holder of its delete token or
//! the wallet that paid, and the public keys by which anybody can check it.
//!
//! A receipt is built from the ledger's rows for each request, and is the same each time. It isn't stored. It exists
//! as long as those rows do (`retention.records`).

use std::sync::Arc;

use alloy_primitives::Address;

use crate::db::keys::KnownKey;
use crate::db::{Db, DbError, images, keys, payments, renewals};
use crate::keys::signing::SigningKeys;
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::payment::{Payment, PaymentState};
use crate::model::receipt::{RECEIPT_TYPE, Receipt, ReceiptKind};
use crate::pricing::money::DECIMALS;
use crate::system::clock::Timestamp;

pub mod verify;
pub mod verify_proof;

/// The path where the public keys are published.
pub const KEYS_PATH: &str = "/.well-known/jwks.json";

/// A receipt together with its signed form.
#[derive(Debug, Clone)]
pub struct SignedReceipt {
    /// The receipt.
    pub receipt: Receipt,
    /// The receipt as a compact JWS.
    pub jws: String,
}

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum NoReceipt {
    /// No image with this id was ever public here, or its records are erased.
    #[error(
        "There is no record of this image: it never existed here, or its records have been erased."
    )]
    Unknown,
    /// The image was uploaded for free.
    #[error("This image was uploaded for free. Nothing was paid, so there is no receipt.")]
    Free,
    /// The operator voided the payment.
    #[error(
        "The operator voided the payment of this image, because the chain did not show its transfer, so there is no \
         receipt."
    )]
    Void,
    /// The wallet that asks paid nothing for this image.
    #[error(
        "The wallet that signed in paid nothing for this image, so it sees no receipt of it. Sign in with the wallet that paid, or send the image's delete token in X-Delete-Token."
    )]
    Foreign,
    /// The database failed.
    #[error(
        "The receipt can't be created, because the database does not answer. Send the same request again later."
    )]
    Database(#[from] DbError),
}

/// Creates the receipts of a deployment.
#[derive(Debug)]
pub struct Receipts {
    db: Db,
    keys: Arc<SigningKeys>,
    issuer: String,
}

/// Who asks for receipts. The caller has proof of it.
#[derive(Debug, Clone, Copy)]
pub enum Reader<'a> {
    /// The holder of the delete token, who sees every receipt.
    Holder,
    /// A wallet. The owner of the image sees every receipt; another payer sees its own.
    Wallet {
        /// The wallet.
        wallet: Address,
        /// The only network, as a CAIP-2 id, on which it proved its address; `None`: all.
        network: Option<&'a str>,
    },
}

/// A payment and what it bought for an image.
struct Purchase {
    kind: ReceiptKind,
    payment: Payment,
    expires_at: Option<Timestamp>,
}

impl Reader<'_> {
    /// Whether the reader may see everything about this image.
    fn owns(self, image: &Image) -> bool {
        match self {
            Self::Holder => true,
            Self::Wallet { wallet, network } => {
                let owner = image.owner.as_ref();
                owner.is_some_and(|owner| owner.is(wallet, network))
            }
        }
    }

    /// Whether the reader made this payment.
    fn paid(self, payment: &Payment) -> bool {
        match self {
            Self::Holder => true,
            Self::Wallet { wallet, network } => {
                let on = payment.network().caip2;
                payment.authorization.from == wallet && network.is_none_or(|it| it == on)
            }
        }
    }
}

impl Receipts {
    /// Creates receipts in the name of `issuer` with these keys, and records the keys in the database as the current
    /// ones.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn open(
        db: Db,
        keys: Arc<SigningKeys>,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Self, DbError> {
        keys::use_keys(&db, keys.public(), now).await?;
        Ok(Self {
            db,
            keys,
            issuer: issuer.to_owned(),
        })
    }

    /// The receipts of an image that `reader` may see: one for each settled payment, the oldest first.
    ///
    /// # Errors
    /// [`NoReceipt`].
    pub async fn of_image(
        &self,
        id: &ImageId,
        reader: Reader<'_>,
    ) -> Result<Vec<SignedReceipt>, NoReceipt> {
        // A wallet doesn't learn whether an image exists for which it paid nothing.
        let unknown = || match reader {
            Reader::Holder => NoReceipt::Unknown,
            Reader::Wallet { .. } => NoReceipt::Foreign,
        };
        let image = images::find(&self.db, id).await?.ok_or_else(unknown)?;
        let created_at = image.published_at.ok_or_else(unknown)?;
        let mut purchases = self.purchases(&image, created_at).await?;
        if !reader.owns(&image) {
            purchases.retain(|purchase| reader.paid(&purchase.payment));
            if purchases.is_empty() {
                return Err(NoReceipt::Foreign);
            }
        }
        let refusal = if purchases.is_empty() {
            NoReceipt::Free
        } else {
            NoReceipt::Void
        };
        let receipts: Vec<SignedReceipt> = purchases
            .into_iter()
            .filter_map(|purchase| self.receipt(&image, created_at, purchase))
            .map(|receipt| self.sign(receipt))
            .collect();
        if receipts.is_empty() {
            return Err(refusal);
        }
        Ok(receipts)
    }

    /// The keys that sign receipts and offers.
    pub const fn keys(&self) -> &Arc<SigningKeys> {
        &self.keys
    }

    /// The current and the earlier public keys.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn known_keys(&self) -> Result<Vec<KnownKey>, DbError> {
        keys::list(&self.db).await
    }

    /// The URL where the public keys are published.
    pub fn keys_url(&self) -> String {
        format!("{}{KEYS_PATH}", self.issuer)
    }

    /// Everything that was bought for an image: its upload and its renewals.
    async fn purchases(
        &self,
        image: &Image,
        created_at: Timestamp,
    ) -> Result<Vec<Purchase>, DbError> {
        let mut purchases = Vec::new();
        if let Some(id) = &image.payment_id
            && let Some(payment) = payments::find(&self.db, id).await?
        {
            // The expiry that this payment bought; renewals may have moved the image's own since.
            let expires_at = payment.terms.keep.end(created_at);
            purchases.push(Purchase {
                kind: ReceiptKind::Upload,
                payment,
                expires_at,
            });
        }
        for (id, renewal) in renewals::list_of_image(&self.db, &image.id).await? {
            if let Some(payment) = payments::find(&self.db, &id).await? {
                purchases.push(Purchase {
                    kind: ReceiptKind::Renewal,
                    payment,
                    expires_at: renewal.to,
                });
            }
        }
        Ok(purchases)
    }

    /// Builds the receipt of a purchase. `None` for a payment that isn't settled, or is void.
    fn receipt(&self, image: &Image, created_at: Timestamp, purchase: Purchase) -> Option<Receipt> {
        let Purchase {
            kind,
            payment,
            expires_at,
        } = purchase;
        if payment.state != PaymentState::Settled || payment.voided_at.is_some() {
            return None;
        }
        let offer = &payment.terms.offer;
        Some(Receipt {
            iss: self.issuer.clone(),
            kind,
            image_id: image.id.clone(),
            sha256: image.first_sha256().to_owned(),
            amount: offer.amount,
            decimals: DECIMALS,
            uploads: payment.product.uses,
            asset: offer.network.usdc.to_checksum(None),
            network: offer.network.caip2.to_owned(),
            payer: payment.authorization.from.to_checksum(None),
            pay_to: offer.pay_to.to_checksum(None),
            transaction: payment.transaction?.to_string(),
            settled_at: payment.settled_at?,
            created_at,
            expires_at,
            tier: payment.product.tier,
        })
    }

    fn sign(&self, receipt: Receipt) -> SignedReceipt {
        let claims = serde_json::to_vec(&receipt).unwrap_or_default();
        SignedReceipt {
            jws: self.keys.sign_claims(RECEIPT_TYPE, &claims),
            receipt,
        }
    }
}
