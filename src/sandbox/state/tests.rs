use super::super::support::{START, open};
use super::*;
use crate::pricing::networks;

#[tokio::test]
async fn every_commit_is_synced_to_disk() {
    let directory = tempfile::tempdir().unwrap();
    let location = Location::File(directory.path().join("sandbox.db"));
    let network = networks::find("base-sepolia").unwrap();
    let state = State::open(&location, network, START, &Randomness::seeded(1))
        .await
        .unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&state.pool)
        .await
        .unwrap();
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&state.pool)
        .await
        .unwrap();
    assert_eq!((synchronous, journal.as_str()), (2, "wal"));
}

#[tokio::test]
async fn reading_the_head_mines_at_most_one_block_per_second() {
    let (sandbox, _) = open().await;
    let state = &sandbox.0.state;
    let first = state.head(START).await.unwrap();
    assert_eq!((first.number, first.timestamp), (0, START));
    assert_eq!(state.head(START).await.unwrap(), first);
    let second = state.head(START + 7).await.unwrap();
    assert_eq!((second.number, second.timestamp), (1, START + 7));
    assert_eq!(second.parent, first.hash);
    // A clock that goes back doesn't move the chain back.
    assert_eq!(state.head(START).await.unwrap(), second);
    let hash = keccak256((84_532_u64, 1_u64, first.hash, START + 7).abi_encode());
    assert_eq!(second.hash, hash);
}
