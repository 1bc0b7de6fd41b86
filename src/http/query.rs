//! The query parameters of the API's routes. Each route takes a few of them, and refuses others by
//! name.

use std::borrow::Cow;

use actix_web::HttpRequest;

use super::error::{ApiError, Code};
use crate::images::Metadata;

/// The parameter for the number of uploads that a token is for.
pub(super) const IMAGES: &str = "images";
/// The parameter for the number of days that a link is valid.
pub(super) const DAYS: &str = "days";
/// The parameter for the tier of a renewal or of a link.
pub(super) const TIER: &str = "tier";
/// The parameter for the length of a page.
pub(super) const LIMIT: &str = "limit";
/// The parameter that names the page of a list.
pub(super) const AFTER: &str = "after";
/// The parameter that says whether the server keeps an image's metadata.
pub(super) const METADATA: &str = "metadata";
/// How many characters of a sent name or value an error message repeats.
const LONGEST_EXCERPT: usize = 40;

/// Refuses a query with a parameter that is not in `known`. A client could otherwise pay for a
/// misspelled parameter that has no effect.
pub(super) fn check(request: &HttpRequest, known: &[&str]) -> Result<(), ApiError> {
    let mut query = pairs(request);
    let Some((name, _)) = query.find(|(name, _)| !known.contains(&name.as_ref())) else {
        return Ok(());
    };
    let name = excerpt(&name);
    let taken = match known {
        [] => "this route takes none".to_owned(),
        known => format!("this route takes only {}", known.join(", ")),
    };
    let instead = if name == TIER {
        "Name the tier in the path, such as /api/upload/permanent; /api/tiers lists the tiers."
    } else {
        "Send the request without it."
    };
    let message = format!("The query parameter \"{name}\" is unknown, and {taken}. {instead}");
    Err(ApiError::Bad(Code::UnknownParameter, message))
}

/// The value of a parameter that may be sent once. `None`: it was not sent.
///
/// # Errors
/// If the parameter was sent more than once. The message ends with `instead`, which says what to
/// send.
pub(super) fn single<'a>(
    request: &'a HttpRequest,
    name: &str,
    instead: &str,
) -> Result<Option<Cow<'a, str>>, ApiError> {
    let mut values = pairs(request).filter(|(known, _)| known == name);
    let first = values.next().map(|(_, value)| value);
    if values.next().is_some() {
        let message = format!("The query parameter {name} was sent more than once. {instead}");
        return Err(ApiError::Bad(Code::InvalidParameter, message));
    }
    Ok(first)
}

/// The value of `?metadata=`, if it was sent.
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

/// The message for a value of `metadata` that is not in [`Metadata::VALUES`].
pub(super) fn no_such_metadata(value: &str) -> String {
    let value = excerpt(value);
    format!(
        "metadata is \"{value}\", which is not a known value. Send \"remove\" (the server removes the image's \
         metadata) or \"keep\" (the server stores the file unchanged)."
    )
}

/// The start of a sent name or value, for an error message.
pub(super) fn excerpt(value: &str) -> String {
    value.chars().take(LONGEST_EXCERPT).collect()
}

/// The decoded parameters of the query, in the order in which they were sent.
fn pairs(request: &HttpRequest) -> url::form_urlencoded::Parse<'_> {
    url::form_urlencoded::parse(request.query_string().as_bytes())
}
