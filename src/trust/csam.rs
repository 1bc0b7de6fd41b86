//! The state of Cloudflare's scanner for child sexual abuse material, by Cloudflare's API. The zone's
//! owner switches the scanner on at Cloudflare; it scans what the CDN caches.

use std::time::Duration;

use serde::Deserialize;

use crate::system::date_header::cause_of;

/// The largest answer that is read, in bytes.
const LARGEST: usize = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);

/// The state of the scanner of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It scans, and its reports arrive.
    On,
    /// It is switched on, but the address for its reports is not confirmed.
    Unconfirmed,
    /// It is switched off.
    Off,
}

#[derive(Deserialize)]
struct Answer {
    success: bool,
    result: Option<Setting>,
}

#[derive(Deserialize)]
struct Setting {
    value: Option<Value>,
}

#[derive(Deserialize)]
struct Value {
    enabled: Option<bool>,
    email_state: Option<String>,
}

/// Asks Cloudflare for the state of the scanner of a zone. `api_url` has no slash at its end. The token
/// needs the permission to read the settings of the zone.
///
/// # Errors
/// Why the state is not known, without the token.
pub async fn state(api_url: &str, zone: &str, token: &str) -> Result<State, String> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .user_agent(concat!("pixtoll/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| cause_of(&error))?;
    let cause = |error: reqwest::Error| cause_of(&error.without_url());
    let mut response = client
        .get(format!(
            "{api_url}/zones/{zone}/settings/csam_scanner_third_party"
        ))
        .bearer_auth(token)
        .send()
        .await
        .map_err(cause)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(cause)? {
        body.extend_from_slice(&part);
        if body.len() > LARGEST {
            return Err(format!("its answer has more than {LARGEST} bytes"));
        }
    }
    match status {
        200 => {}
        401 | 403 => {
            return Err(format!(
                "its status is {status}: the token needs the permission Zone Settings Read"
            ));
        }
        _ => return Err(format!("its status is {status}")),
    }
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|error| format!("its answer can't be read: {error}"))?;
    let value = answer.result.and_then(|setting| setting.value);
    let value = value.filter(|_| answer.success);
    let value = value.ok_or("its answer holds no state of the scanner")?;
    Ok(match (value.enabled, value.email_state.as_deref()) {
        (Some(true), Some("valid")) => State::On,
        (Some(true), _) => State::Unconfirmed,
        (Some(false) | None, _) => State::Off,
    })
}
