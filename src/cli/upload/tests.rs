use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::client::scripted::{Scripted, Step, answers, asks, hangs_up, refuses, uploads};
use crate::system::clock::{ManualClock, Timestamp};
use crate::x402::header::{self, decode_payment};

const KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const PAYER: &str = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    upload: UploadArgs,
}

/// A user with a home directory, some files and a server to upload them to.
struct User {
    home: TempDir,
    env: BTreeMap<String, String>,
    server: Scripted,
    clock: ManualClock,
    waits: Arc<Mutex<Vec<Duration>>>,
    runs: std::cell::Cell<u64>,
}

struct Run {
    exit: Exit,
    out: String,
    err: String,
}

impl User {
    /// A user whose wallet is the well-known test key.
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut user = Self::without_wallet(steps);
        user.env
            .insert("PIXTOLL_WALLET_KEY".to_owned(), KEY.to_owned());
        user
    }

    fn without_wallet(steps: impl IntoIterator<Item = Step>) -> Self {
        // Fails when another test has installed the provider already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let home = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.jpg", "c"] {
            std::fs::write(home.path().join(name), format!("bytes of {name}")).unwrap();
        }
        let path = home.path().to_str().unwrap().to_owned();
        Self {
            env: BTreeMap::from([("HOME".to_owned(), path)]),
            home,
            server: Scripted::start(steps),
            clock: ManualClock::at(Timestamp::from_seconds(1_800_000_000)),
            waits: Arc::default(),
            runs: std::cell::Cell::new(0),
        }
    }

    /// Runs `pixtoll upload` with these arguments. Names of the user's files become their paths.
    async fn run(&self, arguments: &str) -> Run {
        let mut words = vec!["upload".to_owned()];
        words.extend(arguments.split_whitespace().map(|word| {
            let path = self.home.path().join(word);
            if path.exists() {
                path.to_str().unwrap().to_owned()
            } else {
                word.to_owned()
            }
        }));
        if !arguments.contains("--server") {
            words.extend(["--server".to_owned(), self.server.url.clone()]);
        }
        let args = Command::try_parse_from(words).unwrap().upload;
        let pause = |time: Duration| -> LocalBoxFuture<'static, ()> {
            self.clock.advance(time);
            self.waits.lock().unwrap().push(time);
            Box::pin(std::future::ready(()))
        };
        self.runs.set(self.runs.get() + 1);
        let randomness = Randomness::seeded(self.runs.get());
        let world = World {
            clock: &self.clock,
            randomness: &randomness,
            pause: &pause,
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let bar = ProgressBar::hidden();
        let mut console = Console {
            out: &mut out,
            err: &mut err,
            bar,
        };
        let exit = run_in(&args, &self.env, world, &mut console).await;
        let run = Run {
            exit,
            out: String::from_utf8(out).unwrap(),
            err: String::from_utf8(err).unwrap(),
        };
        self.assert_no_secret_in(&run);
        run
    }

    /// Checks that no output holds the private key, or a signature, nonce, idempotency key or header that was sent.
    fn assert_no_secret_in(&self, run: &Run) {
        let mut secrets = vec![KEY.to_owned()];
        for payment in self.server.payments() {
            let document: Value = header::decode(payment.as_bytes()).unwrap();
            for pointer in [
                "/payload/signature",
                "/payload/authorization/nonce",
                "/extensions/payment-identifier/info/id",
                "/extensions/pixtoll/info/ticket",
            ] {
                let secret = document.pointer(pointer).unwrap().as_str().unwrap();
                secrets.push(secret.trim_start_matches("0x").to_owned());
            }
            secrets.push(payment);
        }
        for secret in secrets {
            assert!(!run.out.contains(&secret) && !run.err.contains(&secret));
        }
    }

    fn pending(&self) -> Vec<PathBuf> {
        let dir = self.home.path().join(".local/share/pixtoll/pending");
        let Ok(entries) = dir.read_dir() else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn a_free_upload_sends_the_bytes_and_prints_only_the_link() {
    let user = User::new([uploads("a"), uploads("b"), uploads("c")]);
    let run = user.run("a.png b.jpg c").await;
    assert_eq!(run.exit, Exit::Uploaded);
    let links =
        "https://i.example.com/a.png\nhttps://i.example.com/b.png\nhttps://i.example.com/c.png\n";
    assert_eq!((run.out.as_str(), run.err.as_str()), (links, ""));
    let seen = user.server.seen();
    assert!(
        seen.iter()
            .all(|seen| seen.path == "/api/free" && seen.payment.is_none())
    );
    let types: Vec<_> = seen
        .iter()
        .map(|seen| seen.content_type.as_deref().unwrap())
        .collect();
    assert_eq!(types, ["image/png", "image/jpeg", "image/unknown"]);
    assert_eq!(seen[0].body, "bytes of a.png");
}

#[tokio::test]
async fn each_format_is_one_line() {
    for (format, line) in [
        ("url", "https://i.example.com/a.png"),
        ("markdown", "![](https://i.example.com/a.png)"),
        ("html", "<img src=\"https://i.example.com/a.png\" alt=\"\">"),
        (
            "json",
            r#"{"deleteToken":"d","id":"a","url":"https://i.example.com/a.png"}"#,
        ),
    ] {
        let user = User::new([uploads("a")]);
        let run = user.run(&format!("a.png --format {format}")).await;
        assert_eq!(run.out, format!("{line}\n"));
    }
}

#[tokio::test]
async fn a_paid_upload_sends_the_image_only_with_the_payment() {
    let user = User::new([asks(10_000, false), uploads("a")]);
    let run = user.run("a.png --tier year").await;
    assert_eq!(
        (run.exit, run.out.as_str()),
        (Exit::Uploaded, "https://i.example.com/a.png\n")
    );
    assert_eq!(run.err, "");
    let seen = user.server.seen();
    assert!(seen.iter().all(|seen| seen.path == "/api/upload/year"));
    assert_eq!((seen[0].body.len(), seen[0].payment.is_none()), (0, true));
    assert_eq!(seen[1].body, "bytes of a.png");
    let payment = seen[1].payment.as_deref().unwrap();
    let payment = decode_payment(payment.as_bytes()).unwrap();
    assert_eq!(payment.authorization.from.to_string(), PAYER);
    assert_eq!(payment.authorization.valid_before.to_string(), "1800000060");
    assert_eq!(
        (
            payment.idempotency_key.unwrap().len(),
            payment.ticket.unwrap().len()
        ),
        (32, 32)
    );
    assert!(user.pending().is_empty());
}

#[tokio::test]
async fn a_price_above_max_price_is_refused_and_an_equal_one_is_paid() {
    let user = User::new([asks(50_001, false), asks(50_000, false), uploads("a")]);
    let run = user.run("a.png --tier year").await;
    assert_eq!((run.exit, run.out.as_str()), (Exit::NotPayable, ""));
    assert!(run.err.contains("0.050001 USDC") && run.err.contains("--max-price 0.050001"));
    assert!(user.server.payments().is_empty() && user.pending().is_empty());
    assert_eq!(user.run("a.png --tier year").await.exit, Exit::Uploaded);
}

#[tokio::test]
async fn a_402_without_a_challenge_is_not_paid() {
    let user = User::new([
        refuses(402, "payment_required", None),
        answers(200, &json!({})),
    ]);
    assert_eq!(user.run("a.png --tier year").await.exit, Exit::NotPayable);
    // A server that asks nothing for a paid tier is unexpected, and no payment is sent.
    assert_eq!(user.run("a.png --tier year").await.exit, Exit::Unexpected);
    assert!(user.server.payments().is_empty());
}

#[tokio::test]
async fn no_second_payment_is_signed_after_a_402() {
    let refusal = asks(10_000, false);
    let user = User::new([asks(10_000, false), refusal, uploads("never")]);
    let run = user.run("a.png b.jpg --tier year").await;
    assert_eq!((run.exit, run.out.as_str()), (Exit::PaymentRefused, ""));
    assert!(run.err.contains("Sorry: payment_required.") && run.err.contains(PAYER));
    assert!(run.err.contains("files not tried: 1"));
    assert_eq!(
        (user.server.seen().len(), user.server.payments().len()),
        (2, 1)
    );
    assert!(user.pending().is_empty());
}

#[tokio::test]
async fn a_402_without_charged_false_leaves_the_outcome_unknown() {
    for charged in [None, Some(true)] {
        let user = User::new([asks(10_000, false), refuses(402, "payment_failed", charged)]);
        assert_eq!(
            user.run("a.png --tier year").await.exit,
            Exit::OutcomeUnknown
        );
        assert_eq!(user.pending().len(), 1);
    }
}

#[tokio::test]
async fn after_temporary_failures_the_same_payment_is_sent_byte_for_byte() {
    let user = User::new([
        asks(10_000, false),
        refuses(503, "settlement_pending", None).with("Retry-After", "7"),
        hangs_up(),
        refuses(409, "payment_in_progress", None).with("Retry-After", "30"),
        refuses(429, "rate_limited", None).with("Retry-After", "15"),
        refuses(500, "upload_failed", None),
        answers(502, &json!("<html>")),
        answers(504, &json!("<html>")),
        uploads("a"),
    ]);
    let run = user.run("a.png --tier year").await;
    assert_eq!(
        (run.exit, run.out.as_str()),
        (Exit::Uploaded, "https://i.example.com/a.png\n")
    );
    let seen = user.server.seen();
    assert_eq!((seen.len(), user.server.payments().len()), (9, 1));
    assert!(
        seen[1..]
            .iter()
            .all(|later| later.payment == seen[1].payment)
    );
    assert!(seen[1..].iter().all(|seen| seen.body == "bytes of a.png"));
    let waits: Vec<_> = user
        .waits
        .lock()
        .unwrap()
        .iter()
        .map(Duration::as_secs)
        .collect();
    assert_eq!(waits, [7, 2, 30, 15, 10, 10, 10]);
}

#[tokio::test]
async fn retry_after_is_waited_for_unless_it_exceeds_two_minutes() {
    let limited = |seconds: &str| {
        let refused = refuses(429, "rate_limited", Some(false));
        refused.with("Retry-After", seconds.to_owned())
    };
    let waits = |user: &User| {
        let waits = user.waits.lock().unwrap();
        waits.iter().map(Duration::as_secs).collect::<Vec<_>>()
    };
    // The price, then the upload.
    let user = User::new([
        limited("60"),
        asks(10_000, false),
        limited("72"),
        uploads("a"),
    ]);
    assert_eq!(user.run("a.png --tier year").await.exit, Exit::Uploaded);
    assert_eq!(
        (waits(&user), user.server.payments().len()),
        (vec![60, 72], 1)
    );
    let user = User::new([limited("119"), uploads("a")]);
    let run = user.run("a.png").await;
    assert_eq!(run.exit, Exit::Uploaded);
    // Standard error is no terminal here, and says nevertheless why the command waits.
    assert!(run.err.contains("Trying again in 119 s."), "{}", run.err);
    // Longer waits end the run; the payment stays for the next one.
    for (limit, exit) in [
        (limited("121"), Exit::Unavailable),
        (limited("86400"), Exit::Unavailable),
        (
            refuses(429, "rate_limited", None).with("Retry-After", "3600"),
            Exit::OutcomeUnknown,
        ),
        (
            refuses(503, "settlement_pending", None).with("Retry-After", "3600"),
            Exit::OutcomeUnknown,
        ),
    ] {
        let user = User::new([asks(10_000, false), limit]);
        assert_eq!(user.run("a.png --tier year").await.exit, exit);
        assert_eq!((waits(&user), user.pending().len()), (vec![], 1));
        user.server.then([uploads("a")]);
        assert_eq!(user.run("a.png --tier year").await.exit, Exit::Uploaded);
        assert_eq!(user.server.payments().len(), 1);
    }
    // The waits add up to at most two minutes.
    let user = User::new(std::iter::repeat_with(|| limited("50")).take(9));
    assert_eq!(user.run("a.png").await.exit, Exit::Unavailable);
    assert_eq!(waits(&user), [50, 50]);
}

#[tokio::test]
async fn a_saved_payment_survives_a_crash_and_is_sent_again() {
    let lost = std::iter::repeat_with(|| refuses(503, "settlement_pending", None)).take(20);
    let user = User::new([asks(10_000, false)].into_iter().chain(lost));
    let run = user.run("a.png --tier year").await;
    assert_eq!((run.exit, run.out.as_str()), (Exit::OutcomeUnknown, ""));
    assert!(run.err.contains("Run the same command again"));
    let waited: Duration = user.waits.lock().unwrap().iter().sum();
    assert!((120..=130).contains(&waited.as_secs()), "{waited:?}");
    let [record] = &user.pending()[..] else {
        panic!("one payment is pending")
    };
    assert_eq!(
        record.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );

    // A day later, in a new process with other randomness.
    user.clock.advance(Duration::from_hours(24));
    let asked = user.server.seen().len();
    let user = User {
        server: restart(&user.server, [uploads("a")]),
        ..user
    };
    let run = user.run("a.png --tier year").await;
    assert_eq!(
        (run.exit, run.out.as_str()),
        (Exit::Uploaded, "https://i.example.com/a.png\n")
    );
    assert!(run.err.contains("the same payment is sent again"));
    assert_eq!(user.server.seen().len(), asked + 1);
    assert_eq!(user.server.payments().len(), 1);
    assert!(user.pending().is_empty());
}

/// Replaces the responses that are left by these.
fn restart(server: &Scripted, steps: impl IntoIterator<Item = Step>) -> Scripted {
    server.clear();
    server.then(steps);
    server.clone()
}

#[tokio::test]
async fn a_killed_client_leaves_the_saved_payment() {
    let user = User::new([
        asks(10_000, false),
        refuses(503, "settlement_pending", None),
    ]);
    let args = format!(
        "upload {}/a.png --tier year --server {}",
        user.home.path().display(),
        user.server.url
    );
    let args = Command::try_parse_from(args.split(' ')).unwrap().upload;
    let pause = |_| -> LocalBoxFuture<'static, ()> { Box::pin(std::future::pending()) };
    let randomness = Randomness::seeded(99);
    let world = World {
        clock: &user.clock,
        randomness: &randomness,
        pause: &pause,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console {
        out: &mut out,
        err: &mut err,
        bar: ProgressBar::hidden(),
    };
    {
        let killed = run_in(&args, &user.env, world, &mut console);
        tokio::pin!(killed);
        // Dropped while it waits for its second attempt, like a process that is killed.
        while user.server.seen().len() < 2 {
            tokio::select! {
                _ = &mut killed => panic!("it waits"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    assert_eq!(user.pending().len(), 1);
    user.server.then([uploads("a")]);
    assert_eq!(user.run("a.png --tier year").await.exit, Exit::Uploaded);
    assert_eq!(user.server.payments().len(), 1);
}

#[tokio::test]
async fn files_paid_before_a_stop_are_not_paid_again() {
    let stop = std::iter::repeat_with(hangs_up).take(20);
    let steps = [asks(10_000, false), uploads("a"), asks(10_000, false)];
    let user = User::new(steps.into_iter().chain(stop));
    let run = user.run("a.png b.jpg --tier year").await;
    assert_eq!(
        (run.exit, run.out.as_str()),
        (Exit::OutcomeUnknown, "https://i.example.com/a.png\n")
    );
    restart(&user.server, [uploads("a"), uploads("b")]);
    let run = user.run("a.png b.jpg --tier year").await;
    let links = "https://i.example.com/a.png\nhttps://i.example.com/b.png\n";
    assert_eq!((run.exit, run.out.as_str()), (Exit::Uploaded, links));
    assert_eq!(user.server.payments().len(), 2);
    assert!(user.pending().is_empty());
}

#[tokio::test]
async fn a_link_that_could_not_be_written_is_printed_by_the_next_run() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let user = User::new([asks(10_000, false), uploads("a"), uploads("a")]);
    let args = format!(
        "upload {}/a.png --tier year --server {}",
        user.home.path().display(),
        user.server.url
    );
    let args = Command::try_parse_from(args.split(' ')).unwrap().upload;
    let randomness = Randomness::seeded(99);
    let exit = run(&args, &user.env, &user.clock, &randomness, &mut Closed).await;
    assert_eq!((exit, user.pending().len()), (Exit::Unexpected, 1));
    assert_eq!(user.run("a.png --tier year").await.exit, Exit::Uploaded);
    assert_eq!(user.server.payments().len(), 1);
}

#[tokio::test]
async fn a_lower_max_price_also_applies_to_a_saved_payment() {
    let user = User::new([asks(10_000, false), refuses(409, "payment_known", None)]);
    assert_eq!(
        user.run("a.png --tier year").await.exit,
        Exit::OutcomeUnknown
    );
    let run = user.run("a.png --tier year --max-price 0.009").await;
    assert_eq!(run.exit, Exit::NotPayable);
    assert!(run.err.contains("whether it went through is not known"));
    assert_eq!((user.server.seen().len(), user.pending().len()), (2, 1));
}

#[tokio::test]
async fn a_refused_file_is_not_charged_and_does_not_stop_the_others() {
    let user = User::new([
        asks(10_000, false),
        refuses(413, "file_too_large", Some(false)),
        asks(10_000, false),
        uploads("b"),
    ]);
    let run = user.run("a.png b.jpg --tier year").await;
    assert_eq!(
        (run.exit, run.out.as_str()),
        (Exit::FileRefused, "https://i.example.com/b.png\n")
    );
    assert!(
        run.err
            .contains("Sorry: file_too_large. Nothing was charged.")
    );
    assert!(user.pending().is_empty());

    let free = User::new([refuses(415, "unsupported_format", None)]);
    assert_eq!(free.run("a.png").await.exit, Exit::FileRefused);
}

#[tokio::test]
async fn an_error_without_charged_false_is_unknown_with_any_status() {
    for status in [200, 302, 400, 404, 409, 413, 429, 507] {
        let user = User::new([
            asks(10_000, false),
            answers(status, &json!({"error": "nginx"})),
        ]);
        let run = user.run("a.png --tier year").await;
        assert_eq!(
            (run.exit, user.pending().len()),
            (Exit::OutcomeUnknown, 1),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_payment_that_was_not_settled_yet_is_kept_for_the_next_run() {
    let busy = || refuses(503, "facilitator_unavailable", Some(false));
    let user = User::new(
        [asks(10_000, false)]
            .into_iter()
            .chain(std::iter::repeat_with(busy).take(20)),
    );
    let run = user.run("a.png --tier year").await;
    assert_eq!((run.exit, user.pending().len()), (Exit::Unavailable, 1));
    restart(
        &user.server,
        [
            refuses(402, "payment_invalid", Some(false)),
            asks(10_000, false),
            uploads("a"),
        ],
    );
    assert_eq!(
        user.run("a.png --tier year").await.exit,
        Exit::PaymentRefused
    );
    // After that final response the same command may sign another payment.
    assert_eq!(user.run("a.png --tier year").await.exit, Exit::Uploaded);
    assert_eq!(user.server.payments().len(), 2);
}

#[tokio::test]
async fn bad_payments_and_blocked_wallets_are_refused_payments() {
    for (status, code) in [
        (400, "bad_payment"),
        (403, "wallet_blocked"),
        (409, "idempotency_conflict"),
    ] {
        let user = User::new([asks(10_000, false), refuses(status, code, Some(false))]);
        assert_eq!(
            user.run("a.png --tier year").await.exit,
            Exit::PaymentRefused,
            "{code}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_down_or_busy_is_unavailable() {
    let user = User::new([refuses(429, "daily_limit", None)]);
    assert_eq!(user.run("a.png").await.exit, Exit::Unavailable);
    // The port of the discard service, where nothing listens.
    let closed = "127.0.0.1:9";
    for tier in ["free", "year"] {
        let run = user
            .run(&format!("a.png --tier {tier} --server http://{closed}"))
            .await;
        assert_eq!(run.exit, Exit::Unavailable);
        assert!(run.err.contains("can't be reached"));
    }
    assert_eq!(user.waits.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_pending_payment_stays_open_while_the_server_is_down() {
    let user = User::new([asks(10_000, false), refuses(409, "payment_known", None)]);
    assert_eq!(
        user.run("a.png --tier year").await.exit,
        Exit::OutcomeUnknown
    );
    user.server.stop().await;
    let run = user.run("a.png --tier year").await;
    assert_eq!((run.exit, user.pending().len()), (Exit::OutcomeUnknown, 1));
}

#[tokio::test]
async fn a_usage_error_is_found_before_anything_is_sent() {
    let user = User::new([]);
    for arguments in [
        "a.png absent.png",
        "a.png --server http://user:secret@127.0.0.1",
        "a.png --server ftp://127.0.0.1",
        "a.png --server http://127.0.0.1/?a=b",
        "a.png --tier token",
        "a.png --tier year --server http://img.example.com",
        "a.png --tier year --server http://192.168.0.1:4020",
    ] {
        let run = user.run(arguments).await;
        assert_eq!(run.exit, Exit::Usage, "{arguments}");
        assert!(!run.err.contains("secret"));
    }
    for arguments in [
        "upload",
        "upload a --tier Year",
        "upload a --max-price 1e3",
        "upload a --format x",
    ] {
        let error = Command::try_parse_from(arguments.split(' ')).err().unwrap();
        assert_eq!(error.exit_code(), 2);
    }
    let homeless = User {
        env: BTreeMap::new(),
        ..user
    };
    assert_eq!(homeless.run("a.png --tier year").await.exit, Exit::Usage);
    assert!(homeless.server.seen().is_empty());
}

#[tokio::test]
async fn an_unknown_tier_is_a_usage_error_and_a_redirect_unexpected() {
    let elsewhere = answers(308, &json!({})).with("Location", "/elsewhere");
    let user = User::new([refuses(404, "not_found", None), elsewhere]);
    assert_eq!(user.run("a.png --tier never").await.exit, Exit::Usage);
    assert_eq!(user.run("a.png").await.exit, Exit::Unexpected);
    assert_eq!(user.server.seen().len(), 2);
}

#[tokio::test]
async fn a_wallet_is_created_for_play_money_only() {
    let user = User::without_wallet([asks(10_000, false)]);
    let run = user.run("a.png --tier year").await;
    assert_eq!(run.exit, Exit::Usage);
    assert!(run.err.contains("--wallet FILE") && run.err.contains("PIXTOLL_WALLET_KEY"));
    let wallet = user.home.path().join(".local/share/pixtoll/wallet.key");
    assert!(!wallet.exists() && user.server.payments().is_empty());

    restart(
        &user.server,
        [
            asks(10_000, true),
            uploads("a"),
            asks(10_000, true),
            uploads("a"),
        ],
    );
    let run = user.run("a.png --tier year").await;
    assert_eq!(run.exit, Exit::Uploaded);
    assert!(
        run.err.starts_with("Created a wallet for play money: 0x"),
        "{}",
        run.err
    );
    assert_eq!(
        wallet.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    let run = user.run("a.png --tier year").await;
    assert_eq!((run.exit, run.err.as_str()), (Exit::Uploaded, ""));
    let payers = user.server.payments().into_iter().map(|payment| {
        decode_payment(payment.as_bytes())
            .unwrap()
            .authorization
            .from
    });
    let payers: std::collections::BTreeSet<_> = payers.collect();
    assert_eq!(payers.len(), 1);
}

#[tokio::test]
async fn a_dry_run_pays_uploads_and_creates_nothing() {
    let user = User::without_wallet([asks(10_000, true), asks(50_001, true)]);
    let run = user.run("a.png --tier year --dry-run").await;
    assert_eq!((run.exit, run.out.as_str()), (Exit::Uploaded, ""));
    assert!(run.err.ends_with(
        "a.png: would pay 0.01 USDC of play money on base-sepolia to \
         0x2222222222222222222222222222222222222222.\n"
    ));
    assert_eq!(
        user.run("a.png --tier year --dry-run").await.exit,
        Exit::NotPayable
    );
    assert_eq!(user.run("a.png --dry-run").await.exit, Exit::Uploaded);
    let seen = user.server.seen();
    assert!(seen.len() == 2 && seen.iter().all(|seen| seen.body.is_empty()));
    assert!(!user.home.path().join(".local").exists());
}

#[test]
fn the_help_lists_every_exit_code() {
    let help = <Command as clap::CommandFactory>::command()
        .render_long_help()
        .to_string();
    for code in 0..=7 {
        assert!(help.contains(&format!("\n  {code}  ")), "{help}");
    }
    assert!(help.contains("PIXTOLL_WALLET_KEY"));
    assert_eq!(Exit::Unavailable.code(), 7);
}

/// A price table with the tier year.
fn table() -> Step {
    answers(200, &json!({"tiers": [{"name": "year", "maxBytes": 5000}]}))
}

/// The response with a token for this many uploads.
fn sells(digit: &str, uploads: u64) -> Step {
    answers(200, &json!({"token": digit.repeat(40), "uploads": uploads}))
}

/// Makes the user's files images, and gives the server a price table.
fn images(user: &User) {
    user.server.lists(table());
    for name in ["a.png", "b.jpg"] {
        let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
        let bytes = STANDARD.decode(png).unwrap();
        std::fs::write(user.home.path().join(name), [bytes, name.into()].concat()).unwrap();
    }
}

#[tokio::test]
async fn an_expired_token_is_replaced_with_the_same_payment() {
    let user = User::new([
        asks(20_000, false),
        sells("a", 2),
        uploads("one"),
        refuses(410, "token_expired", Some(false)),
        sells("b", 1),
        uploads("two"),
    ]);
    images(&user);
    let run = user.run("a.png b.jpg --tier year").await;
    assert_eq!(run.exit, Exit::Uploaded, "{}", run.err);
    assert_eq!(
        run.out,
        "https://i.example.com/one.png\nhttps://i.example.com/two.png\n"
    );
    assert_eq!(user.server.payments().len(), 1);
    let paths: Vec<String> = user.server.seen().into_iter().map(|it| it.path).collect();
    let token = "/api/upload/token/year";
    let upload = "/api/upload";
    assert_eq!(paths, [token, token, upload, upload, token, upload]);
    assert!(user.pending().is_empty());
}

#[tokio::test]
async fn the_payment_of_an_unfinished_bundle_is_kept_for_the_next_run() {
    let user = User::new([
        asks(20_000, false),
        sells("a", 2),
        refuses(422, "content_blocked", Some(false)),
        uploads("two"),
    ]);
    images(&user);
    let run = user.run("a.png b.jpg --tier year").await;
    assert_eq!(run.exit, Exit::OutcomeUnknown);
    assert_eq!(run.out, "https://i.example.com/two.png\n");
    assert!(run.err.contains("These files are paid for"), "{}", run.err);
    assert_eq!(user.pending().len(), 1);
    let again = [sells("a", 1), uploads("one"), uploads("two")];
    user.server.clear();
    user.server.then(again);
    let run = user.run("a.png b.jpg --tier year").await;
    assert_eq!(run.exit, Exit::Uploaded, "{}", run.err);
    assert_eq!(user.server.payments().len(), 1);
    assert!(user.pending().is_empty());
}

const VIEWER: &str = "0x2222222222222222222222222222222222222222";

#[tokio::test]
async fn an_address_is_fetched_and_uploaded_like_a_file() {
    let user = User::new([answers(200, &json!("picture")), uploads("a")]);
    let run = user.run(&format!("{}/x.png?key=k", user.server.url)).await;
    assert_eq!(
        (run.exit, run.out.as_str()),
        (Exit::Uploaded, "https://i.example.com/a.png\n")
    );
    let seen = user.server.seen();
    assert_eq!((&*seen[0].method, &*seen[0].path), ("GET", "/x.png"));
    assert_eq!((&*seen[1].method, &*seen[1].path), ("POST", "/api/free"));
    assert_eq!(seen[1].body, "\"picture\"");
    assert_eq!(seen[1].content_type.as_deref(), Some("image/unknown"));
}

#[tokio::test]
async fn an_address_beyond_the_limit_of_the_tier_is_refused_before_paying() {
    let user = User::new([answers(200, &json!("x".repeat(4999)))]);
    user.server.lists(table());
    let run = user
        .run(&format!("{}/x.png a.png --tier year", user.server.url))
        .await;
    assert_eq!((run.exit, run.out.as_str()), (Exit::Usage, ""));
    let expected = "larger than 5000 bytes, the limit of the tier year";
    assert!(run.err.contains(expected), "{}", run.err);
    assert_eq!(user.server.seen().len(), 1);
}

#[tokio::test]
async fn standard_input_is_named_once() {
    let user = User::new([]);
    let run = user.run("- a.png -").await;
    assert_eq!(run.exit, Exit::Usage);
    assert!(run.err.contains("named twice"), "{}", run.err);
}

#[tokio::test]
async fn a_private_upload_says_so_in_each_of_its_requests() {
    let options = format!("a.png --tier year --private --viewer {VIEWER}");
    let query = format!("visibility=private&viewer={VIEWER}");
    let user = User::new([asks(10_000, false), uploads("a"), uploads("b")]);
    assert_eq!(user.run(&options).await.exit, Exit::Uploaded);
    assert_eq!(user.run("a.png --private").await.exit, Exit::Uploaded);
    let seen = user.server.seen();
    let queries: Vec<&str> = seen.iter().map(|seen| seen.query.as_str()).collect();
    let asked = format!("{query}&bytes=14");
    assert_eq!(queries, [&*asked, &*query, "visibility=private"]);
    let alone = ["upload", "a.png", "--viewer", VIEWER];
    assert!(Command::try_parse_from(alone).is_err());
    let bad = ["upload", "a.png", "--private", "--viewer", "0x22"];
    assert!(Command::try_parse_from(bad).is_err());
}

#[tokio::test]
async fn a_private_upload_never_continues_with_the_payment_of_a_public_one() {
    let unclear = || refuses(402, "payment_failed", None);
    let user = User::new([
        asks(10_000, false),
        unclear(),
        asks(10_000, false),
        unclear(),
    ]);
    for options in ["a.png --tier year", "a.png --tier year --private"] {
        assert_eq!(user.run(options).await.exit, Exit::OutcomeUnknown);
    }
    assert_eq!(user.server.payments().len(), 2);
    assert_eq!(user.pending().len(), 2);
}

#[tokio::test]
async fn a_token_is_bought_as_ever_and_its_uploads_are_private() {
    let user = User::new([
        asks(20_000, false),
        sells("a", 2),
        uploads("one"),
        uploads("two"),
    ]);
    images(&user);
    let run = user.run("a.png b.jpg --tier year --private").await;
    assert_eq!(run.exit, Exit::Uploaded, "{}", run.err);
    let seen = user.server.seen();
    let queries: Vec<&str> = seen.iter().map(|seen| seen.query.as_str()).collect();
    let private = "visibility=private";
    assert_eq!(queries, ["images=2", "images=2", private, private]);
}

#[tokio::test]
async fn delete_tokens_are_kept_privately() {
    let body = json!({"url": "https://i.example.com/a.png", "id": "k3v9Qw2mZr7T", "deleteToken": "secret-token"});
    let user = User::new([answers(200, &body), answers(200, &body)]);
    let run = user.run("a.png").await;
    assert_eq!((run.exit, run.err.as_str()), (Exit::Uploaded, ""));
    let dir = user.home.path().join(".local/share/pixtoll/uploads");
    let [file] = &dir.read_dir().unwrap().collect::<Vec<_>>()[..] else {
        panic!("one token is kept")
    };
    let file = file.as_ref().unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(kept, "secret-token");
    // A folder that can't be written fails no upload.
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "in the way").unwrap();
    let run = user.run("a.png").await;
    assert_eq!(run.exit, Exit::Uploaded);
    assert!(run.err.contains("can't be used"), "{}", run.err);
    assert!(!run.err.contains("secret-token"), "{}", run.err);
}

/// Gives the user a desktop whose clipboard is a file in the home directory.
fn desktop(user: &mut User) -> PathBuf {
    let folder = user.home.path().join("bin");
    std::fs::create_dir(&folder).unwrap();
    let xclip = folder.join("xclip");
    let script = "#!/bin/sh\ncase \"$*\" in\n*TARGETS) echo image/png ;;\n*-in) cat >\"$HOME/board\" ;;\n\
                  *) cat \"$HOME/board\" ;;\nesac\n";
    std::fs::write(&xclip, script).unwrap();
    std::fs::set_permissions(&xclip, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.display());
    user.env.insert("PATH".to_owned(), path);
    user.env.insert("DISPLAY".to_owned(), ":0".to_owned());
    user.home.path().join("board")
}

#[tokio::test]
async fn the_clipboard_is_uploaded_and_receives_the_links() {
    let mut user = User::new([uploads("one"), uploads("two")]);
    let board = desktop(&mut user);
    std::fs::write(&board, "copied picture").unwrap();
    let run = user.run("a.png --clipboard --copy").await;
    assert_eq!(run.exit, Exit::Uploaded, "{}", run.err);
    let seen = user.server.seen();
    assert_eq!(seen[0].body, "bytes of a.png");
    assert_eq!(seen[1].body, "copied picture");
    let copied = std::fs::read_to_string(&board).unwrap();
    assert_eq!(format!("{copied}\n"), run.out);
}

#[tokio::test]
async fn without_a_desktop_nothing_is_uploaded() {
    let user = User::new([]);
    for options in ["a.png --copy", "--clipboard"] {
        let run = user.run(options).await;
        assert_eq!((run.exit, run.out.as_str()), (Exit::Usage, ""), "{options}");
        assert!(run.err.contains("DISPLAY"), "{}", run.err);
    }
    assert!(user.server.seen().is_empty());
    assert!(Command::try_parse_from(["upload"]).is_err());
}

#[tokio::test]
async fn json_is_a_format() {
    let user = User::new([uploads("a"), uploads("a")]);
    let long = user.run("a.png --format json").await;
    let short = user.run("a.png --json").await;
    assert_eq!(long.out, short.out);
    let both = ["upload", "a.png", "--json", "--format", "url"];
    assert!(Command::try_parse_from(both).is_err());
}
