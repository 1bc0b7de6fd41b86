//! Tests of the counts that one process keeps.

use super::*;
use crate::system::clock::ManualClock;

const TWO_A_MINUTE: Rate = Rate {
    limit: 2,
    units: 1,
    period: Duration::from_mins(1),
    what: "",
    whose: Whose::Address,
    shared_as: None,
};

fn limits(clock: &ManualClock) -> Arc<Limits> {
    let settings = config::Limits {
        free_per_day: 0,
        free_per_address_per_hour: 50,
        payments_per_address_per_minute: 120,
        imports_per_address_per_minute: 30,
        ..config::Limits::default()
    };
    let clock = Arc::new(clock.clone());
    Arc::new(Limits::new(settings, clock, Randomness::seeded(1)))
}

fn noon() -> ManualClock {
    ManualClock::at(Timestamp::from_seconds(1_800_014_400))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn fifty_at_once_then_one_every_seventy_two_seconds() {
    let clock = noon();
    let limits = limits(&clock);
    let one = address("192.0.2.1");
    for _ in 0..50 {
        limits.count_free(one).await.unwrap().keep();
    }
    for _ in 0..3 {
        // A rejected request costs nothing more.
        let Err(Limited::Rate { limit, wait, .. }) = limits.count_free(one).await else {
            panic!("not refused");
        };
        assert_eq!((limit, wait), (50, Duration::from_secs(72)));
    }
    limits
        .count_free(address("192.0.2.2"))
        .await
        .unwrap()
        .keep();
    limits.count_payment(one).await.unwrap();
    clock.advance(Duration::from_millis(71_999));
    limits.count_free(one).await.unwrap_err();
    clock.advance(Duration::from_millis(1));
    limits.count_free(one).await.unwrap().keep();
    limits.count_free(one).await.unwrap_err();
    clock.advance(Duration::from_hours(1));
    for _ in 0..50 {
        limits.count_free(one).await.unwrap().keep();
    }
    limits.count_free(one).await.unwrap_err();
}

#[test]
fn one_network_of_ipv6_is_one_client_and_mapped_ipv4_is_itself() {
    let counted = Counted::new(1, &Randomness::seeded(1));
    let bucket = |text: &str| counted.bucket(address(text), Whose::Address);
    assert_eq!(bucket("2001:db8::1"), bucket("2001:db8::ffff:ffff:ffff:1"));
    assert_ne!(bucket("2001:db8::1"), bucket("2001:db8:0:1::1"));
    assert_eq!(bucket("::ffff:192.0.2.1"), bucket("192.0.2.1"));
    assert_ne!(bucket("192.0.2.1"), bucket("192.0.2.2"));
    let network = |text: &str| counted.bucket(address(text), Whose::Network);
    assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.255"));
    assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
    assert_eq!(network("2001:db8::1"), network("2001:db8:0:ffff::1"));
    assert_ne!(network("2001:db8::1"), network("2001:db8:1::1"));
    // The first address of a network has another bucket than the network.
    assert_ne!(network("192.0.2.0"), bucket("192.0.2.0"));
}

#[tokio::test]
async fn the_key_and_all_it_counted_are_forgotten_at_midnight() {
    let clock = noon();
    let limits = limits(&clock);
    let one = address("192.0.2.1");
    for _ in 0..50 {
        limits.count_free(one).await.unwrap().keep();
    }
    let before = limits.counted(clock.now()).bucket(one, Whose::Address);
    clock.advance(Duration::from_hours(12));
    let after = limits.counted(clock.now());
    assert_ne!(after.bucket(one, Whose::Address), before);
    assert!(after.free.0.is_empty());
}

#[test]
fn a_million_addresses_stay_in_bounded_memory_and_keep_the_highest_counts() {
    let mut rates = Rates::default();
    let rate = Rate {
        limit: 50,
        units: 1,
        period: Duration::from_hours(1),
        what: "",
        whose: Whose::Address,
        shared_as: None,
    };
    let now = noon().now();
    let heavy = [255; 16];
    for _ in 0..50 {
        assert!(rates.take(heavy, &rate, now).is_none());
    }
    for number in 0..1_000_000_u128 {
        assert!(rates.take(number.to_be_bytes(), &rate, now).is_none());
        assert!(rates.0.len() <= MAX_ADDRESSES);
    }
    assert!(rates.take(heavy, &rate, now).is_some());
}

#[tokio::test]
async fn a_failed_attempt_costs_a_tenth_of_an_upload_for_address_and_network() {
    let clock = noon();
    let limits = limits(&clock);
    let clients = ["1", "2", "3", "4", "5"].map(|end| address(&format!("192.0.2.{end}")));
    for client in clients {
        // One is dropped, one is given back, and both cost the same.
        for _ in 0..5 {
            drop(limits.count_free(client).await.unwrap());
            limits.count_free(client).await.unwrap().give_back().await;
        }
    }
    // 50 tenths of the network's 200, and 10 tenths of each address's 50.
    for client in &clients[..3] {
        for _ in 0..49 {
            limits.count_free(*client).await.unwrap().keep();
        }
        limits.count_free(*client).await.unwrap_err();
    }
    for _ in 0..48 {
        limits.count_free(clients[3]).await.unwrap().keep();
    }
    let refused = limits.count_free(clients[3]).await.unwrap_err();
    let is_of_network = |refused: &Limited| {
        let Limited::Rate { whose, limit, .. } = refused else {
            panic!("{refused}");
        };
        (*whose, *limit) == (Whose::Network, 200)
    };
    assert!(is_of_network(&refused));
    // An attempt that the network's limit rejects costs neither.
    for _ in 0..60 {
        assert!(is_of_network(
            &limits.count_free(clients[4]).await.unwrap_err()
        ));
    }
    clock.advance(Duration::from_mins(15));
    for _ in 0..49 {
        limits.count_free(clients[4]).await.unwrap().keep();
    }
}

#[test]
fn a_refusal_by_the_database_is_cached_for_a_second() {
    let mut rates = Rates::default();
    let (bucket, now) = ([1; 16], noon().now());
    assert!(rates.take(bucket, &TWO_A_MINUTE, now).is_none());
    let full = micros(now) + 60_000_000;
    rates.learn(&bucket, full, now);
    assert_eq!(
        rates.excess(&bucket, &TWO_A_MINUTE, now),
        Duration::from_secs(30)
    );
    let later = now.plus(Duration::from_secs(1));
    assert!(rates.excess(&bucket, &TWO_A_MINUTE, later).is_zero());
    // A clock that is set back doesn't extend it.
    let earlier = now.minus(Duration::from_hours(1));
    rates.give_back(&bucket, TWO_A_MINUTE.step_us() + 3_600_000_000);
    assert!(rates.excess(&bucket, &TWO_A_MINUTE, earlier).is_zero());
}

#[test]
fn a_clock_that_is_set_back_locks_nobody_out() {
    let mut rates = Rates::default();
    let now = noon().now();
    assert!(rates.take([1; 16], &TWO_A_MINUTE, now).is_none());
    let earlier = now.minus(Duration::from_hours(1));
    let wait = rates.take([1; 16], &TWO_A_MINUTE, earlier).unwrap();
    assert!(wait <= TWO_A_MINUTE.period, "{wait:?}");
}
