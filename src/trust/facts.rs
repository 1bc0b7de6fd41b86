//! What the operator sees of an image: the facts, its payments, its removal and what was done about
//! it.

use schemars::JsonSchema;
use serde::Serialize;

use super::{ActError, Trust};
use crate::db::searches::{self, PaymentFacts};
use crate::db::{admin_log, images, purges, removals};
use crate::model::admin_log::Logged;
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::look::Look;
use crate::model::removal::{Ground, Removal};
use crate::system::clock::Timestamp;

/// The most log entries that the facts show.
const MOST_ENTRIES: u32 = 100;

/// An image in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageView {
    /// The id.
    pub id: String,
    /// The link, which answers 404 or 451 once the image is removed. That of a private image has no
    /// signature.
    pub url: String,
    /// `pending`, `live`, `removed`, `discarded`, `deleting` or `deleted`.
    pub state: &'static str,
    /// The content type.
    pub content_type: &'static str,
    /// The size in bytes.
    pub size_bytes: u64,
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
    /// SHA-256 of the stored bytes, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of the uploaded bytes, in hexadecimal.
    pub upload_sha256: String,
    /// The tier.
    pub tier: String,
    /// `public` or `private`.
    pub visibility: &'static str,
    /// The wallet that owns the image.
    pub owner: Option<String>,
    /// A blurred preview: its `ThumbHash` in base64. Null: the image has none.
    pub thumbhash: Option<String>,
    /// When the upload was checked.
    pub created_at: String,
    /// When the image was published.
    pub published_at: Option<String>,
    /// When it expires; null: never.
    pub expires_at: Option<String>,
    /// The removal; null: the image is not removed.
    pub removal: Option<RemovalView>,
}

/// A removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemovalView {
    /// `policy` (404) or `legal` (451).
    pub ground: &'static str,
    /// The reason, in the operator's words.
    pub reason: String,
    /// When the image was removed.
    pub removed_at: String,
    /// When the hold began; null: the image is not held.
    pub held_at: Option<String>,
    /// Until when the hold preserves the content.
    pub hold_until: Option<String>,
    /// Whether that time is over, so that the content waits for a decision.
    pub is_waiting: bool,
    /// When the content was moved to the sealed prefix.
    pub sealed_at: Option<String>,
    /// The reference of the report to an authority.
    pub report_reference: Option<String>,
    /// When that reference was recorded.
    pub reported_at: Option<String>,
}

/// A payment that bought an image or a renewal of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentView {
    /// The ledger id.
    pub id: String,
    /// What was bought: `token`, `upload`, `renewal` or `link`.
    pub kind: String,
    /// The state in the ledger.
    pub state: String,
    /// The network, as a CAIP-2 id.
    pub network: String,
    /// The payer's address.
    pub payer: String,
    /// The amount in atomic units.
    pub amount: String,
    /// The transaction that paid.
    pub transaction: Option<String>,
    /// When the payment was first seen.
    pub first_seen_at: String,
    /// When it settled.
    pub settled_at: Option<String>,
    /// What the payer is owed, if anything.
    pub owed: Option<String>,
}

/// The state of a purge at the CDN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PurgeView {
    /// When the purge was asked for.
    pub asked_at: String,
    /// When the CDN confirmed it; null: not yet.
    pub purged_at: Option<String>,
    /// How often the CDN was asked.
    pub tries: i64,
    /// When it is asked next.
    pub next_at: Option<String>,
    /// Why the last try failed.
    pub problem: Option<String>,
}

/// Everything that is known of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The image.
    pub image: ImageView,
    /// The payments for it, oldest first.
    pub payments: Vec<PaymentView>,
    /// The purge at the CDN; null: none was asked for.
    pub purge: Option<PurgeView>,
    /// What was done about it, newest first.
    pub log: Vec<Logged>,
}

impl Trust {
    /// Collects what is known of an image.
    ///
    /// # Errors
    /// [`ActError::Unknown`] and [`ActError::Database`].
    pub async fn facts(&self, id: &ImageId) -> Result<Facts, ActError> {
        let image = images::find(&self.db, id).await?;
        let image = image.ok_or_else(|| ActError::Unknown(id.clone()))?;
        let payments = searches::find_payments(&self.db, id).await?;
        let purge = purges::find(&self.db, id).await?;
        let log = admin_log::page_before(&self.db, i64::MAX, id.as_str(), MOST_ENTRIES).await?;
        Ok(Facts {
            image: self.view(&image).await?,
            payments: payments.into_iter().map(PaymentView::of).collect(),
            purge: purge.map(|purge| PurgeView {
                asked_at: at(purge.asked_ms),
                purged_at: purge.purged_ms.map(at),
                tries: purge.tries,
                next_at: purge.next_ms.map(at),
                problem: purge.problem,
            }),
            log,
        })
    }

    pub(super) async fn view(&self, image: &Image) -> Result<ImageView, ActError> {
        let removal = removals::find(&self.db, &image.id).await?;
        let now = self.clock.now();
        Ok(ImageView {
            url: format!("{}/{}", self.images_url, image.file_name()),
            id: image.id.to_string(),
            state: image.state.as_str(),
            content_type: image.format.content_type(),
            size_bytes: image.size_bytes,
            width: image.width,
            height: image.height,
            sha256: image.sha256.clone(),
            upload_sha256: image.upload_sha256.clone(),
            tier: image.tier.clone(),
            visibility: image.visibility.as_str(),
            owner: image.owner.as_ref().map(|owner| owner.wallet.to_string()),
            thumbhash: image.look.as_ref().map(Look::thumbhash_text),
            created_at: image.created_at.to_string(),
            published_at: image.published_at.map(|it| it.to_string()),
            expires_at: image.expires_at.map(|it| it.to_string()),
            removal: removal.map(|removal| RemovalView::of(removal, now)),
        })
    }
}

impl RemovalView {
    fn of(removal: Removal, now: Timestamp) -> Self {
        let is_held = removal.held_at.is_some();
        let (reference, reported) = removal.report.unzip();
        Self {
            ground: Ground::as_str(removal.ground),
            reason: removal.reason,
            removed_at: removal.removed_at.to_string(),
            held_at: removal.held_at.map(|it| it.to_string()),
            is_waiting: is_held && removal.hold_until.is_some_and(|until| until <= now),
            hold_until: removal.hold_until.map(|it| it.to_string()),
            sealed_at: removal.sealed_at.map(|it| it.to_string()),
            report_reference: reference,
            reported_at: reported.map(|it| it.to_string()),
        }
    }
}

impl PaymentView {
    fn of(facts: PaymentFacts) -> Self {
        Self {
            id: facts.id,
            kind: facts.kind,
            state: facts.state,
            network: facts.network,
            payer: facts.payer,
            amount: facts.amount,
            transaction: facts.transaction_hash,
            first_seen_at: at(facts.first_seen_ms),
            settled_at: facts.settled_ms.map(at),
            owed: facts.owed,
        }
    }
}

fn at(millis: i64) -> String {
    Timestamp::from_millis(millis).to_string()
}
