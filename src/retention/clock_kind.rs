//! The kinds of clocks that the reaper may ask, as the configuration names them.

use std::str::FromStr;

/// The kinds of independent clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockKind {
    /// The newest block of a network on which payments are accepted.
    Chain,
    /// The `Date` header of a facilitator's response.
    Facilitator,
    /// The clock of a PostgreSQL server.
    Database,
    /// The `Date` header of a response from the bucket's server.
    Store,
}

impl ClockKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Chain, Self::Facilitator, Self::Database, Self::Store];

    /// The name in `retention.clocks`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Facilitator => "facilitator",
            Self::Database => "database",
            Self::Store => "store",
        }
    }
}

/// The text is not the name of a kind of clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no clock")]
pub struct UnknownClock;

impl FromStr for ClockKind {
    type Err = UnknownClock;

    fn from_str(text: &str) -> Result<Self, UnknownClock> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or(UnknownClock)
    }
}
