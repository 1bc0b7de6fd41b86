//! The wallet that owns an image.

use alloy_primitives::Address;

/// The wallet that owns an image: the payer of its upload, or the wallet of the API key that
/// uploaded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The wallet.
    pub wallet: Address,
    /// The network on which the wallet may be a contract, as a CAIP-2 id. `None`: it is a plain
    /// wallet, or the network is not known.
    pub network: Option<String>,
}

impl Owner {
    /// Whether `wallet` is this owner. `network` is the only network on which it proved its address,
    /// as a CAIP-2 id; `None`: it proved the address by its key, which counts on all networks.
    pub fn is(&self, wallet: Address, network: Option<&str>) -> bool {
        self.wallet == wallet && (network.is_none() || network == self.network.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contract_owns_on_its_own_network_alone() {
        let (wallet, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let on = |network: Option<&str>| Owner {
            wallet,
            network: network.map(str::to_owned),
        };
        let base = on(Some("eip155:8453"));
        assert!(base.is(wallet, None));
        assert!(base.is(wallet, Some("eip155:8453")));
        assert!(!base.is(wallet, Some("eip155:84532")));
        assert!(!base.is(other, None));
        assert!(on(None).is(wallet, None));
        assert!(!on(None).is(wallet, Some("eip155:8453")));
    }
}
