//! Purges at the CDN (docs/trust.md), against a double of Cloudflare's API that records what it is
//! asked and may be late, busy or broken.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, RETRY_AFTER};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

use crate::removal::with_admin;
use crate::support::{Builder, TestApp, pictures};

const ZONE: &str = "0123456789abcdef0123456789abcdef";

/// How the double answers a call.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// With 429, and this many seconds to wait.
    Busy(u64),
    /// With 502, and a page in place of JSON.
    Broken,
    /// With 200 and `"success": false`.
    Refusing,
    /// Not at all.
    Silent,
}

#[derive(Default)]
struct State {
    calls: Vec<(String, String, Value)>,
    next: VecDeque<Manner>,
}

struct Cloudflare {
    url: String,
    state: Arc<Mutex<State>>,
    handle: actix_web::dev::ServerHandle,
}

impl Drop for Cloudflare {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

impl Cloudflare {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let data = web::Data::new(Arc::clone(&state));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .default_service(web::to(answer))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { url, state, handle }
    }

    /// The settings of a server behind this CDN.
    fn before(&self, builder: Builder) -> Builder {
        builder
            .set("cdn.cloudflare_zone", ZONE)
            .set("cdn.cloudflare_token", "a-token")
            .set("cdn.api_url", &self.url)
            .set("cdn.timeout", "2s")
    }

    fn next(&self, manners: &[Manner]) {
        self.state.lock().unwrap().next.extend(manners);
    }

    /// The bodies of the calls since the last time.
    fn calls(&self) -> Vec<Value> {
        let calls = std::mem::take(&mut self.state.lock().unwrap().calls);
        let expected = format!("/zones/{ZONE}/purge_cache");
        calls
            .into_iter()
            .map(|(path, bearer, body)| {
                assert_eq!(
                    (path.as_str(), bearer.as_str()),
                    (expected.as_str(), "Bearer a-token")
                );
                body
            })
            .collect()
    }
}

async fn answer(
    state: web::Data<Arc<Mutex<State>>>,
    request: HttpRequest,
    body: web::Json<Value>,
) -> HttpResponse {
    let bearer = request
        .headers()
        .get(AUTHORIZATION)
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let manner = {
        let mut state = state.lock().unwrap();
        let call = (request.path().to_owned(), bearer, body.into_inner());
        state.calls.push(call);
        state.next.pop_front()
    };
    match manner {
        None => {
            HttpResponse::Ok().json(json!({"success": true, "errors": [], "result": {"id": "x"}}))
        }
        Some(Manner::Busy(seconds)) => HttpResponse::TooManyRequests()
            .insert_header((RETRY_AFTER, seconds.to_string()))
            .json(json!({"success": false, "errors": [{"code": 971, "message": "slow down"}]})),
        Some(Manner::Broken) => HttpResponse::build(StatusCode::BAD_GATEWAY).body("<html>"),
        Some(Manner::Refusing) => HttpResponse::Ok()
            .json(json!({"success": false, "errors": [{"code": 1012, "message": "no such zone"}]})),
        Some(Manner::Silent) => {
            std::future::pending::<()>().await;
            HttpResponse::Ok().finish()
        }
    }
}

impl TestApp {
    async fn purge_of(&self, id: &str) -> Value {
        let case = self
            .admin("GET", &format!("/images/{id}"), &Value::Null)
            .await;
        case.json()["purge"].clone()
    }

    async fn purged(&self) -> usize {
        self.app.trust.purge_due().await.unwrap()
    }
}

#[tokio::test]
async fn a_removed_image_is_purged_by_tag_and_url() {
    let cloudflare = Cloudflare::start();
    let app = cloudflare.before(with_admin()).spawn().await;
    let image = app.upload_free(pictures::png(9, 9)).await;
    let (id, url) = (image.field("id"), image.field("url"));
    for path in [
        url.clone(),
        format!("{}/i/{id}", app.base),
        format!("{}/i/AAAAAAAAAAAA", app.base),
    ] {
        let tag = app.get(&path).await.header("cache-tag").unwrap();
        assert!(path.contains(&tag), "{tag} of {path}");
    }
    assert_eq!(app.purge_of(&id).await, Value::Null);
    assert_eq!(app.purged().await, 0);
    app.acted(&id, "remove", json!({})).await;
    assert_eq!(app.purge_of(&id).await["purgedAt"], Value::Null);
    assert_eq!(app.purged().await, 1);
    let bare = url.strip_suffix(".png").unwrap();
    assert_eq!(
        cloudflare.calls(),
        [json!({"tags": [id]}), json!({"files": [url, bare]})]
    );
    let purge = app.purge_of(&id).await;
    assert_eq!(purge["purgedAt"], app.clock_text(Duration::ZERO));
    assert_eq!(
        (&purge["tries"], &purge["problem"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(app.purged().await, 0);
    // Owners' deletes are purged too.
    let own = app.upload_free(pictures::png(8, 8)).await;
    let path = format!("/api/images/{}", own.field("id"));
    let token = [("X-Delete-Token", own.field("deleteToken"))];
    assert_eq!(app.send("DELETE", &path, &token, "").await.status, 200);
    assert_eq!(app.purged().await, 1);
    assert_eq!(cloudflare.calls()[0], json!({"tags": [own.field("id")]}));
}

#[tokio::test]
async fn a_late_busy_or_broken_cdn_is_asked_again_and_its_state_shows() {
    let cloudflare = Cloudflare::start();
    let app = cloudflare.before(with_admin()).spawn().await;
    let id = app.upload_free(pictures::png(9, 9)).await.field("id");
    cloudflare.next(&[
        Manner::Busy(30),
        Manner::Silent,
        Manner::Broken,
        Manner::Refusing,
    ]);
    app.acted(&id, "remove", json!({})).await;
    for (try_number, word, pause) in [
        (1, "429 Too Many Requests: slow down (971)", 30),
        (2, "did not answer", 10),
        (3, "502 Bad Gateway without saying why", 60),
        (4, "200 OK: no such zone (1012)", 300),
    ] {
        assert_eq!(app.purged().await, 0);
        let purge = app.purge_of(&id).await;
        assert_eq!(purge["tries"], try_number);
        let problem = purge["problem"].as_str().unwrap();
        assert!(problem.contains(word), "{problem}");
        assert!(
            !problem.contains("a-token") && !problem.contains("127.0.0.1"),
            "{problem}"
        );
        assert_eq!(purge["nextAt"], app.clock_text(Duration::from_secs(pause)));
        assert_eq!(app.purged().await, 0, "not before its time");
        assert_eq!(cloudflare.calls().len(), 1);
        app.advance(Duration::from_secs(pause));
    }
    assert_eq!(app.purged().await, 1);
    let purge = app.purge_of(&id).await;
    assert_eq!(
        (&purge["problem"], &purge["tries"]),
        (&Value::Null, &json!(5))
    );
}

#[tokio::test]
async fn many_purges_share_calls_and_servers_share_the_queue() {
    let cloudflare = Cloudflare::start();
    let app = cloudflare.before(with_admin()).spawn().await;
    for side in 1..=16 {
        let id = app.upload_free(pictures::png(side, 1)).await.field("id");
        app.acted(&id, "remove", json!({})).await;
    }
    // Two at the same time: neither asks for what the other has taken.
    let (one, other) = tokio::join!(app.purged(), app.purged());
    assert_eq!(one + other, 16);
    let calls = cloudflare.calls();
    assert_eq!(calls.len(), 4);
    let tags: usize = calls
        .iter()
        .filter_map(|call| call["tags"].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(tags, 16);
    assert!(
        calls
            .iter()
            .filter_map(|call| call["files"].as_array())
            .all(|it| it.len() <= 30)
    );
}

#[tokio::test]
async fn without_a_cdn_nothing_is_queued_or_tagged() {
    let app = with_admin().spawn().await;
    let image = app.upload_free(pictures::png(9, 9)).await;
    assert_eq!(app.get(&image.field("url")).await.header("cache-tag"), None);
    app.acted(&image.field("id"), "remove", json!({})).await;
    assert_eq!(app.rows("purges").await, 0);
}
