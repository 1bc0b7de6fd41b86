//! Signed links: what shows a private image until a certain second. A link is a function of the
//! image and the master key, and none is stored.

use std::fmt;

use subtle::ConstantTimeEq;

use super::ids::ImageId;
use crate::keys::secrets::{Domain, Keyring, SecretKey};
use crate::system::clock::Timestamp;

/// The number of bytes in a signature. Nobody can guess 128 bits.
const BYTES: usize = 16;
/// The number of hexadecimal digits that spell a signature.
pub const DIGITS: usize = 2 * BYTES;

/// The end and the signature of a link to a private image. `Debug` hides the signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignedLink {
    /// The second from which the link shows nothing, since the Unix epoch.
    expires: u32,
    signature: [u8; BYTES],
}

impl fmt::Debug for SignedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[link until {}]", self.expires)
    }
}

impl SignedLink {
    /// Signs a link to `image` that ends at `expires`, rounded down to seconds. `serial` is the
    /// image's current [`Image::link_serial`](super::image::Image::link_serial). Times before 1970
    /// and after 2106 become the nearest possible one.
    pub fn sign(key: &SecretKey, image: &ImageId, expires: Timestamp, serial: u32) -> Self {
        let seconds = expires.seconds().max(0).unsigned_abs();
        let expires = u32::try_from(seconds).unwrap_or(u32::MAX);
        Self {
            expires,
            signature: signature(key, image, expires, serial),
        }
    }

    /// Reads the values of the query parameters `exp` and `sig`. `None`: they are not spelled as
    /// [`SignedLink::query`] spells them.
    pub fn parse(exp: &str, sig: &str) -> Option<Self> {
        let expires: u32 = exp.parse().ok()?;
        let mut signature = [0; BYTES];
        hex::decode_to_slice(sig, &mut signature).ok()?;
        let is_canonical = expires.to_string() == exp && hex::encode(signature) == sig;
        is_canonical.then_some(Self { expires, signature })
    }

    /// Reads the query of a signed link. `None`: the text is no link with both parameters.
    pub fn in_link(text: &str) -> Option<Self> {
        let url = url::Url::parse(text).ok()?;
        let one = |name: &str| {
            let mut values = url.query_pairs().filter(|(known, _)| known == name);
            values.next().map(|(_, value)| value)
        };
        Self::parse(&one("exp")?, &one("sig")?)
    }

    /// Whether one of `keys` signed this link for `image` under this serial. It may have ended.
    /// Takes the same time for every signature.
    pub fn is_signed(&self, keys: &Keyring, image: &ImageId, serial: u32) -> bool {
        let mut is_right = subtle::Choice::from(0);
        for key in keys.iter() {
            is_right |= signature(key, image, self.expires, serial).ct_eq(&self.signature);
        }
        is_right.into()
    }

    /// The instant from which the link shows nothing.
    pub fn expires(&self) -> Timestamp {
        Timestamp::from_seconds(i64::from(self.expires))
    }

    /// The query of the link: `exp=<seconds>&sig=<digits>`. It is a secret.
    pub fn query(&self) -> String {
        format!("exp={}&sig={}", self.expires, hex::encode(self.signature))
    }
}

fn signature(key: &SecretKey, image: &ImageId, expires: u32, serial: u32) -> [u8; BYTES] {
    let parts: [&[u8]; 3] = [
        image.as_str().as_bytes(),
        &expires.to_be_bytes(),
        &serial.to_be_bytes(),
    ];
    let whole = key.derive(Domain::ImageLink, &parts);
    whole.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Timestamp = Timestamp::from_millis(1_800_000_000_900);

    #[test]
    fn a_link_is_signed_for_one_image_one_end_and_one_serial() {
        let [old, new, other] = [1, 2, 3].map(|byte| SecretKey::from_bytes([byte; 32]));
        let keys = Keyring::new(new.clone(), vec![old.clone()]);
        let [one, two] = ["c5mDEBjUdqXP", "d5mDEBjUdqXP"].map(|id| ImageId::parse(id).unwrap());
        for key in [&old, &new] {
            let link = SignedLink::sign(key, &one, END, 3);
            assert_eq!(link.expires(), Timestamp::from_seconds(1_800_000_000));
            assert!(link.is_signed(&keys, &one, 3));
            assert!(!link.is_signed(&keys, &two, 3));
            assert!(!link.is_signed(&keys, &one, 4));
            let later = SignedLink {
                expires: link.expires + 1,
                ..link
            };
            assert!(!later.is_signed(&keys, &one, 3));
            for at in 0..BYTES {
                let mut forged = link;
                forged.signature[at] ^= 1;
                assert!(!forged.is_signed(&keys, &one, 3), "byte {at}");
            }
        }
        let foreign = SignedLink::sign(&other, &one, END, 3);
        assert!(!foreign.is_signed(&keys, &one, 3));
    }

    #[test]
    fn a_link_is_read_in_one_spelling_only() {
        let key = SecretKey::from_bytes([1; 32]);
        let image = ImageId::parse("c5mDEBjUdqXP").unwrap();
        let link = SignedLink::sign(&key, &image, END, 0);
        let query = link.query();
        let (exp, sig) = query
            .strip_prefix("exp=")
            .and_then(|rest| rest.split_once("&sig="))
            .unwrap();
        assert_eq!(SignedLink::parse(exp, sig), Some(link));
        assert_eq!(sig.len(), DIGITS);
        for (exp, sig) in [
            (exp, &sig[1..]),
            (exp, &*format!("{sig}0")),
            (exp, &sig.to_uppercase()),
            (exp, ""),
            ("", sig),
            ("-1", sig),
            (&*format!("+{exp}"), sig),
            (&*format!("0{exp}"), sig),
            ("18446744073709551616", sig),
        ] {
            assert_eq!(SignedLink::parse(exp, sig), None, "{exp} {sig}");
        }
        assert!(!format!("{link:?}").contains(sig));
    }
}
