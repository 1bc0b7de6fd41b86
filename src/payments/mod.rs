//! Payments: from the request that carries a payment to what it bought.
//!
//! A payment is looked up, checked, recorded, verified, settled, and answered with its goods, in
//! this order. Every step is recorded before the call that follows it (docs/payments.md, rule 9).
//!
//! [`Payments::present`] does all of it. `standing` decides what to do about a payment that the
//! ledger knows, `examine` checks a new one, and `drive` calls the facilitator and the chain.
//! `reconcile` and `auditor` do the same in the background. This module contains no HTTP and no
//! SQL.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument;

use crate::catalog::Catalog;
use crate::db::{Db, DbError, erasure, payments as rows};
use crate::epoch::Epoch;
use crate::images::{Checked, Images, Refusal};
use crate::keys::secrets::Keyring;
use crate::keys::signing::SigningKeys;
use crate::limits::Limits;
use crate::model::image::Image;
use crate::model::payment::{
    Event, Payment, PaymentId, PaymentState, Product, Renewal, transition,
};
use crate::model::token::UploadToken;
use crate::pricing::networks;
use crate::system::clock::{Clock, Timestamp};
use crate::system::logs;
use crate::system::random::Randomness;
use crate::x402::header::PaymentHeader;
use crate::x402::wire::{SettlementResponse, Version};

pub mod access;
mod again;
mod auditor;
mod bought;
mod drive;
mod error;
mod examine;
mod goods;
pub mod ledger;
pub mod orphans;
mod proofs;
mod receipts;
mod reconcile;
pub mod recover;
mod refusals;
mod renew;
mod settling;
mod standing;
mod wait;

use access::{NetworkAccess, Networks};
use again::RepeatedSettles;
pub use bought::{Asked, Bought};

use drive::Look;
pub use error::{PayError, Silent};
pub use goods::Unreceived;
pub use proofs::{BadKey, RequestProofs, read_key_header};
pub use renew::NotRenewable;
use standing::{Presented, Standing};
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
}

/// The body of a paid upload.
#[derive(Debug)]
pub struct Body {
    /// SHA-256 of the uploaded bytes, in hexadecimal.
    pub sha256: String,
    /// The checked image, or why the tier does not take it.
    pub checked: Result<Checked, Refusal>,
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
    networks: Networks,
    images: Arc<Images>,
    limits: Arc<Limits>,
    epoch: Arc<Epoch>,
    catalog: Arc<Catalog>,
    settings: Settings,
    waiters: Waiters,
    changed: Notify,
    again: RepeatedSettles,
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
}

impl Payments {
    /// Creates the payments of a deployment, which sell what the catalog offers.
    pub fn new(ports: Ports, catalog: Arc<Catalog>, settings: Settings) -> Self {
        Self {
            db: ports.db,
            secrets: ports.secrets,
            keys: ports.keys,
            clock: ports.clock,
            networks: ports.networks,
            images: ports.images,
            limits: ports.limits,
            epoch: ports.epoch,
            catalog,
            settings,
            waiters: Waiters::default(),
            changed: Notify::new(),
            again: RepeatedSettles::default(),
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
        let Some(row) = self.find(presentation, progress).await? else {
            self.refuse_erased(&presentation.header).await?;
            let Err(error) = self.begin(presentation, None, progress).await else {
                return Ok(None);
            };
            self.refuse_lost(presentation, &error).await?;
            return Err(error);
        };
        progress.name_in_logs(&row.id);
        // Where the row belongs to another payment, the request is judged by that row's
        // authorization.
        let stands_for = progress.whose != Whose::Own;
        let proven =
            progress.whose == Whose::KeyOwner || self.proves(&row, presentation, progress).await?;
        let own_digest = presentation.header.authorization.digest(row.network());
        let presented = Presented {
            digest: if stands_for { row.digest } else { own_digest },
            signature: if stands_for {
                &row.signature
            } else {
                &presentation.header.signature
            },
            product: bought::asked_of(&row, presentation),
            body_sha256: presentation.body_sha256(),
            proven,
            driven: progress.driven,
            now: self.clock.now(),
        };
        match standing::standing(&row, &presented) {
            Standing::Deliver => self
                .deliver(&row, presentation.header.version)
                .await
                .map(Some),
            // The owner of an idempotency key is not attempted again with another payment's
            // authorization.
            Standing::Attempt if stands_for => Err(PayError::InProgress),
            Standing::Attempt => {
                let begun = self.begin(presentation, Some(row.clone()), progress).await;
                self.unless_moved(begun, &row, progress).await
            }
            Standing::Continue => {
                let begun = self
                    .go_on(row.clone(), presentation, proven, progress)
                    .await;
                self.unless_moved(begun, &row, progress).await
            }
            Standing::Drive => {
                self.drive(&row, Some(progress.ends)).await?;
                progress.driven = true;
                Ok(None)
            }
            Standing::Wait => self.wait(&row, progress).await.map(|()| None),
            Standing::Rejected => self.refuse_rejected(&row, progress).await,
            Standing::Failed => match self.look_once(&row, progress).await? {
                Look::Moved => Ok(None),
                Look::Open => Err(PayError::Pending),
                Look::Still => Err(PayError::Failed {
                    reason: reason_of(&row),
                }),
            },
            Standing::Voided { charged } => Err(PayError::Voided { charged }),
            Standing::Known { charged } => Err(PayError::Known { charged }),
            Standing::Conflict { charged } => Err(PayError::Conflict { charged }),
            Standing::Pending => Err(PayError::Pending),
        }
    }

    /// Finds the row that this request is about. A payment whose nonce is known under another token
    /// or network counts as known: a damaged copy of an unresolved payment must not lead the client
    /// to pay again.
    async fn find(
        &self,
        presentation: &Presentation,
        progress: &Progress,
    ) -> Result<Option<Payment>, PayError> {
        if let Some(id) = &progress.ledger_id {
            return Ok(rows::find(&self.db, id).await?);
        }
        Ok(self.find_row(&presentation.header).await?)
    }

    /// Finds a payment of the ledger by payer and nonce, preferably on the network that the header
    /// names.
    async fn find_row(&self, header: &PaymentHeader) -> Result<Option<Payment>, DbError> {
        let payer = header.authorization.from.to_string();
        let nonce = header.authorization.nonce.to_string();
        let known = rows::find_by_payer_and_nonce(&self.db, &payer, &nonce).await?;
        let named = header.network;
        let exact = known
            .iter()
            .position(|row| Some(row.network()) == named)
            .unwrap_or(0);
        Ok(known.into_iter().nth(exact))
    }

    /// Rejects a payment whose records were erased, on every network: it never buys anything again
    /// (docs/payments.md, rule 3).
    async fn refuse_erased(&self, header: &PaymentHeader) -> Result<(), PayError> {
        let authorization = &header.authorization;
        let ids: Vec<PaymentId> = networks::all()
            .into_iter()
            .map(|network| PaymentId::of(network, authorization.from, authorization.nonce))
            .collect();
        match erasure::find_erased(&self.db, &ids).await? {
            Some(was_paid) => Err(PayError::Known {
                charged: Some(was_paid),
            }),
            None => Ok(()),
        }
    }

    /// The facilitator and chain of a payment's network. `None` where the network is not
    /// configured. A server refuses to start then while such a payment is unresolved, so the
    /// payment is final, or another replica, which knows the network, sold it later.
    fn access(&self, row: &Payment) -> Option<&NetworkAccess> {
        self.networks.find(row.network())
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
        let bound = rows::load_proofs(&self.db, &row.id, self.clock.now()).await?;
        Ok(presentation.evidence.proves(&self.secrets, &row.id, &bound))
    }

    /// Turns the outcome of work on a known payment into the next step. An error that says that
    /// nothing was charged is returned only after the chain was asked.
    async fn unless_moved(
        self: &Arc<Self>,
        begun: Result<(), PayError>,
        row: &Payment,
        progress: &mut Progress,
    ) -> Result<Option<Sold>, PayError> {
        let Err(error) = begun else {
            return Ok(None);
        };
        if !error.denies_a_charge() {
            return Err(error);
        }
        match self.look_once(row, progress).await? {
            Look::Moved => Ok(None),
            Look::Open => Err(PayError::Pending),
            Look::Still => Err(error),
        }
    }

    /// Rejects a payment again that verify rejected. If its nonce is used by now, the money may
    /// have moved.
    async fn refuse_rejected(
        self: &Arc<Self>,
        row: &Payment,
        progress: &mut Progress,
    ) -> Result<Option<Sold>, PayError> {
        match self.look_once(row, progress).await? {
            Look::Moved => Ok(None),
            Look::Open => Err(PayError::Known { charged: None }),
            Look::Still if says_nonce_used(row) && !self.is_void(row).await => {
                Err(PayError::Known { charged: None })
            }
            Look::Still => Err(PayError::Invalid {
                reason: reason_of(row),
                detail: String::new(),
            }),
        }
    }

    /// Asks the chain once per request whether the money moved after all, before a known payment is
    /// rejected.
    async fn look_once(
        self: &Arc<Self>,
        row: &Payment,
        progress: &mut Progress,
    ) -> Result<Look, DbError> {
        if progress.looked || row.next_look.is_none() {
            return Ok(Look::Still);
        }
        progress.looked = true;
        self.look_at(row).await
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
        wait::for_change(&self.changed, left).await;
        Ok(())
    }

    /// Moves a row to its next state, under the attempt number of its driver. If the answer to the
    /// commit is lost, the row is read back. `None`: the row was taken over or the transition does
    /// not exist.
    async fn advance(
        &self,
        row: &Payment,
        event: Event,
        patch: &rows::Patch,
    ) -> Result<Option<Payment>, DbError> {
        let Some(step) = transition(row.state, event) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let advanced = match rows::advance(&self.db, step, row, patch, now).await {
            Ok(None) => return Ok(None),
            Ok(Some(advanced)) => advanced,
            Err(error) => {
                let seen = rows::find(&self.db, &row.id).await?;
                let ours = |seen: &Payment| seen.attempt == row.attempt && seen.state == step.to();
                seen.filter(ours).ok_or(error)?
            }
        };
        tracing::info!(
            from = step.from().as_str(),
            to = step.to().as_str(),
            attempt = row.attempt,
            "a payment changed its state"
        );
        self.changed.notify_waiters();
        let left_open = matches!(
            step.to(),
            PaymentState::Failed | PaymentState::Rejected | PaymentState::Released
        );
        if left_open && let Some(image) = &patch.discard_image {
            self.images.delete_object(image).await;
        }
        Ok(Some(advanced))
    }
}

/// The ledger entry that a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The row of the payment in the request.
    Own,
    /// The row of another payment, which was sent first under the same idempotency key.
    KeyOwner,
}

/// What one request knows about its payment while it works on it.
#[derive(Debug)]
struct Progress {
    /// The ledger id of the payment that the request is about, once that is certain.
    ledger_id: Option<PaymentId>,
    /// The ledger id that log lines of this request carry.
    in_logs: Option<PaymentId>,
    whose: Whose,
    /// The ledger id of the payment that this request has driven, which proves that the request
    /// comes from its payer.
    drove: Option<PaymentId>,
    driven: bool,
    looked: bool,
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
            whose: Whose::Own,
            drove: None,
            driven: false,
            looked: false,
            deadline: now + WAIT,
            ends: now + timeout,
            place: None,
        }
    }

    /// Makes another payment, which was sent first under the same idempotency key, the answer to this
    /// request.
    fn stand_for(&mut self, owner: PaymentId) {
        self.ledger_id = Some(owner);
        self.whose = Whose::KeyOwner;
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
