//! The challenge of a 402 response. Clients of version 2 read it in the `PAYMENT-REQUIRED` header,
//! clients of version 1 in the body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::header;
use super::offer_receipt::{OFFER_RECEIPT, offers_block};
use super::wire::{Offer, Resource};
use crate::system::random::Randomness;

/// What a challenge asks money for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sale {
    /// An upload token.
    Token,
    /// The upload of the image in the same request.
    Upload,
    /// The import of an image from a URL.
    Import,
    /// The renewal of an image.
    Renewal,
    /// An upload link.
    Link,
}

/// The contents of a challenge.
#[derive(Debug)]
pub struct ChallengeTerms<'a> {
    /// What is sold.
    pub sale: Sale,
    /// The tier's name.
    pub tier: &'a str,
    /// The resource that all offers are for.
    pub resource: Resource,
    /// The offers, preferred first.
    pub offers: Vec<Offer>,
    /// The signed offers, in the same order.
    pub signed: Vec<Value>,
    /// A code or a sentence, for clients that read only the protocol.
    pub reason: &'a str,
    /// Whether payments are in play money. Only then does our own client create a wallet.
    pub play_money: bool,
}

/// A challenge, ready to send.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// The value of the `PAYMENT-REQUIRED` header.
    pub header: String,
    /// The ticket in the header.
    ticket: String,
    /// The offers in the form of version 1, for the body.
    pub accepts_v1: Vec<Value>,
}

/// The header of a challenge, to be sent again with other tickets. The rest of it is encoded once.
#[derive(Debug, Clone)]
pub struct HeaderTemplate {
    before: String,
    /// The bytes that hold the ticket, encoded between the two other parts.
    block: Vec<u8>,
    /// Where the ticket begins in `block`.
    start: usize,
    after: String,
}

impl Challenge {
    /// The header as a template. `None`: the ticket is not found in it.
    pub fn template(&self) -> Option<HeaderTemplate> {
        let document = STANDARD.decode(&self.header).ok()?;
        let ticket = memchr::memmem::find(&document, self.ticket.as_bytes())?;
        // Base64 encodes three bytes at a time.
        let (from, to) = (
            ticket / 3 * 3,
            (ticket + self.ticket.len()).next_multiple_of(3),
        );
        let (block, after) = (document.get(from..to)?, document.get(to..)?);
        Some(HeaderTemplate {
            before: STANDARD.encode(document.get(..from)?),
            block: block.to_vec(),
            start: ticket - from,
            after: STANDARD.encode(after),
        })
    }
}

impl HeaderTemplate {
    /// The header with a new ticket.
    pub fn fill(&self, randomness: &Randomness) -> String {
        let (mut block, ticket) = (self.block.clone(), new_ticket(randomness));
        if let Some(place) = block.get_mut(self.start..self.start + ticket.len()) {
            place.copy_from_slice(ticket.as_bytes());
        }
        let length = self.before.len() + self.after.len() + block.len().div_ceil(3) * 4;
        let mut header = String::with_capacity(length);
        header.push_str(&self.before);
        STANDARD.encode_string(&block, &mut header);
        header.push_str(&self.after);
        header
    }
}

fn new_ticket(randomness: &Randomness) -> String {
    hex::encode(randomness.bytes::<16>())
}

/// The largest header, in bytes, with offers on one network and with several. Clients return most
/// of it, and proxies reject long headers. Signed offers that don't fit are left out; everything
/// else is required.
const MAX_BYTES: usize = 3 * 1024 - 1;
const MAX_BYTES_OF_SEVERAL: usize = 4 * 1024;

/// Builds a challenge with a new ticket. This needs no I/O.
pub fn challenge(terms: &ChallengeTerms<'_>, randomness: &Randomness) -> Challenge {
    let ticket = new_ticket(randomness);
    let mut document = json!({
        "x402Version": 2,
        "error": terms.reason,
        "resource": terms.resource,
        "accepts": terms.offers.iter().map(Offer::v2).collect::<Vec<_>>(),
        "extensions": {
            "pixtoll": pixtoll(terms.play_money, &ticket),
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
        header: with_signed_offers(&mut document, &terms.signed),
        ticket,
        accepts_v1: terms
            .offers
            .iter()
            .filter_map(|offer| offer.v1(&terms.resource))
            .map(with_schema)
            .collect(),
    }
}

/// Encodes the header with as many signed offers as fit, preferred first.
fn with_signed_offers(document: &mut Value, signed: &[Value]) -> String {
    let most = match signed.len() {
        0 | 1 => MAX_BYTES,
        _ => MAX_BYTES_OF_SEVERAL,
    };
    for count in (0..=signed.len()).rev() {
        if let Some(extensions) = document
            .get_mut("extensions")
            .and_then(Value::as_object_mut)
        {
            match signed.get(..count) {
                None | Some([]) => extensions.remove(OFFER_RECEIPT),
                Some(fitting) => extensions.insert(OFFER_RECEIPT.to_owned(), offers_block(fitting)),
            };
        }
        let header = header::encode(document);
        if header.len() <= most || count == 0 {
            return header;
        }
    }
    header::encode(document)
}

/// The `pixtoll` extension. Its ticket proves later that a payment's header was not copied from the
/// chain: the client returns it, and it is never published.
fn pixtoll(play_money: bool, ticket: &str) -> Value {
    json!({
        "info": {"ticket": ticket, "playMoney": play_money},
        "schema": {"type": "object", "required": ["ticket"], "properties": {
            "ticket": {"type": "string"},
        }},
    })
}

fn payment_identifier() -> Value {
    json!({
        "info": {"required": false},
        "schema": {"type": "object", "required": ["required"], "properties": {
            "required": {"type": "boolean"},
            "id": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }},
    })
}

/// A URL of an image, as an example.
const IMAGE_URL: &str = "https://example.com/a.png";
/// What the field `url` of an import holds.
const URL: &str = "of a PNG, JPEG, GIF or WebP file";

/// The `bazaar` extension, by which catalogues of facilitators list the route. It is forwarded to
/// the facilitator.
pub fn bazaar(sale: Sale, tier: &str) -> Value {
    let (example, properties, required) = match sale {
        Sale::Token | Sale::Renewal | Sale::Link => (json!({}), json!({}), json!([])),
        Sale::Import => (
            json!({"url": IMAGE_URL}),
            json!({"url": {"type": "string", "description": URL}}),
            json!(["url"]),
        ),
        Sale::Upload => (
            json!({"image": "iVBORw0KGgo="}),
            json!({"image": {"type": "string", "description": "base64 of a PNG, JPEG, GIF or WebP file"}}),
            json!(["image"]),
        ),
    };
    let mut block = json!({
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
                "output": {"type": "object", "required": ["type"]},
            },
        },
    });
    if sale == Sale::Renewal
        && let Some(fields) = block.as_object_mut()
    {
        // One entry for the renewals of all images.
        fields.insert("routeTemplate".to_owned(), json!("/api/images/:id/renew"));
    }
    block
}

fn output_schema(sale: Sale, tier: &str) -> Value {
    let fields = match sale {
        Sale::Token | Sale::Renewal | Sale::Link => json!({}),
        Sale::Import => json!({"url": {"type": "string", "required": true, "description": URL}}),
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
        Sale::Upload | Sale::Import => json!({
            "url": "https://i.example.com/k3v9Qw2mZr7T.png", "id": "k3v9Qw2mZr7T", "tier": tier,
            "expiresAt": "2027-11-28T10:00:00.000Z",
        }),
        Sale::Renewal => json!({
            "url": "https://i.example.com/k3v9Qw2mZr7T.png", "id": "k3v9Qw2mZr7T", "tier": tier,
            "expiresAt": "2028-11-28T10:00:00.000Z", "previousExpiresAt": "2027-11-28T10:00:00.000Z",
        }),
        Sale::Link => json!({
            "url": "https://example.com/u/40 hex digits", "tier": tier, "uploads": 1, "used": 0,
            "expiresAt": "2026-12-28T10:00:00.000Z",
        }),
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, Bytes};

    use super::*;
    use crate::pricing::money::AtomicAmount;
    use crate::pricing::networks::BASE;
    use crate::x402::offer_receipt::{OfferPayload, signed_offer};

    /// Builds a challenge with a host name of this length and offers on this many networks. Returns
    /// the length of the header, the number of offers, and the number of signed ones.
    fn challenge_of(host: usize, networks: usize, sale: Sale) -> (usize, usize, usize) {
        let url = format!(
            "https://{}.example.com/api/upload/token/permanent",
            "x".repeat(host)
        );
        let offer = Offer {
            network: &BASE,
            amount: AtomicAmount::from_units(1_000_000),
            pay_to: Address::repeat_byte(0x22),
            max_timeout_seconds: 300,
        };
        let payload = OfferPayload::new(&offer, &url, 1_800_000_300);
        let signature = Bytes::from(vec![0xab; 65]);
        let terms = ChallengeTerms {
            sale,
            tier: "permanent",
            resource: Resource {
                url,
                description: "Upload token: one image up to 5 MiB, kept for ever".to_owned(),
                mime_type: "application/json".to_owned(),
            },
            signed: (0..networks)
                .map(|index| signed_offer(&payload, &signature, index))
                .collect(),
            offers: vec![offer; networks],
            reason: "Payment required",
            play_money: false,
        };
        let header = challenge(&terms, &Randomness::seeded(1)).header;
        let document: Value = header::decode(header.as_bytes()).unwrap();
        let count = |pointer: &str| {
            let list = document.pointer(pointer).and_then(Value::as_array);
            list.map_or(0, Vec::len)
        };
        let signed = count("/extensions/offer-receipt/info/offers");
        (header.len(), count("/accepts"), signed)
    }

    #[test]
    fn a_challenge_has_as_many_signed_offers_as_fit() {
        for sale in [Sale::Token, Sale::Upload, Sale::Import, Sale::Link] {
            for (host, networks, signed) in [
                (4, 1, 1),
                (30, 1, 1),
                (200, 1, 0),
                (30, 2, 2),
                (30, 3, 1),
                (30, 6, 0),
            ] {
                let (bytes, accepts, seen) = challenge_of(host, networks, sale);
                let case = format!("{sale:?} {host} {networks}: {bytes} bytes, {seen} signed");
                println!("{case}");
                assert_eq!((accepts, seen), (networks, signed), "{case}");
                assert!(networks > 1 || signed == 0 || bytes < 3 * 1024, "{case}");
                assert!(signed == 0 || bytes <= 4 * 1024, "{case}");
            }
        }
    }

    #[test]
    fn a_template_is_the_header_with_another_ticket_wherever_it_stands() {
        let randomness = Randomness::seeded(1);
        for before in 0..6 {
            for after in 0..6 {
                let ticket = "5ec4e7".repeat(6)[..32].to_owned();
                let text =
                    |ticket: &str| format!("{}{ticket}{}", "a".repeat(before), "z".repeat(after));
                let challenge = Challenge {
                    header: STANDARD.encode(text(&ticket)),
                    ticket,
                    accepts_v1: Vec::new(),
                };
                let Some(template) = challenge.template() else {
                    // The last bytes have no whole group of three.
                    assert!((before + 32 + after) / 3 * 3 < before + 32);
                    continue;
                };
                let filled = STANDARD.decode(template.fill(&randomness)).unwrap();
                let filled = String::from_utf8(filled).unwrap();
                let ticket = &filled[before..before + 32];
                assert!(ticket.bytes().all(|byte| byte.is_ascii_hexdigit()));
                assert_ne!(ticket, challenge.ticket);
                assert_eq!(filled, text(ticket));
            }
        }
    }
}
