//! The one place where an error becomes a status, a code and a message.
//!
//! Out go a stable code, a sentence that helps the sender, what was charged, and what to do next. The
//! cause goes to the log, here, once.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_SECURITY_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde_json::{Map, Value, json};

use super::extract;
use super::paid::PaidRoute;
use crate::ids::ImageId;
use crate::images::format::FormatError;
use crate::images::{Refusal, UploadError};
use crate::limits::Limited;
use crate::payments::{NotRenewable, PayError};
use crate::receipts::NoReceipt;
use crate::retention::DeleteError;
use crate::x402::challenge::Challenge;
use crate::x402::header::{HeaderError, PAYMENT_REQUIRED, encode};
use crate::x402::wire::{SettlementResponse, Version};

/// Everything that a request can be refused with.
#[derive(Debug)]
pub(super) enum ApiError {
    /// No such route, image or tier.
    NotFound,
    /// The route takes other methods.
    WrongMethod {
        /// Which.
        allowed: String,
    },
    /// The image is not the one that the request demands.
    AnotherImage,
    /// The image has no such bytes.
    NoSuchPart {
        /// How many it has.
        length: u64,
    },
    /// An image can't be looked up or read just now.
    Unreadable(UploadError),
    /// The request makes no sense. The sentence says what to send instead.
    BadRequest(String),
    /// The payment header can't be read.
    BadPayment(HeaderError),
    /// This server takes no money.
    PaymentsOff,
    /// Nothing is sold until earlier payments are resolved.
    SaleStopped,
    /// The database is older than what it sold.
    Behind,
    /// The database is being moved, and takes no changes.
    Moving,
    /// Another database stands in the place of this server's.
    Moved,
    /// The upload is refused, and no payment was presented.
    Upload(UploadError),
    /// A route sells nothing to this request, and asks for no payment.
    Unsold(PayError),
    /// It has to come again later.
    Limited(Limited),
    /// The free uploads are spent, for the client or for everybody. It may pay, or come again later.
    FreeSpent {
        /// Which limit was reached.
        error: Limited,
        /// Where the same image is taken now.
        route: PaidRoute,
    },
    /// A request that carries a payment is refused before the ledger was asked about it.
    Unasked(Box<Self>),
    /// The delete token isn't this image's.
    BadDeleteToken {
        /// The image that was named.
        id: ImageId,
    },
    /// Images could not be deleted.
    Delete(DeleteError),
    /// There is no receipt to give.
    Receipt(NoReceipt),
    /// Nothing was paid yet.
    PaymentRequired(Box<Demand>),
    /// A payment was presented, and got no goods.
    Pay {
        /// Why.
        error: PayError,
        /// The offer, to pay again where that is right.
        demand: Box<Demand>,
        /// The version that the client spoke.
        version: Version,
        /// The response headers that tell it of a settlement.
        settlement_headers: Vec<&'static str>,
    },
}

/// What a route asks for.
#[derive(Debug)]
pub(super) struct Demand {
    /// The challenge, with the reason in it.
    pub(super) challenge: Challenge,
    /// A sentence for people.
    pub(super) message: String,
    /// The route's URL.
    pub(super) url: String,
    /// A command that shows how to go on.
    pub(super) curl: String,
    /// The network, in the words of versions 1 and 2.
    pub(super) network: Option<&'static crate::networks::Network>,
    /// Whether the money is play money.
    pub(super) play_money: bool,
}

/// What a client should do next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Wait(u32),
    Retry(u32),
    Pay,
    /// Pay now, or come again after so many seconds.
    PayOrWait(u32),
    Resize,
    FixRequest,
    Contact,
}

struct Parts {
    status: StatusCode,
    code: &'static str,
    charged: Option<bool>,
    action: Action,
}

const fn parts(
    status: StatusCode,
    code: &'static str,
    charged: Option<bool>,
    action: Action,
) -> Parts {
    Parts {
        status,
        code,
        charged,
        action,
    }
}

const NO: Option<bool> = Some(false);

impl ApiError {
    /// The same, as the answer to `request`. What became of a payment that it carries is not known where
    /// the ledger wasn't asked. It was before a payment is told that nothing is sold there; and what can't
    /// be read as one moved nothing.
    pub(super) fn of(self, request: &HttpRequest) -> Self {
        match self {
            Self::NotFound
            | Self::BadPayment(_)
            | Self::Pay { .. }
            | Self::Unsold(_)
            | Self::Unasked(_) => self,
            other => other.unless_paid(request),
        }
    }

    /// The same, where nobody asked the ledger for the payment that `request` may carry.
    pub(super) fn unless_paid(self, request: &HttpRequest) -> Self {
        if extract::has_payment(request) {
            Self::Unasked(Box::new(self))
        } else {
            self
        }
    }

    fn parts(&self) -> Parts {
        match self {
            Self::NotFound => parts(StatusCode::NOT_FOUND, "not_found", NO, Action::FixRequest),
            Self::WrongMethod { .. } => parts(
                StatusCode::METHOD_NOT_ALLOWED,
                "bad_request",
                NO,
                Action::FixRequest,
            ),
            Self::AnotherImage => {
                let status = StatusCode::PRECONDITION_FAILED;
                parts(status, "bad_request", NO, Action::FixRequest)
            }
            Self::NoSuchPart { .. } => {
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                parts(status, "bad_request", NO, Action::FixRequest)
            }
            Self::Unreadable(_) => parts(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                NO,
                Action::Retry(2),
            ),
            Self::BadRequest(_) => parts(
                StatusCode::BAD_REQUEST,
                "bad_request",
                NO,
                Action::FixRequest,
            ),
            Self::BadPayment(_) => parts(
                StatusCode::BAD_REQUEST,
                "bad_payment",
                NO,
                Action::FixRequest,
            ),
            Self::PaymentsOff => unsold(Action::Contact),
            Self::SaleStopped => unsold(Action::Retry(30)),
            Self::Behind => unsold(Action::Retry(60)),
            Self::Moving | Self::Moved => busy(),
            Self::Upload(error) => upload_parts(error),
            Self::Unsold(error) => pay_parts(error),
            Self::Limited(error) => limited_parts(error),
            Self::FreeSpent { error, .. } => spent_parts(error),
            Self::Unasked(error) => Parts {
                charged: None,
                ..error.parts()
            },
            Self::BadDeleteToken { .. } => parts(
                StatusCode::UNAUTHORIZED,
                "bad_delete_token",
                NO,
                Action::FixRequest,
            ),
            Self::Delete(error) => delete_parts(error),
            Self::Receipt(error) => receipt_parts(error),
            Self::PaymentRequired(_) => parts(
                StatusCode::PAYMENT_REQUIRED,
                "payment_required",
                NO,
                Action::Pay,
            ),
            Self::Pay { error, .. } => pay_parts(error),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NotFound => {
                "There is nothing here, or not any more. See GET /api/tiers for what is sold."
                    .to_owned()
            }
            Self::WrongMethod { allowed } => format!("This route takes {allowed} only."),
            Self::AnotherImage => {
                "The image here is not the one that If-Match or If-Unmodified-Since names."
                    .to_owned()
            }
            Self::NoSuchPart { length } => {
                format!("The image has {length} bytes; the range lies past its end.")
            }
            Self::Unreadable(_) => {
                "The image can't be read just now. Send the same request again.".to_owned()
            }
            Self::BadRequest(message) => message.clone(),
            Self::BadPayment(error) => error.to_string(),
            Self::PaymentsOff => {
                "Paid tiers are off on this server: its operator has configured no facilitator. \
                 POST /api/free takes free uploads."
                    .to_owned()
            }
            Self::SaleStopped => {
                "Payments can't be confirmed just now, so nothing is sold; nothing was charged. Repeat the \
                 same request in a while. POST /api/free takes free uploads."
                    .to_owned()
            }
            Self::Behind => {
                "Paid uploads rest here until what was paid before is found again: the server's database is \
                 older than its images, and its operator has to run pixtoll ledger recover. Nothing that was \
                 paid is lost. POST /api/free takes free uploads."
                    .to_owned()
            }
            Self::Moving => {
                "This server's records are being moved: images are served, and nothing is uploaded, sold or \
                 deleted until that is done, which takes minutes."
                    .to_owned()
            }
            Self::Moved => {
                "This server's records have moved, and another server stands in its place: it answers soon."
                    .to_owned()
            }
            Self::Upload(error) => error.to_string(),
            Self::Unsold(error) => error.to_string(),
            Self::Limited(error) => error.to_string(),
            Self::FreeSpent { error, .. } => {
                format!("{error} A paid upload is accepted now: see action.url.")
            }
            Self::Unasked(error) => {
                let message = error.message();
                match error.parts().action {
                    Action::Wait(_) | Action::Retry(_) => {
                        format!("{message} Then repeat the same request; do not pay again.")
                    }
                    _ => message,
                }
            }
            Self::BadDeleteToken { id } => format!(
                "The delete token of image {id} is missing or wrong; nothing was deleted. Send the deleteToken that its upload returned, in X-Delete-Token or beside its id."
            ),
            Self::Delete(error) => error.to_string(),
            Self::Receipt(error) => error.to_string(),
            Self::PaymentRequired(demand) => demand.message.clone(),
            Self::Pay { error, .. } => error.to_string(),
        }
    }

    /// The cause, for the log: only what someone should act on.
    fn log(&self) {
        let failure: Option<&dyn std::fmt::Display> = match self {
            Self::Unasked(error) => return error.log(),
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
            Self::Pay {
                error: PayError::Database(cause),
                ..
            }
            | Self::Unsold(PayError::Database(cause)) => Some(cause),
            Self::Delete(DeleteError::Database(cause)) => Some(cause),
            Self::Receipt(NoReceipt::Database(cause)) => Some(cause),
            Self::Delete(DeleteError::Store(cause)) => Some(cause),
            _ => None,
        };
        if let Some(error) = failure {
            tracing::error!(%error, "a request failed");
        }
    }

    /// The answer 402 carries the offer, in the header for version 2 and in the body for version 1.
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

    fn respond(&self) -> HttpResponse {
        self.log();
        let Parts {
            status,
            code,
            charged,
            action,
        } = self.parts();
        let mut response = HttpResponse::build(status);
        response
            .insert_header((CACHE_CONTROL, "no-store"))
            // What a client sent may stand in a message: no browser may take it for a page.
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
        let mut body = Map::new();
        body.insert("error".to_owned(), json!(code));
        body.insert("message".to_owned(), json!(self.message()));
        body.insert("charged".to_owned(), json!(charged));
        let mut steps = json!({"type": action.name()});
        if let (Some(seconds), Some(fields)) = (action.seconds(), steps.as_object_mut()) {
            fields.insert("retryAfterSeconds".to_owned(), json!(seconds));
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if let (Self::FreeSpent { route, .. }, Some(fields)) = (self, steps.as_object_mut()) {
            fields.insert("url".to_owned(), json!(route.url));
            fields.insert("curl".to_owned(), json!(route.curl));
        }
        if let Some(demand) = self.demand() {
            if let Some(fields) = steps.as_object_mut() {
                fields.insert("url".to_owned(), json!(demand.url));
                fields.insert("curl".to_owned(), json!(demand.curl));
            }
            body.insert("x402Version".to_owned(), json!(1));
            body.insert(
                "accepts".to_owned(),
                Value::Array(demand.challenge.accepts_v1.clone()),
            );
            if demand.play_money {
                body.insert("playMoney".to_owned(), json!(true));
            }
            response.insert_header((PAYMENT_REQUIRED, demand.challenge.header.as_str()));
        }
        body.insert("action".to_owned(), steps);
        if let Some((answer, headers)) = self.settlement() {
            for name in headers {
                response.insert_header((*name, encode(&answer)));
            }
        }
        response.json(Value::Object(body))
    }
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Wait(_) => "wait",
            Self::Retry(_) => "retry",
            Self::Pay | Self::PayOrWait(_) => "pay",
            Self::Resize => "resize",
            Self::FixRequest => "fix_request",
            Self::Contact => "contact",
        }
    }

    const fn seconds(self) -> Option<u32> {
        match self {
            Self::Wait(seconds) | Self::Retry(seconds) | Self::PayOrWait(seconds) => Some(seconds),
            _ => None,
        }
    }
}

fn upload_parts(error: &UploadError) -> Parts {
    match error {
        UploadError::Refused(refusal) => refusal_parts(refusal),
        UploadError::BadToken => parts(StatusCode::UNAUTHORIZED, "bad_token", NO, Action::Pay),
        UploadError::TokenExpired { .. } => {
            // Its payment still buys: to pay again would be once too many.
            parts(StatusCode::GONE, "token_expired", NO, Action::FixRequest)
        }
        UploadError::TokenUsed => parts(StatusCode::CONFLICT, "token_used", NO, Action::Pay),
        UploadError::Withheld => parts(
            StatusCode::SERVICE_UNAVAILABLE,
            "settlement_pending",
            None,
            Action::Wait(60),
        ),
        UploadError::TokenBusy => parts(
            StatusCode::CONFLICT,
            "payment_in_progress",
            NO,
            Action::Wait(1),
        ),
        UploadError::Full(_) => parts(
            StatusCode::INSUFFICIENT_STORAGE,
            "storage_full",
            NO,
            Action::Wait(60),
        ),
        UploadError::Unready(_) => busy(),
        UploadError::Store(error) if error.is_passing() => busy(),
        UploadError::Database(_) | UploadError::Store(_) | UploadError::Interrupted => parts(
            StatusCode::INTERNAL_SERVER_ERROR,
            "upload_failed",
            NO,
            Action::Retry(2),
        ),
    }
}

/// Nothing is sold.
fn unsold(action: Action) -> Parts {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    parts(status, "facilitator_unavailable", NO, action)
}

/// Something behind the server doesn't answer just now, and nothing happened.
fn busy() -> Parts {
    parts(
        StatusCode::SERVICE_UNAVAILABLE,
        "busy",
        NO,
        Action::Retry(5),
    )
}

fn limited_parts(error: &Limited) -> Parts {
    let too_many = StatusCode::TOO_MANY_REQUESTS;
    match error {
        Limited::Rate { wait, .. } => parts(too_many, "rate_limited", NO, wait_for(*wait)),
        Limited::Day { wait, .. } | Limited::HalfDay { wait, .. } => {
            parts(too_many, "daily_limit", NO, wait_for(*wait))
        }
        Limited::Busy | Limited::Crowded | Limited::Thronged => {
            parts(StatusCode::SERVICE_UNAVAILABLE, "busy", NO, Action::Wait(1))
        }
        Limited::Database(_) => parts(
            StatusCode::INTERNAL_SERVER_ERROR,
            "upload_failed",
            NO,
            Action::Retry(2),
        ),
    }
}

/// The free uploads are spent, and a paid one is accepted now.
fn spent_parts(error: &Limited) -> Parts {
    let waiting = limited_parts(error);
    let seconds = waiting.action.seconds();
    Parts {
        action: seconds.map_or(Action::Pay, Action::PayOrWait),
        ..waiting
    }
}

/// Whole seconds, rounded up: who comes then is served.
fn wait_for(time: Duration) -> Action {
    let seconds = time.as_millis().div_ceil(1000).max(1);
    Action::Wait(u32::try_from(seconds).unwrap_or(u32::MAX))
}

fn delete_parts(error: &DeleteError) -> Parts {
    let seconds = match error {
        DeleteError::Held(_) => 3600,
        DeleteError::Renewing(_) => 30,
        DeleteError::Database(_) | DeleteError::Store(_) | DeleteError::Interrupted => 5,
    };
    parts(
        StatusCode::SERVICE_UNAVAILABLE,
        "busy",
        NO,
        Action::Retry(seconds),
    )
}

fn receipt_parts(error: &NoReceipt) -> Parts {
    let unready = StatusCode::SERVICE_UNAVAILABLE;
    match error {
        NoReceipt::Unknown | NoReceipt::Free | NoReceipt::Unpaid => {
            parts(StatusCode::NOT_FOUND, "not_found", NO, Action::FixRequest)
        }
        NoReceipt::Frozen => parts(unready, "settlement_pending", None, Action::Retry(60)),
        NoReceipt::Database(_) => parts(unready, "busy", NO, Action::Retry(5)),
    }
}

fn refusal_parts(refusal: &Refusal) -> Parts {
    let bad = StatusCode::BAD_REQUEST;
    match refusal {
        Refusal::NoFile => parts(bad, "no_file", NO, Action::FixRequest),
        Refusal::BadBody(_) => parts(bad, "bad_request", NO, Action::FixRequest),
        Refusal::TooLarge { .. } => parts(
            StatusCode::PAYLOAD_TOO_LARGE,
            "file_too_large",
            NO,
            Action::Resize,
        ),
        Refusal::Format(FormatError::Empty) => parts(bad, "empty_file", NO, Action::FixRequest),
        Refusal::Format(FormatError::Unsupported(_)) => parts(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_format",
            NO,
            Action::FixRequest,
        ),
        Refusal::Format(FormatError::Corrupt { .. }) => {
            parts(bad, "corrupt_image", NO, Action::FixRequest)
        }
        Refusal::Format(
            FormatError::TooManyPixels { .. }
            | FormatError::TooManyTotalPixels { .. }
            | FormatError::SideTooLong { .. }
            | FormatError::TooSlow { .. },
        ) => parts(bad, "too_many_pixels", NO, Action::Resize),
        Refusal::Trailing | Refusal::Damaged(_) => {
            parts(bad, "metadata_not_kept", NO, Action::FixRequest)
        }
        Refusal::Format(FormatError::TooManyFrames { .. }) => {
            parts(bad, "too_many_frames", NO, Action::Resize)
        }
    }
}

fn renewal_parts(error: &NotRenewable) -> Parts {
    let action = match error {
        NotRenewable::Permanent(_)
        | NotRenewable::TooLarge { .. }
        | NotRenewable::TooFar { .. } => Action::FixRequest,
        NotRenewable::Held(_) => Action::Contact,
        NotRenewable::Busy(_) => Action::Retry(30),
    };
    parts(StatusCode::CONFLICT, "not_renewable", NO, action)
}

fn pay_parts(error: &PayError) -> Parts {
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    match error {
        PayError::Invalid { .. } => parts(
            StatusCode::PAYMENT_REQUIRED,
            "payment_invalid",
            NO,
            Action::Pay,
        ),
        PayError::Failed { .. } => parts(
            StatusCode::PAYMENT_REQUIRED,
            "payment_failed",
            NO,
            Action::Pay,
        ),
        PayError::Known { charged } => parts(
            StatusCode::CONFLICT,
            "payment_known",
            *charged,
            Action::Retry(5),
        ),
        PayError::Credited => parts(
            StatusCode::CONFLICT,
            "payment_known",
            Some(true),
            Action::Pay,
        ),
        PayError::InProgress => parts(
            StatusCode::CONFLICT,
            "payment_in_progress",
            None,
            Action::Wait(1),
        ),
        PayError::Conflict { charged } => parts(
            StatusCode::CONFLICT,
            "idempotency_conflict",
            *charged,
            Action::FixRequest,
        ),
        PayError::Pending => parts(unavailable, "settlement_pending", None, Action::Wait(5)),
        PayError::Unavailable => {
            parts(unavailable, "facilitator_unavailable", NO, Action::Retry(5))
        }
        PayError::Resolved => parts(
            StatusCode::CONFLICT,
            "payment_known",
            Some(true),
            Action::Contact,
        ),
        PayError::Gone => parts(StatusCode::NOT_FOUND, "not_found", Some(true), Action::Pay),
        PayError::NoImage => parts(StatusCode::NOT_FOUND, "not_found", NO, Action::FixRequest),
        PayError::NotRenewable(error) => renewal_parts(error),
        PayError::Upload(error) => upload_parts(error),
        PayError::Limited(error) => limited_parts(error),
        PayError::Database(_) => parts(
            StatusCode::INTERNAL_SERVER_ERROR,
            "upload_failed",
            None,
            Action::Retry(2),
        ),
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.parts().code)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.parts().status
    }

    fn error_response(&self) -> HttpResponse {
        self.respond()
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
