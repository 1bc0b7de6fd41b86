//! The master keys: where they are stored, and whether they belong to this database.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::disk::make_parent;
use super::stamps;
use crate::config::{Config, SecretKeySource, parse_secret_keys};
use crate::db::{Db, deployment, images};
use crate::keys::secrets::Keyring;
use crate::system::clock::Timestamp;
use crate::system::random::Randomness;

/// How long after a key was replaced replicas that weren't restarted may still use it.
const STRAGGLERS: Duration = Duration::from_hours(24);

/// Opens the master keys. One of them must be the key that last made secrets for this database. If
/// it isn't the first one any more, it counts as an older key from now on.
pub(super) async fn open_secrets(
    db: &Db,
    config: &Config,
    randomness: &Randomness,
    now: Timestamp,
) -> anyhow::Result<Keyring> {
    let keys = load(&config.secrets_key, randomness)?;
    let current = keys.current().fingerprint();
    let stamped = deployment::stamp(db, stamps::KEY, &current).await?;
    if !keys.has(&stamped) {
        bail!(
            "this database was made with another secrets.key, which has the fingerprint {stamped}: use that key, or put it \
             after the new one ({current}), with a comma or a line end between them"
        );
    }
    if stamped != current {
        let rotation = deployment::Rotation {
            name: stamps::KEY,
            from: &stamped,
            to: &current,
            retired: stamps::OLD_KEY,
        };
        deployment::rotate(db, &rotation, now).await?;
        tracing::info!(
            from = stamped,
            to = current,
            "new secrets are made by a new key; secrets made by the old key stay valid while it is in secrets.key"
        );
    }
    tell_of_older(db, &keys).await?;
    Ok(keys)
}

/// Logs which older keys are missing, and which can be removed.
async fn tell_of_older(db: &Db, keys: &Keyring) -> anyhow::Result<()> {
    for (fingerprint, retired) in deployment::list(db, stamps::OLD_KEY).await? {
        let retired = retired
            .parse()
            .map(Timestamp::from_millis)
            .with_context(|| {
                format!("the time at which the key {fingerprint} was replaced can't be read")
            })?;
        let (images, payments) =
            images::count_kept_since_before(db, retired.plus(STRAGGLERS)).await?;
        match (keys.has(&fingerprint), images + payments) {
            (true, 0) => tracing::info!(
                key = fingerprint,
                "no secret made by this old key is left: you can remove it from secrets.key"
            ),
            (false, 1..) => tracing::warn!(
                key = fingerprint,
                images,
                payments,
                "an old key is missing in secrets.key: owners can't delete the images that were uploaded under it, \
                 payers can't prove these payments, and their idempotency keys don't prevent a second charge. Put the key back"
            ),
            (true, _) | (false, 0) => {}
        }
    }
    Ok(())
}

fn load(source: &SecretKeySource, randomness: &Randomness) -> anyhow::Result<Keyring> {
    match source {
        SecretKeySource::Given(keys) => Ok(keys.clone()),
        SecretKeySource::FileUnderData(path) => {
            make_parent(path)?;
            if !path.exists() {
                write_key(path, randomness)?;
            }
            read_secrets(path)
        }
    }
}

/// Reads the keys in a file.
///
/// # Errors
/// When the file can't be read, or contains no key.
pub fn read_secrets(path: &Path) -> anyhow::Result<Keyring> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} can't be read", path.display()))?;
    parse_secret_keys(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// Finds the keys for a command beside a server. Creates none; `None`: there is no key file.
///
/// # Errors
/// When the file can't be read, or contains no key.
pub fn find_secrets(source: &SecretKeySource) -> anyhow::Result<Option<Keyring>> {
    match source {
        SecretKeySource::Given(keys) => Ok(Some(keys.clone())),
        SecretKeySource::FileUnderData(path) if path.exists() => read_secrets(path).map(Some),
        SecretKeySource::FileUnderData(_) => Ok(None),
    }
}

/// Writes a new key, whole or not at all: half a key would be a different key.
fn write_key(path: &Path, randomness: &Randomness) -> anyhow::Result<()> {
    let folder = path
        .parent()
        .context("the path of secrets.key has no folder")?;
    // A temporary file is readable by its owner only.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", hex::encode(randomness.bytes::<32>()))?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)
        .with_context(|| format!("{} can't be written", path.display()))?;
    Ok(())
}
