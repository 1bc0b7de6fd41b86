//! Sign-in messages as wallets make them (x402 extension sign-in-with-x).

use alloy_primitives::{B256, U256, hex};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use pixtoll::x402::siwx::SignedMessage;
use serde_json::Value;

use super::process::Request;
use super::{Answer, TestApp};

/// The path at which payers sign in.
pub(crate) const CLAIMS: &str = "/api/claims";

/// The message that a challenge asks this wallet to sign, signed.
pub(crate) fn sign_in(challenge: &Answer, wallet: &PrivateKeySigner) -> SignedMessage {
    assert_eq!(challenge.status, 402, "{}", challenge.text());
    let document = challenge.document("payment-required");
    assert_eq!(document["accepts"], serde_json::json!([]));
    answering(&document["extensions"]["sign-in-with-x"], wallet)
}

/// The message that a challenge's extension asks this wallet to sign, signed.
pub(crate) fn answering(extension: &Value, wallet: &PrivateKeySigner) -> SignedMessage {
    let info = &extension["info"];
    let text = |name: &str| info[name].as_str().unwrap().to_owned();
    let chain = &extension["supportedChains"][0];
    let mut message = SignedMessage {
        domain: text("domain"),
        address: wallet.address().to_checksum(None),
        statement: Some(text("statement")),
        uri: text("uri"),
        version: text("version"),
        chain_id: chain["chainId"].as_str().unwrap().to_owned(),
        kind: chain["type"].as_str().unwrap().to_owned(),
        nonce: text("nonce"),
        issued_at: text("issuedAt"),
        expiration_time: Some(text("expirationTime")),
        not_before: None,
        request_id: None,
        resources: Some(vec![text("uri")]),
        signature: String::new(),
    };
    sign_by(&mut message, wallet);
    message
}

/// Signs the current fields by `personal_sign`.
pub(crate) fn sign_by(message: &mut SignedMessage, wallet: &PrivateKeySigner) {
    let signature = wallet.sign_message_sync(message.text().as_bytes()).unwrap();
    message.signature = hex::encode_prefixed(signature.as_bytes());
}

/// The other form of a signature, with s in the upper half, that anybody can make.
pub(crate) fn with_high_s(message: &SignedMessage) -> SignedMessage {
    let order = U256::from_be_bytes(hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    let mut bytes = hex::decode(&message.signature).unwrap();
    let s = order - U256::from_be_slice(&bytes[32..64]);
    bytes[32..64].copy_from_slice(B256::from(s).as_slice());
    bytes[64] = 55 - bytes[64];
    SignedMessage {
        signature: hex::encode_prefixed(bytes),
        ..message.clone()
    }
}

/// The request that signs in, to a server in a process of its own.
pub(crate) fn request(message: &SignedMessage) -> Request {
    Request::post(CLAIMS).with("SIGN-IN-WITH-X", &message.encode())
}

impl TestApp {
    /// A new message of this wallet for the route at which this request is answered, signed.
    pub(crate) async fn message_for(
        &self,
        method: &str,
        path: &str,
        body: &str,
        wallet: &PrivateKeySigner,
    ) -> SignedMessage {
        let json = [("content-type", "application/json")];
        sign_in(
            &self.send(method, path, &json, body.to_owned()).await,
            wallet,
        )
    }

    /// Sends a request with a signed message.
    pub(crate) async fn signed(
        &self,
        method: &str,
        path: &str,
        body: &str,
        message: &SignedMessage,
    ) -> Answer {
        let headers = [
            ("SIGN-IN-WITH-X", message.encode()),
            ("content-type", "application/json".to_owned()),
        ];
        self.send(method, path, &headers, body.to_owned()).await
    }

    /// Sends a request, and again with what its challenge asks this wallet to sign.
    pub(crate) async fn as_wallet(
        &self,
        method: &str,
        path: &str,
        body: &str,
        wallet: &PrivateKeySigner,
    ) -> Answer {
        let message = self.message_for(method, path, body, wallet).await;
        self.signed(method, path, body, &message).await
    }

    /// A new message of this wallet, signed.
    pub(crate) async fn sign_in(&self, wallet: &PrivateKeySigner) -> SignedMessage {
        sign_in(&self.post(CLAIMS).await, wallet)
    }

    /// Sends a signed message in the header.
    pub(crate) async fn claim_with(&self, message: &SignedMessage) -> Answer {
        let headers = [("SIGN-IN-WITH-X", message.encode())];
        self.send("POST", CLAIMS, &headers, Vec::new()).await
    }

    /// Signs in with this wallet, and returns the payments in the response.
    pub(crate) async fn claim(&self, wallet: &PrivateKeySigner) -> Vec<Value> {
        let message = self.sign_in(wallet).await;
        let answer = self.claim_with(&message).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["payments"].as_array().unwrap().clone()
    }
}

/// The only payment in a response, which bought a token: its transaction and the token.
pub(crate) fn only_token(payments: &[Value]) -> (String, String) {
    let [payment] = payments else {
        panic!("{payments:?}");
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        text(&payment["transaction"]),
        text(&payment["token"]["token"]),
    )
}
