//! Cases over the admin API: the queue, what people wrote, and what the operator decides.

use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::acts::{Act, PAGE, number, parameter};
use super::error::AdminError;
use crate::http::{Site, query};
use crate::model::removal::Ground;

pub(super) async fn list(site: Site, request: HttpRequest) -> Result<HttpResponse, AdminError> {
    let all = match parameter(&request, "state")?.as_deref() {
        None | Some("open") => false,
        Some("all") => true,
        Some(other) => {
            return Err(AdminError::Bad(format!(
                "state is \"{}\". Send open or all.",
                query::excerpt(other)
            )));
        }
    };
    let most = number(&request, query::LIMIT)?.unwrap_or(PAGE);
    let cases = site.trust.cases(all, most).await?;
    Ok(HttpResponse::Ok().json(json!({ "cases": cases })))
}

pub(super) async fn show(site: Site, case: web::Path<String>) -> Result<HttpResponse, AdminError> {
    Ok(HttpResponse::Ok().json(site.trust.reported(&case).await?))
}

pub(super) async fn uphold(
    site: Site,
    case: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, AdminError> {
    let act = Act::read(payload).await?;
    let hold = act.hold_of_removal(site.trust.preserve())?;
    let ground = act.ground().unwrap_or(Ground::Policy);
    site.trust
        .uphold(&case, ground, hold, &act.block, &act.by()?)
        .await?;
    show(site, case).await
}

pub(super) async fn dismiss(
    site: Site,
    case: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, AdminError> {
    let act = Act::read(payload).await?;
    site.trust.dismiss(&case, &act.by()?).await?;
    show(site, case).await
}
