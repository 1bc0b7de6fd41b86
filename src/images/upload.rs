//! Publishes images: in a tier without a price, against an upload token, or for a payment that
//! staged the image.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::Instrument;

use super::{Checked, Images, UploadError};
use crate::db::grants::{self, Reservation};
use crate::db::limits::{self, FreeSlot};
use crate::db::uses::Through;
use crate::db::{api_keys, free_links, images, payments};
use crate::model::api_key::ApiKey;
use crate::model::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::model::link::FreeLink;
use crate::model::payment::{Grant, PaymentId, ProductKind};
use crate::model::sidecar::Sidecar;
use crate::model::token::UploadToken;
use crate::pricing::tiers::{Keep, Tier};
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;
use crate::system::logs;

/// How long an upload may hold a use of a token, counted from the end of its checks. If a server
/// dies, the next upload waits this long for the use; on SQLite the reservation ends with the
/// server.
const RESERVATION: Duration = Duration::from_secs(90);
/// How long an upload waits for another upload that holds the last use.
const WAIT_FOR_OTHER: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

impl Images {
    /// Stores and publishes an image in a tier without a price. `place` is its reserved place in
    /// the daily count of free uploads, if that is limited. `through` is the free link or the API
    /// key that takes the image: publishing it counts a use there.
    ///
    /// # Errors
    /// [`UploadError`]; then nothing is published.
    pub async fn upload_free(
        self: &Arc<Self>,
        tier: &Tier,
        checked: Checked,
        place: Option<&FreeSlot>,
        through: Option<&Through>,
    ) -> Result<Image, UploadError> {
        let (images, place, through) = (Arc::clone(self), place.cloned(), through.cloned());
        let (name, keep) = (tier.name.to_string(), tier.keep);
        // A separate task: if the client disconnects, the upload still completes or is discarded as
        // a whole.
        let upload = async move {
            let now = images.clock.now();
            let owner = match &through {
                Some(Through::Key(key)) => Some(key.owner()),
                Some(Through::Link(_)) | None => None,
            };
            let image = Image {
                owner,
                ..images.draft(&checked, &name, None, now)
            };
            kill_point!("free.stage.before");
            images::insert_pending(&images.db, &image, Some(now.plus(RESERVATION))).await?;
            kill_point!("free.stage.after");
            images
                .put_or_discard(&image, keep, checked.stored().clone())
                .await?;
            let now = images.clock.now();
            let expires = keep.end(now);
            kill_point!("free.publish.before");
            let (db, on) = (&images.db, through.as_ref());
            let published = match &place {
                Some(place) => {
                    let _turn = images.free_turns.acquire().await;
                    limits::publish_in(db, place, on, &image, now, expires).await
                }
                None => images::publish_free(db, on, &image, now, expires).await,
            };
            kill_point!("free.publish.after");
            let published = match published {
                Ok(published) => published,
                Err(error) => images.resolve_in_doubt(&image.id, error).await?,
            };
            if !published {
                images.discard(&image.id).await;
                images.refuse_closed(through.as_ref(), now).await?;
                // The upload took longer than the place in the daily count was reserved.
                return Err(UploadError::Interrupted);
            }
            Ok(live(image, now, expires))
        };
        tokio::spawn(upload.in_current_span())
            .await
            .map_err(|_| UploadError::Interrupted)?
    }

    /// Refuses an upload by a free link or an API key that takes no upload any more.
    async fn refuse_closed(
        &self,
        through: Option<&Through>,
        now: Timestamp,
    ) -> Result<(), UploadError> {
        match through {
            None => Ok(()),
            Some(Through::Link(link)) => {
                self.find_free_link(&link.secret_hash, now).await?;
                Ok(())
            }
            Some(Through::Key(key)) => {
                self.find_key(&key.secret_hash, now).await?;
                Ok(())
            }
        }
    }

    /// Finds the API key whose secret has this hash, if it takes uploads at `now`.
    ///
    /// # Errors
    /// [`UploadError::KeyUnknown`], [`UploadError::KeyRevoked`], [`UploadError::KeySuspended`],
    /// [`UploadError::KeySpent`] and [`UploadError::Database`].
    pub async fn find_key(&self, secret_hash: &str, now: Timestamp) -> Result<ApiKey, UploadError> {
        let key = api_keys::find_by_hash(&self.db, secret_hash).await?;
        let key = key.ok_or(UploadError::KeyUnknown)?;
        if key.revoked_at.is_some() {
            return Err(UploadError::KeyRevoked);
        }
        if key.suspended_at.is_some() {
            return Err(UploadError::KeySuspended { id: key.id });
        }
        let day = limits::day_of(now);
        if key.uploads_on(day) >= key.uploads_per_day {
            return Err(UploadError::KeySpent {
                limit: key.uploads_per_day,
                wait: limits::start_of(day.saturating_add(1)).since(now),
            });
        }
        Ok(key)
    }

    /// Finds the free upload link whose secret has this hash, if it takes uploads at `now`.
    ///
    /// # Errors
    /// [`UploadError::LinkUnknown`], [`UploadError::LinkRevoked`], [`UploadError::LinkExpired`],
    /// [`UploadError::LinkUsed`] and [`UploadError::Database`].
    pub async fn find_free_link(
        &self,
        secret_hash: &str,
        now: Timestamp,
    ) -> Result<FreeLink, UploadError> {
        let link = free_links::find_by_hash(&self.db, secret_hash).await?;
        // The database may still know links that were made with a key that the operator removed.
        let link = link.filter(|link| link.link(&self.secrets).secret.is_some());
        let link = link.ok_or(UploadError::LinkUnknown)?;
        if link.revoked_at.is_some() {
            return Err(UploadError::LinkRevoked);
        }
        if now >= link.expires_at {
            return Err(UploadError::LinkExpired {
                at: link.expires_at,
            });
        }
        if link.used >= link.uses {
            return Err(UploadError::LinkUsed { uses: link.uses });
        }
        Ok(link)
    }

    /// Finds the grant of an upload token, before the body is read.
    ///
    /// # Errors
    /// [`UploadError::BadToken`], [`UploadError::Lost`], [`UploadError::Recovered`],
    /// [`UploadError::Voided`], and [`UploadError::TokenExpired`] for
    /// a token that expired before `arrived` without having been used. A used token stays valid for
    /// the same bytes. The secret of an upload link is such a token; one that was revoked or has
    /// ended is refused.
    pub async fn find_token(
        &self,
        token: &UploadToken,
        arrived: Timestamp,
    ) -> Result<Grant, UploadError> {
        let Some(grant) = grants::find_by_token_hash(&self.db, &token.hash()).await? else {
            return Err(self.unknown_token(token).await?);
        };
        logs::record_payment(&grant.payment_id);
        // The database may still know tokens that were made with a key that the operator removed.
        // They are invalid.
        let is_link = grant.product.kind == ProductKind::Link;
        UploadToken::of_grant(&self.secrets, &grant).ok_or(if is_link {
            UploadError::LinkUnknown
        } else {
            UploadError::BadToken
        })?;
        self.refuse_void(&grant).await?;
        if grant.revoked_at.is_some() {
            return Err(UploadError::LinkRevoked);
        }
        if grant.used == 0 || is_link {
            refuse_expired(&grant, arrived)?;
        }
        Ok(grant)
    }

    /// Refuses the token of a payment that the operator voided.
    async fn refuse_void(&self, grant: &Grant) -> Result<(), UploadError> {
        if !grant.is_void {
            return Ok(());
        }
        let payment = payments::find(&self.db, &grant.payment_id).await?;
        Err(UploadError::Voided {
            charged: payment.and_then(|payment| payment.is_charged()),
        })
    }

    /// Uploads an image against a grant. The same bytes again return the same image and cost no
    /// further use.
    ///
    /// # Errors
    /// [`UploadError`]; then no use was consumed.
    pub async fn upload_granted(
        self: &Arc<Self>,
        grant: Grant,
        arrived: Timestamp,
        checked: Checked,
    ) -> Result<Image, UploadError> {
        if let Some(image) = self.find_same(&grant.payment_id, &checked).await? {
            return Ok(image);
        }
        refuse_expired(&grant, arrived)?;
        let images = Arc::clone(self);
        let upload = async move { images.reserve_and_publish(&[grant], checked, None).await };
        tokio::spawn(upload.in_current_span())
            .await
            .map_err(|_| UploadError::Interrupted)?
    }

    /// Uploads an image by an API key, against the first of these grants of its wallet that has a
    /// use free. The same bytes again return the same image and cost no further use.
    ///
    /// # Errors
    /// [`UploadError`]; then no use was consumed. [`UploadError::TokenUsed`]: no grant has a use
    /// left.
    pub async fn upload_by_key(
        self: &Arc<Self>,
        key: ApiKey,
        grants: Vec<Grant>,
        checked: Checked,
    ) -> Result<Image, UploadError> {
        for grant in grants.iter().filter(|grant| grant.used > 0) {
            if let Some(image) = self.find_same(&grant.payment_id, &checked).await? {
                return Ok(image);
            }
        }
        let images = Arc::clone(self);
        let through = Some(Through::Key(key));
        let upload = async move { images.reserve_and_publish(&grants, checked, through).await };
        tokio::spawn(upload.in_current_span())
            .await
            .map_err(|_| UploadError::Interrupted)?
    }

    /// Holds a use of the first grant that has one free, and publishes the image.
    async fn reserve_and_publish(
        &self,
        grants: &[Grant],
        checked: Checked,
        through: Option<Through>,
    ) -> Result<Image, UploadError> {
        let deadline = Instant::now() + WAIT_FOR_OTHER;
        let (grant, image) = loop {
            match self.reserve(grants, &checked).await? {
                Reserved::Held(grant, image) => break (grant, *image),
                Reserved::Published(image) => return Ok(*image),
                Reserved::Busy if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Reserved::Busy => return Err(UploadError::TokenBusy),
                Reserved::Refused(error) => return Err(error),
            }
        };
        kill_point!("token.reserve.after");
        self.put_or_discard(&image, grant.keep, checked.stored().clone())
            .await?;
        kill_point!("token.publish.before");
        let now = self.clock.now();
        let expires = grant.keep.end(now);
        let (id, on) = (&grant.payment_id, through.as_ref());
        let counted = on.map(|through| (through, image.size_bytes));
        // An API key spends the grant, and not the link's secret.
        let of = (id, on.is_none().then_some(grant.serial));
        let published =
            grants::publish_through(&self.db, of, counted, &image.id, now, expires).await;
        let published = match published {
            Ok(published) => published,
            Err(error) => self.resolve_in_doubt(&image.id, error).await?,
        };
        if !published {
            // The reservation lapsed and another upload took the use, the operator voided the
            // payment, its owner revoked the link, or the API key takes no upload any more.
            self.discard(&image.id).await;
            self.refuse_closed(on, now).await?;
            if let Some(fresh) = grants::find(&self.db, id).await? {
                self.refuse_void(&fresh).await?;
                if fresh.revoked_at.is_some() || fresh.serial != grant.serial {
                    return Err(UploadError::LinkRevoked);
                }
            }
            return Err(used_up(grant));
        }
        kill_point!("token.publish.after");
        Ok(live(image, now, expires))
    }

    /// Tries to hold a use of each grant in turn.
    async fn reserve<'a>(
        &self,
        grants: &'a [Grant],
        checked: &Checked,
    ) -> Result<Reserved<'a>, UploadError> {
        let mut is_busy = false;
        let mut refused = UploadError::TokenUsed;
        for grant in grants {
            let now = self.clock.now();
            let (tier, id) = (&grant.product.tier, &grant.payment_id);
            let image = self.draft(checked, tier, Some(id.clone()), now);
            kill_point!("token.reserve.before");
            let reserved = grants::reserve(&self.db, grant, &image, now.plus(RESERVATION)).await;
            let reserved = match reserved {
                Ok(reserved) => reserved,
                // The reservation may exist after all, and must not block the token until it
                // lapses.
                Err(error) => {
                    self.resolve_in_doubt(&image.id, error).await?;
                    return Ok(Reserved::Published(Box::new(image)));
                }
            };
            match reserved {
                Reservation::Held => return Ok(Reserved::Held(grant, Box::new(image))),
                Reservation::Busy => is_busy = true,
                Reservation::Revoked => refused = UploadError::LinkRevoked,
                Reservation::UsedUp | Reservation::Same => {
                    if let Some(same) = self.find_same(id, checked).await? {
                        return Ok(Reserved::Published(Box::new(same)));
                    }
                    refused = used_up(grant);
                }
            }
        }
        Ok(if is_busy {
            Reserved::Busy
        } else {
            Reserved::Refused(refused)
        })
    }

    /// Inserts the pending row of an image that `payment_id` is going to publish.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn stage(
        &self,
        checked: &Checked,
        tier: &str,
        payment_id: &PaymentId,
    ) -> Result<ImageId, UploadError> {
        let image = self.draft(checked, tier, Some(payment_id.clone()), self.clock.now());
        images::insert_pending(&self.db, &image, None).await?;
        Ok(image.id)
    }

    /// Stores the bytes of a staged image durably under its final key. The image is not
    /// served until it is published.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn store(
        &self,
        id: &ImageId,
        checked: &Checked,
        keep: Keep,
    ) -> Result<(), UploadError> {
        let image = images::find(&self.db, id).await?;
        let image = image.ok_or(UploadError::Interrupted)?;
        let sidecar = Sidecar::new(&image, keep);
        Ok(self
            .store
            .put(id, checked.stored().clone(), &sidecar)
            .await?)
    }

    async fn find_same(
        &self,
        payment: &PaymentId,
        checked: &Checked,
    ) -> Result<Option<Image>, UploadError> {
        let now = self.clock.now();
        let published = images::find_published_by_payment(&self.db, payment).await?;
        Ok(published.into_iter().find(|image| {
            image.upload_sha256 == checked.upload_sha256()
                && image.visibility == checked.visibility()
                && image.is_live(now)
        }))
    }

    async fn put_or_discard(
        &self,
        image: &Image,
        keep: Keep,
        bytes: Bytes,
    ) -> Result<(), UploadError> {
        let sidecar = Sidecar::new(image, keep);
        kill_point!("image.put.before");
        if let Err(error) = self.store.put(&image.id, bytes, &sidecar).await {
            self.discard(&image.id).await;
            return Err(error.into());
        }
        kill_point!("image.put.after");
        Ok(())
    }

    fn draft(
        &self,
        checked: &Checked,
        tier: &str,
        payment_id: Option<PaymentId>,
        now: Timestamp,
    ) -> Image {
        let picture = checked.picture();
        Image {
            id: ImageId::draw(&self.randomness),
            state: ImageState::Pending,
            format: picture.format,
            size_bytes: checked.stored_bytes(),
            width: picture.width,
            height: picture.height,
            metadata: Some(picture.metadata),
            sha256: checked.sha256().to_owned(),
            upload_sha256: checked.upload_sha256().to_owned(),
            tier: tier.to_owned(),
            payment_id,
            owner: None,
            created_at: now,
            published_at: None,
            expires_at: None,
            visibility: checked.visibility(),
            link_serial: 0,
        }
    }
}

/// The outcome of trying to hold a use of one of several grants.
enum Reserved<'a> {
    /// The grant, a use of which is held, and the pending image.
    Held(&'a Grant, Box<Image>),
    /// The same bytes are published already.
    Published(Box<Image>),
    /// Other uploads hold every use that is left.
    Busy,
    /// No grant takes the image.
    Refused(UploadError),
}

fn refuse_expired(grant: &Grant, arrived: Timestamp) -> Result<(), UploadError> {
    let at = grant.token_expires;
    match grant.product.kind {
        _ if arrived < at => Ok(()),
        ProductKind::Link => Err(UploadError::LinkExpired { at }),
        ProductKind::Token | ProductKind::Upload | ProductKind::Renewal => {
            Err(UploadError::TokenExpired { at })
        }
    }
}

/// The error of an upload for which the grant has no use left.
fn used_up(grant: &Grant) -> UploadError {
    match grant.product.kind {
        ProductKind::Link => UploadError::LinkUsed {
            uses: grant.product.uses,
        },
        ProductKind::Token | ProductKind::Upload | ProductKind::Renewal => UploadError::TokenUsed,
    }
}

fn live(image: Image, now: Timestamp, expires: Option<Timestamp>) -> Image {
    Image {
        state: ImageState::Live,
        published_at: Some(now),
        expires_at: expires,
        ..image
    }
}
