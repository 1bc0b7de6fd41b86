//! Payments: from the request that carries a payment to what it bought.
//!
//! [`Payments::present`] is the whole way, and this folder reads in its order: `decide` (what a
//! payment receives that the ledger knows), `admit`, `verify`, `store`, `settle`, `deliver`. Every
//! step is written by `ledger` before the call that follows it leaves the process
//! (docs/payments.md, rule 9), `reading` asks the chain, and `recovery` takes over where no request
//! works on a payment. This folder contains no HTTP and no SQL.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use crate::accounting::funnel::{Funnel, Stage};
use crate::catalog::Catalog;
use crate::db::{Db, DbError};
use crate::images::{Checked, Images, Refusal};
use crate::imports::Import;
use crate::keys::secrets::Keyring;
use crate::keys::signing::SigningKeys;
use crate::limits::Limits;
use crate::model::client_kind::ClientKind;
use crate::model::image::Image;
use crate::model::link::Link;
use crate::model::payment::{Payment, PaymentId, Product, Renewal};
use crate::model::token::UploadToken;
use crate::moving::epoch::Epoch;
use crate::pricing::networks::Network;
use crate::system::clock::{Clock, Timestamp};
use crate::system::logs;
use crate::system::random::Randomness;
use crate::system::traces;
use crate::x402::header::PaymentHeader;
use crate::x402::wire::{SettlementResponse, Version};

pub mod access;
mod admit;
mod decide;
mod deliver;
mod error;
mod known;
mod ledger;
mod proofs;
mod reading;
mod receipts;
pub mod recovery;
mod refusals;
mod renew;
mod repeated;
mod screen;
mod settle;
mod store;
mod verify;
mod wait;

use access::Networks;
use decide::{Decision, Presented, decide};
pub use deliver::Unreceived;
pub use error::{PayError, Silent};
pub use known::{Asked, Bought};
use ledger::{Lease, Ledger};
pub use proofs::{BadKey, RequestProofs, read_key_header};
use recovery::Money;
pub use renew::NotRenewable;
use repeated::RepeatedSettles;
use wait::{WAIT, Waiters};

/// How often one request looks at the row again after it changed something, before it gives up.
const MAX_ROUNDS: u32 = 200;

/// A request that carries a payment.
#[derive(Debug)]
pub struct Presentation {
    /// The payment, as its header was read.
    pub header: PaymentHeader,
    /// What the route sells.
    pub product: Product,
    /// Whether the route names no tier and so sells the default tier.
    pub is_default: bool,
    /// The URL of the route, with the configured origin.
    pub resource_url: String,
    /// The proofs that the request comes from the payer.
    pub evidence: RequestProofs,
    /// The uploaded image; `None` on routes that take none.
    pub body: Option<Body>,
    /// The client's address, for rate limits; `None` where it is unknown.
    pub client: Option<IpAddr>,
    /// The kind of client, for statistics.
    pub client_kind: ClientKind,
}

/// The body of a paid upload.
#[derive(Debug)]
pub struct Body {
    /// SHA-256 of the uploaded bytes, in hexadecimal; of an import, that of its order.
    pub sha256: String,
    /// The image, or where it is.
    pub content: Content,
}

/// The image of a paid upload.
#[derive(Debug)]
pub enum Content {
    /// The request holds it. It is checked, or the tier does not take it.
    Sent(Result<Checked, Refusal>),
    /// The server fetches it, once the payment is verified.
    Linked(Import),
}

impl Presentation {
    fn body_sha256(&self) -> Option<&str> {
        self.body.as_ref().map(|body| body.sha256.as_str())
    }
}

/// What a payment bought, and its receipt.
#[derive(Debug)]
pub struct Sold {
    /// What the payment bought.
    pub goods: Goods,
    /// The settlement receipt, sent in `PAYMENT-RESPONSE` or, for version 1, `X-PAYMENT-RESPONSE`.
    pub receipt: SettlementResponse,
    /// The protocol version of the client's payment.
    pub version: Version,
}

/// What a payment bought.
#[derive(Debug)]
pub enum Goods {
    /// An upload token.
    Token {
        /// The token, which the client sends as `X-Upload-Token`.
        token: UploadToken,
        /// When the token expires.
        expires_at: Timestamp,
        /// The name of the tier that the token uploads to.
        tier: String,
        /// The number of uploads left.
        uploads: u32,
    },
    /// An upload link.
    Link(Link),
    /// A published image.
    Image(Image),
    /// A renewed image.
    Renewed {
        /// The image with its new expiry.
        image: Image,
        /// The old and the new expiry.
        renewal: Renewal,
    },
}

/// Settings that apply to all payments of a deployment.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The timeout of `/verify`, and how long a request waits for `/settle`.
    pub timeout: Duration,
    /// How long an upload token is valid.
    pub token_ttl: Duration,
}

/// Sells uploads and renewals for payments, each exactly once.
#[derive(Debug)]
pub struct Payments {
    db: Db,
    secrets: Keyring,
    keys: Arc<SigningKeys>,
    clock: Arc<dyn Clock>,
    ledger: Ledger,
    networks: Networks,
    images: Arc<Images>,
    limits: Arc<Limits>,
    catalog: Arc<Catalog>,
    settings: Settings,
    waiters: Waiters,
    again: RepeatedSettles,
    funnel: Arc<Funnel>,
    sale_stopped: AtomicBool,
    /// The random name under which this process holds the leases of background jobs.
    holder: String,
    /// When this process next looks for transfers without a payment, in milliseconds since 1970.
    next_orphans: AtomicI64,
}

/// The parts of the server that payments use.
#[derive(Debug)]
pub struct Ports {
    /// The database that holds the ledger.
    pub db: Db,
    /// The master keys, from which tokens and hashes of proofs are derived.
    pub secrets: Keyring,
    /// The keys that sign receipts.
    pub keys: Arc<SigningKeys>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of random bytes.
    pub randomness: Randomness,
    /// The facilitator and the chain of each network.
    pub networks: Networks,
    /// Stores the images that payments bought.
    pub images: Arc<Images>,
    /// The rate limits.
    pub limits: Arc<Limits>,
    /// Renews the store's mark after sales.
    pub epoch: Arc<Epoch>,
    /// Counts payments for statistics.
    pub funnel: Arc<Funnel>,
}

/// The name of the facilitator of each network.
fn names(networks: &Networks) -> Vec<(&'static Network, &'static str)> {
    let networks = networks.iter();
    networks
        .map(|access| (access.network, access.facilitator.name()))
        .collect()
}

impl Payments {
    /// Creates the payments of a deployment, which sell what the catalog offers.
    pub fn new(ports: Ports, catalog: Arc<Catalog>, settings: Settings) -> Self {
        let ledger = Ledger::new(
            ports.db.clone(),
            Arc::clone(&ports.clock),
            ports.secrets.clone(),
            Arc::clone(&ports.images),
            ports.epoch,
            settings.token_ttl,
            names(&ports.networks),
        );
        Self {
            db: ports.db,
            secrets: ports.secrets,
            keys: ports.keys,
            clock: ports.clock,
            ledger,
            networks: ports.networks,
            images: ports.images,
            limits: ports.limits,
            catalog,
            settings,
            waiters: Waiters::default(),
            again: RepeatedSettles::default(),
            funnel: ports.funnel,
            sale_stopped: AtomicBool::new(false),
            holder: hex::encode(ports.randomness.bytes::<8>()),
            next_orphans: AtomicI64::new(0),
        }
    }

    /// Whether sales are paused because the outcome of too many payments is unknown. Earlier
    /// payments still deliver their goods.
    pub fn is_sale_stopped(&self) -> bool {
        self.sale_stopped.load(Ordering::Relaxed)
    }

    /// Returns the goods of a payment. However often and however late the payment is sent, it buys
    /// them once.
    ///
    /// The work runs in a task of its own, so that a client that disconnects does not cancel it.
    ///
    /// # Errors
    /// [`PayError`] says whether money moved.
    pub async fn present(self: &Arc<Self>, presentation: Presentation) -> Result<Sold, PayError> {
        let payments = Arc::clone(self);
        tokio::spawn(async move { payments.run(&presentation).await }.in_current_span())
            .await
            .unwrap_or(Err(PayError::Pending))
    }

    async fn run(self: &Arc<Self>, presentation: &Presentation) -> Result<Sold, PayError> {
        let mut progress = Progress::new(self.settings.timeout);
        if let Some(network) = presentation.header.network {
            let authorization = &presentation.header.authorization;
            let own = PaymentId::of(network, authorization.from, authorization.nonce);
            progress.name_in_logs(&own);
        }
        for _ in 0..MAX_ROUNDS {
            if let Some(answer) = self.round(presentation, &mut progress).await? {
                return Ok(answer);
            }
        }
        Err(PayError::InProgress)
    }

    /// Looks at the row once and does what follows from its state. `None` means to look again.
    async fn round(
        self: &Arc<Self>,
        presentation: &Presentation,
        progress: &mut Progress,
    ) -> Result<Option<Sold>, PayError> {
        let header = &presentation.header;
        let found = match &progress.ledger_id {
            Some(id) => self.ledger.find(id).await?,
            None => self.ledger.find_presented(header).await?,
        };
        let Some(row) = found else {
            return self
                .attempt_new(presentation, progress)
                .await
                .map(|()| None);
        };
        progress.name_in_logs(&row.id);
        let is_proven =
            progress.stands_for_owner || self.proves(&row, presentation, progress).await?;
        // Where the row belongs to another payment, the request is judged by that row's
        // authorization.
        let (digest, signature) = if progress.stands_for_owner {
            (row.digest, &row.signature)
        } else {
            (
                header.authorization.digest(row.network()),
                &header.signature,
            )
        };
        let presented = Presented {
            digest,
            signature,
            product: known::asked_of(&row, presentation),
            body_sha256: presentation.body_sha256(),
            proven: is_proven,
            driven: progress.is_driven,
            now: self.clock.now(),
        };
        match decide(&row, &presented) {
            Decision::Deliver => self.deliver(&row, header.version).await.map(Some),
            // The owner of an idempotency key is not attempted again with another payment's
            // authorization.
            Decision::Attempt if progress.stands_for_owner => Err(PayError::InProgress),
            Decision::Attempt => {
                let attempted = self
                    .attempt(presentation, Some(row.clone()), progress)
                    .await;
                self.unless_moved(attempted, &row, progress).await
            }
            Decision::Continue => {
                let continued = self.go_on(&row, presentation, is_proven, progress).await;
                self.unless_moved(continued, &row, progress).await
            }
            Decision::Drive => {
                self.resolve(&row, Some(progress.ends)).await?;
                progress.is_driven = true;
                Ok(None)
            }
            Decision::Wait => self.wait(&row, progress).await.map(|()| None),
            Decision::Rejected => self.refuse_rejected(&row, progress).await,
            Decision::Failed => match self.ask_chain_once(&row, progress).await? {
                Money::Moved => Ok(None),
                Money::Open => Err(PayError::Pending),
                Money::Still => Err(PayError::Failed {
                    reason: reason_of(&row),
                }),
            },
            Decision::Voided { charged } => Err(PayError::Voided { charged }),
            Decision::Known { charged } => Err(PayError::Known { charged }),
            Decision::Conflict { charged } => Err(PayError::Conflict { charged }),
            Decision::Pending => Err(PayError::Pending),
        }
    }

    /// The first attempt of a payment that the ledger doesn't know.
    async fn attempt_new(
        self: &Arc<Self>,
        presentation: &Presentation,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        let counts = self.funnel.of(&presentation.product.tier);
        counts.add(Stage::Presented, presentation.client_kind);
        self.refuse_erased(&presentation.header).await?;
        let Err(error) = self.attempt(presentation, None, progress).await else {
            return Ok(());
        };
        self.refuse_lost(presentation, &error).await?;
        // Without a row the payment was sent to no facilitator, so nothing was charged.
        if progress.ledger_id.is_none() {
            counts.add(Stage::Refused, presentation.client_kind);
        }
        Err(error)
    }

    /// The way of a new payment, or of the next attempt of a known one. The row holds the outcome.
    async fn attempt(
        self: &Arc<Self>,
        presentation: &Presentation,
        known: Option<Payment>,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        let stage = traces::payment("admit");
        let admitted = self.admit(presentation, known, progress).await?;
        drop(stage);
        let Some((mut row, balance)) = admitted else {
            return Ok(());
        };
        let lease = self.ledger.keep(&row);
        if !self.stage_sent(&mut row, presentation).await? {
            return Ok(());
        }
        let verified = self.verify(row, lease, presentation, balance, progress);
        let stage = traces::payment("verify");
        let Some((row, lease)) = verified.await? else {
            return Ok(());
        };
        drop(stage);
        self.store_and_settle(row, lease, presentation, progress)
            .await
    }

    /// Continues a verified payment whose driver has stopped.
    async fn go_on(
        self: &Arc<Self>,
        row: &Payment,
        presentation: &Presentation,
        is_proven: bool,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        if !is_proven && self.networks.is_published(row).await? {
            return match self.ask_chain(row).await? {
                Money::Moved => Ok(()),
                Money::Open | Money::Still => Err(PayError::Known { charged: None }),
            };
        }
        // The size limit is the one that was bought, not that of the tier today.
        admit::check_body(presentation, &row.product, &row.terms)?;
        self.screen(presentation).await?;
        let Some(mut row) = self.ledger.claim(row).await? else {
            return Ok(());
        };
        progress.ledger_id = Some(row.id.clone());
        progress.drove = Some(row.id.clone());
        let lease = self.ledger.keep(&row);
        if !self.stage_sent(&mut row, presentation).await? {
            return Ok(());
        }
        self.store_and_settle(row, lease, presentation, progress)
            .await
    }

    /// The second half of the way: nothing moves money before the image is stored.
    async fn store_and_settle(
        self: &Arc<Self>,
        mut row: Payment,
        lease: Lease,
        presentation: &Presentation,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        let stage = traces::payment("store");
        if !self.store(&mut row, presentation).await? {
            return Ok(());
        }
        drop(stage);
        let _stage = traces::payment("settle");
        self.settle(&row, lease, presentation, progress).await
    }

    /// Rejects a payment whose records were erased: it never buys anything again (docs/payments.md,
    /// rule 3).
    async fn refuse_erased(&self, header: &PaymentHeader) -> Result<(), PayError> {
        match self.ledger.find_erased(header).await? {
            Some(was_paid) => Err(PayError::Known {
                charged: Some(was_paid),
            }),
            None => Ok(()),
        }
    }

    /// Whether the request proves to come from the payer, or has driven the payment itself.
    async fn proves(
        &self,
        row: &Payment,
        presentation: &Presentation,
        progress: &Progress,
    ) -> Result<bool, PayError> {
        if progress.drove.as_ref() == Some(&row.id) {
            return Ok(true);
        }
        let bound = self.ledger.load_proofs(&row.id).await?;
        Ok(presentation.evidence.proves(&self.secrets, &row.id, &bound))
    }

    /// Turns the outcome of work on a known payment into the next step. An error that says that
    /// nothing was charged is returned only after the chain was asked.
    async fn unless_moved(
        &self,
        outcome: Result<(), PayError>,
        row: &Payment,
        progress: &mut Progress,
    ) -> Result<Option<Sold>, PayError> {
        let Err(error) = outcome else {
            return Ok(None);
        };
        if !error.denies_a_charge() {
            return Err(error);
        }
        match self.ask_chain_once(row, progress).await? {
            Money::Moved => Ok(None),
            Money::Open => Err(PayError::Pending),
            Money::Still => Err(error),
        }
    }

    /// Rejects a payment again that verify rejected. If its nonce is used by now, the money may
    /// have moved.
    async fn refuse_rejected(
        &self,
        row: &Payment,
        progress: &mut Progress,
    ) -> Result<Option<Sold>, PayError> {
        match self.ask_chain_once(row, progress).await? {
            Money::Moved => Ok(None),
            Money::Open => Err(PayError::Known { charged: None }),
            Money::Still if says_nonce_used(row) && !self.networks.is_void(row).await => {
                Err(PayError::Known { charged: None })
            }
            Money::Still => Err(PayError::Invalid {
                reason: reason_of(row),
                detail: String::new(),
            }),
        }
    }

    /// Asks the chain once per request whether the money moved after all, before a known payment is
    /// rejected.
    async fn ask_chain_once(
        &self,
        row: &Payment,
        progress: &mut Progress,
    ) -> Result<Money, DbError> {
        if progress.has_asked_chain || row.next_look.is_none() {
            return Ok(Money::Still);
        }
        progress.has_asked_chain = true;
        self.ask_chain(row).await
    }

    /// Waits until a payment changes or the request's time is over.
    async fn wait(&self, row: &Payment, progress: &mut Progress) -> Result<(), PayError> {
        if progress.place.is_none() {
            progress.place = Some(self.waiters.enter(&row.id).ok_or(PayError::InProgress)?);
        }
        let left = progress.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(PayError::InProgress);
        }
        wait::for_change(self.ledger.changed(), left).await;
        Ok(())
    }
}

/// What one request knows about its payment while it works on it.
#[derive(Debug)]
struct Progress {
    /// The ledger id of the payment that the request is about, once that is certain.
    ledger_id: Option<PaymentId>,
    /// The ledger id that log lines of this request carry.
    in_logs: Option<PaymentId>,
    /// Whether that is another payment, which was sent first under the same idempotency key.
    stands_for_owner: bool,
    /// The ledger id of the payment that this request has driven, which proves that the request
    /// comes from its payer.
    drove: Option<PaymentId>,
    /// Whether this request has driven the payment as far as it can.
    is_driven: bool,
    has_asked_chain: bool,
    /// Until when this request waits for another one that works on the payment.
    deadline: Instant,
    /// Until when this request waits for the chain.
    ends: Instant,
    place: Option<wait::Place>,
}

impl Progress {
    fn new(timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            ledger_id: None,
            in_logs: None,
            stands_for_owner: false,
            drove: None,
            is_driven: false,
            has_asked_chain: false,
            deadline: now + WAIT,
            ends: now + timeout,
            place: None,
        }
    }

    /// Makes another payment, which was sent first under the same idempotency key, the answer to this
    /// request.
    fn stand_for(&mut self, owner: PaymentId) {
        self.ledger_id = Some(owner);
        self.stands_for_owner = true;
    }

    /// Adds a payment's ledger id to the log lines of this request.
    fn name_in_logs(&mut self, ledger_id: &PaymentId) {
        if self.in_logs.as_ref() != Some(ledger_id) {
            logs::record_payment(ledger_id);
            self.in_logs = Some(ledger_id.clone());
        }
    }
}

/// Whether verify rejected the payment because its nonce is used. The money may have moved then,
/// unless the chain shows that the nonce paid someone else or was cancelled.
fn says_nonce_used(row: &Payment) -> bool {
    row.reason
        .as_deref()
        .is_some_and(|reason| reason.ends_with("nonce_already_used"))
}

/// The recorded reason of a rejected or failed payment.
fn reason_of(row: &Payment) -> String {
    row.reason
        .clone()
        .unwrap_or_else(|| "unspecified".to_owned())
}
