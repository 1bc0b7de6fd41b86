//! Cursors of lists that belong to a wallet. A cursor holds the wallet that signed in and the
//! position of the next page, so that one sign-in is enough for a whole list. It carries a MAC, so
//! nothing about it is stored.

use std::time::Duration;

use alloy_primitives::Address;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::SignedIn;
use crate::keys::secrets::{Domain, Keyring, SecretKey, equal_in_constant_time};
use crate::pricing::networks;
use crate::system::clock::Timestamp;

/// How long a sign-in is good for the following pages of a list.
const LIFETIME: Duration = Duration::from_mins(10);
/// The digits of the MAC.
const MAC: usize = 32;
/// The longest cursor, in bytes.
const LONGEST: usize = 1024;

/// A place in a list of a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The wallet whose list it is, as it signed in.
    pub signed_in: SignedIn,
    /// Until when the cursor is good without another sign-in: 10 minutes after the last one.
    pub until: Timestamp,
    /// Where the next page begins, in a form that the list defines.
    pub position: String,
}

/// What a cursor's text holds.
#[derive(Serialize, Deserialize)]
struct Content {
    wallet: String,
    network: Option<String>,
    until: i64,
    position: String,
}

impl Cursor {
    /// The cursor of the first page, for a wallet that signs in now.
    pub fn first(signed_in: SignedIn, now: Timestamp) -> Self {
        Self {
            signed_in,
            until: now.plus(LIFETIME),
            position: String::new(),
        }
    }

    /// The same list from this position on.
    #[must_use]
    pub fn at(&self, position: String) -> Self {
        Self {
            position,
            ..self.clone()
        }
    }

    /// The cursor as text for clients. `path` is the route of the list.
    pub(super) fn write(&self, key: &SecretKey, path: &str) -> String {
        let content = Content {
            wallet: self.signed_in.wallet.to_string(),
            network: self.signed_in.network.map(|it| it.caip2.to_owned()),
            until: self.until.millis(),
            position: self.position.clone(),
        };
        let json = serde_json::to_vec(&content).unwrap_or_default();
        let content = URL_SAFE_NO_PAD.encode(json);
        let mac = mac(key, path, &content);
        format!("{content}{mac}")
    }

    /// Reads the text of a cursor, also of one that is not good any more without another sign-in.
    /// `None`: this deployment did not make it for this route.
    pub(super) fn read(keys: &Keyring, path: &str, text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (content, sent) = text.split_at_checked(text.len().checked_sub(MAC)?)?;
        let mut is_ours = false;
        for key in keys.iter() {
            is_ours |= equal_in_constant_time(&mac(key, path, content), sent);
        }
        if !is_ours {
            return None;
        }
        let json = URL_SAFE_NO_PAD.decode(content).ok()?;
        let content: Content = serde_json::from_slice(&json).ok()?;
        let network = match content.network {
            None => None,
            Some(caip2) => Some(networks::find(&caip2)?),
        };
        Some(Self {
            signed_in: SignedIn {
                wallet: content.wallet.parse::<Address>().ok()?,
                network,
            },
            until: Timestamp::from_millis(content.until),
            position: content.position,
        })
    }
}

fn mac(key: &SecretKey, path: &str, content: &str) -> String {
    let mut mac = key.derive_hex(Domain::Cursor, &[path.as_bytes(), content.as_bytes()]);
    mac.truncate(MAC);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::networks::BASE;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const PATH: &str = "/api/images";

    fn cursor() -> Cursor {
        let signed_in = SignedIn {
            wallet: Address::repeat_byte(0xc0),
            network: Some(&BASE),
        };
        Cursor::first(signed_in, NOW).at("1.k3v9Qw2mZr7T".to_owned())
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_under_each_key() {
        let [old, new] = [1, 2].map(|byte| SecretKey::from_bytes([byte; 32]));
        let text = cursor().write(&old, PATH);
        let keys = Keyring::new(new.clone(), vec![old]);
        assert_eq!(Cursor::read(&keys, PATH, &text), Some(cursor()));
        assert_eq!(cursor().until, NOW.plus(LIFETIME));
        assert_eq!(Cursor::read(&Keyring::from(new), PATH, &text), None);
        assert_eq!(Cursor::read(&keys, "/api/links", &text), None);
    }

    #[test]
    fn a_changed_cursor_is_not_read() {
        let key = SecretKey::from_bytes([1; 32]);
        let text = cursor().write(&key, PATH);
        let keys = Keyring::from(key);
        for place in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(Cursor::read(&keys, PATH, &changed), None, "{place}");
        }
        let long = "0".repeat(LONGEST + 1);
        for other in ["", "é", &text[1..], &format!("{text}0"), &long] {
            assert_eq!(Cursor::read(&keys, PATH, other), None, "{other}");
        }
    }
}
