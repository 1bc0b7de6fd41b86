//! A scripted S3 server that does what a real one won't: be public, record requests, fail on
//! demand.

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use actix_web::http::header::{DATE, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

/// The behaviour of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Manners {
    /// Anybody can read objects.
    pub(crate) shows_objects: bool,
    /// Anybody can list objects.
    pub(crate) shows_list: bool,
    /// Every request with a key gets this status.
    pub(crate) refuses: Option<u16>,
    /// Requests with a key get no response.
    pub(crate) is_silent: bool,
}

/// A request that was made with a key.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, web::Bytes>,
    asked: Vec<Asked>,
    manners: Manners,
    /// The next statuses, which come before any other behaviour.
    next: VecDeque<u16>,
    /// Keys that a bulk delete fails to delete.
    stuck: Vec<String>,
    date: Option<String>,
}

pub(crate) struct Bucket {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    handle: actix_web::dev::ServerHandle,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

impl Bucket {
    pub(crate) fn with(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            manners,
            ..State::default()
        }));
        let data = web::Data::new(Arc::clone(&state));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .app_data(web::PayloadConfig::new(1 << 24))
                .default_service(web::to(dated))
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

    /// The settings of a server that keeps its images here.
    pub(crate) fn settings(&self) -> super::store::Settings {
        vec![
            ("images.store", "s3://pictures/some".to_owned()),
            ("images.s3_endpoint", self.url.clone()),
            ("images.s3_access_key_id", "GK1".to_owned()),
            ("images.s3_secret_access_key", "not a secret".to_owned()),
            ("images.s3_timeout", "20s".to_owned()),
        ]
    }

    pub(crate) fn behave(&self, manners: Manners) {
        self.state.lock().unwrap().manners = manners;
    }

    /// Sets the statuses of the next requests with a key.
    pub(crate) fn answer_next(&self, statuses: &[u16]) {
        self.state.lock().unwrap().next.extend(statuses);
    }

    /// Sets the `Date` header of every response from now on.
    pub(crate) fn date(&self, text: &str) {
        self.state.lock().unwrap().date = Some(text.to_owned());
    }

    /// Makes bulk deletes fail for this object.
    pub(crate) fn hold(&self, key: &str) {
        self.state.lock().unwrap().stuck.push(key.to_owned());
    }

    /// Takes the requests with a key since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// The keys of all objects, without the bucket's name.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }
}

async fn dated(
    request: HttpRequest,
    body: web::Bytes,
    state: web::Data<Arc<Mutex<State>>>,
) -> HttpResponse {
    let mut response = answer(request, body, state.clone()).await;
    if let Some(date) = &state.lock().unwrap().date {
        let value = HeaderValue::from_str(date).unwrap();
        response.headers_mut().insert(DATE, value);
    }
    response
}

async fn answer(
    request: HttpRequest,
    body: web::Bytes,
    state: web::Data<Arc<Mutex<State>>>,
) -> HttpResponse {
    let is_signed = request.headers().contains_key("authorization");
    let manners = state.lock().unwrap().manners;
    if is_signed && manners.is_silent {
        return std::future::pending().await;
    }
    let mut state = state.lock().unwrap();
    let key = request.path().trim_start_matches("/pictures").to_owned();
    let key = key.trim_start_matches('/').to_owned();
    let is_list = request.query_string().contains("list-type=2");
    if !is_signed {
        let is_shown = if is_list {
            manners.shows_list
        } else {
            manners.shows_objects
        };
        return if is_shown {
            read(&state, &key, is_list)
        } else {
            refused(403)
        };
    }
    state.asked.push(Asked {
        method: request.method().clone(),
        path: request.path().to_owned(),
        query: request.query_string().to_owned(),
        headers: request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
    });
    if let Some(status) = state.next.pop_front().or(manners.refuses) {
        return refused(status);
    }
    match *request.method() {
        Method::PUT => {
            state.objects.insert(key, body);
            HttpResponse::Ok().insert_header(("etag", "\"1\"")).finish()
        }
        Method::DELETE => {
            state.objects.remove(&key);
            HttpResponse::NoContent().finish()
        }
        Method::POST => bulk_delete(&mut state, &String::from_utf8_lossy(&body)),
        _ => read(&state, &key, is_list),
    }
}

fn read(state: &State, key: &str, is_list: bool) -> HttpResponse {
    if is_list {
        return HttpResponse::Ok().body("<ListBucketResult></ListBucketResult>");
    }
    match state.objects.get(key) {
        None => refused(404),
        Some(bytes) => HttpResponse::Ok()
            .insert_header(("etag", "\"1\""))
            .insert_header(("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"))
            .body(bytes.clone()),
    }
}

fn bulk_delete(state: &mut State, wanted: &str) -> HttpResponse {
    let mut answer = "<DeleteResult>".to_owned();
    for part in wanted.split("<Key>").skip(1) {
        let key = part.split("</Key>").next().unwrap();
        if state.stuck.iter().any(|stuck| stuck == key) {
            answer += "<Error><Key>";
            answer += key;
            answer += "</Key><Code>InternalProblem</Code><Message>stuck</Message></Error>";
        } else {
            state.objects.remove(key);
            answer += "<Deleted><Key>";
            answer += key;
            answer += "</Key></Deleted>";
        }
    }
    HttpResponse::Ok().body(answer + "</DeleteResult>")
}

fn refused(status: u16) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap();
    HttpResponse::build(status)
        .body("<Error><Code>No</Code><Message>no</Message><Token-0>not a secret</Token-0></Error>")
}
