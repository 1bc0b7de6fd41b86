//! The paying client behind `pixtoll upload` and `pixtoll renew`. It makes at most one payment for an image, or one
//! payment for several images.
//!
//! The rules that keep it from paying twice:
//!
//! - A payment is saved to disk before it is first sent ([`pending`]).
//! - Every attempt sends the saved payment.
//! - No response makes the client sign another payment by itself.
//! - The saved payment is deleted only after a response that settles its outcome.
//!
//! [`pay`] chooses an offer and signs, [`wallet`] holds the key. The commands in `cli` parse and print.

pub mod account;
mod answer;
pub mod budget;
pub mod claim;
pub mod clipboard;
pub mod facts;
pub mod fetch;
pub mod kept;
pub mod pay;
pub mod pending;
pub mod questions;
#[cfg(test)]
pub(crate) mod scripted;
mod transport;
pub mod wallet;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use url::Url;

use self::answer::{Answer, Reply};
pub use self::answer::{TierFacts, Uploaded};
use self::budget::Budget;
use self::pay::{Quote, SignedPayment, Unpayable, check_cap};
use self::pending::{PendingError, PendingKey, PendingPayments};
use self::wallet::{Wallet, WalletError, WalletSource};
use crate::model::ids::ImageId;
use crate::model::token::UploadToken;
use crate::pricing::money::AtomicAmount;
use crate::pricing::tiers::TierName;
use crate::system::clock::Clock;
use crate::system::random::Randomness;
use crate::x402::header::PAYMENT_SIGNATURE;

/// How long one request is retried.
const PATIENCE: Duration = Duration::from_mins(2);
/// The most attempts at one request, whatever the clock says.
const MAX_ATTEMPTS: u32 = 20;
/// The most attempts to reach a server while no payment is in doubt.
const MAX_KNOCKS: u32 = 3;
/// The shortest wait between attempts that is told wherever standard error goes.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// The timeout of one attempt, without the time for the body.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(45);
/// The upload speed on which the additional time for the body is based.
const SLOWEST_BYTES_PER_SECOND: usize = 64 * 1024;

/// The client's clock, randomness and timer. Tests replace them, so that they are fast and repeatable.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The current time.
    pub clock: &'a dyn Clock,
    /// The source of keys, nonces and idempotency keys.
    pub randomness: &'a Randomness,
    /// Waits between attempts.
    pub pause: &'a dyn Fn(Duration) -> LocalBoxFuture<'static, ()>,
}

impl fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// The operation that a client performs at a server.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// Upload images, each with its own payment. The tier `free` needs none.
    Upload(TierName),
    /// Buy several uploads with one payment.
    Tokens {
        /// The tier of all these uploads.
        tier: TierName,
        /// The number of uploads.
        images: usize,
    },
    /// Issue an upload link: a URL that takes uploads until it ends. The tier `free` needs no payment.
    Link {
        /// The tier of all its uploads.
        tier: TierName,
        /// The number of uploads.
        images: usize,
        /// For how many days it takes uploads.
        days: u32,
    },
    /// Have the server fetch an image from a URL. The tier `free` needs no payment.
    Import {
        /// The tier of the image.
        tier: TierName,
        /// The body of the request, in JSON.
        body: String,
    },
    /// Buy more time for an image.
    Renew {
        /// The image.
        image: ImageId,
        /// The tier to renew with; `None` for the tier of the image.
        tier: Option<TierName>,
    },
}

/// What the user asked for on the command line.
#[derive(Debug, Clone)]
pub struct Order {
    /// The server's base URL.
    pub server: Url,
    /// The operation.
    pub purpose: Purpose,
    /// The highest amount to pay.
    pub cap: AtomicAmount,
    /// The key file that the user named.
    pub wallet: Option<PathBuf>,
}

/// An image to upload.
#[derive(Debug, Clone)]
pub struct Image {
    /// The file's bytes.
    pub bytes: Bytes,
    /// The `Content-Type` to send. The server detects the format itself.
    pub content_type: &'static str,
}

/// A progress event of the client, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The current step. The next one replaces it on the screen.
    Step(String),
    /// A fact that stays on the screen.
    Fact(String),
}

/// Why an operation failed. Each variant belongs to one exit code of the command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An unexpected error.
    #[error("{0}")]
    Unexpected(String),
    /// The command line, a file or the wallet is wrong.
    #[error("{0}")]
    Usage(String),
    /// The server refused a request that pays nothing.
    #[error("{text}")]
    Refused {
        /// The server's error code.
        code: String,
        /// What the server says to do next.
        action: Option<serde_json::Value>,
        /// The server's message.
        text: String,
    },
    /// The server refused the file. Nothing was charged.
    #[error("{0} Nothing was charged.")]
    FileRefused(String),
    /// The price is above the cap, or this client can't pay what the server asks for.
    #[error("{0}")]
    NotPayable(String),
    /// The payment was refused or failed. Nothing was charged.
    #[error("{0} Nothing was charged.")]
    PaymentRefused(String),
    /// A payment was sent and its outcome isn't known.
    #[error(
        "{0} Whether the payment went through is not known yet. Run the same command again: it sends \
         the same payment and never pays twice."
    )]
    OutcomeUnknown(String),
    /// The payment moved money, and only the wallet's signature proves that it is the user's.
    #[error("{text} Run pixtoll claim: it signs in with the wallet and prints what it paid for.")]
    Unproven {
        /// The nonce of the payment's authorization.
        nonce: String,
        /// The server's message.
        text: String,
    },
    /// A file of a bundle that is paid for was not uploaded.
    #[error(
        "{0} These files are paid for. Run the same command again: it uploads the missing files and never \
         pays twice."
    )]
    Unfinished(String),
    /// The server can't be reached or is busy. Nothing was charged.
    #[error("{0} Nothing was charged; run the same command again later.")]
    Unavailable(String),
}

/// A successful upload or renewal of one image. [`Client::conclude`] deletes its saved payment.
#[derive(Debug)]
pub struct Done {
    /// The image, as the server described it.
    pub uploaded: Uploaded,
    key: Option<PendingKey>,
}

/// Uploads that were bought with one payment. [`Client::end`] deletes that saved payment.
#[derive(Debug)]
pub struct Bundle {
    /// The upload token.
    pub token: UploadToken,
    /// The number of uploads left on the token.
    pub left: u64,
    key: PendingKey,
}

/// The price of an operation.
#[derive(Debug)]
pub enum Price {
    /// The operation is free.
    Free,
    /// The price that the server asks for now.
    Quoted(Quote),
    /// Nothing new: the saved payment of an earlier run would be sent again.
    Pending(SignedPayment),
}

/// A client of one server, for one operation.
pub struct Client<'a> {
    http: reqwest::Client,
    order: Order,
    endpoint: Url,
    wallets: WalletSource,
    pending: Option<PendingPayments>,
    world: World<'a>,
    /// Parameters of each upload, beside those of its route.
    extra: Vec<(&'static str, String)>,
    /// The query of a private image's signed link, which proves that the image may be renewed.
    proof: Vec<(String, String)>,
    /// The limit on the payments of a day, if there is one.
    budget: Option<&'a Budget>,
}

/// A saved payment that is kept although it has bought something: until it is forgotten, the same operation gets the
/// same goods for it.
#[derive(Debug)]
pub struct HeldPayment {
    pending: PendingPayments,
    key: PendingKey,
}

impl HeldPayment {
    /// Deletes the saved payment. After this the same operation makes a new one.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] if the file can't be removed.
    pub fn forget(&self) -> Result<(), Failure> {
        Ok(self.pending.forget(&self.key)?)
    }
}

/// The audience of an uploaded image, as `visibility` and `viewer` name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Audience {
    /// Everybody who has the link.
    #[default]
    Public,
    /// Whoever has a signed link of the owner or of this wallet.
    Private {
        /// The wallet that may make signed links, beside the owner.
        viewer: Option<Address>,
    },
}

impl fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

/// One request. Every attempt sends exactly the same bytes.
#[derive(Default)]
struct Request<'r> {
    image: Option<&'r Image>,
    token: Option<&'r UploadToken>,
    payment: Option<&'r SignedPayment>,
    /// Whether an earlier run may have sent `payment`.
    was_sent: bool,
    /// The size of the image whose price is asked for without sending it.
    bytes: Option<usize>,
}

impl<'a> Client<'a> {
    /// Creates a client for `order`. It sends nothing and reads no key yet.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the server's URL or a proxy is unsuitable.
    pub fn new(
        order: Order,
        env: &BTreeMap<String, String>,
        world: World<'a>,
    ) -> Result<Self, Failure> {
        let endpoint = transport::endpoint(&order.server, &order.purpose)?;
        Ok(Self {
            http: transport::http(env)?,
            endpoint,
            wallets: WalletSource::new(order.wallet.as_deref(), env),
            pending: wallet::data_dir(env).map(|dir| PendingPayments::below(&dir)),
            order,
            world,
            extra: Vec::new(),
            proof: Vec::new(),
            budget: None,
        })
    }

    /// The same client, which also keeps its payments within this limit of a day.
    #[must_use]
    pub fn within(self, budget: &'a Budget) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// The same client, for uploads with this audience.
    #[must_use]
    pub fn shown_to(mut self, audience: &Audience) -> Self {
        if let Audience::Private { viewer } = audience {
            self.extra.push(("visibility", "private".to_owned()));
            self.extra
                .extend(viewer.map(|wallet| ("viewer", wallet.to_checksum(None))));
        }
        self
    }

    /// The same client, for the renewal of the private image that this signed link shows. The parameters of the link
    /// don't change which saved payment is found: another link of the same image continues with the same payment.
    #[must_use]
    pub fn proven_by(mut self, link: &Url) -> Self {
        let pairs = link.query_pairs();
        let proof = pairs.filter(|(name, _)| matches!(name.as_ref(), "exp" | "sig"));
        self.proof = proof
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        self
    }

    /// Uploads `image`, and pays for it where the tier has a price.
    pub async fn upload(
        &self,
        image: &Image,
        tell: &mut dyn FnMut(Notice),
    ) -> Result<Done, Failure> {
        if self.is_free() {
            tell(Notice::Step("uploading".to_owned()));
            let request = Request {
                image: Some(image),
                ..Request::default()
            };
            let (answer, _) = self.send(&request, tell).await;
            return match answer.reply().and_then(Reply::uploaded) {
                Some(uploaded) => Ok(Done {
                    uploaded,
                    key: None,
                }),
                None => Err(self.refusal(&answer)),
            };
        }
        let key = self.key(&image.bytes);
        let bought = self.buy(Some(image), &key, Reply::uploaded, tell).await;
        let uploaded = match bought {
            Err(Failure::Unproven { nonce, text }) => {
                let claimed = self.claim(&nonce, tell).await?;
                let (token, _) = claimed.ok_or(Failure::Unproven { nonce, text })?;
                let uploaded = self.upload_with(&token, image, tell).await?;
                uploaded
                    .ok_or_else(|| Failure::Unfinished("The claimed token expired.".to_owned()))?
            }
            bought => bought?,
        };
        Ok(Done {
            uploaded,
            key: Some(key),
        })
    }

    /// Buys more time for the image of the order.
    pub async fn renew(&self, tell: &mut dyn FnMut(Notice)) -> Result<Done, Failure> {
        let key = self.key(b"");
        let uploaded = self.buy(None, &key, Reply::uploaded, tell).await?;
        Ok(Done {
            uploaded,
            key: Some(key),
        })
    }

    /// Issues the upload link of the order, and pays for it where the tier has a price. [`Done::uploaded`] holds the link
    /// in place of an image.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn issue_link(&self, tell: &mut dyn FnMut(Notice)) -> Result<Done, Failure> {
        self.obtain("issuing the link", tell).await
    }

    /// Has the server fetch the image of the order, and pays for it where the tier has a price.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn import(&self, tell: &mut dyn FnMut(Notice)) -> Result<Done, Failure> {
        self.obtain("importing", tell).await
    }

    /// Obtains what the order alone describes, without a file.
    async fn obtain(&self, step: &str, tell: &mut dyn FnMut(Notice)) -> Result<Done, Failure> {
        if self.is_free() {
            tell(Notice::Step(step.to_owned()));
            let (answer, _) = self.send(&Request::default(), tell).await;
            return match answer.reply().and_then(Reply::uploaded) {
                Some(uploaded) => Ok(Done {
                    uploaded,
                    key: None,
                }),
                None => Err(self.refusal(&answer)),
            };
        }
        let key = self.key(b"");
        let uploaded = self.buy(None, &key, Reply::uploaded, tell).await?;
        Ok(Done {
            uploaded,
            key: Some(key),
        })
    }

    /// Buys the uploads of the order, or gets the token again that an earlier run bought. `content` identifies the files,
    /// so that the same files find the same saved payment.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn buy_uploads(
        &self,
        content: &[u8],
        tell: &mut dyn FnMut(Notice),
    ) -> Result<Bundle, Failure> {
        let key = self.key(content);
        let bought = self.buy(None, &key, Reply::bought, tell).await;
        let (token, left) = match bought {
            Err(Failure::Unproven { nonce, text }) => {
                let claimed = self.claim(&nonce, tell).await?;
                claimed.ok_or(Failure::Unproven { nonce, text })?
            }
            bought => bought?,
        };
        Ok(Bundle { token, left, key })
    }

    /// Uploads an image with a token. `None` when the token has expired: buying again with the same payment gives a
    /// new one.
    pub async fn upload_with(
        &self,
        token: &UploadToken,
        image: &Image,
        tell: &mut dyn FnMut(Notice),
    ) -> Result<Option<Uploaded>, Failure> {
        let request = Request {
            image: Some(image),
            token: Some(token),
            ..Request::default()
        };
        let (answer, _) = self.send(&request, tell).await;
        match answer.reply() {
            Some(reply) if reply.uploaded().is_some() => Ok(reply.uploaded()),
            Some(reply) if reply.code() == "token_expired" => Ok(None),
            _ => Err(self.refusal(&answer)),
        }
    }

    /// A tier of the server's price table. `None` when the server has no table or the table no such tier.
    pub async fn tier(&self, tier: &TierName) -> Option<TierFacts> {
        let url = transport::below(&self.order.server, &["api", "tiers"]).ok()?;
        let request = self.http.get(url).timeout(ATTEMPT_TIMEOUT).send();
        let answer = transport::read(request.await.ok()?).await;
        answer.reply()?.tier(tier.as_str())
    }

    /// Sends the saved payment of an earlier run, or signs one, and retries until a response decides. `read` extracts
    /// what was bought from a successful response.
    async fn buy<T>(
        &self,
        image: Option<&Image>,
        key: &PendingKey,
        read: fn(&Reply) -> Option<T>,
        tell: &mut dyn FnMut(Notice),
    ) -> Result<T, Failure> {
        let pending = self.pending()?;
        let (payment, was_sent) = if let Some(payment) = pending.find(key)? {
            self.check_pending(&payment)?;
            self.reserve(&payment)?;
            tell(Notice::Fact(format!(
                "An earlier run signed a payment for {}; the same payment is sent again.",
                self.object()
            )));
            (payment, true)
        } else {
            let bytes = image.map_or(0, |image| image.bytes.len());
            let signed = self.sign(bytes, tell).await?;
            (self.keep(pending, key, &signed)?, false)
        };
        let request = Request {
            image,
            payment: Some(&payment),
            was_sent,
            ..Request::default()
        };
        self.present(&request, &payment, key, read, tell).await
    }

    /// Reserves a new payment in the day's limit and saves it. Returns the payment to send, which is another one where
    /// another process was first.
    fn keep(
        &self,
        pending: &PendingPayments,
        key: &PendingKey,
        signed: &SignedPayment,
    ) -> Result<SignedPayment, Failure> {
        self.reserve(signed)?;
        let kept = pending.keep(key, signed.clone());
        match kept {
            Ok(kept) if kept.nonce() == signed.nonce() => Ok(kept),
            // The own payment was never sent.
            Ok(kept) => {
                self.release(signed)?;
                self.reserve(&kept)?;
                Ok(kept)
            }
            Err(error) => {
                self.release(signed)?;
                Err(error.into())
            }
        }
    }

    fn reserve(&self, payment: &SignedPayment) -> Result<(), Failure> {
        match self.budget {
            Some(budget) => budget.reserve(payment, self.world.clock.now()),
            None => Ok(()),
        }
    }

    fn release(&self, payment: &SignedPayment) -> Result<(), Failure> {
        self.budget.map_or(Ok(()), |budget| budget.release(payment))
    }

    /// Signs in with the wallet, and returns the token of the payment with this nonce, with the number of uploads left.
    /// `None`: the payment has none.
    async fn claim(
        &self,
        nonce: &str,
        tell: &mut dyn FnMut(Notice),
    ) -> Result<Option<(UploadToken, u64)>, Failure> {
        tell(Notice::Step("signing in for what was paid for".to_owned()));
        let wallet = self.wallets.find()?.ok_or(WalletError::Missing)?;
        let claims = claim::collect(&self.http, &self.order.server, &wallet).await?;
        let mut payments = claims.payments.into_iter();
        let found = payments.find(|payment| payment.nonce.eq_ignore_ascii_case(nonce));
        Ok(found.and_then(|payment| Some((payment.token?, payment.uploads))))
    }

    /// The price of the operation. `content` is the image, or what [`Client::buy_uploads`] takes as `content`. Signs
    /// nothing, writes nothing and sends no image.
    pub async fn price(
        &self,
        content: &[u8],
        tell: &mut dyn FnMut(Notice),
    ) -> Result<Price, Failure> {
        if self.is_free() {
            return Ok(Price::Free);
        }
        if let Some(payment) = self.pending()?.find(&self.key(content))? {
            self.check_pending(&payment)?;
            return Ok(Price::Pending(payment));
        }
        self.quote(content.len(), tell).await.map(Price::Quoted)
    }

    /// Deletes the saved payment of an upload whose link has reached the user. After this the same command makes a
    /// new payment; before it, the same file gets the same link for the same payment.
    pub fn conclude(&self, done: &Done) -> Result<(), Failure> {
        match (&self.pending, &done.key) {
            (Some(pending), Some(key)) => Ok(pending.forget(key)?),
            _ => Ok(()),
        }
    }

    /// Takes the saved payment of an operation, for who forgets it later. `None`: it was free.
    pub fn hold(&self, done: Done) -> Option<HeldPayment> {
        Some(HeldPayment {
            pending: self.pending.clone()?,
            key: done.key?,
        })
    }

    /// Deletes the saved payment of a bundle, once all its links have reached the user.
    pub fn end(&self, bundle: &Bundle) -> Result<(), Failure> {
        Ok(self.pending()?.forget(&bundle.key)?)
    }

    /// Signs a payment for the price that the server asks for now, for an image of this many bytes.
    async fn sign(
        &self,
        bytes: usize,
        tell: &mut dyn FnMut(Notice),
    ) -> Result<SignedPayment, Failure> {
        let quote = self.quote(bytes, tell).await?;
        let wallet = self.wallet(&quote, tell)?;
        tell(Notice::Step(format!(
            "paying {} USDC",
            quote.amount.to_decimal_usd()
        )));
        Ok(quote.sign(&wallet, self.world.clock.now(), self.world.randomness)?)
    }

    /// Asks for the price without sending the image: the server sends its challenge before it reads the body.
    async fn quote(&self, bytes: usize, tell: &mut dyn FnMut(Notice)) -> Result<Quote, Failure> {
        tell(Notice::Step("asking for the price".to_owned()));
        let is_upload = matches!(self.order.purpose, Purpose::Upload(_));
        let request = Request {
            bytes: Some(bytes).filter(|bytes| is_upload && *bytes > 0),
            ..Request::default()
        };
        let (answer, _) = self.send(&request, tell).await;
        let Answer::Reply(reply @ Reply { status: 402, .. }) = &answer else {
            return Err(match self.refusal(&answer) {
                Failure::FileRefused(text) => Failure::NotPayable(text),
                other => other,
            });
        };
        let quote = pay::choose(reply.challenge.as_deref().ok_or(Unpayable::Unreadable)?)?;
        self.check_price(quote.amount)?;
        Ok(quote)
    }

    fn wallet(&self, quote: &Quote, tell: &mut dyn FnMut(Notice)) -> Result<Wallet, Failure> {
        if let Some(wallet) = self.wallets.find()? {
            return Ok(wallet);
        }
        if !quote.is_play_money {
            return Err(WalletError::Missing.into());
        }
        let (wallet, path) = self.wallets.create(self.world.randomness)?;
        tell(Notice::Fact(format!(
            "Created a wallet for play money: {} in {}.",
            wallet.address(),
            path.display()
        )));
        Ok(wallet)
    }

    /// Sends the payment until a response decides, or [`PATIENCE`] is over.
    async fn present<T>(
        &self,
        request: &Request<'_>,
        payment: &SignedPayment,
        key: &PendingKey,
        read: fn(&Reply) -> Option<T>,
        tell: &mut dyn FnMut(Notice),
    ) -> Result<T, Failure> {
        let price = payment.amount.to_decimal_usd();
        tell(Notice::Step(match request.image {
            Some(_) => format!("paying {price} USDC and uploading"),
            None => format!("paying {price} USDC"),
        }));
        let (answer, may_have_paid) = self.send(request, tell).await;
        if let Answer::Reply(reply) = &answer {
            if let Some(bought) = read(reply) {
                return Ok(bought);
            }
            if reply.asks_to_claim() {
                let text = reply.explain();
                let nonce = payment.nonce().unwrap_or_default();
                return Err(Failure::Unproven { nonce, text });
            }
            let is_final = reply.refuses_payer() || reply.refuses_file();
            if is_final && reply.says_not_charged() {
                // The day's limit still counts it: a server that lies could settle it nevertheless.
                self.pending()?.forget(key)?;
            }
        }
        if may_have_paid {
            return Err(Failure::OutcomeUnknown(answer.explain()));
        }
        Err(match &answer {
            Answer::Reply(reply) if reply.refuses_payer() || reply.status == 409 => {
                Failure::PaymentRefused(format!(
                    "The payment of {price} USDC on {} by {} was refused: {}",
                    payment.network.name(),
                    payment.payer,
                    reply.explain()
                ))
            }
            _ => self.refusal(&answer),
        })
    }

    /// Sends `request`, and retries while the failure is temporary. Returns the last answer, and whether its payment
    /// may have moved money.
    async fn send(&self, request: &Request<'_>, tell: &mut dyn FnMut(Notice)) -> (Answer, bool) {
        let started = self.world.clock.now();
        let mut may_have_paid = request.was_sent;
        let mut attempt = 1;
        loop {
            let answer = self.send_once(request).await;
            may_have_paid = request.payment.is_some() && answer.may_have_paid(may_have_paid);
            let knocks_in_vain = request.payment.is_none()
                && matches!(answer, Answer::Unreached)
                && attempt >= MAX_KNOCKS;
            let left = PATIENCE.saturating_sub(self.world.clock.now().since(started));
            let is_over = left.is_zero() || attempt >= MAX_ATTEMPTS || knocks_in_vain;
            let backoff = Duration::from_secs(1_u64.checked_shl(attempt - 1).unwrap_or(10).min(10));
            let wait = answer.retry_after().unwrap_or(backoff);
            // When the server asks to wait longer than the time left, an earlier attempt would fail as well.
            let is_too_long = answer.retry_after().is_some_and(|asked| asked > left);
            if is_over || is_too_long || !answer.is_passing() {
                return (answer, may_have_paid);
            }
            let waits = format!("{} Trying again in {} s.", answer.explain(), wait.as_secs());
            tell(if wait >= LONG_WAIT {
                // Nobody sees a step where standard error is no terminal.
                Notice::Fact(waits)
            } else {
                Notice::Step(waits)
            });
            // At least half a second, also for `Retry-After: 0`.
            (self.world.pause)(wait.max(Duration::from_millis(500))).await;
            attempt += 1;
        }
    }

    async fn send_once(&self, request: &Request<'_>) -> Answer {
        let size = request.image.map_or(0, |image| image.bytes.len());
        let line = u64::try_from(size / SLOWEST_BYTES_PER_SECOND).unwrap_or(u64::MAX);
        let endpoint = match request.token {
            // The token determines the tier.
            Some(_) => transport::below(&self.order.server, &["api", "upload"]).ok(),
            None => Some(self.endpoint.clone()),
        };
        let Some(mut endpoint) = endpoint else {
            return Answer::Unreached;
        };
        self.add_parameters(&mut endpoint, request);
        let mut builder = self
            .http
            .post(endpoint)
            .timeout(ATTEMPT_TIMEOUT.saturating_add(Duration::from_secs(line)))
            .header(ACCEPT, "application/json");
        if let Some(image) = request.image {
            builder = builder
                .header(CONTENT_TYPE, image.content_type)
                .body(image.bytes.clone());
        }
        if let Purpose::Import { body, .. } = &self.order.purpose {
            builder = builder
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        if let Some(payment) = request.payment {
            let Ok(mut value) = HeaderValue::from_str(payment.header()) else {
                return Answer::Unreached;
            };
            value.set_sensitive(true);
            builder = builder.header(PAYMENT_SIGNATURE, value);
        }
        if let Some(token) = request.token {
            let Ok(mut value) = HeaderValue::from_str(token.reveal()) else {
                return Answer::Unreached;
            };
            value.set_sensitive(true);
            builder = builder.header("X-Upload-Token", value);
        }
        match builder.send().await {
            Ok(response) => transport::read(response).await,
            Err(error) if error.is_connect() || error.is_builder() => Answer::Unreached,
            Err(_) => Answer::Lost,
        }
    }

    /// Adds the parameters of an upload, or those that prove access to a private image.
    fn add_parameters(&self, endpoint: &mut Url, request: &Request<'_>) {
        let is_upload = request.token.is_some() || matches!(self.order.purpose, Purpose::Upload(_));
        let extra: &[_] = if is_upload { &self.extra } else { &[] };
        for (name, value) in extra {
            endpoint.query_pairs_mut().append_pair(name, value);
        }
        for (name, value) in &self.proof {
            endpoint.query_pairs_mut().append_pair(name, value);
        }
        if let Some(bytes) = request.bytes {
            let bytes = bytes.to_string();
            endpoint.query_pairs_mut().append_pair("bytes", &bytes);
        }
    }

    /// The failure for an answer when no payment is in doubt.
    fn refusal(&self, answer: &Answer) -> Failure {
        let text = answer.explain();
        let Answer::Reply(reply) = answer else {
            return Failure::Unavailable(format!("{} ({text})", self.order.server));
        };
        match reply.status {
            404 => reply.refused(match &self.order.purpose {
                Purpose::Upload(tier)
                | Purpose::Tokens { tier, .. }
                | Purpose::Link { tier, .. }
                | Purpose::Import { tier, .. } => format!(
                    "{} doesn't sell the tier \"{tier}\": {text}",
                    self.order.server
                ),
                Purpose::Renew { .. } if reply.code() == "unknown_tier" => text,
                Purpose::Renew { image, .. } => {
                    format!("{} has no image {image}: {text}", self.order.server)
                }
            }),
            400 | 409 if matches!(self.order.purpose, Purpose::Renew { .. } | Purpose::Link { .. }) => reply.refused(text),
            429 | 500..=599 => Failure::Unavailable(text),
            300..=399 => Failure::Unexpected(format!(
                "{} redirects, and redirects are not followed: give the final URL with --server.",
                self.order.server
            )),
            200..=299 => Failure::Unexpected(
                "The server's response reports success but holds no link: check that --server names a pixtoll server."
                    .to_owned(),
            ),
            _ if reply.refuses_file() => Failure::FileRefused(text),
            _ => Failure::Unexpected(text),
        }
    }

    /// Whether the operation is free.
    pub fn is_free(&self) -> bool {
        matches!(
            &self.order.purpose,
            Purpose::Upload(tier) | Purpose::Link { tier, .. } | Purpose::Import { tier, .. }
                if transport::is_free(tier)
        )
    }

    /// The number of files that one payment is for.
    fn files(&self) -> usize {
        match self.order.purpose {
            Purpose::Tokens { images, .. } | Purpose::Link { images, .. } => images,
            Purpose::Upload(_) | Purpose::Import { .. } | Purpose::Renew { .. } => 1,
        }
    }

    /// What a payment is for, as words for a message.
    fn object(&self) -> &'static str {
        match self.order.purpose {
            Purpose::Upload(_) => "this file",
            Purpose::Tokens { .. } => "these files",
            Purpose::Link { .. } => "this upload link",
            Purpose::Import { .. } => "this import",
            Purpose::Renew { .. } => "more time for this image",
        }
    }

    /// Rejects a price above the cap, which has another name and no files where a day is limited as well.
    fn check_price(&self, amount: AtomicAmount) -> Result<(), Failure> {
        let cap = self.order.cap;
        if self.budget.is_none() {
            return Ok(check_cap(amount, cap, self.files())?);
        }
        if amount <= cap {
            return Ok(());
        }
        Err(Failure::NotPayable(format!(
            "The price is {} USDC, above the limit of {} USDC for one call (--max-per-call). Nothing was paid. Choose a \
             cheaper tier or fewer images, or ask the user to raise the limit.",
            amount.to_decimal_usd(),
            cap.to_decimal_usd()
        )))
    }

    /// Applies the cap to a saved payment too: it may have been signed under a higher cap, and may not have been
    /// settled yet.
    fn check_pending(&self, payment: &SignedPayment) -> Result<(), Failure> {
        self.check_price(payment.amount).map_err(|error| {
            Failure::NotPayable(format!(
                "An earlier run signed a payment for {}, and whether it went through is not known. {error}",
                self.object()
            ))
        })
    }

    fn key(&self, content: &[u8]) -> PendingKey {
        let tier = match &self.order.purpose {
            Purpose::Upload(tier)
            | Purpose::Tokens { tier, .. }
            | Purpose::Link { tier, .. }
            | Purpose::Import { tier, .. } => tier.as_str(),
            Purpose::Renew { tier, .. } => tier.as_ref().map_or("", TierName::as_str),
        };
        // A payment is bound to the parameters of its upload, so other parameters are another payment.
        let mut endpoint = self.endpoint.clone();
        if matches!(self.order.purpose, Purpose::Upload(_)) {
            for (name, value) in &self.extra {
                endpoint.query_pairs_mut().append_pair(name, value);
            }
        }
        let content = match &self.order.purpose {
            Purpose::Import { body, .. } => body.as_bytes(),
            _ => content,
        };
        PendingKey::of(endpoint.as_str(), tier, content)
    }

    fn pending(&self) -> Result<&PendingPayments, Failure> {
        self.pending.as_ref().ok_or_else(|| {
            Failure::Usage(
                "Payments are saved to disk before they are sent, but no data directory is known: set HOME or \
                 XDG_DATA_HOME to an absolute path."
                    .to_owned(),
            )
        })
    }
}

impl From<Unpayable> for Failure {
    fn from(error: Unpayable) -> Self {
        match error {
            Unpayable::Wallet(error) => error.into(),
            Unpayable::Unreadable
            | Unpayable::NoUsableOffer { .. }
            | Unpayable::AboveCap { .. } => Self::NotPayable(error.to_string()),
        }
    }
}

impl From<WalletError> for Failure {
    fn from(error: WalletError) -> Self {
        match error {
            WalletError::NotAKey { .. } | WalletError::Missing | WalletError::File { .. } => {
                Self::Usage(error.to_string())
            }
            WalletError::Signing => Self::Unexpected(error.to_string()),
        }
    }
}

impl From<PendingError> for Failure {
    fn from(error: PendingError) -> Self {
        Self::Unexpected(error.to_string())
    }
}
