//! Publishes images: in a tier without a price, against an upload token, or for a payment that
//! staged the image.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use super::{Checked, Images, UploadError};
use crate::db::grants::{self, Reservation};
use crate::db::limits::{self, FreeSlot};
use crate::db::uses::Through;
use crate::db::{api_keys, free_links, images, payments, refreshes};
use crate::model::api_key::ApiKey;
use crate::model::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::model::link::FreeLink;
use crate::model::owner::Owner;
use crate::model::payment::{Grant, PaymentId, ProductKind};
use crate::model::sidecar::Sidecar;
use crate::model::token::UploadToken;
use crate::pricing::tiers::{Keep, Tier};
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;
use crate::system::{logs, metrics};

/// How long an upload may hold a use of a token, counted from the end of its checks. If a server
/// dies, the next upload waits this long for the use; on SQLite the reservation ends with the
/// server.
const RESERVATION: Duration = Duration::from_secs(90);
/// How long an upload waits for another upload that holds the last use.
const WAIT_FOR_OTHER: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// The image that an upload yields.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The image.
    pub image: Image,
    /// Whether this upload published it. Otherwise an earlier one did, maybe of somebody else who has
    /// the same link or key.
    pub is_new: bool,
}

impl Taken {
    fn new(image: Image) -> Self {
        metrics::upload(&image.tier, image.size_bytes);
        let is_new = true;
        Self { image, is_new }
    }

    const fn again(image: Image) -> Self {
        let is_new = false;
        Self { image, is_new }
    }
}

/// Refuses a free link whose uploads are all used.
fn refuse_used(link: &FreeLink) -> Result<(), UploadError> {
    if link.used < link.uses {
        return Ok(());
    }
    Err(UploadError::FreeLinkUsed { uses: link.uses })
}

impl Images {
    /// Stores and publishes an image in a tier without a price. `place` is its reserved place in
    /// the daily count of free uploads, if that is limited. `through` is the free link or the API
    /// key that takes the image: publishing it counts a use there. The same bytes by the same free
    /// link return the same image, and cost no further use.
    ///
    /// # Errors
    /// [`UploadError`]; then nothing is published.
    pub async fn upload_free(
        self: &Arc<Self>,
        tier: &Tier,
        checked: Checked,
        place: Option<&FreeSlot>,
        through: Option<&Through>,
    ) -> Result<Taken, UploadError> {
        let owner = match through {
            Some(Through::Key(key)) => Some(key.owner()),
            Some(Through::Link(_)) | None => None,
        };
        let wallet = owner.as_ref().map(|owner| &owner.wallet);
        self.refuse_blocked(&checked, wallet).await?;
        if let Some(Through::Link(link)) = through {
            if let Some(same) = self.find_same_by_link(link, &checked).await? {
                return Ok(Taken::again(same));
            }
            refuse_used(link)?;
        }
        self.scan(&checked, tier.name.as_str()).await?;
        let (images, place, through) = (Arc::clone(self), place.cloned(), through.cloned());
        let (name, keep) = (tier.name.to_string(), tier.keep);
        // A separate task: if the client disconnects, the upload still completes or is discarded as
        // a whole.
        let upload = async move {
            let now = images.clock.now();
            let image = Image {
                owner,
                ..images.draft(&checked, &name, None, now)
            };
            kill_point!("free.stage.before");
            images::insert_pending(&images.db, &image, Some(now.plus(RESERVATION))).await?;
            kill_point!("free.stage.after");
            images.put_or_discard(&image, keep, &checked).await?;
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
                images.refuse_withheld(&image).await?;
                if let Some(Through::Link(link)) = &through
                    && let Some(same) = images.find_same_by_link(link, &checked).await?
                {
                    return Ok(Taken::again(same));
                }
                images.refuse_closed(through.as_ref(), now).await?;
                // The upload took longer than the place in the daily count was reserved.
                return Err(UploadError::Interrupted);
            }
            Ok(Taken::new(live(image, now, expires)))
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
                let link = self.find_free_link(&link.secret_hash, now).await?;
                refuse_used(&link)
            }
            Some(Through::Key(key)) => {
                let key = self.find_key(&key.secret_hash).await?;
                refuse_spent(&key, now)
            }
        }
    }

    /// Finds the API key whose secret has this hash, if it is neither suspended nor revoked. Whether
    /// it has an upload left today is for [`refuse_spent`] to say.
    ///
    /// # Errors
    /// [`UploadError::KeyUnknown`], [`UploadError::KeyRevoked`], [`UploadError::KeySuspended`]
    /// and [`UploadError::Database`].
    pub async fn find_key(&self, secret_hash: &str) -> Result<ApiKey, UploadError> {
        let key = api_keys::find_by_hash(&self.db, secret_hash).await?;
        let key = key.ok_or(UploadError::KeyUnknown)?;
        if key.revoked_at.is_some() {
            return Err(UploadError::KeyRevoked);
        }
        if key.suspended_at.is_some() {
            return Err(UploadError::KeySuspended { id: key.id });
        }
        Ok(key)
    }

    /// Finds the free upload link whose secret has this hash, if it is valid at `now`. Its uploads may
    /// all be used: the same bytes still return their image.
    ///
    /// # Errors
    /// [`UploadError::LinkUnknown`], [`UploadError::FreeLinkRevoked`],
    /// [`UploadError::FreeLinkExpired`] and [`UploadError::Database`].
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
            return Err(UploadError::FreeLinkRevoked);
        }
        if now >= link.expires_at {
            return Err(UploadError::FreeLinkExpired {
                at: link.expires_at,
            });
        }
        Ok(link)
    }

    /// Finds the image of the same bytes that a free link uploaded before.
    async fn find_same_by_link(
        &self,
        link: &FreeLink,
        checked: &Checked,
    ) -> Result<Option<Image>, UploadError> {
        let now = self.clock.now();
        let images = free_links::find_images(&self.db, &link.id, checked.upload_sha256()).await?;
        Ok(images
            .into_iter()
            .find(|image| checked.is_order_of(image) && image.is_live(now)))
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

    /// Refuses the token of a payment that the operator voided or refunded.
    async fn refuse_void(&self, grant: &Grant) -> Result<(), UploadError> {
        if !grant.is_void {
            return Ok(());
        }
        let payment = payments::find(&self.db, &grant.payment_id).await?;
        Err(match payment {
            Some(payment) if payment.voided_at.is_none() => UploadError::Refunded,
            payment => UploadError::Voided {
                charged: payment.and_then(|payment| payment.is_charged()),
            },
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
    ) -> Result<Taken, UploadError> {
        self.refuse_payer(&grant).await?;
        self.refuse_blocked(&checked, None).await?;
        if let Some(image) = self.find_same(&grant.payment_id, &checked).await? {
            return Ok(Taken::again(image));
        }
        refuse_expired(&grant, arrived)?;
        self.scan(&checked, &grant.product.tier).await?;
        let images = Arc::clone(self);
        let source = Source::Grant(Box::new(grant));
        let upload = async move { images.reserve_and_publish(source, checked).await };
        tokio::spawn(upload.in_current_span())
            .await
            .map_err(|_| UploadError::Interrupted)?
    }

    /// Uploads an image by an API key, against the oldest grant of its wallet in this tier that has a
    /// use free. The bytes of a live image that the wallet paid for in this tier return that image:
    /// they cost nothing, and count on no limit.
    ///
    /// # Errors
    /// [`UploadError`]; then no use was consumed. [`UploadError::TokenUsed`]: no grant that takes
    /// an image of this size has a use left. [`UploadError::KeySpent`]: the key has made its uploads
    /// of today.
    pub async fn upload_by_key(
        self: &Arc<Self>,
        key: ApiKey,
        tier: &str,
        checked: Checked,
    ) -> Result<Taken, UploadError> {
        let owner = key.owner();
        self.refuse_blocked(&checked, Some(&owner.wallet)).await?;
        if let Some(image) = self.find_same_of(&owner, tier, &checked).await? {
            return Ok(Taken::again(image));
        }
        refuse_spent(&key, self.clock.now())?;
        self.scan(&checked, tier).await?;
        let images = Arc::clone(self);
        let source = Source::Key(Box::new(key), tier.to_owned());
        let upload = async move { images.reserve_and_publish(source, checked).await };
        tokio::spawn(upload.in_current_span())
            .await
            .map_err(|_| UploadError::Interrupted)?
    }

    /// Holds a use of the first grant that has one free, and publishes the image.
    async fn reserve_and_publish(
        &self,
        source: Source,
        checked: Checked,
    ) -> Result<Taken, UploadError> {
        let deadline = Instant::now() + WAIT_FOR_OTHER;
        let (grant, image) = loop {
            let reserved = match &source {
                Source::Grant(grant) => self.reserve(None, grant, &checked).await?,
                Source::Key(key, tier) => self.reserve_any(key, tier, &checked).await?,
            };
            match reserved {
                Reserved::Held(held) => break *held,
                Reserved::Published(image) => return Ok(Taken::again(*image)),
                Reserved::Refused(error) => return Err(error),
                Reserved::Busy | Reserved::Pending if Instant::now() < deadline => {
                    tokio::time::sleep(POLL).await;
                }
                Reserved::Busy | Reserved::Pending => return Err(UploadError::TokenBusy),
            }
        };
        let through = match source {
            Source::Grant(_) => None,
            Source::Key(key, _) => Some(Through::Key(*key)),
        };
        kill_point!("token.reserve.after");
        self.put_or_discard(&image, grant.keep, &checked).await?;
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
            self.refuse_withheld(&image).await?;
            self.refuse_closed(on, now).await?;
            if on.is_some() {
                // The wallet may have uses left on other grants.
                return Err(UploadError::TokenBusy);
            }
            if let Some(fresh) = grants::find(&self.db, id).await? {
                self.refuse_void(&fresh).await?;
                let is_replaced = fresh.revoked_at.is_some() || fresh.serial != grant.serial;
                if is_replaced && grant.product.kind == ProductKind::Link {
                    return Err(UploadError::LinkRevoked);
                }
            }
            return Err(used_up(&grant));
        }
        kill_point!("token.publish.after");
        Ok(Taken::new(live(image, now, expires)))
    }

    /// Tries to hold a use of each grant of a key's wallet in turn. The grants are read anew each
    /// time: others use them up, and claims replace their links.
    async fn reserve_any(
        &self,
        key: &ApiKey,
        tier: &str,
        checked: &Checked,
    ) -> Result<Reserved, UploadError> {
        let owner = key.owner();
        let found = api_keys::find_grants(&self.db, &owner, tier, checked.upload_bytes()).await?;
        if found.is_empty() {
            // The upload that took the last use may have had the same bytes.
            let same = self.find_same_of(&owner, tier, checked).await?;
            return Ok(
                same.map_or(Reserved::Refused(UploadError::TokenUsed), |image| {
                    Reserved::Published(Box::new(image))
                }),
            );
        }
        for grant in &found {
            match self.reserve(Some(&owner), grant, checked).await? {
                Reserved::Busy | Reserved::Refused(_) => {}
                decided => return Ok(decided),
            }
        }
        // What was refused just now is not among the grants that are read next.
        Ok(Reserved::Busy)
    }

    /// Tries to hold a use of a grant, for the holder of its token or for an API key of the wallet
    /// `by`.
    async fn reserve(
        &self,
        by: Option<&Owner>,
        grant: &Grant,
        checked: &Checked,
    ) -> Result<Reserved, UploadError> {
        let now = self.clock.now();
        let (tier, id) = (&grant.product.tier, &grant.payment_id);
        let image = self.draft(checked, tier, Some(id.clone()), now);
        kill_point!("token.reserve.before");
        let until = now.plus(RESERVATION);
        let reserved = match grants::reserve_by(&self.db, by, grant, &image, until).await {
            Ok(reserved) => reserved,
            // The reservation may exist after all, and must not block the token until it
            // lapses.
            Err(error) => {
                self.resolve_in_doubt(&image.id, error).await?;
                return Ok(Reserved::Published(Box::new(image)));
            }
        };
        Ok(match reserved {
            Reservation::Held => Reserved::Held(Box::new((grant.clone(), image))),
            Reservation::Busy => Reserved::Busy,
            Reservation::Pending => Reserved::Pending,
            Reservation::Revoked => Reserved::Refused(UploadError::LinkRevoked),
            Reservation::UsedUp | Reservation::Same => {
                let same = match by {
                    Some(owner) => self.find_same_of(owner, tier, checked).await?,
                    None => self.find_same(id, checked).await?,
                };
                same.map_or_else(
                    || Reserved::Refused(used_up(grant)),
                    |image| Reserved::Published(Box::new(image)),
                )
            }
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
        self.put(&image, keep, checked).await?;
        self.note_compared(id, checked);
        Ok(())
    }

    /// Whether the bytes of a pending image are stored completely.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn is_stored(&self, id: &ImageId) -> Result<bool, UploadError> {
        let image = images::find(&self.db, id).await?;
        let image = image.filter(|image| image.state == ImageState::Pending);
        let Some(image) = image else {
            return Ok(false);
        };
        Ok(self.store.size(id, image.version).await? == Some(image.size_bytes))
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
            .find(|image| checked.is_order_of(image) && image.is_live(now)))
    }

    /// Finds the live image of the same bytes, for the same eyes, that a wallet paid for in this
    /// tier.
    async fn find_same_of(
        &self,
        owner: &Owner,
        tier: &str,
        checked: &Checked,
    ) -> Result<Option<Image>, UploadError> {
        let (bytes, now) = (checked.upload_sha256(), self.clock.now());
        let origin = checked.refresh().map(|it| it.origin.as_str());
        let seen = (checked.visibility(), origin);
        let same = images::find_same(&self.db, owner, tier, bytes, seen, now);
        Ok(same.await?)
    }

    async fn put_or_discard(
        &self,
        image: &Image,
        keep: Keep,
        checked: &Checked,
    ) -> Result<(), UploadError> {
        kill_point!("image.put.before");
        if let Err(error) = self.put(image, keep, checked).await {
            self.discard(&image.id).await;
            return Err(error);
        }
        kill_point!("image.put.after");
        Ok(())
    }

    /// Stores the object of a pending image and, if the image is to be kept up to date, where it
    /// comes from.
    async fn put(&self, image: &Image, keep: Keep, checked: &Checked) -> Result<(), UploadError> {
        if let (Some(origin), Some(refresh)) = (checked.origin(), checked.refresh()) {
            let next = image.created_at.plus(refresh.every);
            refreshes::insert(&self.db, &image.id, origin, next).await?;
        }
        let sidecar = Sidecar::new(image, keep);
        let bytes = checked.stored().clone();
        Ok(self.store.put(&image.id, bytes, &sidecar).await?)
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
            look: checked.look().cloned(),
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
            version: 0,
            refresh: checked.refresh().cloned(),
        }
    }
}

/// What pays for an upload.
enum Source {
    /// A grant whose token was sent.
    Grant(Box<Grant>),
    /// The grants of an API key's wallet in this tier.
    Key(Box<ApiKey>, String),
}

/// The outcome of trying to hold a use.
enum Reserved {
    /// The grant, a use of which is held, and the pending image.
    Held(Box<(Grant, Image)>),
    /// The same bytes are published already.
    Published(Box<Image>),
    /// Other uploads hold every use that is left.
    Busy,
    /// The same bytes are being uploaded by the same wallet.
    Pending,
    /// No grant takes the image.
    Refused(UploadError),
}

/// Refuses an upload by a key that has made all of its uploads of the day.
///
/// # Errors
/// [`UploadError::KeySpent`].
pub fn refuse_spent(key: &ApiKey, now: Timestamp) -> Result<(), UploadError> {
    let day = limits::day_of(now);
    if key.uploads_on(day) < key.uploads_per_day {
        return Ok(());
    }
    Err(UploadError::KeySpent {
        limit: key.uploads_per_day,
        wait: limits::start_of(day.saturating_add(1)).since(now),
    })
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
