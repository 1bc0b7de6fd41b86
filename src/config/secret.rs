//! Reads the secret key. No error repeats any of it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::secrets::SecretKey;

/// Why a text is no secret key. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// Neither 64 hex digits nor base64 of 32 bytes.
    #[error("is not 32 bytes, as 64 hex digits or as base64")]
    Malformed,
    /// A placeholder, which would let anyone make tokens.
    #[error("is all zeros")]
    Zeros,
}

/// Reads 64 hex digits, or base64 of either alphabet, padded or not.
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
