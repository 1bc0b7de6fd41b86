//! Copies the objects of rows from one store to another. Several are copied at a time, and each is
//! hashed when it is read and again after it was written. Objects never change, so an existing one
//! is only compared.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

use crate::db::{Db, copies, images, retention};
use crate::model::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::model::sidecar::Sidecar;
use crate::store::{Store, StoreError};
use crate::system::clock::Timestamp;
use crate::system::disk::Floor;

/// How many rows are read at a time.
const PAGE: u32 = 500;
/// How many objects are copied, and held in memory, at the same time.
const AT_ONCE: usize = 16;
/// How long a renewal may take to be committed.
const RENEWING: Duration = Duration::from_mins(1);

/// Two stores, and the rows that decide what is copied from one to the other.
#[derive(Debug, Clone, Copy)]
pub struct Objects<'a> {
    /// The database whose images are copied.
    pub rows: &'a Db,
    /// The database in use, which knows changes since.
    pub live: &'a Db,
    /// The store to copy from.
    pub from: &'a Store,
    /// The store to copy to.
    pub to: &'a Store,
    /// Objects of images that were made before this time were compared by an earlier run. If they
    /// exist, only their size is compared.
    pub known_before: Timestamp,
    /// The space that must stay free at the target; `None`: there is no such limit.
    pub room: Option<&'a Floor>,
}

/// What became of an image's object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// It was copied, and its hash is the row's.
    Copied,
    /// It existed, and its hash is the row's.
    Same,
    /// It existed, an earlier run compared it, and its size is the row's.
    Known,
    /// There is none to copy: the upload is unfinished, or the image was deleted since.
    Gone,
    /// The object of a live image is missing or differs from its row, with the reason.
    Lost(&'static str),
}

/// The totals of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Rows of images that have objects.
    pub images: u64,
    /// Objects that were copied.
    pub copied: u64,
    /// The total size of those, in bytes.
    pub copied_bytes: u64,
    /// Objects that existed and have the same hash.
    pub same: u64,
    /// Objects that existed and were compared by an earlier run.
    pub known: u64,
    /// Images without an object, which need none.
    pub gone: u64,
    /// Live images whose object is missing or damaged.
    pub lost: u64,
}

/// The copy would use the space that is reserved for the server.
#[derive(Debug, thiserror::Error)]
#[error(
    "the disk that the server uses would have less free space than images.min_free: back up to another disk, or free space"
)]
pub struct NoRoom;

impl Objects<'_> {
    /// Copies all objects. Calls `tell` with the totals so far and the number of images, and for
    /// each image whose object was not simply copied.
    ///
    /// # Errors
    /// When a database or a store doesn't answer. Copied objects stay.
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
                .judge(image, "its object is missing, or has another size")
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
                "the bytes written for the image {} differ from the bytes read",
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

    /// Rewrites the sidecars of images that were renewed since they were copied.
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

    /// The sidecar of a live image is made from its row. That of an unfinished upload is copied: it
    /// has data that the row doesn't have.
    async fn sidecar(&self, image: &Image) -> Result<Sidecar, StoreError> {
        let found = match image.state {
            ImageState::Pending => self.from.find_sidecar(&image.id).await?,
            _ => None,
        };
        Ok(found.unwrap_or_else(|| Sidecar::of(image)))
    }

    /// Decides whether an image without an intact object should have one.
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

/// Marks an image in a copy of the database as deleting if its owner deleted it, or it expired,
/// while the copy was made. The reaper of the restored deployment finishes the delete.
///
/// # Errors
/// When the copy can't be written.
pub async fn let_go(copy: &Db, image: &Image, now: Timestamp) -> anyhow::Result<()> {
    if image.state == ImageState::Live {
        retention::claim_for_owner(copy, &image.id, now).await?;
    }
    Ok(())
}

/// Deletes images from the copied store that were deleted in the source since the first copy began.
/// A backup must not keep images that their owner deleted. Returns whether there may have been any.
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

/// Reads an image's object; `None` when there is none of the row's size.
async fn read(store: &Store, image: &Image) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = Vec::new();
    let whole = each(store, image, |piece| bytes.extend_from_slice(piece)).await?;
    Ok(whole.then_some(bytes))
}

/// Hashes an image's object; `None` when there is none of the row's size.
async fn hash(store: &Store, image: &Image) -> Result<Option<String>, StoreError> {
    let mut hash = Sha256::new();
    let whole = each(store, image, |piece| hash.update(piece)).await?;
    Ok(whole.then(|| hex::encode(hash.finalize())))
}

/// Calls a function with every piece of an image's object. `false`: there is none of the row's
/// size.
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
