//! The clocks of other machines, with which the reaper compares this machine's clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::clock_kind::ClockKind;
use crate::db::Db;
use crate::evm::chain::Chain;
use crate::facilitator::Facilitator;
use crate::pricing::networks::Network;
use crate::store::Store;
use crate::system::clock::Timestamp;

/// How long a clock may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A clock that may be on another machine.
#[derive(Debug, Clone)]
pub struct IndependentClock {
    /// Where the time is read.
    pub source: ClockSource,
    /// Where its machine is, as far as known.
    pub place: ClockPlace,
}

/// Where the time is read.
#[derive(Debug, Clone)]
pub enum ClockSource {
    /// The time of the newest block.
    Chain(&'static Network, Arc<dyn Chain>),
    /// The `Date` header of the facilitator for this network.
    Facilitator(&'static Network, Arc<dyn Facilitator>),
    /// The clock of a PostgreSQL server.
    Database(Db),
    /// The `Date` header of the bucket's server.
    Store(Store),
}

impl ClockSource {
    /// The kind of the clock.
    pub const fn kind(&self) -> ClockKind {
        match self {
            Self::Chain(..) => ClockKind::Chain,
            Self::Facilitator(..) => ClockKind::Facilitator,
            Self::Database(_) => ClockKind::Database,
            Self::Store(_) => ClockKind::Store,
        }
    }
}

/// Where a clock's machine is, as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockPlace {
    /// On another machine: the operator says so, or no single machine decides, as with a chain.
    Elsewhere,
    /// On this machine, so that its agreement proves nothing.
    Here,
    /// Unknown: the server is asked for its address as well.
    Unknown,
}

/// The result of asking a clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The name of the clock, for messages.
    pub clock: String,
    /// The time that it shows.
    pub shown: Shown,
}

/// The time that a clock shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A time that counts.
    Time(Timestamp),
    /// Nothing that counts: it is this machine's own clock.
    OwnClock,
    /// Nothing, with the reason.
    Nothing(String),
}

impl IndependentClock {
    /// Asks the clock, within a timeout.
    pub async fn read(&self) -> Reading {
        let shown = if self.place == ClockPlace::Here {
            Shown::OwnClock
        } else {
            timeout(TIMEOUT, self.ask())
                .await
                .unwrap_or_else(|_| Shown::Nothing(format!("no answer within {TIMEOUT:?}")))
        };
        Reading {
            clock: self.to_string(),
            shown,
        }
    }

    async fn ask(&self) -> Shown {
        let answer = match &self.source {
            ClockSource::Chain(_, chain) => match chain.head().await {
                Ok(head) => Ok(head.time),
                Err(error) => Err(error.0),
            },
            ClockSource::Facilitator(_, facilitator) => facilitator.date(TIMEOUT).await,
            ClockSource::Database(db) => match db.server_clock().await {
                Ok(Some(server)) if server.is_on_this_machine && self.is_unplaced() => {
                    return Shown::OwnClock;
                }
                Ok(Some(server)) => Ok(server.now),
                Ok(None) => return Shown::OwnClock,
                Err(error) => Err(error.to_string()),
            },
            ClockSource::Store(store) => match store.date().await {
                Some(answer) => answer,
                None => return Shown::OwnClock,
            },
        };
        answer.map_or_else(Shown::Nothing, Shown::Time)
    }

    fn is_unplaced(&self) -> bool {
        self.place == ClockPlace::Unknown
    }
}

/// The name of the clock in messages.
impl fmt::Display for IndependentClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            ClockSource::Chain(network, _) => write!(f, "the newest block of {}", network.name()),
            ClockSource::Facilitator(network, _) => {
                write!(f, "the facilitator of {}", network.name())
            }
            ClockSource::Database(_) => f.write_str("PostgreSQL"),
            ClockSource::Store(_) => f.write_str("the image store"),
        }
    }
}
