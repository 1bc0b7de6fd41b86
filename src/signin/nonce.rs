//! The nonces of sign-in challenges. Each server makes and recognises them by the master key, so
//! none is stored before it is used.

use std::time::Duration;

use crate::keys::secrets::{Domain, Keyring, SecretKey, equal_in_constant_time};
use crate::system::clock::Timestamp;
use crate::system::random::Randomness;

/// How long a nonce is valid.
pub(super) const LIFETIME: Duration = Duration::from_mins(5);
/// How far the clock of another server may be ahead.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// The digits of the time, of the random part, and of the MAC.
const TIME: usize = 12;
const RANDOM: usize = 32;
const MAC: usize = 32;

/// Makes a nonce: time, a random part, and a MAC of both, in hexadecimal digits.
pub(super) fn make(key: &SecretKey, now: Timestamp, randomness: &Randomness) -> String {
    let time = u64::try_from(now.millis()).unwrap_or_default();
    let drawn = format!("{time:0TIME$x}{}", hex::encode(randomness.bytes::<16>()));
    let mac = mac(key, &drawn);
    format!("{drawn}{mac}")
}

/// Whether this deployment made the nonce, and it is still valid.
pub(super) fn is_valid(keys: &Keyring, nonce: &str, now: Timestamp) -> bool {
    made_at(keys, nonce)
        .is_some_and(|made| made <= now.plus(CLOCK_SKEW) && now < made.plus(LIFETIME))
}

/// When this deployment made the nonce; `None`: it did not.
fn made_at(keys: &Keyring, nonce: &str) -> Option<Timestamp> {
    if nonce.len() != TIME + RANDOM + MAC {
        return None;
    }
    let (drawn, sent) = nonce.split_at_checked(TIME + RANDOM)?;
    let mut is_ours = false;
    for key in keys.iter() {
        is_ours |= equal_in_constant_time(&mac(key, drawn), sent);
    }
    let time = i64::from_str_radix(drawn.get(..TIME)?, 16).ok()?;
    is_ours.then(|| Timestamp::from_millis(time))
}

fn mac(key: &SecretKey, drawn: &str) -> String {
    let mut mac = key.derive_hex(Domain::SignIn, &[drawn.as_bytes()]);
    mac.truncate(MAC);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    #[test]
    fn a_nonce_is_valid_for_five_minutes_under_each_key() {
        let [old, new] = [1, 2].map(|byte| SecretKey::from_bytes([byte; 32]));
        let nonce = make(&old, NOW, &Randomness::seeded(1));
        let keys = Keyring::new(new.clone(), vec![old.clone()]);
        assert!(is_valid(&keys, &nonce, NOW));
        assert!(is_valid(
            &keys,
            &nonce,
            NOW.plus(LIFETIME.saturating_sub(Duration::from_millis(1)))
        ));
        assert!(!is_valid(&keys, &nonce, NOW.plus(LIFETIME)));
        assert!(is_valid(&keys, &nonce, NOW.minus(CLOCK_SKEW)));
        assert!(!is_valid(
            &keys,
            &nonce,
            NOW.minus(CLOCK_SKEW + Duration::from_secs(1))
        ));
        assert!(!is_valid(&Keyring::from(new), &nonce, NOW));
    }

    #[test]
    fn a_changed_nonce_is_not_ours() {
        let key = SecretKey::from_bytes([1; 32]);
        let nonce = make(&key, NOW, &Randomness::seeded(1));
        let keys = Keyring::from(key);
        for place in 0..nonce.len() {
            let mut changed = nonce.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(!is_valid(&keys, &changed, NOW), "{place}");
        }
        for other in [
            "",
            &nonce[1..],
            &format!("{nonce}0"),
            &nonce.to_uppercase(),
            "é",
        ] {
            assert!(!is_valid(&keys, other, NOW), "{other}");
        }
    }
}
