//! Guarantees of the database for the auditor, tested on both kinds of database.

use alloy_primitives::{Address, B256, U256};
use pixtoll::db::auditor::{self, Audited, Claimant, Incoming, Missing, Voiding};
use pixtoll::db::grants::{self, Reservation};
use pixtoll::db::{Db, audit, erasure, payments, retention};
use pixtoll::model::image::ImageState;
use pixtoll::model::payment::{Payment, PaymentState, Transfer};

use crate::contract_db::{
    NOBODY, NOW, at, grant_of, image_state, load, on_both, payment, put, sold, use_of,
};
use crate::support::database::{execute, number};

/// The numbers of the payments that are due.
async fn due(db: &Db, seconds: u64, most: u32) -> Vec<u8> {
    let due = auditor::find_due(db, at(seconds), most).await.unwrap();
    due.iter()
        .map(|row| row.as_ref().unwrap().payment.authorization.nonce[0])
        .collect()
}

async fn audited(db: &Db, row: &Payment) -> Audited {
    let due = auditor::find_due(db, at(9999), 100).await.unwrap();
    due.into_iter()
        .map(Result::unwrap)
        .find(|due| due.payment.id == row.id)
        .unwrap()
}

async fn set_due(db: &Db, row: &Payment, seconds: u64) {
    let (id, due) = (&row.id, at(seconds).millis());
    execute(
        db,
        &format!("UPDATE payments SET next_look_ms = {due} WHERE id = '{id}'"),
    )
    .await;
}

const TRANSFER: Transfer = Transfer {
    transaction: B256::repeat_byte(0x77),
    log_index: Some(4),
};

#[tokio::test]
async fn the_auditor_and_the_reconciler_find_their_own_rows_oldest_first() {
    on_both(async |db| {
        for (number, state) in (1..).zip(PaymentState::ALL) {
            let row = put(&db, &payment(number), state).await;
            set_due(&db, &row, 100 - u64::from(number)).await;
            execute(&db, "UPDATE payments SET lease_until_ms = 0").await;
        }
        // The settled payment is the eighth.
        assert_eq!(due(&db, 91, 10).await, Vec::<u8>::new());
        assert_eq!(due(&db, 92, 10).await, [8]);
        let others = payments::find_due(&db, at(99), 100).await.unwrap();
        assert_eq!(others.len(), PaymentState::ALL.len() - 1);
        let other = put(&db, &payment(9), PaymentState::Settled).await;
        set_due(&db, &other, 91).await;
        let lease = at(200).millis();
        execute(
            &db,
            &format!("UPDATE payments SET lease_until_ms = {lease}"),
        )
        .await;
        assert_eq!(due(&db, 199, 10).await, Vec::<u8>::new());
        assert_eq!(due(&db, 200, 10).await, [9, 8]);
        assert_eq!(due(&db, 200, 1).await, [9]);
        // A row that can't be read doesn't hide others.
        execute(
            &db,
            &format!(
                "UPDATE payments SET missing_since_ms = 1, missing_block = -1 WHERE id = '{}'",
                other.id
            ),
        )
        .await;
        let rows = auditor::find_due(&db, at(200), 10).await.unwrap();
        let [Err(unreadable), Ok(readable)] = rows.as_slice() else {
            panic!("{rows:?}");
        };
        assert_eq!(unreadable.id, payment(9).id.as_str());
        assert_eq!(readable.payment.id, payment(8).id);
    })
    .await;
}

#[tokio::test]
async fn only_the_holder_of_the_lease_records_the_result_of_a_check() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Settled).await;
        set_due(&db, &row, 5).await;
        let fresh = audited(&db, &row).await;
        assert_eq!((fresh.seen_block, fresh.missing), (None, None));
        let missing = Missing {
            looks: 2,
            since: at(3),
            block: 17,
        };
        let stranger = Payment {
            attempt: row.attempt + 1,
            ..row.clone()
        };
        let elsewhere = Payment {
            state: PaymentState::Unknown,
            ..row.clone()
        };
        for wrong in [&stranger, &elsewhere] {
            assert!(
                !auditor::note_missing(&db, wrong, missing, Some("gone"), at(9))
                    .await
                    .unwrap()
            );
            let noted = auditor::note_seen(&db, wrong, TRANSFER, 18, None, 1).await;
            assert!(!noted.unwrap());
        }
        assert!(
            auditor::note_missing(&db, &row, missing, None, at(9))
                .await
                .unwrap()
        );
        let missed = audited(&db, &row).await;
        assert_eq!(missed.missing, Some(missing));
        assert_eq!(missed.payment.missing, None);
        assert_eq!(
            (missed.payment.next_look, missed.payment.lease_until),
            (Some(at(9)), NOBODY)
        );
        let noted = auditor::note_seen(&db, &row, TRANSFER, 18, Some(at(20)), 3).await;
        assert!(noted.unwrap());
        let seen = audited(&db, &row).await;
        assert_eq!((seen.seen_block, seen.missing), (Some(18), None));
        assert_eq!(seen.payment.transaction, Some(TRANSFER.transaction));
        assert_eq!(
            (seen.payment.next_look, seen.payment.looks),
            (Some(at(20)), 3)
        );
        let detail = audit::load_detail(&db, row.id.as_str()).await.unwrap();
        assert_eq!(
            (detail.log_index, detail.proven_by.as_deref()),
            (Some(4), Some("chain"))
        );
        // A log settles one payment only.
        let other = put(&db, &payment(2), PaymentState::Settled).await;
        assert!(
            auditor::note_seen(&db, &other, TRANSFER, 18, None, 0)
                .await
                .is_err()
        );
        let next = Transfer {
            log_index: Some(5),
            ..TRANSFER
        };
        assert!(
            auditor::note_seen(&db, &other, next, 18, None, 0)
                .await
                .unwrap()
        );
        assert_eq!(load(&db, &other).await.next_look, None);
    })
    .await;
}

/// Marks a settled payment as one whose transfer is missing.
async fn mark(db: &Db, row: &Payment) {
    let missing = Missing {
        looks: 3,
        since: at(3),
        block: 17,
    };
    let marked = auditor::note_missing(db, row, missing, Some("transfer_missing"), at(9)).await;
    assert!(marked.unwrap());
    assert_eq!(
        load(db, row).await.missing.as_deref(),
        Some("transfer_missing")
    );
}

async fn void(db: &Db, row: &Payment, seconds: u64) -> Voiding {
    auditor::void(db, &row.id, "a test", at(seconds))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_void_changes_row_grant_and_images_or_nothing() {
    on_both(async |db| {
        let grant = sold(&db, 1, 3).await;
        let row = payment(1);
        let mut uploads = Vec::new();
        for number in 1..=3 {
            let image = use_of(&grant, number, NOW);
            let held = grants::reserve(&db, &grant, &image, at(300)).await.unwrap();
            assert_eq!(held, Reservation::Held);
            uploads.push(image.id);
        }
        for id in &uploads[..2] {
            let published = grants::publish(&db, &grant.payment_id, id, at(5), None).await;
            assert!(published.unwrap());
        }
        let (live, held, pending) = (&uploads[0], &uploads[1], &uploads[2]);
        assert_eq!(
            void(&db, &row, 60).await,
            Voiding::NotMissing,
            "not missing"
        );
        mark(&db, &load(&db, &row).await).await;
        for busy in ["held_ms = 1", "renewing = 1"] {
            execute(
                &db,
                &format!("UPDATE images SET {busy} WHERE id = '{held}'"),
            )
            .await;
            assert_eq!(void(&db, &row, 60).await, Voiding::Busy(held.clone()));
            assert_eq!(load(&db, &row).await.voided_at, None);
            assert!(!grant_of(&db, &row).await.unwrap().is_void);
            assert_eq!(image_state(&db, live).await, ImageState::Live);
            execute(&db, "UPDATE images SET held_ms = NULL, renewing = 0").await;
        }
        // What a payment bought stays until a person decides.
        assert!(
            grants::publish(&db, &grant.payment_id, pending, at(6), None)
                .await
                .unwrap()
        );
        let Voiding::Done {
            mut images,
            renewal_undone,
        } = void(&db, &row, 60).await
        else {
            panic!("it can be voided");
        };
        images.sort();
        uploads.sort();
        assert_eq!((images, renewal_undone), (uploads.clone(), None));
        assert_eq!(void(&db, &row, 61).await, Voiding::NotMissing, "once");
        let voided = load(&db, &row).await;
        assert_eq!(voided.state, PaymentState::Settled);
        assert_eq!(
            (voided.voided_at, voided.next_look),
            (Some(at(60)), Some(at(60)))
        );
        assert_eq!(voided.is_charged(), None);
        let detail = audit::load_detail(&db, row.id.as_str()).await.unwrap();
        assert_eq!(detail.void_note.as_deref(), Some("a test"));
        for id in &uploads {
            assert_eq!(image_state(&db, id).await, ImageState::Deleting);
        }
        let unfinished = retention::find_unfinished(&db, at(60), 9).await.unwrap();
        assert_eq!(unfinished.len(), 3);
        assert_eq!(
            number(&db, "SELECT COUNT(*) FROM withdrawals").await,
            3,
            "no server serves them from memory"
        );
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_grant_of_a_voided_payment_buys_nothing() {
    on_both(async |db| {
        let grant = sold(&db, 1, 2).await;
        let row = payment(1);
        let image = use_of(&grant, 1, NOW);
        let held = grants::reserve(&db, &grant, &image, at(300)).await.unwrap();
        assert_eq!(held, Reservation::Held);
        mark(&db, &load(&db, &row).await).await;
        void(&db, &row, 60).await;
        let published = grants::publish(&db, &grant.payment_id, &image.id, at(61), None).await;
        assert!(!published.unwrap(), "an upload that was under way");
        let replaced = grants::replace_token(&db, &grant, "next", at(900)).await;
        assert!(!replaced.unwrap());
        let found = grants::find_by_token_hash(&db, &grant.token_hash).await;
        let found = found.unwrap().unwrap();
        assert!(found.is_void, "its token is known");
        assert_eq!(found.used, 0);
    })
    .await;
}

#[tokio::test]
async fn a_transfer_that_is_seen_again_clears_the_mark_and_is_owed_after_a_void() {
    on_both(async |db| {
        for (number, is_void) in [(1, false), (2, true)] {
            let row = put(&db, &payment(number), PaymentState::Settled).await;
            mark(&db, &row).await;
            if is_void {
                void(&db, &row, 60).await;
            }
            let transfer = Transfer {
                log_index: Some(u64::from(number)),
                ..TRANSFER
            };
            let row = load(&db, &row).await;
            let noted = auditor::note_seen(&db, &row, transfer, 18, Some(at(90)), 1).await;
            assert!(noted.unwrap());
            let seen = load(&db, &row).await;
            assert_eq!(
                (seen.missing.as_deref(), seen.is_charged()),
                (None, Some(true))
            );
            assert_eq!(seen.voided_at.is_some(), is_void);
            let detail = audit::load_detail(&db, row.id.as_str()).await.unwrap();
            let owed = "the chain shows the transfer of this voided payment";
            assert_eq!(detail.owed.as_deref(), is_void.then_some(owed));
            let broken = audit::find_broken(&db, NOW).await.unwrap();
            assert_eq!(broken.len(), usize::from(is_void), "{broken:?}");
        }
        // The operator refunds it.
        let id = payment(2).id;
        assert!(
            audit::resolve(&db, id.as_str(), "refunded", at(95))
                .await
                .unwrap()
        );
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn records_of_a_voided_payment_are_erased_once_the_chain_has_decided() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Settled).await;
        mark(&db, &row).await;
        void(&db, &row, 60).await;
        execute(&db, "UPDATE grants SET token_expires_ms = 0").await;
        let erasable = async |seconds| {
            let found = erasure::find_erasable(&db, at(seconds), 9).await.unwrap();
            found.first().map(|found| found.transaction_hash.clone())
        };
        assert_eq!(erasable(60).await, None, "the chain has not decided");
        let row = load(&db, &row).await;
        assert!(payments::hand_back(&db, &row, None, 0).await.unwrap());
        assert_eq!(load(&db, &row).await.is_charged(), Some(false));
        assert_eq!(erasable(59).await, None);
        assert_eq!(erasable(60).await, Some(None), "no transfer is remembered");
        // If the chain showed the transfer, the operator makes up for it first.
        let noted = auditor::note_seen(&db, &row, TRANSFER, 18, None, 1).await;
        assert!(noted.unwrap());
        assert_eq!(erasable(60).await, None);
        let id = row.id.as_str();
        assert!(audit::resolve(&db, id, "refunded", at(95)).await.unwrap());
        let transaction = TRANSFER.transaction.to_string();
        assert_eq!(erasable(60).await, Some(Some(transaction)));
    })
    .await;
}

#[tokio::test]
async fn a_transfer_belongs_to_a_payment_possibly_to_an_open_one_or_to_none() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Settled).await;
        assert!(
            auditor::note_seen(&db, &row, TRANSFER, 18, None, 0)
                .await
                .unwrap()
        );
        let own = Incoming {
            network: row.network().caip2,
            transaction: TRANSFER.transaction.to_string(),
            log_index: 4,
            payer: row.authorization.from.to_string(),
            pay_to: row.terms.offer.pay_to.to_string(),
            amount: U256::from(10_000).to_string(),
            block: row.first_block,
        };
        let claimant =
            async |incoming: &Incoming| auditor::find_claimant(&db, incoming).await.unwrap();
        assert_eq!(claimant(&own).await, Claimant::Payment);
        let others = [
            Incoming {
                network: "eip155:8453",
                ..own.clone()
            },
            Incoming {
                log_index: 5,
                ..own.clone()
            },
            Incoming {
                transaction: B256::repeat_byte(1).to_string(),
                ..own.clone()
            },
            Incoming {
                payer: Address::repeat_byte(9).to_string(),
                ..own.clone()
            },
            Incoming {
                pay_to: Address::repeat_byte(9).to_string(),
                ..own.clone()
            },
            Incoming {
                amount: "10001".to_owned(),
                ..own.clone()
            },
        ];
        for other in &others {
            assert_eq!(claimant(other).await, Claimant::Nobody, "{other:?}");
        }
        // While a payment of the same payer and price is open, any transfer may be its own, except
        // transfers from before it was first seen.
        put(&db, &payment(2), PaymentState::Unknown).await;
        assert_eq!(claimant(&own).await, Claimant::Payment);
        let earlier = Incoming {
            block: row.first_block - 1,
            ..others[1].clone()
        };
        assert_eq!(claimant(&earlier).await, Claimant::Nobody);
        for (number, expected) in [
            (1, Claimant::Open),
            (2, Claimant::Open),
            (3, Claimant::Nobody),
        ] {
            assert_eq!(claimant(&others[number]).await, expected, "{number}");
        }
    })
    .await;
}
