//! Reports of images: they become cases, remove nothing by themselves, and an uploader may object.

use std::time::Duration;

use pixtoll::db::reports;
use pixtoll::model::ids::ImageId;
use pixtoll::model::removal::Ground;
use pixtoll::model::report::{CaseState, Kind, Reason};
use pixtoll::system::clock::Clock;
use pixtoll::trust::{ActError, BlockOf, By};
use serde_json::{Value, json};

use crate::recover::sign;
use crate::support::database::number;
use crate::support::signing::wallet;
use crate::support::{Answer, TestApp, pictures};

const DAY: Duration = Duration::from_hours(24);

/// A server that believes the addresses of clients that its proxy names.
async fn behind_a_proxy() -> TestApp {
    TestApp::builder()
        .set("http.trusted_proxies", "127.0.0.0/8")
        .spawn()
        .await
}

impl TestApp {
    async fn report_from(&self, client: &str, body: &Value) -> Answer {
        let headers = [
            ("x-forwarded-for", client),
            ("content-type", "application/json"),
        ];
        self.send("POST", "/api/abuse", &headers, body.to_string())
            .await
    }

    async fn report(&self, body: &Value) -> Answer {
        self.report_from("203.0.113.7", body).await
    }

    /// Decides a case as `pixtoll admin` does.
    async fn decide(&self, case: &str, state: CaseState) {
        let by = By::new("ada", "looked at it").unwrap();
        let trust = &self.app.trust;
        for is_first in [true, false] {
            let decided = match state {
                CaseState::Upheld => {
                    trust
                        .uphold(case, Ground::Policy, None, &[BlockOf::Content], &by)
                        .await
                }
                CaseState::Open | CaseState::Dismissed => trust.dismiss(case, &by).await,
            };
            match decided {
                Ok(()) => assert!(is_first),
                Err(ActError::Decided(_)) => assert!(!is_first),
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn object_to(&self, case: &str, token: &str, body: &Value) -> Answer {
        let path = format!("/api/abuse/{case}");
        self.send(
            "POST",
            &path,
            &[("X-Delete-Token", token)],
            body.to_string(),
        )
        .await
    }
}

impl TestApp {
    /// Checks what everybody is told of a case.
    async fn assert_case(&self, case: &str, image_state: &str, next: &str) {
        let shown = self.get(&format!("/api/abuse/{case}")).await;
        assert_eq!(shown.field("imageState"), image_state);
        assert!(shown.field("next").contains(next), "{}", shown.text());
    }
}

fn objection() -> Value {
    json!({"name": "Uma Uploader", "address": "1 Main Street", "contact": "uma@example.org", "sworn": true})
}

#[tokio::test]
async fn reports_of_one_image_are_one_case_and_remove_nothing() {
    let app = behind_a_proxy().await;
    let uploaded = app.upload_free(pictures::png(4, 4)).await;
    let (id, url) = (uploaded.field("id"), uploaded.field("url"));
    let first = app
        .report(&json!({"image": url, "reason": "harassment", "details": "me,\nagain", "contact": "rita@example.org"}))
        .await;
    assert_eq!(first.status, 200, "{}", first.text());
    let case = first.field("case");
    assert_eq!(case.len(), 16);
    assert_eq!(
        (first.field("image"), first.field("state")),
        (id.clone(), "open".to_owned())
    );
    assert!(first.field("next").contains(&case), "{}", first.text());

    // Five more from the same network, one from another, and a graver one from a third.
    for last in 8..13 {
        let client = format!("203.0.113.{last}");
        let again = app
            .report_from(&client, &json!({"image": id, "reason": "other"}))
            .await;
        assert_eq!(again.field("case"), case);
    }
    for (client, reason) in [("198.51.100.1", "copyright"), ("2001:db8:1::1", "csam")] {
        let other = app
            .report_from(client, &json!({"image": url, "reason": reason}))
            .await;
        assert_eq!(other.field("case"), case, "{}", other.text());
    }
    let found = reports::find(app.db(), &case).await.unwrap().unwrap();
    assert_eq!((found.reports, found.networks), (8, 3));
    assert_eq!(found.reason, Reason::Csam);
    // Three reports of the first network are kept with their words, and those of the others.
    let kept = reports::reports_of(app.db(), &case).await.unwrap();
    assert_eq!(kept.len(), 5);
    assert_eq!(kept[0].kind, Kind::Report(Reason::Harassment));
    assert_eq!(kept[0].details, "me,\nagain");
    assert_eq!(kept[0].contact.as_deref(), Some("rita@example.org"));
    assert_eq!(app.get(&url).await.status, 200);

    let shown = app.get(&format!("/api/abuse/{case}")).await;
    assert_eq!(
        (shown.status, shown.field("state")),
        (200, "open".to_owned())
    );
    assert!(!shown.text().contains("rita"), "{}", shown.text());

    // After the decision, another report opens another case.
    app.decide(&case, CaseState::Dismissed).await;
    let shown = app.get(&format!("/api/abuse/{case}")).await;
    assert_eq!(shown.field("state"), "dismissed");
    let later = app.report(&json!({"image": id, "reason": "other"})).await;
    assert_ne!(later.field("case"), case);
}

#[tokio::test]
async fn the_queue_begins_with_what_is_gravest() {
    let app = behind_a_proxy().await;
    let mut filed = Vec::new();
    for (seed, reason) in [
        (1, "other"),
        (2, "copyright"),
        (3, "csam"),
        (4, "copyright"),
    ] {
        let image = app.upload_free(pictures::png_seeded(4, 4, seed)).await;
        let body = json!({"image": image.field("id"), "reason": reason});
        filed.push((app.report(&body).await.field("case"), body));
        app.advance(Duration::from_secs(1));
    }
    // The younger case of copyright was reported by two networks.
    app.report_from("198.51.100.1", &filed[3].1).await;
    let queue = reports::queue(app.db(), 10).await.unwrap();
    let order: Vec<&str> = queue.iter().map(|case| &*case.id).collect();
    let expected = [2, 3, 1, 0].map(|place: usize| &*filed[place].0);
    assert_eq!(order, expected);
    let newest = reports::page_before(app.db(), app.clock.now(), 2)
        .await
        .unwrap();
    let newest: Vec<&str> = newest.iter().map(|case| &*case.id).collect();
    assert_eq!(newest, [3, 2].map(|place: usize| &*filed[place].0));
}

#[tokio::test]
async fn reports_that_say_too_little_or_too_much_are_refused() {
    let app = behind_a_proxy().await;
    let id = app.upload_free(pictures::png(4, 4)).await.field("id");
    let sworn =
        json!({"name": "Rita", "work": "My photograph", "address": "2 Main Street", "sworn": true});
    let with = |name: &str, value: Value| {
        let mut body = json!({"image": id, "reason": "copyright", "contact": "rita@example.org", "notice": sworn});
        body[name] = value;
        body
    };
    let unsworn = json!({"name": "Rita", "work": "It", "address": "There", "sworn": false});
    for (body, said) in [
        (json!({}), "Send {\\\"image\\\""),
        (json!({"image": id}), "of the expected form"),
        (
            json!({"image": "https://example.org/", "reason": "other"}),
            "neither a link",
        ),
        (
            json!({"image": id, "reason": "spam"}),
            "Send one of: csam, ncii",
        ),
        (json!(["image", id]), "not a JSON object"),
        (with("details", "x".repeat(4001).into()), "details has 4001"),
        (with("details", "a\u{7}b".into()), "control characters"),
        (with("contact", "x".into()), "contact has 1"),
        (with("contact", Value::Null), "needs contact"),
        (
            with("reason", "other".into()),
            "notice is for reports of copyright",
        ),
        (with("notice", unsworn), "notice.sworn is false"),
    ] {
        let answer = app.report(&body).await;
        assert_eq!(
            (answer.status, answer.field("error")),
            (400, "invalid_body".to_owned()),
            "{body}"
        );
        assert!(answer.text().contains(said), "{body}: {}", answer.text());
    }
    let unknown = app
        .report(&json!({"image": "zzzzzzzzzzzz", "reason": "other"}))
        .await;
    assert_eq!(
        (unknown.status, unknown.field("error")),
        (404, "not_found".to_owned())
    );
    assert_eq!(app.rows("cases").await, 0);

    let plain = app
        .report(&json!({"image": id, "reason": "copyright"}))
        .await;
    assert!(
        plain.field("next").contains("formal notice"),
        "{}",
        plain.text()
    );
    let formal = app.report(&with("details", "it is mine".into())).await;
    assert_eq!(formal.status, 200, "{}", formal.text());
    assert!(
        !formal.field("next").contains("formal notice"),
        "{}",
        formal.text()
    );
    let kept = reports::reports_of(app.db(), &formal.field("case"))
        .await
        .unwrap();
    let statement: Value = serde_json::from_str(kept[1].statement.as_deref().unwrap()).unwrap();
    assert_eq!(statement, sworn);
}

#[tokio::test]
async fn a_private_image_is_reported_by_who_saw_it() {
    let app = behind_a_proxy().await;
    let uploaded = app
        .upload_at("/api/free?visibility=private", pictures::png(4, 4))
        .await;
    let by_id = app
        .report(&json!({"image": uploaded.field("id"), "reason": "ncii"}))
        .await;
    assert_eq!(
        (by_id.status, by_id.field("error")),
        (404, "not_found".to_owned())
    );
    let link = app
        .send(
            "POST",
            &format!("/api/images/{}/links", uploaded.field("id")),
            &[("X-Delete-Token", uploaded.field("deleteToken"))],
            r#"{"expiresInSeconds": 60}"#,
        )
        .await
        .field("url");
    app.advance(Duration::from_secs(120));
    assert_eq!(app.get(&link).await.status, 404);
    let by_link = app.report(&json!({"image": link, "reason": "ncii"})).await;
    assert_eq!(by_link.status, 200, "{}", by_link.text());
    let forged = link.replace("sig=", "sig=0");
    let by_forged = app
        .report(&json!({"image": forged, "reason": "ncii"}))
        .await;
    assert_eq!(by_forged.status, 404);
}

#[tokio::test]
async fn the_words_of_a_flood_are_bounded_and_an_address_is_limited() {
    let app = behind_a_proxy().await;
    let id = app.upload_free(pictures::png(4, 4)).await.field("id");
    let body = json!({"image": id, "reason": "other"});
    let mut case = String::new();
    for network in 0..110 {
        let answer = app.report_from(&format!("10.0.{network}.1"), &body).await;
        case = answer.field("case");
    }
    let found = reports::find(app.db(), &case).await.unwrap().unwrap();
    assert_eq!((found.reports, found.networks), (110, 100));
    assert_eq!(app.rows("reports").await, 100);

    for _ in 0..60 {
        assert_eq!(app.report_from("192.0.2.1", &body).await.status, 200);
    }
    let limited = app.report_from("192.0.2.1", &body).await;
    assert_eq!(
        (limited.status, limited.field("error")),
        (429, "rate_limited".to_owned())
    );
    assert!(
        limited.text().contains("60 reports an hour"),
        "{}",
        limited.text()
    );
}

#[tokio::test]
async fn an_uploader_objects_once_to_a_removal() {
    let app = behind_a_proxy().await;
    let uploaded = app.upload_free(pictures::png(4, 4)).await;
    let token = uploaded.field("deleteToken");
    let case = app
        .report(&json!({"image": uploaded.field("id"), "reason": "copyright"}))
        .await
        .field("case");
    let early = app.object_to(&case, &token, &objection()).await;
    assert_eq!(
        (early.status, early.field("error")),
        (409, "case_not_upheld".to_owned())
    );
    app.decide(&case, CaseState::Upheld).await;

    let stranger = app.object_to(&case, &"0".repeat(40), &objection()).await;
    assert_eq!(
        stranger.field("error"),
        "bad_delete_token",
        "{}",
        stranger.text()
    );
    let mut unsworn = objection();
    unsworn["sworn"] = false.into();
    let unsworn = app.object_to(&case, &token, &unsworn).await;
    assert!(
        unsworn.text().contains("sworn is false"),
        "{}",
        unsworn.text()
    );

    let objected = app.object_to(&case, &token, &objection()).await;
    assert_eq!(objected.status, 200, "{}", objected.text());
    assert_eq!(objected.field("objectedAt"), app.clock.now().to_string());
    assert!(
        objected.field("next").contains("10 to 14 business days"),
        "{}",
        objected.text()
    );
    let kept = reports::reports_of(app.db(), &case).await.unwrap();
    assert_eq!(kept.last().unwrap().kind, Kind::CounterNotice);
    assert_eq!(
        kept.last().unwrap().contact.as_deref(),
        Some("uma@example.org")
    );
    let shown = app.app.trust.reported(&case).await.unwrap();
    assert_eq!(shown.image_state, "removed");
    assert!(shown.restore_between.is_some());
    let twice = app.object_to(&case, &token, &objection()).await;
    assert_eq!(twice.field("error"), "case_not_upheld");

    // After the restore, nothing promises another one.
    app.advance(Duration::from_secs(60));
    let by = By::new("ada", "no court was asked").unwrap();
    let id = ImageId::parse(&uploaded.field("id")).unwrap();
    app.app.trust.restore(&id, &by).await.unwrap();
    app.assert_case(&case, "served", "the operator has restored it")
        .await;
    let shown = app.app.trust.reported(&case).await.unwrap();
    assert_eq!((shown.image_state, shown.restore_between), ("served", None));
    let page = app.get(&format!("/abuse/{case}")).await.text();
    assert!(
        page.contains("The image was removed, and is restored"),
        "{page}"
    );

    // A later removal is of another cause.
    app.advance(Duration::from_secs(1));
    app.app
        .trust
        .remove(&id, Ground::Policy, None, &[], &by)
        .await
        .unwrap();
    app.assert_case(&case, "removed", "removed for another cause")
        .await;
    let shown = app.app.trust.reported(&case).await.unwrap();
    assert_eq!(
        (shown.image_state, shown.restore_between),
        ("removed", None)
    );

    let unknown = app
        .object_to("0123456789abcdef", &token, &objection())
        .await;
    assert_eq!(
        (unknown.status, unknown.field("error")),
        (404, "case_unknown".to_owned())
    );
}

#[tokio::test]
async fn an_objection_is_for_a_removal_for_copyright_that_lasts() {
    let app = behind_a_proxy().await;
    let refused = async |case: &str, token: &str, said: &str| {
        let answer = app.object_to(case, token, &objection()).await;
        assert_eq!(
            (answer.status, answer.field("error")),
            (409, "case_not_objectable".to_owned())
        );
        assert_eq!(answer.json()["action"]["type"], "contact");
        assert!(answer.text().contains(said), "{}", answer.text());
        let found = reports::find(app.db(), case).await.unwrap().unwrap();
        assert_eq!(found.countered_at, None);
    };
    let upheld = async |reason: &str, seed| {
        let uploaded = app.upload_free(pictures::png_seeded(4, 4, seed)).await;
        let body = json!({"image": uploaded.field("id"), "reason": reason});
        let case = app.report(&body).await.field("case");
        app.decide(&case, CaseState::Upheld).await;
        let id = ImageId::parse(&uploaded.field("id")).unwrap();
        (case, id, uploaded.field("deleteToken"))
    };
    let by = By::new("ada", "a test").unwrap();

    let (case, _, token) = upheld("csam", 1).await;
    refused(&case, &token, "not upheld for copyright").await;
    app.assert_case(&case, "removed", "write to the operator")
        .await;

    let (case, id, token) = upheld("copyright", 2).await;
    app.assert_case(&case, "removed", "object with POST").await;
    app.app.trust.restore(&id, &by).await.unwrap();
    refused(&case, &token, "is served again").await;
    app.advance(Duration::from_secs(1));
    let trust = &app.app.trust;
    trust
        .remove(&id, Ground::Policy, None, &[], &by)
        .await
        .unwrap();
    refused(&case, &token, "removed for another cause").await;

    let (case, id, token) = upheld("copyright", 3).await;
    let path = format!("/api/images/{id}");
    let deleted = app
        .send("DELETE", &path, &[("X-Delete-Token", &token)], "")
        .await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    refused(&case, &token, "is deleted").await;
    app.assert_case(&case, "deleted", "does not come back")
        .await;
    let page = app.get(&format!("/abuse/{case}")).await.text();
    assert!(page.contains("The image is deleted"), "{page}");
}

#[tokio::test]
async fn an_upheld_case_leaves_a_legal_removal_as_it_is() {
    let app = behind_a_proxy().await;
    let by = By::new("ada", "court order 4711").unwrap();
    for (seed, removed, upheld, status) in [
        (1, Some(Ground::Legal), Ground::Policy, 451),
        (2, Some(Ground::Policy), Ground::Legal, 451),
        (3, Some(Ground::Policy), Ground::Policy, 404),
        (4, None, Ground::Policy, 404),
        (5, None, Ground::Legal, 451),
    ] {
        let uploaded = app.upload_free(pictures::png_seeded(4, 4, seed)).await;
        let id = ImageId::parse(&uploaded.field("id")).unwrap();
        let body = json!({"image": uploaded.field("id"), "reason": "other"});
        let case = app.report(&body).await.field("case");
        let trust = &app.app.trust;
        if let Some(ground) = removed {
            trust.remove(&id, ground, None, &[], &by).await.unwrap();
        }
        trust.uphold(&case, upheld, None, &[], &by).await.unwrap();
        let link = app.get(&uploaded.field("url")).await;
        assert_eq!(link.status, status, "{removed:?}, {upheld:?}");
        // An explicit removal takes the new ground.
        trust
            .remove(&id, Ground::Policy, None, &[], &by)
            .await
            .unwrap();
        assert_eq!(app.get(&uploaded.field("url")).await.status, 404);
    }
}

#[tokio::test]
async fn the_wallet_of_an_image_objects_by_signing_in() {
    let app = TestApp::spawn().await;
    let payer = wallet(21);
    let payment = sign(&app, "/api/upload", &payer).await;
    let image = app.pay_with(&payment, &pictures::png(4, 4)).await;
    assert_eq!(image.status, 200, "{}", image.text());
    let case = app
        .report(&json!({"image": image.field("id"), "reason": "copyright"}))
        .await
        .field("case");
    app.decide(&case, CaseState::Upheld).await;
    let path = format!("/api/abuse/{case}");
    for (signer, status) in [(wallet(22), 403), (payer.clone(), 200)] {
        let answer = app
            .as_wallet("POST", &path, &objection().to_string(), &signer)
            .await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let upheld = reports::count_upheld(app.db(), &payer.address().to_checksum(None)).await;
    assert_eq!(upheld.unwrap(), 1);
}

#[tokio::test]
async fn cases_are_erased_with_all_that_people_wrote() {
    let app = behind_a_proxy().await;
    let id = app.upload_free(pictures::png(4, 4)).await.field("id");
    let case = app
        .report(&json!({"image": id, "reason": "other", "contact": "rita@example.org"}))
        .await
        .field("case");
    app.app.retention.reap().await.unwrap();
    let hashes = "SELECT COUNT(*) FROM reports WHERE network IS NOT NULL";
    assert_eq!(number(app.db(), hashes).await, 1);
    app.advance(3 * DAY);
    app.app.retention.reap().await.unwrap();
    assert_eq!(number(app.db(), hashes).await, 0);
    assert_eq!((app.rows("cases").await, app.rows("reports").await), (1, 1));
    app.decide(&case, CaseState::Dismissed).await;
    app.advance(366 * DAY);
    app.app.retention.reap().await.unwrap();
    assert_eq!((app.rows("cases").await, app.rows("reports").await), (0, 0));
}

#[tokio::test]
async fn an_upheld_case_removes_its_image_and_is_in_the_log() {
    let app = behind_a_proxy().await;
    let uploaded = app.upload_free(pictures::png(4, 4)).await;
    let (id, url) = (uploaded.field("id"), uploaded.field("url"));
    let case = app
        .report(&json!({"image": id, "reason": "malware"}))
        .await
        .field("case");
    app.decide(&case, CaseState::Upheld).await;
    assert_eq!(app.get(&url).await.status, 404);
    let shown = app.get(&format!("/api/abuse/{case}")).await;
    assert_eq!(
        (shown.status, shown.field("state")),
        (200, "upheld".to_owned())
    );
    let log = app.app.trust.log(None, Some(&id), 10).await.unwrap();
    let acts: Vec<&str> = log.iter().map(|entry| &*entry.act).collect();
    assert_eq!(acts, ["uphold", "remove"]);
    // Its bytes are refused from now on.
    app.app.screening.blocks().read_again().await.unwrap();
    let kind = [("content-type", "image/png")];
    let again = app
        .send("POST", "/api/free", &kind, pictures::png(4, 4))
        .await;
    assert_eq!(
        (again.status, again.field("error")),
        (422, "content_blocked".to_owned())
    );
    let kept = app.app.trust.reported(&case).await.unwrap();
    assert_eq!(
        (kept.words.len(), kept.decided_by.as_deref()),
        (1, Some("ada"))
    );
}

#[tokio::test]
async fn the_third_upheld_case_of_a_wallet_blocks_it() {
    let app = TestApp::spawn().await;
    let payer = wallet(23);
    for seed in 0..3 {
        assert!(app.app.screening.check_wallet(&payer.address()).is_ok());
        let payment = sign(&app, "/api/upload", &payer).await;
        let image = app
            .pay_with(&payment, &pictures::png_seeded(4, 4, seed))
            .await;
        assert_eq!(image.status, 200, "{}", image.text());
        let body = json!({"image": image.field("id"), "reason": "copyright"});
        let case = app.report(&body).await.field("case");
        app.decide(&case, CaseState::Upheld).await;
    }
    app.app.screening.blocks().read_again().await.unwrap();
    let payment = sign(&app, "/api/upload", &payer).await;
    let refused = app.pay_with(&payment, &pictures::png_seeded(4, 4, 9)).await;
    assert_eq!(
        (refused.status, refused.field("error")),
        (403, "wallet_blocked".to_owned())
    );
    assert_eq!(refused.json()["charged"], false);
}
