//! A plain transfer of the token, as a wallet is told to make it.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall;

use super::exact::Token;
use crate::pricing::networks::Network;

/// The input of a call to the token contract that transfers `value` atomic units to `to`.
pub fn calldata(to: Address, value: U256) -> Bytes {
    Bytes::from(Token::transferCall { to, value }.abi_encode())
}

/// The same transfer as a link that wallets open (EIP-681).
pub fn link(network: &Network, to: Address, value: U256) -> String {
    let (asset, chain) = (network.usdc, network.chain_id);
    format!("ethereum:{asset}@{chain}/transfer?address={to}&uint256={value}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::networks::BASE;

    #[test]
    fn a_transfer_is_written_as_calldata_and_as_a_link() {
        let (to, value) = (Address::repeat_byte(0x11), U256::from(10_000));
        assert_eq!(
            calldata(to, value).to_string(),
            format!(
                "0xa9059cbb{}{}{}{:064x}",
                "00".repeat(12),
                "11".repeat(20),
                "",
                10_000
            )
        );
        assert_eq!(
            link(&BASE, to, value),
            "ethereum:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913@8453/transfer?\
             address=0x1111111111111111111111111111111111111111&uint256=10000"
        );
    }
}
