//! What moves of the ledger cost on SQLite, one after the other and many at once. Each is durable
//! when it returns.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails stops")]

#[path = "../tests/it/support/samples.rs"]
mod samples;

use std::cell::Cell;

use alloy_primitives::B256;
use divan::Bencher;
use divan::counter::ItemsCount;
use pixtoll::db::Db;
use pixtoll::db::payments::{self, Patch};
use pixtoll::model::payment::{Event, Payment, PaymentId, transition};
use pixtoll::pricing::networks::BASE_SEPOLIA;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How many payments move at once: they share commits.
const AT_ONCE: [usize; 2] = [1, 64];

fn main() {
    divan::main();
}

/// Records new payments.
#[divan::bench(args = AT_ONCE)]
fn insert(bencher: Bencher<'_, '_>, count: usize) {
    let ledger = Ledger::open();
    let counted = bencher.counter(ItemsCount::new(count));
    counted
        .with_inputs(|| ledger.draw(count))
        .bench_local_values(|payments| {
            ledger.all(payments, |db, payment| async move {
                assert!(payments::insert(&db, &payment, "sandbox").await.unwrap());
            });
        });
}

/// Moves payments to their next state.
#[divan::bench(args = AT_ONCE)]
fn advance(bencher: Bencher<'_, '_>, count: usize) {
    let ledger = Ledger::open();
    let inserted = || {
        let payments = ledger.draw(count);
        ledger.all(payments.clone(), |db, payment| async move {
            payments::insert(&db, &payment, "sandbox").await.unwrap();
        });
        payments
    };
    let counted = bencher.counter(ItemsCount::new(count));
    counted
        .with_inputs(inserted)
        .bench_local_values(|payments| {
            ledger.all(payments, |db, payment| async move {
                let step = transition(payment.state, Event::VerifyRefused).unwrap();
                let (patch, now) = (Patch::default(), samples::at(1));
                let moved = payments::advance(&db, step, &payment, &patch, now).await;
                assert!(moved.unwrap().is_some());
            });
        });
}

/// A ledger in a folder of its own.
struct Ledger {
    runtime: Runtime,
    db: Db,
    number: Cell<u64>,
    _folder: TempDir,
}

impl Ledger {
    fn open() -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let db = runtime.block_on(async {
            let db = Db::open_sqlite(&folder.path().join("pixtoll.db"))
                .await
                .unwrap();
            db.migrate().await.unwrap();
            db
        });
        Self {
            runtime,
            db,
            number: Cell::new(0),
            _folder: folder,
        }
    }

    /// Makes payments that the ledger doesn't know.
    fn draw(&self, count: usize) -> Vec<Payment> {
        let fresh = |_| {
            self.number.set(self.number.get() + 1);
            let mut payment = samples::payment(1);
            let authorization = &mut payment.authorization;
            authorization.nonce = B256::left_padding_from(&self.number.get().to_be_bytes());
            payment.id = PaymentId::of(&BASE_SEPOLIA, authorization.from, authorization.nonce);
            payment.digest = authorization.digest(&BASE_SEPOLIA);
            payment
        };
        (0..count).map(fresh).collect()
    }

    /// Runs `work` for all payments at once, and waits for the last.
    fn all<W: Future<Output = ()> + Send + 'static>(
        &self,
        payments: Vec<Payment>,
        work: impl Fn(Db, Payment) -> W,
    ) {
        self.runtime.block_on(async {
            let tasks = payments
                .into_iter()
                .map(|payment| tokio::spawn(work(self.db.clone(), payment)));
            futures_util::future::try_join_all(tasks).await.unwrap();
        });
    }
}
