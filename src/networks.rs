//! The networks that a payment can be made on, with their USDC contract. EVM only.
//!
//! To add one: a row in [`ALL`]. Name and version of the EIP-712 domain have to be read from the
//! contract itself: Base says `USD Coin` where Base Sepolia says `USDC`, and a wrong name makes
//! every signature invalid.

use alloy_primitives::{Address, address};

/// A network, and what has to be known of it to offer and check a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The EIP-155 chain id.
    pub chain_id: u64,
    /// The CAIP-2 id that protocol version 2 writes, such as `eip155:8453`.
    pub caip2: &'static str,
    /// The name that protocol version 1 writes; `None` where version 1 doesn't know the network.
    pub v1_name: Option<&'static str>,
    /// The USDC contract.
    pub usdc: Address,
    /// `name` of the contract's EIP-712 domain.
    pub domain_name: &'static str,
    /// `version` of the contract's EIP-712 domain.
    pub domain_version: &'static str,
    /// A public JSON-RPC endpoint, used where the operator names none.
    pub default_rpc_url: Option<&'static str>,
    /// Whether its money is worth nothing.
    pub is_test: bool,
}

impl Network {
    /// The short name for people and configuration; the CAIP-2 id where there is none.
    pub fn name(&self) -> &str {
        self.v1_name.unwrap_or(self.caip2)
    }
}

/// Base, where the money is real.
pub static BASE: Network = Network {
    chain_id: 8453,
    caip2: "eip155:8453",
    v1_name: Some("base"),
    usdc: address!("833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
    domain_name: "USD Coin",
    domain_version: "2",
    default_rpc_url: Some("https://mainnet.base.org"),
    is_test: false,
};

/// Base Sepolia, the test network, which the sandbox imitates.
pub static BASE_SEPOLIA: Network = Network {
    chain_id: 84532,
    caip2: "eip155:84532",
    v1_name: Some("base-sepolia"),
    usdc: address!("036CbD53842c5426634e7929541eC2318f3dCF7e"),
    domain_name: "USDC",
    domain_version: "2",
    default_rpc_url: Some("https://sepolia.base.org"),
    is_test: true,
};

/// Every known network.
pub const ALL: [&Network; 2] = [&BASE, &BASE_SEPOLIA];

/// The network of this name or CAIP-2 id, written exactly so.
pub fn find(name_or_caip2: &str) -> Option<&'static Network> {
    ALL.into_iter()
        .find(|network| network.caip2 == name_or_caip2 || network.v1_name == Some(name_or_caip2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_found_by_name_and_by_caip2_id() {
        for network in ALL {
            assert_eq!(find(network.caip2), Some(network));
            assert_eq!(find(network.name()), Some(network));
            assert_eq!(network.caip2, format!("eip155:{}", network.chain_id));
        }
        for name in ["", "Base", "eip155:1", "eip155:08453", "solana", "base "] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn the_two_domains_of_usdc_differ_as_the_contracts_do() {
        assert_eq!((BASE.domain_name, BASE.domain_version), ("USD Coin", "2"));
        assert_eq!(
            (BASE_SEPOLIA.domain_name, BASE_SEPOLIA.domain_version),
            ("USDC", "2")
        );
        assert!(!BASE.is_test && BASE_SEPOLIA.is_test);
        assert_eq!(
            BASE.usdc.to_string(),
            "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
        );
        let sepolia = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
        assert_eq!(BASE_SEPOLIA.usdc.to_string(), sepolia);
    }

    #[test]
    fn a_network_that_version_1_never_knew_goes_by_its_caip2_id() {
        let network = Network {
            v1_name: None,
            ..BASE.clone()
        };
        assert_eq!(network.name(), "eip155:8453");
    }
}
