//! The query parameters of the API's routes: each takes a few, and refuses all others by name.

use std::borrow::Cow;

use actix_web::HttpRequest;

use super::error::{ApiError, Code};
use crate::images::Metadata;

/// How many uploads a token is for.
pub(super) const IMAGES: &str = "images";
/// The tier that renews an image.
pub(super) const TIER: &str = "tier";
/// What becomes of an upload's metadata.
pub(super) const METADATA: &str = "metadata";
/// The longest name that a refusal repeats.
const LONGEST_NAME: usize = 40;

/// Refuses a query that names another parameter than `known`: a misspelt one would be paid for and change nothing.
pub(super) fn check(request: &HttpRequest, known: &[&str]) -> Result<(), ApiError> {
    let mut query = pairs(request);
    let Some((name, _)) = query.find(|(name, _)| !known.contains(&name.as_ref())) else {
        return Ok(());
    };
    let name: String = name.chars().take(LONGEST_NAME).collect();
    let taken = match known {
        [] => "this route takes none".to_owned(),
        known => format!("this route takes {}", known.join(", ")),
    };
    let message = format!("The query parameter \"{name}\" is unknown; {taken}. Send it without.");
    Err(ApiError::Bad(Code::UnknownParameter, message))
}

/// The value of a parameter that may come once. `None`: it didn't come at all.
///
/// # Errors
/// The refusal says `instead`, where it came more than once.
pub(super) fn single<'a>(
    request: &'a HttpRequest,
    name: &str,
    instead: &str,
) -> Result<Option<Cow<'a, str>>, ApiError> {
    let mut said = pairs(request).filter(|(known, _)| known == name);
    let first = said.next().map(|(_, value)| value);
    if said.next().is_some() {
        return Err(ApiError::bad(Code::InvalidParameter, instead));
    }
    Ok(first)
}

/// What `?metadata=` says, if it is there.
pub(super) fn metadata(request: &HttpRequest) -> Result<Option<Metadata>, ApiError> {
    let instead = "Send ?metadata=remove or ?metadata=keep once.";
    let Some(value) = single(request, METADATA, instead)? else {
        return Ok(None);
    };
    let parsed = Metadata::parse(&value);
    parsed
        .map(Some)
        .ok_or_else(|| ApiError::Bad(Code::InvalidParameter, no_such_metadata(&value)))
}

/// What a request is told that names another value than those of [`Metadata::VALUES`].
pub(super) fn no_such_metadata(value: &str) -> String {
    let value: String = value.chars().take(LONGEST_NAME).collect();
    format!(
        "metadata is \"{value}\"; it takes \"remove\" (the stored image has no metadata) or \"keep\" (the file is \
         stored as it is)."
    )
}

fn pairs(request: &HttpRequest) -> url::form_urlencoded::Parse<'_> {
    url::form_urlencoded::parse(request.query_string().as_bytes())
}
