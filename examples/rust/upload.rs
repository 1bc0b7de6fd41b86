//! Uploads an image, pays for it, and prints its link, without an SDK of x402:
//!
//!     cargo run --example upload -- photo.png [TIER]
//!     cargo run --example upload -- --link IMAGES DAYS [TIER]
//!
//! The second form buys an upload link; whoever has the link uploads with it, by `curl -T photo.png LINK`.
//!
//! `PIXTOLL_SERVER` is the server. `WALLET_KEY` is the private key of the paying account; without it a new key pays, which
//! has money at a sandbox only.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of its own prints, and reads clock and environment"
)]

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, U256, address};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

sol! {
    /// The message that the payer signs (EIP-3009). Its nonce can be used once.
    struct TransferWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }
}

/// The network and its USDC contract. Base has 8453 and 0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913, whose name in
/// `domain` is "USD Coin". Only this token is paid, whatever a server asks for.
const CHAIN: u64 = 84532;
const USDC: Address = address!("036CbD53842c5426634e7929541eC2318f3dCF7e");
/// The highest price that is paid, in atomic units: 0.05 USDC.
const MOST: u64 = 50_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "there is another TLS provider")?;
    let http = reqwest::Client::builder()
        // A redirect would take the payment somewhere else.
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_mins(2))
        .build()?;
    let server =
        std::env::var("PIXTOLL_SERVER").unwrap_or_else(|_| "http://127.0.0.1:4020".to_owned());
    let wallet = match std::env::var("WALLET_KEY") {
        Ok(key) => key.parse()?,
        Err(_) => PrivateKeySigner::random(),
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (url, body) = match arguments.as_slice() {
        ["--link", images, days, rest @ ..] => {
            let tier = rest.first().unwrap_or(&"year");
            let url = format!("{server}/api/links?images={images}&days={days}&tier={tier}");
            (url, Vec::new())
        }
        [file, rest @ ..] => {
            let tier = rest.first().unwrap_or(&"year");
            (format!("{server}/api/upload/{tier}"), std::fs::read(file)?)
        }
        [] => return Err("name an image, or --link IMAGES DAYS".into()),
    };

    // The server answers with its price before it reads an image, so this request has none.
    let challenge = http.post(&url).send().await?;
    if challenge.status() != 402 {
        return Err(challenge.text().await?.into());
    }
    let header = challenge
        .headers()
        .get("PAYMENT-REQUIRED")
        .ok_or("no price")?;
    let challenge: Value = serde_json::from_slice(&STANDARD.decode(header)?)?;
    let payment = sign(&challenge, &wallet)?;

    let answer = http
        .post(&url)
        .header("PAYMENT-SIGNATURE", payment)
        .body(body)
        .send()
        .await?;
    let answer: Value = answer.json().await?;
    // On a failure, `charged` says whether the payment moved money. While it is null, send the same payment again, and
    // never another one.
    match answer.get("url").and_then(Value::as_str) {
        Some(link) => println!("{link}"),
        None => return Err(answer.to_string().into()),
    }
    Ok(())
}

/// The payment for the first offer of a challenge in this program's token: its header's value.
fn sign(challenge: &Value, wallet: &PrivateKeySigner) -> Result<String, Box<dyn Error>> {
    let offers = challenge["accepts"].as_array().ok_or("no offers")?;
    let is_ours = |offer: &&Value| {
        offer["scheme"] == "exact"
            && offer["network"] == format!("eip155:{CHAIN}")
            && offer["asset"].as_str().and_then(|asset| asset.parse().ok()) == Some(USDC)
    };
    let offer = offers
        .iter()
        .find(is_ours)
        .ok_or("no offer in USDC on this network")?;
    let text = |name: &str| offer[name].as_str().ok_or("an offer without a field");
    let amount: u64 = text("amount")?.parse()?;
    if amount > MOST {
        return Err(
            format!("the price is {amount} atomic units, and at most {MOST} are paid").into(),
        );
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seconds = offer["maxTimeoutSeconds"].as_u64().unwrap_or(60);
    let message = TransferWithAuthorization {
        from: wallet.address(),
        to: text("payTo")?.parse()?,
        value: U256::from(amount),
        validAfter: U256::ZERO,
        validBefore: U256::from(now + seconds),
        nonce: B256::from(rand::random::<[u8; 32]>()),
    };
    let domain = Eip712Domain::new(
        Some("USDC".into()),
        Some("2".into()),
        Some(U256::from(CHAIN)),
        Some(USDC),
        None,
    );
    let signature = wallet.sign_hash_sync(&message.eip712_signing_hash(&domain))?;
    let payment = json!({
        "x402Version": 2,
        "resource": challenge["resource"],
        "accepted": offer,
        "payload": {
            "signature": signature.to_string(),
            "authorization": {
                "from": message.from,
                "to": message.to,
                "value": message.value.to_string(),
                "validAfter": message.validAfter.to_string(),
                "validBefore": message.validBefore.to_string(),
                "nonce": message.nonce,
            },
        },
        "extensions": challenge["extensions"],
    });
    Ok(STANDARD.encode(payment.to_string()))
}
