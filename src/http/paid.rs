//! The routes that sell. A request without a payment receives the price and the ways to pay (402).
//! A request with a payment receives what it bought.

use std::net::IpAddr;

use actix_web::http::Method;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};

use super::body::{BodyError, Limit, read_image, refuse_announced};
use super::error::{ApiError, Code, Demand};
use super::views::TokenAnswer;
use super::{Site, extract, images, limits, query};
use crate::app::Checkout;
use crate::images::{Metadata, Refusal, UploadError};
use crate::keys::secrets::sha256_hex;
use crate::model::payment::{Product, ProductKind};
use crate::model::token::UploadToken;
use crate::payments::{Asked, Body, Goods, PayError, Presentation, RequestProofs, Sold};
use crate::pricing::networks::Network;
use crate::pricing::tiers::{Tier, TierName, TierTable};
use crate::x402::header::{PaymentHeader, encode};

/// The most uploads that one payment buys.
const MOST_USES: u32 = 100;

/// What a request buys, and the payment that it carries.
pub(super) struct Purchase<'a> {
    /// The offers of this server and its payments.
    pub(super) checkout: &'a Checkout,
    /// The tier from the price table. For a known payment it is the tier as it was when the payment
    /// bought it.
    pub(super) tier: Tier,
    /// The kind, tier and number of what is sold, and the image of a renewal.
    pub(super) product: Product,
    /// Whether the route names no tier, so that the default tier is sold.
    pub(super) is_default: bool,
    /// The path and query of the URL that the offer names.
    pub(super) path: String,
    /// What the query says of the metadata of an upload.
    pub(super) metadata: Option<Metadata>,
    /// The payment that the request carries, if any.
    pub(super) header: Option<PaymentHeader>,
}

/// A route that sells, and how to pay there.
#[derive(Debug)]
pub(super) struct PaidRoute {
    /// The route's URL.
    pub(super) url: String,
    /// A curl command that pays there with the payment in `$PAYMENT`.
    pub(super) curl: String,
}

impl PaidRoute {
    /// The route at `path`, which sells products of this kind.
    fn at(checkout: &Checkout, kind: ProductKind, path: &str, metadata: Option<Metadata>) -> Self {
        let url = checkout.catalog.url(path);
        let image = match kind {
            ProductKind::Upload => "-F image=@image.png",
            ProductKind::Token | ProductKind::Renewal => "-X POST",
        };
        // The URL is that of the offer, which has no `?metadata=`.
        let metadata = match metadata {
            None => "",
            Some(Metadata::Remove) => " -F metadata=remove",
            Some(Metadata::Keep) => " -F metadata=keep",
        };
        let curl = format!("curl {image}{metadata} -H \"PAYMENT-SIGNATURE: $PAYMENT\" '{url}'");
        Self { url, curl }
    }

    /// The route of a direct upload to the cheapest tier with a price, or to the first one of
    /// several. `None`: nothing is sold now.
    pub(super) fn cheapest(site: &Site) -> Option<Self> {
        let checkout = site.checkout.as_ref()?;
        if refuse_behind(site).is_err()
            || site.images.has_room().is_err()
            || checkout.payments.is_sale_stopped()
        {
            return None;
        }
        let tiers = checkout.catalog.tiers();
        let paid = tiers.iter().filter(|tier| !tier.is_free());
        let cheapest = paid.min_by_key(|tier| tier.price)?;
        Some(Self::at(
            checkout,
            ProductKind::Upload,
            &format!("/api/upload/{}", cheapest.name.as_str()),
            None,
        ))
    }
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
    let route = Route {
        tier,
        path: request.path(),
    };
    let mut purchase = open_purchase(site, request, ProductKind::Token, route).await?;
    let Some(header) = purchase.header.take() else {
        return Err(purchase.ask(site));
    };
    let presentation = purchase.presentation(site, request, header, None)?;
    purchase.sell(site, request, presentation).await
}

/// `POST`, `GET` and `PUT /api/upload[/{tier}]`: stores an image for an upload token or, without a
/// token, for a payment. `curl -T` appends the name of the file to a URL that ends in a slash.
pub(super) async fn upload(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let route = Route::of(&request);
    query::check(&request, &[query::METADATA, query::IMAGES])
        .map_err(|error| error.of(&request))?;
    query::metadata(&request).map_err(|error| error.of(&request))?;
    if let Some(token) = extract::upload_token(&request)? {
        if route.tier.is_some() {
            let message = "The path names a tier, but an upload token already has its tier. Send the image with the token to POST /api/upload.";
            return Err(ApiError::bad(Code::InvalidParameter, message));
        }
        return upload_with_token(&site, &request, payload, token).await;
    }
    let sold = sell_upload(&site, &request, route, payload).await;
    sold.map_err(|error| error.of(&request))
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
    let mut purchase = open_purchase(site, request, ProductKind::Upload, route).await?;
    let Some(header) = purchase.header.take() else {
        // An upload that the tier can't take is refused before the client is asked to pay.
        refuse_announced(request, purchase.limit())?;
        return Err(purchase.ask(site));
    };
    let body = read_body(site, request, payload, &purchase, &header).await?;
    let presentation = purchase.presentation(site, request, header, body)?;
    purchase.sell(site, request, presentation).await
}

/// Stores an image for an upload token, and counts the failures of the client.
async fn upload_with_token(
    site: &Site,
    request: &HttpRequest,
    payload: Payload,
    token: UploadToken,
) -> Result<HttpResponse, ApiError> {
    // A successful upload spends a use of the token. A failed one spends none, so a limit counts
    // it.
    limits::may_fail(site, request)?;
    let uploaded = take_for_token(site, request, payload, token).await;
    if let Err(error) = &uploaded {
        limits::count_failure(site, request, error);
    }
    uploaded
}

/// Reads, checks and stores an image for an upload token.
async fn take_for_token(
    site: &Site,
    request: &HttpRequest,
    payload: Payload,
    token: UploadToken,
) -> Result<HttpResponse, ApiError> {
    let arrived = site.clock.now();
    // The payment header is not read.
    if extract::has_payment(request) {
        let message = "The request carries an upload token and a payment, and only one of them is allowed. Send the request without the payment, which was not used now.";
        return Err(ApiError::bad(Code::ConflictingCredentials, message).of(request));
    }
    refuse_behind(site)?;
    let grant = site.images.find_token(&token, arrived).await?;
    let limit = Limit {
        tier: &grant.product.tier,
        max_bytes: grant.max_bytes,
    };
    site.images.has_room()?;
    let body = read_image(site, request, payload, limit).await;
    let body = body.map_err(|error| error.of(request))?;
    let checked = limits::checked(site, request, body, limit).await??;
    let image = site.images.upload_granted(grant, arrived, checked).await?;
    Ok(images::uploaded(site, &image).json(images::upload_answer(site, &image)))
}

/// Refuses to sell while the database is older than the image store. A ledger that has lost records
/// would sell twice, and deny what it sold.
pub(super) fn refuse_behind(site: &Site) -> Result<(), ApiError> {
    if site.checkout.is_some() && !site.epoch.is_current() {
        return Err(ApiError::Behind);
    }
    Ok(())
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
    let mut limit = purchase.limit();
    // The payment may have bought a larger upload than the tier allows today. Its client repeats
    // the request with the same bytes.
    let bought = purchase.checkout.payments.find_size(header).await;
    if let Some(bought) = bought.map_err(ApiError::Unsold)? {
        limit.max_bytes = limit.max_bytes.max(bought);
    }
    let arrived = match read_image(site, request, payload, limit).await {
        Ok(arrived) => arrived,
        Err(BodyError::Limited(limited)) => return Err(limits::refuse(request, limited)),
        Err(BodyError::Refused(Refusal::NoFile)) => return Ok(None),
        // A body that was not read to its end has no hash. This text equals no hash.
        Err(BodyError::Refused(refusal)) => {
            return Ok(Some(Body {
                sha256: "unread".to_owned(),
                checked: Err(refusal),
            }));
        }
    };
    let bytes = arrived.bytes.clone();
    match limits::checked(site, request, arrived, limit).await? {
        Ok(checked) => Ok(Some(Body {
            sha256: checked.upload_sha256().to_owned(),
            checked: Ok(checked),
        })),
        Err(UploadError::Refused(refusal)) => Ok(Some(Body {
            sha256: sha256_hex(&bytes),
            checked: Err(refusal),
        })),
        Err(error) => Err(ApiError::Upload(error)),
    }
}

/// Reads the payment, and determines the tier and product: those of the route, or those of a known
/// payment.
async fn open_purchase<'a>(
    site: &'a Site,
    request: &HttpRequest,
    kind: ProductKind,
    route: Route<'_>,
) -> Result<Purchase<'a>, ApiError> {
    let name = route.tier;
    let checkout = site.checkout.as_ref().ok_or(ApiError::PaymentsOff)?;
    let uses = uses(request, kind)?;
    let tiers = checkout.catalog.tiers();
    let tier = match name {
        Some(name) => tiers.find(name).filter(|tier| !tier.is_free()),
        None => tiers.default_paid(),
    };
    if tier.is_none() && !extract::has_payment(request) {
        return Err(unknown_tier(&tiers, name));
    }
    limits::count_payment(site, request).await?;
    let header = extract::payment(request)?;
    // Each product has one URL, because clients repeat it in their payment.
    let path = match uses {
        1 => route.path.to_owned(),
        uses => format!("{}?images={uses}", route.path),
    };
    let (tier, product) = match (tier, &header) {
        (Some(tier), Some(header)) if name.is_none() => {
            let product = sold(kind, tier, uses);
            let offered = checkout.payments.find_default(header, &product).await;
            match offered.map_err(ApiError::Unsold)? {
                Some(offered) => {
                    let tier = offered.tier().ok_or_else(|| unknown_tier(&tiers, name))?;
                    (tier, offered.product)
                }
                None => (tier.clone(), product),
            }
        }
        (Some(tier), _) => (tier.clone(), sold(kind, tier, uses)),
        (None, None) => return Err(unknown_tier(&tiers, name)),
        // The ledger is asked about the payment before the route's tier is refused
        // (docs/payments.md, rule 8).
        (None, Some(header)) => {
            let asked = Asked {
                kind,
                tier: name,
                uses,
                target: None,
                resource_url: &checkout.catalog.url(&path),
            };
            let bought = checkout.payments.find_bought(header, asked).await;
            let Some(bought) = bought.map_err(ApiError::Unsold)? else {
                let client = extract::client_address(request, &site.config.http);
                return Err(
                    unless_used(checkout, header, client, unknown_tier(&tiers, name)).await,
                );
            };
            // The payment is known, and the recorded name of its tier is no valid name.
            let elsewhere = ApiError::Unsold(PayError::Known { charged: None });
            (bought.tier().ok_or(elsewhere)?, bought.product)
        }
    };
    Ok(Purchase {
        checkout,
        tier,
        product,
        is_default: name.is_none(),
        path,
        metadata: query::metadata(request)?,
        header,
    })
}

/// The error for a tier that paid routes do not sell.
fn unknown_tier(table: &TierTable, name: Option<&str>) -> ApiError {
    ApiError::UnknownTier {
        name: name.map(query::excerpt),
        known: table.paid().map(|tier| tier.name.to_string()).collect(),
    }
}

/// The error for a payment that the ledger doesn't know, on a route that sells nothing: `reason`,
/// unless the chain shows that the payment's authorization is used. In that case the ledger may
/// have lost the payment and what it bought, so the error must not say that no money moved.
pub(super) async fn unless_used(
    checkout: &Checkout,
    header: &PaymentHeader,
    client: Option<IpAddr>,
    reason: ApiError,
) -> ApiError {
    match checkout.payments.refuse_used(header, client).await {
        Ok(()) => reason,
        Err(PayError::Limited(error)) => ApiError::Unasked(Box::new(ApiError::Limited(error))),
        Err(error) => ApiError::Unsold(error),
    }
}

/// The product of an upload or token request.
fn sold(kind: ProductKind, tier: &Tier, uses: u32) -> Product {
    Product {
        kind,
        tier: tier.name.to_string(),
        uses,
        target: None,
    }
}

/// The number of uploads to buy: `?images=N` on the token routes, otherwise one.
fn uses(request: &HttpRequest, kind: ProductKind) -> Result<u32, ApiError> {
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

impl Purchase<'_> {
    /// The size limit of the upload.
    fn limit(&self) -> Limit<'_> {
        Limit {
            tier: &self.product.tier,
            max_bytes: self.checkout.catalog.largest(&self.tier),
        }
    }

    /// The 402 error with the price and the ways to pay. If the server couldn't serve a new payment
    /// now, the error says so instead.
    pub(super) fn ask(&self, site: &Site) -> ApiError {
        if let Err(full) = site.images.has_room() {
            return full.into();
        }
        if self.checkout.payments.is_sale_stopped() {
            return ApiError::SaleStopped;
        }
        let uses = self.product.uses;
        let price = self.tier.price.checked_mul(u64::from(uses));
        let price = price.unwrap_or(self.tier.price).to_decimal_usd();
        let bought = match self.product.kind {
            ProductKind::Renewal => self.tier.describe_renewal(),
            ProductKind::Token | ProductKind::Upload => self.tier.describe_many(uses),
        };
        let message = format!(
            "This costs {price} USDC: {bought}. Sign an offer of x402 (version 2: header PAYMENT-REQUIRED; version 1: this \
             body) and repeat the same request with the payment in PAYMENT-SIGNATURE or X-PAYMENT. {} shows how.",
            self.checkout.catalog.url("/docs")
        );
        ApiError::PaymentRequired(self.demand("Payment required", message, None))
    }

    /// The offer with a challenge, its reason and a message. `network` is the network of the
    /// payment, if there is one.
    fn demand(
        &self,
        reason: &str,
        message: String,
        network: Option<&'static Network>,
    ) -> Box<Demand> {
        let PaidRoute { url, curl } =
            PaidRoute::at(self.checkout, self.product.kind, &self.path, self.metadata);
        Box::new(Demand {
            challenge: self.checkout.catalog.challenge(
                &self.product,
                &self.tier,
                &self.path,
                reason,
            ),
            message,
            curl,
            url,
            network: network.or_else(|| self.checkout.catalog.networks().first().copied()),
            play_money: self.checkout.catalog.is_play_money(),
        })
    }

    /// The payment with everything of its request that is needed to judge it.
    pub(super) fn presentation(
        &self,
        site: &Site,
        request: &HttpRequest,
        header: PaymentHeader,
        body: Option<Body>,
    ) -> Result<Presentation, ApiError> {
        let key = extract::idempotency_key(request)?;
        let address = extract::own_address(request, &site.config.http);
        Ok(Presentation {
            evidence: RequestProofs::of(&header, key.as_deref(), address),
            product: self.product.clone(),
            is_default: self.is_default,
            resource_url: self.checkout.catalog.url(&self.path),
            header,
            body,
            client: extract::client_address(request, &site.config.http),
        })
    }

    /// Submits the payment, and returns the response: what it bought, or an error with a new
    /// challenge.
    pub(super) async fn sell(
        self,
        site: &Site,
        request: &HttpRequest,
        presentation: Presentation,
    ) -> Result<HttpResponse, ApiError> {
        let (version, network) = (presentation.header.version, presentation.header.network);
        match self.checkout.payments.present(presentation).await {
            Ok(sold) => Ok(answer(site, request, sold)),
            Err(error) => {
                let reason = match &error {
                    PayError::Invalid { reason, .. } | PayError::Failed { reason } => {
                        reason.clone()
                    }
                    _ => String::new(),
                };
                let demand = self.demand(&reason, String::new(), network);
                Err(ApiError::Pay {
                    error,
                    demand,
                    version,
                    settlement_headers: extract::settlement_headers(request, version).collect(),
                })
            }
        }
    }
}

/// The response with what the payment bought. The receipt of the settlement is in the headers that
/// the client reads.
fn answer(site: &Site, request: &HttpRequest, sold: Sold) -> HttpResponse {
    let receipt = encode(&sold.receipt);
    let mut response: HttpResponseBuilder = match &sold.goods {
        Goods::Image(image) => images::uploaded(site, image),
        Goods::Renewed { .. } | Goods::Token { .. } => HttpResponse::Ok(),
    };
    for name in extract::settlement_headers(request, sold.version) {
        response.insert_header((name, receipt.as_str()));
    }
    match sold.goods {
        Goods::Image(image) => response.json(images::upload_answer(site, &image)),
        Goods::Renewed { image, renewal } => {
            response.json(images::renewal_answer(site, &image, &renewal))
        }
        Goods::Token {
            token,
            expires_at,
            tier,
            uploads,
        } => response.json(TokenAnswer {
            expires_at: expires_at.to_string(),
            tier,
            token: token.reveal().to_owned(),
            upload_url: format!("{}/api/upload", site.config.http.base_url),
            uploads,
        }),
    }
}
