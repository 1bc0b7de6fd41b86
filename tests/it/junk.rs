//! Invalid payments: each is refused for free, leaves no trace, and does not spoil the valid
//! payment from which it was made.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_signer_local::PrivateKeySigner;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use pixtoll::pricing::networks;
use pixtoll::system::clock::Clock;
use serde_json::{Value, json};

use crate::support::signing::wallet;
use crate::support::{Answer, Payment, START, TestApp, Wire, pictures};

const TOKEN: &str = "/api/upload/token/year";
const NO_MATCH: &str = "No matching payment requirements";
const RESOURCE: &str = "resource_mismatch";
const VALUE: &str = "invalid_exact_evm_payload_authorization_value";
const RECIPIENT: &str = "invalid_exact_evm_payload_recipient_mismatch";
const VALID_BEFORE: &str = "invalid_exact_evm_payload_authorization_valid_before";
const VALID_AFTER: &str = "invalid_exact_evm_payload_authorization_valid_after";
const SIGNATURE: &str = "invalid_exact_evm_payload_signature";

/// The order of the group of secp256k1.
const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

type Spoil = fn(&mut Payment, &PrivateKeySigner);
type Headers = Vec<(&'static str, String)>;
type Make = fn(&Payment) -> Headers;
type Spelling = fn(&mut Value);

fn seconds(from_start: i64) -> U256 {
    U256::from(u64::try_from(START + from_start).unwrap())
}

fn stranger() -> Address {
    Address::repeat_byte(0x77)
}

/// Payments that do not match the offer: the reason in the response, and the change to a valid
/// payment.
const MISFITS: &[(&str, &str, Spoil)] = &[
    (
        "one unit more, offer and signature",
        NO_MATCH,
        |p, wallet| {
            p.accepted["amount"] = json!("10001");
            p.authorization.value += U256::from(1);
            p.sign_by(wallet);
        },
    ),
    (
        "one unit less, offer and signature",
        NO_MATCH,
        |p, wallet| {
            p.accepted["amount"] = json!("9999");
            p.authorization.value -= U256::from(1);
            p.sign_by(wallet);
        },
    ),
    ("one unit more, signed", VALUE, |p, wallet| {
        p.authorization.value += U256::from(1);
        p.sign_by(wallet);
    }),
    ("one unit less, signed", VALUE, |p, wallet| {
        p.authorization.value -= U256::from(1);
        p.sign_by(wallet);
    }),
    ("nothing, signed", VALUE, |p, wallet| {
        p.authorization.value = U256::ZERO;
        p.sign_by(wallet);
    }),
    ("2^256 - 1, signed", VALUE, |p, wallet| {
        p.authorization.value = U256::MAX;
        p.sign_by(wallet);
    }),
    ("one unit less, offer only", NO_MATCH, |p, _| {
        p.accepted["amount"] = json!("9999");
    }),
    ("the amount as a number", NO_MATCH, |p, _| {
        p.accepted["amount"] = json!(10_000);
    }),
    ("to another recipient, signed", RECIPIENT, |p, wallet| {
        p.authorization.to = stranger();
        p.sign_by(wallet);
    }),
    ("to another recipient, offer only", NO_MATCH, |p, _| {
        p.accepted["payTo"] = json!(stranger().to_checksum(None));
    }),
    (
        "to another recipient, offer and signature",
        NO_MATCH,
        |p, wallet| {
            p.accepted["payTo"] = json!(stranger().to_checksum(None));
            p.authorization.to = stranger();
            p.sign_by(wallet);
        },
    ),
    ("another token", NO_MATCH, |p, _| {
        p.accepted["asset"] = json!(stranger().to_checksum(None));
    }),
    ("another chain, offer only", NO_MATCH, |p, _| {
        p.accepted["network"] = json!("eip155:8453");
    }),
    (
        "another chain, offer and signature",
        NO_MATCH,
        |p, wallet| {
            p.network = networks::find("eip155:8453").unwrap();
            p.accepted["network"] = json!("eip155:8453");
            p.sign_by(wallet);
        },
    ),
    ("another chain, signature only", SIGNATURE, |p, wallet| {
        p.network = networks::find("eip155:8453").unwrap();
        p.sign_by(wallet);
    }),
    ("an unknown chain", NO_MATCH, |p, _| {
        p.accepted["network"] = json!("eip155:1");
    }),
    ("the network in the words of version 1", NO_MATCH, |p, _| {
        p.accepted["network"] = json!("base-sepolia");
    }),
    ("a longer timeout", NO_MATCH, |p, _| {
        p.accepted["maxTimeoutSeconds"] = json!(301);
    }),
    ("the timeout as text", NO_MATCH, |p, _| {
        p.accepted["maxTimeoutSeconds"] = json!("300");
    }),
    ("no timeout", NO_MATCH, |p, _| {
        p.accepted
            .as_object_mut()
            .unwrap()
            .remove("maxTimeoutSeconds");
    }),
    ("no extra", NO_MATCH, |p, _| {
        p.accepted.as_object_mut().unwrap().remove("extra");
    }),
    ("extra without a name", NO_MATCH, |p, _| {
        p.accepted["extra"].as_object_mut().unwrap().remove("name");
    }),
    ("extra with another name", NO_MATCH, |p, _| {
        p.accepted["extra"]["name"] = json!("USD Coin");
    }),
    ("extra with another version", NO_MATCH, |p, _| {
        p.accepted["extra"]["version"] = json!("1");
    }),
    ("an offer with one key more", NO_MATCH, |p, _| {
        p.accepted["discount"] = json!("100%");
    }),
    ("the resource at another origin", RESOURCE, |p, _| {
        p.resource["url"] = json!("https://img.example.com/api/upload/token/year");
    }),
    ("the resource at another path", RESOURCE, |p, _| {
        let url = p.resource["url"]
            .as_str()
            .unwrap()
            .replace("year", "permanent");
        p.resource["url"] = json!(url);
    }),
    ("the resource with a query", RESOURCE, |p, _| {
        let url = format!("{}?images=5", p.resource["url"].as_str().unwrap());
        p.resource["url"] = json!(url);
    }),
    ("the resource with a slash more", RESOURCE, |p, _| {
        let url = format!("{}/", p.resource["url"].as_str().unwrap());
        p.resource["url"] = json!(url);
    }),
    ("expired", VALID_BEFORE, |p, wallet| {
        p.authorization.valid_before = seconds(-1);
        p.sign_by(wallet);
    }),
    ("seven seconds left", VALID_BEFORE, |p, wallet| {
        p.authorization.valid_before = seconds(7);
        p.sign_by(wallet);
    }),
    (
        "a second longer than the timeout and its margin",
        VALID_BEFORE,
        |p, wallet| {
            p.authorization.valid_before = seconds(361);
            p.sign_by(wallet);
        },
    ),
    ("valid for ever", VALID_BEFORE, |p, wallet| {
        p.authorization.valid_before = U256::MAX;
        p.sign_by(wallet);
    }),
    ("valid from this second on", VALID_AFTER, |p, wallet| {
        p.authorization.valid_after = seconds(0);
        p.sign_by(wallet);
    }),
    ("not yet valid", VALID_AFTER, |p, wallet| {
        p.authorization.valid_after = seconds(30);
        p.sign_by(wallet);
    }),
    ("signed by another key", SIGNATURE, |p, _| {
        p.sign_by(&wallet(9));
    }),
    ("in the name of another payer", SIGNATURE, |p, _| {
        p.authorization.from = wallet(9).address();
    }),
    ("the signature of another nonce", SIGNATURE, |p, _| {
        p.authorization.nonce = B256::repeat_byte(5);
    }),
    ("an empty signature", SIGNATURE, |p, _| {
        p.signature = Bytes::new();
    }),
    ("a signature of zeros", SIGNATURE, |p, _| {
        p.signature = Bytes::from(vec![0; 65]);
    }),
    ("a signature of 64 bytes", SIGNATURE, |p, _| {
        p.signature = p.signature.slice(..64);
    }),
    ("a signature with a byte more", SIGNATURE, |p, _| {
        p.signature = [&p.signature[..], &[0]].concat().into();
    }),
    ("a signature with v 29", SIGNATURE, |p, _| {
        p.signature = [&p.signature[..64], &[29]].concat().into();
    }),
    ("the wrong v", SIGNATURE, |p, _| {
        p.signature = [&p.signature[..64], &[55 - p.signature[64]]]
            .concat()
            .into();
    }),
];

/// Payments that match the offer although they look unusual.
const FITS: &[(&str, Spoil)] = &[
    ("extra with one key more", |p, _| {
        p.accepted["extra"]["assetTransferMethod"] = json!("eip3009");
    }),
    ("addresses of the offer in lower case", |p, _| {
        for field in ["asset", "payTo"] {
            let lower = p.accepted[field].as_str().unwrap().to_lowercase();
            p.accepted[field] = json!(lower);
        }
    }),
    ("no resource", |p, _| p.resource = Value::Null),
    ("eight seconds left", |p, wallet| {
        p.authorization.valid_before = seconds(8);
        p.sign_by(wallet);
    }),
    ("as long as the timeout and its margin", |p, wallet| {
        p.authorization.valid_before = seconds(360);
        p.sign_by(wallet);
    }),
    ("valid since a second", |p, wallet| {
        p.authorization.valid_after = seconds(-1);
        p.sign_by(wallet);
    }),
    ("extensions that nobody knows", |p, _| {
        p.extensions["foreign"] = json!({"info": [1, null, "two"]});
    }),
    ("no extensions", |p, _| p.extensions = Value::Null),
];

/// Headers that are not a payment: status, error code, and the change to a valid payment.
const UNREADABLE: &[(&str, u16, &str, Make)] =
    &[
        ("the header cut in the middle", 400, "bad_payment", |p| {
            let header = p.header();
            v2(header[..=header.len() / 2].to_owned())
        }),
        (
            "the header without its last letter",
            400,
            "bad_payment",
            |p| {
                let mut header = STANDARD.encode(format!("{} ", p.document()));
                header.pop();
                v2(header)
            },
        ),
        ("an empty header", 400, "bad_payment", |_| v2(String::new())),
        ("not base64", 400, "bad_payment", |_| {
            v2("{\"x402Version\":2}".to_owned())
        }),
        ("base64url", 400, "bad_payment", |p| {
            let mut document = p.document();
            document["note"] = json!("~~~???>>>ÿÿÿ");
            let header = URL_SAFE.encode(document.to_string());
            assert!(header.contains(['-', '_']));
            v2(header)
        }),
        ("base64 with a blank inside", 400, "bad_payment", |p| {
            let header = p.header();
            v2(format!("{} {}", &header[..40], &header[40..]))
        }),
        ("not JSON", 400, "bad_payment", |_| {
            v2(STANDARD.encode("a payment, honestly"))
        }),
        ("JSON cut in the middle", 400, "bad_payment", |p| {
            let text = p.document().to_string();
            v2(STANDARD.encode(&text[..text.len() - 9]))
        }),
        ("JSON twice", 400, "bad_payment", |p| {
            v2(STANDARD.encode(format!("{0}{0}", p.document())))
        }),
        ("a list", 400, "bad_payment", |_| v2(STANDARD.encode("[2]"))),
        ("a text", 400, "bad_payment", |_| {
            v2(STANDARD.encode("\"paid\""))
        }),
        ("null", 400, "bad_payment", |_| v2(STANDARD.encode("null"))),
        ("deep nesting", 400, "bad_payment", |_| {
            v2(STANDARD.encode("[".repeat(10_000)))
        }),
        ("numbers for texts", 400, "bad_payment", |p| {
            edited(p, |d| {
                d["payload"]["authorization"]["value"] = json!(10_000);
            })
        }),
        ("a negative number", 400, "bad_payment", |p| {
            edited(p, |d| {
                d["payload"]["authorization"]["validAfter"] = json!("-1");
            })
        }),
        ("a hexadecimal number", 400, "bad_payment", |p| {
            edited(p, |d| {
                d["payload"]["authorization"]["value"] = json!("0x2710");
            })
        }),
        ("a number past 256 bits", 400, "bad_payment", |p| {
            edited(p, |d| {
                d["payload"]["authorization"]["value"] = json!("9".repeat(78));
            })
        }),
        ("an empty number", 400, "bad_payment", |p| {
            edited(p, |d| d["payload"]["authorization"]["value"] = json!(""))
        }),
        ("a nonce of 31 bytes", 400, "bad_payment", |p| {
            edited(p, |d| {
                d["payload"]["authorization"]["nonce"] = json!(format!("0x{}", "ab".repeat(31)));
            })
        }),
        ("a nonce with two prefixes", 400, "bad_payment", |p| {
            let nonce = format!("0x{}", p.authorization.nonce);
            edited(p, |d| d["payload"]["authorization"]["nonce"] = json!(nonce))
        }),
        ("a payer with two prefixes", 400, "bad_payment", |p| {
            let from = format!("0X{}", p.authorization.from);
            edited(p, |d| d["payload"]["authorization"]["from"] = json!(from))
        }),
        ("a payer of 19 bytes", 400, "bad_payment", |p| {
            edited(p, |d| {
                d["payload"]["authorization"]["from"] = json!(format!("0x{}", "ab".repeat(19)));
            })
        }),
        ("a signature without its prefix", 400, "bad_payment", |p| {
            let signature = hex::encode(&p.signature);
            edited(p, |d| d["payload"]["signature"] = json!(signature))
        }),
        ("no signature", 400, "bad_payment", |p| {
            edited(p, |d| {
                d["payload"].as_object_mut().unwrap().remove("signature");
            })
        }),
        (
            "a field of the authorization twice",
            400,
            "bad_payment",
            |p| {
                let text = p.document().to_string();
                let twice = text.replace("\"value\":", "\"value\":\"1\",\"value\":");
                assert_ne!(text, twice);
                v2(STANDARD.encode(twice))
            },
        ),
        ("Permit2 instead of EIP-3009", 400, "bad_payment", |p| {
            let from = p.authorization.from.to_string();
            edited(p, |d| {
                let payload = d["payload"].as_object_mut().unwrap();
                payload.remove("authorization");
                payload.insert("permit2Authorization".to_owned(), json!({
                "from": from, "permitted": {"token": stranger().to_string(), "amount": "10000"},
                "spender": "0x402085c248EeA27D92E8b30b2C58ed07f9E20001", "nonce": "1",
                "deadline": "1900000000",
                "witness": {"to": stranger().to_string(), "validAfter": "0"},
            }));
            })
        }),
        ("an authorization of null", 400, "bad_payment", |p| {
            edited(p, |d| d["payload"]["authorization"] = Value::Null)
        }),
        ("another scheme", 400, "bad_payment", |p| {
            edited(p, |d| d["accepted"]["scheme"] = json!("upto"))
        }),
        ("no accepted offer", 400, "bad_payment", |p| {
            edited(p, |d| d["accepted"] = Value::Null)
        }),
        ("version 3", 400, "bad_payment", |p| {
            edited(p, |d| d["x402Version"] = json!(3))
        }),
        ("the version as text", 400, "bad_payment", |p| {
            edited(p, |d| d["x402Version"] = json!("2"))
        }),
        ("no version", 400, "bad_payment", |p| {
            edited(p, |d| {
                d.as_object_mut().unwrap().remove("x402Version");
            })
        }),
        ("a header of 17 KB", 400, "bad_payment", |p| {
            edited(p, |d| d["filling"] = json!("x".repeat(12 * 1024)))
        }),
        ("a header of 100 KB", 400, "bad_payment", |_| {
            v2("A".repeat(100 * 1024))
        }),
        (
            "a payment and junk in both headers",
            400,
            "conflicting_credentials",
            |p| {
                vec![
                    ("PAYMENT-SIGNATURE", p.header()),
                    ("X-PAYMENT", STANDARD.encode("{}")),
                ]
            },
        ),
        ("the header twice", 400, "invalid_header", |p| {
            vec![
                ("PAYMENT-SIGNATURE", p.header()),
                ("PAYMENT-SIGNATURE", p.header()),
            ]
        }),
        (
            "the header of version 1 twice",
            400,
            "invalid_header",
            |p| {
                let header = p.as_v1().header();
                vec![("X-PAYMENT", header.clone()), ("x-payment", header)]
            },
        ),
        ("two Idempotency-Keys", 400, "invalid_header", |p| {
            let mut headers = v2(p.header());
            for number in 1..=2 {
                headers.push(("Idempotency-Key", format!("an-order-of-someone-{number}")));
            }
            headers
        }),
    ];

fn v2(header: String) -> Headers {
    vec![("PAYMENT-SIGNATURE", header)]
}

fn edited(payment: &Payment, edit: impl FnOnce(&mut Value)) -> Headers {
    let mut document = payment.document();
    edit(&mut document);
    v2(STANDARD.encode(document.to_string()))
}

/// Checks that nothing was called, written or granted since `before`, and that the offer is in the
/// response if the client can pay.
async fn is_refused_for_free(app: &TestApp, name: &str, before: &Before, answer: &Answer) {
    // If the client sent two payments, the server does not look at either, so it does not know what
    // was charged.
    let charged = (!["conflicting_credentials", "invalid_header"]
        .contains(&answer.error().as_str()))
    .then_some(false);
    assert_eq!(answer.charged(), charged, "{name}: {}", answer.text());
    // Only the chain knows whether the payer is a contract with a signature of its own, and whether
    // a late payment is one whose row was lost.
    let mut calls = before.calls;
    if answer.status == 402 {
        calls[2] += match answer.document("payment-required")["error"].as_str() {
            Some(SIGNATURE) => 1,
            // The newest block may be known.
            Some(VALID_BEFORE) if ["expired", "seven seconds left"].contains(&name) => {
                (app.calls()[2] - calls[2]).clamp(2, 3)
            }
            _ => 0,
        };
    }
    assert_eq!(app.calls(), calls, "{name} cost a call");
    assert_eq!(traces(app).await, before.traces, "{name} left a trace");
    for receipt in ["payment-response", "x-payment-response"] {
        assert_eq!(answer.header(receipt), None, "{name}");
    }
    assert_eq!(
        answer.header("payment-required").is_some(),
        answer.status == 402,
        "{name}"
    );
    assert_eq!(
        answer.header("cache-control").as_deref(),
        Some("no-store"),
        "{name}"
    );
}

struct Before {
    calls: [usize; 3],
    traces: [i64; 5],
}

impl Before {
    async fn now(app: &TestApp) -> Self {
        Self {
            calls: app.calls(),
            traces: traces(app).await,
        }
    }
}

async fn traces(app: &TestApp) -> [i64; 5] {
    [
        app.rows("payments").await,
        app.rows("payment_proofs").await,
        app.rows("payment_ids").await,
        app.rows("grants").await,
        app.rows("images").await,
    ]
}

/// Checks that the payment from which the junk was made still buys, once.
async fn still_buys(app: &TestApp, name: &str, payment: &Payment) {
    let before = app.transfers().await.len();
    let token = app.pay(payment).await;
    assert_eq!(token.status, 200, "after {name}: {}", token.text());
    assert_eq!(app.transfers().await.len(), before + 1, "after {name}");
}

#[tokio::test]
async fn a_payment_that_does_not_match_its_offer_is_refused_for_free() {
    let app = TestApp::spawn().await;
    for (name, reason, spoil) in MISFITS {
        let good = app.sign_for("year").await;
        let mut bad = good.clone();
        spoil(&mut bad, &app.wallet);
        let before = Before::now(&app).await;
        let answer = app.pay(&bad).await;
        assert_eq!(
            (answer.status, answer.error()),
            (402, "payment_invalid".to_owned()),
            "{name}"
        );
        let challenge = answer.document("payment-required");
        assert_eq!(challenge["error"], *reason, "{name}");
        is_refused_for_free(&app, name, &before, &answer).await;
        still_buys(&app, name, &good).await;
    }
}

#[tokio::test]
async fn an_unusual_payment_that_matches_its_offer_buys() {
    let app = TestApp::spawn().await;
    for (name, change) in FITS {
        let mut payment = app.sign_for("year").await;
        change(&mut payment, &app.wallet);
        still_buys(&app, name, &payment).await;
    }
}

#[tokio::test]
async fn a_header_that_is_not_a_payment_is_refused_for_free() {
    let app = TestApp::spawn().await;
    for (name, status, error, make) in UNREADABLE {
        let good = app.sign_for("year").await;
        let headers = make(&good);
        for path in [TOKEN, "/api/upload/year"] {
            let before = Before::now(&app).await;
            let answer = app.send("POST", path, &headers, "").await;
            let verdict = (answer.status, answer.error());
            assert_eq!(verdict, (*status, (*error).to_owned()), "{name} at {path}");
            is_refused_for_free(&app, name, &before, &answer).await;
            for secret in [good.signature.to_string(), hex::encode(&good.signature)] {
                assert!(!answer.text().contains(&secret), "{name} is repeated");
            }
        }
        still_buys(&app, name, &good).await;
    }
}

#[tokio::test]
async fn a_payment_for_one_resource_does_not_buy_another() {
    let app = TestApp::spawn().await;
    let routes = [
        "/api/upload/token",
        "/api/upload/token/year",
        "/api/upload/token/permanent",
        "/api/upload",
        "/api/upload/year",
        "/api/upload/permanent",
    ];
    for bought in routes {
        for elsewhere in routes.iter().filter(|path| **path != bought) {
            let good = app.sign_at(bought).await;
            let before = Before::now(&app).await;
            let answer = app.pay_at(elsewhere, &good).await;
            let name = format!("{bought} at {elsewhere}");
            assert_eq!(
                (answer.status, answer.error()),
                (402, "payment_invalid".to_owned()),
                "{name}"
            );
            is_refused_for_free(&app, &name, &before, &answer).await;
            assert_eq!(app.state_of(&good).await, None);
        }
    }
    for other_price in ["/api/upload/token/permanent", "/api/upload/permanent"] {
        // Without a resource, as in version 1, only the amount distinguishes them.
        let mut good = app.sign_for("year").await;
        good.resource = Value::Null;
        for payment in [&good, &good.as_v1()] {
            let before = Before::now(&app).await;
            let answer = app.pay_at(other_price, payment).await;
            assert_eq!(answer.error(), "payment_invalid", "{other_price}");
            is_refused_for_free(&app, other_price, &before, &answer).await;
        }
        still_buys(&app, other_price, &good).await;
    }
}

#[tokio::test]
async fn a_payment_of_version_1_must_match_the_offer_of_its_route() {
    let app = TestApp::spawn().await;
    let cases: [(&str, &str, Spoil); 4] = [
        ("one unit less", VALUE, |p, wallet| {
            p.authorization.value -= U256::from(1);
            p.sign_by(wallet);
        }),
        ("another recipient", RECIPIENT, |p, wallet| {
            p.authorization.to = stranger();
            p.sign_by(wallet);
        }),
        ("another chain", NO_MATCH, |p, wallet| {
            p.network = networks::find("base").unwrap();
            p.sign_by(wallet);
        }),
        ("another chain's signature", SIGNATURE, |p, wallet| {
            let ours = p.network;
            p.network = networks::find("base").unwrap();
            p.sign_by(wallet);
            p.network = ours;
        }),
    ];
    for (name, reason, spoil) in cases {
        let good = app.sign_for("year").await.as_v1();
        let mut bad = good.clone();
        spoil(&mut bad, &app.wallet);
        let before = Before::now(&app).await;
        let answer = app.pay(&bad).await;
        assert_eq!(
            answer.document("payment-required")["error"],
            reason,
            "{name}"
        );
        is_refused_for_free(&app, name, &before, &answer).await;
        still_buys(&app, name, &good).await;
    }
    let good = app.sign_for("year").await.as_v1();
    let mut document = good.document();
    document["network"] = json!("eip155:84532");
    let header = STANDARD.encode(document.to_string());
    let before = Before::now(&app).await;
    let answer = app.send("POST", TOKEN, &[("X-PAYMENT", header)], "").await;
    assert_eq!(
        answer.error(),
        "payment_invalid",
        "a CAIP-2 id in version 1"
    );
    is_refused_for_free(&app, "CAIP-2", &before, &answer).await;
    still_buys(&app, "CAIP-2", &good).await;
}

#[tokio::test]
async fn every_spelling_of_a_payment_is_the_same_payment() {
    let app = TestApp::spawn().await;
    let spellings: [(&str, Spelling); 8] = [
        ("plain", |_| {}),
        ("s in the upper half", |d| resign(d, high_s)),
        ("v 0 or 1", |d| resign(d, |raw| raw[64] -= 27)),
        ("s in the upper half, v 0 or 1", |d| {
            resign(d, |raw| {
                high_s(raw);
                raw[64] -= 27;
            });
        }),
        ("upper case", |d| {
            each_hex(d, |text| format!("0x{}", text[2..].to_uppercase()));
        }),
        ("lower case", |d| each_hex(d, str::to_lowercase)),
        ("0X", |d| each_hex(d, |text| format!("0X{}", &text[2..]))),
        ("leading zeros", |d| {
            for field in ["value", "validAfter", "validBefore"] {
                let text = d["payload"]["authorization"][field]
                    .as_str()
                    .unwrap()
                    .to_owned();
                d["payload"]["authorization"][field] = json!(format!("000{text}"));
            }
        }),
    ];
    for (first, spell) in &spellings {
        let order = format!("order-of-mine-{}", first.replace(' ', "-"));
        let payment = app.sign_for("year").await.with_idempotency_key(&order);
        let before = (app.transfers().await.len(), app.calls());
        let bought = app.send("POST", TOKEN, &spelt(&payment, *spell), "").await;
        let token = bought.token();
        for (again, spell) in &spellings {
            let same = app.send("POST", TOKEN, &spelt(&payment, *spell), "").await;
            assert_eq!(same.token(), token, "{first}, then {again}");
        }
        for (again, spell) in &spellings {
            // The idempotency key proves what version 1 can't.
            let same = app
                .send("POST", TOKEN, &spelt(&payment.as_v1(), *spell), "")
                .await;
            assert_eq!(same.token(), token, "{first}, then {again} as version 1");
        }
        assert_eq!(app.transfers().await.len(), before.0 + 1, "{first}");
        let [verified, settled, _] = app.calls();
        assert_eq!(
            [verified, settled],
            [before.1[0] + 1, before.1[1] + 1],
            "{first}"
        );
        let sent = app.facilitator.bodies("settle").pop().unwrap();
        let signature = &sent["paymentPayload"]["payload"]["signature"];
        assert_eq!(*signature, payment.signature.to_string(), "{first}");
    }
}

#[tokio::test]
async fn versions_1_and_2_of_one_authorization_are_one_payment() {
    let app = TestApp::spawn().await;
    let order = "one-order-of-mine-1";
    for (first, then) in [(Wire::V1, Wire::V2), (Wire::V2, Wire::V1)] {
        let signed = app.sign_for("year").await;
        let speak = |wire| {
            let payment = match wire {
                Wire::V1 => signed.as_v1(),
                Wire::V2 => signed.clone(),
            };
            let order = format!("{order}-{first:?}");
            payment.with_idempotency_key(&order)
        };
        let before = app.transfers().await.len();
        let bought = app.pay(&speak(first)).await;
        let again = app.pay(&speak(then)).await;
        assert_eq!(bought.token(), again.token(), "{first:?}");
        let both = [(first, bought), (then, again)];
        for (wire, answer) in both {
            let (ours, other, network) = match wire {
                Wire::V1 => ("x-payment-response", "payment-response", "base-sepolia"),
                Wire::V2 => ("payment-response", "x-payment-response", "eip155:84532"),
            };
            assert_eq!(answer.document(ours)["network"], network);
            assert_eq!(answer.header(other), None);
        }
        assert_eq!(app.transfers().await.len(), before + 1);
    }
}

#[tokio::test]
async fn a_token_and_a_payment_in_one_request_are_both_left_unused() {
    let app = TestApp::spawn().await;
    let bought = app.sign_for("year").await;
    let token = app.pay(&bought).await.token();
    let good = app.sign_at("/api/upload/year").await;
    let picture = pictures::png(4, 4);
    for payment in ["junk".to_owned(), good.header()] {
        for name in ["PAYMENT-SIGNATURE", "X-PAYMENT"] {
            let before = Before::now(&app).await;
            let headers = [
                ("X-Upload-Token", token.clone()),
                (name, payment.clone()),
                ("Content-Type", "image/png".to_owned()),
            ];
            let answer = app
                .send("POST", "/api/upload", &headers, picture.clone())
                .await;
            assert_eq!(
                answer.verdict(),
                (400, "conflicting_credentials".to_owned(), None)
            );
            is_refused_for_free(&app, name, &before, &answer).await;
        }
    }
    assert_eq!(app.pay_with(&good, &picture).await.status, 200);
    assert_eq!(app.upload_with(&token, picture).await.status, 200);
}

#[tokio::test]
async fn insufficient_funds_are_found_without_a_facilitator() {
    let app = TestApp::spawn().await;
    for path in [TOKEN, "/api/upload/year"] {
        let poor = wallet(path.len().try_into().unwrap());
        app.chain.balance(poor.address()).await.unwrap();
        app.chain.drain(poor.address()).await.unwrap();
        let challenge = app.post(path).await;
        let good = Payment::answering(&challenge, path, &poor, app.clock.now());
        let picture = pictures::png(5, 5);
        for payment in [good.clone(), good.as_v1()] {
            let mut before = Before::now(&app).await;
            let answer = app.pay_with(&payment, &picture).await;
            assert_eq!(
                answer.verdict(),
                (402, "payment_invalid".to_owned(), Some(false))
            );
            assert_eq!(
                answer.document("payment-required")["error"],
                "insufficient_funds"
            );
            // Only the chain was called.
            before.calls[2] = app.calls()[2];
            is_refused_for_free(&app, path, &before, &answer).await;
        }
        let price = good.authorization.value;
        app.chain
            .send(app.wallet.address(), poor.address(), price)
            .await
            .unwrap();
        let paid = app.pay_with(&good, &picture).await;
        assert_eq!(paid.status, 200, "{}", paid.text());
    }
}

fn spelt(payment: &Payment, spell: Spelling) -> Headers {
    let mut document = payment.document();
    spell(&mut document);
    let mut headers = payment.headers();
    headers[0].1 = STANDARD.encode(document.to_string());
    headers
}

fn resign(document: &mut Value, change: impl FnOnce(&mut [u8])) {
    let signature = document["payload"]["signature"].as_str().unwrap();
    let mut raw = signature.parse::<Bytes>().unwrap().to_vec();
    change(&mut raw);
    document["payload"]["signature"] = json!(format!("0x{}", hex::encode(&raw)));
}

fn high_s(raw: &mut [u8]) {
    let order = U256::from_str_radix(ORDER, 16).unwrap();
    let s = U256::from_be_slice(&raw[32..64]);
    raw[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
    raw[64] = 55 - raw[64];
}

fn each_hex(document: &mut Value, change: impl Fn(&str) -> String) {
    for pointer in [
        "/payload/signature",
        "/payload/authorization/from",
        "/payload/authorization/to",
        "/payload/authorization/nonce",
    ] {
        let field = document.pointer_mut(pointer).unwrap();
        *field = json!(change(field.as_str().unwrap()));
    }
}

#[tokio::test]
async fn payments_without_funds_have_a_tenth_of_the_rate_limit() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "120")
        .spawn()
        .await;
    let poor = wallet(66);
    app.chain.drain(poor.address()).await.unwrap();
    let unfunded = async || {
        let challenge = app.post(TOKEN).await;
        let payment = Payment::answering(&challenge, TOKEN, &poor, app.clock.now());
        app.pay(&payment).await
    };
    for _ in 0..12 {
        assert_eq!(unfunded().await.status, 402);
    }
    unfunded().await;
    let calls = app.node.all_calls();
    let limited = (429, "rate_limited".to_owned(), Some(false));
    for _ in 0..3 {
        let answer = unfunded().await;
        assert_eq!(answer.verdict(), limited);
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(app.node.all_calls(), calls, "no call to the node");
    app.advance(Duration::from_mins(1));
    app.pay(&app.sign_for("year").await).await.token();
}

#[tokio::test]
async fn unproven_payments_have_a_tenth_of_the_rate_limit() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "120")
        .spawn()
        .await;
    let unproven = |payment: Payment| Payment {
        signature: Bytes::from(vec![7; 96]),
        ..payment
    };
    for _ in 0..12 {
        let payment = unproven(app.sign_for("year").await);
        assert_eq!(app.pay(&payment).await.status, 402);
    }
    let nodes_calls = app.node.all_calls();
    let payment = unproven(app.sign_for("year").await);
    let answer = app.pay(&payment).await;
    assert_eq!(
        answer.verdict(),
        (429, "rate_limited".to_owned(), Some(false))
    );
    assert!(answer.header("retry-after").is_some());
    // At a tier without a price it may be a lost payment, and the server did not look it up.
    let answer = app.pay_at("/api/upload/gold", &payment).await;
    assert_eq!(answer.verdict(), (429, "rate_limited".to_owned(), None));
    assert_eq!(app.node.all_calls(), nodes_calls, "it causes no call");
    app.pay(&app.sign_for("year").await).await.token();
    app.advance(Duration::from_mins(1));
    let payment = unproven(app.sign_for("year").await);
    assert_eq!(app.pay(&payment).await.status, 402);
}
