//! Parses `secrets.key`. No error repeats a part of a key.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::keys::secrets::{Keyring, SecretKey};

/// The reasons why a text is not a secret key. No message holds a part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// The text is neither 64 hex digits nor base64 of 32 bytes.
    #[error("is not 32 bytes, as 64 hex digits or as base64")]
    Malformed,
    /// The key is a placeholder: anybody could make tokens with it.
    #[error("is all zeros")]
    Zeros,
    /// A key is listed twice.
    #[error("holds the same key twice")]
    Twice,
    /// More keys than are allowed: the server tries each of them with every proof.
    #[error("holds too many keys, but at most {MOST} are allowed")]
    TooMany,
}

/// The most keys, current and older ones.
const MOST: usize = 8;

/// Parses one key or several, separated by commas, spaces or line ends. The first is the current key, the
/// others are older ones.
///
/// # Errors
/// [`SecretKeyError`], if one of them is not a key.
pub fn parse_secret_keys(text: &str) -> Result<Keyring, SecretKeyError> {
    let words = text.split(|letter: char| letter == ',' || letter.is_whitespace());
    let keys = words.filter(|word| !word.is_empty()).map(parse_secret_key);
    let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
    let names: BTreeSet<String> = keys.iter().map(SecretKey::fingerprint).collect();
    if keys.is_empty() {
        return Err(SecretKeyError::Malformed);
    }
    if names.len() < keys.len() {
        return Err(SecretKeyError::Twice);
    }
    if keys.len() > MOST {
        return Err(SecretKeyError::TooMany);
    }
    let older = keys.split_off(1);
    let current = keys.pop().ok_or(SecretKeyError::Malformed)?;
    Ok(Keyring::new(current, older))
}

/// Parses 64 hex digits, or base64 of either alphabet, padded or not.
pub fn parse_secret_key(text: &str) -> Result<SecretKey, SecretKeyError> {
    let bytes = if text.len() == 64 {
        hex::decode(text).ok()
    } else {
        decode_base64(text)
    };
    let bytes: [u8; 32] = bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(SecretKeyError::Malformed)?;
    if bytes == [0; 32] {
        Err(SecretKeyError::Zeros)
    } else {
        Ok(SecretKey::from_bytes(bytes))
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&alphabet::STANDARD, &alphabet::URL_SAFE]
        .into_iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_hex_and_from_every_base64() {
        let key = SecretKey::from_bytes([0xfb; 32]);
        let standard = "+/v7".repeat(10) + "+/s=";
        let url_safe = standard.replace('+', "-").replace('/', "_");
        for text in [
            "fb".repeat(32),
            "FB".repeat(32),
            standard.trim_end_matches('=').to_owned(),
            standard,
            url_safe.trim_end_matches('=').to_owned(),
            url_safe,
        ] {
            let parsed = parse_secret_key(&text).unwrap();
            assert_eq!(parsed.fingerprint(), key.fingerprint(), "{text}");
        }
    }

    #[test]
    fn of_several_keys_the_first_makes_secrets_and_the_others_are_older() {
        let [one, two, three] = ["ab", "cd", "ef"].map(|byte| byte.repeat(32));
        for text in [
            format!("{one},{two},{three}"),
            format!("{one}\n{two}\r\n\n {three}\n"),
        ] {
            let keys = parse_secret_keys(&text).unwrap();
            let names: Vec<String> = keys.iter().map(SecretKey::fingerprint).collect();
            let expected = [&one, &two, &three].map(|key| parse_secret_key(key).unwrap());
            assert_eq!(names, expected.map(|key| key.fingerprint()));
            assert_eq!(keys.count_older(), 2);
        }
        let refused = |text: &str| parse_secret_keys(text).unwrap_err();
        assert_eq!(refused(" , "), SecretKeyError::Malformed);
        assert_eq!(refused(&format!("{one},abc")), SecretKeyError::Malformed);
        assert_eq!(refused(&format!("{one} {one}")), SecretKeyError::Twice);
        let nine: Vec<String> = (1..=9_u8).map(|byte| hex::encode([byte; 32])).collect();
        assert_eq!(refused(&nine.join("\n")), SecretKeyError::TooMany);
        parse_secret_keys(&nine[1..].join("\n")).unwrap();
    }

    #[test]
    fn other_lengths_and_placeholders_are_no_keys() {
        for text in [
            "",
            "abc",
            &"ab".repeat(31),
            &"ab".repeat(33),
            &"zz".repeat(32),
            "AAAA",
        ] {
            assert_eq!(
                parse_secret_key(text).unwrap_err(),
                SecretKeyError::Malformed,
                "{text}"
            );
        }
        assert_eq!(
            parse_secret_key(&"00".repeat(32)).unwrap_err(),
            SecretKeyError::Zeros
        );
    }
}
