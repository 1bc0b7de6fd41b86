//! A response of the server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::documented;

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let path = response.url().path().to_owned();
        let bytes = response.bytes().await.unwrap().to_vec();
        documented::check(&path, status, &bytes);
        Self {
            status,
            headers,
            bytes,
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// Returns a text field of the JSON body.
    pub(crate) fn field(&self, name: &str) -> String {
        match &self.json()[name] {
            Value::String(text) => text.clone(),
            other => panic!("{name} is {other} in {}", self.text()),
        }
    }

    pub(crate) fn error(&self) -> String {
        self.field("error")
    }

    /// Returns `charged` of an error: `true`, `false` or `null`.
    pub(crate) fn charged(&self) -> Option<bool> {
        let body = self.json();
        assert!(
            body.get("charged").is_some(),
            "no charged in {}",
            self.text()
        );
        body["charged"].as_bool()
    }

    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        self.field("token")
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    /// Returns the JSON in a base64 header.
    pub(crate) fn document(&self, name: &str) -> Value {
        let value = self
            .header(name)
            .unwrap_or_else(|| panic!("no {name}: {}", self.text()));
        serde_json::from_slice(&STANDARD.decode(value).unwrap()).unwrap()
    }

    /// Returns status, error code and `charged`, which most tests compare.
    pub(crate) fn verdict(&self) -> (u16, String, Option<bool>) {
        (self.status, self.error(), self.charged())
    }
}
