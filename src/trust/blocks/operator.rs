//! Blocks as the operator makes, lifts, lists and imports them.

use std::time::Duration;

use serde::Serialize;

use super::list::read;
use super::{block, replace, unblock};
use crate::db::blocks::{self as rows, Changed, Filter};
use crate::db::images;
use crate::model::block::{Block, Kind, Target, one_line};
use crate::model::ids::ImageId;
use crate::system::clock::Timestamp;
use crate::trust::{ActError, By, Trust, content};

/// How many images with blocked bytes are named.
const NAMED: u32 = 20;

/// A block, as answers and `--json` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockView {
    /// `sha256`, `pdq` or `wallet`.
    pub kind: &'static str,
    /// The hash or the wallet.
    pub value: String,
    /// The list that the block belongs to, or `operator`.
    pub source: String,
    /// Why, in the operator's words.
    pub reason: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it counts no more; null: it stays.
    pub expires_at: Option<Timestamp>,
}

impl From<&Block> for BlockView {
    fn from(block: &Block) -> Self {
        Self {
            kind: block.target.kind().as_str(),
            value: block.target.value(),
            source: block.source.clone(),
            reason: block.reason.clone(),
            created_at: block.created_at,
            expires_at: block.expires_at,
        }
    }
}

/// The outcome of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// The name of the list.
    pub source: String,
    /// How many blocks the list has now.
    pub blocks: usize,
    /// Blocks that are new.
    pub added: u64,
    /// Blocks whose reason or end changed.
    pub updated: u64,
    /// Blocks that were lifted, because the list holds them no more.
    pub removed: u64,
    /// Lines with hashes of other kinds, such as MD5, and lines with the status `NON_MALICIOUS`.
    pub skipped_lines: usize,
}

impl Trust {
    /// The targets that texts name: `sha256:HEX`, `pdq:HEX`, a wallet, or the id of an image, which
    /// stands for its bytes and its picture.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn block_targets(&self, texts: &[String]) -> Result<Vec<Target>, ActError> {
        let mut targets = Vec::new();
        for text in texts {
            let Some(id) = ImageId::parse(text) else {
                let target = text.parse::<Target>();
                targets.push(target.map_err(|error| ActError::Bad(error.to_string()))?);
                continue;
            };
            let image = images::find(&self.db, &id).await?;
            let image = image.ok_or(ActError::Unknown(id))?;
            targets.extend(content::targets(&self.store, &image).await?);
        }
        Ok(targets)
    }

    /// Refuses these targets from now on, for `time` or until a person lifts the blocks. Images that
    /// are served already stay.
    ///
    /// # Errors
    /// [`ActError::Database`].
    pub async fn block(
        &self,
        targets: &[Target],
        time: Option<Duration>,
        by: &By,
    ) -> Result<Vec<BlockView>, ActError> {
        let now = self.clock.now();
        let expires = time.map(|time| now.plus(time));
        let made = targets
            .iter()
            .map(|target| Block::by_operator(*target, &by.reason, now, expires));
        let made: Vec<Block> = made.collect();
        block(&self.db, &by.actor, &made, now).await?;
        Ok(made.iter().map(BlockView::from).collect())
    }

    /// Images that are served although their bytes are among these targets, at most 20 for each.
    ///
    /// # Errors
    /// [`ActError::Database`].
    pub async fn served_among(&self, targets: &[Target]) -> Result<Vec<ImageId>, ActError> {
        let mut served = Vec::new();
        for target in targets.iter().filter(|it| it.kind() == Kind::Sha256) {
            served.extend(rows::find_served(&self.db, &target.value(), NAMED).await?);
        }
        Ok(served)
    }

    /// Lifts the blocks of a target, of all lists or of the list `source`. Returns how many there
    /// were.
    ///
    /// # Errors
    /// [`ActError::Database`].
    pub async fn unblock(
        &self,
        target: &Target,
        source: Option<&str>,
        by: &By,
    ) -> Result<u64, ActError> {
        let why = (by.actor(), by.reason());
        Ok(unblock(&self.db, target, source, why, self.clock.now()).await?)
    }

    /// Makes the blocks of the list `source` those that `text` holds. `kind` is the type of lines
    /// that name none.
    ///
    /// # Errors
    /// [`ActError::Bad`] if the name or a line is not allowed, and [`ActError::Database`].
    pub async fn import_blocks(
        &self,
        text: &str,
        source: &str,
        kind: Option<Kind>,
        by: &By,
    ) -> Result<Imported, ActError> {
        Block::check_source(source).map_err(|error| ActError::Bad(error.to_string()))?;
        let found = read(text, kind).map_err(|error| ActError::Bad(error.to_string()))?;
        let now = self.clock.now();
        let made = found.targets.iter().map(|(target, expires_at)| Block {
            target: *target,
            source: source.to_owned(),
            reason: one_line(by.reason()),
            created_at: now,
            expires_at: *expires_at,
        });
        let made: Vec<Block> = made.collect();
        let why = (by.actor(), by.reason());
        let Changed {
            added,
            updated,
            removed,
        } = replace(&self.db, source, &made, why, now).await?;
        Ok(Imported {
            source: source.to_owned(),
            blocks: made.len(),
            added,
            updated,
            removed,
            skipped_lines: found.skipped,
        })
    }

    /// Lists blocks in order of kind, value and list, at most `most`.
    ///
    /// # Errors
    /// [`ActError::Database`].
    pub async fn blocks(&self, filter: &Filter, most: u32) -> Result<Vec<Block>, ActError> {
        Ok(rows::list(&self.db, filter, most).await?)
    }

    /// Counts the blocks of each list and kind.
    ///
    /// # Errors
    /// [`ActError::Database`].
    pub async fn count_blocks(&self) -> Result<Vec<(String, Kind, u64)>, ActError> {
        Ok(rows::count(&self.db).await?)
    }
}
