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
use crate::db::{free_links, images, payments};
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
    /// the daily count of free uploads, if that is limited. `link` is the free link that takes the
    /// image: publishing it counts a use of the link.
    ///
    /// # Errors
    /// [`UploadError`]; then nothing is public.
    pub async fn upload_free(
        self: &Arc<Self>,
        tier: &Tier,
        checked: Checked,
        place: Option<&FreeSlot>,
        link: Option<&FreeLink>,
    ) -> Result<Image, UploadError> {
        let (images, place, link) = (Arc::clone(self), place.cloned(), link.cloned());
        let (name, keep) = (tier.name.to_string(), tier.keep);
        // A separate task: if the client disconnects, the upload still completes or is discarded as
        // a whole.
        let upload = async move {
            let now = images.clock.now();
            let image = images.draft(&checked, &name, None, now);
            kill_point!("free.stage.before");
            images::insert_pending(&images.db, &image, Some(now.plus(RESERVATION))).await?;
            kill_point!("free.stage.after");
            images
                .put_or_discard(&image, keep, checked.stored().clone())
                .await?;
            let now = images.clock.now();
            let expires = keep.end(now);
            kill_point!("free.publish.before");
            let (db, id) = (&images.db, &image.id);
            let on = link.as_ref().map(|link| link.id.as_str());
            let published = match &place {
                Some(place) => {
                    let _turn = images.free_turns.acquire().await;
                    limits::publish_in(db, place, on, id, now, expires).await
                }
                None => images::publish_free(db, on, id, now, expires).await,
            };
            kill_point!("free.publish.after");
            let published = match published {
                Ok(published) => published,
                Err(error) => images.resolve_in_doubt(&image.id, error).await?,
            };
            if !published {
                images.discard(&image.id).await;
                if let Some(link) = &link {
                    images.find_free_link(&link.secret_hash, now).await?;
                }
                // The upload took longer than the place in the daily count was reserved.
                return Err(UploadError::Interrupted);
            }
            Ok(public(image, now, expires))
        };
        tokio::spawn(upload.in_current_span())
            .await
            .map_err(|_| UploadError::Interrupted)?
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
        let upload = async move { images.reserve_and_publish(&grant, checked).await };
        tokio::spawn(upload.in_current_span())
            .await
            .map_err(|_| UploadError::Interrupted)?
    }

    async fn reserve_and_publish(
        &self,
        grant: &Grant,
        checked: Checked,
    ) -> Result<Image, UploadError> {
        let deadline = Instant::now() + WAIT_FOR_OTHER;
        let image = loop {
            let now = self.clock.now();
            let image = self.draft(
                &checked,
                &grant.product.tier,
                Some(grant.payment_id.clone()),
                now,
            );
            kill_point!("token.reserve.before");
            let reserved = grants::reserve(&self.db, grant, &image, now.plus(RESERVATION)).await;
            let reserved = match reserved {
                Ok(reserved) => reserved,
                // The reservation may exist after all, and must not block the token until it
                // lapses.
                Err(error) => return self.resolve_in_doubt(&image.id, error).await.map(|_| image),
            };
            match reserved {
                Reservation::Held => break image,
                Reservation::Busy if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Reservation::Busy => return Err(UploadError::TokenBusy),
                Reservation::Revoked => return Err(UploadError::LinkRevoked),
                Reservation::UsedUp | Reservation::Same => {
                    let same = self.find_same(&grant.payment_id, &checked).await?;
                    return same.ok_or(used_up(grant));
                }
            }
        };
        kill_point!("token.reserve.after");
        self.put_or_discard(&image, grant.keep, checked.stored().clone())
            .await?;
        kill_point!("token.publish.before");
        let now = self.clock.now();
        let expires = grant.keep.end(now);
        let published = grants::publish(&self.db, &grant.payment_id, &image.id, now, expires).await;
        let published = match published {
            Ok(published) => published,
            Err(error) => self.resolve_in_doubt(&image.id, error).await?,
        };
        if !published {
            // The reservation lapsed and another upload took the use, or the operator voided the
            // payment.
            self.discard(&image.id).await;
            if let Some(grant) = grants::find(&self.db, &grant.payment_id).await? {
                self.refuse_void(&grant).await?;
            }
            return Err(used_up(grant));
        }
        kill_point!("token.publish.after");
        Ok(public(image, now, expires))
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

    /// Stores the bytes of a staged image durably under its final key. The image stays private
    /// until it is published.
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
        Ok(published
            .into_iter()
            .find(|image| image.upload_sha256 == checked.upload_sha256() && image.is_public(now)))
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
        }
    }
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

fn public(image: Image, now: Timestamp, expires: Option<Timestamp>) -> Image {
    Image {
        state: ImageState::Live,
        published_at: Some(now),
        expires_at: expires,
        ..image
    }
}
