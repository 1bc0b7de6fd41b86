//! Guarantees of the database for limits. The suite always runs on SQLite, and on PostgreSQL where
//! there is a server.

use std::time::Duration;

use futures_util::future::join_all;
use pixtoll::db::limits::{
    Counted, FreeSlot, Pace, count, forget_clear, give_back, take_place, uncount,
};

use crate::contract_db::{NOW, at, on_both};
use crate::support::database::number;

/// Three at once, then one every 20 seconds.
const PACE: Pace = Pace {
    kind: "free",
    period_us: 60_000_000,
    step_us: 20_000_000,
};

fn us(seconds: u64) -> i64 {
    at(seconds).millis() * 1000
}

#[tokio::test]
async fn concurrent_requests_are_counted_exactly_up_to_the_limit() {
    on_both(async |db| {
        let counted = join_all((0..16).map(|_| count(&db, PACE, "one", us(0)))).await;
        let counted = counted
            .into_iter()
            .filter(|one| matches!(one, Ok(Counted::Yes(_))));
        assert_eq!(counted.count(), 3);
        assert_eq!(
            count(&db, PACE, "one", us(0)).await.unwrap(),
            Counted::No(us(60))
        );
        assert_eq!(
            count(&db, PACE, "other", us(0)).await.unwrap(),
            Counted::Yes(us(20))
        );
        let another = Pace {
            kind: "payments",
            ..PACE
        };
        assert_eq!(
            count(&db, another, "one", us(0)).await.unwrap(),
            Counted::Yes(us(20))
        );
        assert_eq!(
            count(&db, PACE, "one", us(20) - 1).await.unwrap(),
            Counted::No(us(60))
        );
        assert_eq!(
            count(&db, PACE, "one", us(20)).await.unwrap(),
            Counted::Yes(us(80))
        );
        // After a pause the whole rate is available again, and no more.
        assert_eq!(
            count(&db, PACE, "one", us(500)).await.unwrap(),
            Counted::Yes(us(520))
        );
    })
    .await;
}

#[tokio::test]
async fn requests_that_are_given_back_do_not_count() {
    on_both(async |db| {
        for _ in 0..3 {
            count(&db, PACE, "one", us(0)).await.unwrap();
        }
        count(&db, PACE, "other", us(0)).await.unwrap();
        let full = Counted::No(us(60));
        assert_eq!(count(&db, PACE, "one", us(0)).await.unwrap(), full);
        // Nine tenths of one are given back, which isn't enough for another one.
        uncount(&db, PACE.kind, "one", 18_000_000).await.unwrap();
        let found = count(&db, PACE, "one", us(0)).await.unwrap();
        assert_eq!(found, Counted::No(us(42)));
        let found = count(&db, PACE, "one", us(2)).await.unwrap();
        assert_eq!(found, Counted::Yes(us(62)));
        // Giving back more than is counted leaves no credit.
        uncount(&db, PACE.kind, "other", 500_000_000).await.unwrap();
        let found = count(&db, PACE, "other", us(0)).await.unwrap();
        assert_eq!(found, Counted::Yes(us(20)));
        // A missing bucket stays missing, and other rates are not changed.
        uncount(&db, PACE.kind, "nobody", 1).await.unwrap();
        uncount(&db, "payments", "one", 60_000_000).await.unwrap();
        let found = count(&db, PACE, "one", us(2)).await.unwrap();
        assert_eq!(found, Counted::No(us(62)));
    })
    .await;
}

#[tokio::test]
async fn cleared_buckets_and_buckets_of_a_wrong_clock_are_erased() {
    on_both(async |db| {
        for (bucket, seconds) in [("past", 0), ("present", 100), ("future", 100_000)] {
            count(&db, PACE, bucket, us(seconds)).await.unwrap();
        }
        forget_clear(&db, us(20), 3_600_000_000).await.unwrap();
        let left = "SELECT COUNT(*) FROM rates WHERE bucket = 'present'";
        assert_eq!(number(&db, left).await, 1);
        assert_eq!(number(&db, "SELECT COUNT(*) FROM rates").await, 1);
    })
    .await;
}

#[tokio::test]
async fn places_of_a_day_are_taken_once_and_freed_again() {
    on_both(async |db| {
        let day = pixtoll::db::limits::day_of(NOW);
        let places: Vec<FreeSlot> = (0..16)
            .map(|number| FreeSlot {
                id: format!("place {number}"),
                day,
            })
            .collect();
        let until = NOW.plus(Duration::from_mins(5));
        let taking = places
            .iter()
            .map(|place| take_place(&db, place, 5, until, NOW));
        let taken: Vec<bool> = join_all(taking)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 5);
        let mine = places
            .iter()
            .zip(&taken)
            .find(|(_, taken)| **taken)
            .unwrap()
            .0;
        let again = FreeSlot {
            id: "again".to_owned(),
            day,
        };
        assert!(!take_place(&db, &again, 5, until, at(1)).await.unwrap());
        give_back(&db, mine).await.unwrap();
        give_back(&db, mine).await.unwrap();
        assert!(take_place(&db, &again, 5, until, at(1)).await.unwrap());
        // Held for a minute longer than its holder may use it, since clocks differ.
        let late = FreeSlot {
            id: "late".to_owned(),
            day,
        };
        assert!(!take_place(&db, &late, 5, at(900), at(359)).await.unwrap());
        assert!(take_place(&db, &late, 5, at(900), at(360)).await.unwrap());
    })
    .await;
}
