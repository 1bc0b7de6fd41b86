//! Decides whether an upload may be published: first by the blocks, which are in memory, then by
//! the scanner, if there is one.

use std::sync::Arc;

use alloy_primitives::Address;

use super::blocks::Blocks;
use super::scanner::{Question, Scanner, Verdict};
use crate::model::pdq::Fingerprint;

/// Why an upload or a purchase is refused. Clients don't learn which block applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// The content.
    #[error(
        "This image is blocked on this server, so it was not stored. Copies of it are refused as well, also if they are smaller or changed. Send another image, or ask the operator if this is a mistake."
    )]
    Content,
    /// The wallet that pays, or that owns the token, link or key.
    #[error(
        "This wallet is blocked on this server. It can't buy uploads, and its tokens, links and keys take none. Ask the operator if this is a mistake, or for a refund of what was paid and not used."
    )]
    Wallet,
    /// The scanner did not answer.
    #[error(
        "The scanner that checks every image of this server does not respond at present, so nothing was stored. Send the same request again in a minute."
    )]
    Unscanned,
}

/// The blocks and the scanner of a deployment.
#[derive(Debug)]
pub struct Screening {
    blocks: Arc<Blocks>,
    scanner: Option<Scanner>,
}

impl Screening {
    /// Screens by these blocks, and by the scanner if there is one.
    pub const fn new(blocks: Arc<Blocks>, scanner: Option<Scanner>) -> Self {
        Self { blocks, scanner }
    }

    /// The blocks.
    pub const fn blocks(&self) -> &Arc<Blocks> {
        &self.blocks
    }

    /// Refuses a blocked wallet.
    ///
    /// # Errors
    /// [`Blocked::Wallet`].
    pub fn check_wallet(&self, wallet: &Address) -> Result<(), Blocked> {
        if self.blocks.refuse_wallet(wallet) {
            return Err(Blocked::Wallet);
        }
        Ok(())
    }

    /// Refuses blocked content. `hashes` are SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// [`Blocked::Content`].
    pub fn check_content(
        &self,
        hashes: &[&str],
        fingerprint: Option<&Fingerprint>,
    ) -> Result<(), Blocked> {
        match self.blocks.find_content(hashes, fingerprint) {
            None => Ok(()),
            Some(kind) => {
                let by = kind.as_str();
                tracing::info!(by, "an upload was refused, because its content is blocked");
                Err(Blocked::Content)
            }
        }
    }

    /// Asks the scanner, if there is one. Content that it wants blocked is refused by the caller and
    /// returned as `true`.
    ///
    /// # Errors
    /// [`Blocked::Content`] and [`Blocked::Unscanned`].
    pub async fn scan(&self, question: Question<'_>) -> Result<(), (Blocked, bool)> {
        let Some(scanner) = &self.scanner else {
            return Ok(());
        };
        match scanner.ask(question).await {
            Verdict::Allowed => Ok(()),
            Verdict::Refused { block } => Err((Blocked::Content, block)),
            Verdict::Silent => Err((Blocked::Unscanned, false)),
        }
    }
}
