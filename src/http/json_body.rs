//! Small JSON bodies: an object of options, or nothing.

use std::time::Duration;

use actix_web::web::Payload;
use bytes::BytesMut;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::error::{ApiError, Code};

/// The time limit for the body.
const READ_TIME: Duration = Duration::from_secs(10);

/// Reads the options in a body of at most `longest` bytes. An empty body holds none. `instead` says what to send, as in
/// `Send {"name": "…"}, or no body.`
///
/// # Errors
/// If the body is no JSON object of this form, is too long or does not arrive.
pub(super) async fn read<T: DeserializeOwned + Default>(
    payload: Payload,
    longest: usize,
    instead: &str,
) -> Result<T, ApiError> {
    let body = whole(payload, longest, instead).await?;
    let body = body.trim_ascii();
    if body.is_empty() {
        return Ok(T::default());
    }
    // Serde would also take a list of the values, in the order of the fields.
    let parsed = Some(body)
        .filter(|body| body.starts_with(b"{"))
        .and_then(|body| serde_json::from_slice(body).ok());
    parsed.ok_or_else(|| {
        bad(format!(
            "The body is not a JSON object of the expected form. {instead}"
        ))
    })
}

/// The bytes of a body of at most `longest` bytes.
///
/// # Errors
/// If it is too long or does not arrive in time.
pub(super) async fn whole(
    payload: Payload,
    longest: usize,
    instead: &str,
) -> Result<BytesMut, ApiError> {
    let read = tokio::time::timeout(READ_TIME, collect(payload, longest, instead)).await;
    read.map_err(|_| {
        bad("The body took longer to arrive than the limit of 10 seconds. Send the same request over a faster connection.".to_owned())
    })?
}

async fn collect(
    mut payload: Payload,
    longest: usize,
    instead: &str,
) -> Result<BytesMut, ApiError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| {
            bad("The body ended before it was complete. Repeat the same request.".to_owned())
        })?;
        if body.len() + chunk.len() > longest {
            return Err(bad(format!(
                "The body is longer than the limit of {longest} bytes. {instead}"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn bad(message: String) -> ApiError {
    ApiError::bad(Code::InvalidBody, message)
}
