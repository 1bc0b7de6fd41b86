//! What a payment on a network runs on: who verifies and settles it, and who shows the chain.

use std::sync::Arc;

use crate::chain::Chain;
use crate::facilitator::Facilitator;
use crate::networks::Network;

/// A network that is offered.
#[derive(Debug, Clone)]
pub struct Rail {
    /// The network.
    pub network: &'static Network,
    /// Who verifies and settles on it.
    pub facilitator: Arc<dyn Facilitator>,
    /// Who decides what is unknown on it.
    pub chain: Arc<dyn Chain>,
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
