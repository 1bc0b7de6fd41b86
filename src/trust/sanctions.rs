//! The sanctions list of wallets, a file that the operator supplies.

use std::collections::HashSet;
use std::path::Path;

use alloy_primitives::Address;

use crate::model::block::{Kind, Target};

/// The largest file that is read, in bytes. OFAC's whole list has about 30 MB.
const LARGEST: u64 = 256 << 20;

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// It can't be read.
    #[error("{file} can't be read: {error}")]
    Unreadable {
        /// The path.
        file: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is too large.
    #[error(
        "{file} has {bytes} bytes, but at most {LARGEST} are read: keep only the lines with wallets"
    )]
    TooLarge {
        /// The path.
        file: String,
        /// The length of the file.
        bytes: u64,
    },
    /// It names no wallet.
    #[error(
        "{file} names no wallet: write one address (0x… with 40 hex digits) on each line, or take the CSV of OFAC's list"
    )]
    Empty {
        /// The path.
        file: String,
    },
}

/// Reads the file: every EVM address in it counts, whatever stands around it. So it may be a plain
/// list, or the CSV or XML of OFAC's list with its "Digital Currency Address" entries.
///
/// # Errors
/// [`BadFile`]. An empty file is one too, since it is most likely a mistake.
pub fn read(path: &Path) -> Result<HashSet<Address>, BadFile> {
    let file = path.display().to_string();
    let unreadable = |error| BadFile::Unreadable {
        file: file.clone(),
        error,
    };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > LARGEST {
        return Err(BadFile::TooLarge { file, bytes });
    }
    let found = addresses(&std::fs::read(path).map_err(unreadable)?);
    if found.is_empty() {
        return Err(BadFile::Empty { file });
    }
    Ok(found)
}

/// The EVM addresses in a text: `0x` and exactly 40 hex digits.
fn addresses(text: &[u8]) -> HashSet<Address> {
    memchr::memmem::find_iter(text, b"0x")
        .filter_map(|at| {
            let is_part = at
                .checked_sub(1)
                .and_then(|before| text.get(before))
                .is_some_and(u8::is_ascii_alphanumeric);
            let continues = text.get(at + 42).is_some_and(u8::is_ascii_alphanumeric);
            let word = text.get(at..at + 42).filter(|_| !is_part && !continues)?;
            match Target::read(Kind::Wallet, std::str::from_utf8(word).ok()?) {
                Some(Target::Wallet(wallet)) => Some(wallet),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0x7F367cC41522cE07553e823bf3be79A889DEbe1B";
    const OTHER: &str = "0xd882cfc20f52f2599d84b8e8d58c7fb62cfe344b";

    #[test]
    fn addresses_are_found_in_plain_lists_and_in_the_list_of_ofac() {
        let expected: HashSet<Address> = [ONE, OTHER].map(|it| it.parse().unwrap()).into();
        assert_eq!(addresses(format!("{ONE}\r\n{OTHER}").as_bytes()), expected);
        let ofac = format!(
            "39796,\"SOMEBODY\",\"individual\",\"CYBER2\",-0- ,\"Digital Currency Address - XBT \
             1EpMiZkQVekM5ij12nMiEwttFPcDK9XhX6; alt. Digital Currency Address - ETH {ONE}; \
             Digital Currency Address - USDC {OTHER}; Phone Number 0x12.\"\n"
        );
        assert_eq!(addresses(ofac.as_bytes()), expected);
    }

    #[test]
    fn longer_and_shorter_numbers_are_no_addresses() {
        let hash = format!("0x{}", "ab".repeat(32));
        for text in [
            hash.as_str(),
            &ONE[..41],
            &format!("{ONE}a"),
            &format!("a{ONE}"),
            "0x",
            "",
        ] {
            assert!(addresses(text.as_bytes()).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_file_without_wallets_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        assert!(matches!(read(&file), Err(BadFile::Unreadable { .. })));
        std::fs::write(&file, "nothing").unwrap();
        assert!(matches!(read(&file), Err(BadFile::Empty { .. })));
        std::fs::write(&file, ONE).unwrap();
        assert_eq!(read(&file).unwrap().len(), 1);
    }
}
