use alloy_primitives::address;

use super::*;
use crate::client::wallet::WalletSource;
use crate::evm::exact::recover;
use crate::x402::challenge::{ChallengeTerms, Sale, challenge};
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
        signed: Vec::new(),
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

fn quote(document: &Value) -> Result<Quote, Unpayable> {
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

    let read = decode_payment(paid.header().as_bytes()).unwrap();
    let id = read.idempotency_key.unwrap();
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
        decode_payment(paid.header().as_bytes()).unwrap()
    });
    assert_ne!(one.authorization.nonce, other.authorization.nonce);
    assert_ne!(one.idempotency_key, other.idempotency_key);
}

#[test]
fn an_offer_with_an_unknown_field_value_is_skipped() {
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
            matches!(refused, Err(Unpayable::NoUsableOffer { .. })),
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
fn a_header_without_a_challenge_is_unreadable() {
    for bytes in [b"".as_slice(), b"{}", b"e30=", &vec![b'A'; 20_000]] {
        assert!(matches!(choose(bytes), Err(Unpayable::Unreadable)));
    }
    let mut old = document();
    old["x402Version"] = json!(1);
    assert!(matches!(quote(&old), Err(Unpayable::Unreadable)));
}

#[test]
fn play_money_must_be_declared_and_on_a_test_network() {
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
fn an_idempotency_key_is_sent_even_when_the_server_asks_for_none() {
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
    assert!(check_cap(cap, cap, 1).is_ok());
    let explain = |units: u128, files| {
        check_cap(AtomicAmount::from_units(units), cap, files)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        explain(10_001, 1),
        "The price is 0.010001 USDC per file, above the limit of 0.01 (--max-price). To pay it, use --max-price 0.010001."
    );
    assert_eq!(
        explain(30_000, 2),
        "The price is 0.015 USDC per file, above the limit of 0.005 (--max-price). To pay it, use --max-price 0.015."
    );
}
