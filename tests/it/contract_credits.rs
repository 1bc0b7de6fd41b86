//! Guarantees of the database for credits and epochs, tested on both kinds of database.

use alloy_primitives::{Address, B256};
use pixtoll::db::credits::{self, Claim, Claimed, Credit, Lost};
use pixtoll::db::payments::Proof;
use pixtoll::db::{Db, audit, epoch, erasure, payments};
use pixtoll::model::payment::{Event, Payment, PaymentId, PaymentState, Transfer, UNKNOWN_DIGEST};
use pixtoll::pricing::networks::BASE_SEPOLIA;

use crate::contract_db::{NOBODY, NOW, at, load, on_both, payment, put, step};

/// The transfer of `payment(number)`, as the chain shows it.
fn credit(number: u8) -> Credit {
    let lost = payment(number);
    Credit {
        id: lost.id,
        network: BASE_SEPOLIA.caip2.to_owned(),
        payer: lost.authorization.from,
        nonce: lost.authorization.nonce,
        pay_to: lost.terms.offer.pay_to,
        amount: lost.terms.offer.amount.to_string(),
        transaction: B256::repeat_byte(number),
        log_index: 1,
        block: u64::from(number),
        found: NOW,
    }
}

/// The row that a credit turns into.
fn credited(number: u8) -> Payment {
    Payment {
        digest: UNKNOWN_DIGEST,
        lease_until: NOBODY,
        body_sha256: Some("bytes".to_owned()),
        ..payment(number)
    }
}

async fn claim(db: &Db, presented: &Payment, lost: u8, ids: &[String]) -> Claimed {
    let row = credited(lost);
    let proof = |kind, hash: &String| Proof {
        kind,
        hash: hash.clone(),
        expires: None,
    };
    let mut proofs: Vec<Proof> = ids.iter().map(|id| proof("id", id)).collect();
    proofs.push(proof("ticket", &"a ticket".to_owned()));
    let claim = Claim {
        presented,
        give_up: step(PaymentState::Received, Event::GivenUp),
        reason: "credited",
        next_look: at(400),
        credited: &row,
        settle: step(PaymentState::Received, Event::ChainPaid),
        transfer: Transfer {
            transaction: B256::repeat_byte(lost),
            log_index: Some(1),
        },
        facilitator: "sandbox",
        token_hash: &format!("token of {}", row.id),
        token_expires: at(600),
        owed: None,
        proofs: &proofs,
        id_hashes: ids,
        audit: at(15),
        now: NOW,
    };
    credits::claim(db, &claim).await.unwrap()
}

async fn open(db: &Db) -> Vec<PaymentId> {
    let open = credits::list_open(db).await.unwrap();
    open.into_iter().map(|credit| credit.id).collect()
}

#[tokio::test]
async fn a_credit_is_written_once_and_found_by_payer_network_and_amount() {
    on_both(async |db| {
        for number in [2, 1, 2] {
            credits::insert(&db, &credit(number)).await.unwrap();
        }
        assert!(!credits::insert(&db, &credit(1)).await.unwrap());
        assert_eq!(open(&db).await, [credit(1).id, credit(2).id]);
        assert!(credits::is_noted(&db, &credit(2).id).await.unwrap());
        assert!(!credits::is_noted(&db, &credit(3).id).await.unwrap());
        let Credit {
            network,
            payer,
            amount,
            ..
        } = credit(1);
        let find = async |network: &str, payer: Address, amount: &str| {
            credits::find_open(&db, network, payer, amount)
                .await
                .unwrap()
        };
        assert_eq!(
            find(&network, payer, &amount).await,
            Some(credit(1)),
            "the older one"
        );
        assert_eq!(find("eip155:8453", payer, &amount).await, None);
        assert_eq!(find(&network, Address::repeat_byte(9), &amount).await, None);
        assert_eq!(find(&network, payer, "10001").await, None);
        let (payer, nonce) = (payer.to_string(), credit(1).nonce.to_string());
        assert_eq!(
            credits::find_lost(&db, &payer, &nonce).await.unwrap(),
            Some(Lost::Credited)
        );
        assert_eq!(credits::find_lost(&db, &payer, "0x00").await.unwrap(), None);
        let transaction = credit(1).transaction.to_string();
        for (amount, expected) in [(amount.as_str(), true), ("10001", false)] {
            let found = credits::is_credit(&db, &network, &transaction, &payer, amount).await;
            assert_eq!(found.unwrap(), expected);
        }
        // A credit that the operator resolved can't be claimed.
        let id = credit(1).id;
        for expected in [true, false] {
            let resolved = credits::resolve(&db, id.as_str(), "refunded", NOW).await;
            assert_eq!(resolved.unwrap(), expected);
        }
        assert_eq!(
            credits::find_lost(&db, &payer, &nonce).await.unwrap(),
            Some(Lost::Resolved)
        );
        assert_eq!(open(&db).await, [credit(2).id]);
        let fresh = put(&db, &payment(30), PaymentState::Received).await;
        assert_eq!(claim(&db, &fresh, 1, &[]).await, Claimed::Gone);
    })
    .await;
}

#[tokio::test]
async fn a_credit_whose_transfer_returns_to_the_chain_is_open_again() {
    on_both(async |db| {
        assert!(credits::insert(&db, &credit(1)).await.unwrap());
        let id = credit(1).id;
        credits::close_forgotten(&db, &id, NOW).await.unwrap();
        let (payer, nonce) = (credit(1).payer.to_string(), credit(1).nonce.to_string());
        let lost = async || credits::find_lost(&db, &payer, &nonce).await.unwrap();
        assert_eq!(lost().await, Some(Lost::Forgotten));
        let Credit {
            network, amount, ..
        } = credit(1);
        let is_credit = async |transaction: B256| {
            let transaction = transaction.to_string();
            let found = credits::is_credit(&db, &network, &transaction, &payer, &amount).await;
            found.unwrap()
        };
        assert!(
            !is_credit(credit(1).transaction).await,
            "an orphan, if it is there"
        );
        assert!(!credits::is_noted(&db, &id).await.unwrap());
        let anew = Credit {
            transaction: B256::repeat_byte(9),
            block: 9,
            found: at(9),
            ..credit(1)
        };
        for expected in [true, false] {
            assert_eq!(credits::insert(&db, &anew).await.unwrap(), expected);
        }
        assert_eq!(credits::list_open(&db).await.unwrap(), [anew]);
        assert_eq!(lost().await, Some(Lost::Credited));
        assert!(is_credit(B256::repeat_byte(9)).await);
    })
    .await;
}

#[tokio::test]
async fn an_erased_credit_is_still_recognised_by_its_hashes() {
    on_both(async |db| {
        for number in [1, 2, 3] {
            credits::insert(&db, &credit(number)).await.unwrap();
        }
        let [refunded, forgotten, still_open] = [1, 2, 3].map(|number| credit(number).id);
        let resolved = credits::resolve(&db, refunded.as_str(), "refunded", NOW).await;
        assert!(resolved.unwrap());
        for expected in [true, false] {
            let closed = credits::close_forgotten(&db, &forgotten, at(1)).await;
            assert_eq!(closed.unwrap(), expected);
        }
        let closed_until = async |end| {
            let closed = credits::list_closed(&db, end, 10).await.unwrap();
            closed
                .into_iter()
                .map(|credit| credit.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(closed_until(NOW).await, std::slice::from_ref(&refunded));
        let both = [refunded.clone(), forgotten.clone()];
        assert_eq!(closed_until(at(1)).await, both);
        for (id, expected) in [
            (&refunded, true),
            (&forgotten, true),
            (&still_open, false),
            (&refunded, false),
        ] {
            let hash = format!("hash of {id}");
            let erased = credits::erase(&db, id, &hash, at(2)).await;
            assert_eq!(erased.unwrap(), expected);
        }
        assert_eq!(open(&db).await, std::slice::from_ref(&still_open));
        assert!(!credits::is_noted(&db, &refunded).await.unwrap());
        for (id, paid) in [
            (&refunded, Some(true)),
            (&forgotten, Some(false)),
            (&still_open, None),
        ] {
            assert_eq!(erasure::find_erased(&db, id).await.unwrap(), paid);
            let hash = format!("hash of {id}");
            let is_known = erasure::is_erased_transfer(&db, &hash).await.unwrap();
            assert_eq!(is_known, paid == Some(true));
        }
    })
    .await;
}

#[tokio::test]
async fn a_credit_is_claimed_once_with_row_grant_and_proofs_or_not_at_all() {
    on_both(async |db| {
        for number in [1, 2] {
            credits::insert(&db, &credit(number)).await.unwrap();
        }
        let fresh = put(&db, &payment(30), PaymentState::Received).await;
        // A process that lost the new payment's row claims nothing.
        let stranger = Payment {
            attempt: fresh.attempt + 1,
            ..fresh.clone()
        };
        assert_eq!(claim(&db, &stranger, 1, &[]).await, Claimed::Lost);
        assert_eq!(open(&db).await.len(), 2);
        assert!(payments::find(&db, &payment(1).id).await.unwrap().is_none());

        let ids = ["an id".to_owned()];
        assert_eq!(claim(&db, &fresh, 1, &ids).await, Claimed::Done);
        assert_eq!(open(&db).await, [credit(2).id]);
        let row = load(&db, &payment(1)).await;
        assert_eq!(row.state, PaymentState::Settled);
        assert!(row.is_credited());
        assert_eq!(row.transaction, Some(credit(1).transaction));
        assert_eq!(
            (row.body_sha256.as_deref(), row.next_look),
            (Some("bytes"), Some(at(15)))
        );
        let presented = load(&db, &fresh).await;
        assert_eq!(presented.state, PaymentState::Released);
        assert_eq!(presented.reason.as_deref(), Some("credited"));
        assert_eq!(
            (presented.next_look, presented.lease_until),
            (Some(at(400)), NOBODY)
        );
        let by = credits::find_claimed_by(&db, &fresh.id).await.unwrap();
        assert_eq!(by, Some(row.id.clone()));
        let mut proofs = payments::load_proofs(&db, &row.id, NOW).await.unwrap();
        proofs.sort();
        let expected = [("id", "an id"), ("ticket", "a ticket")];
        assert_eq!(
            proofs,
            expected.map(|(kind, hash)| (kind.to_owned(), hash.to_owned()))
        );
        assert_eq!(audit::find_broken(&db, NOW).await.unwrap(), [],);

        // Only once: neither by the same payment nor by another one.
        assert_eq!(claim(&db, &presented, 1, &[]).await, Claimed::Gone);
        let other = put(&db, &payment(31), PaymentState::Received).await;
        assert_eq!(claim(&db, &other, 1, &[]).await, Claimed::Gone);
        // An idempotency key that bought something can't buy again.
        let taken = claim(&db, &other, 2, &ids).await;
        assert!(matches!(taken, Claimed::Taken(owner) if owner.payment_id == row.id));
        assert_eq!(open(&db).await, [credit(2).id]);
        assert_eq!(load(&db, &other).await.state, PaymentState::Received);
    })
    .await;
}

#[tokio::test]
async fn an_epoch_only_grows_and_a_database_keeps_its_id() {
    on_both(async |db| {
        assert_eq!(epoch::find(&db).await.unwrap(), None);
        let first = epoch::load(&db, "first").await.unwrap();
        assert_eq!((first.database.as_str(), first.epoch), ("first", 0));
        assert_eq!(epoch::load(&db, "second").await.unwrap(), first);
        assert_eq!(epoch::advance(&db).await.unwrap(), 1);
        assert_eq!(epoch::advance(&db).await.unwrap(), 2);
        for (to, stands) in [(9, 9), (3, 9), (10, 10)] {
            epoch::raise(&db, to).await.unwrap();
            assert_eq!(epoch::find(&db).await.unwrap().unwrap().epoch, stands);
        }
    })
    .await;
}
