//! The connection that writes: how writes are grouped, and what becomes of them when a neighbour
//! fails or is cancelled.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::db::{Db, in_tx, read_db, write_db};

/// A database with one table of numbers, the numbers of whose `parent` must exist at the commit.
struct Numbers {
    db: Db,
    folder: tempfile::TempDir,
}

impl Numbers {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&folder.path().join("a.db")).await.unwrap();
        let this = Self { db, folder };
        let table = "CREATE TABLE numbers (n INTEGER PRIMARY KEY, \
            parent INTEGER REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED)";
        this.sqlite().execute(sqlx::query(table)).await.unwrap();
        this
    }

    fn sqlite(&self) -> &Sqlite {
        let Db::Sqlite(sqlite) = &self.db else {
            unreachable!()
        };
        sqlite
    }

    async fn all(&self) -> Vec<i64> {
        let db = &self.db;
        read_db!(db, |pool| sqlx::query_scalar(
            "SELECT n FROM numbers ORDER BY n"
        )
        .fetch_all(pool)
        .await)
        .unwrap()
    }

    /// The number of commits in the write-ahead log: the frames that hold the size of the database.
    fn commits(&self) -> usize {
        const HEADER: usize = 32;
        const FRAME: usize = 24 + 4096;
        let wal: PathBuf = self.folder.path().join("a.db-wal");
        let wal = std::fs::read(wal).unwrap();
        let is_commit = |frame: &&[u8]| frame[4..8] != [0; 4];
        wal[HEADER..].chunks(FRAME).filter(is_commit).count()
    }

    /// Holds the turn, so that others wait for it.
    async fn hold(&self) -> Turn {
        self.sqlite().begin_alone().await.unwrap()
    }

    /// Waits until so many callers wait for their turn.
    async fn until_waiting(&self, callers: usize) {
        while self.sqlite().writer.waiting() < callers {
            tokio::task::yield_now().await;
        }
    }

    /// Writes from another process.
    async fn write_elsewhere(&self, number: i64) {
        let other = Db::open_sqlite(&self.folder.path().join("a.db"))
            .await
            .unwrap();
        insert(&other, number).await.unwrap();
        other.close().await;
    }
}

async fn insert(db: &Db, number: i64) -> Result<u64, DbError> {
    write_db!(db, |on| sqlx::query("INSERT INTO numbers (n) VALUES ($1)")
        .bind(number)
        .execute(on)
        .await
        .map(|done| done.rows_affected()))
}

/// Inserts two numbers in one transaction, and returns how many it sees then.
async fn insert_both(db: &Db, numbers: [i64; 2]) -> Result<i64, DbError> {
    Ok(in_tx!(db, |tx| {
        for number in numbers {
            sqlx::query("INSERT INTO numbers (n) VALUES ($1)")
                .bind(number)
                .execute(&mut *tx)
                .await?;
        }
        let seen: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM numbers WHERE n IN ($1, $2)")
            .bind(numbers[0])
            .bind(numbers[1])
            .fetch_one(&mut *tx)
            .await?;
        if seen > 2 {
            return Ok(-1);
        }
        seen
    }))
}

#[tokio::test]
async fn writes_that_wait_for_each_other_share_one_commit() {
    let numbers = Numbers::open().await;
    let before = numbers.commits();
    let held = numbers.hold().await;
    let mut writers = JoinSet::new();
    for number in 0..40 {
        let db = numbers.db.clone();
        writers.spawn(async move {
            if number % 2 == 0 {
                assert_eq!(insert(&db, number).await.unwrap(), 1);
            } else {
                assert_eq!(insert_both(&db, [number, number + 100]).await.unwrap(), 2);
            }
            // What was answered is committed.
            let found: i64 = read_db!(&db, |pool| sqlx::query_scalar(
                "SELECT n FROM numbers WHERE n = $1"
            )
            .bind(number)
            .fetch_one(pool)
            .await)
            .unwrap();
            assert_eq!(found, number);
        });
    }
    numbers.until_waiting(40).await;
    assert!(numbers.all().await.is_empty());
    drop(held);
    writers.join_all().await;
    assert_eq!(numbers.all().await.len(), 60);
    assert_eq!(numbers.commits() - before, 1);
}

#[tokio::test]
async fn a_write_that_waits_for_nobody_is_committed_at_once() {
    let numbers = Numbers::open().await;
    let before = numbers.commits();
    insert(&numbers.db, 1).await.unwrap();
    insert_both(&numbers.db, [2, 3]).await.unwrap();
    assert_eq!(numbers.all().await, [1, 2, 3]);
    assert_eq!(numbers.commits() - before, 2);
}

#[tokio::test]
async fn a_job_that_fails_is_undone_and_its_neighbours_are_committed() {
    let numbers = Numbers::open().await;
    insert(&numbers.db, 1).await.unwrap();
    let before = numbers.commits();
    let held = numbers.hold().await;
    let db = &numbers.db;
    let jobs = async {
        tokio::join!(
            // The first job of the transaction, and then others.
            insert_both(db, [10, 1]),
            insert(db, 2),
            insert(db, 1),
            insert_both(db, [11, 1]),
            insert_both(db, [3, 4]),
            give_up(db, 12),
            insert(db, 5),
        )
    };
    let (jobs, ()) = tokio::join!(jobs, async {
        numbers.until_waiting(7).await;
        drop(held);
    });
    let (first, two, again, later, both, given_up, five) = jobs;
    for failed in [first.err(), again.err(), later.err()] {
        let failed = failed.unwrap().to_string();
        assert!(failed.contains("UNIQUE"), "{failed}");
    }
    assert_eq!((two.unwrap(), both.unwrap(), five.unwrap()), (1, 2, 1));
    assert!(!given_up.unwrap());
    assert_eq!(numbers.all().await, [1, 2, 3, 4, 5]);
    assert_eq!(numbers.commits() - before, 1);
}

/// Inserts a number, and changes its mind.
async fn give_up(db: &Db, number: i64) -> Result<bool, DbError> {
    Ok(in_tx!(db, |tx| {
        sqlx::query("INSERT INTO numbers (n) VALUES ($1)")
            .bind(number)
            .execute(&mut *tx)
            .await?;
        if number > 0 {
            return Ok(false);
        }
        true
    }))
}

#[tokio::test]
async fn everybody_in_a_commit_that_fails_receives_the_error() {
    let numbers = Numbers::open().await;
    let held = numbers.hold().await;
    let db = &numbers.db;
    let orphan = "INSERT INTO numbers (n, parent) VALUES (2, 77)";
    let jobs = async {
        tokio::join!(
            insert(db, 1),
            numbers.sqlite().execute(sqlx::query(orphan)),
            insert_both(db, [3, 4]),
        )
    };
    let (jobs, ()) = tokio::join!(jobs, async {
        numbers.until_waiting(3).await;
        drop(held);
    });
    for failed in [jobs.0.err(), jobs.1.err(), jobs.2.err()] {
        let failed = failed.unwrap();
        assert!(matches!(failed, DbError::Lost(_)), "{failed}");
        assert!(failed.to_string().contains("FOREIGN KEY"), "{failed}");
    }
    assert!(numbers.all().await.is_empty());
    insert(db, 1).await.unwrap();
    assert_eq!(numbers.all().await, [1]);
}

#[tokio::test]
async fn writes_that_sqlite_rolls_back_by_itself_are_not_answered_as_committed() {
    let numbers = Numbers::open().await;
    insert(&numbers.db, 1).await.unwrap();
    let db = &numbers.db;
    for statement in [
        // As after a full disk: SQLite ends the whole transaction.
        "INSERT OR ROLLBACK INTO numbers (n) VALUES (1)",
        "ROLLBACK",
    ] {
        let held = numbers.hold().await;
        let jobs = async {
            tokio::join!(
                insert(db, 2),
                numbers.sqlite().execute(sqlx::query(statement)),
                insert(db, 3),
            )
        };
        let (jobs, ()) = tokio::join!(jobs, async {
            numbers.until_waiting(3).await;
            drop(held);
        });
        let lost = jobs.0.unwrap_err();
        assert!(matches!(lost, DbError::Lost(_)), "{statement}: {lost}");
        let left = numbers.all().await;
        match jobs.2 {
            Ok(_) => assert_eq!(left, [1, 3], "{statement}"),
            Err(_) => assert!(left == [1] || left == [1, 3], "{statement}: {left:?}"),
        }
        let tidy = "DELETE FROM numbers WHERE n > 1";
        numbers.sqlite().execute(sqlx::query(tidy)).await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_job_leaves_nothing_and_delays_nobody() {
    let numbers = Numbers::open().await;
    let held = numbers.hold().await;
    let db = numbers.db.clone();
    let before = tokio::spawn(async move { insert(&db, 1).await });
    numbers.until_waiting(1).await;
    // Two jobs are cancelled after their first statement, the first of them while it waits.
    let db = numbers.db.clone();
    let waits = tokio::spawn(async move { insert(&db, 50).await });
    numbers.until_waiting(2).await;
    let (db, reached) = (numbers.db.clone(), Arc::new(Notify::new()));
    let at = Arc::clone(&reached);
    let stops = tokio::spawn(async move { stop_half_way(&db, 60, &at).await });
    numbers.until_waiting(3).await;
    let db = numbers.db.clone();
    let after = tokio::spawn(async move { insert_both(&db, [2, 3]).await });
    numbers.until_waiting(4).await;
    waits.abort();
    assert!(waits.await.unwrap_err().is_cancelled());
    drop(held);
    reached.notified().await;
    stops.abort();
    assert!(stops.await.unwrap_err().is_cancelled());
    before.await.unwrap().unwrap();
    after.await.unwrap().unwrap();
    assert_eq!(numbers.all().await, [1, 2, 3]);
}

/// Inserts a number, and then never ends.
async fn stop_half_way(db: &Db, number: i64, reached: &Notify) -> Result<(), DbError> {
    in_tx!(db, |tx| {
        sqlx::query("INSERT INTO numbers (n) VALUES ($1)")
            .bind(number)
            .execute(&mut *tx)
            .await?;
        reached.notify_one();
        std::future::pending::<()>().await;
    });
    Ok(())
}

#[tokio::test]
async fn the_only_job_of_a_transaction_does_not_leave_it_open_when_it_is_cancelled() {
    let numbers = Numbers::open().await;
    let (db, reached) = (numbers.db.clone(), Arc::new(Notify::new()));
    let at = Arc::clone(&reached);
    let stops = tokio::spawn(async move { stop_half_way(&db, 60, &at).await });
    reached.notified().await;
    stops.abort();
    assert!(stops.await.unwrap_err().is_cancelled());
    // Another process would wait ten seconds for the lock, and then fail.
    let wrote = tokio::time::timeout(Duration::from_secs(5), numbers.write_elsewhere(1));
    wrote.await.unwrap();
    insert(&numbers.db, 2).await.unwrap();
    assert_eq!(numbers.all().await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_committed_although_the_runtime_that_began_it_ends() {
    let numbers = Numbers::open().await;
    let held = numbers.hold().await;
    let (db, (begun, is_begun)) = (numbers.db.clone(), std::sync::mpsc::channel());
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let Db::Sqlite(sqlite) = &db else {
                unreachable!()
            };
            let mut turn = sqlite.begin().await.unwrap();
            let one = sqlx::query("INSERT INTO numbers (n) VALUES (1)");
            let outcome = one.execute(turn.connection().unwrap()).await;
            begun.send(()).unwrap();
            // The runtime ends as soon as the job has ended, and doesn't wait for its commit.
            let ended = turn.end(outcome.map_err(DbError::from), true);
            tokio::time::timeout(Duration::ZERO, ended).await.is_ok()
        })
    });
    numbers.until_waiting(1).await;
    let db = numbers.db.clone();
    let joins = tokio::spawn(async move { insert_both(&db, [2, 3]).await });
    numbers.until_waiting(2).await;
    drop(held);
    is_begun.recv().unwrap();
    worker.join().unwrap();
    joins.await.unwrap().unwrap();
    assert_eq!(numbers.all().await, [1, 2, 3]);
}

#[tokio::test]
async fn a_closed_database_takes_no_writes_and_has_kept_those_before() {
    let numbers = Numbers::open().await;
    let db = numbers.db.clone();
    let (written, ()) = tokio::join!(insert_both(&db, [1, 2]), numbers.db.close());
    assert!(written.is_ok());
    assert!(insert(&db, 3).await.is_err());
    let again = Db::open_sqlite(&numbers.folder.path().join("a.db"))
        .await
        .unwrap();
    let count: i64 = read_db!(&again, |pool| sqlx::query_scalar(
        "SELECT COUNT(*) FROM numbers"
    )
    .fetch_one(pool)
    .await)
    .unwrap();
    assert_eq!(count, 2);
}
