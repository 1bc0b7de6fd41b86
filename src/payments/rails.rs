//! What a payment on a network runs on: who verifies and settles it, and who shows the chain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::chain::Chain;
use crate::facilitator::{Facilitator, Kind};
use crate::networks::Network;
use crate::x402::wire::Version;

/// A network that is offered.
#[derive(Debug, Clone)]
pub struct Rail {
    /// The network.
    pub network: &'static Network,
    /// Who verifies and settles on it.
    pub facilitator: Arc<dyn Facilitator>,
    /// Who decides what is unknown on it.
    pub chain: Arc<dyn Chain>,
    speaks_only_v2: Arc<AtomicBool>,
}

impl Rail {
    /// A network with these; until the facilitator was asked it is taken to speak all versions.
    pub fn new(
        network: &'static Network,
        facilitator: Arc<dyn Facilitator>,
        chain: Arc<dyn Chain>,
    ) -> Self {
        Self {
            network,
            facilitator,
            chain,
            speaks_only_v2: Arc::default(),
        }
    }

    /// Asks the facilitator what it can settle, and goes by that from then on. Returns whether it lists this network.
    ///
    /// # Errors
    /// What came instead, for the operator.
    pub async fn ask_supported(&self, timeout: Duration) -> Result<bool, String> {
        let mut kinds = self.facilitator.supported(timeout).await?;
        kinds.retain(|kind| kind.is_exact_on(self.network));
        let only_v2 = kinds.iter().any(Kind::is_of_v2) && !kinds.iter().any(Kind::is_of_v1);
        self.speaks_only_v2.store(only_v2, Ordering::Relaxed);
        Ok(!kinds.is_empty())
    }

    /// The version in which the facilitator is asked about a payment of `version`: a signature covers none, so that
    /// one of version 1 can be wrapped where nothing else is spoken (payments.md, protocol versions).
    pub fn version_for(&self, version: Version) -> Version {
        if self.speaks_only_v2.load(Ordering::Relaxed) {
            Version::V2
        } else {
            version
        }
    }
}

/// Every network that is offered, best first.
#[derive(Debug, Clone)]
pub struct Rails(Vec<Rail>);

impl Rails {
    /// These networks, best first.
    pub const fn new(rails: Vec<Rail>) -> Self {
        Self(rails)
    }

    /// What payments on `network` run on; `None` where it isn't offered.
    pub fn find(&self, network: &Network) -> Option<&Rail> {
        self.0
            .iter()
            .find(|rail| rail.network.chain_id == network.chain_id)
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Rail> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Rails {
    type Item = &'a Rail;
    type IntoIter = std::slice::Iter<'a, Rail>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
