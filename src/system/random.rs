//! Randomness, injected like the time, so that tests are repeatable.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng, TryRng};

/// A source of random bytes that all parts of the service share.
#[derive(Clone)]
pub struct Randomness(Source);

#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<Mutex<StdRng>>),
}

impl fmt::Debug for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Randomness")
    }
}

impl Randomness {
    /// The operating system's generator, for everything that must not be guessed.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A repeatable sequence, for tests only.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(
            seed,
        )))))
    }

    /// Draws `N` random bytes.
    ///
    /// # Panics
    /// When the operating system returns no randomness: continuing would be unsafe.
    #[expect(
        clippy::panic,
        reason = "without random secrets, the service must not continue"
    )]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.0 {
            Source::System => {
                if let Err(error) = SysRng.try_fill_bytes(&mut bytes) {
                    panic!("the operating system returned no randomness: {error}");
                }
            }
            Source::Seeded(rng) => {
                rng.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .fill_bytes(&mut bytes);
            }
        }
        bytes
    }
    /// Draws a number that need not be secret, such as the id of a request, without asking the
    /// operating system each time.
    #[expect(
        clippy::disallowed_methods,
        reason = "the number is no secret, and tests draw it from their seed"
    )]
    pub fn number(&self) -> u64 {
        match &self.0 {
            Source::System => rand::rng().next_u64(),
            Source::Seeded(_) => u64::from_be_bytes(self.bytes()),
        }
    }
}
