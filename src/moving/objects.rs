//! Copies the objects of rows from one store to another. Several are copied at a time, and each is
//! hashed when it is read and again after it was written. Objects never change, so an existing one
//! is only compared. New content of an image is another object.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

use crate::db::{Db, copies, images, refreshes, removals, retention};
use crate::model::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::model::sidecar::Sidecar;
use crate::store::{Listed, Object, Store, StoreError};
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
    /// It is sealed under a legal hold, and the sealed copy has the row's hash.
    Sealed,
    /// There is none to copy: the upload is unfinished, or the image was deleted since.
    Gone,
    /// The object of a live or removed image is missing or differs from its row, with the reason.
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
    /// Objects that are sealed under a legal hold.
    pub sealed: u64,
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

    /// Copies one image. Its content may be replaced meanwhile: then the copy has the newer one.
    async fn carry_one(&self, listed: &Image) -> anyhow::Result<Carried> {
        let mut carried = self.carry_content(listed).await?;
        let mut version = listed.version;
        while let Carried::Lost(_) = carried
            && let Some(live) = images::find(self.live, &listed.id).await?
            && live.version > version
        {
            version = live.version;
            if let Some(at) = live.modified_at() {
                refreshes::adopt(self.rows, &live, at).await?;
            }
            carried = self.carry_content(&live).await?;
        }
        Ok(carried)
    }

    async fn carry_content(&self, image: &Image) -> anyhow::Result<Carried> {
        if image.state == ImageState::Removed
            && let Some(carried) = self.carry_sealed(image).await?
        {
            return Ok(carried);
        }
        let (id, version) = (&image.id, image.version);
        let is_there = self.to.size(id, version).await? == Some(image.size_bytes);
        if is_there && began(image) < self.known_before {
            return Ok(Carried::Known);
        }
        let sidecar = self.sidecar(image).await?;
        let hash_there = async || hash(self.to.open_whole(id, version).await?, image).await;
        if is_there && hash_there().await?.as_ref() == Some(&image.sha256) {
            self.describe(image, &sidecar).await?;
            return Ok(Carried::Same);
        }
        let Some(bytes) = read(self.from.open_whole(id, version).await?, image).await? else {
            // Its hold may have begun since the rows were read.
            if let Some(carried) = self.carry_sealed(image).await? {
                return Ok(carried);
            }
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
        if version == 0 {
            self.to.put(id, bytes.into(), &sidecar).await?;
        } else {
            self.to.put_content(id, version, bytes.into()).await?;
            self.to.describe(id, &sidecar).await?;
        }
        if hash_there().await?.as_ref() != Some(&image.sha256) {
            anyhow::bail!(
                "the bytes written for the image {} differ from the bytes read",
                image.id
            );
        }
        Ok(Carried::Copied)
    }

    /// Copies the sealed content of a held image to the sealed prefix of the other store. `None`:
    /// its content is not sealed.
    async fn carry_sealed(&self, image: &Image) -> anyhow::Result<Option<Carried>> {
        let id = &image.id;
        if self.from.sealed_size(id).await?.is_none() {
            return Ok(None);
        }
        let is_there = self.to.sealed_size(id).await? == Some(image.size_bytes);
        if is_there && began(image) < self.known_before {
            return Ok(Some(Carried::Sealed));
        }
        let hash_there = async || hash(self.to.open_sealed(id).await?, image).await;
        if !is_there || hash_there().await?.as_ref() != Some(&image.sha256) {
            let read = read(self.from.open_sealed(id).await?, image).await?;
            let is_whole = |bytes: &Vec<u8>| hex::encode(Sha256::digest(bytes)) == image.sha256;
            let Some(bytes) = read.filter(is_whole) else {
                return Ok(Some(Carried::Lost(
                    "its sealed content has another SHA-256 than its row",
                )));
            };
            if let Some(room) = self.room {
                room.check().map_err(|_| NoRoom)?;
            }
            let sidecar = Sidecar::of(image);
            self.to.put_sealed(id, bytes.into(), &sidecar).await?;
            if hash_there().await?.as_ref() != Some(&image.sha256) {
                anyhow::bail!("the bytes written for the sealed image {id} differ from those read");
            }
        }
        // An earlier run may have copied it before it was sealed.
        self.to
            .delete_contents(&[(id.clone(), image.version)])
            .await?;
        self.to.delete(id).await?;
        Ok(Some(Carried::Sealed))
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
        let is_kept = |image: &Image| matches!(image.state, ImageState::Live | ImageState::Removed);
        if !is_kept(image) {
            return Ok(Carried::Gone);
        }
        let now = images::find(self.live, &image.id).await?;
        Ok(match now {
            Some(now) if is_kept(&now) => Carried::Lost(how),
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
            Carried::Sealed => self.sealed += 1,
            Carried::Gone => self.gone += 1,
            Carried::Lost(_) => self.lost += 1,
        }
    }
}

/// When the content of an image came into being.
fn began(image: &Image) -> Timestamp {
    let replaced = image.refresh.as_ref().and_then(|it| it.replaced_at);
    replaced.unwrap_or(image.created_at)
}

/// Marks an image in a copy of the database as deleting if its owner deleted it, or it expired,
/// while the copy was made. The reaper of the restored deployment finishes the delete.
///
/// # Errors
/// When the copy can't be written.
pub async fn let_go(copy: &Db, image: &Image, now: Timestamp) -> anyhow::Result<()> {
    if matches!(image.state, ImageState::Live | ImageState::Removed) {
        retention::claim_for_owner(copy, &image.id, false, now).await?;
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

/// Finds contents in the copied store that a refresh has replaced since an earlier copy, and later
/// contents of images that were deleted since. By these rows, nothing needs them.
///
/// # Errors
/// When the database or the store doesn't answer.
pub async fn find_replaced(rows: &Db, to: &Store) -> anyhow::Result<Vec<(ImageId, u32)>> {
    let (mut replaced, mut listed) = (Vec::new(), to.list());
    while let Some(next) = listed.next().await {
        let (id, version) = match next? {
            Listed::Content(id, version) => (id, version),
            Listed::Image(id) => (id, 0),
            Listed::Sidecar(_) | Listed::Variant(..) | Listed::Foreign(_) => continue,
        };
        let Some(image) = images::find(rows, &id).await? else {
            continue;
        };
        let is_over = matches!(image.state, ImageState::Deleted | ImageState::Discarded);
        if image.version != version || (is_over && version > 0) {
            replaced.push((id, version));
        }
    }
    Ok(replaced)
}

/// Deletes sealed content from the copied store whose hold ended.
///
/// # Errors
/// When the database or the store doesn't answer.
pub async fn forget_released(rows: &Db, to: &Store) -> anyhow::Result<()> {
    let mut sealed = to.list_sealed();
    while let Some(id) = sealed.next().await {
        let id = id?;
        let removal = removals::find(rows, &id).await?;
        if removal.is_none_or(|removal| removal.held_at.is_none()) {
            to.delete_sealed(&id).await?;
        }
    }
    Ok(())
}

/// Reads an image's object; `None` when there is none of the row's size.
async fn read(object: Option<Object>, image: &Image) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = Vec::new();
    let whole = each(object, image, |piece| bytes.extend_from_slice(piece)).await?;
    Ok(whole.then_some(bytes))
}

/// Hashes an image's object; `None` when there is none of the row's size.
async fn hash(object: Option<Object>, image: &Image) -> Result<Option<String>, StoreError> {
    let mut hash = Sha256::new();
    let whole = each(object, image, |piece| hash.update(piece)).await?;
    Ok(whole.then(|| hex::encode(hash.finalize())))
}

/// Calls a function with every piece of an image's object. `false`: there is none of the row's
/// size.
async fn each(
    object: Option<Object>,
    image: &Image,
    mut take: impl FnMut(&[u8]),
) -> Result<bool, StoreError> {
    let Some(mut object) = object else {
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
