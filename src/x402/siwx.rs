//! Sign-in-with-x, the x402 extension by which a wallet signs in: the challenge, the signed message
//! as clients send it, and the text that an EVM wallet signs (ERC-4361).

use alloy_primitives::{Address, B256, Bytes, eip191_hash_message};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::header;
use super::wire::Resource;
use crate::pricing::networks::{self, Network};
use crate::system::clock::Timestamp;

/// The name of the extension.
pub const SIGN_IN_WITH_X: &str = "sign-in-with-x";
/// The request header of a signed message: base64 of its JSON.
pub const SIGN_IN_HEADER: &str = "SIGN-IN-WITH-X";
/// The path of the route at which payers sign in.
pub const CLAIMS_PATH: &str = "/api/claims";
/// The version of messages (ERC-4361).
pub const VERSION: &str = "1";
/// The kind of signature of EVM wallets: `personal_sign` (EIP-191).
const EIP191: &str = "eip191";
/// The longest message that is read, in bytes of JSON. Signatures of contract wallets may be long.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// What a challenge asks the wallet to sign.
#[derive(Debug)]
pub struct ChallengeInfo<'a> {
    /// Host and port of the server's origin.
    pub domain: &'a str,
    /// The URL of the route to sign in at.
    pub uri: &'a str,
    /// What signing in does, for people.
    pub statement: &'a str,
    /// The nonce that the server made.
    pub nonce: &'a str,
    /// When the challenge was made.
    pub issued_at: Timestamp,
    /// When the nonce expires.
    pub expires_at: Timestamp,
}

/// A challenge to sign in, ready to send.
#[derive(Debug, Clone)]
pub struct SignInChallenge {
    /// The value of the `PAYMENT-REQUIRED` header. It offers nothing for sale.
    pub header: String,
    /// The extensions, for the body.
    pub extensions: Value,
    /// The URL of the route to sign in at.
    pub uri: String,
    /// What signing in does, for people.
    pub statement: String,
}

impl ChallengeInfo<'_> {
    /// Builds the challenge. `chains` are the networks on which a contract wallet can sign.
    pub fn challenge(&self, chains: &[&'static Network]) -> SignInChallenge {
        let chains: Vec<Value> = chains
            .iter()
            .map(|network| json!({"chainId": network.caip2, "type": EIP191}))
            .collect();
        let extensions = json!({SIGN_IN_WITH_X: {
            "info": {
                "domain": self.domain, "uri": self.uri, "version": VERSION, "statement": self.statement,
                "nonce": self.nonce, "issuedAt": self.issued_at, "expirationTime": self.expires_at,
                "resources": [self.uri],
            },
            "supportedChains": chains,
            "schema": schema(),
        }});
        let resource = Resource {
            url: self.uri.to_owned(),
            description: self.statement.to_owned(),
            mime_type: "application/json".to_owned(),
        };
        let document = json!({
            "x402Version": 2, "error": "Sign in with your wallet. Nothing is for sale here.",
            "resource": resource, "accepts": [], "extensions": extensions,
        });
        SignInChallenge {
            header: header::encode(&document),
            extensions,
            uri: self.uri.to_owned(),
            statement: self.statement.to_owned(),
        }
    }
}

/// The JSON Schema of a signed message.
fn schema() -> Value {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    let uri = json!({"type": "string", "format": "uri"});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "domain": text, "address": text, "statement": text, "uri": uri, "version": text, "chainId": text,
            "type": text, "nonce": text, "issuedAt": time, "expirationTime": time, "notBefore": time,
            "requestId": text, "resources": {"type": "array", "items": uri}, "signature": text,
        },
        "required": [
            "domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt", "signature",
        ],
    })
}

/// A signed message as a client sends it. Unknown fields are ignored: nobody signed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedMessage {
    /// Host and port of the server's origin.
    pub domain: String,
    /// The address of the wallet, with its checksum (EIP-55).
    pub address: String,
    /// What signing in does, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// The URL of the route to sign in at.
    pub uri: String,
    /// `1`.
    pub version: String,
    /// The chain, as a CAIP-2 id.
    pub chain_id: String,
    /// The kind of signature: `eip191`, also for contract wallets.
    #[serde(rename = "type")]
    pub kind: String,
    /// The nonce of the challenge.
    pub nonce: String,
    /// When the message was made (RFC 3339).
    pub issued_at: String,
    /// When the message expires (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<String>,
    /// From when on the message is valid (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// An id of the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// URLs that the message is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
    /// The signature of [`Self::text`] by `personal_sign`, in hexadecimal digits after `0x`.
    pub signature: String,
}

/// Why a signed message can't be read, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The message is longer than [`MAX_MESSAGE_BYTES`].
    #[error("The signed message is longer than {MAX_MESSAGE_BYTES} bytes, which is the limit.")]
    TooLong,
    /// The header is not padded base64 in the standard alphabet.
    #[error(
        "{SIGN_IN_HEADER} is not base64. Encode the message's JSON in the standard alphabet, with padding."
    )]
    NotBase64,
    /// The JSON is not a signed message.
    #[error(
        "This is not a signed message of sign-in-with-x: {0}. Send the fields of the challenge's info, and chainId, type, address and signature."
    )]
    Shape(String),
}

impl SignedMessage {
    /// Reads the value of the header [`SIGN_IN_HEADER`].
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(header: &[u8]) -> Result<Self, MessageError> {
        if header.len() > MAX_MESSAGE_BYTES {
            return Err(MessageError::TooLong);
        }
        let json = STANDARD
            .decode(header.trim_ascii())
            .map_err(|_| MessageError::NotBase64)?;
        Self::parse(&json)
    }

    /// Reads a message's JSON.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn parse(json: &[u8]) -> Result<Self, MessageError> {
        if json.len() > MAX_MESSAGE_BYTES {
            return Err(MessageError::TooLong);
        }
        serde_json::from_slice(json).map_err(|error| MessageError::Shape(shape(&error)))
    }

    /// The value of the header [`SIGN_IN_HEADER`].
    pub fn encode(&self) -> String {
        header::encode(self)
    }

    /// The network that the message names; `None`: it is not an EVM network that is known here.
    pub fn network(&self) -> Option<&'static Network> {
        networks::find(&self.chain_id).filter(|network| network.caip2 == self.chain_id)
    }

    /// Whether the message is for an EVM wallet.
    pub fn is_eip191(&self) -> bool {
        self.kind == EIP191
    }

    /// The address of the wallet. `None`: it is not an address with its checksum (EIP-55).
    pub fn wallet(&self) -> Option<Address> {
        Address::parse_checksummed(&self.address, None).ok()
    }

    /// Whether every field fits into its line of the text. With a line break in one field, the same
    /// text could say something else.
    pub fn fits_lines(&self) -> bool {
        let texts = [
            Some(&self.domain),
            Some(&self.address),
            self.statement.as_ref(),
            Some(&self.uri),
            Some(&self.version),
            Some(&self.chain_id),
            Some(&self.nonce),
            Some(&self.issued_at),
            self.expiration_time.as_ref(),
            self.not_before.as_ref(),
            self.request_id.as_ref(),
        ];
        let resources = self.resources.iter().flatten();
        let mut all = texts.into_iter().flatten().chain(resources);
        all.all(|text| !text.chars().any(char::is_control))
    }

    /// The text that the wallet signs (ERC-4361).
    pub fn text(&self) -> String {
        let chain = self.chain_id.strip_prefix("eip155:");
        let mut lines = vec![
            format!(
                "{} wants you to sign in with your Ethereum account:",
                self.domain
            ),
            self.address.clone(),
            String::new(),
        ];
        lines.extend(self.statement.clone());
        lines.extend([
            String::new(),
            format!("URI: {}", self.uri),
            format!("Version: {}", self.version),
            format!("Chain ID: {}", chain.unwrap_or(&self.chain_id)),
            format!("Nonce: {}", self.nonce),
            format!("Issued At: {}", self.issued_at),
        ]);
        let optional = [
            ("Expiration Time", &self.expiration_time),
            ("Not Before", &self.not_before),
            ("Request ID", &self.request_id),
        ];
        for (name, value) in optional {
            lines.extend(value.as_ref().map(|value| format!("{name}: {value}")));
        }
        if let Some(resources) = &self.resources {
            lines.push("Resources:".to_owned());
            lines.extend(resources.iter().map(|resource| format!("- {resource}")));
        }
        lines.join("\n")
    }

    /// The hash that the wallet signs (EIP-191).
    pub fn hash(&self) -> B256 {
        eip191_hash_message(self.text())
    }

    /// The signature's bytes. `None`: they are not hexadecimal digits after `0x`.
    pub fn signature(&self) -> Option<Bytes> {
        let digits = self.signature.strip_prefix("0x")?;
        hex::decode(digits).ok().map(Bytes::from)
    }
}

/// What is wrong with the JSON, without the client's values.
fn shape(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field") {
        text.split(" at line").next().unwrap_or(&text).to_owned()
    } else if error.is_data() {
        "a field has another type".to_owned()
    } else {
        "it is not JSON".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, hex};

    use super::*;
    use crate::evm::exact;

    fn message() -> SignedMessage {
        SignedMessage {
            domain: "img.example.com".to_owned(),
            address: "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A".to_owned(),
            statement: Some("List my uploads".to_owned()),
            uri: "https://img.example.com/api/my/uploads".to_owned(),
            version: VERSION.to_owned(),
            chain_id: "eip155:8453".to_owned(),
            kind: EIP191.to_owned(),
            nonce: "0123456789abcdef0123456789abcdef".to_owned(),
            issued_at: "2026-11-21T20:59:53.649Z".to_owned(),
            expiration_time: Some("2026-11-21T21:04:53.649Z".to_owned()),
            not_before: None,
            request_id: None,
            resources: Some(vec!["https://img.example.com/api/my/uploads".to_owned()]),
            signature: "0x".to_owned(),
        }
    }

    #[test]
    fn the_text_is_that_of_erc_4361() {
        // As @x402/extensions 2.27 writes it.
        let expected = "img.example.com wants you to sign in with your Ethereum account:\n\
            0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A\n\
            \n\
            List my uploads\n\
            \n\
            URI: https://img.example.com/api/my/uploads\n\
            Version: 1\n\
            Chain ID: 8453\n\
            Nonce: 0123456789abcdef0123456789abcdef\n\
            Issued At: 2026-11-21T20:59:53.649Z\n\
            Expiration Time: 2026-11-21T21:04:53.649Z\n\
            Resources:\n\
            - https://img.example.com/api/my/uploads";
        assert_eq!(message().text(), expected);
        let bare = SignedMessage {
            statement: None,
            expiration_time: None,
            not_before: Some("2026-11-21T20:00:00Z".to_owned()),
            request_id: Some("a".to_owned()),
            resources: Some(Vec::new()),
            ..message()
        };
        let text = bare.text();
        // Without a statement, two empty lines.
        assert!(text.contains("DAff2A\n\n\nURI: "), "{text}");
        let end = "Issued At: 2026-11-21T20:59:53.649Z\nNot Before: 2026-11-21T20:00:00Z\nRequest ID: a\nResources:";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        assert_eq!(
            SignedMessage::decode(message().encode().as_bytes()),
            Ok(message())
        );
        let without = br#"{"domain":"a"}"#;
        let error = SignedMessage::parse(without).unwrap_err();
        assert!(
            error.to_string().contains("missing field `address`"),
            "{error}"
        );
        for (json, problem) in [
            (&b"{"[..], "not JSON"),
            (br#"{"domain":1}"#, "another type"),
        ] {
            let error = SignedMessage::parse(json).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
        assert_eq!(SignedMessage::decode(b"*"), Err(MessageError::NotBase64));
        let long = vec![b'A'; MAX_MESSAGE_BYTES + 1];
        assert_eq!(SignedMessage::decode(&long), Err(MessageError::TooLong));
    }

    #[test]
    fn a_line_break_or_a_wrong_checksum_is_noticed() {
        assert!(message().fits_lines());
        let broken = |change: fn(&mut SignedMessage)| {
            let mut message = message();
            change(&mut message);
            message
        };
        assert!(!broken(|m| m.nonce.push('\n')).fits_lines());
        assert!(!broken(|m| m.resources = Some(vec!["a\r".to_owned()])).fits_lines());
        assert!(message().wallet().is_some());
        assert_eq!(broken(|m| m.address.make_ascii_lowercase()).wallet(), None);
    }

    #[test]
    fn a_signature_of_the_text_recovers_to_the_wallet() {
        use alloy_signer::SignerSync;
        let wallet =
            alloy_signer_local::PrivateKeySigner::from_bytes(&B256::repeat_byte(0x11)).unwrap();
        assert_eq!(
            wallet.address(),
            address!("19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A")
        );
        let mut signed = message();
        let signature = wallet.sign_message_sync(signed.text().as_bytes()).unwrap();
        signed.signature = format!("0x{}", hex::encode(signature.as_bytes()));
        let bytes = signed.signature().unwrap();
        assert_eq!(exact::recover(&signed.hash(), &bytes), signed.wallet());
    }
}
