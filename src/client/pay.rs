//! From a challenge to a signed payment. Pure: time, randomness and key are given.

use std::fmt;

use alloy_primitives::{Address, B256, U256};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::wallet::{Wallet, WalletError};
use crate::clock::Timestamp;
use crate::money::AtomicAmount;
use crate::networks::{self, Network};
use crate::random::Randomness;
use crate::x402::evm::Authorization;
use crate::x402::header;
use crate::x402::wire::{self, Version};

/// A shorter time is over before a server could settle; a longer one leaves a signature about
/// that can be used long after this program has ended.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 8..=3600;

/// What a server asks, and all that has to be echoed to pay it.
#[derive(Debug, Clone)]
pub struct Quote {
    /// Chain and token.
    pub network: &'static Network,
    /// The price of this one upload.
    pub amount: AtomicAmount,
    /// Who gets it.
    pub pay_to: Address,
    /// Whether the server says that the money is worth nothing, on a network where that can be.
    pub is_play_money: bool,
    timeout_seconds: u64,
    accepted: Value,
    resource: Value,
    extensions: Map<String, Value>,
}

/// A signed payment. Its header is money: it is shown to the server and kept in a private file,
/// and nowhere else.
#[derive(Clone)]
pub struct SignedPayment {
    header: String,
    /// Who pays.
    pub payer: Address,
    /// How much.
    pub amount: AtomicAmount,
    /// Chain and token.
    pub network: &'static Network,
}

/// Why a challenge isn't paid.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// No challenge of version 2.
    #[error("The server's price can't be read: it sent no x402 challenge of version 2.")]
    Unreadable,
    /// Nothing that this client knows how to pay.
    #[error(
        "The server offers no payment that this client makes: USDC on {known}, exact, by EIP-3009."
    )]
    NoUsableOffer {
        /// The networks that would do.
        known: String,
    },
    /// Too dear.
    #[error(
        "The price is {price} USDC a file and the cap is {cap}. To pay it, say --max-price {price}."
    )]
    AboveCap {
        /// What is asked.
        price: String,
        /// What is allowed.
        cap: String,
    },
    /// The key did not sign.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawChallenge {
    x402_version: u64,
    #[serde(default)]
    resource: Value,
    accepts: Vec<Value>,
    #[serde(default)]
    extensions: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawOffer {
    scheme: String,
    network: String,
    amount: String,
    asset: Address,
    pay_to: Address,
    max_timeout_seconds: u64,
    extra: RawExtra,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawExtra {
    name: String,
    version: String,
    asset_transfer_method: Option<String>,
    payment_flow: Option<String>,
}

/// The first offer of a `PAYMENT-REQUIRED` header that this client can pay.
pub fn choose(challenge: &[u8]) -> Result<Quote, PayError> {
    let challenge: RawChallenge = header::decode(challenge).map_err(|_| PayError::Unreadable)?;
    if challenge.x402_version != u64::from(Version::V2.number()) {
        return Err(PayError::Unreadable);
    }
    let says_play = challenge
        .extensions
        .get("pixtoll")
        .and_then(|ours| ours.pointer("/info/playMoney"))
        .is_some_and(|flag| *flag == Value::Bool(true));
    let usable = |offer: Value| {
        let raw = RawOffer::deserialize(&offer).ok()?;
        let (network, amount) = payable(&raw)?;
        Some(Quote {
            network,
            amount,
            pay_to: raw.pay_to,
            is_play_money: says_play && network.is_test,
            timeout_seconds: raw.max_timeout_seconds,
            accepted: offer,
            resource: challenge.resource.clone(),
            extensions: challenge.extensions.clone(),
        })
    };
    challenge
        .accepts
        .into_iter()
        .find_map(usable)
        .ok_or_else(|| {
            let known: Vec<_> = networks::ALL.iter().map(|network| network.name()).collect();
            PayError::NoUsableOffer {
                known: known.join(" or "),
            }
        })
}

/// Network and price of an offer, when every field is one that this client understands: it signs
/// for what it knows, never for what a server says that a token is.
fn payable(offer: &RawOffer) -> Option<(&'static Network, AtomicAmount)> {
    let network = networks::find(&offer.network).filter(|known| known.caip2 == offer.network)?;
    let amount = AtomicAmount::from_atomic(&offer.amount).ok()?;
    let extra = &offer.extra;
    let usable = offer.scheme == wire::SCHEME
        && offer.asset == network.usdc
        && extra.name == network.domain_name
        && extra.version == network.domain_version
        && extra
            .asset_transfer_method
            .as_deref()
            .is_none_or(|method| method == "eip3009")
        && extra
            .payment_flow
            .as_deref()
            .is_none_or(|flow| flow == "authorization")
        && TIMEOUT_SECONDS.contains(&offer.max_timeout_seconds)
        && offer.pay_to != Address::ZERO
        && !amount.is_zero();
    usable.then_some((network, amount))
}

/// Refuses an amount above the cap.
pub fn check_cap(amount: AtomicAmount, cap: AtomicAmount) -> Result<(), PayError> {
    if amount <= cap {
        return Ok(());
    }
    Err(PayError::AboveCap {
        price: amount.to_decimal_usd(),
        cap: cap.to_decimal_usd(),
    })
}

impl Quote {
    /// Signs this quote: a fresh nonce, a fresh payment id, everything else echoed as it came.
    pub fn sign(
        &self,
        wallet: &Wallet,
        now: Timestamp,
        randomness: &Randomness,
    ) -> Result<SignedPayment, PayError> {
        let until = now
            .seconds()
            .saturating_add(i64::try_from(self.timeout_seconds).unwrap_or(0));
        let authorization = Authorization {
            from: wallet.address(),
            to: self.pay_to,
            value: U256::from(self.amount.units()),
            // Zero and not "ten minutes ago": a clock that runs ahead must not make it invalid.
            valid_after: U256::ZERO,
            valid_before: U256::from(u64::try_from(until).unwrap_or(0)),
            nonce: B256::from(randomness.bytes::<32>()),
        };
        let signature = wallet.sign(&authorization.digest(self.network))?;
        let mut extensions = self.extensions.clone();
        set_payment_id(&mut extensions, hex::encode(randomness.bytes::<16>()))?;
        let mut document = json!({
            "x402Version": Version::V2.number(),
            "accepted": self.accepted,
            "payload": wire::payload(&authorization, &signature),
            "extensions": extensions,
        });
        if let (Value::Object(fields), false) = (&mut document, self.resource.is_null()) {
            fields.insert("resource".to_owned(), self.resource.clone());
        }
        SignedPayment::parse(header::encode(&document)).ok_or(PayError::Unreadable)
    }
}

/// The id is the proof of who presents the payment (the signature becomes public on the chain), so
/// it is sent whether or not the server asks for one.
fn set_payment_id(extensions: &mut Map<String, Value>, id: String) -> Result<(), PayError> {
    extensions
        .entry("payment-identifier")
        .or_insert_with(|| json!({"info": {}}))
        .get_mut("info")
        .and_then(Value::as_object_mut)
        .ok_or(PayError::Unreadable)?
        .insert("id".to_owned(), Value::String(id));
    Ok(())
}

impl SignedPayment {
    /// The payment that a header holds; `None` for what can't be a payment of ours.
    pub fn parse(header: String) -> Option<Self> {
        let read = header::decode_payment(header.as_bytes(), Version::V2).ok()?;
        read.payment_id?;
        Some(Self {
            payer: read.authorization.from,
            amount: AtomicAmount::from_atomic(&read.authorization.value.to_string()).ok()?,
            network: read.network?,
            header,
        })
    }

    /// The value of `PAYMENT-SIGNATURE`.
    pub fn header(&self) -> &str {
        &self.header
    }
}

impl fmt::Debug for SignedPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedPayment({} units by {})", self.amount, self.payer)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::address;

    use super::*;
    use crate::client::wallet::WalletSource;
    use crate::x402::challenge::{ChallengeTerms, Sale, challenge};
    use crate::x402::evm::recover;
    use crate::x402::header::decode_payment;
    use crate::x402::wire::{Offer, Resource};

    fn document() -> Value {
        let terms = ChallengeTerms {
            sale: Sale::Upload,
            tier: "year",
            resource: Resource {
                url: "https://img.example.com/api/upload/year".to_owned(),
                description: "one image".to_owned(),
                mime_type: "application/json".to_owned(),
            },
            offers: vec![Offer {
                network: networks::find("base-sepolia").unwrap(),
                amount: AtomicAmount::from_units(10_000),
                pay_to: address!("2222222222222222222222222222222222222222"),
                max_timeout_seconds: 60,
            }],
            reason: "payment_required",
            play_money: true,
        };
        let header = challenge(&terms, &Randomness::seeded(7)).header;
        header::decode(header.as_bytes()).unwrap()
    }

    fn quote(document: &Value) -> Result<Quote, PayError> {
        choose(header::encode(document).as_bytes())
    }

    fn wallet() -> Wallet {
        WalletSource::Key("11".repeat(32)).find().unwrap().unwrap()
    }

    #[test]
    fn a_payment_is_signed_for_the_offer_and_echoes_the_challenge() {
        let asked = document();
        let quote = quote(&asked).unwrap();
        assert!(quote.is_play_money);
        let now = Timestamp::from_seconds(1_800_000_000);
        let paid = quote.sign(&wallet(), now, &Randomness::seeded(1)).unwrap();
        let sent: Value = header::decode(paid.header().as_bytes()).unwrap();
        assert_eq!(sent["accepted"], asked["accepts"][0]);
        assert_eq!(sent["resource"], asked["resource"]);
        assert_eq!(sent["x402Version"], 2);
        let mut expected = asked["extensions"].clone();
        let id = &sent["extensions"]["payment-identifier"]["info"]["id"];
        expected["payment-identifier"]["info"]["id"] = id.clone();
        assert_eq!(sent["extensions"], expected);

        let read = decode_payment(paid.header().as_bytes(), Version::V2).unwrap();
        let id = read.payment_id.unwrap();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let authorization = read.authorization;
        assert_eq!(authorization.value, U256::from(10_000));
        assert_eq!(authorization.valid_after, U256::ZERO);
        assert_eq!(authorization.valid_before, U256::from(1_800_000_060_u64));
        assert_eq!(authorization.to, quote.pay_to);
        let digest = authorization.digest(quote.network);
        assert_eq!(recover(&digest, &read.signature), Some(wallet().address()));
        assert_eq!(
            format!("{paid:?}"),
            format!("SignedPayment(10000 units by {})", wallet().address())
        );
    }

    #[test]
    fn two_payments_share_neither_nonce_nor_id() {
        let quote = quote(&document()).unwrap();
        let randomness = Randomness::seeded(1);
        let [one, other] = [(); 2].map(|()| {
            let paid = quote
                .sign(&wallet(), Timestamp::from_seconds(9), &randomness)
                .unwrap();
            decode_payment(paid.header().as_bytes(), Version::V2).unwrap()
        });
        assert_ne!(one.authorization.nonce, other.authorization.nonce);
        assert_ne!(one.payment_id, other.payment_id);
    }

    #[test]
    fn an_offer_that_is_not_understood_in_full_is_passed_over() {
        let changes: [(&str, Value); 14] = [
            ("/scheme", json!("upto")),
            ("/network", json!("base-sepolia")),
            ("/network", json!("eip155:1")),
            ("/network", json!("eip155:8453")),
            (
                "/asset",
                json!("0x2222222222222222222222222222222222222222"),
            ),
            ("/extra/name", json!("USD Coin")),
            ("/extra/version", json!("1")),
            ("/extra/assetTransferMethod", json!("permit2")),
            ("/extra/paymentFlow", json!("upfront")),
            ("/maxTimeoutSeconds", json!(7)),
            ("/maxTimeoutSeconds", json!(3601)),
            ("/amount", json!(10000)),
            ("/amount", json!("0")),
            (
                "/payTo",
                json!("0x0000000000000000000000000000000000000000"),
            ),
        ];
        for (pointer, value) in changes {
            let mut asked = document();
            let good = asked["accepts"][0].clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            asked["accepts"][0].pointer_mut(parent).unwrap()[key] = value.clone();
            let refused = quote(&asked);
            assert!(
                matches!(refused, Err(PayError::NoUsableOffer { .. })),
                "{pointer} {value}"
            );
            asked["accepts"].as_array_mut().unwrap().push(good.clone());
            assert_eq!(quote(&asked).unwrap().accepted, good);
        }
        for seconds in [8, 3600] {
            let mut asked = document();
            asked["accepts"][0]["maxTimeoutSeconds"] = json!(seconds);
            assert!(quote(&asked).is_ok());
        }
    }

    #[test]
    fn what_is_no_challenge_is_unreadable() {
        for bytes in [b"".as_slice(), b"{}", b"e30=", &vec![b'A'; 20_000]] {
            assert!(matches!(choose(bytes), Err(PayError::Unreadable)));
        }
        let mut old = document();
        old["x402Version"] = json!(1);
        assert!(matches!(quote(&old), Err(PayError::Unreadable)));
    }

    #[test]
    fn money_is_play_only_where_the_server_says_so_and_the_network_is_a_test() {
        for (pointer, value) in [
            ("/info/playMoney", json!("true")),
            ("/info/playMoney", json!(false)),
        ] {
            let mut asked = document();
            *asked["extensions"]["pixtoll"].pointer_mut(pointer).unwrap() = value;
            assert!(!quote(&asked).unwrap().is_play_money);
        }
        let mut real = document();
        let base = networks::find("base").unwrap();
        real["accepts"][0]["network"] = json!(base.caip2);
        real["accepts"][0]["asset"] = json!(base.usdc);
        real["accepts"][0]["extra"]["name"] = json!(base.domain_name);
        assert!(!quote(&real).unwrap().is_play_money);
    }

    #[test]
    fn a_payment_id_is_sent_even_when_the_server_asks_for_none() {
        let mut asked = document();
        asked["extensions"] = json!({});
        let quote = quote(&asked).unwrap();
        let paid = quote.sign(
            &wallet(),
            Timestamp::from_seconds(9),
            &Randomness::seeded(1),
        );
        assert!(paid.is_ok());
    }

    #[test]
    fn the_cap_itself_is_paid_and_one_unit_more_is_not() {
        let cap = AtomicAmount::from_units(10_000);
        assert!(check_cap(cap, cap).is_ok());
        let error = check_cap(AtomicAmount::from_units(10_001), cap)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "The price is 0.010001 USDC a file and the cap is 0.01. To pay it, say --max-price 0.010001."
        );
    }
}
