//! Payments as a client makes them, and as an attacker changes them.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pixtoll::evm::exact::Authorization;
use pixtoll::model::payment::PaymentId;
use pixtoll::pricing::networks::{self, Network};
use pixtoll::system::clock::Timestamp;
use pixtoll::system::random::Randomness;
use serde_json::{Value, json};

use super::Answer;

/// A wallet for tests only. Equal numbers give equal wallets.
pub(crate) fn wallet(number: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(number)).unwrap()
}

/// The version of x402.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    V1,
    V2,
}

/// A payment. All fields may be changed. After a change of `authorization`, call
/// [`Payment::sign_by`].
#[derive(Debug, Clone)]
pub(crate) struct Payment {
    pub(crate) wire: Wire,
    pub(crate) path: String,
    pub(crate) accepted: Value,
    pub(crate) resource: Value,
    pub(crate) extensions: Value,
    pub(crate) network: &'static Network,
    pub(crate) authorization: Authorization,
    pub(crate) signature: Bytes,
    pub(crate) idempotency_key: Option<String>,
}

impl Payment {
    /// Accepts the first offer of a challenge, and echoes offer, resource and extensions, as every
    /// client does.
    pub(crate) fn answering(
        challenge: &Answer,
        path: &str,
        wallet: &PrivateKeySigner,
        now: Timestamp,
    ) -> Self {
        Self::accepting(&challenge.document("payment-required"), path, wallet, now)
    }

    /// Accepts the first offer of a challenge of version 2, however it was sent.
    pub(crate) fn accepting(
        document: &Value,
        path: &str,
        wallet: &PrivateKeySigner,
        now: Timestamp,
    ) -> Self {
        let offer = document["accepts"][0].clone();
        let network = networks::find(offer["network"].as_str().unwrap()).unwrap();
        let number = |value: &Value| value.as_str().unwrap().parse::<U256>().unwrap();
        let seconds = u64::try_from(now.seconds()).unwrap();
        let timeout = offer["maxTimeoutSeconds"].as_u64().unwrap();
        let authorization = Authorization {
            from: wallet.address(),
            to: offer["payTo"].as_str().unwrap().parse::<Address>().unwrap(),
            value: number(&offer["amount"]),
            valid_after: U256::ZERO,
            valid_before: U256::from(seconds + timeout),
            nonce: B256::from(Randomness::system().bytes::<32>()),
        };
        let mut payment = Self {
            wire: Wire::V2,
            path: path.to_owned(),
            accepted: offer,
            resource: document["resource"].clone(),
            extensions: document["extensions"].clone(),
            network,
            authorization,
            signature: Bytes::new(),
            idempotency_key: None,
        };
        payment.sign_by(wallet);
        payment
    }

    /// Signs the current authorization.
    pub(crate) fn sign_by(&mut self, wallet: &PrivateKeySigner) {
        let digest = self.authorization.digest(self.network);
        let signature = wallet.sign_hash_sync(&digest).unwrap();
        self.signature = Bytes::copy_from_slice(&signature.as_bytes());
    }

    /// The same authorization as a version 1 client sends it, which echoes nothing.
    pub(crate) fn as_v1(&self) -> Self {
        Self {
            wire: Wire::V1,
            extensions: Value::Null,
            ..self.clone()
        }
    }

    /// The same authorization as a stranger sends it who copied it from the chain.
    pub(crate) fn copied_from_the_chain(&self) -> Self {
        Self {
            extensions: json!({}),
            idempotency_key: None,
            ..self.clone()
        }
    }

    /// Adds an idempotency key in the payment-identifier extension.
    pub(crate) fn with_id(&self, id: &str) -> Self {
        let mut payment = self.clone();
        payment.extensions["payment-identifier"]["info"]["id"] = json!(id);
        payment
    }

    /// Replaces the challenge's ticket.
    pub(crate) fn with_ticket(&self, ticket: &str) -> Self {
        let mut payment = self.clone();
        payment.extensions["pixtoll"]["info"]["ticket"] = json!(ticket);
        payment
    }

    pub(crate) fn with_idempotency_key(&self, key: &str) -> Self {
        Self {
            idempotency_key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// The document in the payment header.
    pub(crate) fn document(&self) -> Value {
        let payload = json!({
            "signature": self.signature.to_string(),
            "authorization": {
                "from": self.authorization.from.to_string(),
                "to": self.authorization.to.to_string(),
                "value": self.authorization.value.to_string(),
                "validAfter": self.authorization.valid_after.to_string(),
                "validBefore": self.authorization.valid_before.to_string(),
                "nonce": self.authorization.nonce.to_string(),
            },
        });
        match self.wire {
            Wire::V1 => json!({
                "x402Version": 1, "scheme": "exact", "network": self.network.v1_name,
                "payload": payload,
            }),
            Wire::V2 => json!({
                "x402Version": 2, "accepted": self.accepted, "resource": self.resource,
                "extensions": self.extensions, "payload": payload,
            }),
        }
    }

    /// The value of the payment header.
    pub(crate) fn header(&self) -> String {
        STANDARD.encode(self.document().to_string())
    }

    /// The headers of a request with this payment.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let name = match self.wire {
            Wire::V1 => "X-PAYMENT",
            Wire::V2 => "PAYMENT-SIGNATURE",
        };
        let mut headers = vec![(name, self.header())];
        if let Some(key) = &self.idempotency_key {
            headers.push(("Idempotency-Key", key.clone()));
        }
        headers
    }

    /// The payment's ledger id.
    pub(crate) fn ledger_id(&self) -> PaymentId {
        PaymentId::of(
            self.network,
            self.authorization.from,
            self.authorization.nonce,
        )
    }
}
