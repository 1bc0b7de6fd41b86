//! Images: bytes are checked, get an id, are stored, and become public. What an upload costs is no
//! concern of this module: it knows grants, not payments.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::db::{Db, DbError, images};
use crate::disk::{Floor, Full, RoomLog};
use crate::ids::ImageId;
use crate::kill::kill_point;
use crate::model::image::{Image, ImageState};
use crate::model::payment::PaymentId;
use crate::random::Randomness;
use crate::secrets::{Domain, Keyring, SecretKey, equal_in_constant_time};
use crate::store::{Object, Store, StoreError};

mod check;
pub mod clean;
mod decode;
pub mod describe;
mod doubt;
pub mod format;
pub mod hot;
mod sound;
mod upload;

pub use check::{Checked, Examined, Picture, Rules, check, examine};
use format::FormatError;
use hot::Hot;

/// How long an answer of the store counts for readiness.
const READY_FOR: Duration = Duration::from_secs(2);
/// And how long its silence: whoever comes meanwhile isn't kept waiting for the same.
const UNREADY_FOR: Duration = Duration::from_secs(1);
/// How long the database may take to show that it answers.
const PING: Duration = Duration::from_secs(2);
/// Free uploads that are published at once where replicas count them together: each waits for one row, and holds
/// a connection meanwhile.
const FREE_AT_ONCE: usize = 2;
/// How often the free space is looked at for the log.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_secs(30);

/// Why a file is not taken: the sender has to send another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request carries no file.
    #[error(
        "The request holds no image: send it as the multipart field `image`, as JSON {{\"image\": \"<base64>\"}}, or as the body with an image/* content type or none."
    )]
    NoFile,
    /// The body can't be read. The sentence says what to send instead.
    #[error("{0}")]
    BadBody(String),
    /// The body broke off, or arrived too slowly.
    #[error("{0}")]
    Incomplete(String),
    /// The file is larger than the tier takes.
    #[error("The image has {bytes} bytes{}; tier {tier} takes {limit}.", if *.at_least { " or more" } else { "" })]
    TooLarge {
        /// Its length, as far as it was read.
        bytes: u64,
        /// Whether reading stopped there.
        at_least: bool,
        /// The limit.
        limit: u64,
        /// The tier.
        tier: String,
    },
    /// The bytes are no image that is taken.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Metadata was to be kept, and bytes that no viewer reads would be kept with it.
    #[error(
        "Bytes follow the end of the image, and the file is to be stored as it is (metadata=keep). Cut them off, or send metadata=remove: then the server removes them."
    )]
    Trailing,
    /// Metadata was to be kept, and the file is not sound.
    #[error(
        "The file is damaged ({0}), and it is to be stored as it is (metadata=keep). Save the image again, or send metadata=remove: then the server repairs it."
    )]
    Damaged(String),
}

/// Why an upload failed. Nothing was stored, and no use of a token was spent.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No such token.
    #[error("This upload token is not known: get one from POST /api/upload/token.")]
    BadToken,
    /// The token's time is over.
    #[error(
        "This upload token expired at {at}: present the same payment again for a fresh one, without paying again."
    )]
    TokenExpired {
        /// When it ended.
        at: Timestamp,
    },
    /// The token's uploads are spent on other bytes.
    #[error("This upload token was already used for another image.")]
    TokenUsed,
    /// Another upload holds the token's last use.
    #[error("Another upload with this token is under way: repeat this request.")]
    TokenBusy,
    /// The chain doesn't show the token's payment any more, and may show it again.
    #[error(
        "The chain does not show this token's payment just now. Repeat this request; do not pay again."
    )]
    Withheld,
    /// The database failed.
    #[error("The image could not be recorded; nothing was stored. Send the same request again.")]
    Database(#[from] DbError),
    /// The store failed.
    #[error("The image could not be stored; nothing was kept. Send the same request again.")]
    Store(#[from] StoreError),
    /// There is no room.
    #[error(transparent)]
    Full(#[from] Full),
    /// Nothing could be stored now.
    #[error("{0}, so nothing was stored. Send the same request again.")]
    Unready(Unready),
    /// A task was stopped with the process.
    #[error("The upload was interrupted; send the same request again.")]
    Interrupted,
}

/// What doesn't answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// The database.
    #[error("The database does not answer just now")]
    Database,
    /// The store.
    #[error("The image store does not answer just now")]
    Store,
}

/// What becomes of the metadata in an uploaded file: place, camera, author, comments, provenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// It is removed from what is stored; the pixels, the orientation and the colour profile stay.
    Remove,
    /// The file is stored as it was uploaded, so that signatures over its bytes stay valid.
    Keep,
}

impl Metadata {
    /// The values that requests name, with what they mean.
    pub const VALUES: [(&'static str, Self); 2] = [("remove", Self::Remove), ("keep", Self::Keep)];

    /// Parses the value of a request; `None` for any other text than `remove` and `keep`.
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

/// The images of a deployment.
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
    /// Turns at the day's count, which waits for no connection that others need.
    free_turns: Semaphore,
}

impl Images {
    /// Images in these ports.
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
        }
    }

    /// Keeps images that are asked for in this memory.
    #[must_use]
    pub fn kept_in(self, hot: Arc<Hot>) -> Self {
        Self { hot, ..self }
    }

    /// Whether there is room for another image. The answer may be a second old.
    ///
    /// # Errors
    /// [`UploadError::Full`].
    pub fn has_room(&self) -> Result<(), UploadError> {
        let checked = self.floor.check();
        self.room.note(&self.floor, checked.is_ok());
        Ok(checked?)
    }

    /// Looks every half minute whether there is room, so that the log tells of it although nobody uploads. Until it
    /// is dropped.
    pub async fn watch_room_forever(self: Arc<Self>) {
        loop {
            // Who uploads hears it; here only the log does.
            drop(self.has_room());
            tokio::time::sleep(LOOK_FOR_ROOM_EVERY).await;
        }
    }

    /// Whether an upload could be stored now. The answer may be two seconds old.
    ///
    /// # Errors
    /// [`UploadError`] when it could not.
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

    /// Asks database and store whether they answer.
    async fn look(&self) -> Result<(), Unready> {
        let database = tokio::time::timeout(PING, self.db.ping()).await;
        match database {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the database does not answer");
                return Err(Unready::Database);
            }
            Err(_) => {
                tracing::error!("the database does not answer within {PING:?}");
                return Err(Unready::Database);
            }
        }
        if self.store.is_unchecked() {
            let name = hex::encode(self.randomness.bytes::<16>());
            if let Err(error) = self.store.check(&name).await {
                tracing::error!(%error, "nothing can be kept in the image store");
                return Err(Unready::Store);
            }
            tracing::info!("the image store is fit for use");
        }
        self.store.ping().await.map_err(|error| {
            tracing::error!(%error, "the image store does not answer");
            Unready::Store
        })
    }

    /// Gives up a pending image, row and object; one that is public by now stays. What can't be removed now, the
    /// reaper removes.
    pub async fn discard(&self, id: &ImageId) {
        kill_point!("image.discard.before");
        let discarded = self.give_up(id).await;
        kill_point!("image.discard.after");
        match discarded {
            Ok(true) => self.delete_object(id).await,
            Ok(false) => tracing::warn!(image.id = %id, "an image was not given up: it is public"),
            Err(error) => {
                tracing::warn!(image.id = %id, %error, "a pending image could not be given up");
            }
        }
    }

    /// Whether the image is given up, by this or before it.
    async fn give_up(&self, id: &ImageId) -> Result<bool, DbError> {
        if images::discard(&self.db, id).await? {
            return Ok(true);
        }
        let row = images::find(&self.db, id).await?;
        Ok(row.is_none_or(|image| image.state == ImageState::Discarded))
    }

    /// Removes the object of an image whose row was given up already.
    pub async fn delete_object(&self, id: &ImageId) {
        kill_point!("object.delete.before");
        let deleted = self.store.delete(id).await;
        kill_point!("object.delete.after");
        if let Err(error) = deleted {
            tracing::warn!(image.id = %id, %error, "an object could not be deleted");
        }
    }

    /// The image with this id, when it is public now.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_public(&self, id: &ImageId) -> Result<Option<Image>, UploadError> {
        let now = self.clock.now();
        Ok(images::find_paid(&self.db, id)
            .await?
            .filter(|image| image.is_public(now)))
    }

    /// Whether an image would be public, if the chain showed the payment of its upload.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn is_withheld(&self, id: &ImageId) -> Result<bool, UploadError> {
        let now = self.clock.now();
        let row = images::find(&self.db, id).await?;
        let is_there = row.is_some_and(|image| image.is_public(now));
        Ok(is_there && images::find_paid(&self.db, id).await?.is_none())
    }

    /// Writes down anew what an image's row could be made from, since its expiry or its tier moved. What
    /// can't be written now, the reaper writes later.
    pub async fn describe(&self, id: &ImageId) {
        kill_point!("image.describe.before");
        let described = describe::one(&self.db, &self.store, id).await;
        kill_point!("image.describe.after");
        if let Err(error) = described {
            tracing::warn!(image.id = %id, %error, "the record beside an image could not be written anew");
        }
    }

    /// Opens these bytes of an image.
    ///
    /// # Errors
    /// [`UploadError::Store`].
    pub async fn open_bytes(
        &self,
        image: &Image,
        part: Range<u64>,
    ) -> Result<Option<Object>, UploadError> {
        Ok(self.store.open(&image.id, part).await?)
    }

    /// The newest image that a payment published.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_published(&self, payment: &PaymentId) -> Result<Option<Image>, UploadError> {
        Ok(images::find_published_by_payment(&self.db, payment)
            .await?
            .into_iter()
            .next())
    }

    /// The token by which an image can be deleted: derived, never stored.
    pub fn delete_token(&self, id: &ImageId) -> String {
        delete_token(self.secrets.current(), id)
    }

    /// Whether this is the delete token of `id`, of which there need not be an image. Takes the same time for
    /// every text of a token's length.
    pub fn is_delete_token(&self, id: &ImageId, text: &str) -> bool {
        let mut is_right = false;
        for key in self.secrets.iter() {
            is_right |= equal_in_constant_time(&delete_token(key, id), text);
        }
        is_right
    }
}

fn delete_token(key: &SecretKey, id: &ImageId) -> String {
    key.derive_hex(Domain::DeleteToken, &[id.as_str().as_bytes()])
        .chars()
        .take(40)
        .collect()
}
