//! The report package of an image: its file and what is known of it, for a report to an authority
//! such as the `CyberTipline` of NCMEC.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::facts::Facts;
use super::{ActError, By, Trust, content};
use crate::db::{admin_log, images};
use crate::model::admin_log::Act;
use crate::model::ids::ImageId;
use crate::store::Object;

/// The name of the file with the facts.
const FACTS: &str = "report.json";

/// A package that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// The file of the image.
    pub file: PathBuf,
    /// The file with the facts.
    pub facts: PathBuf,
    /// SHA-256 of the image's file, in hexadecimal.
    pub sha256: String,
}

/// The contents of the file with the facts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Contents<'a> {
    made_at: String,
    made_by: &'a str,
    reason: &'a str,
    file_name: String,
    /// Whether the file is what the database recorded at the upload.
    file_matches_record: bool,
    file_sha256: &'a str,
    #[serde(flatten)]
    facts: &'a Facts,
}

impl Trust {
    /// Writes the file of an image and the facts about it into a folder, which is created and is
    /// readable by this user alone. Existing files are never replaced.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn package(&self, id: &ImageId, folder: &Path, by: &By) -> Result<Package, ActError> {
        let image = images::find(&self.db, id).await?;
        let image = image.ok_or_else(|| ActError::Unknown(id.clone()))?;
        let object = content::open(&self.store, &image).await?;
        let object = object.ok_or_else(|| ActError::ContentMissing(id.clone()))?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |why| ActError::Package { path, why }
        };
        make_folder(folder).await.map_err(failed(folder))?;
        let name = image.file_name();
        let file = folder.join(&name);
        let sha256 = write_object(&file, object).await?;
        let entry = by.entry(Act::Package, id, json!({"sha256": sha256}));
        admin_log::append(&self.db, &entry, self.clock.now()).await?;
        let facts = self.facts(id).await?;
        let contents = Contents {
            made_at: self.clock.now().to_string(),
            made_by: &by.actor,
            reason: &by.reason,
            file_name: name,
            file_matches_record: sha256 == image.sha256,
            file_sha256: &sha256,
            facts: &facts,
        };
        let path = folder.join(FACTS);
        let text = serde_json::to_vec_pretty(&contents).map_err(std::io::Error::other);
        let mut text = text.map_err(failed(&path))?;
        text.push(b'\n');
        let mut written = create(&path).await.map_err(failed(&path))?;
        let done = async {
            written.write_all(&text).await?;
            written.sync_all().await
        };
        done.await.map_err(failed(&path))?;
        Ok(Package {
            file,
            facts: path,
            sha256,
        })
    }
}

async fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = tokio::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder).await
}

/// Creates a file that only this user may read, and that doesn't exist yet.
async fn create(path: &Path) -> std::io::Result<tokio::fs::File> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).await
}

async fn write_object(path: &Path, mut object: Object) -> Result<String, ActError> {
    let failed = |why| ActError::Package {
        path: path.to_owned(),
        why,
    };
    let mut file = create(path).await.map_err(failed)?;
    let mut hash = Sha256::new();
    while let Some(piece) = object.next().await? {
        hash.update(&piece);
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.sync_all().await.map_err(failed)?;
    Ok(hex::encode(hash.finalize()))
}
