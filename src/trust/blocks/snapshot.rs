//! The blocks in memory, for lookups that wait for nothing.

use std::collections::HashMap;
use std::hash::Hash;

use alloy_primitives::Address;

use super::counts;
use crate::db::{Db, DbError, blocks};
use crate::model::block::Target;
use crate::model::pdq::PdqHash;
use crate::system::clock::Timestamp;

/// When a block expires; `None`: never.
type Expiry = Option<Timestamp>;

/// The blocks as they were at one time.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    version: i64,
    sha256: HashMap<[u8; 32], Expiry>,
    pdq: Vec<(PdqHash, Expiry)>,
    wallets: HashMap<Address, Expiry>,
}

impl Snapshot {
    /// Reads all blocks.
    pub(super) async fn read(db: &Db, now: Timestamp) -> Result<Self, DbError> {
        // Blocks that come in between are read again, since their version is newer.
        let version = blocks::version(db).await?;
        Ok(Self::of(version, blocks::targets(db, now).await?))
    }

    fn of(version: i64, targets: Vec<(Target, Expiry)>) -> Self {
        let mut snapshot = Self {
            version,
            ..Self::default()
        };
        let mut pdq = HashMap::new();
        for (target, expires) in targets {
            match target {
                Target::Sha256(hash) => note(&mut snapshot.sha256, hash, expires),
                Target::Wallet(wallet) => note(&mut snapshot.wallets, wallet, expires),
                Target::Pdq(hash) => note(&mut pdq, hash, expires),
            }
        }
        snapshot.pdq = pdq.into_iter().collect();
        snapshot
    }

    /// How often the blocks had changed.
    pub(super) const fn version(&self) -> i64 {
        self.version
    }

    pub(super) const fn has_pdq(&self) -> bool {
        !self.pdq.is_empty()
    }

    pub(super) fn has_wallets(&self) -> bool {
        !self.wallets.is_empty()
    }

    /// Whether bytes with this SHA-256, in hexadecimal, are blocked.
    pub(super) fn has_sha256(&self, hash: &str, now: Timestamp) -> bool {
        let mut bytes = [0; 32];
        hex::decode_to_slice(hash, &mut bytes).is_ok()
            && self.sha256.get(&bytes).is_some_and(|at| counts(*at, now))
    }

    pub(super) fn has_wallet(&self, wallet: &Address, now: Timestamp) -> bool {
        self.wallets.get(wallet).is_some_and(|at| counts(*at, now))
    }

    /// Whether one of these hashes is within `distance` bits of a block. Compares all of them: of
    /// unrelated hashes, the first word usually decides.
    pub(super) fn has_near(&self, hashes: &[PdqHash], distance: u32, now: Timestamp) -> bool {
        self.pdq.iter().any(|(blocked, at)| {
            hashes.iter().any(|hash| hash.is_near(blocked, distance)) && counts(*at, now)
        })
    }
}

/// Keeps the latest expiry of a target that several sources block.
fn note<K: Eq + Hash>(known: &mut HashMap<K, Expiry>, key: K, expires: Expiry) {
    let latest = |known: Expiry| Some(known?.max(expires?));
    known
        .entry(key)
        .and_modify(|known| *known = latest(*known))
        .or_insert(expires);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1000);

    fn pdq(seed: u64) -> PdqHash {
        // A permutation of 64 bits that spreads them (splitmix64).
        let word = |index: u64| {
            let mut z = (seed * 4 + index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let [a, b, c, d] = [0, 1, 2, 3].map(word);
        format!("{a:016x}{b:016x}{c:016x}{d:016x}").parse().unwrap()
    }

    #[test]
    fn a_block_counts_until_its_last_source_expires() {
        let (hash, wallet) = ([7; 32], Address::repeat_byte(1));
        let soon = Some(NOW.plus(std::time::Duration::from_secs(1)));
        let snapshot = Snapshot::of(
            1,
            vec![
                (Target::Sha256(hash), soon),
                (Target::Sha256(hash), None),
                (Target::Wallet(wallet), Some(NOW)),
                (Target::Wallet(wallet), soon),
                (Target::Pdq(pdq(1)), Some(NOW)),
            ],
        );
        let later = Timestamp::from_seconds(2000);
        assert!(snapshot.has_sha256(&hex::encode(hash), later));
        assert!(snapshot.has_wallet(&wallet, NOW));
        assert!(!snapshot.has_wallet(&wallet, later));
        assert!(!snapshot.has_near(&[pdq(1)], 31, NOW), "it has expired");
    }

    #[test]
    fn a_near_hash_is_found_among_100_000_and_no_other_is() {
        let blocks = (0..100_000).map(|seed| (Target::Pdq(pdq(seed)), None));
        let snapshot = Snapshot::of(1, blocks.collect());
        let text = pdq(70_000).to_string();
        // One digit differs in at most four bits.
        let near: PdqHash = format!("{}0", &text[..63]).parse().unwrap();
        assert!(snapshot.has_near(&[pdq(200_000), near], 31, NOW));
        let others: Vec<PdqHash> = (200_000..200_008).map(pdq).collect();
        assert!(!snapshot.has_near(&others, 31, NOW));
    }
}
