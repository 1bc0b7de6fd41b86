//! Proofs that a request comes from the payer: the challenge's ticket, an idempotency key, or for
//! version 1 the client's address (docs/payments.md, rule 4).
//!
//! A signature is no such proof, since settling publishes it on the chain. The ledger stores only
//! keyed hashes of proofs. Comparing them takes the same time for every value.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::db::payments::Proof;
use crate::keys::secrets::{Domain, Keyring, SecretKey, equal_in_constant_time};
use crate::model::payment::PaymentId;
use crate::system::clock::Timestamp;
use crate::x402::header::PaymentHeader;
use crate::x402::wire::Version;

/// The shortest idempotency key that proves anything, in bytes. A shorter one is ignored.
const MIN_KEY: usize = 16;
/// The longest idempotency key that proves anything, in bytes. A longer one is ignored.
const MAX_KEY: usize = 128;
/// The length of a ticket: 128 bits in hexadecimal digits.
const TICKET_DIGITS: usize = 32;

/// The proofs that a request carries. `Debug` hides them.
#[derive(Clone, Default)]
pub struct RequestProofs {
    ticket: Option<String>,
    idempotency_keys: Vec<String>,
    address: Option<Vec<u8>>,
}

impl std::fmt::Debug for RequestProofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[proofs]")
    }
}

impl RequestProofs {
    /// Collects the proofs in a payment header, an `Idempotency-Key` header and the client's
    /// address. The address counts for version 1 only, whose clients can't send another proof.
    pub fn of(
        header: &PaymentHeader,
        idempotency_key: Option<&str>,
        address: Option<IpAddr>,
    ) -> Self {
        let is_long_enough = |key: &&str| (MIN_KEY..=MAX_KEY).contains(&key.len());
        let from_extension = header.idempotency_key.as_deref().filter(|key| {
            key.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        });
        Self {
            ticket: header.ticket.clone().filter(|ticket| is_ticket(ticket)),
            idempotency_keys: [from_extension, idempotency_key]
                .into_iter()
                .flatten()
                .filter(is_long_enough)
                .map(str::to_owned)
                .collect(),
            address: address
                .filter(|_| header.version == Version::V1)
                .map(client_prefix),
        }
    }

    /// The hashes of the request's idempotency keys: under each, this payer is charged once. Both
    /// keys count, since the next request may carry only one of them. Each is hashed by every
    /// master key, since an idempotency key outlives a rotation. The hashes are sorted, so that two
    /// requests lock their rows in the same order.
    pub(super) fn key_hashes(&self, keys: &Keyring) -> Vec<String> {
        let hash = |secret: &SecretKey, key: &String| {
            secret.derive_hex(Domain::IdempotencyKey, &[key.as_bytes()])
        };
        let hashes: BTreeSet<String> = keys
            .iter()
            .flat_map(|secret| {
                let keys = self.idempotency_keys.iter();
                keys.map(move |key| hash(secret, key))
            })
            .collect();
        hashes.into_iter().collect()
    }

    /// The proofs that are bound to a payment when verify succeeds. The address counts until
    /// `address_until`.
    pub(super) fn proofs(
        &self,
        keys: &Keyring,
        payment: &PaymentId,
        address_until: Timestamp,
    ) -> Vec<Proof> {
        self.proofs_by(keys.current(), payment, address_until)
    }

    fn proofs_by(
        &self,
        key: &SecretKey,
        payment: &PaymentId,
        address_until: Timestamp,
    ) -> Vec<Proof> {
        let id = payment.as_str().as_bytes();
        let ticket = self.ticket.iter().map(|ticket| Proof {
            kind: "ticket",
            hash: key.derive_hex(Domain::Ticket, &[ticket.as_bytes()]),
            expires: None,
        });
        let idempotency_keys = self.idempotency_keys.iter().map(|text| Proof {
            kind: "id",
            hash: key.derive_hex(Domain::IdempotencyKey, &[text.as_bytes()]),
            expires: None,
        });
        // The payment is part of the hash, so that nobody can see that two payments came from one
        // address.
        let address = self.address.iter().map(|address| Proof {
            kind: "address",
            hash: key.derive_hex(Domain::ClientAddress, &[id, address]),
            expires: Some(address_until),
        });
        ticket.chain(idempotency_keys).chain(address).collect()
    }

    /// Whether one of these proofs is among `bound`, the kinds and hashes of the proofs of a payment.
    pub(super) fn proves(
        &self,
        keys: &Keyring,
        payment: &PaymentId,
        bound: &[(String, String)],
    ) -> bool {
        let mut proven = false;
        let long_ago = Timestamp::from_millis(0);
        let proofs = keys
            .iter()
            .flat_map(|key| self.proofs_by(key, payment, long_ago));
        for proof in proofs {
            for (kind, hash) in bound {
                // No early return: the time must not reveal which one matched.
                proven |= kind == proof.kind && equal_in_constant_time(hash, &proof.hash);
            }
        }
        proven
    }
}

fn is_ticket(text: &str) -> bool {
    text.len() == TICKET_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The part of an address that identifies a client: all of an IPv4 address, the /64 prefix of an
/// IPv6 address.
fn client_prefix(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().into_iter().take(8).collect(),
    }
}
