//! Proofs that a request comes from the payer: the challenge's ticket, an idempotency key, or for
//! version 1 the client's address (docs/payments.md, rule 4).
//!
//! A signature is no such proof, since settling publishes it on the chain. The ledger stores only
//! keyed hashes of proofs. Comparing them takes the same time for every value.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::db::proofs::Proof;
use crate::keys::secrets::{Domain, Keyring, SecretKey, equal_in_constant_time};
use crate::model::payment::PaymentId;
use crate::system::clock::Timestamp;
use crate::x402::header::PaymentHeader;
use crate::x402::wire::Version;

/// The shortest idempotency key that proves who sends a request, in characters. A shorter one could
/// be guessed. It names one purchase all the same.
const SHORTEST_PROOF: usize = 16;
/// The longest idempotency key, in characters.
const LONGEST_KEY: usize = 255;
/// The length of a ticket: 128 bits in hexadecimal digits.
const TICKET_DIGITS: usize = 32;

/// The proofs that a request carries. `Debug` hides them.
#[derive(Clone, Default)]
pub struct RequestProofs {
    ticket: Option<String>,
    idempotency_keys: Vec<String>,
    bad_key: Option<BadKey>,
    address: Option<Vec<u8>>,
}

/// An idempotency key that is malformed, by the place where it was sent. The key itself is not
/// repeated, because it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is empty, has more than {LONGEST_KEY} characters, or has a space or another character that is not visible ASCII. \
     Send 1 to {LONGEST_KEY} visible ASCII characters, such as a UUID, or no key."
)]
pub struct BadKey(&'static str);

/// Reads the value of an `Idempotency-Key` header. A value in double quotes, as structured fields
/// write strings (RFC 9651), names the same key as the text between the quotes.
///
/// # Errors
/// [`BadKey`].
pub fn read_key_header(value: &[u8]) -> Result<String, BadKey> {
    let bad = || BadKey("The header Idempotency-Key");
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let quoted = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let key = match quoted {
        Some(inner) => unescape(inner).ok_or_else(bad)?,
        None => text.to_owned(),
    };
    if is_key(&key) { Ok(key) } else { Err(bad()) }
}

/// Reads the id of the `payment-identifier` extension.
fn read_key_id(id: &str) -> Result<String, BadKey> {
    let key = is_key(id).then(|| id.to_owned());
    key.ok_or(BadKey("The id of the payment-identifier extension"))
}

fn is_key(text: &str) -> bool {
    (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The string between the quotes of a structured field. `None`: a quote or a backslash in it is not
/// escaped.
fn unescape(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\\' => letters.next().filter(|next| matches!(next, '"' | '\\'))?,
            '"' => return None,
            letter => letter,
        });
    }
    Some(text)
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
        idempotency_key: Option<&[u8]>,
        address: Option<IpAddr>,
    ) -> Self {
        let keys = [
            header.idempotency_key.as_deref().map(read_key_id),
            idempotency_key.map(read_key_header),
        ];
        let (keys, bad): (Vec<_>, Vec<_>) = keys.into_iter().flatten().partition(Result::is_ok);
        Self {
            ticket: header.ticket.clone().filter(|ticket| is_ticket(ticket)),
            idempotency_keys: keys.into_iter().flatten().collect(),
            bad_key: bad.into_iter().find_map(Result::err),
            address: address
                .filter(|_| header.version == Version::V1)
                .map(client_prefix),
        }
    }

    /// Checks that the request's idempotency keys are well-formed.
    ///
    /// # Errors
    /// The first one that is not.
    pub(super) fn check_keys(&self) -> Result<(), BadKey> {
        self.bad_key.map_or(Ok(()), Err)
    }

    /// The hashes of the request's idempotency keys: under each, this payer is charged once. Both
    /// keys count, since the next request may carry only one of them. Each is hashed by every
    /// master key, since an idempotency key outlives a rotation. The hashes are sorted, so that two
    /// requests lock their rows in the same order.
    pub(super) fn key_hashes(&self, keys: &Keyring) -> Vec<String> {
        hashes(keys, &self.idempotency_keys.iter().collect::<Vec<_>>())
    }

    /// The hashes of those idempotency keys that are too long to be guessed.
    pub(super) fn secret_key_hashes(&self, keys: &Keyring) -> Vec<String> {
        hashes(keys, &self.secret_keys().collect::<Vec<_>>())
    }

    /// Whether one of the idempotency keys could be guessed.
    pub(super) fn has_short_key(&self) -> bool {
        self.idempotency_keys.iter().any(|key| !is_secret(key))
    }

    fn secret_keys(&self) -> impl Iterator<Item = &String> {
        self.idempotency_keys.iter().filter(|key| is_secret(key))
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
        let idempotency_keys = self.secret_keys().map(|text| Proof {
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

/// Whether an idempotency key is long enough to prove who sends it.
fn is_secret(key: &str) -> bool {
    key.len() >= SHORTEST_PROOF
}

fn hashes(keys: &Keyring, texts: &[&String]) -> Vec<String> {
    let hash = |secret: &SecretKey, key: &String| {
        secret.derive_hex(Domain::IdempotencyKey, &[key.as_bytes()])
    };
    let hashes: BTreeSet<String> = keys
        .iter()
        .flat_map(|secret| texts.iter().map(move |key| hash(secret, key)))
        .collect();
    hashes.into_iter().collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_and_quotes_around_it_are_not_part_of_it() {
        let longest = "k".repeat(255);
        let quoted = format!("\"{longest}\"");
        for (value, key) in [
            ("order-1", "order-1"),
            ("\"order-1\"", "order-1"),
            ("!", "!"),
            ("~/a?b=c#d", "~/a?b=c#d"),
            (longest.as_str(), longest.as_str()),
            (quoted.as_str(), longest.as_str()),
            (r#""a\\b\"c""#, r#"a\b"c"#),
            (r"a\b", r"a\b"),
            ("\"order-1", "\"order-1"),
            ("\"order-1\";v=1", "\"order-1\";v=1"),
        ] {
            assert_eq!(read_key_header(value.as_bytes()).as_deref(), Ok(key));
        }
        let too_long = "k".repeat(256);
        for value in [
            "",
            "\"\"",
            "order 1",
            "\"order 1\"",
            "order\t1",
            "bestellung-\u{e4}",
            "\u{7f}",
            r#""a\b""#,
            "\"a\"b\"",
            &too_long,
        ] {
            assert!(read_key_header(value.as_bytes()).is_err(), "{value:?}");
        }
        assert!(read_key_header(&[0x6f, 0xff]).is_err());
        assert!(read_key_id("order-1").is_ok());
        for id in ["", "order 1", "\u{e9}", &too_long] {
            assert!(read_key_id(id).is_err(), "{id:?}");
        }
    }
}
