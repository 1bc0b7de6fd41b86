//! Keeps imported images up to date: compares each with its origin when its time has come, and
//! replaces it if the origin has another image.
//!
//! An image keeps its content whenever the origin returns none that the server takes: after a
//! failure, and after status 404 or 410. New content passes the same checks as an upload, and costs
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::{ImportError, Importer, Wanted};
use crate::db::refreshes::{self as rows, Due, Ended};
use crate::db::{Db, DbError};
use crate::fetch::FetchError;
use crate::images::{Checked, Images, Metadata, UploadError};
use crate::model::image::Image;
use crate::model::refresh::Validators;
use crate::system::clock::Clock;
use crate::system::metrics;
use crate::trust::Blocked;

/// How often a server looks for images that are due.
const LOOK: Duration = Duration::from_secs(5);
/// How many images one server compares at the same time.
const AT_ONCE: u32 = 4;
/// How long a server has an image to itself, and how long obtaining one may take at most: the
/// fetch, the check, and the waiting for places for both.
const LEASE: Duration = Duration::from_mins(4);
const OBTAIN: Duration = Duration::from_mins(2);
/// When the server tries again after a failure of its own, such as of its database.
const PUT_OFF: Duration = Duration::from_mins(1);
/// The longest pause after failures of an origin, unless the image is compared less often anyway.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);

/// Compares images with their origins.
#[derive(Debug)]
pub struct Refresher {
    db: Db,
    images: Arc<Images>,
    importer: Arc<Importer>,
    clock: Arc<dyn Clock>,
}

/// How a comparison ended.
enum Outcome {
    /// The image has new content.
    Replaced,
    /// The origin has the same content, with these validators.
    Same(Validators),
    /// The origin has no content that the server takes now. The text says why.
    Failed(String),
    /// The server could not compare the image, for a reason of its own. It tries again after this
    /// time.
    PutOff(Duration, String),
    /// The new content or the owner is blocked. The image is compared no more.
    Blocked,
    /// The image is not served any more, another server compares it, or the blocks changed
    /// meanwhile. Its lease ends by itself.
    Over,
}

impl Refresher {
    /// Creates the refresher of a server.
    pub fn new(
        db: &Db,
        images: &Arc<Images>,
        importer: &Arc<Importer>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        Self {
            db: db.clone(),
            images: Arc::clone(images),
            importer: Arc::clone(importer),
            clock: Arc::clone(clock),
        }
    }

    /// Compares images that are due, some at a time. Returns how many.
    ///
    /// # Errors
    /// [`DbError`]. What happens to one image is logged.
    pub async fn refresh_due(&self) -> Result<usize, DbError> {
        let now = self.clock.now();
        if self.importer.is_open().is_err() || !rows::is_due(&self.db, now).await? {
            return Ok(0);
        }
        let due = rows::take_due(&self.db, now, LEASE, AT_ONCE).await?;
        let taken = due.len();
        stream::iter(due)
            .for_each_concurrent(None, async |due| {
                let id = due.image.clone();
                if let Err(error) = self.refresh(due).await {
                    tracing::warn!(image.id = %id, %error, "an image could not be compared with its origin, because the database failed; trying again in minutes");
                }
            })
            .await;
        Ok(taken)
    }

    /// Runs [`Refresher::refresh_due`] every few seconds, until the future is dropped.
    pub async fn refresh_forever(self: Arc<Self>) {
        loop {
            match self.refresh_due().await {
                // More may wait.
                Ok(taken) if taken > 0 => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "images to be compared with their origins could not be read from the database");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn refresh(&self, mut due: Due) -> Result<(), DbError> {
        let image = match self.images.find_live(&due.image).await {
            Ok(image) => image,
            Err(UploadError::Database(error)) => return Err(error),
            Err(_) => None,
        };
        let Some(image) = image else {
            return Ok(());
        };
        let Some(every) = image.refresh.as_ref().map(|it| it.every) else {
            return Ok(());
        };
        let outcome = self.compare(&mut due, &image, every).await;
        metrics::refresh(outcome.name());
        let now = self.clock.now();
        let known = due.origin.validators.clone();
        let (ended, validators, next) = match outcome {
            Outcome::Replaced => {
                tracing::info!(image.id = %image.id, "an image was replaced by what its origin has now");
                return Ok(());
            }
            Outcome::Over => return Ok(()),
            Outcome::Same(validators) => (Ended::Same, validators, Some(now.plus(every))),
            Outcome::Failed(why) => {
                let pause = pause(every, due.failures);
                tracing::info!(image.id = %image.id, %why, ?pause, "the origin of an image returned none, so the image stays as it is");
                (Ended::Failed, known, Some(now.plus(pause)))
            }
            Outcome::PutOff(pause, why) => {
                tracing::info!(image.id = %image.id, %why, ?pause, "comparing an image with its origin was put off");
                (Ended::PutOff, known, Some(now.plus(pause)))
            }
            Outcome::Blocked => {
                tracing::warn!(image.id = %image.id, "the origin of an image has blocked content now, or its owner is blocked: the image stays as it is, and is compared no more");
                (Ended::PutOff, Validators::default(), None)
            }
        };
        rows::end(&self.db, &due, (ended, next), &validators, now).await?;
        Ok(())
    }

    async fn compare(&self, due: &mut Due, image: &Image, every: Duration) -> Outcome {
        let obtained = tokio::time::timeout(OBTAIN, self.obtain(due, image)).await;
        let obtained = match obtained {
            Ok(Ok(obtained)) => obtained,
            Ok(Err(error)) => return failure(error),
            Err(_) => return Outcome::PutOff(PUT_OFF, "the server is busy".to_owned()),
        };
        let Some((checked, validators)) = obtained else {
            return Outcome::Same(due.origin.validators.clone());
        };
        if checked.sha256() == image.sha256 {
            return Outcome::Same(validators);
        }
        let owner = image.owner.as_ref().map(|owner| &owner.wallet);
        let replaced = async {
            self.images.screen(&checked, owner, &image.tier).await?;
            let terms = (&validators, every);
            self.images.replace(due, image, &checked, terms).await
        };
        match replaced.await {
            Ok(true) => Outcome::Replaced,
            Ok(false) => Outcome::Over,
            Err(error) => failure(error.into()),
        }
    }

    async fn obtain(
        &self,
        due: &Due,
        image: &Image,
    ) -> Result<Option<(Checked, Validators)>, ImportError> {
        let origin = &due.origin;
        let target = self.importer.fetcher.target(&origin.url);
        let target = target.map_err(UploadError::from)?;
        let wanted = Wanted {
            target: &target,
            known: &origin.validators,
            metadata: if origin.keeps_metadata {
                Metadata::Keep
            } else {
                Metadata::Remove
            },
            visibility: image.visibility,
            tier: &image.tier,
            max_bytes: origin.max_bytes,
            client: None,
        };
        self.importer.obtain(&wanted).await
    }
}

impl Outcome {
    /// The name in the metrics.
    const fn name(&self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Same(_) => "same",
            Self::Failed(_) => "failed",
            Self::PutOff(..) => "put_off",
            Self::Blocked => "blocked",
            Self::Over => "over",
        }
    }
}

/// What an error says about the origin.
fn failure(error: ImportError) -> Outcome {
    let why = error.to_string();
    match error {
        ImportError::Limited(_) => Outcome::PutOff(PUT_OFF, why),
        ImportError::Upload(error) => match error {
            UploadError::Blocked(Blocked::Content | Blocked::Wallet) => Outcome::Blocked,
            UploadError::Fetch(FetchError::HostBusy { wait }) => {
                Outcome::PutOff(wait.max(PUT_OFF), why)
            }
            UploadError::Fetch(FetchError::NotAllowed { .. } | FetchError::Failed(_))
            | UploadError::Refused(_) => Outcome::Failed(why),
            // The rest are failures of this server.
            _ => Outcome::PutOff(PUT_OFF, why),
        },
    }
}

/// How long to wait after a failure of an origin: twice as long each time, up to a day, and never
/// shorter than usual.
fn pause(every: Duration, failures: u32) -> Duration {
    let doubled = every.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    doubled.min(LONGEST_PAUSE.max(every))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_a_day_and_is_never_shorter_than_usual() {
        let hours = |every, failures| {
            let every = Duration::from_hours(every);
            pause(every, failures).as_secs() / 3600
        };
        assert_eq!(
            [0, 1, 2, 4, 5, 40].map(|it| hours(1, it)),
            [1, 2, 4, 16, 24, 24]
        );
        assert_eq!([0, 1, 40].map(|it| hours(240, it)), [240, 240, 240]);
    }
}
