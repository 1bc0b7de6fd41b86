//! Purges at the CDN: a queue in the database, so that none is lost when a process stops, and every
//! server may work on it.

use std::sync::Arc;
use std::time::Duration;

use super::{ActError, Trust};
use crate::cdn::{Cdn, MOST_NAMES, PurgeError};
use crate::db::purges::{self, Purge};

/// How often a server looks for purges.
const LOOK: Duration = Duration::from_secs(1);
/// For how long a server has the purges that it took to itself. Both calls take less.
const LEASE: Duration = Duration::from_mins(1);
/// The URLs of an image: its canonical link, and the one without an extension, which redirects.
const URLS: usize = 2;

impl Trust {
    /// Asks the CDN to drop the images whose purge is due. Returns how many it confirmed. A failed
    /// purge is tried again later.
    ///
    /// # Errors
    /// [`ActError::Database`].
    pub async fn purge_due(&self) -> Result<usize, ActError> {
        let Some(cdn) = &self.cdn else {
            return Ok(0);
        };
        if !purges::is_due(&self.db, self.clock.now()).await? {
            return Ok(0);
        }
        let most = u32::try_from(MOST_NAMES / URLS).unwrap_or(1);
        let taken = purges::take_due(&self.db, self.clock.now(), LEASE, most).await?;
        if taken.is_empty() {
            return Ok(0);
        }
        match self.purge(cdn, &taken).await {
            Ok(()) => {
                for purge in &taken {
                    purges::note_purged(&self.db, purge, self.clock.now()).await?;
                }
                Ok(taken.len())
            }
            Err(error) => {
                tracing::warn!(%error, images = taken.len(), "images could not be purged at the CDN; trying again later");
                for purge in &taken {
                    let next = self.clock.now().plus(pause(purge.tries, &error));
                    purges::note_problem(&self.db, purge, &error.message, next).await?;
                }
                Ok(0)
            }
        }
    }

    async fn purge(&self, cdn: &Cdn, taken: &[Purge]) -> Result<(), PurgeError> {
        let tags: Vec<String> = taken.iter().map(|purge| purge.image_id.clone()).collect();
        let url = |name: &String| format!("{}/{name}", self.images_url);
        let urls: Vec<String> = taken
            .iter()
            .flat_map(|purge| [url(&purge.file_name), url(&purge.image_id)])
            .collect();
        cdn.purge(&tags, &urls).await
    }

    /// Purges what is due every second, until the future is dropped. Does nothing without a CDN.
    pub async fn purge_forever(self: Arc<Self>) {
        if self.cdn.is_none() {
            return;
        }
        loop {
            match self.purge_due().await {
                // More may wait.
                Ok(purged) if purged > 0 => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the queue of purges could not be read or written");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How long to wait after a failed try: as long as the CDN asks, and longer each time, up to an
/// hour.
fn pause(tries: i64, error: &PurgeError) -> Duration {
    let usual = match tries {
        ..=1 => Duration::from_secs(2),
        2 => Duration::from_secs(10),
        3 => Duration::from_mins(1),
        4 => Duration::from_mins(5),
        5 => Duration::from_mins(15),
        _ => Duration::from_hours(1),
    };
    usual.max(error.wait.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_an_hour_and_is_never_shorter_than_the_cdn_asks() {
        let error = |wait| PurgeError {
            message: String::new(),
            wait,
        };
        let none = error(None);
        let pauses: Vec<u64> = (1..8).map(|tries| pause(tries, &none).as_secs()).collect();
        assert_eq!(pauses, [2, 10, 60, 300, 900, 3600, 3600]);
        let asked = error(Some(Duration::from_secs(30)));
        assert_eq!(pause(1, &asked).as_secs(), 30);
        assert_eq!(pause(3, &asked).as_secs(), 60);
    }
}
