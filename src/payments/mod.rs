//! Payments: a presentation is looked up, checked, written down, verified, settled, and answered with
//! its goods, each step before the next (payments.md).
//!
//! [`Payments::present`] is the whole of it. What a presentation of a known payment meets is decided in
//! `standing`, what is checked of a new one in `examine`; `drive` makes the calls, and `reconcile` makes
//! them when nobody asks. No HTTP here, and no SQL.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument;

use crate::clock::{Clock, Timestamp};
use crate::db::{Db, DbError, erasure, payments as rows};
use crate::images::{Checked, Images, Refusal};
use crate::limits::Limits;
use crate::logs;
use crate::model::image::Image;
use crate::model::payment::{
    Event, Payment, PaymentId, PaymentState, Product, Renewal, transition,
};
use crate::model::token::UploadToken;
use crate::networks;
use crate::random::Randomness;
use crate::secrets::Keyring;
use crate::signing::SigningKeys;
use crate::x402::header::PaymentHeader;
use crate::x402::wire::{SettlementResponse, Version};

mod again;
mod auditor;
mod bought;
mod credits;
mod drive;
mod error;
mod examine;
mod goods;
pub mod ledger;
pub mod offers;
pub mod orphans;
mod proofs;
pub mod rails;
mod receipts;
mod reconcile;
pub mod recover;
mod refusals;
mod renew;
mod settling;
pub mod shop;
mod standing;
mod wait;

use again::Again;
pub use bought::{Asked, Bought};
use drive::Look;
pub use error::{PayError, Silent};
pub use proofs::Evidence;
use rails::{Rail, Rails};
pub use renew::NotRenewable;
use shop::Shop;
use standing::{Presented, Standing};
use wait::{WAIT, Waiters};

/// How often one presentation may look at its row again after having done something about it.
const MAX_ROUNDS: u32 = 200;

/// A request that carries a payment.
#[derive(Debug)]
pub struct Presentation {
    /// The payment.
    pub header: PaymentHeader,
    /// What the route sells.
    pub product: Product,
    /// The route names no tier, and sells the default one.
    pub is_default: bool,
    /// The URL of the route, from configuration.
    pub resource_url: String,
    /// What proves that the payer sends it.
    pub evidence: Evidence,
    /// The image, on routes that take one.
    pub body: Option<Body>,
    /// Whose it is, for limits; `None` where that can't be told.
    pub client: Option<IpAddr>,
}

/// The body of a paid upload.
#[derive(Debug)]
pub struct Body {
    /// SHA-256 of the uploaded bytes.
    pub sha256: String,
    /// Whether they are an image that the tier takes.
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
    /// The goods.
    pub goods: Goods,
    /// The receipt, for the header of the client's version.
    pub receipt: SettlementResponse,
    /// That version.
    pub version: Version,
}

/// What a payment bought.
#[derive(Debug)]
pub enum Goods {
    /// A token.
    Token {
        /// The token.
        token: UploadToken,
        /// When it ends.
        expires_at: Timestamp,
        /// The tier that it uploads to.
        tier: String,
        /// How many uploads are left.
        uploads: u32,
    },
    /// An image.
    Image(Image),
    /// More time for an image.
    Renewed {
        /// The image as it is now.
        image: Image,
        /// What this payment did to it.
        renewal: Renewal,
    },
}

/// What the payments of a deployment go by.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// For verify, and for how long a request waits on settle.
    pub timeout: Duration,
    /// Life of an upload token.
    pub token_ttl: Duration,
}

/// The payments of a deployment.
#[derive(Debug)]
pub struct Payments {
    db: Db,
    secrets: Keyring,
    keys: Arc<SigningKeys>,
    clock: Arc<dyn Clock>,
    rails: Rails,
    images: Arc<Images>,
    limits: Arc<Limits>,
    shop: Arc<Shop>,
    settings: Settings,
    waiters: Waiters,
    changed: Notify,
    again: Again,
    sale_stopped: AtomicBool,
    /// The name under which this process holds leases of jobs.
    holder: String,
    /// When this process looks for orphans next, in milliseconds.
    next_orphans: AtomicI64,
}

/// The ports that payments reach the world through.
#[derive(Debug)]
pub struct Ports {
    /// The ledger.
    pub db: Db,
    /// The master key.
    pub secrets: Keyring,
    /// What signs receipts.
    pub keys: Arc<SigningKeys>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The chance.
    pub randomness: Randomness,
    /// Who checks, settles, and decides what is unknown, on each network.
    pub rails: Rails,
    /// Where paid images go.
    pub images: Arc<Images>,
    /// How much may be asked for.
    pub limits: Arc<Limits>,
}

impl Payments {
    /// Payments through these ports, for what this shop sells.
    pub fn new(ports: Ports, shop: Arc<Shop>, settings: Settings) -> Self {
        Self {
            db: ports.db,
            secrets: ports.secrets,
            keys: ports.keys,
            clock: ports.clock,
            rails: ports.rails,
            images: ports.images,
            limits: ports.limits,
            shop,
            settings,
            waiters: Waiters::default(),
            changed: Notify::new(),
            again: Again::default(),
            sale_stopped: AtomicBool::new(false),
            holder: hex::encode(ports.randomness.bytes::<8>()),
            next_orphans: AtomicI64::new(0),
        }
    }

    /// Whether nothing new is sold, since the outcome of too many payments is open. What was paid for is
    /// given out as ever.
    pub fn is_sale_stopped(&self) -> bool {
        self.sale_stopped.load(Ordering::Relaxed)
    }

    /// Gives the goods of a payment, exactly once, however often and however late it is presented.
    ///
    /// Runs in a task of its own: a client that goes away cancels nothing.
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
        let mut visit = Visit::new();
        if let Some(network) = presentation.header.network {
            let authorization = &presentation.header.authorization;
            let own = PaymentId::of(network, authorization.from, authorization.nonce);
            visit.name_in_logs(&own);
        }
        for _ in 0..MAX_ROUNDS {
            if let Some(answer) = self.round(presentation, &mut visit).await? {
                return Ok(answer);
            }
        }
        Err(PayError::InProgress)
    }

    /// One look at the row, and what follows from it. `None`: look again.
    async fn round(
        self: &Arc<Self>,
        presentation: &Presentation,
        visit: &mut Visit,
    ) -> Result<Option<Sold>, PayError> {
        let Some(mut row) = self.find(presentation, visit).await? else {
            self.refuse_erased(&presentation.header).await?;
            self.refuse_credited(&presentation.header).await?;
            let begun = self.begin(presentation, None, visit).await;
            return match begun {
                Err(error) => {
                    self.refuse_lost(presentation, &error).await?;
                    Err(error)
                }
                Ok(()) => Ok(None),
            };
        };
        visit.name_in_logs(&row.id);
        if let Some(credited) = self.credited_by(&row, visit).await? {
            row = credited;
            visit.name_in_logs(&row.id);
        }
        // What is asked of another row than the payment's own is asked by that row's words.
        let stands_for = visit.whose != Whose::Own;
        let proven =
            visit.whose == Whose::KeyOwner || self.proves(&row, presentation, visit).await?;
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
            driven: visit.driven,
            now: self.clock.now(),
        };
        match standing::standing(&row, &presented) {
            Standing::Deliver => self
                .deliver(&row, presentation.header.version)
                .await
                .map(Some),
            // The first payment of an id is not run again with the second one's authorization.
            Standing::Attempt if stands_for => Err(PayError::InProgress),
            Standing::Attempt => {
                let begun = self.begin(presentation, Some(row.clone()), visit).await;
                self.unless_moved(begun, &row, visit).await
            }
            Standing::Continue => {
                let begun = self.go_on(row.clone(), presentation, proven, visit).await;
                self.unless_moved(begun, &row, visit).await
            }
            Standing::Drive => {
                self.drive(&row).await?;
                visit.driven = true;
                Ok(None)
            }
            Standing::Wait => self.wait(&row, visit).await.map(|()| None),
            Standing::Rejected => self.refuse_rejected(&row, visit).await,
            Standing::Failed => match self.look_once(&row, visit).await? {
                Look::Moved => Ok(None),
                Look::Open => Err(PayError::Pending),
                Look::Still => Err(PayError::Failed {
                    reason: reason_of(&row),
                }),
            },
            Standing::Known { charged } => Err(PayError::Known { charged }),
            Standing::Conflict { charged } => Err(PayError::Conflict { charged }),
            Standing::Pending => Err(PayError::Pending),
        }
    }

    /// The row of this presentation. A payment whose nonce is known under another token or network
    /// is known as well: a spoilt copy of an open payment must not invite to pay again.
    async fn find(
        &self,
        presentation: &Presentation,
        visit: &Visit,
    ) -> Result<Option<Payment>, PayError> {
        if let Some(id) = &visit.ledger_id {
            return Ok(rows::find(&self.db, id).await?);
        }
        Ok(self.find_row(&presentation.header).await?)
    }

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

    /// A payment whose records were erased never buys anything again (rule 3), whichever network it
    /// is said to be on.
    async fn refuse_erased(&self, header: &PaymentHeader) -> Result<(), PayError> {
        let authorization = &header.authorization;
        for network in networks::all() {
            let id = PaymentId::of(network, authorization.from, authorization.nonce);
            if let Some(was_paid) = erasure::find_erased(&self.db, &id).await? {
                return Err(PayError::Known {
                    charged: Some(was_paid),
                });
            }
        }
        Ok(())
    }

    /// What a payment of the ledger runs on. A server doesn't start while a payment is open on a
    /// network that it isn't told of, so `None` is for those that are through, and for those that another
    /// replica sold on a network which it was told of since.
    fn rail(&self, row: &Payment) -> Option<&Rail> {
        self.rails.find(row.network())
    }

    async fn proves(
        &self,
        row: &Payment,
        presentation: &Presentation,
        visit: &Visit,
    ) -> Result<bool, PayError> {
        if visit.drove.as_ref() == Some(&row.id) {
            return Ok(true);
        }
        let bound = rows::load_proofs(&self.db, &row.id, self.clock.now()).await?;
        Ok(presentation.evidence.proves(&self.secrets, &row.id, &bound))
    }

    /// What working on a known payment came to. That nothing was charged is only said after a look at the chain.
    async fn unless_moved(
        self: &Arc<Self>,
        begun: Result<(), PayError>,
        row: &Payment,
        visit: &mut Visit,
    ) -> Result<Option<Sold>, PayError> {
        let Err(error) = begun else {
            return Ok(None);
        };
        if !error.denies_a_charge() {
            return Err(error);
        }
        match self.look_once(row, visit).await? {
            Look::Moved => Ok(None),
            Look::Open => Err(PayError::Pending),
            Look::Still => Err(error),
        }
    }

    /// A payment that verify refused is refused again, unless its nonce is used by now.
    async fn refuse_rejected(
        self: &Arc<Self>,
        row: &Payment,
        visit: &mut Visit,
    ) -> Result<Option<Sold>, PayError> {
        match self.look_once(row, visit).await? {
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

    /// Before a known payment is refused, the chain is asked whether the money moved after all.
    async fn look_once(
        self: &Arc<Self>,
        row: &Payment,
        visit: &mut Visit,
    ) -> Result<Look, DbError> {
        if visit.looked || row.next_look.is_none() {
            return Ok(Look::Still);
        }
        visit.looked = true;
        self.look_at(row).await
    }

    async fn wait(&self, row: &Payment, visit: &mut Visit) -> Result<(), PayError> {
        if visit.place.is_none() {
            visit.place = Some(self.waiters.enter(&row.id).ok_or(PayError::InProgress)?);
        }
        let left = visit.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(PayError::InProgress);
        }
        wait::for_change(&self.changed, left).await;
        Ok(())
    }

    /// Moves a row under its driver's attempt. A commit whose answer was lost is read back.
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
        match rows::advance(&self.db, step, row, patch, now).await {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(error) => {
                let seen = rows::find(&self.db, &row.id).await?;
                let ours = |seen: &Payment| seen.attempt == row.attempt && seen.state == step.to();
                if !seen.is_some_and(|seen| ours(&seen)) {
                    return Err(error);
                }
            }
        }
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
        rows::find(&self.db, &row.id).await
    }
}

/// Whose row a presentation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// That of the payment which is presented.
    Own,
    /// That of another payment, which owns the id that this one came under.
    KeyOwner,
    /// That of a credit, which this payment was presented for and got.
    Credit,
}

/// What one presentation knows about itself while it goes round.
#[derive(Debug)]
struct Visit {
    /// The ledger id of the payment that the request is about, once that is certain.
    ledger_id: Option<PaymentId>,
    /// The ledger id that log lines of this request carry.
    in_logs: Option<PaymentId>,
    whose: Whose,
    /// The payment that this very request has driven.
    drove: Option<PaymentId>,
    driven: bool,
    looked: bool,
    deadline: Instant,
    place: Option<wait::Place>,
}

impl Visit {
    fn new() -> Self {
        Self {
            ledger_id: None,
            in_logs: None,
            whose: Whose::Own,
            drove: None,
            driven: false,
            looked: false,
            deadline: Instant::now() + WAIT,
            place: None,
        }
    }

    /// Makes log lines of this request carry a payment's ledger id.
    fn name_in_logs(&mut self, ledger_id: &PaymentId) {
        if self.in_logs.as_ref() != Some(ledger_id) {
            logs::record_payment(ledger_id);
            self.in_logs = Some(ledger_id.clone());
        }
    }
}

/// Whether verify said that somebody used the nonce. Then the money may have moved, unless the chain
/// says that it went elsewhere or that the payer cancelled.
fn says_nonce_used(row: &Payment) -> bool {
    row.reason
        .as_deref()
        .is_some_and(|reason| reason.ends_with("nonce_already_used"))
}

fn reason_of(row: &Payment) -> String {
    row.reason
        .clone()
        .unwrap_or_else(|| "unspecified".to_owned())
}
