//! Random histories of payments over HTTP. Whatever clients, payers, observers, the facilitator and
//! the chain's node do, in whatever order, the ledger balances after each step and every payment is
//! decided in the end.
//!
//! The histories are the same in every run. `PIXTOLL_HISTORIES=500 cargo test --test it histories`
//! draws 500 others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use pixtoll::db::{grants, images, payments as rows};
use pixtoll::evm::chain::rpc::RpcChain;
use pixtoll::model::ids::ImageId;
use pixtoll::model::payment::PaymentState;
use pixtoll::model::token::UploadToken;
use pixtoll::payments::recovery::check::{ChainSide, Report, check};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::support::database::{execute as execute_sql, number, texts};
use crate::support::expect::in_progress;
use crate::support::proxy::{Fault, NodeFault};
use crate::support::{Answer, Payment, TestApp, pictures, signing};

/// How many histories run each time, and their largest number of steps.
const HISTORIES: u32 = 20;
const STEPS: usize = 22;
/// The routes at which every payment of a history is tried: its own, another tier, another kind.
const ROUTES: [&str; 4] = [
    "/api/upload/token/year",
    "/api/upload/token/permanent",
    "/api/upload/year",
    "/api/upload/permanent",
];

#[derive(Debug, Clone)]
enum Step {
    /// A payer signs a challenge, and sends nothing yet.
    Sign {
        wallet: u8,
        route: usize,
    },
    Present(Showing),
    /// The fault that the next call meets.
    Verify(usize),
    Settle(usize),
    /// The fault that every settle call meets until it is mended.
    SettleAlways(usize),
    Node(NodeKind),
    Mend,
    /// An observer who saw the authorization executes it.
    Observe(usize),
    Cancel(usize),
    Drain(u8),
    Advance(u64),
    Reconcile,
    Upload {
        which: usize,
        picture: u32,
    },
}

/// A payment, in the form in which it is sent.
#[derive(Debug, Clone)]
struct Showing {
    which: usize,
    form: Form,
    /// `None`: the route it was signed for.
    route: Option<usize>,
    picture: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As a version 2 client sends it, with its ticket.
    Whole,
    V1,
    /// Without any proof of its sender.
    Copied,
    OwnId,
    /// With an idempotency key that all payments of this form share.
    SharedId,
    Key,
}

#[derive(Debug, Clone, Copy)]
enum NodeKind {
    Down,
    WithoutLogs,
    Stale,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..6_usize;
    prop_oneof![
        2 => (1..3_u8, 0..ROUTES.len()).prop_map(|(wallet, route)| Step::Sign { wallet, route }),
        8 => showing().prop_map(Step::Present),
        1 => (0..verify_faults().len()).prop_map(Step::Verify),
        2 => (0..settle_faults().len()).prop_map(Step::Settle),
        1 => (0..settle_faults().len()).prop_map(Step::SettleAlways),
        1 => prop_oneof![
            Just(NodeKind::Down),
            Just(NodeKind::WithoutLogs),
            Just(NodeKind::Stale)
        ]
        .prop_map(Step::Node),
        2 => Just(Step::Mend),
        2 => which.clone().prop_map(Step::Observe),
        1 => which.clone().prop_map(Step::Cancel),
        1 => (1..3_u8).prop_map(Step::Drain),
        3 => prop_oneof![1..6_u64, 10..120_u64, 280..420_u64, Just(90_000)].prop_map(Step::Advance),
        3 => Just(Step::Reconcile),
        3 => (which, 0..2_u32).prop_map(|(which, picture)| Step::Upload { which, picture }),
    ]
}

fn showing() -> impl Strategy<Value = Showing> {
    let form = prop_oneof![
        5 => Just(Form::Whole),
        1 => Just(Form::V1),
        1 => Just(Form::Copied),
        1 => Just(Form::OwnId),
        1 => Just(Form::SharedId),
        1 => Just(Form::Key),
    ];
    let route = prop_oneof![5 => Just(None), 1 => (0..ROUTES.len()).prop_map(Some)];
    (0..6_usize, form, route, 0..2_u32).prop_map(|(which, form, route, picture)| Showing {
        which,
        form,
        route,
        picture,
    })
}

fn verify_faults() -> Vec<Fault> {
    let text = |text: &str| Fault::Instead(200, text.to_owned());
    vec![
        Fault::SilentBefore,
        Fault::Instead(503, String::new()),
        text("nonsense"),
        text(r#"{"isValid": false, "invalidReason": "insufficient_funds"}"#),
        text(r#"{"isValid": true}"#),
    ]
}

/// No success without a transfer: a cheap tier accepts it, and only the auditor finds out later.
fn settle_faults() -> Vec<Fault> {
    let pending = r#"{"success": false, "errorReason": "settlement_pending", "transaction": "", "network": ""}"#;
    vec![
        Fault::SilentBefore,
        Fault::SilentAfter,
        Fault::Instead(503, String::new()),
        Fault::After(500, String::new()),
        Fault::After(200, "{}".to_owned()),
        Fault::After(200, pending.to_owned()),
        Fault::refusal(200, "insufficient_funds"),
        Fault::refusal(400, "invalid_exact_evm_nonce_already_used"),
        Fault::refusal(500, "insufficient_funds"),
        Fault::lie(200, "insufficient_funds"),
        Fault::lie(200, "invalid_transaction_state"),
    ]
}

/// A running history.
struct Play {
    app: TestApp,
    payments: Vec<Payment>,
    /// The tokens that were returned for each payment.
    tokens: BTreeMap<usize, String>,
    /// Whether the node is wrong or silent, so that nobody can tell whether money moved.
    blind: bool,
}

impl Play {
    async fn begin() -> Self {
        let app = TestApp::builder()
            .set("payments.timeout", "150ms")
            .spawn()
            .await;
        Self {
            app,
            payments: Vec::new(),
            tokens: BTreeMap::new(),
            blind: false,
        }
    }

    async fn sign(&mut self, wallet: u8, route: usize) {
        if self.payments.len() < 6 {
            let challenge = self.app.post(ROUTES[route]).await;
            let wallet = signing::wallet(wallet);
            let now = pixtoll::system::clock::Clock::now(&self.app.clock);
            let payment = Payment::answering(&challenge, ROUTES[route], &wallet, now);
            self.payments.push(payment);
        }
    }

    /// The index of an existing payment, if any: every other time the newest, so that one payment
    /// sees many steps.
    fn index(&self, which: usize) -> Option<usize> {
        let last = self.payments.len().checked_sub(1)?;
        Some(if which < 3 { last } else { which % (last + 1) })
    }

    async fn play(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Sign { wallet, route } => self.sign(*wallet, *route).await,
            Step::Present(showing) => {
                if self.payments.is_empty() {
                    self.sign(1, showing.which % ROUTES.len()).await;
                }
                self.present(showing).await?;
            }
            Step::Verify(fault) => self
                .app
                .facilitator
                .next("verify", verify_faults()[*fault].clone()),
            Step::Settle(fault) => self
                .app
                .facilitator
                .next("settle", settle_faults()[*fault].clone()),
            Step::SettleAlways(fault) => {
                self.app
                    .facilitator
                    .always("settle", settle_faults()[*fault].clone());
            }
            Step::Node(kind) => self.blind_node(*kind).await,
            Step::Mend => self.mend(),
            Step::Observe(which) => {
                if let Some(index) = self.index(*which) {
                    let payment = &self.payments[index];
                    let (authorization, signature) = (&payment.authorization, &payment.signature);
                    // The chain rejects an authorization that is used, expired or not covered. All
                    // are fine.
                    drop(self.app.chain.execute(authorization, signature).await);
                }
            }
            Step::Cancel(which) => {
                if let Some(index) = self.index(*which) {
                    let authorization = &self.payments[index].authorization;
                    let (payer, nonce) = (authorization.from, authorization.nonce);
                    drop(self.app.chain.cancel(payer, nonce).await);
                }
            }
            Step::Drain(wallet) => {
                let payer = signing::wallet(*wallet).address();
                self.app.chain.drain(payer).await.unwrap();
            }
            Step::Advance(seconds) => self.app.advance(Duration::from_secs(*seconds)),
            Step::Reconcile => self.app.reconcile().await,
            Step::Upload { which, picture } => self.upload(*which, *picture).await?,
        }
        self.assert_balanced().await
    }

    async fn blind_node(&mut self, kind: NodeKind) {
        // A node without logs still shows which nonces are used, which is enough not to reject a
        // payment.
        self.blind = !matches!(kind, NodeKind::WithoutLogs);
        let mut fault = NodeFault::default();
        match kind {
            NodeKind::Down => fault.down = true,
            NodeKind::WithoutLogs => fault.without_logs = true,
            NodeKind::Stale => fault.stale_at = Some(self.report().await.chains[0].last_block),
        }
        self.app.node.node(fault);
    }

    fn mend(&mut self) {
        self.app.facilitator.mend();
        self.app.node.mend();
        self.blind = false;
    }

    async fn present(&mut self, showing: &Showing) -> Result<(), TestCaseError> {
        let index = self.index(showing.which).unwrap();
        let signed = self.payments[index].clone();
        let payment = match showing.form {
            Form::Whole => signed.clone(),
            Form::V1 => signed.as_v1(),
            Form::Copied => signed.copied_from_the_chain(),
            Form::OwnId => signed.with_id(&format!("the-id-of-payment-{index}")),
            Form::SharedId => signed.with_id("the-id-of-many-payments"),
            Form::Key => signed.with_idempotency_key(&format!("the-key-of-payment-{index}")),
        };
        let route = showing
            .route
            .map_or(payment.path.as_str(), |route| ROUTES[route]);
        let before = self.app.state_of(&payment).await;
        let mut at = payment.clone();
        at.path = route.to_owned();
        let answer = if route.contains("token") {
            self.app.pay(&at).await
        } else {
            self.app.pay_with(&at, &picture(showing.picture)).await
        };
        let after = self.app.state_of(&payment).await;
        let what = format!(
            "{showing:?} at {route}, {before:?} -> {after:?}: {} {}",
            answer.status,
            answer.text()
        );
        self.judge(
            &payment,
            showing,
            before.as_deref(),
            after.as_deref(),
            &answer,
            &what,
        )
        .await?;
        if answer.status == 200 && answer.json()["token"].is_string() {
            self.tokens.insert(index, answer.token());
        }
        Ok(())
    }

    async fn judge(
        &self,
        payment: &Payment,
        showing: &Showing,
        before: Option<&str>,
        after: Option<&str>,
        answer: &Answer,
        what: &str,
    ) -> Result<(), TestCaseError> {
        let moved = self.moved(payment).await;
        if answer.status == 200 {
            let secret = matches!(before, Some("settling" | "unknown" | "settled" | "failed"));
            prop_assert!(
                showing.form != Form::Copied || !secret,
                "goods without proof: {what}"
            );
            return self.assert_goods(answer, what).await;
        }
        let open = matches!(after, Some("verified" | "settling" | "unknown" | "settled"));
        prop_assert!(answer.status != 402 || !open, "asked to pay again: {what}");
        prop_assert!(
            matches!(answer.status, 402 | 404 | 409 | 503),
            "an answer that no rule knows: {what}"
        );
        // A payment that isn't in the ledger is rejected without asking the chain where that is
        // possible (rule 8).
        if self.blind || after.is_none() {
            return Ok(());
        }
        prop_assert!(answer.status != 402 || !moved, "asked to pay again: {what}");
        match answer.charged() {
            // Another payment with the same idempotency key may have answered.
            Some(true) => prop_assert!(
                moved || showing.form == Form::SharedId,
                "charged, and no money moved: {what}"
            ),
            Some(false) => prop_assert!(!moved, "not charged, and the money moved: {what}"),
            None => {}
        }
        Ok(())
    }

    /// Asserts that the goods belong to a settled payment and can be used.
    async fn assert_goods(&self, answer: &Answer, what: &str) -> Result<(), TestCaseError> {
        let body = answer.json();
        let id = if let Some(token) = body["token"].as_str() {
            let token = UploadToken::parse(token).unwrap();
            let grant = grants::find_by_token_hash(self.app.db(), &token.hash()).await;
            grant.unwrap().map(|grant| grant.payment_id)
        } else {
            let id = ImageId::parse(&answer.field("id")).unwrap();
            let served = self.app.get(&answer.field("url")).await;
            prop_assert_eq!(served.status, 200, "a link to nothing: {}", what);
            let image = images::find(self.app.db(), &id).await.unwrap().unwrap();
            image.payment_id
        };
        prop_assert!(id.is_some(), "goods of no payment: {what}");
        let row = rows::find(self.app.db(), &id.unwrap())
            .await
            .unwrap()
            .unwrap();
        prop_assert_eq!(
            row.state,
            PaymentState::Settled,
            "goods before settlement: {}",
            what
        );
        Ok(())
    }

    async fn upload(&mut self, which: usize, number: u32) -> Result<(), TestCaseError> {
        let Some(token) = self.index(which).and_then(|index| self.tokens.get(&index)) else {
            return Ok(());
        };
        let answer = self.app.upload_with(token, picture(number)).await;
        let what = format!("upload: {} {}", answer.status, answer.text());
        prop_assert!(matches!(answer.status, 200 | 401 | 409 | 410), "{what}");
        if answer.status == 200 {
            self.assert_goods(&answer, &what).await?;
        }
        Ok(())
    }

    async fn moved(&self, payment: &Payment) -> bool {
        let authorization = &payment.authorization;
        self.app.transfers().await.iter().any(|transfer| {
            transfer.payer == authorization.from && transfer.nonce == Some(authorization.nonce)
        })
    }

    /// Runs `pixtoll ledger check` with a node that is right.
    async fn report(&self) -> Report {
        let checkout = self.app.app.checkout.as_ref().unwrap();
        let network = checkout.catalog.networks()[0];
        let chain = RpcChain::new(network, &[self.app.honest_node()]).unwrap();
        let side = ChainSide {
            network,
            chain: &chain,
            pay_to: checkout.catalog.pay_to(),
            first_block: 0,
        };
        let now = pixtoll::system::clock::Clock::now(&self.app.clock);
        let tiers = checkout.catalog.tiers();
        check(self.app.db(), now, &[side], &tiers).await.unwrap()
    }

    async fn assert_balanced(&self) -> Result<(), TestCaseError> {
        let report = self.report().await;
        // Rows count as stuck when nobody reconciles for hours, which that rule is for.
        let broken: Vec<_> = report
            .broken
            .iter()
            .filter(|(rule, _)| *rule != "no payment is open beyond its deadline")
            .collect();
        prop_assert!(broken.is_empty(), "the ledger does not balance: {broken:?}");
        let chain = &report.chains[0];
        let orphans = chain
            .orphans
            .iter()
            .map(|orphan| orphan.value)
            .sum::<U256>();
        prop_assert_eq!(report.settled_sum + orphans, chain.received_sum);
        let mut seen: BTreeSet<(Address, B256)> = BTreeSet::new();
        for transfer in self.app.transfers().await {
            let once = seen.insert((transfer.payer, transfer.nonce.unwrap()));
            prop_assert!(once, "an authorization moved money twice");
        }
        Ok(())
    }

    /// Mends everything, closes every window, and runs reconciler and auditor until nothing is due.
    async fn end(&mut self) -> Result<(), TestCaseError> {
        self.mend();
        self.app.advance(Duration::from_secs(400));
        for _ in 0..20 {
            self.app.reconcile().await;
            self.app.audit().await;
            self.app.advance(Duration::from_secs(61));
            let watched = "SELECT COUNT(*) FROM payments WHERE next_look_ms IS NOT NULL";
            if number(self.app.db(), watched).await == 0 {
                break;
            }
        }
        self.assert_balanced().await?;
        let broken = self.report().await.broken;
        prop_assert!(broken.is_empty(), "in the end: {broken:?}");
        let open = "SELECT id || ' ' || state FROM payments WHERE next_look_ms IS NOT NULL \
             OR state IN ('received', 'verified', 'settling', 'unknown')";
        let open = texts(self.app.db(), open).await;
        prop_assert!(open.is_empty(), "never decided: {open:?}");
        for index in 0..self.payments.len() {
            let payment = self.payments[index].clone();
            let (state, moved) = (
                self.app.state_of(&payment).await,
                self.moved(&payment).await,
            );
            let settled = state.as_deref() == Some("settled");
            // A payment that was never sent may have been executed: that is an orphan.
            prop_assert!(
                state.is_none() || settled == moved,
                "{state:?}, moved: {moved}"
            );
            if state.is_some() {
                let showing = Showing {
                    which: index,
                    form: Form::Whole,
                    route: None,
                    picture: 0,
                };
                self.present(&showing).await?;
            }
        }
        self.assert_served().await
    }

    /// Asserts that every public image has its bytes.
    async fn assert_served(&self) -> Result<(), TestCaseError> {
        for id in texts(self.app.db(), "SELECT id FROM images WHERE state = 'live'").await {
            let served = self.app.get(&format!("/i/{id}.png")).await;
            prop_assert_eq!(served.status, 200, "image {} is public and not there", id);
        }
        Ok(())
    }
}

fn picture(number: u32) -> Vec<u8> {
    pictures::png(8 + number, 8)
}

fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut play = Play::begin().await;
        for (number, step) in steps.iter().enumerate() {
            let outcome = play.play(step).await;
            outcome.map_err(|error| TestCaseError::fail(format!("step {number}: {error}")))?;
        }
        play.end().await
    })
}

fn runner(seed: u8) -> TestRunner {
    let more = std::env::var("PIXTOLL_HISTORIES")
        .ok()
        .and_then(|count| count.parse::<u32>().ok());
    let config = Config {
        cases: more.unwrap_or(HISTORIES) / 2,
        max_shrink_iters: 80,
        failure_persistence: None,
        ..Config::default()
    };
    if more.is_some() {
        return TestRunner::new(config);
    }
    TestRunner::new_with_rng(
        config,
        TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]),
    )
}

fn play_many(seed: u8) {
    let histories = proptest::collection::vec(step(), 4..STEPS);
    let outcome = runner(seed).run(&histories, |steps| play(&steps));
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// The same test twice, with other histories, so that two cores run them.
#[test]
fn random_histories_balance_the_ledger_and_decide_every_payment() {
    play_many(1);
}

#[test]
fn more_random_histories_balance_the_ledger_and_decide_every_payment() {
    play_many(2);
}

// Histories that were designed by hand. Each name says what went wrong in it.

/// A payment that verify rejected at once.
async fn rejected(app: &TestApp) -> Payment {
    let payment = app.sign_for("year").await;
    app.facilitator.next("verify", verify_faults()[3].clone());
    assert_eq!(app.pay(&payment).await.status, 402);
    payment
}

async fn execute(app: &TestApp, payment: &Payment) {
    let (authorization, signature) = (&payment.authorization, &payment.signature);
    app.chain.execute(authorization, signature).await.unwrap();
}

const CHARGED: (u16, &str, Option<bool>) = (409, "payment_known", Some(true));

fn verdict(answer: &Answer) -> (u16, String, Option<bool>) {
    assert_ne!(answer.status, 200, "{}", answer.text());
    answer.verdict()
}

fn assert_charged(answer: &Answer) {
    let (status, error, charged) = verdict(answer);
    assert_eq!(
        (status, error.as_str(), charged),
        CHARGED,
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn an_upload_paid_before_it_was_stored_is_owed_and_has_no_link() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    app.facilitator
        .always("verify", Fault::Instead(503, String::new()));
    assert_eq!(app.pay_with(&payment, &picture(1)).await.status, 503);
    app.facilitator.mend();
    execute(&app, &payment).await;
    // Nothing was bound, because verify never accepted: so nobody can prove to be the payer.
    assert_charged(&app.pay_with(&payment, &picture(1)).await);
    let live = "SELECT COUNT(*) FROM images WHERE state = 'live' OR state = 'pending'";
    assert_eq!(number(app.db(), live).await, 0);
    let owed = pixtoll::db::audit::find_owed(app.db()).await.unwrap();
    assert_eq!(owed.len(), 1);
}

#[tokio::test]
async fn a_rejected_payment_that_moved_money_is_not_denied_at_another_route() {
    let app = TestApp::spawn().await;
    let payment = rejected(&app).await;
    execute(&app, &payment).await;
    assert_charged(&app.pay_at("/api/upload/token/permanent", &payment).await);
}

#[tokio::test]
async fn a_rejected_upload_that_moved_money_is_not_denied_for_its_body_or_key() {
    let app = TestApp::spawn().await;
    let id = "an-id-of-two-payments";
    let first = app.sign_for("year").await.with_id(id);
    assert_eq!(app.pay(&first).await.status, 200);
    for (with, body) in [(None, Vec::new()), (Some(id), picture(1))] {
        let payment = app.sign_at("/api/upload/year").await;
        app.facilitator.next("verify", verify_faults()[3].clone());
        assert_eq!(app.pay_with(&payment, &picture(0)).await.status, 402);
        // A row that was released runs again, up to the check of its body or its idempotency key.
        execute_sql(
            app.db(),
            "UPDATE payments SET state = 'released' WHERE state = 'rejected'",
        )
        .await;
        execute(&app, &payment).await;
        let again = with.map_or_else(|| payment.clone(), |id| payment.with_id(id));
        let answer = if body.is_empty() {
            app.pay(&again).await
        } else {
            app.pay_with(&again, &body).await
        };
        assert_charged(&answer);
    }
}

#[tokio::test]
async fn a_payment_that_moved_money_during_verify_is_not_denied_as_expired() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    app.facilitator
        .always("verify", Fault::Instead(503, String::new()));
    assert_eq!(app.pay(&payment).await.status, 503);
    app.facilitator.mend();
    execute(&app, &payment).await;
    app.advance(Duration::from_secs(301));
    assert_charged(&app.pay(&payment).await);
}

#[tokio::test]
async fn a_payment_that_moves_money_during_verify_is_not_called_uncharged() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let release = std::sync::Arc::new(tokio::sync::Notify::new());
    app.facilitator
        .next("verify", Fault::Held(std::sync::Arc::clone(&release)));
    let (answer, ()) = tokio::join!(app.pay(&payment), async {
        app.facilitator.reached("verify", 1).await;
        execute(&app, &payment).await;
        release.notify_one();
    });
    assert_charged(&answer);
    // The same while the node doesn't show the transfer yet: no answer says that nothing was
    // charged.
    let second = app.sign_for("year").await;
    let head = app.chain_head().await;
    execute(&app, &second).await;
    app.node.node(NodeFault {
        stale_at: Some(head),
        ..NodeFault::default()
    });
    for _ in 0..2 {
        let answer = app.pay(&second).await;
        assert_eq!(verdict(&answer), (409, "payment_known".to_owned(), None));
    }
    app.node.mend();
    assert_charged(&app.pay(&second).await);
}

#[tokio::test]
async fn a_request_waits_while_the_reconciler_drives_its_payment() {
    let app = TestApp::spawn().await;
    let payment = rejected(&app).await;
    execute_sql(app.db(), "UPDATE payments SET state = 'released'").await;
    let id = payment.ledger_id();
    let row = rows::find(app.db(), &id).await.unwrap().unwrap();
    let now = pixtoll::system::clock::Clock::now(&app.clock);
    let lease = pixtoll::model::payment::LEASE;
    let looked_at = rows::claim(app.db(), &row, now, lease)
        .await
        .unwrap()
        .unwrap();
    let asked = app.node.all_calls();
    // Waits as long as a copy waits, which is five seconds.
    let answer = app.pay(&payment).await;
    assert_eq!(verdict(&answer), in_progress());
    let asked = app.node.all_calls() - asked;
    assert!(
        asked < 20,
        "the node was asked {asked} times while there was nothing to do but wait"
    );
    let (answer, handed_back) = tokio::join!(
        app.pay(&payment),
        rows::hand_back(app.db(), &looked_at, looked_at.next_look, looked_at.looks)
    );
    handed_back.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}
