//! Nodes as they are: limited, late, unreliable and busy. Every honest sale succeeds at its first
//! request, and what such a node can't show decides nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use pixtoll::system::clock::Clock;

use crate::support::expect::{no_node, pending};
use crate::support::process::{Deployment, Ran};
use crate::support::proxy::{Fault, NodeFault, Refusal};
use crate::support::{Answer, Payment, TestApp, client_from, signing};

/// A tier without confirmations ($0.01), and one that waits for the chain ($1).
const TIERS: [&str; 2] = ["year", "permanent"];

/// Sells `count` tokens of a tier, `at_once` at the same time, and returns the refusals.
async fn sell(app: &TestApp, tier: &str, count: usize, at_once: usize) -> Vec<String> {
    let sales = (0..count).map(|_| async move {
        let payment = app.sign_for(tier).await;
        let answer = app.pay(&payment).await;
        (answer.status != 200).then(|| format!("{tier}: {} {}", answer.status, answer.text()))
    });
    let answers: Vec<Option<String>> = stream::iter(sales)
        .buffer_unordered(at_once)
        .collect()
        .await;
    answers.into_iter().flatten().collect()
}

/// How nodes refuse a block tag that they don't know.
const UNKNOWN_TAGS: [Refusal; 5] = [
    Refusal::Rpc(-32602, "invalid argument 0: invalid block tag: safe"),
    Refusal::Rpc(-39001, "Unknown block"),
    Refusal::Rpc(-32000, "safe block not found"),
    Refusal::Http(400, "{\"error\":\"unsupported block tag\"}"),
    Refusal::Null,
];

#[tokio::test]
async fn a_node_without_the_safe_tag_sells_everything() {
    for refusal in UNKNOWN_TAGS {
        let app = TestApp::impatient().await;
        app.node.node(NodeFault {
            without_tags: Some((&["safe", "finalized"], refusal.clone())),
            ..NodeFault::default()
        });
        for tier in TIERS {
            assert_eq!(sell(&app, tier, 3, 1).await, [""; 0], "{refusal:?}");
        }
        assert_eq!(app.transfers().await.len(), 6);
    }
}

/// How nodes refuse a search for logs in too many blocks.
const RANGES: [(u64, Refusal); 8] = [
    (
        10,
        Refusal::Rpc(
            -32600,
            "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range.",
        ),
    ),
    (
        50,
        Refusal::Rpc(-32005, "query returned more than 10000 results"),
    ),
    (25, Refusal::Rpc(-32602, "block range too large")),
    (1, Refusal::Rpc(-32000, "query timeout exceeded")),
    (20, Refusal::Rpc(-32005, "limit exceeded")),
    (
        100,
        Refusal::Rpc(-32614, "eth_getLogs is limited to a 100 range"),
    ),
    (10, Refusal::Http(413, "Request Entity Too Large")),
    (
        33,
        Refusal::Http(
            400,
            "{\"error\":{\"code\":-32701,\"message\":\"exceed maximum block range\"}}",
        ),
    ),
];

#[tokio::test]
async fn a_node_that_searches_few_blocks_sells_everything() {
    for (blocks, refusal) in RANGES {
        let app = TestApp::impatient().await;
        app.node.node(NodeFault {
            log_blocks: Some((blocks, refusal.clone())),
            ..NodeFault::default()
        });
        for tier in TIERS {
            assert_eq!(sell(&app, tier, 3, 1).await, [""; 0], "{refusal:?}");
            // Without a transaction hash, the log has to be found.
            let payment = app.sign_for(tier).await;
            app.facilitator
                .next("settle", Fault::After(502, String::new()));
            let answer = app.pay(&payment).await;
            assert_eq!(answer.status, 200, "{refusal:?}: {}", answer.text());
        }
        assert_eq!(app.transfers().await.len(), 8);
    }
}

#[tokio::test]
async fn a_node_that_is_seconds_behind_sells_everything() {
    let sales = [1500, 3000, 5000].map(|millis| async move {
        for is_balanced in [false, true] {
            let app = TestApp::spawn().await;
            let behind = NodeFault {
                behind: Some(Duration::from_millis(millis)),
                is_balanced,
                ..NodeFault::default()
            };
            app.node.lags(behind).await;
            for tier in TIERS {
                let refused = sell(&app, tier, 2, 2).await;
                assert_eq!(refused, [""; 0], "{millis} ms, balanced: {is_balanced}");
            }
            assert_eq!(app.transfers().await.len(), 4);
            assert_eq!(app.facilitator.calls("settle"), 4);
            app.node.mend();
        }
    });
    join_all(sales).await;
}

#[tokio::test]
async fn receipts_that_appear_late_are_waited_for() {
    let app = TestApp::spawn().await;
    // The logs may be late as well, or appear before the receipts.
    for (without_logs, seconds) in [(true, 2), (false, 600)] {
        app.node.node(NodeFault {
            receipts_after: Some(Duration::from_secs(seconds)),
            log_blocks: without_logs.then_some((0, Refusal::Rpc(-32000, "try again later"))),
            ..NodeFault::default()
        });
        let settled = app.facilitator.calls("settle");
        assert_eq!(sell(&app, "permanent", 4, 4).await, [""; 0]);
        assert_eq!(app.facilitator.calls("settle") - settled, 4);
    }
}

/// How nodes refuse calls now and then.
const HICCUPS: [Refusal; 8] = [
    Refusal::Rpc(-32000, "header not found"),
    Refusal::Rpc(-32603, "Internal error"),
    Refusal::Http(503, "Service Unavailable"),
    Refusal::Http(502, "<html>Bad Gateway</html>"),
    Refusal::Rpc(-32001, "Unable to complete request at this time"),
    Refusal::Rpc(-32600, "Invalid request"),
    Refusal::Http(404, ""),
    Refusal::Null,
];

#[tokio::test]
async fn a_node_that_fails_now_and_then_sells_everything() {
    let sales = HICCUPS.map(|refusal| async move {
        let app = TestApp::spawn().await;
        app.node.node(NodeFault {
            fails: Some((5, refusal.clone())),
            ..NodeFault::default()
        });
        for tier in TIERS {
            let refused = sell(&app, tier, 40, 4).await;
            assert_eq!(refused, [""; 0], "{refusal:?}: {} of 40", refused.len());
        }
        assert_eq!(app.transfers().await.len(), 80);
    });
    join_all(sales).await;
}

/// How nodes refuse calls beyond their rate.
const LIMITS: [Refusal; 3] = [
    Refusal::Http(429, ""),
    Refusal::Rpc(-32005, "limit exceeded"),
    Refusal::Rpc(
        429,
        "Your app has exceeded its compute units per second capacity.",
    ),
];

/// Sends payments that fail at the node, six a second: signatures of nobody, and wallets without
/// money. Returns how many were sent.
async fn send_junk(app: &TestApp, sent: &AtomicUsize) {
    let stranger = client_from("127.0.0.2");
    let poor = signing::wallet(66);
    app.chain.drain(poor.address()).await.unwrap();
    let challenge = app.post("/api/upload/token/year").await;
    let mut six_a_second = tokio::time::interval(Duration::from_millis(166));
    loop {
        six_a_second.tick().await;
        let path = "/api/upload/token/year";
        let mut payment = Payment::answering(&challenge, path, &poor, app.clock.now());
        if sent.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            payment.sign_by(&signing::wallet(67));
        }
        let mut request = stranger.post(app.url(path));
        for (name, value) in payment.headers() {
            request = request.header(name, value);
        }
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert!(
            matches!(answer.status, 402 | 429 | 503),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_node_of_twenty_calls_a_second_sells_everything_beside_junk() {
    // Without a limit for addresses, all junk costs calls to the node.
    let cases = LIMITS.into_iter().map(|refusal| ("120", refusal));
    let cases = cases.chain([("0", LIMITS[0].clone())]);
    let sales = cases.map(|(limit, refusal)| async move {
        let app = TestApp::builder()
            .set("limits.payments_per_address_per_minute", limit)
            .set("payments.timeout", "15s")
            .spawn()
            .await;
        app.node.node(NodeFault {
            rate: Some((20, refusal.clone())),
            ..NodeFault::default()
        });
        let sent = AtomicUsize::new(0);
        let sales = sell(&app, "year", 40, 4);
        let refused = tokio::select! {
            refused = sales => refused,
            () = send_junk(&app, &sent) => Vec::new(),
        };
        let name = format!("{refusal:?}, limit {limit}, {sent:?} junk");
        assert_eq!(refused, [""; 0], "{name}: {} of 40", refused.len());
        assert_eq!(app.transfers().await.len(), 40);
    });
    join_all(sales).await;
}

#[tokio::test]
async fn a_node_that_refuses_batches_sells_everything() {
    let refusals = [
        Refusal::Rpc(-32600, "Batch requests are not supported"),
        Refusal::Http(400, "batch size exceeds the limit"),
        Refusal::Http(403, ""),
    ];
    for refusal in refusals {
        let app = TestApp::impatient().await;
        app.node.node(NodeFault {
            batches: Some(refusal.clone()),
            ..NodeFault::default()
        });
        for tier in TIERS {
            assert_eq!(sell(&app, tier, 3, 1).await, [""; 0], "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn a_sale_asks_the_node_once_before_settle_and_once_after() {
    let app = TestApp::spawn().await;
    for (tier, calls, requests) in [("year", 3, 1), ("permanent", 5, 2)] {
        let before = (app.node.all_calls(), app.node.requests());
        for _ in 0..10 {
            assert_eq!(sell(&app, tier, 1, 1).await, [""; 0]);
        }
        let asked = app.node.all_calls() - before.0;
        // The newest block is known for a second.
        assert!(
            (calls * 10 - 10..=calls * 10).contains(&asked),
            "{tier}: {asked}"
        );
        assert_eq!(app.node.requests() - before.1, requests * 10, "{tier}");
    }
}

#[tokio::test]
async fn a_second_node_is_asked_while_the_first_one_fails() {
    let app = TestApp::builder()
        .with_second_node()
        .set("payments.timeout", "10s")
        .spawn()
        .await;
    let second = app.second_node.as_ref().unwrap();
    let faults = [
        NodeFault {
            down: true,
            ..NodeFault::default()
        },
        NodeFault {
            fails: Some((100, Refusal::Rpc(-32005, "limit exceeded"))),
            ..NodeFault::default()
        },
        NodeFault {
            fails: Some((100, Refusal::Http(403, "unknown key"))),
            ..NodeFault::default()
        },
    ];
    for fault in faults {
        app.node.node(fault);
        let calls = second.all_calls();
        for tier in TIERS {
            assert_eq!(sell(&app, tier, 3, 1).await, [""; 0]);
        }
        assert!(second.all_calls() > calls);
        app.node.mend();
    }
    assert_eq!(app.transfers().await.len(), 18);
}

#[tokio::test]
async fn nodes_that_contradict_each_other_decide_nothing() {
    let app = TestApp::builder()
        .with_second_node()
        .set("payments.timeout", "3s")
        .spawn()
        .await;
    let old = app.chain_head().await;
    let payment = app.sign_for("year").await;
    app.facilitator.next("settle", Fault::SilentAfter);
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    // The first node shows a chain on which the window is over and nothing was paid.
    app.node.node(NodeFault {
        stale_at: Some(old),
        skew: 7200,
        ..NodeFault::default()
    });
    for _ in 0..3 {
        app.advance(Duration::from_mins(3));
        app.reconcile().await;
        assert_eq!(app.state_of(&payment).await.as_deref(), Some("unknown"));
    }
    app.node.mend();
    app.reconcile_until(&payment, "settled").await;
    app.pay(&payment).await.token();
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_payment_that_never_settled_fails_without_the_safe_tag_too() {
    for (tags, blocks) in [(&["safe"][..], 1), (&["safe", "finalized"][..], 310)] {
        let app = TestApp::impatient().await;
        app.node.node(NodeFault {
            without_tags: Some((tags, Refusal::Rpc(-32602, "unknown block tag"))),
            ..NodeFault::default()
        });
        app.facilitator
            .always("settle", Fault::Instead(500, String::new()));
        let payment = app.sign_for("year").await;
        assert_eq!(app.pay(&payment).await.verdict(), pending());
        app.advance(Duration::from_secs(400));
        app.reconcile().await;
        if blocks > 1 {
            assert_eq!(app.state_of(&payment).await.as_deref(), Some("unknown"));
        }
        for _ in 0..blocks {
            app.advance(Duration::from_secs(1));
            app.chain_head().await;
        }
        app.reconcile_until(&payment, "failed").await;
    }
}

#[tokio::test]
async fn a_sale_behind_a_node_that_is_down_fails_within_its_time() {
    let app = TestApp::builder()
        .set("payments.timeout", "6s")
        .spawn()
        .await;
    let payment = app.sign_for("year").await;
    app.node.node(NodeFault {
        down: true,
        ..NodeFault::default()
    });
    let began = Instant::now();
    assert_eq!(app.pay(&payment).await.verdict(), no_node());
    assert!(began.elapsed() < Duration::from_secs(8));
    // The node is known to be down.
    let began = Instant::now();
    assert_eq!(app.pay(&payment).await.verdict(), no_node());
    assert!(began.elapsed() < Duration::from_secs(3));
    app.node.mend();
    app.pay(&payment).await.token();
}

/// Runs `pixtoll config check --online` against the sandbox as if it were Base Sepolia.
async fn check_online(app: &TestApp) -> Ran {
    let deployment = Deployment::on(app.honest_facilitator(), &app.node.url)
        .set("payments.facilitator", "url")
        .set("payments.networks", "base-sepolia")
        .set(
            "payments.pay_to",
            "0x2222222222222222222222222222222222222222",
        )
        .unset("payments.sandbox_listen")
        .unset("payments.sandbox_rpc_listen");
    deployment.run(&["config", "check", "--online"]).await
}

#[tokio::test]
async fn config_check_tries_every_kind_of_reading() {
    let app = TestApp::builder().today().spawn().await;
    for _ in 0..30 {
        app.advance(Duration::from_secs(1));
        app.chain_head().await;
    }
    assert_eq!(sell(&app, "year", 1, 1).await, [""; 0]);
    let ran = check_online(&app).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for what in [
        "newest block",
        "balance",
        "nonce",
        "batch",
        "safe block",
        "receipt",
        "logs",
    ] {
        let line = format!("online: base-sepolia: chain: {what}: ");
        assert!(ran.out.contains(&line), "{line} in {ran:?}");
    }
    let limited = [
        (
            NodeFault {
                without_tags: Some((&["safe"], Refusal::Rpc(-32602, "unknown tag"))),
                ..NodeFault::default()
            },
            "warning: base-sepolia: chain: safe block: the node does not know the tag `safe`",
            Some(0),
        ),
        (
            NodeFault {
                log_blocks: Some((10, Refusal::Rpc(-32600, "up to a 10 block range"))),
                ..NodeFault::default()
            },
            "warning: base-sepolia: chain: logs: the node answers logs of about",
            Some(0),
        ),
        (
            NodeFault {
                batches: Some(Refusal::Rpc(-32600, "no batches")),
                ..NodeFault::default()
            },
            "warning: base-sepolia: chain: batch: the node refuses several calls in one request",
            Some(0),
        ),
        (
            NodeFault {
                fails: Some((100, Refusal::Http(401, "no such project"))),
                ..NodeFault::default()
            },
            "HTTP status 401: no such project",
            Some(1),
        ),
        (
            NodeFault {
                skew: -7200,
                ..NodeFault::default()
            },
            "seconds old, but at most 120 are allowed",
            Some(1),
        ),
    ];
    for (fault, expected, code) in limited {
        app.node.node(fault);
        let ran = check_online(&app).await;
        assert!(ran.out.contains(expected), "{expected} in {ran:?}");
        assert_eq!(ran.code, code, "{ran:?}");
        app.node.mend();
    }
}
