//! EIP-3009 authorizations, their EIP-712 digests and signatures, and the parts of the token
//! contract that pixtoll calls or whose logs it reads.

use std::borrow::Cow;

use alloy_primitives::{Address, B256, Bytes, FixedBytes, Signature, U256, fixed_bytes};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use secp256k1::Message;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};

use crate::pricing::networks::Network;

sol! {
    /// The message that a payer signs (EIP-3009).
    #[derive(Debug, PartialEq, Eq)]
    struct TransferWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    /// The functions and events of USDC that pixtoll uses.
    #[derive(Debug)]
    interface Token {
        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
        function balanceOf(address account) external view returns (uint256);
        function transfer(address to, uint256 value) external returns (bool);

        event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
        event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);
        event Transfer(address indexed from, address indexed to, uint256 value);
    }
}

sol! {
    /// A contract wallet that checks signatures (EIP-1271).
    interface Wallet {
        function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
    }
}

/// The value that a contract wallet returns for a valid signature (EIP-1271).
pub const VALID_SIGNATURE: FixedBytes<4> = fixed_bytes!("1626ba7e");

/// A payer's authorization to transfer `value` to `to`, once, within a window of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The payer's address.
    pub from: Address,
    /// The recipient's address.
    pub to: Address,
    /// The amount, in atomic units of the token.
    pub value: U256,
    /// The start of the window, in Unix seconds. The token requires a strictly later block time.
    pub valid_after: U256,
    /// The end of the window, in Unix seconds. The token requires a strictly earlier block time.
    pub valid_before: U256,
    /// The nonce that the payer chose. It can be used once.
    pub nonce: B256,
}

impl Authorization {
    /// The EIP-712 digest that the payer signs for `network`'s token.
    pub fn digest(&self, network: &Network) -> B256 {
        TransferWithAuthorization {
            from: self.from,
            to: self.to,
            value: self.value,
            validAfter: self.valid_after,
            validBefore: self.valid_before,
            nonce: self.nonce,
        }
        .eip712_signing_hash(&domain(network))
    }
}

/// The EIP-712 domain of `network`'s USDC.
pub fn domain(network: &Network) -> Eip712Domain {
    Eip712Domain {
        name: Some(Cow::Owned(network.domain_name.to_string())),
        version: Some(Cow::Owned(network.domain_version.to_string())),
        chain_id: Some(U256::from(network.chain_id)),
        verifying_contract: Some(network.usdc),
        salt: None,
    }
}

/// The canonical form of a plain wallet's signature, the only one that the token accepts: r, s, v,
/// with v 27 or 28 and s in the lower half (EIP-2). Other forms of such a signature are converted.
/// Bytes that are no such signature are returned unchanged, since they may belong to a contract
/// wallet (EIP-1271).
pub fn canonical_signature(bytes: &Bytes) -> Bytes {
    match plain_signature(bytes) {
        Some(signature) => Bytes::copy_from_slice(&signature.as_bytes()),
        None => bytes.clone(),
    }
}

/// The address whose key made `signature` over `digest`. `None`: it is not a plain wallet's
/// signature.
///
/// This is the library of Bitcoin Core, which takes a fifth of the time of `k256`. Nothing else in a
/// request with a payment takes as long.
pub fn recover(digest: &B256, signature: &Bytes) -> Option<Address> {
    let signature = plain_signature(signature)?;
    let [r_and_s @ .., _] = signature.as_bytes();
    let id = RecoveryId::from_u8_masked(u8::from(signature.v()));
    let signature = RecoverableSignature::from_compact(&r_and_s, id).ok()?;
    let key = signature.recover(Message::from_digest(digest.0)).ok()?;
    let [_, point @ ..] = key.serialize_uncompressed();
    Some(Address::from_raw_public_key(&point))
}

/// What a signature is, if it is read as one that a key made (not a contract wallet).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainSignature {
    /// The signature of this address's key.
    By(Address),
    /// It has its s in the upper half (EIP-2): anybody can make it from the usual form.
    Malleable,
    /// It is not a plain wallet's signature.
    None,
}

/// The address whose key made `signature` over `digest`, in the one form that counts: 65 bytes with
/// s in the lower half.
pub fn plain_signer(digest: &B256, signature: &Bytes) -> PlainSignature {
    match (recover(digest, signature), raw_signature(signature)) {
        (Some(_), Some(raw)) if raw.normalize_s().is_some() => PlainSignature::Malleable,
        (Some(signer), _) => PlainSignature::By(signer),
        (None, _) => PlainSignature::None,
    }
}

/// A plain wallet's signature of 65 bytes, with s in the lower half. `None` for anything else.
fn plain_signature(bytes: &Bytes) -> Option<Signature> {
    raw_signature(bytes).map(Signature::normalized_s)
}

fn raw_signature(bytes: &Bytes) -> Option<Signature> {
    let raw: &[u8; 65] = bytes.as_ref().try_into().ok()?;
    let [.., v] = raw;
    if !matches!(v, 0 | 1 | 27 | 28) {
        return None;
    }
    Signature::from_raw_array(raw).ok()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, b256, hex, keccak256};
    use alloy_sol_types::SolStruct;

    use super::*;
    use crate::pricing::networks;

    // A test vector of the protocol's reference. Its key, 0x11 repeated 32 times, is a test key.
    fn vector() -> Authorization {
        Authorization {
            from: address!("19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"),
            to: address!("2222222222222222222222222222222222222222"),
            value: U256::from(10_000),
            valid_after: U256::ZERO,
            valid_before: U256::from(1_900_000_000_u64),
            nonce: B256::repeat_byte(0xab),
        }
    }

    const SEPOLIA_SIGNATURE: [u8; 65] = hex!(
        "34810545ab6517f1d4b463d8748b29fca88d3216c54eadaf5fde914d5a837b6b"
        "05d4ea2c5f87f89b5235499dd0469e3c1861a25bb8ad56e25ea8693fb7332777" "1b"
    );

    #[test]
    fn the_digests_are_those_of_the_reference() {
        let typed = TransferWithAuthorization {
            from: Address::ZERO,
            to: Address::ZERO,
            value: U256::ZERO,
            validAfter: U256::ZERO,
            validBefore: U256::ZERO,
            nonce: B256::ZERO,
        };
        assert_eq!(
            typed.eip712_type_hash(),
            b256!("7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267")
        );
        assert_eq!(
            vector().digest(networks::find("base-sepolia").unwrap()),
            b256!("381b86af084fb5aae332949d22d96326ab5f699c65fe1a865807217d5ecb7c86")
        );
        assert_eq!(
            vector().digest(networks::find("eip155:8453").unwrap()),
            b256!("fc29cec4ee27035b083e7e6b7ba9a5b338f30a79f0993b06a84cd4d4dc576f0b")
        );
    }

    #[test]
    fn a_signer_is_recovered_as_by_another_library() {
        // Half of them are no signatures of any key, or have an invalid number in them.
        for byte in 0..=255_u8 {
            for v in [27, 28] {
                let digest = B256::repeat_byte(byte.wrapping_mul(7));
                let mut bytes = SEPOLIA_SIGNATURE;
                bytes[31 - usize::from(byte % 32)] ^= byte;
                bytes[32 + usize::from(byte % 32)] ^= byte.wrapping_mul(3);
                if byte % 16 == 1 {
                    bytes[..32].fill(0);
                }
                bytes[64] = v;
                let signature = Bytes::from(bytes.to_vec());
                let other = plain_signature(&signature)
                    .and_then(|same| same.recover_address_from_prehash(&digest).ok());
                assert_eq!(recover(&digest, &signature), other, "{byte}");
            }
        }
    }

    #[test]
    fn every_form_of_a_signature_becomes_the_one_that_the_token_takes() {
        let digest = vector().digest(networks::find("base-sepolia").unwrap());
        let plain = Bytes::from(SEPOLIA_SIGNATURE.to_vec());
        let mut small_v = SEPOLIA_SIGNATURE;
        small_v[64] -= 27;
        let order = U256::from_be_bytes(hex!(
            "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        ));
        let mut high_s = SEPOLIA_SIGNATURE;
        let s = U256::from_be_slice(&SEPOLIA_SIGNATURE[32..64]);
        high_s[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        high_s[64] = 55 - high_s[64];
        for form in [SEPOLIA_SIGNATURE, small_v, high_s] {
            let form = Bytes::from(form.to_vec());
            assert_eq!(canonical_signature(&form), plain);
            assert_eq!(recover(&digest, &form), Some(vector().from));
            let expected = if form.as_ref() == high_s {
                PlainSignature::Malleable
            } else {
                PlainSignature::By(vector().from)
            };
            assert_eq!(plain_signer(&digest, &form), expected);
        }
        let foreign = Bytes::from(vec![1; 100]);
        assert_eq!(canonical_signature(&foreign), foreign);
        assert_eq!(recover(&digest, &foreign), None);
    }

    #[test]
    fn the_event_topics_are_those_of_the_reference() {
        use alloy_sol_types::SolEvent;
        assert_eq!(
            Token::AuthorizationUsed::SIGNATURE_HASH,
            b256!("98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5")
        );
        assert_eq!(
            Token::AuthorizationCanceled::SIGNATURE_HASH,
            b256!("1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81")
        );
        assert_eq!(
            Token::Transfer::SIGNATURE_HASH,
            keccak256("Transfer(address,address,uint256)")
        );
    }
}
