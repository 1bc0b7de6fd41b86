//! Guarantees of the database for the auditor, tested on both kinds of database.

use alloy_primitives::{Address, B256, U256};
use pixtoll::db::auditor::{self, Audited, Claimant, Incoming, Missing, Reversal};
use pixtoll::db::grants::{self, Reservation};
use pixtoll::db::payments::{self, Patch, Settlement};
use pixtoll::db::{Db, audit, images, retention};
use pixtoll::model::image::ImageState;
use pixtoll::model::payment::{Event, Payment, PaymentState, Transfer};

use crate::contract_db::{
    NOBODY, NOW, advance, at, grant_of, image_state, load, on_both, payment, put, settle, sold,
    step, use_of,
};
use crate::support::database::execute;

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
        // The settled payment is the eighth, the frozen one the ninth.
        assert_eq!(due(&db, 90, 10).await, Vec::<u8>::new());
        assert_eq!(due(&db, 91, 10).await, [9]);
        assert_eq!(due(&db, 99, 10).await, [9, 8]);
        assert_eq!(due(&db, 99, 1).await, [9]);
        let others = payments::find_due(&db, at(99), 100).await.unwrap();
        assert_eq!(others.len(), PaymentState::ALL.len() - 2);
        let lease = at(200).millis();
        execute(
            &db,
            &format!("UPDATE payments SET lease_until_ms = {lease}"),
        )
        .await;
        assert_eq!(due(&db, 199, 10).await, Vec::<u8>::new());
        assert_eq!(due(&db, 200, 10).await, [9, 8]);
        assert_eq!(auditor::count_frozen(&db).await.unwrap(), 1);
        // A row that can't be read doesn't hide others.
        execute(
            &db,
            "UPDATE payments SET missing_since_ms = 1, missing_block = -1 WHERE state = 'frozen'",
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
            state: PaymentState::Frozen,
            ..row.clone()
        };
        for wrong in [&stranger, &elsewhere] {
            assert!(
                !auditor::note_missing(&db, wrong, missing, at(9))
                    .await
                    .unwrap()
            );
            let noted = auditor::note_seen(&db, wrong, TRANSFER, 18, None, 1).await;
            assert!(!noted.unwrap());
        }
        assert!(
            auditor::note_missing(&db, &row, missing, at(9))
                .await
                .unwrap()
        );
        let missed = audited(&db, &row).await;
        assert_eq!(missed.missing, Some(missing));
        assert_eq!(
            auditor::find_missing_since(&db, &row.id).await.unwrap(),
            Some(at(3).millis())
        );
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

/// Reverses a frozen payment.
pub(crate) async fn reverse(db: &Db, row: &Payment, serial: u32) -> bool {
    let reversal = Reversal {
        step: step(PaymentState::Frozen, Event::ChainVoid),
        payment: row,
        reason: "authorization_canceled",
        serial,
        token_hash: &format!("next of {}", row.id),
        next_look: at(70),
        now: at(60),
    };
    auditor::reverse(db, &reversal).await.unwrap()
}

#[tokio::test]
async fn a_reversal_changes_row_token_and_images_or_nothing() {
    on_both(async |db| {
        let grant = sold(&db, 1, 3).await;
        let row = payment(1);
        let mut uploads = Vec::new();
        for number in 1..=4 {
            let image = use_of(&grant, number, NOW);
            if number <= 3 {
                let held = grants::reserve(&db, &grant, &image, at(300)).await.unwrap();
                assert_eq!(held, Reservation::Held);
            }
            uploads.push(image.id);
        }
        for id in &uploads[..2] {
            let published = grants::publish(&db, &grant.payment_id, id, at(5), None).await;
            assert!(published.unwrap());
        }
        let (live, held, pending) = (&uploads[0], &uploads[1], &uploads[2]);
        execute(
            &db,
            &format!("UPDATE images SET held_ms = 1 WHERE id = '{held}'"),
        )
        .await;
        assert!(images::find_paid(&db, live).await.unwrap().is_some());

        let settled = load(&db, &row).await;
        assert!(!reverse(&db, &settled, 0).await, "it is not frozen");
        let patch = Patch {
            next_look: Some(at(30)),
            ..Patch::default()
        };
        assert!(advance(&db, &settled, Event::ChainForgot, &patch).await);
        let frozen = load(&db, &row).await;
        assert_eq!(
            grants::find_state(&db, &row.id).await.unwrap(),
            Some(PaymentState::Frozen)
        );
        for id in [live, held] {
            assert!(images::find_paid(&db, id).await.unwrap().is_none());
            assert_eq!(image_state(&db, id).await, ImageState::Live);
        }
        let published = grants::publish(&db, &grant.payment_id, pending, at(6), None).await;
        assert!(!published.unwrap(), "what is frozen publishes nothing");
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());
        let stranger = Payment {
            attempt: frozen.attempt + 1,
            ..frozen.clone()
        };
        for (row, serial) in [(&stranger, 0), (&frozen, 1)] {
            assert!(!reverse(&db, row, serial).await);
            assert_eq!(load(&db, row).await.state, PaymentState::Frozen);
            assert_eq!(grant_of(&db, row).await.unwrap().used, 2);
        }

        assert!(reverse(&db, &frozen, 0).await);
        assert!(!reverse(&db, &frozen, 1).await, "once");
        let reversed = load(&db, &row).await;
        assert_eq!(reversed.state, PaymentState::Reversed);
        assert_eq!(reversed.reason.as_deref(), Some("authorization_canceled"));
        assert_eq!(
            (reversed.next_look, reversed.lease_until),
            (Some(at(70)), NOBODY)
        );
        let taken = grant_of(&db, &row).await.unwrap();
        assert_eq!(
            (taken.used, taken.serial, taken.token_expires),
            (0, 1, NOBODY)
        );
        let by_token = grants::find_by_token_hash(&db, &format!("token of {}", row.id)).await;
        assert_eq!(by_token.unwrap(), None);
        assert_eq!(image_state(&db, live).await, ImageState::Deleting);
        assert_eq!(image_state(&db, held).await, ImageState::Live);
        assert_eq!(image_state(&db, pending).await, ImageState::Pending);
        assert_eq!(
            retention::find_unfinished(&db, at(60), 9).await.unwrap(),
            std::slice::from_ref(live)
        );
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());

        // Settled once more, the payment has its uses again, and none of the images.
        let done = Settlement::Done { published: false };
        assert_eq!(settle(&db, &reversed).await, done);
        assert_eq!(grant_of(&db, &row).await.unwrap(), taken);
        assert!(
            images::find_published_by_payment(&db, &row.id)
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            images::find_ever_published(&db, &row.id)
                .await
                .unwrap()
                .len(),
            2
        );
        for id in [live, held] {
            assert!(images::find_paid(&db, id).await.unwrap().is_none());
        }
        let again = use_of(&grant, 4, NOW);
        let reserved = grants::reserve(&db, &taken, &again, at(900)).await.unwrap();
        assert_eq!(reserved, Reservation::Held);
        let published = grants::publish(&db, &row.id, &again.id, at(80), None).await;
        assert!(published.unwrap());
        assert_eq!(grant_of(&db, &row).await.unwrap().used, 1);
        assert!(images::find_paid(&db, &again.id).await.unwrap().is_some());
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn unfreezing_keeps_owed_goods_and_the_time_of_settlement() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Settled).await;
        let missing = Missing {
            looks: 2,
            since: at(3),
            block: 17,
        };
        assert!(
            auditor::note_missing(&db, &row, missing, at(9))
                .await
                .unwrap()
        );
        execute(&db, "UPDATE payments SET owed = 'a token', settled_ms = 5").await;
        let patch = Patch {
            reason: Some("transfer_missing".to_owned()),
            ..Patch::default()
        };
        assert!(advance(&db, &row, Event::ChainForgot, &patch).await);
        let frozen = load(&db, &row).await;
        assert_eq!(frozen.reason.as_deref(), Some("transfer_missing"));
        let record = payments::SettlementRecord {
            next_look: Some(at(17)),
            ..crate::contract_db::settlement(&frozen, Event::ChainPaid, Some(1))
        };
        let done = Settlement::Done { published: false };
        assert_eq!(payments::settle(&db, &record).await.unwrap(), done);
        let thawed = audited(&db, &row).await;
        assert_eq!(thawed.missing, None);
        assert_eq!(
            (thawed.payment.reason, thawed.payment.next_look),
            (None, Some(at(17)))
        );
        assert_eq!(thawed.payment.settled_at.unwrap().millis(), 5);
        let detail = audit::load_detail(&db, row.id.as_str()).await.unwrap();
        assert_eq!(detail.owed.as_deref(), Some("a token"));
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
