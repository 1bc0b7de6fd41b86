//! The answer 402: one document that clients of version 2 read in its header and clients of version
//! 1 in its body.

use serde_json::{Value, json};

use super::header;
use super::wire::{Offer, Resource};
use crate::random::Randomness;

/// What a challenge asks money for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sale {
    /// An upload token.
    Token,
    /// The upload of the image in the same request.
    Upload,
}

/// What is offered, to whom the offers go, and why.
#[derive(Debug)]
pub struct ChallengeTerms<'a> {
    /// What is sold.
    pub sale: Sale,
    /// The tier's name.
    pub tier: &'a str,
    /// The resource, for all offers.
    pub resource: Resource,
    /// The offers, best first.
    pub offers: Vec<Offer>,
    /// A code or sentence for clients that only read the protocol.
    pub reason: &'a str,
    /// Whether the money is play money: our client makes a wallet of its own only then.
    pub play_money: bool,
}

/// A challenge as it goes out.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// Value of `PAYMENT-REQUIRED`.
    pub header: String,
    /// The offers of version 1, for the body.
    pub accepts_v1: Vec<Value>,
}

/// Writes a challenge with a fresh ticket. Costs no I/O.
pub fn challenge(terms: &ChallengeTerms<'_>, randomness: &Randomness) -> Challenge {
    let document = json!({
        "x402Version": 2,
        "error": terms.reason,
        "resource": terms.resource,
        "accepts": terms.offers.iter().map(Offer::v2).collect::<Vec<_>>(),
        "extensions": {
            "pixtoll": pixtoll(terms.play_money, randomness),
            "payment-identifier": payment_identifier(),
            "bazaar": bazaar(terms.sale, terms.tier),
        },
    });
    let with_schema = |mut offer: Value| {
        if let Some(fields) = offer.as_object_mut() {
            fields.insert(
                "outputSchema".to_owned(),
                output_schema(terms.sale, terms.tier),
            );
        }
        offer
    };
    Challenge {
        header: header::encode(&document),
        accepts_v1: terms
            .offers
            .iter()
            .filter_map(|offer| offer.v1(&terms.resource))
            .map(with_schema)
            .collect(),
    }
}

/// The ticket proves later that a payment's header was not copied from the chain: it is echoed to
/// us and never published.
fn pixtoll(play_money: bool, randomness: &Randomness) -> Value {
    json!({
        "info": {"ticket": hex::encode(randomness.bytes::<16>()), "playMoney": play_money},
        "schema": {"type": "object", "required": ["ticket"], "properties": {
            "ticket": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "playMoney": {"type": "boolean"},
        }},
    })
}

fn payment_identifier() -> Value {
    json!({
        "info": {"required": false},
        "schema": {"type": "object", "required": ["required"], "properties": {
            "required": {"type": "boolean"},
            "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[A-Za-z0-9_-]+$"},
        }},
    })
}

/// The Bazaar block, by which facilitators' catalogues list the route: it is forwarded to them.
pub fn bazaar(sale: Sale, tier: &str) -> Value {
    let (example, properties, required) = match sale {
        Sale::Token => (json!({}), json!({}), json!([])),
        Sale::Upload => (
            json!({"image": "iVBORw0KGgo="}),
            json!({"image": {"type": "string", "description": "base64 of a PNG, JPEG, GIF or WebP file"}}),
            json!(["image"]),
        ),
    };
    json!({
        "info": {
            "input": {"type": "http", "method": "POST", "bodyType": "json", "body": example},
            "output": {"type": "json", "example": output_example(sale, tier)},
        },
        "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["input"],
            "properties": {
                "input": {
                    "type": "object",
                    "required": ["type", "method", "bodyType", "body"],
                    "properties": {
                        "type": {"type": "string", "const": "http"},
                        "method": {"type": "string", "enum": ["POST"]},
                        "bodyType": {"type": "string", "enum": ["json"]},
                        "body": {"type": "object", "properties": properties, "required": required},
                    },
                },
                "output": {"type": "object", "required": ["type"], "properties": {
                    "type": {"type": "string"}, "example": {"type": "object"},
                }},
            },
        },
    })
}

fn output_schema(sale: Sale, tier: &str) -> Value {
    let fields = match sale {
        Sale::Token => json!({}),
        Sale::Upload => json!({"image": {
            "type": "string", "required": true,
            "description": "base64 of a PNG, JPEG, GIF or WebP file",
        }}),
    };
    json!({
        "input": {
            "type": "http", "method": "POST", "bodyType": "json",
            "bodyFields": fields, "discoverable": true,
        },
        "output": output_example(sale, tier),
    })
}

fn output_example(sale: Sale, tier: &str) -> Value {
    match sale {
        Sale::Token => json!({
            "token": "40 hex digits", "expiresAt": "2026-11-28T10:00:00.000Z",
            "tier": tier, "uploads": 1, "uploadUrl": "https://example.com/api/upload",
        }),
        Sale::Upload => json!({
            "url": "https://i.example.com/k3v9Qw2mZr7T.png", "id": "k3v9Qw2mZr7T",
            "contentType": "image/png", "sizeBytes": 24891, "tier": tier,
            "expiresAt": "2027-11-28T10:00:00.000Z",
        }),
    }
}
