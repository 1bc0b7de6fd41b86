//! Removal and restore.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::blocks::entries;
use super::{ActError, By, Trust, content};
use crate::db::blocks::NewBlocks;
use crate::db::images;
use crate::db::removals::{self, Done, Order};
use crate::model::admin_log::Act;
use crate::model::block::{Block, Target};
use crate::model::ids::ImageId;
use crate::model::image::ImageState;
use crate::model::removal::Ground;

/// What of an image a removal also blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockOf {
    /// Its bytes and its picture, whoever uploads them.
    Content,
    /// Its owner, whatever is uploaded.
    Wallet,
}

impl Trust {
    /// Removes an image: no server serves it any more, two seconds later at the latest. With a hold,
    /// its content is preserved for that time. An image that is removed already takes the new
    /// ground and reason. `block` says what is refused from now on, by blocks that are made in the
    /// same transaction.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn remove(
        &self,
        id: &ImageId,
        ground: Ground,
        hold: Option<Duration>,
        block: &[BlockOf],
        by: &By,
    ) -> Result<(), ActError> {
        let blocks = self.blocks_of(id, block, by).await?;
        self.remove_with(id, Some(ground), hold, &blocks, by).await
    }

    /// Removes the image of a case that is upheld. An image that is removed already keeps its ground
    /// and reason, unless `ground` is a legal demand: a case never turns 451 into 404.
    ///
    /// # Errors
    /// [`ActError`].
    pub(super) async fn remove_upheld(
        &self,
        id: &ImageId,
        ground: Ground,
        hold: Option<Duration>,
        block: &[BlockOf],
        by: &By,
    ) -> Result<(), ActError> {
        let blocks = self.blocks_of(id, block, by).await?;
        if ground == Ground::Policy {
            // Without a ground, only an image that is removed already fits.
            match self.remove_with(id, None, hold, &blocks, by).await {
                Err(ActError::Unfit {
                    state: ImageState::Live | ImageState::Pending,
                    ..
                }) => {}
                done => return done,
            }
        }
        self.remove_with(id, Some(ground), hold, &blocks, by).await
    }

    /// Removes an image with these blocks. `ground` as in [`Order::ground`].
    async fn remove_with(
        &self,
        id: &ImageId,
        ground: Option<Ground>,
        hold: Option<Duration>,
        blocks: &[Block],
        by: &By,
    ) -> Result<(), ActError> {
        let entries = &entries(&by.actor, blocks);
        let until = hold.map(|hold| self.clock.now().plus(hold));
        let targets: Vec<String> = blocks.iter().map(|it| it.target.to_string()).collect();
        let details = json!({"ground": ground, "holdUntil": until, "blocked": targets});
        let entry = by.entry(Act::Remove, id, details);
        let order = Order {
            ground,
            hold_until: until,
            is_cached: self.cdn.is_some(),
            entry: &entry,
            blocks: NewBlocks { blocks, entries },
        };
        self.carry_out(id, &order).await
    }

    /// Makes these blocks of an image.
    async fn blocks_of(
        &self,
        id: &ImageId,
        kinds: &[BlockOf],
        by: &By,
    ) -> Result<Vec<Block>, ActError> {
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        let image = images::find(&self.db, id).await?;
        let image = image.ok_or_else(|| ActError::Unknown(id.clone()))?;
        let mut targets = Vec::new();
        if kinds.contains(&BlockOf::Wallet) {
            let owner = image.owner.as_ref();
            let owner = owner.ok_or_else(|| ActError::NoWallet(id.clone()))?;
            targets.push(Target::Wallet(owner.wallet));
        }
        if kinds.contains(&BlockOf::Content) {
            targets.extend(content::targets(&self.store, &image).await?);
        }
        let now = self.clock.now();
        let block = |target| Block::by_operator(target, &by.reason, now, None);
        Ok(targets.into_iter().map(block).collect())
    }

    /// Preserves the content of an image for `hold`. A served image is removed by it. A hold is
    /// never shortened.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn hold(
        &self,
        id: &ImageId,
        ground: Option<Ground>,
        hold: Duration,
        by: &By,
    ) -> Result<(), ActError> {
        let until = self.clock.now().plus(hold);
        let entry = by.entry(Act::Hold, id, json!({"ground": ground, "holdUntil": until}));
        let mut order = Order {
            ground,
            hold_until: Some(until),
            is_cached: self.cdn.is_some(),
            entry: &entry,
            blocks: NewBlocks::default(),
        };
        match self.carry_out(id, &order).await {
            Err(ActError::Unfit {
                state: ImageState::Live,
                ..
            }) => {
                order.ground = Some(Ground::Policy);
                self.carry_out(id, &order).await
            }
            done => done,
        }
    }

    async fn carry_out(&self, id: &ImageId, order: &Order<'_>) -> Result<(), ActError> {
        let done = removals::remove(&self.db, id, order, self.clock.now()).await?;
        checked(id, done)?;
        if let Some(hot) = &self.hot {
            hot.forget(id);
        }
        tracing::info!(image.id = %id, held = order.hold_until.is_some(), "an image was removed");
        if order.hold_until.is_some()
            && let Err(error) = self.seal_in_turn(id).await
        {
            tracing::warn!(image.id = %id, %error, "the content of a held image could not be sealed yet; the server tries again every minute");
        }
        Ok(())
    }

    /// Serves a removed image again, until its expiry. The image must not be held.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn restore(&self, id: &ImageId, by: &By) -> Result<(), ActError> {
        let image = images::find(&self.db, id).await?;
        let image = image.ok_or_else(|| ActError::Unknown(id.clone()))?;
        if image.state != ImageState::Removed {
            return Err(ActError::Unfit {
                id: id.clone(),
                state: image.state,
            });
        }
        let removal = removals::find(&self.db, id).await?;
        if removal.is_some_and(|removal| removal.held_at.is_some()) {
            return Err(ActError::Held(id.clone()));
        }
        self.restore_content(id).await?;
        self.restore_row(id, false, by, Act::Restore).await
    }

    /// Serves a removed image again whose content is in its place. `is_held`: the image is held, and
    /// the hold ends.
    pub(super) async fn restore_row(
        &self,
        id: &ImageId,
        is_held: bool,
        by: &By,
        act: Act,
    ) -> Result<(), ActError> {
        let entry = by.entry(act, id, json!({"fate": "restored"}));
        let done = removals::restore(&self.db, id, is_held, &entry, self.clock.now()).await?;
        match done {
            Done::No(ImageState::Removed) => {
                let removal = removals::find(&self.db, id).await?;
                let is_held_now = removal.is_some_and(|removal| removal.held_at.is_some());
                Err(match (is_held, is_held_now) {
                    (false, true) => ActError::Held(id.clone()),
                    (true, false) => ActError::NotHeld(id.clone()),
                    _ if removals::is_refunded(&self.db, id).await? => {
                        ActError::Refunded(id.clone())
                    }
                    _ => ActError::Over(id.clone()),
                })
            }
            done => {
                checked(id, done)?;
                tracing::info!(image.id = %id, "a removed image was restored");
                Ok(())
            }
        }
    }
}

pub(super) fn checked(id: &ImageId, done: Done) -> Result<(), ActError> {
    match done {
        Done::Yes => Ok(()),
        Done::No(state) => Err(ActError::Unfit {
            id: id.clone(),
            state,
        }),
        Done::Unknown => Err(ActError::Unknown(id.clone())),
    }
}
