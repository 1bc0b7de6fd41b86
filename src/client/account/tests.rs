use serde_json::{Value, json};

use super::*;
use crate::client::scripted::{Scripted, Seen, Step, answers, challenges, refuses};
use crate::evm::exact;

const KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const WALLET: &str = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";

fn image(text: &str) -> ImageId {
    ImageId::parse(text).unwrap()
}

/// An account with the well-known test key at a server with these responses.
fn account(server: &Scripted) -> Account {
    drop(rustls::crypto::ring::default_provider().install_default());
    let env = BTreeMap::from([("PIXTOLL_WALLET_KEY".to_owned(), KEY.to_owned())]);
    let url = Url::parse(&server.url).unwrap();
    Account::new(&url, None, &env).unwrap()
}

/// Answers with the challenge of this route, and then with `last`.
fn after_sign_in(server: &Scripted, route: &str, last: Step) {
    server.then([challenges(&format!("{}{route}", server.url)), last]);
}

/// Checks that a request was signed by the wallet, for its own URL without the query.
fn assert_signed(server: &Scripted, seen: &Seen) {
    let message = SignedMessage::decode(seen.sign_in.as_ref().unwrap().as_bytes()).unwrap();
    assert_eq!(message.uri, format!("{}{}", server.url, seen.path));
    assert_eq!(message.address, WALLET);
    let signature = message.signature().unwrap();
    let signer = exact::recover(&message.hash(), &signature);
    assert_eq!(signer, message.wallet());
}

#[tokio::test]
async fn the_first_page_signs_in_and_the_next_one_needs_no_signature() {
    let server = Scripted::start([]);
    let page = |next: Value| answers(200, &json!({"images": [{"id": "a"}, 7], "next": next}));
    after_sign_in(&server, "/api/images", page(json!("c&1")));
    server.then([page(Value::Null)]);
    let account = account(&server);
    let first = account.images(2, None).await.unwrap();
    assert_eq!((first.items.len(), first.next.as_deref()), (1, Some("c&1")));
    let last = account.images(2, first.next.as_deref()).await.unwrap();
    assert_eq!(last.next, None);
    let seen = server.seen();
    let queries: Vec<&str> = seen.iter().map(|seen| seen.query.as_str()).collect();
    assert_eq!(queries, ["limit=2", "limit=2", "limit=2&after=c%261"]);
    assert!(seen[0].sign_in.is_none() && seen[2].sign_in.is_none());
    assert_signed(&server, &seen[1]);
}

#[tokio::test]
async fn each_request_has_its_method_and_its_route() {
    let server = Scripted::start([]);
    let account = account(&server);
    let id = image("k3v9Qw2mZr7T");
    let ok = || answers(200, &json!({"id": "x"}));
    let link = Url::parse(&format!("{}/u/secret", server.url)).unwrap();
    server.then((0..11).map(|_| ok()));
    account.receipts(&id, Some("token")).await.unwrap();
    account.delete_with(&id, "token").await.unwrap();
    account.share(&id, Some(60), None).await.unwrap();
    account.unshare(&id, None).await.unwrap();
    account.link(&link).await.unwrap();
    account.revoke_with(&link).await.unwrap();
    account.revoke_link("l1").await.unwrap();
    account.create_key(Some("ci"), Some(5)).await.unwrap();
    account.suspend_key("k1").await.unwrap();
    account.resume_key("k1").await.unwrap();
    account.revoke_key("k1").await.unwrap();
    let seen = server.seen();
    let calls: Vec<String> = seen
        .iter()
        .map(|seen| format!("{} {}", seen.method, seen.path))
        .collect();
    assert_eq!(
        calls,
        [
            "GET /api/receipts/k3v9Qw2mZr7T",
            "DELETE /api/images/k3v9Qw2mZr7T",
            "POST /api/images/k3v9Qw2mZr7T/links",
            "DELETE /api/images/k3v9Qw2mZr7T/links",
            "GET /u/secret",
            "DELETE /u/secret",
            "DELETE /api/links/l1",
            "POST /api/keys",
            "POST /api/keys/k1/suspend",
            "POST /api/keys/k1/resume",
            "DELETE /api/keys/k1",
        ]
    );
    assert_eq!(seen[0].delete_token.as_deref(), Some("token"));
    assert_eq!(seen[1].delete_token.as_deref(), Some("token"));
    let body = |at: usize| serde_json::from_slice::<Value>(&seen[at].body).unwrap();
    assert_eq!(body(2), json!({"expiresInSeconds": 60}));
    assert_eq!(body(7), json!({"name": "ci", "uploadsPerDay": 5}));
    // No route asked to sign in, so no message was signed.
    assert!(seen.iter().all(|seen| seen.sign_in.is_none()));
}

#[tokio::test]
async fn images_are_deleted_a_hundred_at_a_time() {
    let server = Scripted::start([]);
    let ids: Vec<ImageId> = (0..101).map(|at| image(&format!("image{at:07}"))).collect();
    after_sign_in(&server, "/api/images", answers(200, &json!({})));
    let last = format!("/api/images/{}", ids[100]);
    after_sign_in(&server, &last, refuses(403, "not_owner", None));
    let mut done = 0;
    let deleted = &mut |part: &[ImageId]| {
        done += part.len();
        Ok(())
    };
    let refused = account(&server).delete(&ids, deleted).await.unwrap_err();
    assert!(
        matches!(&refused, Failure::Refused { code, .. } if code == "not_owner"),
        "{refused}"
    );
    assert_eq!(done, 100);
    let seen = server.seen();
    let sent: Value = serde_json::from_slice(&seen[1].body).unwrap();
    assert_eq!(sent["ids"].as_array().unwrap().len(), 100);
    assert_signed(&server, &seen[1]);
    assert_signed(&server, &seen[3]);
}

#[tokio::test]
async fn a_challenge_for_another_route_or_server_is_not_signed() {
    for route in ["/api/images/k3v9Qw2mZr7T", "/api/claims"] {
        let server = Scripted::start([]);
        after_sign_in(&server, route, answers(200, &json!({"keys": []})));
        let refused = account(&server).keys().await.unwrap_err();
        assert!(matches!(refused, Failure::Usage(_)), "{refused}");
        assert!(refused.to_string().contains(route), "{refused}");
    }
    let server = Scripted::start([challenges("https://evil.example:1/api/keys")]);
    let refused = account(&server).keys().await.unwrap_err().to_string();
    assert!(refused.contains("https://evil.example:1/"), "{refused}");
    assert!(server.seen().iter().all(|seen| seen.sign_in.is_none()));
}

#[tokio::test]
async fn failures_keep_their_exit_codes() {
    for (step, is_expected) in [
        (
            refuses(404, "not_found", None),
            (|it| matches!(it, Failure::Refused { code, .. } if code == "not_found"))
                as fn(&Failure) -> bool,
        ),
        (refuses(401, "bad_delete_token", None), |it| {
            matches!(it, Failure::Refused { .. })
        }),
        (refuses(429, "rate_limited", None), |it| {
            matches!(it, Failure::Unavailable(_))
        }),
        (refuses(503, "busy", None), |it| {
            matches!(it, Failure::Unavailable(_))
        }),
        (answers(302, &json!({})), |it| {
            matches!(it, Failure::Unexpected(_))
        }),
        (answers(200, &json!([])), |it| {
            matches!(it, Failure::Unexpected(_))
        }),
    ] {
        let server = Scripted::start([step]);
        let failed = account(&server).keys().await.unwrap_err();
        assert!(is_expected(&failed), "{failed:?}");
    }
    // Without a wallet nothing is signed.
    let server = Scripted::start([]);
    after_sign_in(&server, "/api/keys", answers(200, &json!({"keys": []})));
    let url = Url::parse(&server.url).unwrap();
    let nobody = Account::new(&url, None, &BTreeMap::new()).unwrap();
    let failed = nobody.keys().await.unwrap_err().to_string();
    assert!(failed.contains("--wallet FILE"), "{failed}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn signatures_tokens_and_links_are_not_sent_without_tls() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let open = Url::parse("http://img.example.com").unwrap();
    let account = Account::new(&open, None, &BTreeMap::new()).unwrap();
    assert!(matches!(account.keys().await, Err(Failure::Usage(_))));
    for link in [
        "http://img.example.com/u/secret",
        "ftp://img.example.com/u/secret",
        "https://a:b@c/u/secret",
    ] {
        let refused = account.link(&Url::parse(link).unwrap()).await.unwrap_err();
        assert!(matches!(refused, Failure::Usage(_)));
        assert!(!refused.to_string().contains("u/secret"), "{refused}");
    }
}
