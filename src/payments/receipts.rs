//! The settlement receipt that a client receives, with the signed receipt of the `offer-receipt`
//! extension. Only responses with goods carry it, and these need proof.

use alloy_primitives::B256;
use serde_json::{Value, json};

use super::{Payments, known};
use crate::model::payment::Payment;
use crate::receipts::KEYS_PATH;
use crate::x402::offer_receipt::{OFFER_RECEIPT, ReceiptPayload, receipt_block};
use crate::x402::siwx::CLAIMS_PATH;
use crate::x402::wire::{SettlementResponse, Version};

impl Payments {
    /// The receipt of a settled payment in the form of `version`. It has the same bytes each time.
    pub(super) fn receipt(&self, row: &Payment, version: Version) -> SettlementResponse {
        let network = row.network();
        SettlementResponse {
            success: true,
            error_reason: None,
            transaction: row
                .transaction
                .as_ref()
                .map(B256::to_string)
                .unwrap_or_default(),
            network: version.spell(network).to_owned(),
            payer: Some(row.authorization.from.to_checksum(None)),
            extensions: Some(self.receipt_extensions(row)),
        }
    }

    /// The signed receipt, and where the payer claims what it does not receive.
    fn receipt_extensions(&self, row: &Payment) -> Value {
        let mut extensions =
            json!({"pixtoll": {"info": {"claims": self.catalog.url(CLAIMS_PATH)}}});
        if let (Some(block), Some(fields)) = (self.signed_receipt(row), extensions.as_object_mut())
        {
            fields.insert(OFFER_RECEIPT.to_owned(), block);
        }
        extensions
    }

    /// The signed receipt. It names the transaction, so that it can be checked against the chain;
    /// only the payer receives it. The resource is the URL that the payment was first sent to.
    fn signed_receipt(&self, row: &Payment) -> Option<Value> {
        let payload = ReceiptPayload::new(
            row.network().caip2,
            &known::resource_url(row)?,
            &row.authorization.from.to_checksum(None),
            u64::try_from(row.settled_at?.seconds()).ok()?,
            &row.transaction?.to_string(),
        );
        let signature = self.keys.sign_digest(&payload.digest());
        Some(receipt_block(
            &payload,
            &signature,
            &self.catalog.url(KEYS_PATH),
        ))
    }
}
