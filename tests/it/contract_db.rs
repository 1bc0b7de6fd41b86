//! Guarantees of the database. The suite always runs on SQLite, and also on PostgreSQL when
//! `PIXTOLL_TEST_POSTGRES` names a server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use pixtoll::db::erasure::{self, Erasable};
use pixtoll::db::grants::{self, Reservation};
use pixtoll::db::payments::{self, Patch};
use pixtoll::db::proofs::{self, Binding, Bond, IdOwner, Proof};
use pixtoll::db::settlements::{self, NewGrant, Settlement, SettlementRecord};
use pixtoll::db::{Db, DbError, audit, copies, deployment, images, offers, statements};
use pixtoll::model::ids::ImageId;
use pixtoll::model::image::{Format, Image, ImageState};
use pixtoll::model::owner::Owner;
use pixtoll::model::payment::{
    Event, Grant, LEASE, Move, Payment, PaymentId, PaymentState, Product, ProductKind, Transfer,
    transition,
};
use pixtoll::model::visibility::Visibility;
use pixtoll::pricing::money::AtomicAmount;
use pixtoll::pricing::tiers::Keep;
use pixtoll::system::clock::Timestamp;
use pixtoll::system::random::Randomness;
use pixtoll::x402::wire::Version;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};

use crate::support::database::{
    create_postgres, execute, number, open, postgres_server, sqlite_url, texts,
};
use crate::support::process::eventually;
pub(crate) use crate::support::samples::{NOW, at, payment, product, terms};

/// The number of tasks that race in the worst case: two replicas with eight workers each.
const RACERS: usize = 16;
pub(crate) const NOBODY: Timestamp = Timestamp::from_millis(0);

/// Runs a test on a fresh database of each kind.
pub(crate) async fn on_both(story: impl AsyncFn(Db)) {
    let folder = tempfile::tempdir().unwrap();
    let mut urls = vec![sqlite_url(folder.path())];
    if let Some(server) = postgres_server() {
        urls.push(create_postgres(&server).await);
    }
    for url in urls {
        let db = open(&url).await;
        db.migrate().await.unwrap();
        story(db.clone()).await;
        db.close().await;
    }
}

fn upload(number: u8) -> Payment {
    Payment {
        product: product(ProductKind::Upload),
        ..payment(number)
    }
}

pub(crate) fn image(number: u64, payment: Option<&Payment>) -> Image {
    Image {
        id: ImageId::draw(&Randomness::seeded(number)),
        state: ImageState::Pending,
        format: Format::Png,
        size_bytes: 100 + number,
        width: 8,
        height: 9,
        metadata: None,
        look: None,
        sha256: format!("{number:064x}"),
        upload_sha256: format!("{number:064x}"),
        tier: "year".to_owned(),
        payment_id: payment.map(|payment| payment.id.clone()),
        owner: None,
        created_at: NOW,
        published_at: None,
        expires_at: None,
        visibility: Visibility::Public,
        link_serial: 0,
        version: 0,
        refresh: None,
    }
}

pub(crate) fn step(state: PaymentState, event: Event) -> Move {
    transition(state, event).unwrap()
}

pub(crate) async fn load(db: &Db, payment: &Payment) -> Payment {
    payments::find(db, &payment.id).await.unwrap().unwrap()
}

async fn insert(db: &Db, payment: &Payment) -> Payment {
    assert!(payments::insert(db, payment, "sandbox").await.unwrap());
    load(db, payment).await
}

pub(crate) async fn advance(db: &Db, row: &Payment, event: Event, patch: &Patch) -> bool {
    let step = step(row.state, event);
    payments::advance(db, step, row, patch, at(1))
        .await
        .unwrap()
        .is_some()
}

async fn bind(db: &Db, row: &Payment, id_hash: Option<&str>, body: Option<&str>) -> Binding {
    let step = step(row.state, Event::VerifyAccepted);
    let proofs = [Proof {
        kind: "ticket",
        hash: format!("ticket of {}", row.id),
        expires: None,
    }];
    let ids: Vec<String> = id_hash.map(str::to_owned).into_iter().collect();
    let bond = Bond {
        body_sha256: body,
        ..bond(&proofs, &ids)
    };
    proofs::bind_verified(db, step, row, &bond, at(1))
        .await
        .unwrap()
}

/// Binds proofs and idempotency keys of a payer who has money for everything.
fn bond<'a>(proofs: &'a [Proof], id_hashes: &'a [String]) -> Bond<'a> {
    Bond {
        proofs,
        id_hashes,
        body_sha256: None,
        balance: U256::MAX,
        read_at: at(1),
        executed: &[],
    }
}

pub(crate) fn settlement(
    row: &Payment,
    event: Event,
    log_index: Option<u64>,
) -> SettlementRecord<'_> {
    let nonce = row.authorization.nonce;
    SettlementRecord {
        step: step(row.state, event),
        payment: row,
        transfer: Transfer {
            transaction: nonce,
            log_index,
        },
        proven_by: "chain",
        grant: NewGrant {
            token_hash: format!("token of {}", row.id),
            token_expires: at(3600),
        },
        owed: None,
        blocks_version: None,
        is_withheld: false,
        next_look: None,
        now: at(2),
    }
}

pub(crate) async fn settle(db: &Db, row: &Payment) -> Settlement {
    let record = settlement(row, Event::ChainPaid, Some(1));
    settlements::settle(db, &record).await.unwrap()
}

/// Takes a payment to a state by the changes of state that lead there.
pub(crate) async fn put(db: &Db, payment: &Payment, state: PaymentState) -> Payment {
    use PaymentState as S;
    let mut row = insert(db, payment).await;
    let path: &[Event] = match state {
        S::Received => &[],
        S::Rejected => &[Event::VerifyRefused],
        S::Verified => &[Event::VerifyAccepted],
        S::Released => &[Event::VerifyAccepted, Event::GivenUp],
        S::Settling => &[Event::VerifyAccepted, Event::SettleStarted],
        S::Unknown => &[
            Event::VerifyAccepted,
            Event::SettleStarted,
            Event::SettleUnclear,
        ],
        S::Failed => &[
            Event::VerifyAccepted,
            Event::SettleStarted,
            Event::SettleRefused,
        ],
        S::Settled => &[
            Event::VerifyAccepted,
            Event::SettleStarted,
            Event::SettleProven,
        ],
    };
    for event in path {
        match event {
            Event::VerifyAccepted => assert_eq!(bind(db, &row, None, None).await, Binding::Bound),
            Event::SettleProven | Event::ChainPaid => {
                let record = settlement(&row, *event, Some(1));
                let done = settlements::settle(db, &record).await.unwrap();
                assert!(matches!(done, Settlement::Done { .. }), "{done:?}");
            }
            _ => assert!(advance(db, &row, *event, &Patch::default()).await),
        }
        row = load(db, payment).await;
    }
    assert_eq!(row.state, state);
    row
}

/// The same row without a lease.
async fn unleased(db: &Db, row: &Payment) -> Payment {
    payments::hand_back(db, row, row.next_look, row.looks)
        .await
        .unwrap();
    load(db, row).await
}

pub(crate) async fn grant_of(db: &Db, row: &Payment) -> Option<Grant> {
    grants::find(db, &row.id).await.unwrap()
}

pub(crate) async fn image_state(db: &Db, id: &ImageId) -> ImageState {
    images::find(db, id).await.unwrap().unwrap().state
}

/// Races `RACERS` tasks, and returns how many of them won.
async fn race<W>(db: &Db, run: impl Fn(Db) -> W) -> usize
where
    W: Future<Output = bool> + Send + 'static,
{
    let tasks: Vec<_> = (0..RACERS).map(|_| tokio::spawn(run(db.clone()))).collect();
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    winners
}

// ---- the ledger's rows

#[tokio::test]
async fn a_payment_identity_is_inserted_once_and_read_back_completely() {
    on_both(async |db| {
        let first = payment(1);
        assert!(payments::find(&db, &first.id).await.unwrap().is_none());
        assert!(payments::insert(&db, &first, "sandbox").await.unwrap());
        let other_terms = Payment {
            digest: B256::repeat_byte(9),
            ..payment(1)
        };
        assert!(!payments::insert(&db, &other_terms, "other").await.unwrap());
        assert_eq!(
            format!("{:?}", load(&db, &first).await),
            format!("{first:?}")
        );
        let payer = first.authorization.from.to_string();
        let nonce = first.authorization.nonce.to_string();
        let known = payments::find_by_payer_and_nonce(&db, &payer, &nonce).await;
        assert_eq!(known.unwrap().len(), 1);
        let other = B256::repeat_byte(2).to_string();
        let unknown = payments::find_by_payer_and_nonce(&db, &payer, &other).await;
        assert!(unknown.unwrap().is_empty());
        // The database rejects the same identity under another id, even if the id was computed
        // wrongly.
        let mut renamed = payment(1);
        renamed.id = payment(2).id;
        assert!(!payments::insert(&db, &renamed, "sandbox").await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_payment_without_end_and_with_the_largest_numbers_is_read_back() {
    on_both(async |db| {
        let mut large = payment(1);
        large.terms.keep = Keep::Forever;
        large.terms.offer.amount = AtomicAmount::from_units(u128::from(u64::MAX) + 1);
        large.authorization.value = large.terms.offer.amount.as_u256();
        large.authorization.valid_after = U256::MAX;
        large.authorization.valid_before = U256::MAX;
        large.next_look = None;
        large.version = Version::V1;
        insert(&db, &large).await;
        assert_eq!(
            format!("{:?}", load(&db, &large).await),
            format!("{large:?}")
        );
    })
    .await;
}

#[tokio::test]
async fn only_an_unleased_row_of_the_same_attempt_and_state_is_restarted() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Rejected).await;
        let staged = image(1, Some(&row));
        images::insert_pending(&db, &staged, None).await.unwrap();
        assert!(payments::attach_image(&db, &row, &staged.id).await.unwrap());
        let again = Payment {
            attempt: 2,
            lease_until: at(20),
            signature: Bytes::from(vec![7; 65]),
            ..payment(1)
        };
        let from = |state| step(state, Event::PresentedAgain);
        let rejected = from(PaymentState::Rejected);
        let restart = async |step, attempt, now| {
            payments::restart(&db, step, attempt, &again, "other", now)
                .await
                .unwrap()
        };
        assert!(!restart(rejected, 1, at(4)).await, "the lease is alive");
        assert!(!restart(rejected, 2, at(5)).await, "another attempt");
        assert!(
            !restart(from(PaymentState::Released), 1, at(5)).await,
            "another state"
        );
        assert!(restart(rejected, 1, at(5)).await);
        let fresh = load(&db, &row).await;
        assert_eq!(
            (fresh.state, fresh.attempt, fresh.lease_until),
            (PaymentState::Received, 2, at(20))
        );
        assert_eq!(fresh.signature, again.signature);
        assert_eq!((fresh.reason, fresh.first_block), (None, 7));
        assert_eq!(fresh.image_id, None, "the image of the attempt before");
        assert_eq!(
            audit::load_detail(&db, row.id.as_str())
                .await
                .unwrap()
                .facilitator,
            "other"
        );
        assert!(!restart(rejected, 1, at(30)).await, "it moved on");
    })
    .await;
}

#[tokio::test]
async fn a_claim_starts_the_next_attempt_of_a_row_without_a_lease() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Unknown).await;
        let claim = async |row: &Payment, now| payments::claim(&db, row, now, LEASE).await.unwrap();
        assert!(claim(&row, at(4)).await.is_none(), "the lease is alive");
        let other_state = Payment {
            state: PaymentState::Settling,
            ..row.clone()
        };
        assert!(claim(&other_state, at(5)).await.is_none());
        let other_attempt = Payment {
            attempt: 9,
            ..row.clone()
        };
        assert!(claim(&other_attempt, at(5)).await.is_none());
        let claimed = claim(&row, at(5)).await.unwrap();
        assert_eq!((claimed.attempt, claimed.lease_until), (2, at(10)));
        assert!(claim(&row, at(60)).await.is_none(), "that attempt is over");
        assert!(claim(&claimed, at(9)).await.is_none());
        assert!(claim(&claimed, at(10)).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_extended_by_its_holder_and_never_after_it_was_handed_back() {
    on_both(async |db| {
        let row = insert(&db, &payment(1)).await;
        let renew =
            async |attempt, until| payments::renew(&db, &row.id, attempt, until).await.unwrap();
        assert!(renew(1, at(9)).await);
        assert!(!renew(2, at(99)).await);
        assert_eq!(load(&db, &row).await.lease_until, at(9));
        // A process that lost its lease changes nothing.
        let stale = Payment {
            attempt: 0,
            ..row.clone()
        };
        payments::hand_back(&db, &stale, Some(at(1)), 3)
            .await
            .unwrap();
        let moved = Payment {
            state: PaymentState::Unknown,
            ..row.clone()
        };
        payments::hand_back(&db, &moved, Some(at(1)), 3)
            .await
            .unwrap();
        assert_eq!(load(&db, &row).await.next_look, Some(at(360)));
        payments::hand_back(&db, &row, Some(at(50)), 3)
            .await
            .unwrap();
        let back = load(&db, &row).await;
        assert_eq!(
            (back.lease_until, back.next_look, back.looks),
            (NOBODY, Some(at(50)), 3)
        );
        // An extension that was under way must not leave the row leased to nobody.
        assert!(!renew(1, at(99)).await);
        assert_eq!(load(&db, &row).await.lease_until, NOBODY);
        payments::hand_back(&db, &row, None, 4).await.unwrap();
        assert_eq!(load(&db, &row).await.next_look, None);
    })
    .await;
}

#[tokio::test]
async fn a_restart_of_the_only_process_ends_all_leases_and_reservations() {
    on_both(async |db| {
        let row = insert(&db, &payment(1)).await;
        payments::end_all_leases(&db).await.unwrap();
        assert_eq!(load(&db, &row).await.lease_until, NOBODY);
        let sold = put(&db, &payment(2), PaymentState::Settled).await;
        let grant = grant_of(&db, &sold).await.unwrap();
        let held = |number| image(number, Some(&sold));
        let reserve =
            async |image: &Image| grants::reserve(&db, &grant, image, at(300)).await.unwrap();
        assert_eq!(reserve(&held(1)).await, Reservation::Held);
        assert_eq!(reserve(&held(2)).await, Reservation::Busy);
        images::end_reservations(&db).await.unwrap();
        assert_eq!(reserve(&held(2)).await, Reservation::Held);
    })
    .await;
}

#[tokio::test]
async fn a_change_of_state_needs_state_and_attempt_and_keeps_other_columns() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Verified).await;
        let start = step(PaymentState::Verified, Event::SettleStarted);
        // The row that is returned is the row as it is stored.
        let go = async |row: &Payment, patch: &Patch| {
            let moved = payments::advance(&db, start, row, patch, at(3)).await;
            let moved = moved.unwrap();
            if let Some(moved) = &moved {
                let stored = load(&db, row).await;
                assert_eq!(format!("{moved:?}"), format!("{stored:?}"));
            }
            moved.is_some()
        };
        let stale = Payment {
            attempt: 2,
            ..row.clone()
        };
        assert!(!go(&stale, &Patch::default()).await);
        let patch = Patch {
            reason: Some("why".to_owned()),
            lease_until: Some(at(8)),
            next_look: Some(at(5)),
            transaction: Some(B256::repeat_byte(4).to_string()),
            body_sha256: Some("body".to_owned()),
            settle_called: Some(at(3)),
            discard_image: None,
        };
        assert!(go(&row, &patch).await);
        assert!(!go(&row, &patch).await, "it moved");
        let settling = load(&db, &row).await;
        let unclear = step(PaymentState::Settling, Event::SettleUnclear);
        let again = Patch {
            settle_called: Some(at(99)),
            ..Patch::default()
        };
        assert!(
            payments::advance(&db, unclear, &settling, &again, at(4))
                .await
                .unwrap()
                .is_some()
        );
        let unknown = load(&db, &row).await;
        assert_eq!(unknown.state, PaymentState::Unknown);
        assert_eq!(unknown.reason.as_deref(), Some("why"));
        assert_eq!(
            (unknown.lease_until, unknown.next_look),
            (at(8), Some(at(5)))
        );
        assert_eq!(unknown.transaction, Some(B256::repeat_byte(4)));
        assert_eq!(unknown.body_sha256.as_deref(), Some("body"));
        let called = "SELECT settle_called_ms FROM payments";
        assert_eq!(
            number(&db, called).await,
            at(3).millis(),
            "the first call counts"
        );
        assert_eq!(
            audit::load_detail(&db, row.id.as_str())
                .await
                .unwrap()
                .changed_ms,
            at(4).millis()
        );
    })
    .await;
}

#[tokio::test]
async fn a_pending_image_is_attached_to_and_given_up_with_its_payment() {
    on_both(async |db| {
        let row = insert(&db, &upload(1)).await;
        let staged = image(1, Some(&row));
        images::insert_pending(&db, &staged, None).await.unwrap();
        let stale = Payment {
            attempt: 2,
            ..row.clone()
        };
        assert!(
            !payments::attach_image(&db, &stale, &staged.id)
                .await
                .unwrap()
        );
        assert!(payments::attach_image(&db, &row, &staged.id).await.unwrap());
        let row = load(&db, &row).await;
        assert_eq!(row.image_id.as_ref(), Some(&staged.id));
        let patch = Patch {
            discard_image: row.image_id.clone(),
            ..Patch::default()
        };
        // A change of state that loses the race gives up nothing.
        let stale = Payment {
            attempt: 2,
            ..row.clone()
        };
        assert!(!advance(&db, &stale, Event::VerifyRefused, &patch).await);
        assert_eq!(image_state(&db, &staged.id).await, ImageState::Pending);
        assert!(advance(&db, &row, Event::VerifyRefused, &patch).await);
        assert_eq!(image_state(&db, &staged.id).await, ImageState::Discarded);
        let moved = load(&db, &row).await;
        let late = Payment {
            state: PaymentState::Received,
            ..moved
        };
        assert!(
            !payments::attach_image(&db, &late, &staged.id)
                .await
                .unwrap()
        );
    })
    .await;
}

// ---- ids and proofs

#[tokio::test]
async fn binding_changes_the_state_and_stores_proofs_and_idempotency_key() {
    on_both(async |db| {
        let row = insert(&db, &payment(1)).await;
        let stale = Payment {
            attempt: 2,
            ..row.clone()
        };
        assert_eq!(bind(&db, &stale, Some("one"), None).await, Binding::Lost);
        // A process that lost the row binds nothing: no proof and no idempotency key.
        let payer = row.authorization.from.to_string();
        assert_eq!(number(&db, "SELECT COUNT(*) FROM payment_proofs").await, 0);
        assert_eq!(number(&db, "SELECT COUNT(*) FROM payment_ids").await, 0);
        assert_eq!(
            bind(&db, &row, Some("one"), Some("body")).await,
            Binding::Bound
        );
        assert_eq!(load(&db, &row).await.state, PaymentState::Verified);
        let owner = async |product: &Product, body: Option<&str>| {
            proofs::find_id_owner(&db, &payer, "one", product, body)
                .await
                .unwrap()
        };
        let same = |same_purchase| {
            Some(IdOwner {
                payment_id: row.id.clone(),
                same_purchase,
            })
        };
        assert_eq!(owner(&row.product, Some("body")).await, same(true));
        assert_eq!(owner(&row.product, Some("other")).await, same(false));
        assert_eq!(owner(&row.product, None).await, same(false));
        let other = product(ProductKind::Upload);
        assert_eq!(owner(&other, Some("body")).await, same(false));
        for (payer, id) in [("0x00", "one"), (payer.as_str(), "two")] {
            let found = proofs::find_id_owner(&db, payer, id, &row.product, None).await;
            assert_eq!(found.unwrap(), None);
        }
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_belongs_to_its_first_payment_unless_that_failed() {
    use PaymentState as S;
    on_both(async |db| {
        let mut next = 100;
        for (number, state) in (1..).zip(PaymentState::ALL) {
            let id = format!("id {number}");
            let first = insert(&db, &payment(number)).await;
            assert_eq!(bind(&db, &first, Some(&id), None).await, Binding::Bound);
            let state_sql = format!(
                "UPDATE payments SET state = '{}' WHERE id = '{}'",
                state.as_str(),
                first.id
            );
            execute(&db, &state_sql).await;
            let free = matches!(state, S::Rejected | S::Released | S::Failed);
            let payer = first.authorization.from.to_string();
            let owner = proofs::find_id_owner(&db, &payer, &id, &first.product, None).await;
            assert_eq!(owner.unwrap().is_none(), free, "{state:?}");
            next += 1;
            let second = insert(&db, &payment(next)).await;
            let binding = bind(&db, &second, Some(&id), None).await;
            let taken = Binding::Taken(IdOwner {
                payment_id: first.id.clone(),
                same_purchase: true,
            });
            let expected = if free { Binding::Bound } else { taken };
            assert_eq!(binding, expected, "{state:?}");
            let second = load(&db, &second).await;
            assert_eq!(second.state == S::Verified, free, "{state:?}");
            let bound = proofs::load_proofs(&db, &second.id, NOW).await.unwrap();
            assert_eq!(
                bound.is_empty(),
                !free,
                "a payment that isn't needed proves nothing"
            );
            let third = insert(&db, &payment(next + 50)).await;
            let Binding::Taken(owner) = bind(&db, &third, Some(&id), Some("x")).await else {
                panic!("{state:?}: the id was given twice");
            };
            assert!(!owner.same_purchase);
        }
    })
    .await;
}

#[tokio::test]
async fn a_payment_with_two_idempotency_keys_binds_both_or_neither() {
    on_both(async |db| {
        let both = |one: &str, two: &str| [one.to_owned(), two.to_owned()];
        let verify = |row: &Payment| step(row.state, Event::VerifyAccepted);
        let first = insert(&db, &payment(1)).await;
        assert_eq!(bind(&db, &first, Some("b"), None).await, Binding::Bound);
        let second = insert(&db, &payment(2)).await;
        let ids = both("a", "b");
        let bound =
            proofs::bind_verified(&db, verify(&second), &second, &bond(&[], &ids), NOW).await;
        assert!(matches!(bound.unwrap(), Binding::Taken(owner) if owner.payment_id == first.id));
        let third = insert(&db, &payment(3)).await;
        let ids = both("a", "c");
        let bound = proofs::bind_verified(&db, verify(&third), &third, &bond(&[], &ids), NOW).await;
        assert_eq!(bound.unwrap(), Binding::Bound);
        for (number, id) in [(4, "a"), (5, "c")] {
            let late = insert(&db, &payment(number)).await;
            let binding = bind(&db, &late, Some(id), None).await;
            assert!(matches!(binding, Binding::Taken(owner) if owner.payment_id == third.id));
        }
    })
    .await;
}

#[tokio::test]
async fn a_balance_covers_what_a_payer_has_open_and_no_more() {
    on_both(async |db| {
        const RICH: usize = 3;
        let mut rows = Vec::new();
        for number in 1..=RACERS {
            rows.push(insert(&db, &payment(u8::try_from(number).unwrap())).await);
        }
        let poor = Bond {
            balance: U256::from(10_000 * RICH + 9_999),
            ..bond(&[], &[])
        };
        let verify = step(rows[0].state, Event::VerifyAccepted);
        let racing = rows
            .iter()
            .map(|row| proofs::bind_verified(&db, verify, row, &poor, NOW));
        let bindings = futures_util::future::join_all(racing).await;
        let is_bound = |binding: &Result<Binding, DbError>| matches!(binding, Ok(Binding::Bound));
        assert_eq!(bindings.iter().filter(|it| is_bound(it)).count(), RICH);
        let open = bindings.iter().find_map(|binding| match binding {
            Ok(Binding::Overdrawn(open)) => Some(open.clone()),
            _ => None,
        });
        let open = open.unwrap();
        assert_eq!(open.len(), RICH);
        let late = insert(&db, &payment(200)).await;
        // What the chain has executed is no longer part of the balance.
        let nonces: Vec<B256> = open.iter().map(|open| open.nonce).collect();
        let executed = Bond {
            balance: U256::from(10_000),
            executed: &nonces,
            ..bond(&[], &[])
        };
        let bound = proofs::bind_verified(&db, verify, &late, &executed, NOW).await;
        assert_eq!(bound.unwrap(), Binding::Bound);
        // Another payer, another network and another token are not counted.
        let mut foreign = payment(201);
        foreign.authorization.from = Address::repeat_byte(2);
        let foreign = insert(&db, &foreign).await;
        let one = Bond {
            balance: U256::from(10_000),
            ..bond(&[], &[])
        };
        let bound = proofs::bind_verified(&db, verify, &foreign, &one, NOW).await;
        assert_eq!(bound.unwrap(), Binding::Bound);
        // What was given up, or settled before the balance was read, is not open.
        for (state, settled) in [("settled", "1"), ("failed", "NULL"), ("released", "NULL")] {
            let text = format!(
                "UPDATE payments SET state = '{state}', settled_ms = {settled} WHERE state = 'verified'"
            );
            execute(&db, &text).await;
            let next = insert(&db, &payment(202)).await;
            let bound = proofs::bind_verified(&db, verify, &next, &one, NOW).await;
            assert_eq!(bound.unwrap(), Binding::Bound, "{state}");
            execute(&db, "DELETE FROM payments WHERE state = 'verified'").await;
        }
        // What was settled since the balance was read may not be part of it yet.
        let since = format!(
            "UPDATE payments SET settled_ms = {} WHERE state = 'settled'",
            one.read_at.millis()
        );
        assert!(execute(&db, &since).await > 0);
        let last = insert(&db, &payment(203)).await;
        let bound = proofs::bind_verified(&db, verify, &last, &one, NOW).await;
        assert!(
            matches!(bound.unwrap(), Binding::Overdrawn(open) if open.iter().all(|open| open.is_settled))
        );
    })
    .await;
}

#[tokio::test]
async fn another_payer_may_use_the_same_idempotency_key() {
    on_both(async |db| {
        let first = insert(&db, &payment(1)).await;
        assert_eq!(bind(&db, &first, Some("id"), None).await, Binding::Bound);
        let mut foreign = payment(2);
        foreign.authorization.from = Address::repeat_byte(2);
        let foreign = insert(&db, &foreign).await;
        assert_eq!(bind(&db, &foreign, Some("id"), None).await, Binding::Bound);
    })
    .await;
}

#[tokio::test]
async fn a_proof_expires_on_time_and_is_then_erased() {
    on_both(async |db| {
        let row = insert(&db, &payment(1)).await;
        let proof = |kind, hash: &str, expires| Proof {
            kind,
            hash: hash.to_owned(),
            expires,
        };
        let proofs = [
            proof("ticket", "t", None),
            proof("address", "a", Some(at(10))),
        ];
        let verify = step(row.state, Event::VerifyAccepted);
        let bound = proofs::bind_verified(&db, verify, &row, &bond(&proofs, &[]), NOW).await;
        assert_eq!(bound.unwrap(), Binding::Bound);
        let kinds = async |now| {
            let proofs = proofs::load_proofs(&db, &row.id, now).await.unwrap();
            proofs
                .into_iter()
                .map(|proof| proof.0)
                .collect::<BTreeSet<_>>()
        };
        let both = BTreeSet::from(["address".to_owned(), "ticket".to_owned()]);
        let ticket = BTreeSet::from(["ticket".to_owned()]);
        assert_eq!(kinds(at(9)).await, both);
        assert_eq!(kinds(at(10)).await, ticket);
        proofs::forget_expired_proofs(&db, at(9)).await.unwrap();
        assert_eq!(number(&db, "SELECT COUNT(*) FROM payment_proofs").await, 2);
        proofs::forget_expired_proofs(&db, at(10)).await.unwrap();
        assert_eq!(number(&db, "SELECT COUNT(*) FROM payment_proofs").await, 1);
        assert_eq!(kinds(NOW).await, ticket);
        // The next attempt binds the same proof again, with a later end.
        let row = load(&db, &row).await;
        assert!(advance(&db, &row, Event::GivenUp, &Patch::default()).await);
        let row = load(&db, &row).await;
        let step_back = step(row.state, Event::PresentedAgain);
        let again = Payment {
            attempt: 2,
            ..payment(1)
        };
        assert!(
            payments::restart(&db, step_back, 1, &again, "s", at(60))
                .await
                .unwrap()
        );
        let row = load(&db, &row).await;
        let later = [
            proof("ticket", "t", None),
            proof("address", "a", Some(at(90))),
        ];
        let bound = proofs::bind_verified(&db, verify, &row, &bond(&later, &[]), NOW).await;
        assert_eq!(bound.unwrap(), Binding::Bound);
        assert_eq!(kinds(at(89)).await, both);
    })
    .await;
}

// ---- settling

#[tokio::test]
async fn proof_of_transfer_settles_every_allowed_state_once() {
    on_both(async |db| {
        for (number, state) in (1..).zip(PaymentState::ALL) {
            let row = put(&db, &payment(number), state).await;
            if state == PaymentState::Settled {
                assert_eq!(transition(state, Event::ChainPaid), None);
                continue;
            }
            assert_eq!(grant_of(&db, &row).await, None, "{state:?}");
            let done = Settlement::Done { published: false };
            assert_eq!(settle(&db, &row).await, done, "{state:?}");
            assert_eq!(settle(&db, &row).await, Settlement::Moved, "{state:?}");
            let settled = load(&db, &row).await;
            assert_eq!(settled.state, PaymentState::Settled);
            assert_eq!(settled.transaction, Some(row.authorization.nonce));
            assert_eq!(settled.settled_at, Some(at(2)));
            assert_eq!((settled.next_look, settled.lease_until), (None, NOBODY));
            let grant = grant_of(&db, &row).await.unwrap();
            assert_eq!((grant.used, grant.serial, grant.is_void), (0, 0, false));
            assert_eq!((grant.product, grant.keep), (row.product, row.terms.keep));
            assert_eq!(grant.max_bytes, row.terms.max_bytes);
            let detail = audit::load_detail(&db, row.id.as_str()).await.unwrap();
            assert_eq!(detail.proven_by.as_deref(), Some("chain"));
            assert_eq!((detail.log_index, detail.owed), (Some(1), None));
        }
    })
    .await;
}

#[tokio::test]
async fn a_settlement_publishes_the_pending_image_and_counts_the_use() {
    on_both(async |db| {
        let mut row = put(&db, &upload(1), PaymentState::Verified).await;
        let staged = image(1, Some(&row));
        images::insert_pending(&db, &staged, None).await.unwrap();
        assert!(payments::attach_image(&db, &row, &staged.id).await.unwrap());
        assert!(advance(&db, &row, Event::SettleStarted, &Patch::default()).await);
        row = load(&db, &row).await;
        let done = Settlement::Done { published: true };
        assert_eq!(settle(&db, &row).await, done);
        let live = images::find(&db, &staged.id).await.unwrap().unwrap();
        let expected = Image {
            state: ImageState::Live,
            published_at: Some(at(2)),
            expires_at: row.terms.keep.end(at(2)),
            owner: Some(Owner {
                wallet: row.authorization.from,
                network: Some(row.network().caip2.to_owned()),
            }),
            ..staged.clone()
        };
        assert_eq!(live, expected);
        assert_eq!(grant_of(&db, &row).await.unwrap().used, 1);
        assert!(audit::find_owed(&db).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_image_belongs_to_its_payer_or_to_the_owner_that_is_given() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Settled).await;
        let payer = Owner {
            wallet: row.authorization.from,
            network: Some(row.network().caip2.to_owned()),
        };
        let given = Owner {
            wallet: Address::repeat_byte(0xaa),
            network: None,
        };
        for (number, payment, owner, expected) in [
            (1, Some(&row), None, Some(payer)),
            (2, None, Some(given.clone()), Some(given)),
            (3, None, None, None),
        ] {
            let image = Image {
                owner,
                ..image(number, payment)
            };
            images::insert_pending(&db, &image, None).await.unwrap();
            let stored = images::find(&db, &image.id).await.unwrap().unwrap();
            assert_eq!(stored.owner, expected, "{number}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_images_of_a_wallet_are_read_by_their_indexes() {
    on_both(async |db| {
        let plan = explain(
            &db,
            "images::FIND_SAME",
            &[
                "'0x1'", "''", "'year'", "'x'", "'public'", "NULL", "1", "NULL",
            ],
        )
        .await;
        assert!(plan.contains("images_same"), "{plan}");
        let plan = explain(
            &db,
            "images::FIND_OWNED",
            &["'0x1'", "''", "1", "'x'", "1", "10"],
        )
        .await;
        assert!(plan.contains("images_owner"), "{plan}");
        assert!(!plan.to_lowercase().contains("sort"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    })
    .await;
}

/// How the database runs the statement with this name and these values.
async fn explain(db: &Db, statement: &str, values: &[&str]) -> String {
    let (_, sql) = statements()
        .into_iter()
        .find(|(name, _)| *name == statement)
        .unwrap();
    let mut sql = sql.to_owned();
    for (number, value) in (1..).zip(values) {
        sql = sql.replace(&format!("${number}"), value);
    }
    match db {
        Db::Sqlite(sqlite) => {
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
            let rows: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
                .fetch_all(sqlite.readers())
                .await
                .unwrap();
            let lines: Vec<String> = rows.into_iter().map(|row| row.3).collect();
            lines.join("\n")
        }
        // PostgreSQL reads an empty table in any order; it may use the index in any case.
        Db::Postgres(pool) => {
            let mut connection = pool.acquire().await.unwrap();
            for off in ["seqscan", "bitmapscan", "sort"] {
                let off = AssertSqlSafe(format!("SET enable_{off} = off"));
                sqlx::query(off).execute(&mut *connection).await.unwrap();
            }
            let explain = AssertSqlSafe(format!("EXPLAIN {sql}"));
            let lines: Vec<String> = sqlx::query_scalar(explain)
                .fetch_all(&mut *connection)
                .await
                .unwrap();
            lines.join("\n")
        }
    }
}

#[tokio::test]
async fn a_key_finds_the_same_bytes_on_every_grant_of_its_wallet() {
    on_both(async |db| {
        let owner = Owner {
            wallet: Address::repeat_byte(1),
            network: None,
        };
        let (first, second) = (sold(&db, 1, 5).await, sold(&db, 2, 5).await);
        let reserve = async |by: &Owner, grant: &Grant, number| {
            let image = Image {
                tier: "year".to_owned(),
                upload_sha256: "cd".repeat(32),
                ..use_of(grant, number, NOW)
            };
            let reserved = grants::reserve_by(&db, Some(by), grant, &image, at(300)).await;
            (image.id, reserved.unwrap())
        };
        let (id, reserved) = reserve(&owner, &first, 1).await;
        assert_eq!(reserved, Reservation::Held);
        assert_eq!(reserve(&owner, &first, 2).await.1, Reservation::Pending);
        assert_eq!(reserve(&owner, &second, 3).await.1, Reservation::Pending);
        let published = grants::publish(&db, &first.payment_id, &id, at(5), Some(at(9999))).await;
        assert!(published.unwrap());
        assert_eq!(reserve(&owner, &second, 4).await.1, Reservation::Same);
        // A contract of the same address on another chain may belong to somebody else.
        let elsewhere = Owner {
            network: Some("eip155:1".to_owned()),
            ..owner
        };
        assert_eq!(reserve(&elsewhere, &second, 5).await.1, Reservation::Held);
    })
    .await;
}

#[tokio::test]
async fn a_key_uses_a_link_whose_secret_was_replaced_but_none_that_was_revoked() {
    on_both(async |db| {
        let owner = Owner {
            wallet: Address::repeat_byte(1),
            network: None,
        };
        let grant = sold(&db, 1, 5).await;
        execute(&db, "UPDATE grants SET kind = 'link'").await;
        let reserve = async |by: Option<&Owner>, number: u8| {
            let image = Image {
                upload_sha256: hex::encode([number; 32]),
                ..use_of(&grant, number.into(), NOW)
            };
            let reserved = grants::reserve_by(&db, by, &grant, &image, at(300)).await;
            reserved.unwrap()
        };
        assert!(
            grants::replace_token(&db, &grant, "next", at(600))
                .await
                .unwrap()
        );
        assert_eq!(reserve(None, 1).await, Reservation::Revoked);
        assert_eq!(reserve(Some(&owner), 2).await, Reservation::Held);
        assert!(
            grants::revoke_link(&db, &grant.payment_id, 1, at(1))
                .await
                .unwrap()
        );
        assert_eq!(reserve(Some(&owner), 3).await, Reservation::Revoked);
    })
    .await;
}

#[tokio::test]
async fn an_upload_whose_image_is_gone_or_was_never_stored_is_owed() {
    on_both(async |db| {
        // Given up: the image's row was discarded.
        let row = put(&db, &upload(1), PaymentState::Settling).await;
        let gone = image(1, Some(&row));
        images::insert_pending(&db, &gone, None).await.unwrap();
        assert!(payments::attach_image(&db, &row, &gone.id).await.unwrap());
        assert!(images::discard(&db, &gone.id).await.unwrap());
        // Not stored yet: objects are stored after verify, so a row from before has none.
        let early = insert(&db, &upload(2)).await;
        let unstored = image(2, Some(&early));
        images::insert_pending(&db, &unstored, None).await.unwrap();
        assert!(
            payments::attach_image(&db, &early, &unstored.id)
                .await
                .unwrap()
        );
        // No image at all.
        let bare = put(&db, &upload(3), PaymentState::Unknown).await;
        for row in [&row, &early, &bare] {
            let done = Settlement::Done { published: false };
            assert_eq!(settle(&db, row).await, done);
            assert_eq!(grant_of(&db, row).await.unwrap().used, 0);
        }
        for id in [&gone.id, &unstored.id] {
            assert_eq!(image_state(&db, id).await, ImageState::Discarded);
        }
        let owed = audit::find_owed(&db).await.unwrap();
        assert_eq!(owed.len(), 3);
        let grant = grant_of(&db, &bare).await.unwrap();
        assert!(payments::clear_owed(&db, &grant).await.unwrap());
        assert_eq!(audit::find_owed(&db).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_transfer_settles_one_payment_only() {
    on_both(async |db| {
        let first = put(&db, &payment(1), PaymentState::Settled).await;
        let second = put(&db, &payment(2), PaymentState::Unknown).await;
        let same_log = SettlementRecord {
            transfer: Transfer {
                transaction: first.transaction.unwrap(),
                log_index: Some(1),
            },
            ..settlement(&second, Event::ChainPaid, None)
        };
        assert!(settlements::settle(&db, &same_log).await.is_err());
        assert_eq!(load(&db, &second).await.state, PaymentState::Unknown);
        assert!(grant_of(&db, &second).await.is_none(), "all or nothing");
        let next_log = SettlementRecord {
            transfer: Transfer {
                transaction: first.transaction.unwrap(),
                log_index: Some(3),
            },
            ..settlement(&second, Event::ChainPaid, None)
        };
        let done = Settlement::Done { published: false };
        assert_eq!(settlements::settle(&db, &next_log).await.unwrap(), done);
    })
    .await;
}

#[tokio::test]
async fn a_settlement_under_an_outdated_attempt_reports_a_change() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Unknown).await;
        let row = unleased(&db, &row).await;
        payments::claim(&db, &row, at(9), LEASE)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(settle(&db, &row).await, Settlement::Moved);
        assert!(grant_of(&db, &row).await.is_none());
        let fresh = load(&db, &row).await;
        let done = Settlement::Done { published: false };
        assert_eq!(settle(&db, &fresh).await, done);
    })
    .await;
}

// ---- grants

pub(crate) async fn sold(db: &Db, number: u8, uses: u32) -> Grant {
    let mut row = payment(number);
    row.product.uses = uses;
    let row = put(db, &row, PaymentState::Settled).await;
    grant_of(db, &row).await.unwrap()
}

pub(crate) fn use_of(grant: &Grant, number: u64, created_at: Timestamp) -> Image {
    Image {
        payment_id: Some(grant.payment_id.clone()),
        owner: None,
        created_at,
        ..image(number, None)
    }
}

#[tokio::test]
async fn an_upload_by_a_link_that_was_revoked_or_replaced_since_is_not_published() {
    on_both(async |db| {
        let mut row = payment(1);
        row.product.uses = 3;
        row.product.kind = ProductKind::Link;
        row.product.days = Some(7);
        let row = put(&db, &row, PaymentState::Settled).await;
        let grant = grant_of(&db, &row).await.unwrap();
        let until = NOW.plus(Duration::from_secs(300));
        for number in 1..=3 {
            let image = use_of(&grant, number, NOW);
            let held = grants::reserve(&db, &grant, &image, until).await.unwrap();
            assert_eq!(held, Reservation::Held);
        }
        let publish = async |number, serial| {
            let id = use_of(&grant, number, NOW).id;
            let of = (&grant.payment_id, serial);
            let end = Some(at(9999));
            grants::publish_through(&db, of, None, &id, at(5), end)
                .await
                .unwrap()
        };
        assert!(publish(1, Some(grant.serial)).await);
        let id = &grant.payment_id;
        assert!(
            grants::revoke_link(&db, id, grant.serial, at(6))
                .await
                .unwrap()
        );
        assert!(!publish(2, Some(grant.serial)).await, "it is revoked");
        assert!(!publish(2, None).await, "it is revoked for API keys too");
        // A claim makes the next secret. The upload by the old one does not count on it.
        let replaced = grants::replace_token(&db, &grant, "the next secret", at(9999));
        assert!(replaced.await.unwrap());
        assert!(!publish(2, Some(grant.serial)).await, "it is replaced");
        assert!(publish(2, None).await);
        assert!(publish(3, Some(grant.serial + 1)).await);
        let full = grants::find(&db, id).await.unwrap().unwrap();
        assert_eq!(full.used, 3);
    })
    .await;
}

#[tokio::test]
async fn uses_of_a_grant_are_reserved_published_and_used_up() {
    on_both(async |db| {
        let grant = sold(&db, 1, 2).await;
        let reserve = async |number, now: Timestamp| {
            let image = use_of(&grant, number, now);
            let until = now.plus(Duration::from_secs(300));
            grants::reserve(&db, &grant, &image, until).await.unwrap()
        };
        assert_eq!(reserve(1, NOW).await, Reservation::Held);
        assert_eq!(reserve(2, NOW).await, Reservation::Held);
        assert_eq!(reserve(3, at(299)).await, Reservation::Busy);
        let publish = async |number, now| {
            let id = use_of(&grant, number, NOW).id;
            grants::publish(&db, &grant.payment_id, &id, now, Some(at(9999)))
                .await
                .unwrap()
        };
        assert!(publish(1, at(5)).await);
        assert!(!publish(1, at(5)).await, "it is public already");
        assert_eq!(reserve(3, at(299)).await, Reservation::Busy);
        // The second upload's reservation expires, and the third upload takes its use.
        assert_eq!(reserve(3, at(300)).await, Reservation::Held);
        assert!(publish(3, at(301)).await);
        assert!(!publish(2, at(302)).await, "its use went to the third");
        let late = use_of(&grant, 2, NOW).id;
        assert_eq!(image_state(&db, &late).await, ImageState::Pending);
        assert_eq!(reserve(4, at(303)).await, Reservation::UsedUp);
        let full = grants::find(&db, &grant.payment_id).await.unwrap().unwrap();
        assert_eq!(full.used, 2);
        let published = images::find_published_by_payment(&db, &grant.payment_id).await;
        let ids: Vec<ImageId> = published
            .unwrap()
            .into_iter()
            .map(|image| image.id)
            .collect();
        assert_eq!(ids, [use_of(&grant, 3, NOW).id, use_of(&grant, 1, NOW).id]);
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_same_bytes_take_another_use_only_for_other_eyes() {
    on_both(async |db| {
        let grant = sold(&db, 1, 5).await;
        let viewer = Visibility::Private {
            viewer: Some(Address::repeat_byte(9)),
        };
        let private = Visibility::Private { viewer: None };
        let all = [Visibility::Public, private, viewer];
        let reserve = async |number, visibility| {
            let image = Image {
                visibility,
                upload_sha256: "cd".repeat(32),
                ..use_of(&grant, number, NOW)
            };
            let until = NOW.plus(Duration::from_secs(300));
            let reserved = grants::reserve(&db, &grant, &image, until).await.unwrap();
            (image.id, reserved)
        };
        for (number, visibility) in (1..).zip(all) {
            let (id, reserved) = reserve(number, visibility).await;
            assert_eq!(reserved, Reservation::Held, "{visibility:?}");
            let stored = images::find(&db, &id).await.unwrap().unwrap();
            assert_eq!((stored.visibility, stored.link_serial), (visibility, 0));
            assert_eq!(reserve(number + 10, visibility).await.1, Reservation::Busy);
            let end = Some(at(9999));
            assert!(
                grants::publish(&db, &grant.payment_id, &id, at(5), end)
                    .await
                    .unwrap()
            );
            assert_eq!(reserve(number + 10, visibility).await.1, Reservation::Same);
        }
    })
    .await;
}

#[tokio::test]
async fn links_of_live_private_images_are_ended_and_stay_ended() {
    on_both(async |db| {
        let private = Visibility::Private { viewer: None };
        let publish = async |number, visibility| {
            let image = Image {
                visibility,
                ..image(number, None)
            };
            images::insert_pending(&db, &image, None).await.unwrap();
            assert!(!images::rotate_links(&db, &image.id, NOW).await.unwrap());
            let end = Some(at(60));
            assert!(
                images::publish_free(&db, None, &image, NOW, end)
                    .await
                    .unwrap()
            );
            image.id
        };
        let serial = async |id: &ImageId| images::find(&db, id).await.unwrap().unwrap().link_serial;
        let public = publish(1, Visibility::Public).await;
        assert!(!images::rotate_links(&db, &public, NOW).await.unwrap());
        let id = publish(2, private).await;
        for round in 1..3 {
            assert!(images::rotate_links(&db, &id, at(59)).await.unwrap());
            assert_eq!(serial(&id).await, round);
        }
        assert_eq!(images::count_undescribed(&db, &id).await.unwrap(), 2);
        assert!(!images::rotate_links(&db, &id, at(60)).await.unwrap());
        for (found, is_raised, now) in [(1, false, 2), (2, false, 2), (7, true, 7)] {
            let raised = copies::keep_links_ended(&db, &id, found).await.unwrap();
            assert_eq!((raised, serial(&id).await), (is_raised, now));
        }
    })
    .await;
}

#[tokio::test]
async fn publishing_counts_the_use_and_shows_the_image_or_does_neither() {
    on_both(async |db| {
        let (grant, other) = (sold(&db, 1, 1).await, sold(&db, 2, 1).await);
        let reserved = use_of(&grant, 1, NOW);
        let held = grants::reserve(&db, &grant, &reserved, at(300))
            .await
            .unwrap();
        assert_eq!(held, Reservation::Held);
        let publish = async |payment: &PaymentId, image: &ImageId| {
            grants::publish(&db, payment, image, at(1), None)
                .await
                .unwrap()
        };
        // For a missing image, and for another payment's image, the counted use is rolled back.
        assert!(!publish(&grant.payment_id, &image(9, None).id).await);
        assert!(!publish(&other.payment_id, &reserved.id).await);
        for grant in [&grant, &other] {
            let now = grants::find(&db, &grant.payment_id).await.unwrap().unwrap();
            assert_eq!(now.used, 0);
        }
        assert!(images::discard(&db, &reserved.id).await.unwrap());
        assert!(!publish(&grant.payment_id, &reserved.id).await);
        assert_eq!(image_state(&db, &reserved.id).await, ImageState::Discarded);
        let second = use_of(&grant, 2, NOW);
        let held = grants::reserve(&db, &grant, &second, at(300))
            .await
            .unwrap();
        assert_eq!(held, Reservation::Held, "a discarded image holds nothing");
        execute(&db, "UPDATE payments SET owed = 'something'").await;
        assert!(publish(&grant.payment_id, &second.id).await);
        let live = images::find(&db, &second.id).await.unwrap().unwrap();
        assert_eq!((live.state, live.expires_at), (ImageState::Live, None));
        let owed = audit::find_owed(&db).await.unwrap();
        assert_eq!(owed.len(), 1, "who has the goods is owed nothing");
        assert_eq!(owed[0].id, other.payment_id.as_str());
    })
    .await;
}

#[tokio::test]
async fn a_token_is_replaced_once_and_the_old_one_is_dead() {
    on_both(async |db| {
        let grant = sold(&db, 1, 1).await;
        let old = format!("token of {}", grant.payment_id);
        let by_hash = async |hash: &str| grants::find_by_token_hash(&db, hash).await.unwrap();
        assert_eq!(by_hash(&old).await, Some(grant.clone()));
        let replace = async |hash: &str| {
            grants::replace_token(&db, &grant, hash, at(7200))
                .await
                .unwrap()
        };
        assert!(replace("fresh").await);
        assert!(!replace("fresher").await, "someone else was faster");
        assert_eq!(by_hash(&old).await, None);
        assert_eq!(by_hash("fresher").await, None);
        let fresh = by_hash("fresh").await.unwrap();
        assert_eq!((fresh.serial, fresh.token_expires), (1, at(7200)));
        let image = use_of(&grant, 1, NOW);
        grants::reserve(&db, &grant, &image, at(300)).await.unwrap();
        let done = grants::publish(&db, &grant.payment_id, &image.id, at(1), None).await;
        assert!(done.unwrap());
        let late = grants::replace_token(&db, &fresh, "later", at(9000)).await;
        assert!(!late.unwrap(), "what is used up has no next token");
    })
    .await;
}

#[tokio::test]
async fn every_replaced_token_is_known_until_its_payment_is_erased() {
    on_both(async |db| {
        let first = sold(&db, 1, 1).await;
        let other = sold(&db, 2, 1).await;
        let find = async || {
            let grant = grants::find(&db, &first.payment_id).await.unwrap();
            grant.unwrap()
        };
        let hashes = ["second", "third", "fourth"];
        for hash in hashes {
            let replaced = grants::replace_token(&db, &find().await, hash, at(1)).await;
            assert!(replaced.unwrap());
            let stale = grants::replace_token(&db, &first, "never", at(1)).await;
            assert!(!stale.unwrap());
        }
        let replaced = grants::replace_token(&db, &other, "other", at(1)).await;
        assert!(replaced.unwrap());
        let known = async |hash: &str| grants::was_replaced(&db, hash).await.unwrap();
        for hash in [&first.token_hash, "second", "third", &other.token_hash] {
            assert!(known(hash).await, "{hash}");
        }
        for hash in ["fourth", "other", "never"] {
            assert!(!known(hash).await, "{hash}");
        }
        // A server of the former version keeps the last one only.
        execute(
            &db,
            "UPDATE grants SET replaced_hash = 'by another version'",
        )
        .await;
        assert!(known("by another version").await);

        execute(
            &db,
            "UPDATE payments SET next_look_ms = NULL, lease_until_ms = 0",
        )
        .await;
        let payment = Erasable {
            id: first.payment_id.as_str().to_owned(),
            state: "settled".to_owned(),
            transaction_hash: None,
            payer: String::new(),
            pay_to: String::new(),
            amount: String::new(),
        };
        let erased = erasure::erase_payment(&db, &payment, None, at(2)).await;
        assert!(erased.unwrap());
        let left = "SELECT COUNT(*) FROM replaced_secrets";
        assert_eq!(number(&db, left).await, 1);
        assert!(known(&other.token_hash).await);
    })
    .await;
}

// ---- images, offers, stamps

#[tokio::test]
async fn a_free_image_is_published_once_and_a_paid_one_never_this_way() {
    on_both(async |db| {
        let free = image(1, None);
        assert!(images::find(&db, &free.id).await.unwrap().is_none());
        images::insert_pending(&db, &free, Some(at(300)))
            .await
            .unwrap();
        assert_eq!(
            images::find(&db, &free.id).await.unwrap(),
            Some(free.clone())
        );
        let publish = async |image: &Image| {
            images::publish_free(&db, None, image, at(1), Some(at(60)))
                .await
                .unwrap()
        };
        assert!(publish(&free).await);
        assert!(!publish(&free).await);
        let live = images::find(&db, &free.id).await.unwrap().unwrap();
        assert_eq!(live.state, ImageState::Live);
        assert_eq!(
            (live.published_at, live.expires_at),
            (Some(at(1)), Some(at(60)))
        );
        assert!(live.is_public(at(59)) && !live.is_public(at(60)));
        assert!(!images::discard(&db, &free.id).await.unwrap());
        let paid = image(2, Some(&insert(&db, &upload(1)).await));
        images::insert_pending(&db, &paid, None).await.unwrap();
        assert!(!publish(&paid).await);
        assert!(images::discard(&db, &paid.id).await.unwrap());
        assert!(!images::discard(&db, &paid.id).await.unwrap());
        assert!(!publish(&paid).await);
        let twice = images::insert_pending(&db, &free, None).await;
        assert!(twice.is_err(), "an id is drawn once");
    })
    .await;
}

#[tokio::test]
async fn offers_are_found_while_recent_newest_first_and_their_time_only_grows() {
    on_both(async |db| {
        let wanted = product(ProductKind::Token);
        let priced = |units| {
            let mut terms = terms();
            terms.offer.amount = AtomicAmount::from_units(units);
            terms
        };
        let mut forever = priced(3);
        forever.keep = Keep::Forever;
        for (terms, seconds) in [(&priced(1), 10), (&priced(2), 20), (&forever, 15)] {
            offers::record(&db, &[(wanted.clone(), terms.clone())], at(seconds))
                .await
                .unwrap();
        }
        let other = product(ProductKind::Upload);
        offers::record(&db, &[(other, priced(9))], at(99))
            .await
            .unwrap();
        let recent = async |since| {
            offers::find_recent(&db, &wanted, None, at(since))
                .await
                .unwrap()
        };
        assert_eq!(recent(10).await, [priced(2), forever.clone(), priced(1)]);
        assert_eq!(recent(11).await, [priced(2), forever.clone()]);
        assert_eq!(recent(21).await, []);
        // Another replica whose clock is behind doesn't shorten an offer's life.
        offers::record(&db, &[(wanted.clone(), priced(2))], at(5))
            .await
            .unwrap();
        assert_eq!(recent(20).await, [priced(2)]);
        offers::record(&db, &[(wanted.clone(), priced(1))], at(30))
            .await
            .unwrap();
        assert_eq!(recent(20).await, [priced(1), priced(2)]);
        // Another replica already sells on a network that this one doesn't know yet.
        let elsewhere = "UPDATE offers SET network = 'eip155:999999' WHERE amount = '1'";
        execute(&db, elsewhere).await;
        assert_eq!(recent(20).await, [priced(2)]);
    })
    .await;
}

#[tokio::test]
async fn a_stamp_is_written_once_and_a_setting_is_replaced() {
    on_both(async |db| {
        assert_eq!(deployment::find(&db, "mode").await.unwrap(), None);
        assert_eq!(
            deployment::stamp(&db, "mode", "test").await.unwrap(),
            "test"
        );
        assert_eq!(
            deployment::stamp(&db, "mode", "real").await.unwrap(),
            "test"
        );
        deployment::set(&db, "pay_to", "one").await.unwrap();
        deployment::set(&db, "pay_to", "two").await.unwrap();
        let pay_to = deployment::find(&db, "pay_to").await.unwrap();
        assert_eq!(pay_to.as_deref(), Some("two"));
        db.ping().await.unwrap();
    })
    .await;
}

// ---- what persons and the reconciler ask

#[tokio::test]
async fn due_rows_come_in_order_and_not_while_they_are_leased() {
    on_both(async |db| {
        for (number, due, lease) in [
            (1, Some(at(30)), NOBODY),
            (2, Some(at(10)), NOBODY),
            (3, Some(at(20)), at(40)),
            (4, None, NOBODY),
            (5, Some(at(41)), NOBODY),
        ] {
            let row = Payment {
                next_look: due,
                lease_until: lease,
                ..payment(number)
            };
            insert(&db, &row).await;
        }
        let due = async |now, most| {
            let rows = payments::find_due(&db, now, most).await.unwrap();
            rows.iter()
                .map(|row| row.as_ref().unwrap().authorization.nonce[0])
                .collect::<Vec<u8>>()
        };
        assert_eq!(due(at(9), 10).await, Vec::<u8>::new());
        assert_eq!(due(at(39), 10).await, [2, 1]);
        assert_eq!(due(at(40), 10).await, [2, 3, 1]);
        assert_eq!(due(at(99), 10).await, [2, 3, 1, 5]);
        assert_eq!(due(at(99), 2).await, [2, 3]);
    })
    .await;
}

#[tokio::test]
async fn a_payment_is_found_by_id_transaction_image_and_payer() {
    on_both(async |db| {
        let mut row = put(&db, &upload(1), PaymentState::Verified).await;
        let staged = image(1, Some(&row));
        images::insert_pending(&db, &staged, None).await.unwrap();
        assert!(payments::attach_image(&db, &row, &staged.id).await.unwrap());
        assert!(advance(&db, &row, Event::SettleStarted, &Patch::default()).await);
        row = load(&db, &row).await;
        settle(&db, &row).await;
        let grant = sold(&db, 2, 1).await;
        let by_token = use_of(&grant, 2, NOW);
        grants::reserve(&db, &grant, &by_token, at(300))
            .await
            .unwrap();
        let found = async |text: &str| {
            let rows = payments::search(&db, text).await.unwrap();
            rows.into_iter().map(|row| row.id).collect::<BTreeSet<_>>()
        };
        let first = BTreeSet::from([row.id.clone()]);
        let second = BTreeSet::from([grant.payment_id.clone()]);
        let transaction = row.authorization.nonce.to_string();
        for text in [row.id.as_str(), &transaction, staged.id.as_str()] {
            assert_eq!(found(text).await, first, "{text}");
        }
        assert_eq!(found(by_token.id.as_str()).await, second);
        let payer = row.authorization.from.to_string();
        assert_eq!(found(&payer).await, &first | &second);
        assert_eq!(found("nothing").await, BTreeSet::new());
    })
    .await;
}

#[tokio::test]
async fn owed_goods_are_listed_oldest_first_until_they_are_resolved_once() {
    on_both(async |db| {
        for (number, seconds) in [(1, 30), (2, 20), (3, 10)] {
            let row = put(&db, &payment(number), PaymentState::Unknown).await;
            let record = SettlementRecord {
                owed: (number != 3).then_some("it came late"),
                now: at(seconds),
                ..settlement(&row, Event::ChainPaid, Some(1))
            };
            settlements::settle(&db, &record).await.unwrap();
        }
        let owed = audit::find_owed(&db).await.unwrap();
        let ids: Vec<&str> = owed.iter().map(|row| row.id.as_str()).collect();
        let id = |number| payment(number).id.to_string();
        assert_eq!(ids, [id(2), id(1)]);
        assert_eq!(
            (owed[0].amount.as_str(), owed[0].tier.as_str()),
            ("10000", "year")
        );
        assert_eq!(owed[0].settled_ms, at(20).millis());
        let resolve = async |id: &str| audit::resolve(&db, id, "refunded", at(99)).await.unwrap();
        assert!(resolve(&id(2)).await);
        assert!(!resolve(&id(2)).await, "once");
        assert!(!resolve(&id(3)).await, "nothing is owed");
        assert!(!resolve("nobody").await);
        assert_eq!(audit::find_owed(&db).await.unwrap().len(), 1);
        let detail = audit::load_detail(&db, &id(2)).await.unwrap();
        assert_eq!(detail.resolution.as_deref(), Some("refunded"));
    })
    .await;
}

#[tokio::test]
async fn pages_of_payments_are_ordered_by_id_and_name_unreadable_rows() {
    on_both(async |db| {
        let mut expected = BTreeSet::new();
        for (number, state) in (1..).zip(PaymentState::ALL) {
            expected.insert(put(&db, &payment(number), state).await.id.to_string());
        }
        let all: Vec<String> = expected.into_iter().collect();
        let page = async |last: &str| {
            let rows = audit::page_payments(&db, last).await.unwrap();
            rows.into_iter()
                .map(|row| match row {
                    Ok(row) => (row.id.to_string(), true),
                    Err(row) => (row.id, false),
                })
                .collect::<Vec<_>>()
        };
        let readable = |ids: &[String]| ids.iter().map(|id| (id.clone(), true)).collect::<Vec<_>>();
        assert_eq!(page("").await, readable(&all));
        assert_eq!(page(&all[1]).await, readable(&all[2..]));
        assert!(page(all.last().unwrap()).await.is_empty());
        let spoil = format!("UPDATE payments SET network = 'x' WHERE id = '{}'", all[3]);
        execute(&db, &spoil).await;
        let mut seen = readable(&all);
        seen[3].1 = false;
        assert_eq!(page("").await, seen);
        assert!(audit::rule_count() > 10);
        assert_eq!(audit::find_broken(&db, NOW).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_row_is_reported_as_due_and_postponed_alone() {
    on_both(async |db| {
        for number in 1..4 {
            let row = Payment {
                next_look: Some(at(10)),
                ..payment(number)
            };
            insert(&db, &row).await;
        }
        let spoilt = payment(2).id.to_string();
        execute(
            &db,
            &format!("UPDATE payments SET amount = '-1' WHERE id = '{spoilt}'"),
        )
        .await;
        let due = async |now| {
            let rows = payments::find_due(&db, now, 10).await.unwrap();
            let unreadable: Vec<String> = rows
                .iter()
                .filter_map(|row| row.as_ref().err().map(|row| row.id.clone()))
                .collect();
            (rows.len(), unreadable)
        };
        assert_eq!(due(at(10)).await, (3, vec![spoilt.clone()]));
        payments::put_off(&db, &spoilt, at(20)).await.unwrap();
        assert_eq!(due(at(19)).await, (2, vec![]));
        assert_eq!(due(at(20)).await, (3, vec![spoilt.clone()]));
        payments::put_off(&db, &spoilt, at(15)).await.unwrap();
        assert_eq!(due(at(19)).await, (2, vec![]));
    })
    .await;
}

// ---- races

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_many_concurrent_inserts_restarts_or_claims_wins() {
    on_both(async |db| {
        let inserted = race(&db, |db| async move {
            payments::insert(&db, &payment(1), "sandbox").await.unwrap()
        })
        .await;
        assert_eq!(inserted, 1);
        let row = unleased(&db, &load(&db, &payment(1)).await).await;
        let restarted = race(&db, |db| {
            let again = Payment {
                attempt: 2,
                ..payment(1)
            };
            let step = step(row.state, Event::PresentedAgain);
            async move {
                payments::restart(&db, step, 1, &again, "s", NOW)
                    .await
                    .unwrap()
            }
        })
        .await;
        assert_eq!(restarted, 1);
        let row = unleased(&db, &load(&db, &payment(1)).await).await;
        let claimed = race(&db, |db| {
            let row = row.clone();
            async move {
                payments::claim(&db, &row, NOW, LEASE)
                    .await
                    .unwrap()
                    .is_some()
            }
        })
        .await;
        assert_eq!(claimed, 1);
        assert_eq!(load(&db, &row).await.attempt, 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_many_concurrent_settlements_reservations_and_tokens_wins() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Unknown).await;
        let settled = race(&db, |db| {
            let row = row.clone();
            async move { settle(&db, &row).await != Settlement::Moved }
        })
        .await;
        assert_eq!(settled, 1);
        let grant = grant_of(&db, &row).await.unwrap();
        let serial = std::sync::atomic::AtomicU64::new(0);
        let number = || serial.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let held = race(&db, |db| {
            let (grant, image) = (grant.clone(), use_of(&grant, number(), NOW));
            async move {
                let held = grants::reserve(&db, &grant, &image, at(300)).await.unwrap();
                held == Reservation::Held
            }
        })
        .await;
        assert_eq!(held, 1);
        let replaced = race(&db, |db| {
            let (grant, hash) = (grant.clone(), format!("hash {}", number()));
            async move {
                grants::replace_token(&db, &grant, &hash, at(1))
                    .await
                    .unwrap()
            }
        })
        .await;
        assert_eq!(replaced, 1);
        let stamped = race(&db, |db| {
            let value = format!("{}", number());
            async move { deployment::stamp(&db, "one", &value).await.unwrap() == value }
        })
        .await;
        assert_eq!(stamped, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_many_payments_with_one_idempotency_key_is_bound() {
    on_both(async |db| {
        // Twice: for a new idempotency key, and for one that a rejected payment gave up.
        for round in 0..2_u8 {
            let id = format!("id {round}");
            if round == 1 {
                let first = insert(&db, &payment(200)).await;
                assert_eq!(bind(&db, &first, Some(&id), None).await, Binding::Bound);
                let first = load(&db, &first).await;
                assert!(advance(&db, &first, Event::GivenUp, &Patch::default()).await);
            }
            let mut rows = Vec::new();
            for number in 0..16 {
                rows.push(insert(&db, &payment(1 + round * 16 + number)).await);
            }
            let rows = std::sync::Mutex::new(rows);
            let bound = race(&db, |db| {
                let (row, id) = (rows.lock().unwrap().pop().unwrap(), id.clone());
                async move { bind(&db, &row, Some(&id), None).await == Binding::Bound }
            })
            .await;
            assert_eq!(bound, 1, "round {round}");
        }
        let verified = "SELECT COUNT(*) FROM payments WHERE state = 'verified'";
        assert_eq!(number(&db, verified).await, 2);
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_is_not_taken_over_while_its_payment_restarts() {
    // SQLite has one writer at a time, so this race can't happen there.
    let Some(server) = postgres_server() else {
        return;
    };
    let db = open(&create_postgres(&server).await).await;
    db.migrate().await.unwrap();
    let first = insert(&db, &payment(1)).await;
    assert_eq!(bind(&db, &first, Some("id"), None).await, Binding::Bound);
    let first = load(&db, &first).await;
    assert!(advance(&db, &first, Event::GivenUp, &Patch::default()).await);
    let other = insert(&db, &payment(2)).await;
    // The first payment's next attempt is verified: its uncommitted transaction has the idempotency
    // key.
    let Db::Postgres(pool) = &db else {
        unreachable!()
    };
    let mut coming_back = pool.begin().await.unwrap();
    for sql in [
        "UPDATE payment_ids SET kind = kind",
        "UPDATE payments SET state = 'verified' WHERE state = 'released'",
    ] {
        sqlx::query(sql).execute(&mut *coming_back).await.unwrap();
    }
    let (over, ()) = tokio::join!(bind(&db, &other, Some("id"), None), async {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND wait_event_type = 'Lock'";
        eventually("the other one waits", async || {
            (number(&db, waiting).await > 0).then_some(())
        })
        .await;
        coming_back.commit().await.unwrap();
    });
    assert!(
        matches!(over, Binding::Taken(_)),
        "{over:?}: two payments have one id"
    );
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_uploads_never_publish_more_than_a_grant_has_uses() {
    on_both(async |db| {
        let grant = sold(&db, 1, 3).await;
        let serial = std::sync::atomic::AtomicU64::new(0);
        // Every reservation has expired when the next is made, so that all may try to publish.
        let published = race(&db, |db| {
            let number = serial.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (grant, image) = (grant.clone(), use_of(&grant, number, NOW));
            async move {
                let held = grants::reserve(&db, &grant, &image, NOW).await.unwrap();
                held == Reservation::Held
                    && grants::publish(&db, &grant.payment_id, &image.id, NOW, None)
                        .await
                        .unwrap()
            }
        })
        .await;
        assert_eq!(published, 3);
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());
    })
    .await;
}

// ---- statements, values, migrations, durability

#[tokio::test]
async fn every_statement_can_be_prepared_on_both_databases() {
    on_both(async |db| {
        let others = match db {
            Db::Sqlite(_) => "_POSTGRES",
            Db::Postgres(_) => "_SQLITE",
        };
        for (name, sql) in statements() {
            if name.ends_with(others) {
                continue;
            }
            let sql = AssertSqlSafe(sql).into_sql_str();
            let prepared = match &db {
                Db::Sqlite(sqlite) => {
                    let mut connection = sqlite.readers().acquire().await.unwrap();
                    connection.prepare(sql).await.map(|_| ())
                }
                Db::Postgres(pool) => {
                    let mut connection = pool.acquire().await.unwrap();
                    connection.prepare(sql).await.map(|_| ())
                }
            };
            prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    })
    .await;
}

#[test]
fn the_list_of_prepared_statements_is_complete() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/db");
    let listed: BTreeSet<&str> = statements().into_iter().map(|(name, _)| name).collect();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // `sqlite/` has no statements on tables.
        if path.is_dir() {
            continue;
        }
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let constant = line
                .trim_start_matches("pub(super) ")
                .strip_prefix("const ");
            if let Some((name, _)) = constant.and_then(|rest| rest.split_once(": &str =")) {
                let name = format!("{module}::{name}");
                assert!(
                    listed.contains(name.as_str()),
                    "{name} is not in db::statements()"
                );
            }
        }
    }
}

/// Sets a column to a value that `pixtoll` does not write, reads the row, and restores it.
async fn assert_corrupt(
    db: &Db,
    table: &'static str,
    (column, bad): (&'static str, &str),
    key: &str,
    read: impl AsyncFn() -> Result<(), DbError>,
) {
    execute(
        db,
        &format!("CREATE TABLE kept AS SELECT {column} AS value FROM {table}"),
    )
    .await;
    execute(db, &format!("UPDATE {table} SET {column} = {bad}")).await;
    let error = read().await.expect_err(column);
    let text = error.to_string();
    let DbError::Corrupt {
        table: t,
        column: c,
        row,
    } = error
    else {
        panic!("{table}.{column}: {error}");
    };
    assert_eq!((t, c, row.as_str()), (table, column, key));
    assert!(
        text.contains(&format!("{table}.{column} of row {key}")),
        "{text}"
    );
    execute(
        db,
        &format!("UPDATE {table} SET {column} = (SELECT value FROM kept)"),
    )
    .await;
    execute(db, "DROP TABLE kept").await;
}

#[tokio::test]
async fn a_value_that_does_not_parse_names_its_table_column_and_row() {
    const PAYMENT: &[(&str, &str)] = &[
        ("network", "'eip155:1'"),
        ("payer", "'0x12'"),
        ("nonce", "'0x12'"),
        ("digest", "''"),
        ("signature", "'0xz'"),
        ("valid_after", "'soon'"),
        ("valid_before", "'-1'"),
        ("state", "'paid'"),
        ("kind", "'renewal?'"),
        ("uses", "-1"),
        ("uses", "4294967296"),
        ("amount", "'1.5'"),
        ("pay_to", "'me'"),
        ("max_timeout_seconds", "-1"),
        ("keep_ms", "-1"),
        ("max_bytes", "-1"),
        ("confirmations", "-1"),
        ("x402_version", "3"),
        ("image_id", "'../etc'"),
        ("first_block", "-1"),
        ("transaction_hash", "'0x'"),
        ("looks", "-1"),
    ];
    on_both(async |db| {
        let row = insert(&db, &payment(1)).await;
        for bad in PAYMENT {
            assert_corrupt(&db, "payments", *bad, row.id.as_str(), async || {
                payments::find(&db, &row.id).await.map(|_| ())
            })
            .await;
        }
        settle(&db, &row).await;
        let grant = [
            ("kind", "'gift'"),
            ("uses", "4294967296"),
            ("serial", "-1"),
            ("keep_ms", "-1"),
            ("max_bytes", "-1"),
        ];
        for bad in grant {
            assert_corrupt(&db, "grants", bad, row.id.as_str(), async || {
                grants::find(&db, &row.id).await.map(|_| ())
            })
            .await;
        }
        let picture = image(1, None);
        images::insert_pending(&db, &picture, None).await.unwrap();
        let bad_image = [
            ("state", "'lost'"),
            ("format", "'svg'"),
            ("size_bytes", "-1"),
            ("width", "-1"),
            ("height", "4294967296"),
            ("visibility", "'secret'"),
            ("viewer", "'0x12'"),
            ("link_serial", "-1"),
        ];
        for bad in bad_image {
            assert_corrupt(&db, "images", bad, picture.id.as_str(), async || {
                images::find(&db, &picture.id).await.map(|_| ())
            })
            .await;
        }
        offers::record(&db, &[(row.product.clone(), row.terms.clone())], NOW)
            .await
            .unwrap();
        let key = texts(&db, "SELECT id FROM offers").await.remove(0);
        let bad_offer = [
            ("amount", "'ten'"),
            ("pay_to", "'me'"),
            ("max_timeout_seconds", "-1"),
            ("keep_ms", "-1"),
            ("max_bytes", "-1"),
            ("confirmations", "-1"),
        ];
        for bad in bad_offer {
            assert_corrupt(&db, "offers", bad, &key, async || {
                offers::find_recent(&db, &row.product, None, NOW)
                    .await
                    .map(|_| ())
            })
            .await;
        }
    })
    .await;
}

#[test]
fn both_folders_hold_the_same_migrations() {
    let names = |database: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("migrations")
            .join(database);
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<BTreeSet<_>>()
    };
    assert!(!names("sqlite").is_empty());
    assert_eq!(names("sqlite"), names("postgres"));
}

/// The columns of each table, from the database's own catalogue.
async fn catalogue(db: &Db) -> BTreeMap<String, BTreeSet<String>> {
    let sql = match db {
        Db::Sqlite(_) => {
            "SELECT m.name || ' ' || c.name || ' ' || c.type || CASE WHEN c.\"notnull\" THEN ' required' ELSE '' END \
             FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
        }
        Db::Postgres(_) => {
            "SELECT table_name || ' ' || column_name || ' ' || upper(data_type) || \
             CASE WHEN is_nullable = 'NO' THEN ' required' ELSE '' END \
             FROM information_schema.columns WHERE table_schema = 'public'"
        }
    };
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in texts(db, sql).await {
        let (table, column) = line.split_once(' ').unwrap();
        if table != "_sqlx_migrations" && !table.starts_with("sqlite_") {
            tables
                .entry(table.to_owned())
                .or_default()
                .insert(column.to_owned());
        }
    }
    tables
}

async fn indexes(db: &Db) -> BTreeSet<String> {
    let sql = match db {
        Db::Sqlite(_) => "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        Db::Postgres(_) => {
            "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public' \
             AND indexname NOT LIKE '%_pkey' AND indexname NOT LIKE '%_key'"
        }
    };
    texts(db, sql).await.into_iter().collect()
}

#[tokio::test]
async fn both_databases_have_the_same_tables_columns_and_indexes() {
    let seen = std::sync::Mutex::new(Vec::new());
    on_both(async |db| {
        // Running the migrations again changes nothing.
        db.migrate().await.unwrap();
        let found = (catalogue(&db).await, indexes(&db).await);
        assert_eq!(found.0.len(), 34, "{:?}", found.0.keys());
        seen.lock().unwrap().push(found);
    })
    .await;
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().all(|found| *found == seen[0]), "{seen:#?}");
}

#[tokio::test]
async fn every_connection_to_sqlite_syncs_each_commit_and_keeps_foreign_keys() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&sqlite_url(folder.path())).await;
    db.migrate().await.unwrap();
    let Db::Sqlite(sqlite) = &db else {
        unreachable!()
    };
    let pool = sqlite.readers();
    let mut connections = Vec::new();
    while let Some(connection) = pool.try_acquire() {
        connections.push(connection);
    }
    while connections.len() < 8 {
        connections.push(pool.acquire().await.unwrap());
    }
    for connection in &mut connections {
        let connection = &mut **connection;
        let number = |sql| sqlx::query_scalar::<_, i64>(sql);
        // 2 is FULL.
        let level = number("PRAGMA synchronous")
            .fetch_one(&mut *connection)
            .await;
        assert_eq!(level.unwrap(), 2);
        let keys = number("PRAGMA foreign_keys")
            .fetch_one(&mut *connection)
            .await;
        assert_eq!(keys.unwrap(), 1);
        let wait = number("PRAGMA busy_timeout")
            .fetch_one(&mut *connection)
            .await;
        assert_eq!(wait.unwrap(), 10_000);
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(mode, "wal");
        let refused = sqlx::query("DELETE FROM deployment").execute(connection);
        let refused = refused.await.unwrap_err().to_string();
        assert!(refused.contains("readonly"), "{refused}");
    }
    drop(connections);
    // A commit is visible to a second process while the first one still has the file open.
    insert(&db, &payment(1)).await;
    let second = open(&sqlite_url(folder.path())).await;
    assert!(
        payments::find(&second, &payment(1).id)
            .await
            .unwrap()
            .is_some()
    );
    second.close().await;
    db.close().await;
}

#[tokio::test]
async fn grants_and_images_need_an_existing_payment() {
    on_both(async |db| {
        let stray = image(1, Some(&payment(1)));
        assert!(images::insert_pending(&db, &stray, None).await.is_err());
        let grant = "INSERT INTO grants (payment_id, kind, tier, uses, used, serial, token_hash, \
             token_expires_ms, max_bytes, created_ms) VALUES ('x', 'token', 'year', 1, 0, 0, 'h', 1, 1, 1)";
        let refused = match &db {
            Db::Sqlite(sqlite) => sqlite.execute(sqlx::query(grant)).await.is_err(),
            Db::Postgres(pool) => sqlx::query(grant).execute(pool).await.is_err(),
        };
        assert!(refused);
    })
    .await;
}
