//! Turns every error of the API into a status, a code and a message. No other file does.
//!
//! The response holds a stable code (`codes.rs`), a sentence that helps the sender, what was charged, and what to do next. The
//! cause goes to the log, here, once.

mod codes;
mod explained;
mod teach;
mod verdict;

use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_SECURITY_POLICY, ContentType, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError};
use bytes::Bytes;

use super::challenges::ReusableChallenge;
use super::paid_route::PaidRoute;
use super::payment_headers;
use super::views::{ActionView, ErrorBody};
use crate::images::variants::VariantError;
use crate::images::{Refusal, UploadError};
use crate::limits::Limited;
use crate::model::ids::ImageId;
use crate::model::removal::Ground;
use crate::payments::PayError;
use crate::receipts::NoReceipt;
use crate::retention::DeleteError;
use crate::signin::SignInError;
use crate::system::metrics;
use crate::x402::challenge::Challenge;
use crate::x402::header::{HeaderError, PAYMENT_REQUIRED, encode};
use crate::x402::siwx::SignInChallenge;
use crate::x402::wire::{SettlementResponse, Version};

#[cfg(test)]
pub(super) use codes::Charged;
pub(super) use codes::{Action, Code};
pub(super) use explained::Explained;
pub(super) use teach::name_tiers;
use verdict::Verdict;

// The messages of errors that concern the whole server.
const PAYMENTS_OFF: &str = "This server sells nothing: its operator has configured no facilitator. POST /api/free takes \
    free uploads.";
const SALE_STOPPED: &str = "Sales are paused, because the outcome of too many earlier payments is unknown. Nothing was \
    charged. Repeat the same request later. POST /api/free takes free uploads.";
const BEHIND: &str = "Paid uploads are paused while the operator recovers payment records (pixtoll \
    ledger recover). Earlier payments are safe. POST /api/free takes free uploads.";
const MOVING: &str = "The server's database is being moved, which takes minutes. Images are served meanwhile. Repeat \
    the same request later.";
const MOVED: &str = "The server's database has moved, and another server will take over. Repeat the same request \
    later.";

const REMOVED: &str = "The operator of this server removed the image, so it is not served. Ask the operator if you think \
    that this is a mistake.";
const REMOVED_BY_LAW: &str = "The operator of this server removed the image because of a legal demand, so it is not \
    served. Ask the operator about the demand.";

const SIGN_IN: &str = "Sign in with your wallet: sign the text of ERC-4361 for extensions[\"sign-in-with-x\"] with \
    personal_sign, and repeat the request with the signed message in the header SIGN-IN-WITH-X. Signing in costs nothing.";
const UNCLAIMED: &str =
    "What was paid for could not be read now. Ask for a new challenge, and sign in again.";

/// The message about an image that the operator removed.
const fn removed(ground: Ground) -> &'static str {
    match ground {
        Ground::Policy => REMOVED,
        Ground::Legal => REMOVED_BY_LAW,
    }
}

/// Everything that a request can be refused with.
#[derive(Debug)]
pub(super) enum ApiError {
    /// There is no such image.
    NotFound,
    /// The operator removed the image, and the client may be told.
    Removed(Ground),
    /// The path is not a route of the API.
    UnknownRoute {
        /// The nearest routes, the best first, as `METHOD URL`.
        nearest: Vec<String>,
        /// The URL of the OpenAPI document.
        openapi: String,
    },
    /// The route sells no tier of this name.
    UnknownTier {
        /// The name, where the request had one.
        name: Option<String>,
        /// The tiers that the route sells.
        known: Vec<String>,
    },
    /// The route takes other methods.
    WrongMethod {
        /// The allowed methods, as they appear in the `Allow` header.
        allowed: String,
    },
    /// The image is another version than the request demands.
    AnotherImage,
    /// The requested range starts past the end of the image.
    NoSuchPart {
        /// The length of the image in bytes.
        length: u64,
    },
    /// An image cannot be looked up or read because the database or the store does not answer.
    Unreadable(UploadError),
    /// A variant of an image is not shown.
    Variant(VariantError),
    /// The request makes no sense. The sentence says what to send instead.
    Bad(Code, String),
    /// The payment header cannot be read.
    BadPayment(HeaderError),
    /// No facilitator is configured.
    PaymentsOff,
    /// Sales are paused until earlier payments are resolved.
    SaleStopped,
    /// The database is older than the image store.
    Behind,
    /// The database is being moved, and takes no changes.
    Moving,
    /// The database has moved; another server answers for it.
    Moved,
    /// The upload is refused, and no payment was presented.
    Upload(UploadError),
    /// The upload link takes no upload any more.
    Link {
        /// Why not.
        error: UploadError,
        /// A route that sells another link now.
        route: PaidRoute,
    },
    /// The route sells nothing to this request, and asks for no payment.
    Unsold(PayError),
    /// The client is over a limit, or the server at its capacity.
    Limited(Limited),
    /// The free uploads are used up, for the client or for everybody. The client may pay, or wait.
    FreeSpent {
        /// The limit that was reached.
        error: Limited,
        /// A route that sells an upload of the same image now.
        route: PaidRoute,
    },
    /// A request that carries a payment was refused before the ledger was asked about the payment.
    Unasked(Box<Self>),
    /// The delete token is not the one of this image.
    BadDeleteToken {
        /// The image that the request named.
        id: ImageId,
    },
    /// The wallet that signed in does not own an image of the request.
    NotOwner {
        /// The image.
        id: ImageId,
    },
    /// Images could not be deleted.
    Delete(DeleteError),
    /// There is no receipt.
    Receipt(NoReceipt),
    /// The route sells something, and the request carries no payment.
    PaymentRequired(Box<Demand>),
    /// The request to sign in holds no signed message.
    SignInRequired(Box<SignInDemand>),
    /// The wallet is not signed in.
    SignIn {
        /// The reason.
        error: Box<SignInError>,
        /// The next challenge.
        demand: Box<SignInDemand>,
    },
    /// A payer signed in, and what it paid for could not be read.
    Unclaimed(PayError),
    /// A payment was presented, and bought nothing.
    Pay {
        /// The reason.
        error: PayError,
        /// The offer, for a new payment where that is right.
        demand: Box<Demand>,
        /// The version of x402 that the client used.
        version: Version,
        /// The response headers that describe a settlement to the client.
        settlement_headers: Vec<&'static str>,
    },
}

/// What a route sells, for a challenge.
#[derive(Debug)]
pub(super) struct Demand {
    /// The challenge, with the reason in it.
    pub(super) challenge: Challenge,
    /// The name of the tier that it sells.
    pub(super) tier: String,
    /// A sentence for people.
    pub(super) message: String,
    /// The route's URL.
    pub(super) url: String,
    /// A command that shows how to pay.
    pub(super) curl: String,
    /// The network of the payment, or the first one that is offered.
    pub(super) network: Option<&'static crate::pricing::networks::Network>,
    /// Whether the money is worth nothing.
    pub(super) play_money: bool,
    /// Whether another request without a payment receives the same challenge, except for its ticket.
    pub(super) is_for_all: bool,
}

/// What a route asks a wallet to sign.
#[derive(Debug)]
pub(super) struct SignInDemand {
    /// The challenge.
    pub(super) challenge: SignInChallenge,
    /// The method of the request to repeat.
    pub(super) method: Method,
    /// What the client may send in place of a signed message, as a sentence. Empty: nothing.
    pub(super) instead: &'static str,
}

impl ApiError {
    /// A request that the client has to change: `code`, and a sentence that says how.
    pub(super) fn bad(code: Code, message: impl Into<String>) -> Self {
        Self::Bad(code, message.into())
    }

    /// This error as the response to `request`. Where the request carries a payment and the ledger was not asked about it, the
    /// response says `charged: null`. The ledger was asked before a payment is told that nothing is sold, and an unreadable
    /// payment moved no money.
    pub(super) fn of(self, request: &HttpRequest) -> Self {
        self.beside(payment_headers::has_payment(request))
    }

    /// This error as the response to a request that carries a payment, or carries none.
    pub(super) fn beside(self, has_payment: bool) -> Self {
        match self {
            Self::NotFound
            | Self::Removed(_)
            | Self::UnknownTier { .. }
            | Self::BadPayment(_)
            | Self::Pay { .. }
            | Self::Unsold(_)
            | Self::Unasked(_) => self,
            other if has_payment => Self::Unasked(Box::new(other)),
            other => other,
        }
    }

    /// This error, where the ledger was not asked about the payment that `request` may carry.
    pub(super) fn unless_paid(self, request: &HttpRequest) -> Self {
        if payment_headers::has_payment(request) {
            Self::Unasked(Box::new(self))
        } else {
            self
        }
    }

    /// The status and the message, for a page. The cause is logged.
    pub(super) fn explain(&self) -> (StatusCode, String) {
        self.log();
        (self.status_code(), self.message())
    }

    fn message(&self) -> String {
        match self {
            Self::NotFound => {
                "There is no such image: it never existed, has expired or was deleted, or it is private and the link is not \
                    validly signed."
                    .to_owned()
            }
            Self::Removed(ground) => removed(*ground).to_owned(),
            Self::UnknownRoute { nearest, openapi } => unknown_route(nearest, openapi),
            Self::UnknownTier { name, known } => unknown_tier(name.as_deref(), known),
            Self::WrongMethod { allowed } => {
                format!("This route does not take the method of the request. Send one of: {allowed}.")
            }
            Self::AnotherImage => {
                "The image is not the version that If-Match or If-Unmodified-Since names. Send the request \
                 without this header, or with the image's present ETag."
                    .to_owned()
            }
            Self::NoSuchPart { length } => format!(
                "The requested range starts past the end of the image, which has {length} bytes. Send a range \
                 that starts before byte {length}."
            ),
            Self::Unreadable(_) => {
                "The image cannot be read now. Repeat the same request.".to_owned()
            }
            Self::Variant(error) => error.to_string(),
            Self::Bad(_, message) => message.clone(),
            Self::BadPayment(error) => error.to_string(),
            Self::PaymentsOff => PAYMENTS_OFF.to_owned(),
            Self::SaleStopped => SALE_STOPPED.to_owned(),
            Self::Behind => BEHIND.to_owned(),
            Self::Moving => MOVING.to_owned(),
            Self::Moved => MOVED.to_owned(),
            Self::Upload(error) | Self::Link { error, .. } => error.to_string(),
            Self::Unsold(error) => error.to_string(),
            Self::Limited(error) => error.to_string(),
            Self::FreeSpent { error, .. } => {
                format!("{error} A paid upload is accepted now: see action.url.")
            }
            Self::Unasked(error) => {
                let message = error.message();
                match error.verdict().action {
                    Action::Wait | Action::Retry => {
                        format!("{message} Then repeat the same request; do not pay again.")
                    }
                    _ => message,
                }
            }
            Self::BadDeleteToken { id } => format!(
                "The delete token of image {id} is missing or wrong, so nothing was done. Send the deleteToken \
                 that the upload returned, in the header X-Delete-Token; a list of images may hold it beside the id."
            ),
            Self::NotOwner { id } => format!(
                "The wallet that signed in does not own image {id}, so nothing was done. Sign in with the wallet \
                 that paid for it, or send the image's delete token in X-Delete-Token."
            ),
            Self::Delete(error) => error.to_string(),
            Self::Receipt(error) => error.to_string(),
            Self::PaymentRequired(demand) => demand.message.clone(),
            Self::SignInRequired(demand) => {
                let SignInDemand {
                    challenge, instead, ..
                } = &**demand;
                format!("{} {SIGN_IN} {instead}", challenge.statement)
                    .trim_end()
                    .to_owned()
            }
            Self::SignIn { error, .. } => error.to_string(),
            Self::Unclaimed(_) => UNCLAIMED.to_owned(),
            Self::Pay { error, .. } => error.to_string(),
        }
    }

    /// Counts the error, and logs its cause where somebody should act on it.
    pub(super) fn log(&self) {
        metrics::error(self.verdict().code.facts().name);
        self.log_cause();
    }

    fn log_cause(&self) {
        let failure: Option<&dyn std::fmt::Display> = match self {
            Self::Unasked(error) => return error.log_cause(),
            Self::Limited(Limited::Database(cause)) => Some(cause),
            Self::Upload(error)
            | Self::Unreadable(error)
            | Self::Pay {
                error: PayError::Upload(error),
                ..
            } => match error {
                UploadError::Database(cause) => Some(cause),
                UploadError::Store(cause) => Some(cause),
                _ => None,
            },
            Self::Variant(VariantError::Unreadable(error)) => match &**error {
                UploadError::Database(cause) => Some(cause),
                UploadError::Store(cause) => Some(cause),
                _ => None,
            },
            Self::Pay {
                error: PayError::Database(cause),
                ..
            }
            | Self::Unsold(PayError::Database(cause)) => Some(cause),
            Self::SignIn { error, .. } => match &**error {
                SignInError::Database(cause) => Some(cause),
                SignInError::Limited(Limited::Database(cause)) => Some(cause),
                _ => None,
            },
            Self::Unclaimed(cause) => Some(cause),
            Self::Delete(DeleteError::Database(cause)) => Some(cause),
            Self::Receipt(NoReceipt::Database(cause)) => Some(cause),
            Self::Delete(DeleteError::Store(cause)) => Some(cause),
            _ => None,
        };
        if let Some(error) = failure {
            tracing::error!(%error, "a request failed");
        }
    }

    /// The offer of a 402, which stands in the header for version 2 and in the body for version 1.
    fn demand(&self) -> Option<&Demand> {
        match self {
            Self::PaymentRequired(demand) => Some(demand),
            Self::Pay {
                error: PayError::Invalid { .. } | PayError::Failed { .. },
                demand,
                ..
            } => Some(demand),
            _ => None,
        }
    }

    fn settlement(&self) -> Option<(SettlementResponse, &[&'static str])> {
        let Self::Pay {
            error: PayError::Failed { reason },
            demand,
            version,
            settlement_headers,
        } = self
        else {
            return None;
        };
        let network = demand.network.map_or("", |network| version.spell(network));
        let answer = SettlementResponse {
            success: false,
            error_reason: Some(reason.clone()),
            network: network.to_owned(),
            ..SettlementResponse::default()
        };
        Some((answer, settlement_headers))
    }

    /// The challenge to sign in.
    fn sign_in(&self) -> Option<&SignInDemand> {
        match self {
            Self::Unasked(error) => error.sign_in(),
            Self::SignInRequired(demand) | Self::SignIn { demand, .. } => Some(demand),
            _ => None,
        }
    }

    /// The HTTP response. `hint` is one more sentence for the message, and `claims` the URL of the route to sign in at.
    fn respond(&self, hint: Option<&str>, claims: Option<&str>) -> HttpResponse {
        let Verdict {
            code,
            action,
            seconds,
            ..
        } = self.verdict();
        let status = StatusCode::from_u16(code.facts().status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        response
            .insert_header((CACHE_CONTROL, "no-store"))
            // A message may repeat what the client sent. These headers keep browsers from showing it as a page.
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"));
        let error = match self {
            Self::Unasked(error) => error,
            error => error,
        };
        if let Self::NoSuchPart { length } = error {
            response.insert_header((CONTENT_RANGE, format!("bytes */{length}")));
        }
        if let Self::WrongMethod { allowed } = error {
            response.insert_header((ALLOW, allowed.as_str()));
        }
        if let Some(seconds) = seconds {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        let demand = self.demand();
        if let Some(demand) = demand {
            response.insert_header((PAYMENT_REQUIRED, demand.challenge.header.as_str()));
        }
        let sign_in = self.sign_in();
        if let Some(demand) = sign_in.filter(|_| code == Code::SignInRequired) {
            response.insert_header((PAYMENT_REQUIRED, demand.challenge.header.as_str()));
        }
        if let Some((answer, headers)) = self.settlement() {
            for name in headers {
                response.insert_header((*name, encode(&answer)));
            }
        }
        let body = self.body(hint, claims);
        let explained = Explained {
            code,
            message: body.message.clone(),
            action,
            seconds,
        };
        let mut response = match demand.filter(|demand| demand.is_for_all) {
            Some(demand) => reusable(response, &body, demand),
            None => response.json(body),
        };
        response.extensions_mut().insert(explained);
        response
    }

    /// The body of the response, as JSON. The parameters are those of [`ApiError::respond`].
    fn body(&self, hint: Option<&str>, claims: Option<&str>) -> ErrorBody {
        let Verdict {
            code,
            charged,
            action,
            seconds,
        } = self.verdict();
        let (demand, sign_in) = (self.demand(), self.sign_in());
        let next = match (self, demand) {
            (Self::FreeSpent { route, .. } | Self::Link { route, .. }, _) => {
                Some((route.url.clone(), route.curl.clone()))
            }
            (_, Some(demand)) => Some((demand.url.clone(), demand.curl.clone())),
            (_, None) if action == Action::Claim => sign_in
                .map(|demand| (demand.challenge.uri.as_str(), &demand.method))
                .or(claims.map(|url| (url, &Method::POST)))
                .map(|(url, method)| (url.to_owned(), sign_in_curl(method, url))),
            (_, None) => None,
        };
        let mut message = self.message();
        if let Some(hint) = hint {
            message.push(' ');
            message.push_str(hint);
        }
        ErrorBody {
            accepts: demand.map(|demand| demand.challenge.accepts_v1.clone()),
            action: ActionView {
                curl: next.as_ref().map(|(_, curl)| curl.clone()),
                retry_after_seconds: seconds,
                kind: action.name(),
                url: next.map(|(url, _)| url),
            },
            charged,
            error: code.facts().name,
            extensions: sign_in.map(|demand| demand.challenge.extensions.clone()),
            message,
            play_money: demand.filter(|demand| demand.play_money).map(|_| true),
            x402_version: demand.map(|_| Version::V1.number()),
        }
    }

    /// The challenge of version 2 that the error carries, as it stands in `PAYMENT-REQUIRED`.
    pub(super) fn challenge(&self) -> Option<&str> {
        self.demand().map(|demand| demand.challenge.header.as_str())
    }

    /// What a failed settlement is told in `PAYMENT-RESPONSE`.
    pub(super) fn failed_settlement(&self) -> Option<SettlementResponse> {
        self.settlement().map(|(answer, _)| answer)
    }
}

/// A response with a challenge, from which further ones can be made.
fn reusable(mut response: HttpResponseBuilder, body: &ErrorBody, demand: &Demand) -> HttpResponse {
    let (Ok(bytes), Some(header)) = (serde_json::to_vec(body), demand.challenge.template()) else {
        return response.json(body);
    };
    let body = Bytes::from(bytes);
    let mut response = response
        .content_type(ContentType::json())
        .body(body.clone());
    let reusable = ReusableChallenge {
        header,
        body,
        tier: demand.tier.clone(),
    };
    response.extensions_mut().insert(reusable);
    response
}

/// A command that signs in with the message in `$SIGN_IN`.
fn sign_in_curl(method: &Method, url: &str) -> String {
    let method = match *method {
        Method::GET => String::new(),
        Method::HEAD => "-I ".to_owned(),
        ref other => format!("-X {other} "),
    };
    format!("curl {method}-H \"SIGN-IN-WITH-X: $SIGN_IN\" '{url}'")
}

fn unknown_route(nearest: &[String], openapi: &str) -> String {
    let nearest = match nearest {
        [] => String::new(),
        routes => format!(" The nearest routes are: {}.", routes.join(", ")),
    };
    format!("There is no route at this path.{nearest} {openapi} describes every route.")
}

fn unknown_tier(name: Option<&str>, known: &[String]) -> String {
    let what = match name {
        Some(name) => format!("This route sells no tier \"{name}\"."),
        None => "No tier is sold here.".to_owned(),
    };
    match known {
        [] => format!("{what} See GET /api/tiers."),
        known => format!(
            "{what} Name one of: {}. See GET /api/tiers.",
            known.join(", ")
        ),
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.verdict().code.facts().name)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        let status = StatusCode::from_u16(self.verdict().code.facts().status);
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.log();
        self.respond(None, None)
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        Self::Upload(error)
    }
}

impl From<DeleteError> for ApiError {
    fn from(error: DeleteError) -> Self {
        Self::Delete(error)
    }
}

impl From<NoReceipt> for ApiError {
    fn from(error: NoReceipt) -> Self {
        Self::Receipt(error)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Upload(refusal.into())
    }
}
