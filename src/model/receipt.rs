//! What a receipt of pixtoll's own says.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::clock::Timestamp;
use crate::ids::ImageId;
use crate::money::AtomicAmount;

/// The type in a receipt's header: nothing else that is signed by the same key can pass for one.
pub const RECEIPT_TYPE: &str = "pixtoll-receipt";

/// What was bought for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptKind {
    /// Its upload.
    Upload,
    /// More time.
    Renewal,
}

/// The claims of a receipt, in the order in which they are signed. A payment and the bytes that it
/// bought are bound by it: nobody can say later that it was for another image, term or price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Who says so: `http.base_url`.
    pub iss: String,
    /// What was bought.
    pub kind: ReceiptKind,
    /// For which image.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub image_id: ImageId,
    /// SHA-256 of its stored bytes, which are those that its link serves.
    pub sha256: String,
    /// The tier.
    pub tier: String,
    /// What was paid, in atomic units.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub amount: AtomicAmount,
    /// How many decimals the asset has.
    pub decimals: usize,
    /// How many uploads were bought for that amount.
    pub uploads: u32,
    /// The token's contract.
    pub asset: String,
    /// The network's CAIP-2 id.
    pub network: String,
    /// Who paid.
    pub payer: String,
    /// Who was paid.
    pub pay_to: String,
    /// The hash of the transaction that paid.
    pub transaction: String,
    /// When that was settled.
    #[schemars(with = "String")]
    pub settled_at: Timestamp,
    /// When the image became public.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// Until when this purchase keeps it; `None`: until the service ends.
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
}

fn as_text<S: Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
