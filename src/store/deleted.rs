//! What became of deleting images, and how a disk does it.

use std::path::Path;
use std::sync::Arc;

use super::keys::{file, sidecar_file};
use super::{StoreError, local};
use crate::ids::ImageId;

/// What became of deleting several images.
#[derive(Debug, Default)]
pub struct Deleted {
    /// Those whose objects are gone.
    pub gone: Vec<ImageId>,
    /// How many of them were gone already.
    pub missing: usize,
    /// Those whose objects may still be there.
    pub left: Vec<ImageId>,
    /// Why, of one of them.
    pub failure: Option<StoreError>,
}

impl Deleted {
    /// `result` says whether the object had been there.
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

/// Deletes the files of these images, and the records beside them.
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
