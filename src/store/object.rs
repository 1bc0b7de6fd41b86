//! An object that is being read, in pieces, as fast as its reader takes them.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::{GetResult, GetResultPayload};

use super::StoreError;

/// How much of a file is read at once. For each client that reads a large image, however slowly,
/// this much is in memory.
const PIECE: u64 = 64 * 1024;

/// An object that is being read.
pub struct Object {
    size: u64,
    left: Range<u64>,
    source: Source,
    /// Bytes that came from the stream and have not been returned yet.
    come: Bytes,
    is_remote: bool,
}

enum Source {
    /// A file, which stays readable after it is deleted.
    File(Arc<std::fs::File>),
    /// A stream from a network store. Bytes that the reader doesn't take wait on the store's side
    /// of the connection.
    Stream(BoxStream<'static, Result<Bytes, object_store::Error>>),
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({:?} of {})", self.left, self.size)
    }
}

impl Object {
    pub(super) fn new(found: GetResult, is_remote: bool) -> Self {
        Self {
            size: found.meta.size,
            left: found.range,
            source: match found.payload {
                GetResultPayload::File(file, _) => Source::File(Arc::new(file)),
                GetResultPayload::Stream(stream) => Source::Stream(stream),
            },
            come: Bytes::new(),
            is_remote,
        }
    }

    /// The size of the whole object in bytes, whichever part of it is read.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the rest into memory.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_all(mut self) -> Result<Bytes, StoreError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }

    /// Returns the next bytes; `None` after the last ones.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let is_remote = self.is_remote;
        let file = match &mut self.source {
            Source::Stream(stream) => {
                // In pieces as from a file, so that a slow client holds little memory.
                while self.come.is_empty() {
                    let piece = stream.next().await.transpose();
                    match piece.map_err(|error| StoreError::of(error, is_remote))? {
                        Some(piece) => self.come = piece,
                        None => return Ok(None),
                    }
                }
                let length = usize::try_from(PIECE).unwrap_or(usize::MAX);
                return Ok(Some(self.come.split_to(length.min(self.come.len()))));
            }
            Source::File(file) => Arc::clone(file),
        };
        let place = self.left.start;
        let length = PIECE.min(self.left.end.saturating_sub(place));
        if length == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, place).map(|()| bytes)
        });
        let bytes = read.await.map_err(std::io::Error::other).flatten()?;
        self.left.start += length;
        Ok(Some(bytes.into()))
    }
}
