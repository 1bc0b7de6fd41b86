//! Questions to a server that need no wallet and no payment: its price table, its public proof and keys, and
//! what an upload of a file would do.

use std::collections::BTreeMap;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use url::Url;

use super::answer::{Answer, Reply};
use super::facts::Facts;
use super::{ATTEMPT_TIMEOUT, Failure, Image, transport};

/// The server's price table.
///
/// # Errors
/// [`Failure`].
pub async fn tiers(server: &Url, env: &BTreeMap<String, String>) -> Result<Facts, Failure> {
    let url = transport::below(server, &["api", "tiers"])?;
    ask(server, transport::http(env)?.get(url)).await
}

/// The server's public proof, signed.
///
/// # Errors
/// [`Failure`].
pub async fn proof(server: &Url, env: &BTreeMap<String, String>) -> Result<Facts, Failure> {
    let url = transport::below(server, &["proof.json"])?;
    ask(server, transport::http(env)?.get(url)).await
}

/// The keys that the server signs with.
///
/// # Errors
/// [`Failure`].
pub async fn keys(server: &Url, env: &BTreeMap<String, String>) -> Result<Facts, Failure> {
    let url = transport::below(server, &[".well-known", "jwks.json"])?;
    ask(server, transport::http(env)?.get(url)).await
}

/// What an upload of this image would store, and which tiers take it. Nothing is stored or charged.
///
/// # Errors
/// [`Failure`].
pub async fn check(
    server: &Url,
    image: &Image,
    env: &BTreeMap<String, String>,
) -> Result<Facts, Failure> {
    let url = transport::below(server, &["api", "check"])?;
    let request = transport::http(env)?
        .post(url)
        .header(CONTENT_TYPE, image.content_type)
        .body(image.bytes.clone());
    ask(server, request).await
}

async fn ask(server: &Url, request: reqwest::RequestBuilder) -> Result<Facts, Failure> {
    let request = request
        .timeout(ATTEMPT_TIMEOUT)
        .header(ACCEPT, "application/json");
    let unreached = |text: String| Failure::Unavailable(format!("{server} ({text})"));
    let response = request.send().await;
    let response = response.map_err(|error| unreached(error.without_url().to_string()))?;
    match transport::read(response).await {
        Answer::Reply(reply) => read(&reply),
        lost => Err(unreached(lost.explain())),
    }
}

fn read(reply: &Reply) -> Result<Facts, Failure> {
    match reply.status {
        200 => reply.facts().ok_or_else(|| {
            Failure::Unexpected(
                "The server's response holds no JSON: check that --server names a pixtoll server."
                    .to_owned(),
            )
        }),
        429 | 500..=599 => Err(Failure::Unavailable(reply.explain())),
        _ if reply.refuses_file() => Err(Failure::FileRefused(reply.explain())),
        _ => Err(Failure::Unexpected(reply.explain())),
    }
}
