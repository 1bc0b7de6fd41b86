//! The routes that sell. A request without a payment receives the price and the ways to pay (402).
//! A request with a payment receives what it bought.

use std::net::IpAddr;

use actix_web::http::Method;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};

use super::body::{BodyError, announced_image, read_image, refuse_announced};
use super::error::{ApiError, Code, Demand};
use super::intake::{Source, receive};
use super::paid_route::{Fields, PaidRoute};
use super::payment_headers::{has_payment, settlement_headers};
use super::upload_limit::Limit;
use super::views::TokenAnswer;
use super::{Site, api_keys, extract, images, limits, links, observe, query, renew};
use crate::accounting::funnel::Stage;
use crate::catalog::MOST_USES;
use crate::checkout::{Carried, Checkout, Closed, NoQuote, Order, Quote};
use crate::images::private::Access;
use crate::images::{Metadata, Refusal, Taken, UploadError};
use crate::keys::secrets::sha256_hex;
use crate::model::api_key::KeySecret;
use crate::model::client_kind::ClientKind;
use crate::model::payment::{Grant, ProductKind};
use crate::model::token::UploadToken;
use crate::model::visibility::Visibility;
use crate::payments::{Body, Content, Goods, NotRenewable, PayError, RequestProofs, Sold};
use crate::pricing::networks::Network;
use crate::pricing::tiers::TierName;
use crate::system::clock::Timestamp;
use crate::x402::header::{PaymentHeader, encode};

/// What the protocol says to a request without a payment.
const ASKED: &str = "Payment required";

/// What a request buys, and the payment that it carries.
pub(super) struct Purchase<'a> {
    checkout: &'a Checkout,
    quote: Quote,
    /// What the query says of the metadata of an upload.
    metadata: Option<Metadata>,
    /// What the query says of who may see an upload.
    visibility: Option<Visibility>,
    /// The body that orders an import, in JSON.
    import: Option<String>,
    /// The right to see the image that is renewed.
    access: Access,
    header: Option<PaymentHeader>,
    client: ClientKind,
}

/// `POST` and `GET /api/upload/token[/{tier}]`: sells an upload token.
pub(super) async fn token(
    site: Site,
    request: HttpRequest,
    tier: Option<web::Path<String>>,
) -> Result<HttpResponse, ApiError> {
    let tier = tier.map(web::Path::into_inner);
    let sold = sell_token(&site, &request, tier.as_deref()).await;
    sold.map_err(|error| error.of(&request))
}

/// Sells the token. The caller completes an error by [`ApiError::of`].
async fn sell_token(
    site: &Site,
    request: &HttpRequest,
    tier: Option<&str>,
) -> Result<HttpResponse, ApiError> {
    query::check(request, &[query::IMAGES])?;
    refuse_behind(site)?;
    let path = request.path();
    let order = order(request, ProductKind::Token, Route { tier, path })?;
    let mut purchase = Purchase::open(site, request, order).await?;
    let Some(header) = purchase.take_payment() else {
        return Err(purchase.ask());
    };
    purchase.sell(site, request, header, None).await
}

/// `POST`, `GET` and `PUT /api/upload[/{tier}]`: stores an image for an upload token or, without a
/// token, for a payment. `curl -T` appends the name of the file to a URL that ends in a slash.
pub(super) async fn upload(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let route = Route::of(&request);
    let key = extract::api_key(&request).map_err(|error| error.of(&request))?;
    let last = if key.is_some() {
        query::TIER
    } else {
        query::IMAGES
    };
    let known = [
        query::METADATA,
        query::VISIBILITY,
        query::VIEWER,
        query::BYTES,
        last,
    ];
    query::check(&request, &known).map_err(|error| error.of(&request))?;
    query::metadata(&request).map_err(|error| error.of(&request))?;
    query::visibility(&site, &request).map_err(|error| error.of(&request))?;
    query::bytes(&request).map_err(|error| error.of(&request))?;
    if let Some(key) = key {
        let named = renew::named_tier(&request).map_err(|error| error.of(&request))?;
        let tier = route.tier.or(named.as_ref().map(TierName::as_str));
        return upload_by_key(&site, &request, Source::Body(payload), &key, tier).await;
    }
    if let Some(token) = extract::upload_token(&request)? {
        if route.tier.is_some() {
            let message = "The path names a tier, but an upload token already has its tier. Send the image with the token to POST /api/upload.";
            return Err(ApiError::bad(Code::InvalidParameter, message));
        }
        return upload_with_token(&site, &request, Source::Body(payload), token).await;
    }
    let sold = sell_upload(&site, &request, route, payload).await;
    sold.map_err(|error| error.of(&request))
}

/// Stores an image by an API key, in the tier that the request names.
pub(super) async fn upload_by_key(
    site: &Site,
    request: &HttpRequest,
    source: Source,
    key: &KeySecret,
    tier: Option<&str>,
) -> Result<HttpResponse, ApiError> {
    if extract::upload_token(request)?.is_some() {
        let message = "The request carries an API key and an upload token, and only one of them is allowed. Send one of them.";
        return Err(ApiError::bad(Code::ConflictingCredentials, message).of(request));
    }
    let taken = api_keys::upload(site, request, source, key, tier).await?;
    Ok(images::uploaded(site, &taken.image).json(images::taken_answer(site, &taken)))
}

/// What the path of an upload or token request names.
#[derive(Clone, Copy)]
struct Route<'a> {
    /// The name in the place of the tier.
    tier: Option<&'a str>,
    /// The path without the name of a file. Each product has one URL, because clients repeat it in
    /// their payment.
    path: &'a str,
}

impl<'a> Route<'a> {
    /// Splits the path of a request. The last segment of a PUT is the name of a file if it can't be
    /// the name of a tier. A name without a dot may be a tier that was removed, or a misspelled
    /// one. It counts as a tier, so that nobody buys another tier by mistake.
    fn of(request: &'a HttpRequest) -> Self {
        let (path, named) = (request.path(), request.match_info());
        let tier = named.get("tier");
        let before = path.rsplit_once('/').map_or(path, |(before, _)| before);
        let is_name =
            |tier: &str| *request.method() == Method::PUT && TierName::parse(tier).is_err();
        match tier {
            _ if named.get("file").is_some() => Self { tier, path: before },
            Some(tier) if is_name(tier) => Self {
                tier: None,
                path: before,
            },
            None if path.ends_with('/') => Self { tier, path: before },
            _ => Self { tier, path },
        }
    }
}

/// Sells a direct upload. The caller completes an error by [`ApiError::of`].
async fn sell_upload(
    site: &Site,
    request: &HttpRequest,
    route: Route<'_>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    refuse_behind(site)?;
    let order = order(request, ProductKind::Upload, route)?;
    let mut purchase = Purchase::open(site, request, order).await?;
    let Some(header) = purchase.take_payment() else {
        // An upload that the tier can't take is refused before the client is asked to pay.
        let most = purchase.limit(purchase.size_limit(None).await?);
        refuse_announced(request, most)?;
        if let Some(bytes) = query::bytes(request)?.filter(|bytes| *bytes > most.max_bytes) {
            return Err(most.refuse(bytes, false).into());
        }
        return Err(purchase.ask());
    };
    let body = read_body(site, request, payload, &purchase, &header).await?;
    purchase.sell(site, request, header, body).await
}

/// Stores an image for an upload token, and counts the failures of the client.
pub(super) async fn upload_with_token(
    site: &Site,
    request: &HttpRequest,
    source: Source,
    token: UploadToken,
) -> Result<HttpResponse, ApiError> {
    // A successful upload spends a use of the token. A failed one spends none, so a limit counts
    // it.
    limits::may_fail(site, request)?;
    let uploaded = take_for_token(site, request, source, token).await;
    if let Err(error) = &uploaded {
        limits::count_failure(site, request, error);
    }
    // The secret of an upload link is a token too.
    uploaded.map_err(|error| links::with_way_to_buy(site, error))
}

/// Receives, checks and stores an image for an upload token.
async fn take_for_token(
    site: &Site,
    request: &HttpRequest,
    source: Source,
    token: UploadToken,
) -> Result<HttpResponse, ApiError> {
    let arrived = site.clock.now();
    // The payment header is not read.
    if has_payment(request) {
        let message = "The request carries an upload token and a payment, and only one of them is allowed. Send the request without the payment, which was not used now.";
        return Err(ApiError::bad(Code::ConflictingCredentials, message).of(request));
    }
    // The token may be one that the database lost.
    refuse_behind(site).map_err(|error| ApiError::Unasked(Box::new(error)))?;
    let found = site.images.find_token(&token, arrived).await;
    if let Err(UploadError::Lost(lost)) = &found {
        site.epoch.note_lost(lost, arrived).await;
    }
    // The secret of a free link is no token, but it takes uploads as one does.
    if let Err(UploadError::BadToken) = &found {
        let link = site.images.find_free_link(&token.hash(), arrived).await;
        if !matches!(link, Err(UploadError::LinkUnknown)) {
            let stored = links::take_free(site, request, link?, source).await?;
            let answer = images::taken_answer(site, &stored);
            return Ok(images::uploaded(site, &stored.image).json(answer));
        }
    }
    let grant = found?;
    let is_link = grant.product.kind == ProductKind::Link;
    let stored = take_granted(site, request, source, grant, arrived).await?;
    // A token belongs to its payer, and the secret of a link to everybody who has the link.
    let answer = if is_link {
        images::taken_answer(site, &stored)
    } else {
        images::upload_answer(site, &stored.image)
    };
    Ok(images::uploaded(site, &stored.image).json(answer))
}

/// Receives, checks and stores an image that a grant pays for.
pub(super) async fn take_granted(
    site: &Site,
    request: &HttpRequest,
    source: Source,
    grant: Grant,
    arrived: Timestamp,
) -> Result<Taken, ApiError> {
    let limit = Limit {
        tier: &grant.product.tier,
        max_bytes: grant.max_bytes,
    };
    observe::note_tier(request, &grant.product.tier);
    site.images.has_room()?;
    let checked = receive(site, request, source, limit).await?;
    Ok(site.images.upload_granted(grant, arrived, checked).await?)
}

/// Refuses work on paid goods while the database is older than its store.
pub(super) fn refuse_behind(site: &Site) -> Result<(), ApiError> {
    match &site.checkout {
        Some(checkout) => Ok(checkout.refuse_behind()?),
        None => Ok(()),
    }
}

/// Reads and checks the body of a paid upload. `None`: the request holds no image. A file that is
/// refused is passed on as such, because a payment that is already known receives another response.
async fn read_body(
    site: &Site,
    request: &HttpRequest,
    payload: Payload,
    purchase: &Purchase<'_>,
    header: &PaymentHeader,
) -> Result<Option<Body>, ApiError> {
    // The payment may have bought a larger upload than the tier allows today. Its client repeats
    // the request with the same bytes.
    let limit = purchase.limit(purchase.size_limit(Some(header)).await?);
    let arrived = match read_image(site, request, payload, limit).await {
        Ok(arrived) => arrived,
        Err(BodyError::Limited(limited)) => return Err(limits::refuse(request, limited)),
        Err(BodyError::Refused(Refusal::NoFile)) => return Ok(None),
        // A body that was not read to its end has no hash. This text equals no hash.
        Err(BodyError::Refused(refusal)) => {
            return Ok(Some(Body {
                sha256: "unread".to_owned(),
                content: Content::Sent(Err(refusal)),
            }));
        }
    };
    let (bytes, visibility) = (arrived.bytes.clone(), arrived.visibility);
    match limits::checked(site, request, arrived, limit).await? {
        Ok(checked) => Ok(Some(Body {
            sha256: checked.bound_sha256(),
            content: Content::Sent(Ok(checked)),
        })),
        Err(UploadError::Refused(refusal)) => Ok(Some(Body {
            sha256: visibility.bind(&sha256_hex(&bytes)),
            content: Content::Sent(Err(refusal)),
        })),
        Err(error) => Err(ApiError::Upload(error)),
    }
}

/// The order of an upload or token request.
fn order<'a>(
    request: &HttpRequest,
    kind: ProductKind,
    route: Route<'a>,
) -> Result<Order<'a>, ApiError> {
    let uses = uses(request, kind)?;
    let path = match uses {
        1 => route.path.to_owned(),
        uses => format!("{}?images={uses}", route.path),
    };
    Ok(Order {
        kind,
        tier: route.tier,
        uses,
        target: None,
        days: None,
        bytes: query::bytes(request)?.or_else(|| announced_image(request)),
        access: Access::default(),
        path,
    })
}

/// The number of uploads to buy: `?images=N` where tokens and links are sold, otherwise one.
pub(super) fn uses(request: &HttpRequest, kind: ProductKind) -> Result<u32, ApiError> {
    let refuse = |message: String| Err(ApiError::Bad(Code::InvalidParameter, message));
    let instead = "Send ?images=N once, with the number of uploads to buy.";
    let Some(text) = query::single(request, query::IMAGES, instead)? else {
        return Ok(1);
    };
    let uses = Some(text.as_ref())
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0'))
        .and_then(|text| text.parse().ok())
        .filter(|uses| (1..=MOST_USES).contains(uses));
    match uses {
        None => refuse(format!(
            "images is \"{}\", but one payment buys 1 to {MOST_USES} uploads. Send a whole number from 1 to {MOST_USES}, \
             such as ?images=5.",
            query::excerpt(&text)
        )),
        Some(uses) if uses > 1 && kind == ProductKind::Upload => refuse(format!(
            "images is {uses}, but a direct upload is for one image. Buy a token for several uploads: \
             POST {}?images={uses}.",
            request
                .path()
                .replacen("/api/upload", "/api/upload/token", 1)
        )),
        Some(uses) => Ok(uses),
    }
}

impl<'a> Purchase<'a> {
    /// Reads the payment of a request, and gets a quote for its order.
    pub(super) async fn open(
        site: &'a Site,
        request: &HttpRequest,
        order: Order<'_>,
    ) -> Result<Self, ApiError> {
        let checkout = site.checkout.as_ref().ok_or(ApiError::PaymentsOff)?;
        limits::count_payment(site, request).await?;
        let header = extract::payment(request)?;
        if header.is_none() {
            extract::check_idempotency_key(request)?;
        }
        let address = extract::client_address(request, &site.config.http);
        let client = extract::client_kind(request.headers());
        let purchase = Self::quoted(checkout, order, header, address, client).await?;
        observe::note_tier(request, &purchase.quote.product.tier);
        Ok(Self {
            metadata: query::metadata(request)?,
            visibility: query::visibility(site, request)?,
            ..purchase
        })
    }

    /// Gets a quote for the order of a client that carries this payment. The caller has counted the request.
    pub(super) async fn quoted(
        checkout: &'a Checkout,
        order: Order<'_>,
        header: Option<PaymentHeader>,
        address: Option<IpAddr>,
        client: ClientKind,
    ) -> Result<Self, ApiError> {
        let access = order.access;
        let quote = checkout.quote(order, header.as_ref(), address).await;
        Ok(Self {
            checkout,
            quote: quote.map_err(|reason| refuse(checkout, reason))?,
            metadata: None,
            visibility: None,
            import: None,
            access,
            header,
            client,
        })
    }

    /// This purchase as that of an import, which this body in JSON orders.
    pub(super) fn of_import(self, body: String) -> Self {
        let import = Some(body);
        Self { import, ..self }
    }

    /// Takes the payment out.
    pub(super) fn take_payment(&mut self) -> Option<PaymentHeader> {
        self.header.take()
    }

    async fn size_limit(&self, header: Option<&PaymentHeader>) -> Result<u64, ApiError> {
        let limit = self.checkout.size_limit(&self.quote, header).await;
        limit.map_err(|error| ApiError::Unsold(PayError::Database(error)))
    }

    /// What the query says of an upload.
    fn fields(&self) -> Fields {
        Fields {
            metadata: self.metadata,
            visibility: self.visibility,
            import: self.import.clone(),
        }
    }

    fn limit(&self, max_bytes: u64) -> Limit<'_> {
        Limit {
            tier: &self.quote.product.tier,
            max_bytes,
        }
    }

    /// The 402 error with the price and the ways to pay. If the server couldn't serve a new payment
    /// now, the error says so instead.
    pub(super) fn ask(&self) -> ApiError {
        if let Err(closed) = self.checkout.is_open() {
            return closed.into();
        }
        let counts = self.checkout.funnel.of(&self.quote.product.tier);
        counts.add(Stage::Challenged, self.client);
        let (tier, product) = (self.quote.step(), &self.quote.product);
        let price = tier.price.checked_mul(u64::from(product.uses));
        let price = price.unwrap_or(tier.price).to_decimal_usd();
        let bought = match product.kind {
            ProductKind::Renewal => tier.describe_renewal(),
            ProductKind::Token | ProductKind::Upload | ProductKind::Link => {
                tier.describe_many(product.uses)
            }
        };
        let message = format!(
            "This costs {price} USDC: {bought}. Sign an offer of x402 (version 2: header PAYMENT-REQUIRED; version 1: this \
             body) and repeat the same request with the payment in PAYMENT-SIGNATURE or X-PAYMENT. {} shows how.",
            self.checkout.catalog.url("/docs")
        );
        ApiError::PaymentRequired(self.demand(ASKED, message, None))
    }

    /// The offer with a challenge, its reason and a message. `network` is the network of the
    /// payment, if there is one.
    fn demand(
        &self,
        reason: &str,
        message: String,
        network: Option<&'static Network>,
    ) -> Box<Demand> {
        let catalog = &self.checkout.catalog;
        let (kind, path) = (self.quote.product.kind, &self.quote.path);
        let PaidRoute { url, curl } = PaidRoute::at(catalog, kind, path, self.fields());
        Box::new(Demand {
            challenge: self.checkout.challenge(&self.quote, reason),
            tier: self.quote.product.tier.clone(),
            message,
            curl,
            url,
            network: network.or_else(|| catalog.networks().first().copied()),
            play_money: catalog.is_play_money(),
            // A renewal depends on the image and on who may see it, an import on the body. The size
            // of an upload is part of the query, since a body keeps a challenge from being kept.
            is_for_all: reason == ASKED
                && self.quote.product.target.is_none()
                && self.import.is_none(),
        })
    }

    /// Submits the payment, and returns the response: what it bought, or an error with a new
    /// challenge.
    pub(super) async fn sell(
        self,
        site: &Site,
        request: &HttpRequest,
        header: PaymentHeader,
        body: Option<Body>,
    ) -> Result<HttpResponse, ApiError> {
        let version = header.version;
        let access = self.access;
        let key = extract::idempotency_key(request)?;
        let address = extract::own_address(request, &site.config.http);
        let carried = Carried {
            proofs: RequestProofs::of(&header, key, address),
            header,
            body,
            client: extract::client_address(request, &site.config.http),
            client_kind: self.client,
        };
        let sold = self.exchange(carried).await;
        sold.map(|sold| answer(site, request, sold, &access))
            .map_err(|error| error.settled_in(settlement_headers(request, version).collect()))
    }

    /// Exchanges the payment for what it bought.
    ///
    /// # Errors
    /// [`ApiError::Pay`] with a new challenge. It names no headers for the settlement.
    pub(super) async fn exchange(mut self, carried: Carried) -> Result<Sold, ApiError> {
        // A new challenge states the price of the image that was sent.
        if let Some(bytes) = carried.image_bytes() {
            self.quote.bytes = Some(bytes);
        }
        let (version, network) = (carried.header.version, carried.header.network);
        let error = match self.checkout.buy(&self.quote, carried).await {
            Ok(sold) => return Ok(sold),
            Err(error) => error,
        };
        let reason = match &error {
            PayError::Invalid { reason, .. } | PayError::Failed { reason } => reason.clone(),
            _ => String::new(),
        };
        let demand = self.demand(&reason, String::new(), network);
        Err(ApiError::Pay {
            error,
            demand,
            version,
            settlement_headers: Vec::new(),
        })
    }
}

impl ApiError {
    /// This error, with the response headers that describe a settlement to the client.
    fn settled_in(mut self, headers: Vec<&'static str>) -> Self {
        if let Self::Pay {
            settlement_headers, ..
        } = &mut self
        {
            *settlement_headers = headers;
        }
        self
    }
}

/// The error for an order without a quote.
pub(super) fn refuse(checkout: &Checkout, reason: NoQuote) -> ApiError {
    let tiers = checkout.catalog.tiers();
    let known = || tiers.paid().map(|tier| tier.name.to_string());
    match reason {
        NoQuote::UnknownTier { name } => ApiError::UnknownTier {
            name: name.as_deref().map(query::excerpt),
            known: known().collect(),
        },
        NoQuote::NotRenewing { image, tier } => {
            let known: Vec<String> = known().collect();
            let message = format!(
                "Image {image} cannot be renewed with the tier {tier}, which is free or not sold any more. Send ?tier= \
                 with one of: {}.",
                known.join(", ")
            );
            ApiError::Bad(Code::UnknownTier, message)
        }
        NoQuote::NoImage => ApiError::NotFound,
        NoQuote::Removed(image) => ApiError::Unsold(NotRenewable::Removed(image).into()),
        NoQuote::Payment(error) => ApiError::Unsold(error),
        NoQuote::Unasked(error) => ApiError::Unasked(Box::new(ApiError::Limited(error))),
        NoQuote::Upload(error) => error.into(),
    }
}

impl From<Closed> for ApiError {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Behind => Self::Behind,
            Closed::Paused => Self::SaleStopped,
            Closed::NoRoom(full) => full.into(),
        }
    }
}

/// The response with what the payment bought. The receipt of the settlement is in the headers that
/// the client reads.
fn answer(site: &Site, request: &HttpRequest, sold: Sold, access: &Access) -> HttpResponse {
    let receipt = encode(&sold.receipt);
    let mut response: HttpResponseBuilder = match &sold.goods {
        Goods::Image(image) => images::uploaded(site, image),
        Goods::Renewed { .. } | Goods::Token { .. } | Goods::Link(_) => HttpResponse::Ok(),
    };
    for name in settlement_headers(request, sold.version) {
        response.insert_header((name, receipt.as_str()));
    }
    match sold.goods {
        Goods::Image(image) => response.json(images::upload_answer(site, &image)),
        Goods::Renewed { image, renewal } => {
            response.json(images::renewal_answer(site, &image, &renewal, access))
        }
        Goods::Token {
            token,
            expires_at,
            tier,
            uploads,
        } => response.json(token_answer(site, &token, expires_at, tier, uploads)),
        Goods::Link(link) => response.json(links::answer(site, &link)),
    }
}

/// The response body with an upload token.
pub(super) fn token_answer(
    site: &Site,
    token: &UploadToken,
    expires_at: Timestamp,
    tier: String,
    uploads: u32,
) -> TokenAnswer {
    TokenAnswer {
        expires_at: expires_at.to_string(),
        tier,
        token: token.reveal().to_owned(),
        upload_url: format!("{}/api/upload", site.config.http.base_url),
        uploads,
    }
}
