//! The requests of a wallet's owner: images, receipts, upload links and API keys. The wallet signs in at each route by
//! itself (x402 extension `sign-in-with-x`), where the server asks for it. It pays nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use serde_json::{Value, json};
use url::Url;

use super::answer::{Answer, Reply};
use super::facts::{Facts, Page};
use super::wallet::{Wallet, WalletSource};
use super::{ATTEMPT_TIMEOUT, Failure, transport};
use crate::model::ids::ImageId;
use crate::x402::siwx::{SIGN_IN_HEADER, SIGN_IN_WITH_X, SignedMessage};

/// The most images that one request deletes.
const MOST_DELETED: usize = 100;
/// The header of a delete token.
const DELETE_TOKEN: &str = "X-Delete-Token";

/// A wallet at a server.
pub struct Account {
    http: reqwest::Client,
    server: Url,
    wallets: WalletSource,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.server)
    }
}

/// One request to the server.
struct Call<'c> {
    method: Method,
    url: Url,
    body: Option<Value>,
    /// The delete token, in place of a sign-in.
    token: Option<&'c str>,
}

impl<'c> Call<'c> {
    fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            body: None,
            token: None,
        }
    }

    fn with_body(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    fn with_token(self, token: Option<&'c str>) -> Self {
        Self { token, ..self }
    }
}

impl Account {
    /// The wallet of `file`, of the environment or of the user's data directory, at `server`. Nothing is read or sent.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the proxy of the environment is invalid.
    pub fn new(
        server: &Url,
        file: Option<&Path>,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            http: transport::http(env)?,
            server: server.clone(),
            wallets: WalletSource::new(file, env),
        })
    }

    /// A page of the images that the wallet uploaded, the newest first. `after` is [`Page::next`] of the page before.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn images(&self, limit: usize, after: Option<&str>) -> Result<Page, Failure> {
        let limit = Some(limit);
        self.page(&["api", "images"], "images", limit, after).await
    }

    /// A page of the upload links that the wallet bought, the newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn links(&self, after: Option<&str>) -> Result<Page, Failure> {
        self.page(&["api", "links"], "links", None, after).await
    }

    /// The wallet's API keys, without the secrets.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn keys(&self) -> Result<Page, Failure> {
        let url = self.url(&["api", "keys"])?;
        let reply = self.succeed(&Call::new(Method::GET, url)).await?;
        Page::read(&reply, "keys").ok_or_else(unreadable)
    }

    /// The facts about an image. `proof` is the query of a private image's signed link; its delete token does as well.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn image(
        &self,
        image: &ImageId,
        proof: Option<&str>,
        token: Option<&str>,
    ) -> Result<Facts, Failure> {
        let mut url = self.url(&["api", "images", image.as_str()])?;
        url.set_query(proof);
        self.facts(Call::new(Method::GET, url).with_token(token))
            .await
    }

    /// Refuses the link of an image at another server. The server's own links are below its base URL or at the host of
    /// its images, which it names.
    ///
    /// # Errors
    /// [`Failure::Usage`] for another server's link.
    pub async fn check_link(&self, link: &Url) -> Result<(), Failure> {
        if link.origin() == self.server.origin() {
            return Ok(());
        }
        let url = transport::below(&self.server, &["api"])?;
        let reply = self.send(&Call::new(Method::GET, url), None).await?;
        let routes = reply.get("/routes").and_then(Value::as_array);
        let is_ours = routes.into_iter().flatten().any(|route| {
            let url = route.get("url").and_then(Value::as_str).unwrap_or_default();
            let folder = url.strip_suffix("/{file}").unwrap_or_default();
            // An upload link's route has its secret in the path.
            !folder.contains('{') && Url::parse(folder).is_ok_and(|it| it.origin() == link.origin())
        });
        if is_ours {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "The link is of {}, and the command acts at {}. Nothing was done. Name the link's server by --server, or give \
             a link of this one.",
            link.origin().ascii_serialization(),
            self.server.origin().ascii_serialization(),
        )))
    }

    /// The signed receipts of an image, for the holder of its delete token or for its payer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn receipts(&self, image: &ImageId, token: Option<&str>) -> Result<Facts, Failure> {
        let url = self.url(&["api", "receipts", image.as_str()])?;
        self.facts(Call::new(Method::GET, url).with_token(token))
            .await
    }

    /// Deletes an image by its delete token.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn delete_with(&self, image: &ImageId, token: &str) -> Result<(), Failure> {
        let url = self.url(&["api", "images", image.as_str()])?;
        let call = Call::new(Method::DELETE, url).with_token(Some(token));
        self.succeed(&call).await.map(drop)
    }

    /// Deletes images of the wallet, at most 100 a request. When a request names an image of somebody else, the server
    /// deletes none of that request. Calls `deleted` after each request.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn delete(
        &self,
        images: &[ImageId],
        deleted: &mut dyn FnMut(&[ImageId]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for images in images.chunks(MOST_DELETED) {
            let call = if let [image] = images {
                let url = self.url(&["api", "images", image.as_str()])?;
                Call::new(Method::DELETE, url)
            } else {
                let ids: Vec<&str> = images.iter().map(ImageId::as_str).collect();
                let url = self.url(&["api", "images"])?;
                Call::new(Method::DELETE, url).with_body(json!({ "ids": ids }))
            };
            self.succeed(&call).await?;
            deleted(images)?;
        }
        Ok(())
    }

    /// Makes a signed link of a private image, which ends after this many seconds, or when the server says.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn share(
        &self,
        image: &ImageId,
        seconds: Option<u64>,
        token: Option<&str>,
    ) -> Result<Facts, Failure> {
        let url = self.url(&["api", "images", image.as_str(), "links"])?;
        let body = seconds.map_or_else(|| json!({}), |life| json!({ "expiresInSeconds": life }));
        let call = Call::new(Method::POST, url).with_body(body);
        self.facts(call.with_token(token)).await
    }

    /// Ends all signed links of a private image that were made so far.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn unshare(&self, image: &ImageId, token: Option<&str>) -> Result<(), Failure> {
        let url = self.url(&["api", "images", image.as_str(), "links"])?;
        let call = Call::new(Method::DELETE, url).with_token(token);
        self.succeed(&call).await.map(drop)
    }

    /// The state of an upload link, for whoever has it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn link(&self, link: &Url) -> Result<Facts, Failure> {
        let url = transport::secret(link)?;
        self.facts(Call::new(Method::GET, url)).await
    }

    /// Revokes an upload link, for whoever has it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_with(&self, link: &Url) -> Result<(), Failure> {
        let url = transport::secret(link)?;
        self.succeed(&Call::new(Method::DELETE, url))
            .await
            .map(drop)
    }

    /// Revokes an upload link of the wallet by its id.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_link(&self, id: &str) -> Result<(), Failure> {
        let url = self.url(&["api", "links", id])?;
        self.succeed(&Call::new(Method::DELETE, url))
            .await
            .map(drop)
    }

    /// Creates an API key. The response is the only one that holds the secret.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn create_key(
        &self,
        name: Option<&str>,
        uploads_per_day: Option<u64>,
    ) -> Result<Facts, Failure> {
        let mut body = serde_json::Map::new();
        if let Some(name) = name {
            body.insert("name".to_owned(), name.into());
        }
        if let Some(limit) = uploads_per_day {
            body.insert("uploadsPerDay".to_owned(), limit.into());
        }
        let url = self.url(&["api", "keys"])?;
        self.facts(Call::new(Method::POST, url).with_body(body.into()))
            .await
    }

    /// Suspends an API key, until [`Self::resume_key`].
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn suspend_key(&self, id: &str) -> Result<(), Failure> {
        let url = self.url(&["api", "keys", id, "suspend"])?;
        self.succeed(&Call::new(Method::POST, url)).await.map(drop)
    }

    /// Ends the suspension of an API key.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn resume_key(&self, id: &str) -> Result<(), Failure> {
        let url = self.url(&["api", "keys", id, "resume"])?;
        self.succeed(&Call::new(Method::POST, url)).await.map(drop)
    }

    /// Revokes an API key for ever.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_key(&self, id: &str) -> Result<(), Failure> {
        let url = self.url(&["api", "keys", id])?;
        self.succeed(&Call::new(Method::DELETE, url))
            .await
            .map(drop)
    }

    async fn page(
        &self,
        route: &[&str],
        name: &str,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Result<Page, Failure> {
        let mut url = self.url(route)?;
        if let Some(limit) = limit {
            url.query_pairs_mut()
                .append_pair("limit", &limit.to_string());
        }
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after);
        }
        let reply = self.succeed(&Call::new(Method::GET, url)).await?;
        Page::read(&reply, name).ok_or_else(unreadable)
    }

    async fn facts(&self, call: Call<'_>) -> Result<Facts, Failure> {
        let reply = self.succeed(&call).await?;
        reply.facts().ok_or_else(unreadable)
    }

    fn url(&self, route: &[&str]) -> Result<Url, Failure> {
        transport::signed(&self.server, route)
    }

    /// Sends a request, and signs in where the server asks for it. The response is a success.
    async fn succeed(&self, call: &Call<'_>) -> Result<Reply, Failure> {
        let reply = self.send(call, None).await?;
        let reply = if asks_to_sign_in(&reply) {
            let wallet = self.wallets.find()?.ok_or_else(|| {
                Failure::Usage(
                    "The server asks to sign in, and no wallet is given. Name the key file of the account that owns this by \
                     --wallet FILE or PIXTOLL_WALLET, or put the key itself into PIXTOLL_WALLET_KEY."
                        .to_owned(),
                )
            })?;
            let message = answer(&reply, &call.url, &wallet)?;
            self.send(call, Some(&message)).await?
        } else {
            reply
        };
        if matches!(reply.status, 200..=299) {
            Ok(reply)
        } else {
            Err(refusal(&reply))
        }
    }

    async fn send(
        &self,
        call: &Call<'_>,
        message: Option<&SignedMessage>,
    ) -> Result<Reply, Failure> {
        let mut request = self
            .http
            .request(call.method.clone(), call.url.clone())
            .timeout(ATTEMPT_TIMEOUT)
            .header(ACCEPT, "application/json");
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        if let Some(message) = message {
            request = request.header(SIGN_IN_HEADER, sensitive(&message.encode())?);
        }
        if let Some(token) = call.token {
            request = request.header(DELETE_TOKEN, sensitive(token)?);
        }
        receive(request, &call.url).await
    }
}

/// Sends a request to `url` and reads its response. The failure names the server only: the path may be a secret.
pub(super) async fn receive(request: reqwest::RequestBuilder, url: &Url) -> Result<Reply, Failure> {
    let server = url.origin().ascii_serialization();
    let unreached = |text: String| Failure::Unavailable(format!("{server} ({text})"));
    let response = request.send().await;
    let response = response.map_err(|error| unreached(error.without_url().to_string()))?;
    match transport::read(response).await {
        Answer::Reply(reply) => Ok(reply),
        lost => Err(unreached(lost.explain())),
    }
}

/// A header's value that is logged nowhere.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Failure::Usage(
            "A token holds a character that no HTTP header may have. Give it as the server returned it."
                .to_owned(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether a response is the challenge to sign in.
pub(super) fn asks_to_sign_in(reply: &Reply) -> bool {
    matches!(reply.status, 401 | 402)
        && reply
            .get(&format!("/extensions/{SIGN_IN_WITH_X}"))
            .is_some()
}

/// The signed answer to a challenge of the route `url`. A challenge for another server or route is not signed: its answer
/// would sign the wallet in there.
pub(super) fn answer(
    challenge: &Reply,
    url: &Url,
    wallet: &Wallet,
) -> Result<SignedMessage, Failure> {
    let unreadable = || {
        Failure::Unexpected(
            "The server's response holds no challenge to sign in with: check that --server names a pixtoll server."
                .to_owned(),
        )
    };
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
    let mut endpoint = url.clone();
    endpoint.set_query(None);
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

/// What the server's messages call by the words of HTTP, and what the commands call it.
const IN_COMMANDS: [(&str, &str); 3] = [
    (
        ", in the header X-Delete-Token; a list of images may hold it beside the id",
        ", by --token TOKEN",
    ),
    (
        "send the image's delete token in X-Delete-Token",
        "give the image's delete token by --token TOKEN",
    ),
    (
        "Sign in with the wallet that",
        "Name by --wallet FILE the wallet that",
    ),
];

/// A server's message in the words of the command line.
fn for_commands(text: String) -> String {
    IN_COMMANDS
        .iter()
        .fold(text, |text, (http, words)| text.replace(http, words))
}

/// The failure for a response that is no success.
pub(super) fn refusal(reply: &Reply) -> Failure {
    match reply.status {
        429 | 500..=599 => Failure::Unavailable(reply.explain()),
        300..=399 => Failure::Unexpected(
            "The server redirects, and redirects are not followed: give the final URL with --server.".to_owned(),
        ),
        400..=499 if !reply.code().is_empty() => {
            reply.refused(for_commands(reply.explain()))
        }
        400..=499 => Failure::Usage(format!(
            "{} Check that --server, or the link, names a pixtoll server.",
            reply.explain()
        )),
        _ => Failure::Unexpected(reply.explain()),
    }
}

fn unreadable() -> Failure {
    Failure::Unexpected(
        "The server's response reports success but can't be read: check that --server names a pixtoll server."
            .to_owned(),
    )
}

#[cfg(test)]
mod tests;
