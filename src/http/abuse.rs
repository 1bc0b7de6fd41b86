//! Reports of images (`/api/abuse`): anybody files one, the case number shows how far it is, and the
//! uploader may object to a removal.

use actix_web::http::Method;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::error::{ApiError, Code};
use super::sign_in::{self, Door, sign_in_at};
use super::views::{CaseAnswer, NoticeRequest, ObjectionRequest, ReportRequest};
use super::{Site, delete, extract, json_body, limits, query};
use crate::db::DbError;
use crate::images::UploadError;
use crate::model::ids::ImageId;
use crate::model::report::{Case, CaseState, ImageNow, Reason};
use crate::model::signed_link::SignedLink;
use crate::trust::reports::{Complaint, Objection};

/// The longest body of a report or an objection, in bytes.
pub(super) const LONGEST_BODY: usize = 32 * 1024;
/// The longest texts, in characters.
const LONGEST_DETAILS: usize = 4000;
const LONGEST_CONTACT: usize = 254;
const LONGEST_NAME: usize = 200;
const LONGEST_WORK: usize = 1000;
const LONGEST_ADDRESS: usize = 500;

const REPORT: &str = "Send {\"image\": \"<link or id>\", \"reason\": \"<one of the list>\", \"details\": \"…\", \"contact\": \"…\"}; \
    details and contact may be left out.";
const OBJECTION: &str = "Send {\"name\": \"…\", \"address\": \"…\", \"contact\": \"…\", \"details\": \"…\", \"sworn\": true}; \
    details may be left out.";

/// `POST /api/abuse`: files a report.
pub(super) async fn report(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    query::check(&request, &[])?;
    count(&site, &request).await?;
    let said: ReportRequest = json_body::read(payload, LONGEST_BODY, REPORT).await?;
    Ok(HttpResponse::Ok().json(file(&site, &request, &said).await?))
}

/// Counts a report of the client, whatever becomes of it.
pub(super) async fn count(site: &Site, request: &HttpRequest) -> Result<(), ApiError> {
    if let Some(address) = extract::client_address(request, &site.config.http) {
        let counted = site.limits.count_report(address).await;
        counted.map_err(|error| limits::refuse(request, error))?;
    }
    Ok(())
}

/// Files a report that was counted.
pub(super) async fn file(
    site: &Site,
    request: &HttpRequest,
    said: &ReportRequest,
) -> Result<CaseAnswer, ApiError> {
    let address = extract::client_address(request, &site.config.http);
    let complaint = complaint(said)?;
    let image = reported(site, &said.image).await?;
    let network = address.map_or_else(String::new, |address| site.limits.network_today(address));
    let is_notice = complaint.statement.is_some();
    let reason = complaint.reason;
    let case = site.reports.report(&image, complaint, &network).await;
    let case = case.map_err(failed)?;
    tracing::info!(case = case.id, image.id = %image, reason = reason.as_str(), "an image was reported");
    let mut answer = answer(site, &case);
    if reason == Reason::Copyright && !is_notice {
        answer.next.push_str(
            " To make this a formal notice, report the image again with `contact` and `notice`.",
        );
    }
    Ok(answer)
}

/// The case with this number, as everybody may see it.
pub(super) async fn shown(
    site: &Site,
    request: &HttpRequest,
    id: &str,
) -> Result<CaseAnswer, ApiError> {
    Ok(answer(site, &find(site, request, id).await?))
}

/// `GET` and `POST` of `/api/abuse/{case}`: shows a case, or files an objection to its decision.
pub(super) async fn case(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    query::check(&request, &[])?;
    let case = find(&site, &request, &id).await?;
    if *request.method() != Method::POST {
        return Ok(HttpResponse::Ok().json(answer(&site, &case)));
    }
    let said: ObjectionRequest = json_body::read(payload, LONGEST_BODY, OBJECTION).await?;
    let objection = objection(said)?;
    prove_owner(&site, &request, &case).await?;
    check_objectable(&case)?;
    let filed = site
        .reports
        .object(&case, objection)
        .await
        .map_err(failed)?;
    let case = site
        .reports
        .find(&id)
        .await
        .map_err(failed)?
        .unwrap_or(case);
    if !filed {
        // Another request or the operator was faster.
        check_objectable(&case)?;
        return Err(nothing_to_object_to());
    }
    Ok(HttpResponse::Ok().json(answer(&site, &case)))
}

/// Refuses an objection that the case does not take.
fn check_objectable(case: &Case) -> Result<(), ApiError> {
    if case.state != CaseState::Upheld {
        return Err(nothing_to_object_to());
    }
    let message = match case.image_now() {
        _ if case.reason != Reason::Copyright => {
            "This case was not upheld for copyright, and an objection is for removals for copyright alone. Write to the operator in place of it: /abuse says how."
        }
        ImageNow::Removed if case.countered_at.is_some() => return Err(nothing_to_object_to()),
        ImageNow::Removed => return Ok(()),
        ImageNow::Served => {
            "The image of this case is served again, so there is no removal to object to. Object only while the image is removed."
        }
        ImageNow::RemovedAgain => {
            "The image of this case was restored, and is removed for another cause since. Object to the later case if it was upheld for copyright, or write to the operator."
        }
        ImageNow::Deleted => {
            "The image of this case is deleted, so that nothing can be restored. Write to the operator if you object all the same."
        }
    };
    Err(ApiError::bad(Code::CaseNotObjectable, message))
}

fn nothing_to_object_to() -> ApiError {
    let message = "This case has no removal to object to, or an objection to it is filed already. GET this URL to see its state.";
    ApiError::bad(Code::CaseNotUpheld, message)
}

/// The case with this number. A wrong number counts as a miss of the client.
async fn find(site: &Site, request: &HttpRequest, id: &str) -> Result<Case, ApiError> {
    if let Some(case) = site.reports.find(id).await.map_err(failed)? {
        return Ok(case);
    }
    if let Some(address) = extract::client_address(request, &site.config.http) {
        let counted = site.limits.count_miss(address);
        counted.map_err(|error| limits::refuse(request, error))?;
    }
    let message = "There is no case with this number. Send the 16 hexadecimal digits that the report's response holds as `case`.";
    Err(ApiError::bad(Code::CaseUnknown, message))
}

/// Refuses whoever shows neither the delete token of the case's image nor its owner's signature.
async fn prove_owner(site: &Site, request: &HttpRequest, case: &Case) -> Result<(), ApiError> {
    if let Some(token) = extract::delete_token(request)? {
        if site.images.is_delete_token(&case.image, &token) {
            return Ok(());
        }
        let id = case.image.clone();
        return Err(ApiError::BadDeleteToken { id });
    }
    let door = Door {
        path: &format!("/api/abuse/{}", case.id),
        statement: "Object to the removal of this image. Signing in costs nothing.",
        instead: sign_in::OR_DELETE_TOKEN,
    };
    let signed_in = sign_in_at(site, request, &door).await?;
    delete::owned_by(site, signed_in, vec![case.image.clone()]).await?;
    Ok(())
}

/// The image that a report names by its id or by a link to it. A private image is named only by a
/// link that was signed for it, although the link may have ended since.
async fn reported(site: &Site, named: &str) -> Result<ImageId, ApiError> {
    let path = named.split(['?', '#']).next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    let id = last.split('.').next().and_then(ImageId::parse);
    let Some(id) = id else {
        return Err(bad(
            "image is neither a link to an image nor the id of one. Copy the whole link of the image.",
        ));
    };
    let found = site.images.find_live(&id).await?;
    let image = found.ok_or(ApiError::NotFound)?;
    let is_seen = !image.visibility.is_private()
        || SignedLink::in_link(named).is_some_and(|link| site.images.was_shown(&image, link));
    if is_seen {
        Ok(id)
    } else {
        Err(ApiError::NotFound)
    }
}

/// What a report says, once it is known to be complete.
fn complaint(said: &ReportRequest) -> Result<Complaint, ApiError> {
    let Some(reason) = Reason::parse(&said.reason) else {
        let names = Reason::ALL.map(Reason::as_str).join(", ");
        return Err(bad(&format!(
            "reason is \"{}\", which is not in the list. Send one of: {names}.",
            query::excerpt(&said.reason)
        )));
    };
    let details = said.details.clone().unwrap_or_default();
    within("details", &details, 0, LONGEST_DETAILS)?;
    if let Some(contact) = &said.contact {
        within("contact", contact, 3, LONGEST_CONTACT)?;
    }
    let statement = match &said.notice {
        None => None,
        Some(notice) => Some(statement(notice, reason, said.contact.as_deref())?),
    };
    Ok(Complaint {
        reason,
        details,
        contact: said.contact.clone(),
        statement,
    })
}

/// The statement of a formal notice, as JSON.
fn statement(
    notice: &NoticeRequest,
    reason: Reason,
    contact: Option<&str>,
) -> Result<String, ApiError> {
    if reason != Reason::Copyright {
        return Err(bad(
            "notice is for reports of copyright. Leave it out, or send \"reason\": \"copyright\".",
        ));
    }
    if contact.is_none() {
        return Err(bad(
            "A formal notice needs contact, so that the uploader's answer can reach you. Send an e-mail address or a telephone number in it.",
        ));
    }
    within("notice.name", &notice.name, 1, LONGEST_NAME)?;
    within("notice.work", &notice.work, 1, LONGEST_WORK)?;
    within("notice.address", &notice.address, 1, LONGEST_ADDRESS)?;
    if !notice.sworn {
        return Err(bad(
            "notice.sworn is false, so the report is no formal notice. Send true if the statement holds, or leave notice out.",
        ));
    }
    Ok(json!(notice).to_string())
}

/// What an objection says, once it is known to be complete.
fn objection(said: ObjectionRequest) -> Result<Objection, ApiError> {
    let details = said.details.unwrap_or_default();
    within("details", &details, 0, LONGEST_DETAILS)?;
    within("contact", &said.contact, 3, LONGEST_CONTACT)?;
    within("name", &said.name, 1, LONGEST_NAME)?;
    within("address", &said.address, 1, LONGEST_ADDRESS)?;
    if !said.sworn {
        return Err(bad(
            "sworn is false, and an objection counts only under penalty of perjury. Send true if the statement holds.",
        ));
    }
    let statement = json!({"name": said.name, "address": said.address, "sworn": true});
    Ok(Objection {
        details,
        contact: said.contact,
        statement: statement.to_string(),
    })
}

/// Refuses a text that is too short, too long, or holds control characters other than line breaks.
fn within(name: &str, text: &str, least: usize, most: usize) -> Result<(), ApiError> {
    let length = text.trim().chars().count();
    let is_printable = !text
        .chars()
        .any(|character| character.is_control() && !matches!(character, '\n' | '\r' | '\t'));
    if (least..=most).contains(&length) && is_printable {
        return Ok(());
    }
    Err(bad(&format!(
        "{name} has {length} characters or holds control characters. Send {least} to {most} printable characters."
    )))
}

fn answer(site: &Site, case: &Case) -> CaseAnswer {
    CaseAnswer {
        case: case.id.clone(),
        image: case.image.to_string(),
        state: case.state.as_str(),
        image_state: case.image_now().as_str(),
        opened_at: case.opened_at.to_string(),
        decided_at: case.decided_at.map(|at| at.to_string()),
        objected_at: case.countered_at.map(|at| at.to_string()),
        next: next(site, case),
    }
}

/// What happens next with a case.
fn next(site: &Site, case: &Case) -> String {
    let base = &site.config.http.base_url;
    let (url, page) = (
        format!("{base}/api/abuse/{}", case.id),
        format!("{base}/abuse/{}", case.id),
    );
    match (case.state, case.image_now()) {
        (CaseState::Open, _) if case.reason == Reason::Csam => format!(
            "The operator looks at this case before all others, and reports what the law demands. If a child is in danger now, call the police. {page} shows the decision."
        ),
        (CaseState::Open, _) => format!(
            "The operator looks at the image and decides: it is removed or stays. Reports alone remove nothing. {page} shows the decision."
        ),
        (CaseState::Upheld, ImageNow::Served) => {
            "The image was removed, and the operator has restored it. Report it again if you know more.".to_owned()
        }
        (CaseState::Upheld, ImageNow::RemovedAgain) => {
            "The image was removed and restored, and is removed for another cause since. This case is closed.".to_owned()
        }
        (CaseState::Upheld, ImageNow::Deleted) => {
            "The image is deleted. It does not come back, and this case is closed.".to_owned()
        }
        (CaseState::Upheld, ImageNow::Removed)
            if case.is_objectable() && case.countered_at.is_some() => "The uploader objected, and the operator forwards the objection to who sent the notice. The image is restored after 10 to 14 business days unless a court is asked, or the image ends before.".to_owned(),
        (CaseState::Upheld, ImageNow::Removed) if case.is_objectable() => format!(
            "The image was removed for copyright. If it is yours and was removed by mistake, object with POST {url}."
        ),
        (CaseState::Upheld, ImageNow::Removed) => format!(
            "The image was removed. If it is yours and was removed by mistake, write to the operator: {base}/abuse says how."
        ),
        (CaseState::Dismissed, _) => "The operator found no reason to remove the image. Report it again if you know more.".to_owned(),
    }
}

fn bad(message: &str) -> ApiError {
    ApiError::bad(Code::InvalidBody, message)
}

fn failed(error: DbError) -> ApiError {
    ApiError::Upload(UploadError::from(error))
}
