//! `POST /api/import`: stores an image that the server fetches from a URL: in the free tier, for an
//! upload token, a link or an API key, or for a payment.

use std::time::Duration;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use humantime::format_duration;

use super::error::{ApiError, Code};
use super::intake::Source;
use super::paid::{self, Purchase, refuse_behind};
use super::payment_headers::has_payment;
use super::views::ImportRequest;
use super::{Site, extract, free, json_body, links, query};
use crate::catalog::IMPORT_PATH;
use crate::checkout::Order;
use crate::images::private::Access;
use crate::images::{Metadata, UploadError};
use crate::imports::{self, Import};
use crate::model::payment::ProductKind;
use crate::model::refresh::LONGEST;
use crate::payments::{Body, Content};
use crate::pricing::tiers::TierName;

/// The longest body, in bytes. It has room for the longest URL with each byte escaped.
const LONGEST_BODY: usize = 16 * 1024;
const INSTEAD: &str = "Send {\"url\": \"https://…\"}, and beside it tier, metadata, visibility, viewer or refresh as you need.";

/// An import that a client asks for.
pub(super) struct Wish {
    /// The image; `None`: the request names no URL.
    pub(super) import: Option<Import>,
    /// The tier that the request names.
    pub(super) tier: Option<TierName>,
    /// The request in JSON, for the command in a challenge.
    json: String,
}

/// Fetches an image and stores it.
pub(super) async fn import(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let wish = read(&site, &request, payload).await;
    let wish = wish.map_err(|error| error.of(&request))?;
    let key = extract::api_key(&request).map_err(|error| error.of(&request))?;
    let named = wish.tier.as_ref();
    if let Some(key) = key {
        let source = wish.source().map_err(|error| error.of(&request))?;
        let tier = named.map(TierName::as_str);
        return paid::upload_by_key(&site, &request, source, &key, tier).await;
    }
    if let Some(token) = extract::upload_token(&request)? {
        if named.is_some() {
            let message = "The body names a tier, but an upload token already has its tier. Send the request without the tier, or without the token.";
            return Err(ApiError::bad(Code::InvalidBody, message).of(&request));
        }
        let source = wish.source().map_err(|error| error.of(&request))?;
        return paid::upload_with_token(&site, &request, source, token).await;
    }
    let tiers = site.tiers.now();
    if !has_payment(&request) && links::free_tier(&site, &tiers, named).is_some() {
        extract::check_idempotency_key(&request)?;
        return free::store(&site, &request, wish.source()?).await;
    }
    let sold = sell(&site, &request, wish).await;
    sold.map_err(|error| error.of(&request))
}

/// Sells an import. The caller completes an error by [`ApiError::of`].
async fn sell(site: &Site, request: &HttpRequest, wish: Wish) -> Result<HttpResponse, ApiError> {
    refuse_behind(site)?;
    if !has_payment(request) {
        wish.refuse_early(site)?;
    }
    let opened = Purchase::open(site, request, order(wish.tier.as_ref())).await?;
    let mut purchase = opened.of_import(wish.json);
    match purchase.take_payment() {
        None => Err(purchase.ask()),
        Some(header) => {
            let body = wish.import.map(body);
            purchase.sell(site, request, header, body).await
        }
    }
}

/// The order of an import. `tier` is the tier that the client named. All tiers have one URL, because
/// the tier stands in the body.
pub(super) fn order(tier: Option<&TierName>) -> Order<'_> {
    Order {
        kind: ProductKind::Upload,
        tier: tier.map(TierName::as_str),
        uses: 1,
        target: None,
        days: None,
        bytes: None,
        access: Access::default(),
        path: IMPORT_PATH.to_owned(),
    }
}

/// An import as the body of a paid upload. It is fetched once the payment is verified.
pub(super) fn body(import: Import) -> Body {
    Body {
        sha256: import.bound_sha256(),
        content: Content::Linked(import),
    }
}

impl Wish {
    /// Refuses a URL that can't be fetched before the client is asked to pay. A request without a
    /// URL asks for the price.
    fn refuse_early(&self, site: &Site) -> Result<(), ApiError> {
        site.imports.is_open().map_err(UploadError::from)?;
        match &self.import {
            Some(import) => Ok(import.check()?),
            None => Ok(()),
        }
    }

    /// The image as the source of an upload, after every check that needs no network.
    fn source(&self) -> Result<Source, ApiError> {
        let import = self.import.clone().ok_or_else(|| {
            let message = format!("The body names no URL to fetch the image from. {INSTEAD}");
            ApiError::Bad(Code::InvalidBody, message)
        })?;
        import.check()?;
        Ok(Source::Url(import))
    }
}

async fn read(site: &Site, request: &HttpRequest, payload: Payload) -> Result<Wish, ApiError> {
    query::check(request, &[])?;
    let sent: ImportRequest = json_body::read(payload, LONGEST_BODY, INSTEAD).await?;
    let client = extract::client_address(request, &site.config.http);
    wish(site, sent, client).map_err(|message| ApiError::Bad(Code::InvalidBody, message))
}

/// What the fields of a request ask for.
///
/// # Errors
/// The message for the client.
pub(super) fn wish(
    site: &Site,
    sent: ImportRequest,
    client: Option<std::net::IpAddr>,
) -> Result<Wish, String> {
    let json = serde_json::to_string(&sent).unwrap_or_default();
    let metadata = sent
        .metadata
        .as_deref()
        .map(|text| Metadata::parse(text).ok_or_else(|| query::no_such_metadata(text)));
    let metadata = metadata.transpose()?;
    let (name, viewer) = (sent.visibility.as_deref(), sent.viewer.as_deref());
    let visibility = query::named_visibility(site, name, viewer)?.unwrap_or_default();
    let tier = sent.tier.as_deref().map(|text| {
        TierName::parse(text).map_err(|_| {
            let sent = query::excerpt(text);
            format!("tier is \"{sent}\", which cannot be the name of a tier. Send a name that GET /api/tiers lists.")
        })
    });
    let refresh = sent.refresh.as_deref().map(|text| refresh(site, text));
    let refresh = refresh.transpose()?;
    let order = sent.url.map(|url| imports::Order {
        url,
        metadata,
        visibility,
        refresh,
        client,
    });
    Ok(Wish {
        import: order.map(|order| site.imports.order(order)),
        tier: tier.transpose()?,
        json,
    })
}

/// How often an image is to be compared with its URL.
///
/// # Errors
/// The message for the client.
fn refresh(site: &Site, text: &str) -> Result<Duration, String> {
    let shortest = site.config.import.min_refresh;
    let range = format!(
        "Send a time from {} to {}, such as \"1day\", or no refresh: then the image never changes.",
        format_duration(shortest),
        format_duration(LONGEST)
    );
    let sent = query::excerpt(text);
    let every = humantime::parse_duration(text)
        .map_err(|_| format!("refresh is \"{sent}\", which is not a time. {range}"))?;
    if !(shortest..=LONGEST).contains(&every) {
        return Err(format!(
            "refresh is \"{sent}\", and this server doesn't compare images that often or that rarely. {range}"
        ));
    }
    Ok(every)
}
