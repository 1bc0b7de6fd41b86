//! What proves that a presentation comes from the payer, now that the chain publishes signatures
//! (payments.md, rule 4). Only keyed hashes are kept; comparing takes the same time for every value.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::clock::Timestamp;
use crate::db::payments::Proof;
use crate::model::payment::PaymentId;
use crate::secrets::{Domain, Keyring, SecretKey, equal_in_constant_time};
use crate::x402::header::PaymentHeader;
use crate::x402::wire::Version;

/// The shortest id that is a proof.
const MIN_ID: usize = 16;
/// The longest id that is looked at.
const MAX_ID: usize = 128;
/// 128 bits in hex.
const TICKET_DIGITS: usize = 32;

/// What a request brings along to prove itself. Never printed.
#[derive(Clone, Default)]
pub struct Evidence {
    ticket: Option<String>,
    ids: Vec<String>,
    address: Option<Vec<u8>>,
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[proofs]")
    }
}

impl Evidence {
    /// What a payment header, an `Idempotency-Key` and a client's address prove. The address counts
    /// for clients of version 1 only, which can send nothing else.
    pub fn of(
        header: &PaymentHeader,
        idempotency_key: Option<&str>,
        address: Option<IpAddr>,
    ) -> Self {
        let is_id = |id: &&str| (MIN_ID..=MAX_ID).contains(&id.len());
        let from_extension = header.payment_id.as_deref().filter(|id| {
            id.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        });
        let ids = [from_extension, idempotency_key];
        Self {
            ticket: header.ticket.clone().filter(|ticket| is_ticket(ticket)),
            ids: ids
                .into_iter()
                .flatten()
                .filter(is_id)
                .map(str::to_owned)
                .collect(),
            address: address
                .filter(|_| header.version == Version::V1)
                .map(client_prefix),
        }
    }

    /// The hashes of the ids under which this payer may be charged once: each of them, since the next
    /// request may bring either, by each key, since an id counts for longer than a key makes hashes. In order, so
    /// that two requests with both lock them in the same order.
    pub(super) fn id_hashes(&self, keys: &Keyring) -> Vec<String> {
        let hash =
            |key: &SecretKey, id: &String| key.derive_hex(Domain::PaymentId, &[id.as_bytes()]);
        let hashes: BTreeSet<String> = keys
            .iter()
            .flat_map(|key| self.ids.iter().map(move |id| hash(key, id)))
            .collect();
        hashes.into_iter().collect()
    }

    /// What is bound to a payment when verify succeeded. An address is forgotten at `address_until`.
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
        let ids = self.ids.iter().map(|text| Proof {
            kind: "id",
            hash: key.derive_hex(Domain::PaymentId, &[text.as_bytes()]),
            expires: None,
        });
        // With the payment in the hash, two payments of one address can't be told to be so.
        let address = self.address.iter().map(|address| Proof {
            kind: "address",
            hash: key.derive_hex(Domain::ClientAddress, &[id, address]),
            expires: Some(address_until),
        });
        ticket.chain(ids).chain(address).collect()
    }

    /// Whether one of these proofs is among those that a payment was bound to.
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
                // No early end: the time must not tell which one matched.
                proven |= kind == proof.kind && equal_in_constant_time(hash, &proof.hash);
            }
        }
        proven
    }
}

fn is_ticket(text: &str) -> bool {
    text.len() == TICKET_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The part of an address that stands for one client: all of IPv4, the /64 of IPv6.
fn client_prefix(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().into_iter().take(8).collect(),
    }
}
