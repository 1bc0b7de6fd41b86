//! Signs in with the wallet, and collects what it paid for and did not receive (x402 extension
//! `sign-in-with-x`). It pays nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use reqwest::header::{ACCEPT, HeaderValue};
use serde_json::Value;
use url::Url;

use super::answer::{Answer, Reply};
use super::wallet::{Wallet, WalletSource};
use super::{ATTEMPT_TIMEOUT, Failure, transport};
use crate::model::token::UploadToken;
use crate::x402::siwx::{SIGN_IN_HEADER, SIGN_IN_WITH_X, SignedMessage};

/// The most pages that are read.
const MAX_PAGES: usize = 1_000;

/// A payment with what it bought, as the server described it.
pub struct Claimed {
    /// The nonce of the payment's authorization.
    pub nonce: String,
    /// The upload token, where the payment bought uploads that are left.
    pub token: Option<UploadToken>,
    /// The number of uploads that are left on the token.
    pub uploads: u64,
    /// The server's JSON in one line. It holds the token or the delete token.
    pub json: String,
    /// What the payment bought, in words, without a secret.
    pub words: String,
    /// The image's link, where the payment bought an image.
    pub link: Option<Url>,
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed")
            .field("words", &self.words)
            .finish_non_exhaustive()
    }
}

/// What a wallet paid for and did not receive.
#[derive(Debug, Default)]
pub struct Claims {
    /// The payments, with what they bought.
    pub payments: Vec<Claimed>,
    /// The number of payments whose outcome is not known yet.
    pub open: u64,
}

impl Claims {
    /// Adds the payments of a response. Returns what names the next page.
    fn add(&mut self, reply: &Reply) -> Option<String> {
        let payments = reply.get("/payments").and_then(Value::as_array);
        let read = payments.into_iter().flatten().filter_map(Claimed::read);
        self.payments.extend(read);
        self.open = reply.get("/open").and_then(Value::as_u64).unwrap_or(0);
        reply.get("/next")?.as_str().map(str::to_owned)
    }
}

/// Collects what the wallet of `file` or of the environment paid for at this server.
///
/// # Errors
/// [`Failure`].
pub async fn claim(
    server: &Url,
    file: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Claims, Failure> {
    let wallet = WalletSource::new(file, env).find()?.ok_or_else(|| {
        Failure::Usage(
            "No wallet is given: name the key file of the paying account by --wallet FILE."
                .to_owned(),
        )
    })?;
    collect(&transport::http(env)?, server, &wallet).await
}

/// Collects what `wallet` paid for at this server.
pub(super) async fn collect(
    http: &reqwest::Client,
    server: &Url,
    wallet: &Wallet,
) -> Result<Claims, Failure> {
    let endpoint = transport::claims(server)?;
    let mut claims = Claims::default();
    let mut page = endpoint.clone();
    for _ in 0..MAX_PAGES {
        let challenge = ask(http, &page, None).await?;
        let message = answer(&challenge, &endpoint, wallet)?;
        let reply = ask(http, &page, Some(&message)).await?;
        if reply.status != 200 {
            return Err(failure(&reply));
        }
        let Some(next) = claims.add(&reply) else {
            return Ok(claims);
        };
        page = endpoint.clone();
        page.query_pairs_mut().append_pair("after", &next);
    }
    Ok(claims)
}

async fn ask(
    http: &reqwest::Client,
    url: &Url,
    message: Option<&SignedMessage>,
) -> Result<Reply, Failure> {
    let mut request = http
        .post(url.clone())
        .timeout(ATTEMPT_TIMEOUT)
        .header(ACCEPT, "application/json");
    if let Some(message) = message {
        let mut value = HeaderValue::from_str(&message.encode())
            .map_err(|error| Failure::Unexpected(error.to_string()))?;
        value.set_sensitive(true);
        request = request.header(SIGN_IN_HEADER, value);
    }
    let unreached = |text: String| Failure::Unavailable(format!("{url} ({text})"));
    let response = request.send().await;
    let response = response.map_err(|error| unreached(error.without_url().to_string()))?;
    match transport::read(response).await {
        Answer::Reply(reply) => Ok(reply),
        lost => Err(unreached(lost.explain())),
    }
}

/// The signed answer to a challenge. A challenge for another server is not signed: its answer would sign the wallet in
/// there.
fn answer(challenge: &Reply, endpoint: &Url, wallet: &Wallet) -> Result<SignedMessage, Failure> {
    let unreadable = || {
        Failure::Unexpected(
            "The server's response holds no challenge to sign in with: check that --server names a pixtoll server."
                .to_owned(),
        )
    };
    if challenge.status != 402 {
        return Err(failure(challenge));
    }
    let extension = challenge
        .get(&format!("/extensions/{SIGN_IN_WITH_X}"))
        .ok_or_else(unreadable)?;
    let chain = extension
        .pointer("/supportedChains/0")
        .ok_or_else(unreadable)?;
    let mut document = extension.get("info").cloned().ok_or_else(unreadable)?;
    let fields = document.as_object_mut().ok_or_else(unreadable)?;
    for name in ["chainId", "type"] {
        let value = chain.get(name).cloned().unwrap_or_default();
        fields.insert(name.to_owned(), value);
    }
    let address = wallet.address().to_checksum(None);
    fields.insert("address".to_owned(), address.into());
    fields.insert("signature".to_owned(), "".into());
    let mut message: SignedMessage = serde_json::from_value(document).map_err(|_| unreadable())?;
    let host = endpoint.host_str().unwrap_or_default();
    let domain = match endpoint.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    if message.domain != domain || message.uri != endpoint.as_str() || !message.fits_lines() {
        return Err(Failure::Usage(format!(
            "--server: the server asks to sign in at {}, which is another URL. If you trust it, name that server.",
            message
                .uri
                .chars()
                .filter(|char| !char.is_control())
                .take(200)
                .collect::<String>()
        )));
    }
    message.signature = wallet.sign(&message.hash())?.to_string();
    Ok(message)
}

/// The failure for an answer that claims nothing.
fn failure(reply: &Reply) -> Failure {
    match reply.status {
        429 | 500..=599 => Failure::Unavailable(reply.explain()),
        404 => Failure::Unexpected(
            "The server has no route for claims: check that --server names a pixtoll server."
                .to_owned(),
        ),
        _ => Failure::Unexpected(reply.explain()),
    }
}

impl Claimed {
    /// Reads one payment of the response. `None`: it holds neither a token nor an image.
    fn read(payment: &Value) -> Option<Self> {
        let text = |pointer: &str| payment.pointer(pointer).and_then(Value::as_str);
        let token = text("/token/token").and_then(UploadToken::parse);
        let link = text("/image/url").and_then(|url| Url::parse(url).ok());
        let uploads = payment.pointer("/token/uploads").and_then(Value::as_u64);
        let uploads = uploads.unwrap_or_default();
        let plain = |pointer: &str| -> String {
            let text = text(pointer).unwrap_or("?").chars();
            text.filter(|char| !char.is_control()).take(100).collect()
        };
        let words = match (&token, &link) {
            (Some(_), _) => format!(
                "{uploads} left for tier {}, until {}, paid by {}",
                plain("/token/tier"),
                plain("/token/expiresAt"),
                plain("/transaction"),
            ),
            (None, Some(_)) => format!("paid by {}", plain("/transaction")),
            (None, None) => return None,
        };
        Some(Self {
            nonce: text("/nonce")?.to_owned(),
            token,
            uploads,
            json: payment.to_string(),
            words,
            link,
        })
    }
}
