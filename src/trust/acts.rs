//! What all acts of the operator share: who acts and why, what can go wrong, and what they work on.

use std::sync::Arc;
use std::time::Duration;

use crate::cdn::Cdn;
use crate::config;
use crate::db::{Db, DbError};
use crate::images::hot::Hot;
use crate::model::admin_log::{Act, Entry};
use crate::model::ids::ImageId;
use crate::model::image::ImageState;
use crate::retention::variants::Left;
use crate::store::{Store, StoreError};
use crate::system::clock::{Clock, Timestamp};
use crate::system::random::Randomness;

/// The longest name of an actor, and the longest reason or reference, in characters.
const LONGEST_NAME: usize = 100;
pub(super) const LONGEST_REASON: usize = 2000;

/// The person or program that acts, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    pub(super) actor: String,
    pub(super) reason: String,
}

impl By {
    /// Checks a name and a reason.
    ///
    /// # Errors
    /// [`ActError::Bad`]: one of them is empty or too long.
    pub fn new(actor: &str, reason: &str) -> Result<Self, ActError> {
        Ok(Self {
            actor: text(
                "The name of who acts",
                "--as, or `as` of the admin API",
                actor,
                LONGEST_NAME,
            )?,
            reason: text(
                "The reason",
                "--reason, or `reason` of the admin API",
                reason,
                LONGEST_REASON,
            )?,
        })
    }

    /// Who acts.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn entry(&self, act: Act, subject: &ImageId, details: serde_json::Value) -> Entry {
        Entry {
            actor: self.actor.clone(),
            act,
            subject: subject.to_string(),
            reason: self.reason.clone(),
            details,
        }
    }
}

/// Checks a text from the operator: one to `longest` characters, no control characters but line
/// ends.
pub(super) fn text(
    what: &str,
    place: &str,
    given: &str,
    longest: usize,
) -> Result<String, ActError> {
    let given = given.trim();
    let count = given.chars().count();
    let is_plain = given.chars().all(|it| !it.is_control() || it == '\n');
    if count == 0 || count > longest || !is_plain {
        return Err(ActError::Bad(format!(
            "{what} has {count} characters, and 1 to {longest} without control characters are allowed. Send it in {place}."
        )));
    }
    Ok(given.to_owned())
}

/// Why an act was not carried out. Nothing was changed, unless the text says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// A value is not allowed.
    #[error("{0}")]
    Bad(String),
    /// There is no such image.
    #[error(
        "There is no image {0}. Send the id or the link of an image; `pixtoll admin find` searches by wallet and transaction too."
    )]
    Unknown(ImageId),
    /// There is no such case.
    #[error("There is no case {0}. `pixtoll admin cases --all` lists them.")]
    NoCase(String),
    /// The case is decided.
    #[error(
        "The case {0} is decided already. `pixtoll admin restore` undoes a removal; a new report opens a new case."
    )]
    Decided(String),
    /// The image has a state that the act doesn't fit.
    #[error("The image {id} {}.", because(*.state))]
    Unfit {
        /// The image.
        id: ImageId,
        /// Its state.
        state: ImageState,
    },
    /// The image is not held.
    #[error("The image {0} is not held. `pixtoll admin hold` holds it.")]
    NotHeld(ImageId),
    /// The image is held, and only an explicit release ends a hold.
    #[error(
        "The image {0} is held. `pixtoll admin release {0} --restore` ends the hold and serves the image again."
    )]
    Held(ImageId),
    /// The hold's time is not over.
    #[error(
        "The hold of the image {id} lasts until {until}. Wait until then, or confirm the early end: --early, or \"early\": true."
    )]
    TooEarly {
        /// The image.
        id: ImageId,
        /// The end of the hold.
        until: Timestamp,
    },
    /// The image can't be served again.
    #[error(
        "The image {0} can't be restored: it has expired, was never published, or its payment is void."
    )]
    Over(ImageId),
    /// The payer of the image has the money back.
    #[error(
        "The image {0} can't be restored: its payment was refunded, and the refund took the image back. The payer can pay for it again; a refund with --keep-goods leaves the image."
    )]
    Refunded(ImageId),
    /// No wallet uploaded the image.
    #[error(
        "The image {0} was uploaded without a wallet, so there is none to block. Block its content alone."
    )]
    NoWallet(ImageId),
    /// A payment that renews the image is being settled.
    #[error(
        "A payment that renews the image {0} is being settled. Repeat the same act in a minute."
    )]
    Renewing(ImageId),
    /// Another process moves the content of held images at this moment.
    #[error(
        "Another process moves the content of held images. Repeat the same act in a few seconds."
    )]
    Busy,
    /// This process is about to stop.
    #[error("This server is stopping. Repeat the same act in a minute.")]
    Stopping,
    /// The content is neither in its place nor sealed.
    #[error(
        "The content of the image {0} is missing in the image store. See `pixtoll store audit`."
    )]
    ContentMissing(ImageId),
    /// A report package can't be written.
    #[error("The report package can't be written to {}: {why}. Name another folder.", .path.display())]
    Package {
        /// The folder or file.
        path: std::path::PathBuf,
        /// The cause.
        why: std::io::Error,
    },
    /// The database failed.
    #[error("The database does not answer: {0}. Repeat the same act.")]
    Database(#[from] DbError),
    /// The store failed.
    #[error("The image store does not answer: {0}. Repeat the same act.")]
    Store(#[from] StoreError),
}

impl From<Left> for ActError {
    fn from(left: Left) -> Self {
        match left {
            Left::Database(error) => Self::Database(error),
            Left::Store(error) => Self::Store(error),
        }
    }
}

/// Why an act doesn't fit an image of this state, as the rest of a sentence.
const fn because(state: ImageState) -> &'static str {
    match state {
        ImageState::Pending => {
            "is being uploaded. Repeat the same act in a minute, or remove it without a hold"
        }
        ImageState::Live => "is served, so there is nothing to end. Remove or hold it first",
        ImageState::Removed => "is removed already",
        ImageState::Discarded => "was never published, and is being deleted",
        ImageState::Deleting => "is being deleted, which can't be undone",
        ImageState::Deleted => "is deleted, and can't be brought back",
    }
}

/// The operator's acts.
#[derive(Debug)]
pub struct Trust {
    pub(super) db: Db,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: config::Trust,
    /// The public address of the images, without a trailing slash.
    pub(super) images_url: String,
    pub(super) cdn: Option<Arc<Cdn>>,
    /// The cache from which this process serves images.
    pub(super) hot: Option<Arc<Hot>>,
    /// The name under which this process takes turns to move the content of held images.
    pub(super) holder: String,
    /// Lets one task of this process have the turn.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Trust {
    /// Creates the acts over a database and its store. `images_url` is the public address of the
    /// images, without a trailing slash.
    pub fn new(
        db: Db,
        store: Store,
        clock: Arc<dyn Clock>,
        randomness: &Randomness,
        settings: config::Trust,
        images_url: &str,
    ) -> Self {
        Self {
            db,
            store,
            clock,
            settings,
            images_url: images_url.to_owned(),
            cdn: None,
            hot: None,
            holder: hex::encode(randomness.bytes::<8>()),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Purges removed images at this CDN.
    #[must_use]
    pub fn behind(self, cdn: Option<Arc<Cdn>>) -> Self {
        Self { cdn, ..self }
    }

    /// Drops removed images from this process's cache at once. Other servers learn of them from the
    /// database.
    #[must_use]
    pub fn forgetting(self, hot: Arc<Hot>) -> Self {
        let hot = Some(hot);
        Self { hot, ..self }
    }

    /// How long a hold lasts if the operator doesn't say.
    pub fn preserve(&self) -> Duration {
        self.settings.preserve
    }
}
