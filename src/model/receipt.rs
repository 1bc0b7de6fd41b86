//! The claims of pixtoll's own receipts.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::model::ids::ImageId;
use crate::pricing::money::AtomicAmount;
use crate::system::clock::Timestamp;

/// The `typ` header of receipts. Nothing else that the same key signs has this type.
pub const RECEIPT_TYPE: &str = "pixtoll-receipt";

/// What was bought for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptKind {
    /// The upload.
    Upload,
    /// A renewal.
    Renewal,
}

/// The claims of a receipt, in the order in which they are signed. A receipt binds a payment to the
/// bytes, the term and the price that it bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The issuer: `http.base_url`.
    pub iss: String,
    /// What was bought.
    pub kind: ReceiptKind,
    /// The image's id.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub image_id: ImageId,
    /// SHA-256 of the stored bytes, which the image's link serves, in hexadecimal.
    pub sha256: String,
    /// The tier's name.
    pub tier: String,
    /// The amount that was paid, in atomic units.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub amount: AtomicAmount,
    /// The decimals of the asset.
    pub decimals: usize,
    /// The number of uploads that the amount bought.
    pub uploads: u32,
    /// The address of the token contract.
    pub asset: String,
    /// The network's CAIP-2 id.
    pub network: String,
    /// The payer's address.
    pub payer: String,
    /// The recipient's address.
    pub pay_to: String,
    /// The hash of the transaction that paid.
    pub transaction: String,
    /// When the payment settled.
    #[schemars(with = "String")]
    pub settled_at: Timestamp,
    /// When the image became public.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// Until when this purchase keeps the image; null: until the service ends.
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
}

fn as_text<S: Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
