//! The networks that payments can be made on, with their USDC contracts. All are EVM networks: the
//! code that depends on that is in `x402/evm.rs` and `chain`.
//!
//! Base and Base Sepolia are built in; other EVM networks come from the configuration ([`add`]).
//! The name and version of the EIP-712 domain must be read from the contract: Base says `USD Coin`
//! where Base Sepolia says `USDC`, and a wrong name makes every signature invalid.

use std::sync::{PoisonError, RwLock};

use alloy_primitives::{Address, address};

/// A network, with what is needed to offer and check payments on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The EIP-155 chain id.
    pub chain_id: u64,
    /// The CAIP-2 id, which protocol version 2 uses, such as `eip155:8453`.
    pub caip2: &'static str,
    /// The name in protocol version 1; `None` where version 1 doesn't know the network.
    pub v1_name: Option<&'static str>,
    /// The address of the USDC contract.
    pub usdc: Address,
    /// The `name` of the contract's EIP-712 domain.
    pub domain_name: &'static str,
    /// The `version` of the contract's EIP-712 domain.
    pub domain_version: &'static str,
    /// A public JSON-RPC endpoint, used if the configuration names none.
    pub default_rpc_url: Option<&'static str>,
    /// Whether this is a test network, whose money is worth nothing.
    pub is_test: bool,
}

impl Network {
    /// The name in messages and configuration; the CAIP-2 id if the network has no name.
    pub fn name(&self) -> &str {
        self.v1_name.unwrap_or(self.caip2)
    }
}

/// Base, with real money.
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

/// Base Sepolia, a test network. The sandbox imitates it.
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

/// The networks that need no configuration.
pub const BUILT_IN: [&Network; 2] = [&BASE, &BASE_SEPOLIA];

/// Networks from the configuration and the database. They are never removed, since rows of the
/// ledger refer to them.
static ADDED: RwLock<Vec<&'static Network>> = RwLock::new(Vec::new());

/// The id or name belongs to a known network with another definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} is already defined differently", .0.caip2)]
pub struct Conflict(pub &'static Network);

/// Every known network.
pub fn all() -> Vec<&'static Network> {
    let added = ADDED.read().unwrap_or_else(PoisonError::into_inner);
    BUILT_IN.into_iter().chain(added.iter().copied()).collect()
}

/// The network with exactly this name or CAIP-2 id.
pub fn find(name_or_caip2: &str) -> Option<&'static Network> {
    all()
        .into_iter()
        .find(|network| network.caip2 == name_or_caip2 || network.v1_name == Some(name_or_caip2))
}

/// Adds a network. Adding the same definition again returns the same network; the default RPC
/// endpoint is not part of it.
///
/// # Errors
/// [`Conflict`].
pub fn add(network: Definition) -> Result<&'static Network, Conflict> {
    // The lock is held from the check to the change, so that two threads don't add the same
    // network.
    let mut added = ADDED.write().unwrap_or_else(PoisonError::into_inner);
    let clash = BUILT_IN
        .into_iter()
        .chain(added.iter().copied())
        .find(|known| {
            let same_name =
                network.v1_name.is_some() && known.v1_name == network.v1_name.as_deref();
            known.chain_id == network.chain_id || same_name
        });
    if let Some(known) = clash {
        return if Definition::of(known) == network {
            Ok(known)
        } else {
            Err(Conflict(known))
        };
    }
    // This leaks memory, but a process adds only a few networks.
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let network: &'static Network = Box::leak(Box::new(Network {
        chain_id: network.chain_id,
        caip2: leak(format!("eip155:{}", network.chain_id)),
        v1_name: network.v1_name.map(leak),
        usdc: network.asset,
        domain_name: leak(network.domain_name),
        domain_version: leak(network.domain_version),
        default_rpc_url: None,
        is_test: network.test,
    }));
    added.push(network);
    Ok(network)
}

/// The definition of a network. The database stores it for networks from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Definition {
    /// The EIP-155 chain id.
    pub chain_id: u64,
    /// See [`Network::v1_name`].
    pub v1_name: Option<String>,
    /// The address of the token contract, which must support EIP-3009 and have six decimals.
    pub asset: Address,
    /// See [`Network::domain_name`].
    pub domain_name: String,
    /// See [`Network::domain_version`].
    pub domain_version: String,
    /// See [`Network::is_test`].
    pub test: bool,
}

impl Definition {
    /// The definition of a network.
    pub fn of(network: &Network) -> Self {
        Self {
            chain_id: network.chain_id,
            v1_name: network.v1_name.map(str::to_owned),
            asset: network.usdc,
            domain_name: network.domain_name.to_owned(),
            domain_version: network.domain_version.to_owned(),
            test: network.is_test,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_found_by_name_and_by_caip2_id() {
        for network in BUILT_IN {
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
    fn a_network_without_a_version_1_name_is_named_by_its_caip2_id() {
        let network = Network {
            v1_name: None,
            ..BASE.clone()
        };
        assert_eq!(network.name(), "eip155:8453");
    }

    #[test]
    fn a_network_is_added_once_and_never_changed() {
        let fuji = Definition {
            chain_id: 43_113,
            v1_name: Some("avalanche-fuji".to_owned()),
            asset: Address::repeat_byte(5),
            domain_name: "USD Coin".to_owned(),
            domain_version: "2".to_owned(),
            test: true,
        };
        let added = add(fuji.clone()).unwrap();
        assert_eq!(
            (added.caip2, added.name()),
            ("eip155:43113", "avalanche-fuji")
        );
        assert!(std::ptr::eq(add(fuji.clone()).unwrap(), added));
        assert_eq!(find("eip155:43113"), Some(added));
        assert_eq!(find("avalanche-fuji"), Some(added));
        let renamed = Definition {
            domain_name: "USDC".to_owned(),
            ..fuji.clone()
        };
        assert_eq!(add(renamed), Err(Conflict(added)));
        let stolen = Definition {
            chain_id: 43_114,
            ..fuji
        };
        assert_eq!(add(stolen), Err(Conflict(added)), "its name is taken");
        assert_eq!(add(Definition::of(&BASE)), Ok(&BASE));
    }
}
