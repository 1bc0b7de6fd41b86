//! Ends a rendering early: by a deadline, or because nobody waits for it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::RenderError;

/// Tells a rendering when to end. Clones share one state.
///
/// A rendering looks between rows and between frames. The encoders of AVIF, WebP and JPEG do not
/// look while they encode one frame.
#[derive(Debug, Clone)]
pub struct Stop {
    is_stopped: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Stop {
    /// Ends a rendering `time` from now.
    pub fn after(time: Duration) -> Self {
        Self {
            is_stopped: Arc::default(),
            deadline: Instant::now().checked_add(time),
        }
    }

    /// Ends the rendering now.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Whether the rendering should end.
    pub fn is_stopped(&self) -> bool {
        let is_late = || self.deadline.is_some_and(|end| Instant::now() >= end);
        self.is_stopped.load(Ordering::Relaxed) || is_late()
    }

    /// When the rendering ends; `None` if that lies further in the future than time is counted.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// # Errors
    /// [`RenderError::Stopped`].
    pub(super) fn check(&self) -> Result<(), RenderError> {
        if self.is_stopped() {
            return Err(RenderError::Stopped);
        }
        Ok(())
    }
}
