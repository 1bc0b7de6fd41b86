use std::time::Duration;

use super::support::{Payer, START, open};
use super::*;

fn order() -> U256 {
    U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )
    .unwrap()
}

#[tokio::test]
async fn only_the_canonical_form_of_a_signature_is_accepted() {
    let (sandbox, _) = open().await;
    let payer = Payer::numbered(1);
    let (authorization, signature) = payer.pays(&sandbox, 10_000, 1);
    let mut small_v = signature.to_vec();
    small_v[64] -= 27;
    let mut high_s = signature.to_vec();
    let s = U256::from_be_slice(&signature[32..64]);
    high_s[32..64].copy_from_slice(&(order() - s).to_be_bytes::<32>());
    high_s[64] = 55 - high_s[64];
    let mut other = signature.to_vec();
    other[7] ^= 1;
    for bad in [small_v, high_s, other, signature[..64].to_vec(), Vec::new()] {
        let refused = sandbox.execute(&authorization, &bad.into()).await;
        assert!(matches!(refused, Err(Refusal::Signature)), "{refused:?}");
    }
    sandbox.execute(&authorization, &signature).await.unwrap();
}

#[tokio::test]
async fn the_test_vector_of_the_reference_is_accepted() {
    let (sandbox, _) = open().await;
    let authorization = Authorization {
        from: address!("19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"),
        to: Address::repeat_byte(0x22),
        value: U256::from(10_000),
        valid_after: U256::ZERO,
        valid_before: U256::from(1_900_000_000_u64),
        nonce: B256::repeat_byte(0xab),
    };
    let signature = "0x34810545ab6517f1d4b463d8748b29fca88d3216c54eadaf5fde914d5a837b6b\
        05d4ea2c5f87f89b5235499dd0469e3c1861a25bb8ad56e25ea8693fb73327771b";
    sandbox
        .execute(&authorization, &signature.parse().unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn both_ends_of_the_validity_time_are_exclusive() {
    let (sandbox, clock) = open().await;
    let payer = Payer::numbered(1);
    let (mut authorization, _) = payer.pays(&sandbox, 10_000, 1);
    authorization.valid_after = U256::from(START);
    authorization.valid_before = U256::from(START + 2);
    let signature = payer.sign(&sandbox, &authorization);
    let early = sandbox.execute(&authorization, &signature).await;
    assert!(matches!(early, Err(Refusal::NotYetValid)), "{early:?}");
    clock.advance(Duration::from_secs(2));
    let late = sandbox.execute(&authorization, &signature).await;
    assert!(matches!(late, Err(Refusal::Expired)), "{late:?}");
    authorization.valid_before = U256::from(START + 3);
    let signature = payer.sign(&sandbox, &authorization);
    sandbox.execute(&authorization, &signature).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_or_used_nonce_pays_nothing() {
    let (sandbox, _) = open().await;
    let payer = Payer::numbered(1);
    let (authorization, signature) = payer.pays(&sandbox, 10_000, 1);
    sandbox
        .cancel(payer.address(), authorization.nonce)
        .await
        .unwrap();
    let refused = sandbox.execute(&authorization, &signature).await;
    assert!(matches!(refused, Err(Refusal::NonceUsed)), "{refused:?}");
    let (authorization, signature) = payer.pays(&sandbox, 10_000, 2);
    sandbox.execute(&authorization, &signature).await.unwrap();
    let refused = sandbox.cancel(payer.address(), authorization.nonce).await;
    assert!(matches!(refused, Err(Refusal::NonceUsed)), "{refused:?}");
    assert_eq!(
        sandbox
            .transfers_to(sandbox.recipient())
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn an_account_cannot_spend_more_than_its_balance() {
    let (sandbox, _) = open().await;
    let payer = Payer::numbered(1);
    let (authorization, signature) = payer.pays(&sandbox, 100_000_001, 1);
    let refused = sandbox.execute(&authorization, &signature).await;
    assert!(
        matches!(refused, Err(Refusal::InsufficientFunds)),
        "{refused:?}"
    );
    let friend = Address::repeat_byte(9);
    let all = U256::from(100_000_000);
    sandbox
        .send(payer.address(), friend, U256::from(30))
        .await
        .unwrap();
    sandbox.send(friend, friend, all).await.unwrap();
    assert_eq!(sandbox.balance(friend).await.unwrap(), all + U256::from(30));
    sandbox.drain(payer.address()).await.unwrap();
    assert_eq!(sandbox.balance(payer.address()).await.unwrap(), U256::ZERO);
    assert_eq!(
        sandbox.balance(state::SINK).await.unwrap(),
        all - U256::from(30)
    );
    let (authorization, signature) = payer.pays(&sandbox, 1, 1);
    let refused = sandbox.execute(&authorization, &signature).await;
    assert!(
        matches!(refused, Err(Refusal::InsufficientFunds)),
        "{refused:?}"
    );
    let refused = sandbox.send(payer.address(), friend, U256::ONE).await;
    assert!(
        matches!(refused, Err(Refusal::InsufficientFunds)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_plain_transfer_is_listed_without_a_nonce() {
    let (sandbox, _) = open().await;
    let payer = Payer::numbered(1);
    let (authorization, signature) = payer.pays(&sandbox, 10_000, 1);
    let first = sandbox.execute(&authorization, &signature).await.unwrap();
    let second = sandbox
        .send(payer.address(), sandbox.recipient(), U256::from(5))
        .await
        .unwrap();
    let transfer = |nonce, value: u64, transaction| Transfer {
        payer: payer.address(),
        nonce,
        value: U256::from(value),
        transaction,
    };
    assert_eq!(
        sandbox.transfers_to(sandbox.recipient()).await.unwrap(),
        [
            transfer(Some(authorization.nonce), 10_000, first),
            transfer(None, 5, second)
        ]
    );
    assert_eq!(
        sandbox.balance(sandbox.recipient()).await.unwrap(),
        U256::from(10_005)
    );
}

#[tokio::test]
async fn a_restart_keeps_the_whole_chain() {
    let directory = tempfile::tempdir().unwrap();
    let location = Location::File(directory.path().join("data").join("sandbox.db"));
    let clock = support::clock();
    let open = async |seed| {
        let clock: Arc<dyn Clock> = Arc::new(clock.clone());
        Sandbox::open(location.clone(), clock, &Randomness::seeded(seed))
            .await
            .unwrap()
    };
    let payer = Payer::numbered(1);
    let before = open(1).await;
    let (authorization, signature) = payer.pays(&before, 10_000, 1);
    before.execute(&authorization, &signature).await.unwrap();
    let recipient = before.recipient();
    let transfers = before.transfers_to(recipient).await.unwrap();
    let head = before.0.state.head(START).await.unwrap();
    drop(before);

    let after = open(2).await;
    assert_eq!(after.recipient(), recipient);
    assert_eq!(after.transfers_to(recipient).await.unwrap(), transfers);
    assert_eq!(after.0.state.head(START).await.unwrap(), head);
    assert_eq!(
        after.balance(payer.address()).await.unwrap(),
        U256::from(99_990_000)
    );
    let refused = after.execute(&authorization, &signature).await;
    assert!(matches!(refused, Err(Refusal::NonceUsed)), "{refused:?}");
}

#[tokio::test]
async fn another_database_is_not_opened_as_a_sandbox() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pixtoll.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let other = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql("CREATE TABLE payments (id TEXT)")
        .execute(&other)
        .await
        .unwrap();
    other.close().await;
    let opened = Sandbox::open(
        Location::File(path),
        Arc::new(support::clock()),
        &Randomness::seeded(1),
    )
    .await;
    assert!(
        matches!(opened, Err(SandboxError::NotASandbox { .. })),
        "{opened:?}"
    );
}

#[tokio::test]
async fn the_sandbox_listens_on_loopback_only() {
    let (sandbox, _) = open().await;
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for everyone in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let everyone = everyone.parse().unwrap();
        for refused in [
            sandbox.listen(everyone, local),
            sandbox.listen(local, everyone),
        ] {
            assert!(
                matches!(refused, Err(SandboxError::NotLoopback { .. })),
                "{refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn ports_are_free_again_after_a_stop() {
    let (sandbox, _) = open().await;
    // An address that no other test uses.
    let local: SocketAddr = "127.9.8.7:0".parse().unwrap();
    let first = sandbox.listen(local, local).unwrap();
    let taken: SocketAddr = first
        .rpc_url
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    assert!(matches!(
        sandbox.listen(local, taken),
        Err(SandboxError::Bind { .. })
    ));
    first.stop().await;
    sandbox.listen(local, taken).unwrap().stop().await;
}
