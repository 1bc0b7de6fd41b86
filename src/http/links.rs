//! Upload links: `POST /api/links` sells one, and whoever has its URL uploads with it by any HTTP
//! client. The secret in the URL is the only credential, so no log line holds a path.

use std::net::IpAddr;

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::accept::preferred;
use super::error::{ApiError, Code, Demand};
use super::intake::Source;
use super::pages::{self, Assets};
use super::paid::{self, Purchase, refuse_behind};
use super::paid_route::{Fields, PaidRoute};
use super::payment_headers::has_payment;
use super::sign_in::{self, Door};
use super::views::{LinkAnswer, LinksAnswer};
use super::{Site, api_keys, extract, free, images, json_body, limits, list, query, renew};
use crate::checkout::Order;
use crate::db::uses::Through;
use crate::images::private::Access;
use crate::images::{Taken, UploadError};
use crate::links::OpenLink;
use crate::model::api_key::KeySecret;
use crate::model::link::{FreeLink, Link, LinkId};
use crate::model::payment::ProductKind;
use crate::model::token::UploadToken;
use crate::pricing::tiers::{Tier, TierName, TierTable};

/// The most days that the configuration can allow.
const MOST_DAYS: u32 = 3650;
/// For how many days a link is valid if the request names no number, unless `links.max_days` is
/// less.
const DEFAULT_DAYS: u32 = 30;

/// The longest body that is read to see that it has no options, in bytes.
const LONGEST_BODY: usize = 1024;

/// `POST /api/links` sells an upload link, or makes one of the free tier. `GET` lists those that a
/// wallet bought.
pub(super) async fn sell_or_list(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let answered = if *request.method() == Method::POST {
        sell_link(&site, &request, payload).await
    } else {
        list_own(&site, &request).await
    };
    answered.map_err(|error| error.of(&request))
}

/// The route at which a wallet lists its links.
const LIST: Door<'_> = Door {
    path: "/api/links",
    statement: "List the upload links of this wallet. Signing in costs nothing.",
    instead: "",
};
/// What signing in at a link's own route does.
const REVOKE: &str = "Revoke this upload link. Signing in costs nothing.";

async fn list_own(site: &Site, request: &HttpRequest) -> Result<HttpResponse, ApiError> {
    query::check(request, &[query::LIMIT, query::AFTER])?;
    let limit = list::limit(request, "upload links")?;
    let cursor = sign_in::page(site, request, &LIST).await?;
    let (wallet, network) = (cursor.signed_in.wallet, cursor.signed_in.network);
    let network = network.map(|network| network.caip2);
    let page = site
        .links
        .owned(wallet, network, &cursor.position, limit)
        .await;
    let page = page.map_err(|error| ApiError::Upload(error.into()))?;
    let next = page
        .next
        .map(|next| site.sign_in.write_cursor(LIST.path, &cursor.at(next)));
    let links = page.links.iter().map(|link| answer(site, link)).collect();
    Ok(HttpResponse::Ok().json(LinksAnswer { links, next }))
}

/// `DELETE /api/links/{id}`: revokes a link of the wallet that signs in.
pub(super) async fn revoke_own(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    query::check(&request, &[])?;
    let payment = match LinkId::parse(&id) {
        Some(LinkId::Paid(payment)) => payment,
        Some(LinkId::Free(_)) => {
            let message = "A free link belongs to no wallet. Send DELETE to the link itself instead: /u/{secret}.";
            return Err(ApiError::bad(Code::NotFound, message));
        }
        None => {
            let message = "The path names no valid id of a link: 64 hexadecimal digits, as GET /api/links lists them. Send DELETE to the link itself instead: /u/{secret}.";
            return Err(ApiError::bad(Code::InvalidParameter, message));
        }
    };
    let path = format!("{}/{}", LIST.path, payment.as_str());
    let signed_in = sign_in::sign_in(&site, &request, &path, REVOKE).await?;
    let (wallet, network) = (signed_in.wallet, signed_in.network);
    let network = network.map(|network| network.caip2);
    let revoked = site.links.revoke_owned(wallet, network, &payment).await;
    let link = revoked.map_err(|error| ApiError::Upload(error.into()))?;
    let link = link.ok_or_else(|| {
        let message =
            "This wallet bought no upload link with this id. GET /api/links lists its links.";
        ApiError::bad(Code::NotFound, message)
    })?;
    Ok(HttpResponse::Ok().json(answer(&site, &link)))
}

/// Sells the link. The caller completes an error by [`ApiError::of`].
async fn sell_link(
    site: &Site,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    query::check(request, &[query::IMAGES, query::DAYS, query::TIER])?;
    let instead =
        "This route takes its options in the query: send ?images=N&days=D&tier=T, and no body.";
    let NoOptions {} = json_body::read(payload, LONGEST_BODY, instead).await?;
    let uses = paid::uses(request, ProductKind::Link)?;
    let days = days(site, request)?;
    let named = renew::named_tier(request)?;
    // A payment may have bought a link of a tier that is free today.
    let tiers = site.tiers.now();
    let free = free_tier(site, &tiers, named.as_ref());
    if !has_payment(request) {
        refuse_unknown(&tiers, named.as_ref())?;
    }
    if let Some(tier) = free.filter(|_| !has_payment(request)) {
        extract::check_idempotency_key(request)?;
        let client = extract::client_address(request, &site.config.http);
        let link = make_free(site, client, tier, uses, days).await?;
        return Ok(HttpResponse::Ok().json(answer(site, &link)));
    }
    refuse_behind(site)?;
    let order = order(uses, days, named.as_ref());
    refuse_long(site, request, &order).await?;
    let mut purchase = Purchase::open(site, request, order).await?;
    match purchase.take_payment() {
        Some(header) => purchase.sell(site, request, header, None).await,
        None => Err(purchase.ask()),
    }
}

/// The options in the body of an order: none.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

/// Refuses a tier that this server does not have. Links and API keys upload to free tiers too.
fn refuse_unknown(tiers: &TierTable, named: Option<&TierName>) -> Result<(), ApiError> {
    match named.filter(|name| tiers.find(name.as_str()).is_none()) {
        None => Ok(()),
        Some(name) => Err(ApiError::UnknownTier {
            name: Some(query::excerpt(name.as_str())),
            known: tiers.iter().map(|tier| tier.name.to_string()).collect(),
        }),
    }
}

/// The 402 error for an API key whose wallet has no upload left in this tier: it sells a link.
pub(super) async fn ask_for(site: &Site, request: &HttpRequest, tier: &TierName) -> ApiError {
    if let Err(error) = refuse_unknown(&site.tiers.now(), Some(tier)) {
        return error;
    }
    let order = order(1, default_days(site), Some(tier));
    let purchase = match Purchase::open(site, request, order).await {
        Ok(purchase) => purchase,
        Err(error) => return error,
    };
    match purchase.ask() {
        ApiError::PaymentRequired(demand) => {
            let message = format!(
                "The wallet of this API key has no upload left in tier {}. Buy an upload link of that tier with the same \
                 wallet, at action.url; more uploads by ?images=N. Then repeat this request, without a payment.",
                tier.as_str()
            );
            let demand = Demand {
                message,
                is_for_all: false,
                ..*demand
            };
            ApiError::PaymentRequired(Box::new(demand))
        }
        error => error,
    }
}

/// The tier of a link that costs nothing: the free one, where it is named or nothing else is sold.
pub(super) fn free_tier<'a>(
    site: &Site,
    tiers: &'a TierTable,
    named: Option<&TierName>,
) -> Option<&'a Tier> {
    let is_free = match named {
        Some(name) => tiers.find(name.as_str()).is_some_and(Tier::is_free),
        None => site.checkout.is_none() || tiers.default_paid().is_none(),
    };
    tiers.free().filter(|_| is_free)
}

/// The order of a link. `tier` is the tier that the client named.
pub(super) fn order(uses: u32, days: u32, tier: Option<&TierName>) -> Order<'_> {
    Order {
        kind: ProductKind::Link,
        tier: tier.map(TierName::as_str),
        uses,
        target: None,
        days: Some(days),
        bytes: None,
        access: Access::default(),
        path: path(uses, days, tier),
    }
}

/// For how many days a link is valid if its client names no number.
pub(super) fn default_days(site: &Site) -> u32 {
    DEFAULT_DAYS.min(site.config.links.max_days)
}

/// The one URL of a product, since clients repeat it in their payment.
fn path(uses: u32, days: u32, tier: Option<&TierName>) -> String {
    let tier = tier.map_or_else(String::new, |tier| format!("&tier={}", tier.as_str()));
    format!("/api/links?images={uses}&days={days}{tier}")
}

/// The value of `?days=`, or the default.
fn days(site: &Site, request: &HttpRequest) -> Result<u32, ApiError> {
    // A payment keeps its days when the operator lowers the limit: see `refuse_long`.
    let most = match site.config.links.max_days {
        most if has_payment(request) => most.max(MOST_DAYS),
        most => most,
    };
    let instead = "Send ?days=D once, with the number of days for which the link is valid.";
    let Some(text) = query::single(request, query::DAYS, instead)? else {
        return Ok(default_days(site));
    };
    let days = Some(text.as_ref())
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0'))
        .and_then(|text| text.parse().ok())
        .filter(|days| (1..=most).contains(days));
    days.ok_or_else(|| bad_days(site, &query::excerpt(&text)))
}

fn bad_days(site: &Site, sent: &str) -> ApiError {
    let most = site.config.links.max_days;
    let message = format!(
        "days is \"{sent}\", but a link is valid for 1 to {most} days. Send a whole number from 1 to {most}, such as \
         ?days={}.",
        default_days(site)
    );
    ApiError::Bad(Code::InvalidParameter, message)
}

/// Refuses an order for more days than are sold now, unless its payment is known.
async fn refuse_long(
    site: &Site,
    request: &HttpRequest,
    order: &Order<'_>,
) -> Result<(), ApiError> {
    let days = order.days.unwrap_or_default();
    if days <= site.config.links.max_days {
        return Ok(());
    }
    let is_known = match (&site.checkout, extract::payment(request)?) {
        (Some(checkout), Some(header)) => {
            let known = checkout.is_known(order, &header).await;
            known.map_err(|reason| paid::refuse(checkout, reason))?
        }
        _ => false,
    };
    if is_known {
        Ok(())
    } else {
        Err(bad_days(site, &days.to_string()))
    }
}

/// Makes a link of the free tier. It takes all of its uploads from the free uploads of the client's
/// address at once, so that links are no way around that limit.
pub(super) async fn make_free(
    site: &Site,
    client: Option<IpAddr>,
    tier: &Tier,
    uses: u32,
    days: u32,
) -> Result<Link, ApiError> {
    if let Some(most) = site
        .limits
        .most_free_at_once()
        .filter(|most| u64::from(uses) > *most)
    {
        let message = format!(
            "images is {uses}, but a free link takes at most {most} uploads: as many as one address has in an hour. Send \
             ?images= with a number up to {most}, or name a tier with a price."
        );
        return Err(ApiError::Bad(Code::InvalidParameter, message));
    }
    let attempt = limits::count_free_uploads(site, client, uses).await;
    // Its client asked for a link without a payment, and an upload at a price is none.
    let attempt = attempt.map_err(ApiError::Limited)?;
    let link = site.links.make_free(tier, uses, days).await;
    let link = link.map_err(|error| ApiError::Upload(error.into()))?;
    if let Some(attempt) = attempt {
        attempt.keep();
    }
    Ok(link)
}

/// The response body that describes a link to its owner.
pub(super) fn answer(site: &Site, link: &Link) -> LinkAnswer {
    let secret = link.secret.as_ref();
    let url = secret.map(|secret| url(site, secret));
    LinkAnswer {
        id: link.id.as_str().to_owned(),
        curl: url.as_deref().map(curl),
        url,
        tier: link.tier.clone(),
        uploads: link.uses,
        used: link.used,
        expires_at: link.expires_at.to_string(),
        created_at: link.created_at.to_string(),
        revoked_at: link.revoked_at.map(|at| at.to_string()),
    }
}

fn url(site: &Site, secret: &UploadToken) -> String {
    format!("{}/u/{}", site.config.http.base_url, secret.reveal())
}

/// A command that uploads with the link.
pub(super) fn curl(url: &str) -> String {
    format!("curl -T image.png {url}")
}

/// The form of a response, as the client asked for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Plain text, for curl and scripts.
    Text,
    /// JSON.
    Json,
    /// A page, for browsers.
    Page,
}

impl Form {
    /// The form that `Accept` prefers.
    fn of(headers: &HeaderMap) -> Self {
        let offers = [
            ("application/json", Self::Json),
            ("text/html", Self::Page),
            ("text/plain", Self::Text),
        ];
        preferred(headers, &offers, Self::Text)
    }
}

/// All methods of `/u/{secret}`: shows the link, uploads with it, or revokes it.
pub(super) async fn at(
    site: Site,
    assets: web::Data<Assets>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let form = Form::of(request.headers());
    if let Some(key) = request.match_info().get("secret")
        && key.starts_with(KeySecret::PREFIX)
    {
        let answered = upload_by_key(&site, &assets, &request, payload, key, form).await;
        return match (answered, form) {
            (Err(error), Form::Page) => Ok(pages::upload::refused(&site, &assets, &error, None)),
            (answered, _) => answered,
        };
    }
    // A wrong secret is limited as refused uploads with a token are.
    limits::may_fail(&site, &request)?;
    let answered = match request.method() {
        &Method::POST | &Method::PUT => upload(&site, &assets, &request, payload, form).await,
        &Method::DELETE => revoke(&site, &assets, &request, form).await,
        _ => show(&site, &assets, &request, form).await,
    };
    let Err(error) = answered else {
        return answered;
    };
    limits::count_failure(&site, &request, &error);
    let error = with_way_to_buy(&site, error).of(&request);
    match form {
        Form::Page if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            Ok(pages::upload::refused(&site, &assets, &error, None))
        }
        // The error of a GET becomes a page for browsers.
        Form::Page | Form::Text | Form::Json => Err(error),
    }
}

/// The secret in the path.
fn secret(request: &HttpRequest) -> Result<UploadToken, UploadError> {
    let named = request.match_info().get("secret");
    named
        .and_then(UploadToken::parse)
        .ok_or(UploadError::LinkUnknown)
}

/// An error of a link that takes no upload, with the route that sells another one.
pub(super) fn with_way_to_buy(site: &Site, error: ApiError) -> ApiError {
    let sells = site
        .checkout
        .as_ref()
        .filter(|checkout| checkout.is_open().is_ok() && !checkout.catalog.products().is_empty());
    match (error, sells) {
        (
            ApiError::Upload(
                error @ (UploadError::LinkExpired { .. }
                | UploadError::LinkUsed { .. }
                | UploadError::LinkRevoked),
            ),
            Some(checkout),
        ) => {
            let path = path(1, default_days(site), None);
            let route = PaidRoute::at(
                &checkout.catalog,
                ProductKind::Link,
                &path,
                Fields::default(),
            );
            ApiError::Link { error, route }
        }
        (error, _) => error,
    }
}

async fn show(
    site: &Site,
    assets: &Assets,
    request: &HttpRequest,
    form: Form,
) -> Result<HttpResponse, ApiError> {
    query::check(request, &[])?;
    let link = find(site, site.links.find(&secret(request)?).await).await?;
    Ok(describe(site, assets, &link, form))
}

async fn revoke(
    site: &Site,
    assets: &Assets,
    request: &HttpRequest,
    form: Form,
) -> Result<HttpResponse, ApiError> {
    query::check(request, &[])?;
    let link = find(site, site.links.revoke(&secret(request)?).await).await?;
    Ok(describe(site, assets, &link, form))
}

/// What was found, after a proof that the database lost commits is recorded.
async fn find<T>(site: &Site, found: Result<T, UploadError>) -> Result<T, ApiError> {
    if let Err(UploadError::Lost(lost)) = &found {
        site.epoch.note_lost(lost, site.clock.now()).await;
    }
    Ok(found?)
}

/// The response that says what is left of a link.
fn describe(site: &Site, assets: &Assets, link: &Link, form: Form) -> HttpResponse {
    let answer = answer(site, link);
    match form {
        Form::Json => HttpResponse::Ok().json(answer),
        Form::Page => pages::link::page(site, assets, link, answer.url.as_deref()),
        Form::Text => {
            let curl = answer.curl.unwrap_or_default();
            let text = format!(
                "{}\n{curl}\n",
                pages::link::sentence(link, site.clock.now())
            );
            plain(HttpResponse::Ok(), text)
        }
    }
}

fn plain(mut response: actix_web::HttpResponseBuilder, text: String) -> HttpResponse {
    response
        .content_type("text/plain; charset=utf-8")
        .body(text)
}

/// Stores the image in the body, and returns its link.
async fn upload(
    site: &Site,
    assets: &Assets,
    request: &HttpRequest,
    payload: Payload,
    form: Form,
) -> Result<HttpResponse, ApiError> {
    let known = [query::METADATA, query::VISIBILITY, query::VIEWER];
    query::check(request, &known)?;
    query::metadata(request)?;
    query::visibility(site, request)?;
    if has_payment(request) {
        let message = "The request carries a payment, but an upload link is paid already. Send the request without the payment, which was not used now.";
        return Err(ApiError::bad(Code::ConflictingCredentials, message));
    }
    let taken = take(site, request, &secret(request)?, Source::Body(payload)).await?;
    let again = url(site, &secret(request)?);
    Ok(uploaded(site, assets, &taken, form, &again))
}

/// Stores an image by the API key that stands in the place of the link's secret.
async fn upload_by_key(
    site: &Site,
    assets: &Assets,
    request: &HttpRequest,
    payload: Payload,
    key: &str,
    form: Form,
) -> Result<HttpResponse, ApiError> {
    if !matches!(*request.method(), Method::POST | Method::PUT) {
        let allowed = "PUT, POST".to_owned();
        return Err(ApiError::WrongMethod { allowed });
    }
    let known = [
        query::METADATA,
        query::VISIBILITY,
        query::VIEWER,
        query::TIER,
    ];
    query::check(request, &known)?;
    query::metadata(request)?;
    query::visibility(site, request)?;
    let tier = renew::named_tier(request)?;
    let Some(secret) = KeySecret::parse(key) else {
        limits::may_fail(site, request)?;
        let error = ApiError::from(UploadError::KeyUnknown);
        limits::count_failure(site, request, &error);
        return Err(error.of(request));
    };
    let tier = tier.as_ref().map(TierName::as_str);
    let taken = api_keys::upload(site, request, Source::Body(payload), &secret, tier).await?;
    let again = format!("{}/u/{key}", site.config.http.base_url);
    Ok(uploaded(site, assets, &taken, form, &again))
}

/// The response to an upload. `again` is the URL that takes the next one.
fn uploaded(site: &Site, assets: &Assets, taken: &Taken, form: Form, again: &str) -> HttpResponse {
    let answer = images::taken_answer(site, taken);
    let mut response = images::uploaded(site, &taken.image);
    match form {
        Form::Json => response.json(answer),
        Form::Page => pages::upload::uploaded(site, assets, &answer, again),
        Form::Text => plain(response, format!("{}\n", answer.facts.url)),
    }
}

/// Stores an image by the link with this secret.
async fn take(
    site: &Site,
    request: &HttpRequest,
    secret: &UploadToken,
    source: Source,
) -> Result<Taken, ApiError> {
    let arrived = site.clock.now();
    match find(site, site.links.find_open(secret, arrived).await).await? {
        OpenLink::Paid(grant) => {
            refuse_behind(site)?;
            paid::take_granted(site, request, source, grant, arrived).await
        }
        OpenLink::Free(link) => take_free(site, request, link, source).await,
    }
}

/// Stores an image by a free link.
pub(super) async fn take_free(
    site: &Site,
    request: &HttpRequest,
    link: FreeLink,
    source: Source,
) -> Result<Taken, ApiError> {
    let tiers = site.tiers.now();
    let tier = tiers.free().ok_or(ApiError::UnknownTier {
        name: None,
        known: Vec::new(),
    })?;
    let through = Some(Through::Link(link));
    free::take(site, request, source, tier, through, &mut None).await
}
