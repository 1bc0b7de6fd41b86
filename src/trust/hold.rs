//! Legal holds: sealed content, the end of a hold, and the report to an authority.
//!
//! A hold is a fact of the database first, which nothing that deletes overlooks. The content is then
//! moved to the sealed prefix, by the process that acted or by a server a minute later. The database
//! says that the sealed prefix may hold content for as long as it may. One process at a time moves
//! content, by a lease, so that no move crosses a delete of the same content.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::remove::checked;
use super::{ActError, By, LONGEST_REASON, Trust, text};
use crate::db::{images, jobs, removals};
use crate::model::admin_log::Act;
use crate::model::ids::ImageId;
use crate::model::image::ImageState;
use crate::retention::variants;

/// How often a server looks for content that has to be sealed, or whose hold ended.
const LOOK: Duration = Duration::from_mins(1);
/// The name of the lease, and for how long a process may have it to itself.
const JOB: &str = "holds";
const LEASE: Duration = Duration::from_mins(5);
/// How often an act tries to take the lease, and the pause between two tries.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);
/// How many images one look handles.
const MOST: u32 = 100;

/// What a release does with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its content is deleted.
    Delete,
    /// The image is served again.
    Restore,
}

impl Trust {
    /// Ends the hold of an image, by a person's word. `is_early` confirms that its time is not over.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn release(
        &self,
        id: &ImageId,
        fate: Fate,
        is_early: bool,
        by: &By,
    ) -> Result<(), ActError> {
        let removal = removals::find(&self.db, id).await?;
        let Some(removal) = removal else {
            let image = images::find(&self.db, id).await?;
            return Err(image.map_or_else(
                || ActError::Unknown(id.clone()),
                |_| ActError::NotHeld(id.clone()),
            ));
        };
        let (Some(_), Some(until)) = (removal.held_at, removal.hold_until) else {
            return Err(ActError::NotHeld(id.clone()));
        };
        if until > self.clock.now() && !is_early {
            return Err(ActError::TooEarly {
                id: id.clone(),
                until,
            });
        }
        let _alone = self.turn.lock().await;
        self.take_turn(TRIES).await?;
        let done = self.release_alone(id, fate, by).await;
        jobs::return_job(&self.db, JOB, &self.holder).await?;
        done
    }

    async fn release_alone(&self, id: &ImageId, fate: Fate, by: &By) -> Result<(), ActError> {
        match fate {
            Fate::Restore => {
                self.restore_content(id).await?;
                let restored = self.restore_row(id, true, by, Act::Release).await;
                if restored.is_err() && self.store.sealed_size(id).await?.is_some() {
                    // It stays held, and so sealed alone.
                    self.delete_served(id).await?;
                }
                restored?;
            }
            Fate::Delete => {
                let entry = by.entry(Act::Release, id, json!({"fate": "deleted"}));
                let done = removals::release(&self.db, id, &entry, self.clock.now()).await?;
                if done == removals::Done::No(ImageState::Removed) {
                    return Err(ActError::Renewing(id.clone()));
                }
                checked(id, done)?;
                tracing::info!(image.id = %id, "a hold ended, and its content is deleted");
            }
        }
        if let Err(error) = self.unseal(id).await {
            tracing::warn!(image.id = %id, %error, "sealed content could not be deleted yet; the server tries again every minute");
        }
        Ok(())
    }

    /// Records that an authority acknowledged the report of a removed image.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn acknowledge(
        &self,
        id: &ImageId,
        reference: &str,
        by: &By,
    ) -> Result<(), ActError> {
        let reference = text(
            "The reference of the report",
            "--reference, or `reference` of the admin API",
            reference,
            LONGEST_REASON,
        )?;
        let entry = by.entry(Act::Acknowledge, id, json!({"reference": reference}));
        let now = self.clock.now();
        let done = removals::acknowledge(&self.db, id, &reference, &entry, now).await?;
        checked(id, done)
    }

    /// Takes the lease, or tries again as often as `tries` says.
    async fn take_turn(&self, tries: u32) -> Result<(), ActError> {
        for round in 1..=tries {
            let now = self.clock.now();
            let until = now.plus(LEASE);
            if jobs::take_job(&self.db, JOB, &self.holder, until, now).await? {
                return Ok(());
            }
            if round < tries {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Err(ActError::Busy)
    }

    /// Moves the content of a held image to the sealed prefix, when no other process moves any.
    pub(super) async fn seal_in_turn(&self, id: &ImageId) -> Result<(), ActError> {
        let _alone = self.turn.lock().await;
        self.take_turn(TRIES).await?;
        let sealed = self.seal(id).await;
        jobs::return_job(&self.db, JOB, &self.holder).await?;
        sealed
    }

    /// Moves the content of a held image to the sealed prefix, and deletes its variants. Does nothing
    /// if it is there, or if the hold ended meanwhile.
    async fn seal(&self, id: &ImageId) -> Result<(), ActError> {
        let removal = removals::find(&self.db, id).await?;
        let is_unsealed = removal.is_some_and(|it| it.held_at.is_some() && it.sealed_at.is_none());
        if !is_unsealed {
            return Ok(());
        }
        let image = images::find(&self.db, id).await?;
        let image = image.ok_or_else(|| ActError::Unknown(id.clone()))?;
        let ids = std::slice::from_ref(id);
        variants::delete_of(&self.db, &self.store, ids, self.clock.now()).await?;
        let sealed = self.store.seal(id, image.version).await?;
        if sealed != Some(image.size_bytes) {
            return Err(ActError::ContentMissing(id.clone()));
        }
        removals::note_sealed(&self.db, id, self.clock.now()).await?;
        self.delete_served(id).await
    }

    /// Deletes the content of an image from where images are served from.
    async fn delete_served(&self, id: &ImageId) -> Result<(), ActError> {
        if let Some(image) = images::find(&self.db, id).await? {
            let content = [(id.clone(), image.version)];
            self.store.delete_contents(&content).await?;
        }
        Ok(self.store.delete(id).await?)
    }

    /// Puts the content of a removed image back where images are served from, if it is sealed. The
    /// sealed copy stays.
    pub(super) async fn restore_content(&self, id: &ImageId) -> Result<(), ActError> {
        let image = images::find(&self.db, id).await?;
        let image = image.ok_or_else(|| ActError::Unknown(id.clone()))?;
        let version = image.version;
        if self.store.size(id, version).await? == Some(image.size_bytes) {
            return Ok(());
        }
        self.store.copy_from_seal(id, version).await?;
        if self.store.size(id, version).await? == Some(image.size_bytes) {
            Ok(())
        } else {
            Err(ActError::ContentMissing(id.clone()))
        }
    }

    /// Deletes sealed content whose hold ended. The content of an image that isn't being deleted is
    /// in its place before; that of any other is deleted wherever it is.
    async fn unseal(&self, id: &ImageId) -> Result<(), ActError> {
        let removal = removals::find(&self.db, id).await?;
        if removal.is_some_and(|removal| removal.held_at.is_some()) {
            // It is held again.
            return Ok(());
        }
        let image = images::find(&self.db, id).await?;
        match image.map(|image| image.state) {
            // A hold that begins from here on seals the content anew.
            Some(ImageState::Live | ImageState::Removed) => self.restore_content(id).await?,
            // It may not have been sealed yet.
            _ => self.delete_served(id).await?,
        }
        self.store.delete_sealed(id).await?;
        Ok(removals::note_unsealed(&self.db, id).await?)
    }

    /// Seals and deletes what processes that stopped left to do. Returns how many images it handled:
    /// none while another process does so.
    ///
    /// # Errors
    /// [`ActError`] when the database fails. A failure of one image is logged.
    pub async fn finish_holds(&self) -> Result<u64, ActError> {
        let is_idle = removals::find_unsealed(&self.db, 1).await?.is_empty()
            && removals::find_released(&self.db, 1).await?.is_empty();
        if is_idle {
            return Ok(0);
        }
        let _alone = self.turn.lock().await;
        match self.take_turn(1).await {
            Ok(()) => {}
            Err(ActError::Busy) => return Ok(0),
            Err(error) => return Err(error),
        }
        let finished = self.finish_alone().await;
        jobs::return_job(&self.db, JOB, &self.holder).await?;
        finished
    }

    async fn finish_alone(&self) -> Result<u64, ActError> {
        let mut handled = 0;
        for id in removals::find_unsealed(&self.db, MOST).await? {
            match self.seal(&id).await {
                Ok(()) => handled += 1,
                Err(error) => {
                    tracing::error!(image.id = %id, %error, "the content of a held image could not be sealed");
                }
            }
        }
        for id in removals::find_released(&self.db, MOST).await? {
            match self.unseal(&id).await {
                Ok(()) => handled += 1,
                Err(error) => {
                    tracing::error!(image.id = %id, %error, "the sealed content of a released image could not be deleted");
                }
            }
        }
        Ok(handled)
    }

    /// Runs [`Trust::finish_holds`] every minute, until the future is dropped.
    pub async fn finish_holds_forever(self: Arc<Self>) {
        loop {
            if let Err(error) = self.finish_holds().await {
                tracing::warn!(%error, "holds could not be looked at; trying again in a minute");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
