//! The form that reports an image, and the page of a case. They work without a script, and follow the
//! same rules as `/api/abuse`.

use std::collections::HashMap;

use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use super::super::error::ApiError;
use super::super::views::{CaseAnswer, NoticeRequest, ReportRequest};
use super::super::{Site, abuse, json_body};
use super::service::Service;
use super::{Assets, Layout, field, fields, respond};
use crate::model::report::Reason;

/// What a wrong body should be.
const FORM: &str = "Send the form of this page.";

#[derive(Template)]
#[template(path = "abuse.html")]
struct Form<'a> {
    layout: Layout<'a>,
    service: Service<'a>,
    reasons: &'static [Reason],
    /// What was typed, shown again after an error.
    said: ReportRequest,
    notice: NoticeRequest,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "case.html")]
struct Page<'a> {
    layout: Layout<'a>,
    case: CaseAnswer,
    is_new: bool,
}

/// `GET` and `POST /abuse`: the form, or what became of it.
pub(super) async fn abuse(
    site: Site,
    assets: web::Data<Assets>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    if *request.method() != Method::POST {
        let image = field(&fields(request.query_string().as_bytes()), "image");
        let said = ReportRequest {
            image: image.unwrap_or_default(),
            ..ReportRequest::default()
        };
        return form(&site, &assets, said, None);
    }
    let mut said = ReportRequest::default();
    let filed = async {
        abuse::count(&site, &request).await?;
        let body = json_body::whole(payload, abuse::LONGEST_BODY, FORM).await?;
        said = read(&fields(&body));
        abuse::file(&site, &request, &said).await
    }
    .await;
    match filed {
        Ok(case) => shown(&site, &assets, case, true),
        Err(error) => form(&site, &assets, said, Some(&error)),
    }
}

/// `GET /abuse/{case}`.
pub(super) async fn case(
    site: Site,
    assets: web::Data<Assets>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let case = abuse::shown(&site, &request, &id).await?;
    Ok(shown(&site, &assets, case, false))
}

fn form(
    site: &Site,
    assets: &Assets,
    said: ReportRequest,
    error: Option<&ApiError>,
) -> HttpResponse {
    let (status, error) = match error.map(ApiError::explain) {
        Some((status, message)) => (status, Some(message)),
        None => (StatusCode::OK, None),
    };
    let about =
        "Report an image that breaks the law or the terms: what to send, and what happens then.";
    let page = Form {
        layout: Layout::listed(site, assets, "/abuse", "Report an image", about),
        service: Service::of(site),
        reasons: &Reason::ALL,
        notice: said.notice.clone().unwrap_or_default(),
        said,
        error,
    };
    respond(site, status, &page)
}

fn shown(site: &Site, assets: &Assets, case: CaseAnswer, is_new: bool) -> HttpResponse {
    let title = format!("Case {}", case.case);
    let about = "A report of an image, and what was decided.";
    let page = Page {
        layout: Layout::unlisted(site, assets, &title, about),
        case,
        is_new,
    };
    respond(site, StatusCode::OK, &page)
}

/// The report that the fields of the form hold, with a notice if something of one was given.
fn read(fields: &HashMap<String, String>) -> ReportRequest {
    let text = |name| field(fields, name);
    let notice = NoticeRequest {
        name: text("name").unwrap_or_default(),
        work: text("work").unwrap_or_default(),
        address: text("address").unwrap_or_default(),
        sworn: fields.contains_key("sworn"),
    };
    let typed = [&notice.name, &notice.work, &notice.address];
    let is_notice = notice.sworn || typed.iter().any(|text| !text.is_empty());
    ReportRequest {
        image: text("image").unwrap_or_default(),
        reason: text("reason").unwrap_or_default(),
        details: text("details"),
        contact: text("contact"),
        notice: is_notice.then_some(notice),
    }
}
