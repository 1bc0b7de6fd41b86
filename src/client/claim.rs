//! Signs in with the wallet, and collects what it paid for and did not receive (x402 extension
//! `sign-in-with-x`). It pays nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use reqwest::header::ACCEPT;
use serde_json::Value;
use url::Url;

use super::answer::Reply;
use super::wallet::{Wallet, WalletSource};
use super::{ATTEMPT_TIMEOUT, Failure, account, transport};
use crate::model::token::UploadToken;
use crate::x402::siwx::SIGN_IN_HEADER;

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
    /// The image's link, where the payment bought an image, or the upload link that it bought.
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
            "No wallet is given. Name the key file of the paying account by --wallet FILE or PIXTOLL_WALLET, or put the \
             key itself into PIXTOLL_WALLET_KEY."
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
    let endpoint = transport::signed(server, &["api", "claims"])?;
    let mut claims = Claims::default();
    let mut page = endpoint.clone();
    for _ in 0..MAX_PAGES {
        let ask = || {
            http.post(page.clone())
                .timeout(ATTEMPT_TIMEOUT)
                .header(ACCEPT, "application/json")
        };
        let challenge = account::receive(ask(), server).await?;
        if !account::asks_to_sign_in(&challenge) {
            return Err(failure(&challenge));
        }
        let message = account::answer(&challenge, &page, wallet)?;
        let message = account::sensitive(&message.encode())?;
        let signed = ask().header(SIGN_IN_HEADER, message);
        let reply = account::receive(signed, server).await?;
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
        // An image's link, or an upload link.
        let url = text("/image/url").or_else(|| text("/link/url"));
        let link = url.and_then(|url| Url::parse(url).ok());
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
            (None, Some(_)) if text("/link/url").is_some() => {
                let count = |name| payment.pointer(name).and_then(Value::as_u64);
                let uploads = count("/link/uploads").unwrap_or_default();
                format!(
                    "upload link with {} left for tier {}, until {}, paid by {}",
                    uploads.saturating_sub(count("/link/used").unwrap_or_default()),
                    plain("/link/tier"),
                    plain("/link/expiresAt"),
                    plain("/transaction"),
                )
            }
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
