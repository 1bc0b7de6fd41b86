//! The private key that signs payments: where it is looked for, and the wallet that is created for play money. A key
//! never leaves this module.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, Bytes};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;

use crate::evm::exact::canonical_signature;
use crate::system::random::Randomness;

/// The environment variable with the private key, in hex.
pub const KEY_VARIABLE: &str = "PIXTOLL_WALLET_KEY";
/// The environment variable with the path of a key file.
pub const FILE_VARIABLE: &str = "PIXTOLL_WALLET";

/// The most bytes of a key file that are read. A key has 64 hex digits, optionally `0x` and a line break.
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// A private key that signs payments.
pub struct Wallet(PrivateKeySigner);

/// Where the key comes from. Nothing is read before [`WalletSource::find`].
#[derive(Clone)]
pub enum WalletSource {
    /// The key itself, from the environment.
    Key(String),
    /// A file that the user named. It must exist.
    File(PathBuf),
    /// The default file, which is created for play money when it doesn't exist.
    Default(PathBuf),
    /// No source: neither a wallet nor a home directory is known.
    Nowhere,
}

/// Why there is no wallet. No message holds any part of a key.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The source holds no private key.
    #[error("{origin} holds no private key: it must be 64 hex digits, with or without 0x.")]
    NotAKey {
        /// The file or the variable.
        origin: String,
    },
    /// No wallet was given, and the server asks for real money.
    #[error(
        "The server asks for real money, and no wallet is given. Name a file with a private key in hex by --wallet FILE \
         or {FILE_VARIABLE}, or put the key itself into {KEY_VARIABLE}."
    )]
    Missing,
    /// The file can't be read or written.
    #[error("The wallet file {path} can't be used: {error}.", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// The signing library failed.
    #[error("The wallet could not sign the payment. Check that its key is a valid secp256k1 key.")]
    Signing,
}

impl Wallet {
    /// The address of the account that pays.
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// Signs a digest. The signature is in the canonical form that the USDC contract accepts: 65 bytes, low `s`, `v` 27
    /// or 28.
    ///
    /// # Errors
    /// [`WalletError::Signing`].
    pub fn sign(&self, digest: &B256) -> Result<Bytes, WalletError> {
        let signature = self
            .0
            .sign_hash_sync(digest)
            .map_err(|_| WalletError::Signing)?;
        Ok(canonical_signature(&Bytes::copy_from_slice(
            &signature.as_bytes(),
        )))
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let key: [u8; 32] = hex::decode(digits).ok()?.try_into().ok()?;
        PrivateKeySigner::from_bytes(&B256::from(key))
            .ok()
            .map(Self)
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet({})", self.address())
    }
}

impl fmt::Debug for WalletSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => f.write_str("Key([secret])"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Default(path) => write!(f, "Default({})", path.display()),
            Self::Nowhere => f.write_str("Nowhere"),
        }
    }
}

impl WalletSource {
    /// Chooses the source, in this order: the file of `--wallet`, [`KEY_VARIABLE`], [`FILE_VARIABLE`], the default
    /// file.
    pub fn new(flag: Option<&Path>, env: &BTreeMap<String, String>) -> Self {
        if let Some(path) = flag {
            return Self::File(path.to_owned());
        }
        if let Some(key) = set(env, KEY_VARIABLE) {
            return Self::Key(key.to_owned());
        }
        if let Some(path) = set(env, FILE_VARIABLE) {
            return Self::File(PathBuf::from(path));
        }
        match data_dir(env) {
            Some(dir) => Self::Default(dir.join("wallet.key")),
            None => Self::Nowhere,
        }
    }

    /// Reads the wallet. `None` when none was given and the default file doesn't exist.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn find(&self) -> Result<Option<Wallet>, WalletError> {
        match self {
            Self::Key(key) => Wallet::parse(key)
                .map(Some)
                .ok_or_else(|| WalletError::NotAKey {
                    origin: KEY_VARIABLE.to_owned(),
                }),
            Self::File(path) => read(path).map(Some),
            Self::Default(path) => match read(path) {
                Err(WalletError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                    Ok(None)
                }
                wallet => wallet.map(Some),
            },
            Self::Nowhere => Ok(None),
        }
    }

    /// Creates a random key and writes it to the default file, for play money only. When another process created the
    /// file meanwhile, its key is the wallet.
    ///
    /// # Errors
    /// [`WalletError::Missing`] when the source is not the default file.
    pub fn create(&self, randomness: &Randomness) -> Result<(Wallet, &Path), WalletError> {
        let Self::Default(path) = self else {
            return Err(WalletError::Missing);
        };
        let failed = |error| WalletError::File {
            path: path.clone(),
            error,
        };
        let key = std::iter::repeat_with(|| randomness.bytes::<32>())
            .find(|key| PrivateKeySigner::from_bytes(&B256::from(*key)).is_ok())
            .unwrap_or_default();
        write_new_private(path, format!("{}\n", hex::encode(key)).as_bytes()).map_err(failed)?;
        read(path).map(|wallet| (wallet, path.as_path()))
    }
}

/// The client's data directory: `pixtoll` under `XDG_DATA_HOME` or `~/.local/share`. `None` when neither variable
/// holds an absolute path.
pub fn data_dir(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    // The XDG Base Directory Specification says to ignore a relative path.
    let absolute = |name| {
        set(env, name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|dir| dir.join("pixtoll"))
}

/// The directory of what the client remembers between runs: `pixtoll` under `XDG_STATE_HOME` or `~/.local/state`. `None`
/// when neither variable holds an absolute path.
pub fn state_dir(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let absolute = |name| {
        set(env, name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|dir| dir.join("pixtoll"))
}

/// Writes a file that only the user may read, atomically and durably. Returns `false` and changes nothing when a file
/// of this name exists.
pub(super) fn write_new_private(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // Written to a temporary file (O_EXCL, 0600) and then renamed: a crash never leaves half a key or half a payment
    // under the final name.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => File::open(dir)?.sync_all().map(|()| true),
        Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(lost) => Err(lost.error),
    }
}

fn read(path: &Path) -> Result<Wallet, WalletError> {
    let failed = |error| WalletError::File {
        path: path.to_owned(),
        error,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    match file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(failed(error)),
        _ => Wallet::parse(&text).ok_or_else(|| WalletError::NotAKey {
            origin: path.display().to_string(),
        }),
    }
}

/// The value of a variable; an empty value counts as unset.
fn set<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    env.get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    const ADDRESS: &str = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_sources_are_flag_key_file_and_default_in_this_order() {
        let all = [
            (KEY_VARIABLE, KEY),
            (FILE_VARIABLE, "/b"),
            ("XDG_DATA_HOME", "/data"),
        ];
        let source =
            |flag: Option<&str>, env| format!("{:?}", WalletSource::new(flag.map(Path::new), &env));
        assert_eq!(source(Some("/a"), env(&all)), "File(/a)");
        assert_eq!(source(None, env(&all)), "Key([secret])");
        assert_eq!(source(None, env(&all[1..])), "File(/b)");
        assert_eq!(
            source(None, env(&all[2..])),
            "Default(/data/pixtoll/wallet.key)"
        );
        let home = env(&[
            ("HOME", "/home/a"),
            ("XDG_DATA_HOME", "relative"),
            (KEY_VARIABLE, ""),
        ]);
        assert_eq!(
            source(None, home),
            "Default(/home/a/.local/share/pixtoll/wallet.key)"
        );
        assert_eq!(source(None, env(&[])), "Nowhere");
    }

    #[test]
    fn a_key_is_read_with_and_without_prefix_and_never_shown() {
        for text in [KEY.to_owned(), format!("0x{KEY}\n")] {
            let wallet = WalletSource::Key(text).find().unwrap().unwrap();
            assert_eq!(wallet.address().to_string(), ADDRESS);
            assert_eq!(format!("{wallet:?}"), format!("Wallet({ADDRESS})"));
        }
        for bad in ["", "12", &KEY[1..], &"0".repeat(64), &"zz".repeat(32)] {
            let error = WalletSource::Key(bad.to_owned()).find().unwrap_err();
            let text = "PIXTOLL_WALLET_KEY holds no private key: it must be 64 hex digits, with or without 0x.";
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_created_wallet_is_private_and_stays_the_same() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("share/pixtoll/wallet.key");
        let source = WalletSource::Default(path.clone());
        assert!(source.find().unwrap().is_none());
        let (first, _) = source.create(&Randomness::seeded(1)).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let (again, _) = source.create(&Randomness::seeded(2)).unwrap();
        assert_eq!(again.address(), first.address());
        assert_eq!(source.find().unwrap().unwrap().address(), first.address());
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn only_the_default_wallet_is_ever_created() {
        let dir = tempfile::tempdir().unwrap();
        let named = WalletSource::File(dir.path().join("absent"));
        assert!(matches!(named.find(), Err(WalletError::File { .. })));
        for source in [named, WalletSource::Nowhere] {
            let refused = source.create(&Randomness::seeded(1));
            assert!(matches!(refused, Err(WalletError::Missing)));
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn an_error_about_a_key_file_names_it_but_shows_no_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for bytes in [b"hunter2".as_slice(), &[0xff; 64], &[b'1'; 5000]] {
            std::fs::write(&path, bytes).unwrap();
            let error = WalletSource::File(path.clone())
                .find()
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(&path.display().to_string()) && !error.contains("hunter2"));
        }
    }
}
