//! Images: checks, stores, publishes and serves them.
//!
//! This module does not know prices. An upload needs a grant or a tier without a price; payments
//! are in `payments`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::db::{Db, DbError, images};
use crate::fetch::{FetchError, FetchFailure};
use crate::keys::secrets::Keyring;
use crate::model::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::model::mark::LostCommit;
use crate::model::payment::PaymentId;
use crate::model::token::DeleteToken;
use crate::store::{Object, Store, StoreError};
use crate::system::clock::{Clock, Timestamp};
use crate::system::disk::{Floor, Full, RoomLog};
use crate::system::kill::kill_point;
use crate::system::metrics;
use crate::system::random::Randomness;
use crate::trust::{Blocked, Screening};

mod check;
pub mod clean;
mod decode;
pub mod describe;
pub mod format;
pub mod hot;
mod in_doubt;
mod late;
mod lost;
mod owned;
mod pdq;
mod pipeline;
pub mod private;
mod refresh;
pub mod render;
mod screen;
mod turn;
mod upload;
pub mod variants;

pub use check::{Checked, Examined, Picture, Rules, check, examine};
pub use late::Late;
pub use owned::{MOST_OWNED, OwnedPage, OwnedPosition};
pub use screen::{Hashes, hashes_of, targets_of};
pub use turn::{ReceivedImage, check_in_turn};
pub use upload::{Taken, refuse_spent};

use format::FormatError;
use hot::Hot;

/// How long a positive readiness check stays valid.
const READY_FOR: Duration = Duration::from_secs(2);
/// How long a negative readiness check stays valid, so that requests do not each wait for the same
/// timeout.
const UNREADY_FOR: Duration = Duration::from_secs(1);
/// How long the database may take to answer a readiness check.
const PING: Duration = Duration::from_secs(2);
/// How many free uploads a server publishes at the same time if replicas share their daily count.
/// Each waits for the same row and holds a connection meanwhile.
const FREE_AT_ONCE: usize = 2;
/// How often the free disk space is checked for the log.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_secs(30);

/// Why a file is refused. The client must send another file or another request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request contains no file.
    #[error(
        "The request contains no image. Send it as the multipart field `image`, as JSON {{\"image\": \"<base64>\"}}, or as the whole body, with a Content-Type of image/* or without one."
    )]
    NoFile,
    /// The body can't be read. The text says what is wrong and what to send instead.
    #[error("{0}")]
    BadBody(String),
    /// The body broke off, or arrived too slowly. The text says which.
    #[error("{0}")]
    Incomplete(String),
    /// The file is larger than the tier accepts.
    #[error("The {} {bytes} bytes, but tier {tier} accepts at most {limit} bytes. Send a smaller image.", if *.at_least { "upload has at least" } else { "image has" })]
    TooLarge {
        /// Length of the file in bytes, as far as it was read.
        bytes: u64,
        /// Whether the server stopped reading at `bytes`, so that the file may be longer.
        at_least: bool,
        /// The largest upload of the tier, in bytes.
        limit: u64,
        /// The name of the tier.
        tier: String,
    },
    /// The bytes are not an image that the server accepts.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The client asked to keep metadata, but bytes follow the end of the image, which no viewer
    /// reads.
    #[error(
        "Bytes follow the end of the image, and metadata=keep stores a file unchanged only if nothing follows the image. Cut these bytes off, or send metadata=remove: the server then removes them."
    )]
    Trailing,
    /// The client asked to keep metadata, but the file is damaged. The text names the damage.
    #[error(
        "The file is damaged ({0}), and metadata=keep stores a file unchanged only if it is sound. Save the image again, or send metadata=remove: the server then repairs it."
    )]
    Damaged(String),
}

/// Why an upload failed. Nothing was published, and no use of a token was consumed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The image was not fetched from its URL.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// No grant has this upload token.
    #[error(
        "This upload token does not exist on this server. Get one from POST /api/upload/token."
    )]
    BadToken,
    /// This server made the upload token or the delete token, and its database doesn't know it.
    #[error(
        "The server has lost its record of this token, and its operator has to recover it. Keep the token, and repeat this request later; do not pay again."
    )]
    Lost(LostCommit),
    /// The database had lost the upload token, and the operator has recovered its payment.
    #[error(
        "The server had lost its record of this upload token, and has recovered the payment from the chain. Get what it bought by your wallet's signature: POST /api/claims."
    )]
    Recovered,
    /// The upload token expired before it was used.
    #[error(
        "This upload token expired at {at}. Repeat the request that bought it, at the same URL and with the same payment: you receive a new token and are not charged again."
    )]
    TokenExpired {
        /// When the token expired.
        at: Timestamp,
    },
    /// The token has no use left, and the bytes differ from those it was used for.
    #[error(
        "All uploads of this token are used, and these bytes are none of its images. Send the bytes of one of its images to get that image again, or buy a new token: POST /api/upload/token."
    )]
    TokenUsed,
    /// No upload link has this secret.
    #[error(
        "There is no upload link with this URL: a part of the URL is missing or wrong. Copy the whole URL. POST /api/links sells another link, and POST /api/links?tier=free makes one without a payment."
    )]
    LinkUnknown,
    /// The upload link has ended.
    #[error(
        "This upload link ended at {at}. Ask its owner for another one, or get one from POST /api/links. The owner keeps what was paid and not used: POST /api/claims returns a new link for it."
    )]
    LinkExpired {
        /// When the link ended.
        at: Timestamp,
    },
    /// Every upload of the link is used, and the bytes differ from those it was used for.
    #[error(
        "This upload link took all of its uploads ({uses}), and these bytes are none of its images. Ask its owner for another one, or get one from POST /api/links."
    )]
    LinkUsed {
        /// The number of uploads that the link took.
        uses: u32,
    },
    /// The owner revoked the upload link, or a new one has replaced it.
    #[error(
        "The owner of this upload link has revoked it. Ask the owner for another one, or get one from POST /api/links."
    )]
    LinkRevoked,
    /// The free upload link has ended.
    #[error(
        "This free upload link ended at {at}. Ask its maker for another one, or make one: POST /api/links?tier=free. POST /api/links sells links for longer storage."
    )]
    FreeLinkExpired {
        /// When the link ended.
        at: Timestamp,
    },
    /// Every upload of the free link is used, and the bytes differ from those it was used for.
    #[error(
        "This free upload link took all of its uploads ({uses}), and these bytes are none of its images. Ask its maker for another one, or make one: POST /api/links?tier=free. POST /api/links sells links for longer storage."
    )]
    FreeLinkUsed {
        /// The number of uploads that the link took.
        uses: u32,
    },
    /// The free upload link was revoked.
    #[error(
        "This free upload link was revoked. Ask its maker for another one, or make one: POST /api/links?tier=free. POST /api/links sells links for longer storage."
    )]
    FreeLinkRevoked,
    /// No API key has this secret.
    #[error(
        "This API key does not exist on this server: a part of it is missing or wrong. Send the whole key, or make one at POST /api/keys."
    )]
    KeyUnknown,
    /// The wallet suspended the API key.
    #[error(
        "This API key is suspended. Its wallet resumes it at POST /api/keys/{id}/resume, or send another key."
    )]
    KeySuspended {
        /// The id of the key.
        id: String,
    },
    /// The wallet revoked the API key.
    #[error("This API key was revoked. Make another one at POST /api/keys.")]
    KeyRevoked,
    /// The API key made all of its uploads of the day.
    #[error(
        "This API key has made all of its {limit} uploads of today. Try again after 00:00 UTC, or send another key."
    )]
    KeySpent {
        /// How many uploads the key may make in a day.
        limit: u64,
        /// How long until tomorrow.
        wait: Duration,
    },
    /// Another upload holds the last use of the token or link, or a key's wallet uploads the same
    /// bytes at this moment.
    #[error(
        "Another upload with this token, link or API key is in progress, and holds the last use or has the same bytes. Repeat this request in a few seconds."
    )]
    TokenBusy,
    /// The operator voided the payment of the token, because the chain does not show its transfer.
    #[error(
        "The operator voided the payment of this token, because the chain does not show its transfer. The token buys nothing any more. Ask the operator if the payment moved money."
    )]
    Voided {
        /// Whether the payment moved money to us, as far as the chain shows; `None`: unknown.
        charged: Option<bool>,
    },
    /// The operator refunded the payment of the token.
    #[error(
        "The operator refunded the payment of this token, so the token buys nothing any more. Buy another one to upload."
    )]
    Refunded,
    /// The database failed.
    #[error(
        "The image could not be recorded, because the database failed. Nothing was published. Send the same request again."
    )]
    Database(#[from] DbError),
    /// The store failed.
    #[error(
        "The image could not be stored, because the image store failed. Nothing was published. Send the same request again."
    )]
    Store(#[from] StoreError),
    /// The disk has less free space than `images.min_free`.
    #[error(transparent)]
    Full(#[from] Full),
    /// The readiness check failed.
    #[error("{0}, so nothing was stored. Send the same request again in a few seconds.")]
    Unready(Unready),
    /// The content or the wallet is blocked, or the scanner rejected the image.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// The server stopped the upload, such as at a shutdown.
    #[error(
        "The server interrupted the upload, and nothing was published. Send the same request again."
    )]
    Interrupted,
}

impl From<FetchFailure> for UploadError {
    fn from(failure: FetchFailure) -> Self {
        FetchError::from(failure).into()
    }
}

/// Which dependency did not pass the readiness check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// The database.
    #[error("The database does not respond at present")]
    Database,
    /// The image store.
    #[error("The image store does not respond at present")]
    Store,
}

/// What the server does with the metadata in an uploaded file: place, camera, author, comments,
/// provenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// The server removes it. The pixels, the orientation and the colour profile stay.
    Remove,
    /// The server stores the file byte for byte, so that signatures over its bytes stay valid.
    Keep,
}

impl Metadata {
    /// The values of the request parameter `metadata`, with their meaning.
    pub const VALUES: [(&'static str, Self); 2] = [("remove", Self::Remove), ("keep", Self::Keep)];

    /// What happens to the metadata of an upload that doesn't say. `clean` is the setting
    /// `images.clean`.
    pub const fn default_of(clean: bool) -> Self {
        if clean { Self::Remove } else { Self::Keep }
    }

    /// Parses the value of the request parameter `metadata`. Returns `None` for any text but
    /// `remove` and `keep`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut values = Self::VALUES.iter();
        values
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The images of a deployment, over its database and its store.
#[derive(Debug)]
pub struct Images {
    db: Db,
    store: Store,
    floor: Floor,
    room: RoomLog,
    secrets: Keyring,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
    looked: tokio::sync::Mutex<Option<(Instant, Result<(), Unready>)>>,
    hot: Arc<Hot>,
    /// Limits how many free uploads are published at the same time, so that they do not take all
    /// database connections.
    free_turns: Semaphore,
    screening: Option<Arc<Screening>>,
    compared: late::Compared,
}

impl Images {
    /// Creates the service over a database and a store. Without [`Images::kept_in`], nothing is
    /// cached.
    pub fn new(
        db: Db,
        store: Store,
        floor: Floor,
        secrets: Keyring,
        clock: Arc<dyn Clock>,
        randomness: Randomness,
    ) -> Self {
        Self {
            db,
            store,
            floor,
            room: RoomLog::default(),
            secrets,
            clock,
            randomness,
            looked: tokio::sync::Mutex::new(None),
            hot: Arc::new(Hot::new(0)),
            free_turns: Semaphore::new(FREE_AT_ONCE),
            screening: None,
            compared: late::Compared::default(),
        }
    }

    /// Publishes only what passes this screening. Without it, nothing is screened.
    #[must_use]
    pub fn screened_by(self, screening: Arc<Screening>) -> Self {
        let screening = Some(screening);
        Self { screening, ..self }
    }

    /// Uses `hot` as the cache of public images.
    #[must_use]
    pub fn kept_in(self, hot: Arc<Hot>) -> Self {
        Self { hot, ..self }
    }

    /// Checks that the disk has room for another image. The result may be a second old.
    ///
    /// # Errors
    /// [`UploadError::Full`].
    pub fn has_room(&self) -> Result<(), UploadError> {
        let checked = self.floor.check();
        self.room.note(&self.floor, checked.is_ok());
        Ok(checked?)
    }

    /// The free bytes on the disk of the images, and the least that must be free. Both are 0 where
    /// the images are not on a disk of this machine.
    pub fn room(&self) -> (u64, u64) {
        let free = self.floor.free_bytes();
        free.map_or((0, 0), |free| (free, self.floor.min_free))
    }

    /// Counts an image that a payment has published, for the metrics.
    pub async fn count_upload(&self, id: &ImageId) {
        match self.find_live(id).await {
            Ok(Some(image)) => metrics::upload(&image.tier, image.size_bytes),
            // It was deleted or has expired already.
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "an upload could not be counted"),
        }
    }

    /// The memory that the cache of public images takes, in bytes.
    pub fn cached_bytes(&self) -> u64 {
        self.hot.weight()
    }

    /// Checks the free disk space every half minute, so that the log reports a full disk even
    /// without uploads. Runs until it is dropped.
    pub async fn watch_room_forever(self: Arc<Self>) {
        loop {
            // The result matters to uploads only; this call is made for its log messages.
            drop(self.has_room());
            tokio::time::sleep(LOOK_FOR_ROOM_EVERY).await;
        }
    }

    /// Checks whether an upload could be stored now: disk space, database and store. The result may
    /// be two seconds old.
    ///
    /// # Errors
    /// [`UploadError::Full`] or [`UploadError::Unready`].
    pub async fn ready(&self) -> Result<(), UploadError> {
        self.has_room()?;
        let mut looked = self.looked.lock().await;
        let known = looked.and_then(|(at, found)| {
            let counts_for = if found.is_ok() {
                READY_FOR
            } else {
                UNREADY_FOR
            };
            (at.elapsed() < counts_for).then_some(found)
        });
        let found = match known {
            Some(found) => found,
            None => self.look().await,
        };
        if known.is_none() {
            *looked = Some((Instant::now(), found));
        }
        found.map_err(UploadError::Unready)
    }

    /// Checks that the database and the store respond.
    async fn look(&self) -> Result<(), Unready> {
        let database = tokio::time::timeout(PING, self.db.ping()).await;
        match database {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the database does not respond");
                return Err(Unready::Database);
            }
            Err(_) => {
                tracing::error!("the database does not respond within {PING:?}");
                return Err(Unready::Database);
            }
        }
        if self.store.is_unchecked() {
            let name = hex::encode(self.randomness.bytes::<16>());
            if let Err(error) = self.store.check(&name).await {
                tracing::error!(%error, "the image store does not return what is written to it");
                return Err(Unready::Store);
            }
            tracing::info!("the image store passed its check");
        }
        self.store.ping().await.map_err(|error| {
            tracing::error!(%error, "the image store does not respond");
            Unready::Store
        })
    }

    /// Discards a pending image: its row and its object. A public image stays, and so does one that
    /// the operator removed. What can't be
    /// deleted now, the reaper deletes later.
    pub async fn discard(&self, id: &ImageId) {
        kill_point!("image.discard.before");
        let discarded = self.give_up(id).await;
        kill_point!("image.discard.after");
        match discarded {
            Ok(true) => self.delete_object(id).await,
            Ok(false) => {
                tracing::warn!(image.id = %id, "a pending image was not discarded, because it is public or the operator removed it");
            }
            Err(error) => {
                tracing::warn!(image.id = %id, %error, "a pending image could not be discarded; the reaper retries it");
            }
        }
    }

    /// Marks the row as discarded. Returns whether it is discarded now, by this call or an earlier
    /// one.
    async fn give_up(&self, id: &ImageId) -> Result<bool, DbError> {
        if images::discard(&self.db, id).await? {
            return Ok(true);
        }
        let row = images::find(&self.db, id).await?;
        Ok(row.is_none_or(|image| image.state == ImageState::Discarded))
    }

    /// Deletes the object of an image whose row is discarded already.
    pub async fn delete_object(&self, id: &ImageId) {
        kill_point!("object.delete.before");
        let deleted = self.store.delete(id).await;
        kill_point!("object.delete.after");
        if let Err(error) = deleted {
            tracing::warn!(image.id = %id, %error, "an object could not be deleted; the reaper retries it");
        }
    }

    /// Finds the image with this id if it is served to everybody now.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_public(&self, id: &ImageId) -> Result<Option<Image>, UploadError> {
        let now = self.clock.now();
        let live = self.find_live(id).await?;
        Ok(live.filter(|image| image.is_public(now)))
    }

    /// Finds the image with this id if it is served now, public or private. The caller decides who
    /// may see a private one.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_live(&self, id: &ImageId) -> Result<Option<Image>, UploadError> {
        let now = self.clock.now();
        Ok(images::find(&self.db, id)
            .await?
            .filter(|image| image.is_live(now)))
    }

    /// Rewrites the sidecar of an image after its expiry, its tier or the serial of its links changed. If that fails, the
    /// reaper retries it.
    pub async fn describe(&self, id: &ImageId) {
        kill_point!("image.describe.before");
        let described = describe::one(&self.db, &self.store, id).await;
        kill_point!("image.describe.after");
        if let Err(error) = described {
            tracing::warn!(image.id = %id, %error, "the sidecar of an image could not be written; the reaper retries it");
        }
    }

    /// Opens the byte range `part` of an image. Returns `None` if the object does not exist.
    ///
    /// # Errors
    /// [`UploadError::Store`].
    pub async fn open_bytes(
        &self,
        image: &Image,
        part: Range<u64>,
    ) -> Result<Option<Object>, UploadError> {
        Ok(self.store.open(&image.id, image.version, part).await?)
    }

    /// Finds the newest image that a payment published.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_published(&self, payment: &PaymentId) -> Result<Option<Image>, UploadError> {
        Ok(images::find_published_by_payment(&self.db, payment)
            .await?
            .into_iter()
            .next())
    }

    /// The delete token of an image. It is derived from the secret key and is not stored.
    pub fn delete_token(&self, image: &Image) -> String {
        DeleteToken::derive(self.secrets.current(), &image.id, image.created_at)
    }

    /// Whether `text` is the delete token of `id`, under any key of the server. The image need not
    /// exist. Takes the same time for every text of the same length.
    pub fn is_delete_token(&self, id: &ImageId, text: &str) -> bool {
        DeleteToken::find_time(&self.secrets, id, text).is_some()
    }
}
