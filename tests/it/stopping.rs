//! SIGTERM and SIGHUP while clients upload and pay.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alloy_primitives::Address;
use futures_util::future::join_all;
use pixtoll::system::clock::{Clock, SystemClock};

use crate::support::process::{Deployment, Request, SandboxProcess, eventually};
use crate::support::signing::wallet;
use crate::support::{Payment, pictures};

/// What a client got before the server stopped.
#[derive(Default)]
struct Got {
    /// Requests for images that were answered with 200.
    links: Vec<Request>,
    /// Paid requests, whether they were answered or not.
    paid: Vec<Request>,
    /// Whom they pay.
    pay_to: Option<Address>,
}

/// Uploads for free and for money until the server takes no request any more.
async fn upload_until_it_stops(deployment: &Deployment, number: u64, done: &AtomicUsize) -> Got {
    let mut got = Got::default();
    for round in 0.. {
        let picture = pictures::png_seeded(8, 8, number * 100_000 + round);
        let is_paid = number.is_multiple_of(2);
        let request = if is_paid {
            let Some(challenge) = deployment.send(&Request::post("/api/upload/year")).await else {
                break;
            };
            assert_eq!(challenge.status, 402, "{}", challenge.text());
            let (payment, request) = deployment.sign_for(&challenge, "/api/upload/year", &picture);
            got.pay_to = Some(payment.authorization.to);
            request
        } else {
            Request::post("/api/free").with_image(&picture)
        };
        if is_paid {
            got.paid.push(request.clone());
        }
        let Some(answer) = deployment.send(&request).await else {
            break;
        };
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        if answer.status == 200 {
            got.links.push(Request::get(&answer.field("url")));
            done.fetch_add(1, Ordering::SeqCst);
        }
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_nothing_and_charges_nobody_for_nothing() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    let server = deployment.start().await;
    let done = AtomicUsize::new(0);
    let clients = join_all((0..6).map(|number| upload_until_it_stops(&deployment, number, &done)));
    let stop = async {
        eventually("some uploads", async || {
            (done.load(Ordering::SeqCst) >= 24).then_some(())
        })
        .await;
        server.terminate();
        server.end().await
    };
    let (got, ended) = tokio::join!(clients, stop);
    assert_eq!(ended.code(), Some(0), "{}", deployment.log());
    assert!(!deployment.log().contains("ERROR"), "{}", deployment.log());

    let _server = deployment.start().await;
    let (mut links, mut sold) = (0, 0);
    for Got {
        links: of_client,
        paid,
        ..
    } in &got
    {
        for link in of_client {
            assert_eq!(deployment.answer(link).await.status, 200);
            links += 1;
        }
        for request in paid {
            // Whoever paid has the image, or gets it now.
            let answer = deployment.last_word(request).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            sold += 1;
        }
    }
    assert!(links >= 24 && sold >= 3, "{links} {sold}");
    let pay_to = got.iter().find_map(|got| got.pay_to).unwrap();
    assert_eq!(sandbox.transfers_to(pay_to).await.len(), sold);
    deployment.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_prices_and_a_new_sanctions_list_under_load_disturb_no_upload() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    let list = deployment.folder().join("sdn.csv");
    let deployment = deployment.set("trust.sanctions_file", list.to_str().unwrap());
    let sanctioned = wallet(77);
    let sanction = |is_listed: bool| {
        let other = wallet(78).address();
        let named = sanctioned.address();
        let more = if is_listed {
            format!("{named}\n")
        } else {
            String::new()
        };
        std::fs::write(&list, format!("{other}\n{more}")).unwrap();
    };
    sanction(false);
    let price = |usd: &str| {
        let file = deployment.folder().join("pixtoll.toml");
        let year = format!(
            "[[tiers]]\nname = \"year\"\nprice = \"{usd}\"\nmax_bytes = \"1 MiB\"\nkeep = \"365d\"\n"
        );
        let free =
            "[[tiers]]\nname = \"free\"\nprice = \"0\"\nmax_bytes = \"1 MiB\"\nkeep = \"7d\"\n";
        std::fs::write(file, format!("{year}{free}")).unwrap();
    };
    price("0.01");
    let server = deployment.start().await;
    let is_over = AtomicBool::new(false);
    let (uploads, changes) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let offered = Mutex::new(Vec::new());
    let pay_to = Mutex::new(None);
    let client = |number: u64| {
        let (deployment, is_over, uploads) = (&deployment, &is_over, &uploads);
        let (offered, pay_to) = (&offered, &pay_to);
        async move {
            let mut round = 0;
            while !is_over.load(Ordering::SeqCst) {
                round += 1;
                let picture = pictures::png_seeded(8, 8, number * 100_000 + round);
                let request = if number.is_multiple_of(2) {
                    let (payment, request) = deployment.sign("/api/upload/year", &picture).await;
                    offered.lock().unwrap().push(payment.authorization.value);
                    *pay_to.lock().unwrap() = Some(payment.authorization.to);
                    request
                } else {
                    Request::post("/api/free").with_image(&picture)
                };
                // An offer stays good for five minutes.
                let answer = deployment.answer(&request).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                uploads.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let change = async {
        for usd in ["0.02", "0.03", "0.01", "0.04"] {
            let before = uploads.load(Ordering::SeqCst);
            price(usd);
            server.reload();
            eventually("the new price", async || {
                let tiers = deployment.answer(&Request::get("/api/tiers")).await;
                let is_new = tiers.text().contains(&format!("\"{usd}\""));
                (is_new && uploads.load(Ordering::SeqCst) >= before + 4).then_some(())
            })
            .await;
            changes.fetch_add(1, Ordering::SeqCst);
        }
        // The list names a wallet, and then no longer. The other wallet pays on.
        for is_listed in [true, false] {
            let before = uploads.load(Ordering::SeqCst);
            sanction(is_listed);
            server.reload();
            eventually("the new list", async || {
                let path = "/api/upload/token/year";
                let challenge = deployment.answer(&Request::post(path)).await;
                let now = SystemClock.now();
                let payment = Payment::answering(&challenge, path, &sanctioned, now);
                let headers = payment.headers();
                let (name, value) = &headers[0];
                let request = Request::post(path).with(name, value);
                let answer = deployment.answer(&request).await;
                if answer.status == 200 {
                    offered.lock().unwrap().push(payment.authorization.value);
                } else {
                    assert_eq!(answer.error(), "wallet_blocked", "{}", answer.text());
                }
                let follows = (answer.status == 200) != is_listed;
                (follows && uploads.load(Ordering::SeqCst) >= before + 4).then_some(())
            })
            .await;
        }
        is_over.store(true, Ordering::SeqCst);
    };
    tokio::join!(join_all((0..4).map(client)), change);
    assert_eq!(changes.load(Ordering::SeqCst), 4);
    // Every payment moved the amount that its offer named.
    let pay_to = pay_to.lock().unwrap().unwrap();
    let mut moved = sandbox.transfers_to(pay_to).await;
    let mut offered = offered.into_inner().unwrap();
    moved.sort_unstable();
    offered.sort_unstable();
    assert_eq!(moved, offered);
    server.terminate();
    assert_eq!(server.end().await.code(), Some(0), "{}", deployment.log());
    deployment.check_ledger().await;
}
