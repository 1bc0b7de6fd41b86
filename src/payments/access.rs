//! The facilitator and the chain of each network.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::evm::chain::Chain;
use crate::facilitator::{Facilitator, Kind};
use crate::pricing::networks::Network;
use crate::x402::wire::Version;

/// A network that payments are accepted on.
#[derive(Debug, Clone)]
pub struct NetworkAccess {
    /// The network.
    pub network: &'static Network,
    /// The facilitator that verifies and settles on it.
    pub facilitator: Arc<dyn Facilitator>,
    /// Reads the network's chain.
    pub chain: Arc<dyn Chain>,
    speaks_only_v2: Arc<AtomicBool>,
}

impl NetworkAccess {
    /// Creates a network with its facilitator and chain. Until [`Self::ask_supported`], the
    /// facilitator is assumed to support all protocol versions.
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

    /// Asks the facilitator what it supports, and remembers whether it supports version 2 only.
    /// Returns whether it lists this network.
    ///
    /// # Errors
    /// What the facilitator returned instead, as a message for the operator.
    pub async fn ask_supported(&self, timeout: Duration) -> Result<bool, String> {
        let mut kinds = self.facilitator.supported(timeout).await?;
        kinds.retain(|kind| kind.is_exact_on(self.network));
        let only_v2 = kinds.iter().any(Kind::is_of_v2) && !kinds.iter().any(Kind::is_of_v1);
        self.speaks_only_v2.store(only_v2, Ordering::Relaxed);
        Ok(!kinds.is_empty())
    }

    /// The version of facilitator calls for a payment of `version`. A signature doesn't cover the
    /// version, so a version 1 payment can be sent as version 2 to a facilitator that supports
    /// nothing else (docs/payments.md, Protocol versions).
    pub fn version_for(&self, version: Version) -> Version {
        if self.speaks_only_v2.load(Ordering::Relaxed) {
            Version::V2
        } else {
            version
        }
    }
}

/// Every network that payments are accepted on, preferred first.
#[derive(Debug, Clone)]
pub struct Networks(Vec<NetworkAccess>);

impl Networks {
    /// Creates the list from networks, preferred first.
    pub const fn new(networks: Vec<NetworkAccess>) -> Self {
        Self(networks)
    }

    /// The facilitator and chain of `network`; `None` where it is not configured.
    pub fn find(&self, network: &Network) -> Option<&NetworkAccess> {
        self.0
            .iter()
            .find(|access| access.network.chain_id == network.chain_id)
    }

    /// Iterates over the networks, preferred first.
    pub fn iter(&self) -> std::slice::Iter<'_, NetworkAccess> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Networks {
    type Item = &'a NetworkAccess;
    type IntoIter = std::slice::Iter<'a, NetworkAccess>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
