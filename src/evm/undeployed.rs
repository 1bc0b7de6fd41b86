//! Signatures of contract wallets that are not deployed yet (ERC-6492), and the program by which a
//! node checks them.
//!
//! Such a signature carries the call of a factory that would deploy the wallet. A node judges it by
//! one `eth_call` without a recipient, whose input it executes as the code of a new contract.
//! Nothing of it stays on the chain. Every node has that form of `eth_call`; overrides of a node's
//! state and contracts for many calls are not on every one.

use alloy_primitives::{Address, B256, Bytes, U256, b256};
use alloy_sol_types::{SolCall, SolValue};

use super::exact::Wallet;

/// The last 32 bytes of a wrapped signature.
const MARK: B256 = b256!("6492649264926492649264926492649264926492649264926492649264926492");

/// The program, followed in the input by factory and wallet (32 bytes each), the lengths of two
/// calls (32 bytes each), the factory's call, and the wallet's.
///
/// It does what facilitators do. If the wallet has no code, it calls the factory. Then it asks the
/// wallet whether the signature is valid. It returns the value of EIP-1271 if the wallet returns
/// exactly that, else 32 zero bytes, also if one of the calls fails.
#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    // Copy what follows the program to the memory, from 0 on.
    0x60, PROGRAM_LENGTH,   // PUSH1 length of the program
    0x80,                   // DUP1
    0x38, 0x03,             // CODESIZE SUB
    0x90,                   // SWAP1
    0x60, 0x00,             // PUSH1 0
    0x39,                   // CODECOPY
    // If the wallet has code, skip the factory.
    0x60, 0x20, 0x51,       // PUSH1 0x20 MLOAD: the wallet
    0x3b,                   // EXTCODESIZE
    0x60, 0x21, 0x57,       // PUSH1 0x21 JUMPI
    // Call the factory, and ignore whether it succeeds.
    0x60, 0x00, 0x60, 0x00, // no result
    0x60, 0x40, 0x51,       // PUSH1 0x40 MLOAD: the length of its call
    0x60, 0x80,             // PUSH1 0x80: its call
    0x60, 0x00,             // no value
    0x60, 0x00, 0x51,       // PUSH1 0 MLOAD: the factory
    0x5a, 0xf1, 0x50,       // GAS CALL POP
    // Call the wallet.
    0x5b,                   // JUMPDEST, at 0x21
    0x60, 0x20, 0x60, 0x00, // the result: 32 bytes at 0
    0x60, 0x60, 0x51,       // PUSH1 0x60 MLOAD: the length of its call
    0x60, 0x40, 0x51,       // PUSH1 0x40 MLOAD
    0x60, 0x80, 0x01,       // PUSH1 0x80 ADD: its call, behind the factory's
    0x60, 0x20, 0x51,       // PUSH1 0x20 MLOAD: the wallet
    0x5a, 0xfa,             // GAS STATICCALL
    // Whether it succeeded, returned 32 bytes, and returned the value.
    0x60, 0x1f, 0x3d, 0x11, // PUSH1 31 RETURNDATASIZE GT
    0x16,                   // AND
    0x63, 0x16, 0x26, 0xba, 0x7e, // PUSH4 the value of EIP-1271
    0x60, 0xe0, 0x1b,       // PUSH1 224 SHL: as the first four bytes of a word
    0x80,                   // DUP1
    0x60, 0x00, 0x51,       // PUSH1 0 MLOAD: the result
    0x14,                   // EQ
    0x02, 0x02,             // MUL MUL: the value if all three hold, else 0
    0x60, 0x00, 0x52,       // PUSH1 0 MSTORE
    0x60, 0x20, 0x60, 0x00, // PUSH1 32 PUSH1 0
    0xf3,                   // RETURN
];
/// The length of [`PROGRAM`], which it contains itself.
const PROGRAM_LENGTH: u8 = 80;

/// The deployment that a wrapped signature carries, and the signature inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeployed {
    factory: Address,
    deployment: Bytes,
    signature: Bytes,
}

impl Undeployed {
    /// Reads a wrapped signature. `None`: it is not wrapped, or names no factory.
    pub fn read(signature: &Bytes) -> Option<Self> {
        let wrapped = signature.strip_suffix(MARK.as_slice())?;
        let (factory, deployment, signature) =
            <(Address, Bytes, Bytes)>::abi_decode_params(wrapped).ok()?;
        (!factory.is_zero()).then_some(Self {
            factory,
            deployment,
            signature,
        })
    }

    /// The input of an `eth_call` without a recipient that returns [`super::exact::VALID_SIGNATURE`] if
    /// `wallet` accepts the signature of `digest`.
    pub fn check(&self, wallet: Address, digest: B256) -> Bytes {
        let question = Wallet::isValidSignatureCall {
            hash: digest,
            signature: self.signature.clone(),
        }
        .abi_encode();
        let lengths = [self.deployment.len(), question.len()];
        let mut input = PROGRAM.to_vec();
        input.extend_from_slice(self.factory.into_word().as_slice());
        input.extend_from_slice(wallet.into_word().as_slice());
        for length in lengths {
            input.extend_from_slice(&U256::from(length).to_be_bytes::<32>());
        }
        input.extend_from_slice(&self.deployment);
        input.extend_from_slice(&question);
        input.into()
    }
}

/// Whether this is the input of an `eth_call` that [`Undeployed::check`] made.
pub fn is_check(input: &[u8]) -> bool {
    input.starts_with(PROGRAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_knows_its_length_and_its_jump() {
        assert_eq!(PROGRAM.len(), usize::from(PROGRAM_LENGTH));
        let jump = PROGRAM
            .windows(3)
            .find(|code| code[0] == 0x60 && code[2] == 0x57);
        let target = usize::from(jump.unwrap()[1]);
        assert_eq!(PROGRAM[target], 0x5b, "a JUMPDEST");
    }

    #[test]
    fn a_wrapped_signature_is_read_and_becomes_a_call() {
        let (factory, wallet) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let (deployment, inner) = (Bytes::from_static(b"deploy"), Bytes::from_static(b"inner"));
        let wrap = |factory: Address| {
            let mut signature = (factory, deployment.clone(), inner.clone()).abi_encode_params();
            signature.extend_from_slice(MARK.as_slice());
            Bytes::from(signature)
        };
        let read = Undeployed::read(&wrap(factory)).unwrap();
        assert_eq!(read.signature, inner);
        let input = read.check(wallet, B256::repeat_byte(3));
        assert!(is_check(&input));
        let arguments = &input[PROGRAM.len()..];
        assert_eq!(arguments[..32], factory.into_word()[..]);
        assert_eq!(arguments[32..64], wallet.into_word()[..]);
        assert_eq!(arguments[128..134], *b"deploy");
        assert_eq!(arguments[134..138], Wallet::isValidSignatureCall::SELECTOR);
        for other in [
            wrap(Address::ZERO),
            inner,
            Bytes::from([b"junk".as_slice(), MARK.as_slice()].concat()),
        ] {
            assert_eq!(Undeployed::read(&other), None);
        }
    }
}
