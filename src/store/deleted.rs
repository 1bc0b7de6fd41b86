//! The outcome of deleting images, and how a local store deletes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keys::{file, sidecar_file};
use super::{IMAGE_DRAFT, StoreError, local};
use crate::model::ids::ImageId;

/// The outcome of deleting several images.
#[derive(Debug, Default)]
pub struct Deleted {
    /// The images whose objects are gone.
    pub gone: Vec<ImageId>,
    /// How many of them had no object.
    pub missing: usize,
    /// The images whose objects may still exist.
    pub left: Vec<ImageId>,
    /// Why one of those could not be deleted.
    pub failure: Option<StoreError>,
}

impl Deleted {
    /// Records an image. `result` says whether its object existed.
    fn note(&mut self, id: ImageId, result: Result<bool, StoreError>) {
        match result {
            Ok(was_there) => {
                self.missing += usize::from(!was_there);
                self.gone.push(id);
            }
            Err(error) => {
                self.left.push(id);
                self.failure = Some(error);
            }
        }
    }
}

/// Deletes these files of variants or contents, and the draft of each, which a stopped process may
/// have left.
///
/// # Errors
/// When one can't be deleted, or the deletes can't be made durable.
pub(super) async fn delete_local_files(
    root: &Arc<Path>,
    files: Vec<PathBuf>,
) -> std::io::Result<()> {
    let files = files.into_iter().flat_map(|file| {
        let draft = local::draft_of(&file, IMAGE_DRAFT);
        [file, draft]
    });
    let outcomes = local::delete(root, files.collect()).await?;
    outcomes
        .into_iter()
        .try_for_each(|outcome| outcome.map(|_| ()))
}

/// Deletes the files of these images, and their sidecars.
pub(super) async fn delete_local(root: &Arc<Path>, ids: &[ImageId]) -> Deleted {
    let files = ids.iter().map(|id| file(root, id));
    let files = files.chain(ids.iter().map(|id| sidecar_file(root, id)));
    let mut deleted = Deleted::default();
    match local::delete(root, files.collect()).await {
        Ok(mut objects) => {
            let sidecars = objects.split_off(ids.len().min(objects.len()));
            for ((id, object), sidecar) in ids.iter().zip(objects).zip(sidecars) {
                let outcome = sidecar.and(object);
                deleted.note(id.clone(), outcome.map_err(StoreError::from));
            }
        }
        Err(error) => {
            deleted.left = ids.to_vec();
            deleted.failure = Some(error.into());
        }
    }
    deleted
}
