//! Screens uploads before they cost anything: by the blocks and by the operator's scanner.

use alloy_primitives::Address;
use bytes::Bytes;

use super::format::format_of;
use super::{Checked, Images, UploadError, pdq};
use crate::db::{blocks as rows, payments};
use crate::keys::secrets::sha256_hex;
use crate::model::block::{Block, Kind, Target};
use crate::model::format::Format;
use crate::model::image::Image;
use crate::model::payment::Grant;
use crate::model::pdq::Fingerprint;
use crate::system::workers;
use crate::trust::scanner::Question;
use crate::trust::{Blocked, blocks};

/// The source of the blocks that the scanner asks for.
const SCANNER: &str = "scanner";

/// The hashes of a file that blocks compare.
#[derive(Debug)]
pub struct Hashes {
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The PDQ hash of its picture, or why there is none.
    pub fingerprint: Result<Fingerprint, String>,
}

/// Computes the hashes of a file. Blocks the thread while it decodes the picture.
pub fn hashes_of(bytes: &[u8]) -> Hashes {
    let fingerprint = match format_of(bytes) {
        Ok(format) => pdq::fingerprint(bytes, format).map_err(|it| it.to_string()),
        Err(error) => Err(error.to_string()),
    };
    Hashes {
        sha256: sha256_hex(bytes),
        fingerprint,
    }
}

impl Images {
    /// Refuses new purchases and uploads of a blocked wallet.
    ///
    /// # Errors
    /// [`UploadError::Blocked`].
    pub fn refuse_wallet(&self, wallet: &Address) -> Result<(), UploadError> {
        match &self.screening {
            Some(screening) => Ok(screening.check_wallet(wallet)?),
            None => Ok(()),
        }
    }

    /// Refuses blocked content, and uploads of a blocked wallet. `owner` is the wallet that pays, or
    /// that owns the token, link or key.
    ///
    /// # Errors
    /// [`UploadError::Blocked`]; [`UploadError::Interrupted`] if a worker stopped.
    pub async fn refuse_blocked(
        &self,
        checked: &Checked,
        owner: Option<&Address>,
    ) -> Result<(), UploadError> {
        let Some(screening) = &self.screening else {
            return Ok(());
        };
        let version = screening.blocks().version();
        if let Some(wallet) = owner {
            screening.check_wallet(wallet)?;
        }
        // Most copies of blocked content are exact, and need no decoding.
        let hashes = [checked.sha256(), checked.upload_sha256()];
        screening.check_content(&hashes, checked.fingerprint())?;
        if screening.blocks().need_fingerprints() && checked.fingerprint().is_none() {
            checked.take_fingerprint().await?;
            screening.check_content(&[], checked.fingerprint())?;
        }
        checked.note_compared_with(version);
        Ok(())
    }

    /// Refuses to renew an image whose bytes are blocked.
    ///
    /// # Errors
    /// [`UploadError::Blocked`].
    pub fn refuse_blocked_image(&self, image: &Image) -> Result<(), UploadError> {
        match &self.screening {
            Some(screening) => {
                Ok(screening.check_content(&[&image.sha256, &image.upload_sha256], None)?)
            }
            None => Ok(()),
        }
    }

    /// Asks the scanner about an image that passed [`Images::refuse_blocked`]. Without a scanner,
    /// everything is allowed.
    ///
    /// # Errors
    /// [`UploadError::Blocked`].
    pub async fn scan(&self, checked: &Checked, tier: &str) -> Result<(), UploadError> {
        let Some(screening) = &self.screening else {
            return Ok(());
        };
        let question = Question {
            bytes: checked.stored(),
            content_type: checked.picture().format.content_type(),
            sha256: checked.sha256(),
            tier,
        };
        let Err((blocked, is_to_block)) = screening.scan(question).await else {
            return Ok(());
        };
        if is_to_block {
            self.block_for_scanner(checked).await;
        }
        Err(blocked.into())
    }

    /// Does both: refuses what is blocked, and asks the scanner about the rest. Call it after the
    /// checks of an upload and before money moves.
    ///
    /// # Errors
    /// [`UploadError::Blocked`]; [`UploadError::Interrupted`] if a worker stopped.
    pub async fn screen(
        &self,
        checked: &Checked,
        owner: Option<&Address>,
        tier: &str,
    ) -> Result<(), UploadError> {
        self.refuse_blocked(checked, owner).await?;
        self.scan(checked, tier).await
    }

    /// Refuses the holder of a grant if its payer is blocked.
    pub(super) async fn refuse_payer(&self, grant: &Grant) -> Result<(), UploadError> {
        let Some(screening) = &self.screening else {
            return Ok(());
        };
        if !screening.blocks().refuse_wallets() {
            return Ok(());
        }
        let payment = payments::find(&self.db, &grant.payment_id).await?;
        match payment {
            Some(payment) => Ok(screening.check_wallet(&payment.authorization.from)?),
            None => Ok(()),
        }
    }

    /// Refuses an upload that could not be published because of a block that came meanwhile.
    pub(super) async fn refuse_withheld(&self, image: &Image) -> Result<(), UploadError> {
        if rows::withholds(&self.db, &image.id, self.clock.now()).await? {
            return Err(Blocked::Content.into());
        }
        Ok(())
    }

    /// Blocks the content that the scanner refused. If that fails, the scanner sees the next copy.
    async fn block_for_scanner(&self, checked: &Checked) {
        if let Err(error) = checked.take_fingerprint().await {
            tracing::warn!(%error, "a picture that the scanner refused has no fingerprint");
        }
        let (hashes, now) = (
            [checked.sha256(), checked.upload_sha256()],
            self.clock.now(),
        );
        let made: Vec<Block> = targets(&hashes, checked.fingerprint())
            .into_iter()
            .map(|target| Block {
                target,
                source: SCANNER.to_owned(),
                reason: "the scanner refused it".to_owned(),
                created_at: now,
                expires_at: None,
            })
            .collect();
        let blocked = async {
            blocks::block(&self.db, SCANNER, &made, now).await?;
            match &self.screening {
                Some(screening) => screening.blocks().read_again().await,
                None => Ok(()),
            }
        };
        if let Err(error) = blocked.await {
            tracing::error!(%error, "content that the scanner refused could not be blocked");
        }
    }
}

/// What to block so that an image is refused from now on: the SHA-256 of its stored and of its
/// uploaded bytes, and its PDQ hash. `bytes` are the stored ones; without them, or if they hold no
/// detailed picture, there is no PDQ hash.
///
/// # Errors
/// [`UploadError::Interrupted`] if the worker stopped.
pub async fn targets_of(image: &Image, bytes: Option<Bytes>) -> Result<Vec<Target>, UploadError> {
    let format = image.format;
    let fingerprint = match bytes {
        Some(bytes) => taken(bytes, format).await?,
        None => None,
    };
    let hashes = [image.sha256.as_str(), image.upload_sha256.as_str()];
    Ok(targets(&hashes, fingerprint.as_ref()))
}

pub(super) async fn taken(
    bytes: Bytes,
    format: Format,
) -> Result<Option<Fingerprint>, UploadError> {
    let taken = workers::run(move || pdq::fingerprint(&bytes, format)).await;
    Ok(taken.ok_or(UploadError::Interrupted)?.ok())
}

/// Targets for these hashes, each once. A picture without detail has an arbitrary PDQ hash, which
/// would match others.
fn targets(hashes: &[&str], fingerprint: Option<&Fingerprint>) -> Vec<Target> {
    let quality = blocks::Closeness::default().quality;
    let mut targets: Vec<Target> = hashes
        .iter()
        .filter_map(|hash| Target::read(Kind::Sha256, hash))
        .collect();
    targets.dedup();
    let detailed = fingerprint.filter(|it| it.quality >= quality);
    targets.extend(detailed.map(|it| Target::Pdq(it.hash)));
    targets
}
