//! The time of another server, from the `Date` header of its response.

use std::error::Error;

use reqwest::Response;
use reqwest::header::DATE;

use crate::system::clock::Timestamp;

/// The time at which the server wrote this response, by its own clock.
///
/// # Errors
/// When the response has no `Date` header, or one that is not an HTTP date.
pub(crate) fn date_of(answer: &Response) -> Result<Timestamp, String> {
    let status = answer.status().as_u16();
    let date = answer
        .headers()
        .get(DATE)
        .ok_or_else(|| format!("status {status} without a Date header"))?;
    date.to_str()
        .ok()
        .and_then(Timestamp::parse_http_date)
        .ok_or_else(|| format!("status {status} with an invalid Date header"))
}

/// The root cause of a failed request, without its URL, which may contain a key. "certificate
/// expired" says more about a wrong clock than "error sending request".
pub(crate) fn cause_of(error: &reqwest::Error) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(next) = cause.and_then(Error::source) {
        cause = Some(next);
    }
    match cause {
        _ if error.is_timeout() => "no response in time".to_owned(),
        Some(cause) => cause.to_string(),
        None => "the request failed".to_owned(),
    }
}
