//! Copying the objects that rows speak of from one store to another: a few at a time, each hashed as it is read
//! and again where it was written. An object never changes, so one that is there is only looked at.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::db::{Db, copies, images, retention};
use crate::disk::Floor;
use crate::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::model::sidecar::Sidecar;
use crate::store::{Store, StoreError};

/// Rows that are read at a time.
const PAGE: u32 = 500;
/// Objects that are copied, and held in memory, at the same time.
const AT_ONCE: usize = 16;
/// How long a renewal may be on its way into the database.
const RENEWING: Duration = Duration::from_mins(1);

/// Two stores, and the rows that say what is copied from one to the other.
#[derive(Debug, Clone, Copy)]
pub struct Objects<'a> {
    /// Whose images are copied.
    pub rows: &'a Db,
    /// Where it is known what became of them since.
    pub live: &'a Db,
    /// Where their objects are.
    pub from: &'a Store,
    /// Where they go.
    pub to: &'a Store,
    /// Objects of images that were made before this were compared when they were written: of those that are there,
    /// the length is enough.
    pub known_before: Timestamp,
    /// The room that has to stay where they go; `None`: as much as there is may be taken.
    pub room: Option<&'a Floor>,
}

/// What became of the object of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// It is copied, and what was written is what its row says.
    Copied,
    /// It was there, and by its hash it is the same.
    Same,
    /// It was there when it was compared before, and has the same length.
    Known,
    /// There is none to copy: its upload isn't through, or it was deleted since.
    Gone,
    /// A live image has none, or another one than its row says. How.
    Lost(&'static str),
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Rows of images that have objects.
    pub images: u64,
    /// Objects that were copied, and their bytes.
    pub copied: u64,
    /// The bytes of those.
    pub copied_bytes: u64,
    /// Objects that were there, and are the same by their hash.
    pub same: u64,
    /// Objects that were there, and were compared before.
    pub known: u64,
    /// Images that have none (any more).
    pub gone: u64,
    /// Live images whose object is lost.
    pub lost: u64,
}

/// The copy would take the room that is kept for the server.
#[derive(Debug, thiserror::Error)]
#[error(
    "the disk that the server uses has less room than images.min_free: back up to another one, or make room"
)]
pub struct NoRoom;

impl Objects<'_> {
    /// Copies them all. `tell` hears of each page's sum, of how many there are, and of every image whose object
    /// wasn't simply copied.
    ///
    /// # Errors
    /// When a database or a store doesn't answer; what is copied stays.
    pub async fn carry(
        &self,
        mut tell: impl FnMut(&Sum, u64),
        mut name: impl FnMut(&Image, &Carried),
    ) -> anyhow::Result<Sum> {
        let all = copies::count_kept(self.rows).await?;
        let mut sum = Sum::default();
        let mut last = String::new();
        loop {
            let page = copies::page_kept(self.rows, &last, PAGE).await?;
            let Some(end) = page.last() else { break };
            end.id.as_str().clone_into(&mut last);
            let mut carried = stream::iter(page)
                .map(async |image| (self.carry_one(&image).await, image))
                .buffer_unordered(AT_ONCE);
            while let Some((carried, image)) = carried.next().await {
                let carried = carried?;
                sum.add(&image, &carried);
                name(&image, &carried);
            }
            tell(&sum, all);
        }
        if sum.known > 0 {
            self.describe_renewed().await?;
        }
        Ok(sum)
    }

    async fn carry_one(&self, image: &Image) -> anyhow::Result<Carried> {
        let is_there = self.to.size(&image.id).await? == Some(image.size_bytes);
        if is_there && image.created_at < self.known_before {
            return Ok(Carried::Known);
        }
        let sidecar = self.sidecar(image).await?;
        if is_there && hash(self.to, image).await?.as_ref() == Some(&image.sha256) {
            self.describe(image, &sidecar).await?;
            return Ok(Carried::Same);
        }
        let Some(bytes) = read(self.from, image).await? else {
            return self
                .judge(image, "its object is missing, or has another length")
                .await;
        };
        if hex::encode(Sha256::digest(&bytes)) != image.sha256 {
            return self
                .judge(image, "its object has another SHA-256 than its row")
                .await;
        }
        if let Some(room) = self.room {
            room.check().map_err(|_| NoRoom)?;
        }
        self.to.put(&image.id, bytes.into(), &sidecar).await?;
        if hash(self.to, image).await?.as_ref() != Some(&image.sha256) {
            anyhow::bail!(
                "what was written of the image {} is not what was read",
                image.id
            );
        }
        Ok(Carried::Copied)
    }

    async fn describe(&self, image: &Image, sidecar: &Sidecar) -> Result<(), StoreError> {
        if self.to.is_described(&image.id, sidecar).await? {
            return Ok(());
        }
        self.to.describe(&image.id, sidecar).await
    }

    /// The records of images that were renewed since they were copied.
    async fn describe_renewed(&self) -> anyhow::Result<()> {
        // A renewal is dated before it is committed.
        let since = self.known_before.minus(RENEWING);
        let mut last = String::new();
        loop {
            let page = copies::page_renewed(self.rows, since, &last, PAGE).await?;
            let Some(end) = page.last() else {
                return Ok(());
            };
            end.id.as_str().clone_into(&mut last);
            for image in page {
                if image.state == ImageState::Live {
                    self.describe(&image, &Sidecar::of(&image)).await?;
                }
            }
        }
    }

    /// Of a live image the record is made anew; that of an upload under way knows more than its row does.
    async fn sidecar(&self, image: &Image) -> Result<Sidecar, StoreError> {
        let found = match image.state {
            ImageState::Pending => self.from.find_sidecar(&image.id).await?,
            _ => None,
        };
        Ok(found.unwrap_or_else(|| Sidecar::of(image)))
    }

    /// Of an image without a good object: whether it should have one.
    async fn judge(&self, image: &Image, how: &'static str) -> anyhow::Result<Carried> {
        if image.state != ImageState::Live {
            return Ok(Carried::Gone);
        }
        let now = images::find(self.live, &image.id).await?;
        Ok(match now {
            Some(now) if now.state == ImageState::Live => Carried::Lost(how),
            _ => Carried::Gone,
        })
    }
}

impl Sum {
    fn add(&mut self, image: &Image, carried: &Carried) {
        self.images += 1;
        match carried {
            Carried::Copied => {
                self.copied += 1;
                self.copied_bytes += image.size_bytes;
            }
            Carried::Same => self.same += 1,
            Carried::Known => self.known += 1,
            Carried::Gone => self.gone += 1,
            Carried::Lost(_) => self.lost += 1,
        }
    }
}

/// Lets an image go in a copy of the database whose owner deleted it, or whose time ended, while the copy was
/// made: the reaper of who uses the copy finishes that.
///
/// # Errors
/// When the copy can't be written.
pub async fn let_go(copy: &Db, image: &Image, now: Timestamp) -> anyhow::Result<()> {
    if image.state == ImageState::Live {
        retention::claim_for_owner(copy, &image.id, now).await?;
    }
    Ok(())
}

/// Deletes from a copied store what was deleted where it was copied from, since the first copy began: nobody keeps
/// what its owner wanted gone. Whether there may have been anything.
///
/// # Errors
/// When the database or the store doesn't answer.
pub async fn forget_deleted(rows: &Db, to: &Store, since: Timestamp) -> anyhow::Result<bool> {
    let mut last = String::new();
    loop {
        let page = copies::page_deleted(rows, since, &last, PAGE).await?;
        let Some(end) = page.last() else {
            return Ok(!last.is_empty());
        };
        end.id.as_str().clone_into(&mut last);
        let ids: Vec<ImageId> = page.into_iter().map(|image| image.id).collect();
        if let Some(error) = to.delete_many(&ids).await.failure {
            return Err(error.into());
        }
    }
}

/// The bytes of an image's object; `None` when there is none of its length.
async fn read(store: &Store, image: &Image) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = Vec::new();
    let whole = each(store, image, |piece| bytes.extend_from_slice(piece)).await?;
    Ok(whole.then_some(bytes))
}

/// The hash of an image's object; `None` when there is none of its length.
async fn hash(store: &Store, image: &Image) -> Result<Option<String>, StoreError> {
    let mut hash = Sha256::new();
    let whole = each(store, image, |piece| hash.update(piece)).await?;
    Ok(whole.then(|| hex::encode(hash.finalize())))
}

/// Hands on every piece of an image's object. `false`: there is none of its length.
async fn each(
    store: &Store,
    image: &Image,
    mut take: impl FnMut(&[u8]),
) -> Result<bool, StoreError> {
    let Some(mut object) = store.open_whole(&image.id).await? else {
        return Ok(false);
    };
    if object.size() != image.size_bytes {
        return Ok(false);
    }
    while let Some(piece) = object.next().await? {
        take(&piece);
    }
    Ok(true)
}
