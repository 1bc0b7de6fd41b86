//! Errors as pages. A person who follows a link to an image that has ended, or to a route that is for programs, reads the
//! message of the error in a page; everybody else receives the JSON.

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderValue, VARY};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::super::Site;
use super::super::error::{Action, Code, Explained};
use super::{Assets, Layout, layout, send, wants_page};

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    layout: Layout<'a>,
    status: StatusCode,
    code: &'static str,
    heading: &'static str,
    message: &'a str,
    next: Step,
    /// How long to wait, in seconds.
    seconds: Option<u32>,
    /// The name of a paid tier, for the example.
    tier: Option<String>,
    base: &'a str,
}

/// What the page proposes to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Upload an image.
    Upload,
    /// Pay.
    Pay,
    /// Sign in with a wallet.
    SignIn,
    /// Read how programs use the address.
    Read,
    /// Come back later.
    Wait,
    /// Write to the operator.
    Contact,
}

impl Step {
    fn after(explained: &Explained) -> Self {
        match (explained.code, explained.action) {
            (Code::PaymentRequired | Code::PaymentInvalid | Code::PaymentFailed, _) => Self::Pay,
            (Code::SignInRequired | Code::SignInInvalid, _) => Self::SignIn,
            (Code::NotFound | Code::ImageGone | Code::LinkUnknown | Code::UnknownRoute, _) => {
                Self::Upload
            }
            (_, Action::Wait | Action::Retry) => Self::Wait,
            (_, Action::Contact) => Self::Contact,
            _ => Self::Read,
        }
    }
}

/// Middleware that answers a browser with a page in place of an error in JSON. The status and the other headers stay.
pub(in crate::http) async fn explain_errors<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let may_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = next.call(request).await?;
    let status = response.status();
    if !may_read || !(status.is_client_error() || status.is_server_error()) {
        return Ok(response.map_into_left_body());
    }
    let explained = response.response().extensions().get::<Explained>().cloned();
    let Some(explained) = explained else {
        return Ok(response.map_into_left_body());
    };
    if !wants_page(response.request()) {
        let varies = HeaderValue::from_static("Accept");
        response.headers_mut().append(VARY, varies);
        return Ok(response.map_into_left_body());
    }
    let Some(mut page) = page(response.request(), status, &explained) else {
        return Ok(response.map_into_left_body());
    };
    let headers = page.headers_mut();
    for (name, value) in response.headers() {
        if !headers.contains_key(name) {
            headers.insert(name.clone(), value.clone());
        }
    }
    Ok(response.into_response(page).map_into_right_body())
}

/// The page of an error. It may be served at the address of images, so its styles come from the address of the pages, and
/// nothing else is allowed. No cache keeps it: caches of images may not look at `Accept`.
fn page(
    request: &HttpRequest,
    status: StatusCode,
    explained: &Explained,
) -> Option<HttpResponse<BoxBody>> {
    let site = request.app_data::<Site>()?;
    let assets = request.app_data::<web::Data<Assets>>()?;
    let heading = heading(explained.code, status);
    let base = &site.config.http.base_url;
    let tiers = site.tiers.now();
    let page = ErrorPage {
        layout: Layout::at_any_host(site, assets, heading, heading),
        status,
        code: explained.code.facts().name,
        heading,
        message: match explained.code {
            // The message of the API names routes for programs.
            Code::UnknownRoute => "Nothing is at this address. Check the link for a typing error.",
            Code::LinkUnknown => {
                "This address is no valid upload link. Check it for a missing or changed letter, or ask for a new link \
                 where you got it."
            }
            _ => &explained.message,
        },
        next: Step::after(explained),
        seconds: explained.seconds,
        tier: tiers.paid().next().map(|tier| tier.name.to_string()),
        base,
    };
    let pages = layout::origin_of(base);
    let policy = format!(
        "default-src 'none'; style-src {pages}; img-src {pages}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         sandbox"
    );
    Some(send(status, &page, "no-store", policy))
}

/// What happened, in a few words.
fn heading(code: Code, status: StatusCode) -> &'static str {
    match code {
        Code::NotFound | Code::ImageGone => "There is no image here",
        Code::ImageRemoved | Code::RemovedForLegalReasons => "This image was removed",
        Code::UnknownRoute | Code::UnknownTier => "There is no page here",
        Code::LinkUnknown => "There is no upload link here",
        Code::CaseUnknown => "Nobody knows this link",
        Code::PaymentRequired | Code::PaymentInvalid | Code::PaymentFailed => {
            "This address takes a payment"
        }
        Code::SignInRequired | Code::SignInInvalid => "This address asks a wallet to sign in",
        Code::MethodNotAllowed => "This address is for programs",
        Code::RateLimited | Code::DailyLimit | Code::KeyLimit => "Too many requests",
        Code::Busy => "The server is busy",
        Code::VariantImpossible => "This size can't be made",
        _ if status.is_server_error() => "Not available now",
        _ => "This request can't be answered",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_next_step_that_fits_its_action() {
        let after = |code: Code| {
            let [action, ..] = code.facts().actions else {
                panic!("{code:?} has no action");
            };
            Step::after(&Explained {
                code,
                message: String::new(),
                action: *action,
                seconds: None,
            })
        };
        for (code, expected) in [
            (Code::NotFound, Step::Upload),
            (Code::PaymentRequired, Step::Pay),
            (Code::SignInRequired, Step::SignIn),
            (Code::MethodNotAllowed, Step::Read),
            (Code::RateLimited, Step::Wait),
            (Code::DatabaseUnavailable, Step::Wait),
            (Code::RemovedForLegalReasons, Step::Contact),
        ] {
            assert_eq!(after(code), expected, "{code:?}");
        }
    }
}
