//! The client for Coinbase's facilitator, against a server that checks each JWT with keys and code
//! of its own and responds as Coinbase does (docs/x402.md).

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use alloy_primitives::{Address, B256, Bytes, address, b256, bytes};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::ecdsa::signature::Verifier as _;
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use pixtoll::facilitator::coinbase::CdpKey;
use pixtoll::facilitator::http::{Credentials, HttpFacilitator};
use pixtoll::facilitator::{Call, Facilitator, SettleOutcome, VerifyOutcome};
use pixtoll::pricing::networks;
use pixtoll::system::clock::{Clock, ManualClock, Timestamp};
use pixtoll::system::random::Randomness;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::support::install_tls;

const ID: &str = "organizations/an-org/apiKeys/a-key";
const NOW: i64 = 1_800_000_000;
const WAIT: Duration = Duration::from_secs(20);
/// The payer, digest and signature of the vectors in docs/x402.md.
const PAYER: Address = address!("19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A");
const DIGEST: B256 = b256!("fc29cec4ee27035b083e7e6b7ba9a5b338f30a79f0993b06a84cd4d4dc576f0b");
static SIGNATURE: Bytes = bytes!(
    "a4b76e4b27263a8abffb65bf4686da3543b5554bc295966a8fced0b0d4bf3ab4"
    "005a19dae284e85a8d668319f5d8f232d1009538cf3839e17327a089fb3f07951b"
);
/// A signature that only a contract wallet can judge.
static CONTRACTS_SIGNATURE: Bytes = bytes!("07070707");
const HASH: B256 = B256::repeat_byte(0xcd);

/// The public keys of these tests: RFC 8032, section 7.1, test 1, and the number one.
enum Key {
    Ed25519,
    P256,
}

const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

impl Key {
    fn p256() -> p256::SecretKey {
        let mut bytes = [0; 32];
        bytes[31] = 1;
        p256::SecretKey::from_slice(&bytes).unwrap()
    }

    fn secret(&self) -> String {
        match self {
            Self::Ed25519 => STANDARD.encode(hex::decode(format!("{SEED}{PUBLIC}")).unwrap()),
            Self::P256 => Self::p256()
                .to_pkcs8_pem(LineEnding::LF)
                .unwrap()
                .to_string(),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519 => "EdDSA",
            Self::P256 => "ES256",
        }
    }

    fn verify(&self, signed: &str, signature: &[u8]) -> bool {
        match self {
            Self::Ed25519 => UnparsedPublicKey::new(&ED25519, hex::decode(PUBLIC).unwrap())
                .verify(signed.as_bytes(), signature)
                .is_ok(),
            Self::P256 => {
                let key = p256::ecdsa::SigningKey::from(Self::p256());
                p256::ecdsa::Signature::from_slice(signature)
                    .is_ok_and(|it| key.verifying_key().verify(signed.as_bytes(), &it).is_ok())
            }
        }
    }
}

/// The server's next response, to any request.
enum Next {
    Says(u16, String),
    /// A 429 with this `Retry-After`.
    TooMany(Option<&'static str>),
    /// No response.
    Silence,
}

#[derive(Default)]
struct Seen {
    answers: VecDeque<Next>,
    tokens: Vec<String>,
    /// What was wrong with the requests; empty if nothing was.
    wrong: Vec<String>,
}

/// A test server with the behaviour of Coinbase's facilitator.
struct Cdp {
    key: Key,
    host: String,
    clock: ManualClock,
    seen: Mutex<Seen>,
}

impl Cdp {
    fn start(key: Key) -> (Arc<Self>, HttpFacilitator) {
        install_tls();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let cdp = Arc::new(Self {
            key,
            host,
            clock: ManualClock::at(Timestamp::from_seconds(NOW)),
            seen: Mutex::default(),
        });
        let shared = web::Data::from(Arc::clone(&cdp));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .default_service(web::to(answer))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
        tokio::spawn(server);
        let credentials = Credentials::Cdp {
            key: Arc::new(CdpKey::parse(ID, &cdp.key.secret()).unwrap()),
            randomness: Randomness::system(),
        };
        let url = format!("http://{}/platform/v2/x402", cdp.host);
        let client =
            HttpFacilitator::new("coinbase", &url, credentials, Arc::new(cdp.clock.clone()))
                .unwrap();
        (cdp, client)
    }

    fn next(&self, answers: impl IntoIterator<Item = Next>) {
        self.seen.lock().unwrap().answers.extend(answers);
    }

    /// Asserts that every request so far was correct, and returns their number.
    fn all_fine(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.wrong, [""; 0]);
        let mut tokens = seen.tokens.clone();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), seen.tokens.len(), "a token came twice");
        tokens.len()
    }

    /// Checks a token by Coinbase's reference. The error says what is wrong.
    fn judge(&self, token: &str, method: &str, path: &str) -> Result<(), String> {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts.as_slice() else {
            return Err(format!("{token} has no three parts"));
        };
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|error| error.to_string())
        };
        let json = |part: &str| -> Result<Value, String> {
            serde_json::from_slice(&decode(part)?).map_err(|error| error.to_string())
        };
        let (header_json, claims_json) = (json(header)?, json(claims)?);
        let nonce = header_json["nonce"].as_str().unwrap_or_default();
        if nonce.len() != 32
            || !nonce
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(format!("its nonce is {nonce}"));
        }
        let wanted = json!({"alg": self.key.algorithm(), "kid": ID, "typ": "JWT", "nonce": nonce});
        if header_json != wanted {
            return Err(format!("its header is {header_json}"));
        }
        let now = self.clock.now().seconds();
        let wanted = json!({
            "sub": ID, "iss": "cdp", "uris": [format!("{method} {}{path}", self.host)],
            "iat": now, "nbf": now, "exp": now + 120,
        });
        if claims_json != wanted {
            return Err(format!("its claims are {claims_json}"));
        }
        if self
            .key
            .verify(&format!("{header}.{claims}"), &decode(signature)?)
        {
            Ok(())
        } else {
            Err("its signature is wrong".to_owned())
        }
    }
}

async fn answer(request: HttpRequest, cdp: web::Data<Cdp>) -> HttpResponse {
    let (method, path) = (request.method().as_str(), request.path());
    let shown = request.headers().get_all(AUTHORIZATION).collect::<Vec<_>>();
    let token = match shown.as_slice() {
        [one] => one
            .to_str()
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap_or_default(),
        _ => "",
    };
    let next = {
        let mut seen = cdp.seen.lock().unwrap();
        seen.tokens.push(token.to_owned());
        if let Err(wrong) = cdp.judge(token, method, path) {
            seen.wrong.push(format!("{method} {path}: {wrong}"));
        }
        seen.answers.pop_front()
    };
    match next {
        Some(Next::Says(status, body)) => {
            HttpResponse::build(StatusCode::from_u16(status).unwrap())
                .content_type("application/json")
                .body(body)
        }
        Some(Next::TooMany(after)) => {
            let mut answer = HttpResponse::TooManyRequests();
            if let Some(seconds) = after {
                answer.insert_header(("retry-after", seconds));
            }
            answer.body("slow down")
        }
        Some(Next::Silence) => std::future::pending().await,
        None => HttpResponse::NotFound().finish(),
    }
}

fn call() -> Call<'static> {
    Call {
        body: r#"{"x402Version":2}"#,
        network: &networks::BASE,
        payer: PAYER,
        digest: DIGEST,
        signature: &SIGNATURE,
    }
}

fn says(status: u16, body: &Value) -> Next {
    Next::Says(status, body.to_string())
}

#[tokio::test]
async fn each_request_has_a_token_of_its_own_in_both_algorithms() {
    for key in [Key::Ed25519, Key::P256] {
        let (cdp, client) = Cdp::start(key);
        let settled =
            json!({"success": true, "transaction": HASH, "network": "base", "payer": PAYER});
        let kinds = json!({"kinds": [
            {"x402Version": 1, "scheme": "exact", "network": "base"},
            {"x402Version": 2, "scheme": "exact", "network": "eip155:8453", "extra": {"a": 1}},
        ], "extensions": ["bazaar"], "signers": {}});
        cdp.next([
            says(200, &json!({"isValid": true, "payer": PAYER})),
            says(200, &json!({"isValid": true, "payer": PAYER})),
            says(200, &settled),
            says(200, &kinds),
        ]);
        for _ in 0..2 {
            let verdict = client.verify(call(), WAIT).await;
            assert_eq!(verdict, VerifyOutcome::Valid { payer: Some(PAYER) });
        }
        let outcome = client.settle(call(), WAIT).await;
        assert_eq!(outcome, SettleOutcome::Success { transaction: HASH });
        let kinds = client.supported(WAIT).await.unwrap();
        assert!(kinds.iter().all(|kind| kind.is_exact_on(&networks::BASE)));
        assert!(
            !kinds
                .iter()
                .any(|kind| kind.is_exact_on(&networks::BASE_SEPOLIA))
        );
        assert_eq!(cdp.all_fine(), 4);
    }
}

#[tokio::test]
async fn the_test_server_detects_a_wrong_token() {
    let (cdp, _) = Cdp::start(Key::Ed25519);
    let key = CdpKey::parse(ID, &Key::Ed25519.secret()).unwrap();
    let path = "/platform/v2/x402/verify";
    let target = format!("{}{path}", cdp.host);
    let token = |method: &str, target: &str, second: i64| {
        key.token(method, target, Timestamp::from_seconds(second), [7; 16])
    };
    assert_eq!(
        cdp.judge(&token("POST", &target, NOW), "POST", path),
        Ok(())
    );
    let other = CdpKey::parse(ID, &Key::P256.secret()).unwrap();
    for wrong in [
        token("GET", &target, NOW),
        token("POST", &cdp.host, NOW),
        token("POST", &target, NOW + 1),
        format!("{}x", token("POST", &target, NOW)),
        other.token("POST", &target, Timestamp::from_seconds(NOW), [7; 16]),
    ] {
        assert!(cdp.judge(&wrong, "POST", path).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn rejections_by_coinbase_are_told_apart_from_missing_answers() {
    let (cdp, client) = Cdp::start(Key::Ed25519);
    let refusal = json!({"isValid": false, "invalidReason": "insufficient_funds"});
    cdp.next([says(400, &refusal)]);
    let refused = VerifyOutcome::Invalid {
        reason: "insufficient_funds".to_owned(),
    };
    assert_eq!(client.verify(call(), WAIT).await, refused);
    // Without transaction and network, which Coinbase leaves out.
    let refusal = json!({"success": false, "errorReason": "insufficient_funds"});
    cdp.next([says(400, &refusal)]);
    let refused = SettleOutcome::Refused {
        reason: "insufficient_funds".to_owned(),
    };
    assert_eq!(client.settle(call(), WAIT).await, refused);
    let silent: [fn() -> Next; 6] = [
        || Next::Says(401, "Unauthorized".to_owned()),
        || Next::TooMany(Some("1")),
        || Next::Says(500, String::new()),
        || {
            says(
                503,
                &json!({"success": false, "isValid": false, "errorReason": "insufficient_funds"}),
            )
        },
        || Next::Says(502, "<html>bad gateway</html>".to_owned()),
        || {
            says(
                400,
                &json!({"errorType": "invalid_request", "errorMessage": "no"}),
            )
        },
    ];
    for next in silent {
        // Verify is retried once, settle never.
        cdp.next([next(), next()]);
        let verdict = client.verify(call(), WAIT).await;
        assert!(
            matches!(verdict, VerifyOutcome::NoAnswer { .. }),
            "{verdict:?}"
        );
        cdp.next([next()]);
        let outcome = client.settle(call(), WAIT).await;
        assert!(
            matches!(
                outcome,
                SettleOutcome::Unclear {
                    transaction: None,
                    ..
                }
            ),
            "{outcome:?}"
        );
        // An answer between two timeouts: the facilitator doesn't count as down.
        cdp.next([says(200, &json!({"isValid": true}))]);
        client.verify(call(), WAIT).await;
    }
    cdp.next([Next::Silence]);
    let short = Duration::from_millis(200);
    let outcome = client.settle(call(), short).await;
    assert!(
        matches!(outcome, SettleOutcome::Unclear { .. }),
        "{outcome:?}"
    );
    cdp.all_fine();
}

#[tokio::test]
async fn a_facilitator_that_is_down_is_asked_once_a_second_except_by_settle() {
    let (cdp, client) = Cdp::start(Key::Ed25519);
    cdp.next((0..10).map(|_| Next::Says(500, String::new())));
    for _ in 0..5 {
        client.verify(call(), WAIT).await;
    }
    assert_eq!(cdp.all_fine(), 10, "each is asked twice");
    let verdict = client.verify(call(), WAIT).await;
    assert!(matches!(verdict, VerifyOutcome::NoAnswer { .. }));
    assert_eq!(cdp.all_fine(), 10, "it is taken to be down");
    cdp.next([Next::Says(500, String::new())]);
    client.settle(call(), WAIT).await;
    assert_eq!(cdp.all_fine(), 11);
    // The test server checks the time to the second; the circuit breaker uses the uptime.
    cdp.clock.advance(Duration::from_secs(1));
    cdp.next([
        says(200, &json!({"isValid": true})),
        says(200, &json!({"isValid": true})),
    ]);
    for _ in 0..2 {
        let verdict = client.verify(call(), WAIT).await;
        assert_eq!(verdict, VerifyOutcome::Valid { payer: None });
    }
    assert_eq!(cdp.all_fine(), 13, "one answer, and it is up again");
}

/// A contract can answer the server's node and the facilitator differently, and x402-rs answers what
/// a contract rejects with 500.
#[tokio::test]
async fn only_silence_about_payments_that_a_key_signed_makes_a_facilitator_count_as_down() {
    let (cdp, client) = Cdp::start(Key::Ed25519);
    let of_contract = Call {
        signature: &CONTRACTS_SIGNATURE,
        ..call()
    };
    let refusal = json!({"isValid": false, "invalidReason": "unexpected_error", "payer": ""});
    for _ in 0..10 {
        cdp.next([0, 1].map(|_| Next::Says(500, "execution reverted".to_owned())));
        let verdict = client.verify(of_contract, WAIT).await;
        assert!(matches!(verdict, VerifyOutcome::NoAnswer { .. }));
        cdp.next([Next::Says(500, String::new())]);
        client.settle(of_contract, WAIT).await;
        // A facilitator that answers in the form of the protocol is not down, whatever its status.
        cdp.next([0, 1].map(|_| says(500, &refusal)));
        let verdict = client.verify(call(), WAIT).await;
        assert!(matches!(verdict, VerifyOutcome::NoAnswer { .. }));
    }
    assert_eq!(cdp.all_fine(), 50);
    cdp.next([says(200, &json!({"isValid": true}))]);
    let verdict = client.verify(call(), WAIT).await;
    assert_eq!(verdict, VerifyOutcome::Valid { payer: None });
}

#[tokio::test]
async fn a_code_that_nobody_published_is_reported_once_and_a_few_at_most() {
    let (cdp, client) = Cdp::start(Key::Ed25519);
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let refused = |code: &str| {
        says(
            400,
            &json!({"success": false, "isValid": false, "errorReason": code, "invalidReason": code}),
        )
    };
    let secret = format!("0x{}", "ab".repeat(32));
    for code in [
        "the_moon_is_full",
        "the_moon_is_full",
        "kyt_risk_detected",
        "permit2_invalid_nonce",
        "nonce_already_used",
        &secret,
        "",
    ] {
        cdp.next([refused(code), refused(code)]);
        client.verify(call(), WAIT).await;
        client.settle(call(), WAIT).await;
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["WARN", "the_moon_is_full", "coinbase", "please report"] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    for number in 0..100 {
        cdp.next([refused(&format!("code_{number}"))]);
        client.settle(call(), WAIT).await;
    }
    drop(guard);
    assert_eq!(log.lines().len(), 32);
}

/// The lines of a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let reports = text.lines().filter(|line| line.contains("please report"));
        reports.map(str::to_owned).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_rate_limited_query_of_supported_kinds_is_retried_later() {
    let (cdp, client) = Cdp::start(Key::P256);
    let kinds = json!({"kinds": [{"scheme": "exact", "network": "eip155:8453"}]});
    cdp.next([Next::TooMany(Some("0")), says(200, &kinds)]);
    assert_eq!(client.supported(WAIT).await.unwrap().len(), 1);
    cdp.next([Next::TooMany(Some("3600"))]);
    let why = client.supported(WAIT).await.unwrap_err();
    assert!(why.contains("429"), "{why}");
    cdp.next([Next::Says(401, "Unauthorized".to_owned())]);
    let why = client.supported(WAIT).await.unwrap_err();
    assert!(why.contains("credentials"), "{why}");
    cdp.all_fine();
}
