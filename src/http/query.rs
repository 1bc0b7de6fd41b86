//! The query parameters of the API's routes. Each route takes a few of them, and refuses others by
//! name.

use std::borrow::Cow;

use actix_web::HttpRequest;
use alloy_primitives::Address;

use super::error::{ApiError, Code};
use super::{Site, link};
use crate::images::Metadata;
use crate::model::signed_link::SignedLink;
use crate::model::visibility::Visibility;
use crate::pricing::tiers::LARGEST_MAX_BYTES;

/// The parameter for the number of uploads that a token is for.
pub(super) const IMAGES: &str = "images";
/// The parameter for the size of an image that is not sent yet.
pub(super) const BYTES: &str = "bytes";
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
/// The parameter that says who may see an image.
pub(super) const VISIBILITY: &str = "visibility";
/// The parameter for the wallet that may make signed links.
pub(super) const VIEWER: &str = "viewer";
/// The parameter for the end of a signed link.
pub(super) const EXP: &str = "exp";
/// The parameter for the signature of a signed link.
pub(super) const SIG: &str = "sig";
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
    let instead = if name == TIER && request.path().starts_with("/u/") {
        "An upload link has one tier, which it was made for. Send the request without it."
    } else if name == TIER {
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

/// The value of `?bytes=`, if it was sent.
pub(super) fn bytes(request: &HttpRequest) -> Result<Option<u64>, ApiError> {
    let instead = "Send ?bytes=N once, with the size of the image in bytes, to learn its price without sending it.";
    let Some(text) = single(request, BYTES, instead)? else {
        return Ok(None);
    };
    let bytes = Some(text.as_ref())
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|bytes| (1..=LARGEST_MAX_BYTES).contains(bytes));
    bytes.map(Some).ok_or_else(|| {
        let message = format!(
            "bytes is \"{}\", but the size of an image is a whole number from 1 to {LARGEST_MAX_BYTES}. {instead}",
            excerpt(&text)
        );
        ApiError::Bad(Code::InvalidParameter, message)
    })
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

/// Who may see the image by `?visibility=` and `?viewer=`. `None`: the query does not say.
pub(super) fn visibility(
    site: &Site,
    request: &HttpRequest,
) -> Result<Option<Visibility>, ApiError> {
    let name = single(
        request,
        VISIBILITY,
        "Send ?visibility=public or ?visibility=private once.",
    )?;
    let viewer = single(
        request,
        VIEWER,
        "Send ?viewer= once, with the address of one wallet.",
    )?;
    named_visibility(site, name.as_deref(), viewer.as_deref())
        .map_err(|message| ApiError::Bad(Code::InvalidParameter, message))
}

/// Who may see an image, by the values of `visibility` and `viewer` of a query or a body. `None`:
/// neither was sent.
///
/// # Errors
/// The message for the client.
pub(super) fn named_visibility(
    site: &Site,
    name: Option<&str>,
    viewer: Option<&str>,
) -> Result<Option<Visibility>, String> {
    let named = match (name, viewer) {
        (None, None) => return Ok(None),
        (Some(Visibility::PUBLIC), None) => Visibility::Public,
        (None | Some(Visibility::PUBLIC), Some(_)) => {
            return Err(
                "viewer names a wallet, but the image is public, and everybody may see it. Send visibility=private \
                 with it, or no viewer."
                    .to_owned(),
            );
        }
        (Some(Visibility::PRIVATE), viewer) => Visibility::Private {
            viewer: viewer.map(viewer_named).transpose()?,
        },
        (Some(other), _) => {
            return Err(format!(
                "visibility is \"{}\", which is not a known value. Send \"public\" (everybody who has the link sees \
                 the image) or \"private\" (only signed links show it).",
                excerpt(other)
            ));
        }
    };
    if named.is_private() && !site.config.images.private {
        return Err(
            "visibility is \"private\", but this server stores public images only. Send the image without it, \
             or use another server."
                .to_owned(),
        );
    }
    Ok(Some(named))
}

/// Parses the address of a viewer. The checksum of an address in mixed case must be right.
fn viewer_named(text: &str) -> Result<Address, String> {
    let refuse = |what: &str| {
        format!(
            "viewer is \"{}\", {what}. Send the address of one wallet: 0x and 40 hexadecimal digits.",
            excerpt(text)
        )
    };
    let digits = text
        .strip_prefix("0x")
        .filter(|digits| digits.len() == 40)
        .ok_or_else(|| refuse("which is not an address"))?;
    let address = text
        .parse::<Address>()
        .map_err(|_| refuse("which is not an address"))?;
    let is_mixed = digits.bytes().any(|byte| byte.is_ascii_uppercase())
        && digits.bytes().any(|byte| byte.is_ascii_lowercase());
    if is_mixed && address.to_checksum(None) != text {
        return Err(refuse("whose checksum (EIP-55) is wrong"));
    }
    Ok(address)
}

/// The signature in the query of a link. `None`: the query has none, or not in its one spelling.
/// Punctuation that is glued to the end of a link is ignored.
pub(super) fn signed_link(request: &HttpRequest) -> Option<SignedLink> {
    let one = |name| {
        let mut values = pairs(request).filter(|(known, _)| known == name);
        let first = values.next()?.1;
        values.next().is_none().then_some(first)
    };
    let glued = |character| link::TRAILING.contains(character);
    SignedLink::parse(&one(EXP)?, one(SIG)?.trim_end_matches(glued))
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
