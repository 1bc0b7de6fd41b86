//! The handlers of the admin API: each reads a request and calls one function of `crate::trust`.

use std::str::FromStr;
use std::time::Duration;

use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;

use super::error::AdminError;
use crate::http::error::ApiError;
use crate::http::{Site, json_body, query};
use crate::model::admin_log::Head;
use crate::model::ids::ImageId;
use crate::model::removal::Ground;
use crate::trust::find::{Page, image_id};
use crate::trust::{BlockOf, By, Fate};

/// The longest body, in bytes.
const LONGEST_BODY: usize = 16 * 1024;
/// The length of a page if the request doesn't say.
pub(super) const PAGE: u32 = 50;
/// The longest page of the log.
const MOST_ENTRIES: u32 = 1000;

/// The body of an act.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Act {
    /// Why.
    #[serde(default)]
    reason: String,
    /// Who acts.
    #[serde(default, rename = "as")]
    actor: String,
    /// Whether the removal follows a legal demand.
    #[serde(default)]
    legal: bool,
    /// Whether a removal also holds the content.
    #[serde(default)]
    hold: bool,
    /// What a removal also blocks: `content`, `wallet`.
    #[serde(default)]
    pub(super) block: Vec<BlockOf>,
    /// How long a hold lasts, such as `365d`.
    #[serde(rename = "for")]
    time: Option<String>,
    /// What a release does: `delete` or `restore`.
    fate: Option<String>,
    /// Whether a hold may end before its time is over.
    #[serde(default)]
    early: bool,
    /// The reference of an authority.
    reference: Option<String>,
}

impl Act {
    pub(super) async fn read(payload: Payload) -> Result<Self, AdminError> {
        let instead = "Send {\"reason\": \"…\", \"as\": \"…\"} with the further fields of the act: legal, hold, block, for, fate, \
            early, reference.";
        Ok(json_body::read(payload, LONGEST_BODY, instead).await?)
    }

    pub(super) fn by(&self) -> Result<By, AdminError> {
        Ok(By::new(&self.actor, &self.reason)?)
    }

    pub(super) fn ground(&self) -> Option<Ground> {
        self.legal.then_some(Ground::Legal)
    }

    fn time(&self, usual: Duration) -> Result<Duration, AdminError> {
        self.time.as_deref().map_or(Ok(usual), time)
    }

    /// How long a removal holds the content; `None`: it holds nothing.
    pub(super) fn hold_of_removal(&self, usual: Duration) -> Result<Option<Duration>, AdminError> {
        match (self.hold, &self.time) {
            (true, _) => self.time(usual).map(Some),
            (false, None) => Ok(None),
            (false, Some(_)) => Err(AdminError::Bad(
                "for says how long a hold lasts, but this removal holds nothing: hold is missing or false. Send \"hold\": true as well, or leave for out; a removal without a hold has no end."
                    .to_owned(),
            )),
        }
    }

    fn fate(&self) -> Result<Fate, AdminError> {
        match self.fate.as_deref() {
            Some("delete") => Ok(Fate::Delete),
            Some("restore") => Ok(Fate::Restore),
            _ => Err(AdminError::Bad(
                "fate is missing or unknown, and a release is explicit. Send \"fate\": \"delete\" or \"restore\".".to_owned(),
            )),
        }
    }
}

/// Reads a time that `for` holds.
pub(super) fn time(text: &str) -> Result<Duration, AdminError> {
    humantime::parse_duration(text).map_err(|_| {
        AdminError::Bad(format!(
            "for is \"{}\", which is no time. Send a time like 365d.",
            query::excerpt(text)
        ))
    })
}

pub(super) async fn list(site: Site, request: HttpRequest) -> Result<HttpResponse, AdminError> {
    let state = parameter(&request, "state")?;
    let after = parameter(&request, query::AFTER)?;
    let most = number(&request, query::LIMIT)?.unwrap_or(PAGE);
    let page = Page::parse(state.as_deref().unwrap_or("all"), after.as_deref(), most)?;
    let images = site.trust.list(&page).await?;
    Ok(HttpResponse::Ok().json(json!({ "images": images })))
}

pub(super) async fn show(site: Site, id: web::Path<String>) -> Result<HttpResponse, AdminError> {
    answer(&site, &image_id(&id)?).await
}

pub(super) async fn find(site: Site, request: HttpRequest) -> Result<HttpResponse, AdminError> {
    let what = parameter(&request, "what")?.unwrap_or_default();
    let images = site.trust.find(&what).await?;
    Ok(HttpResponse::Ok().json(json!({ "images": images })))
}

pub(super) async fn remove(
    site: Site,
    id: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, AdminError> {
    let (id, act) = (image_id(&id)?, Act::read(payload).await?);
    let hold = act.hold_of_removal(site.trust.preserve())?;
    let ground = act.ground().unwrap_or(Ground::Policy);
    let by = act.by()?;
    site.trust
        .remove(&id, ground, hold, &act.block, &by)
        .await?;
    answer(&site, &id).await
}

pub(super) async fn restore(
    site: Site,
    id: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, AdminError> {
    let (id, act) = (image_id(&id)?, Act::read(payload).await?);
    site.trust.restore(&id, &act.by()?).await?;
    answer(&site, &id).await
}

pub(super) async fn hold(
    site: Site,
    id: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, AdminError> {
    let (id, act) = (image_id(&id)?, Act::read(payload).await?);
    let time = act.time(site.trust.preserve())?;
    site.trust.hold(&id, act.ground(), time, &act.by()?).await?;
    answer(&site, &id).await
}

pub(super) async fn release(
    site: Site,
    id: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, AdminError> {
    let (id, act) = (image_id(&id)?, Act::read(payload).await?);
    let (fate, by) = (act.fate()?, act.by()?);
    site.trust.release(&id, fate, act.early, &by).await?;
    answer(&site, &id).await
}

pub(super) async fn acknowledge(
    site: Site,
    id: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, AdminError> {
    let (id, act) = (image_id(&id)?, Act::read(payload).await?);
    let reference = act.reference.as_deref().unwrap_or_default();
    site.trust.acknowledge(&id, reference, &act.by()?).await?;
    answer(&site, &id).await
}

pub(super) async fn log(site: Site, request: HttpRequest) -> Result<HttpResponse, AdminError> {
    let about = parameter(&request, "about")?;
    let before = number(&request, "before")?;
    let most: u32 = number(&request, query::LIMIT)?.unwrap_or(PAGE);
    if most == 0 || most > MOST_ENTRIES {
        return Err(AdminError::Bad(format!(
            "limit is {most}, and 1 to {MOST_ENTRIES} entries are allowed. Send ?limit= in that range."
        )));
    }
    let entries = site.trust.log(before, about.as_deref(), most).await?;
    Ok(HttpResponse::Ok().json(json!({ "entries": entries })))
}

pub(super) async fn verify(site: Site, request: HttpRequest) -> Result<HttpResponse, AdminError> {
    let expected = match (number(&request, "number")?, parameter(&request, "hash")?) {
        (Some(number), Some(hash)) => Some(Head {
            number,
            hash: hash.to_ascii_lowercase(),
        }),
        (None, None) => None,
        _ => {
            return Err(AdminError::Bad(
                "number and hash belong together. Send both as an earlier answer held them, or neither.".to_owned(),
            ));
        }
    };
    let verified = site.trust.verify_log(expected.as_ref()).await?;
    Ok(HttpResponse::Ok().json(verified))
}

/// The facts about an image, as every act answers.
async fn answer(site: &Site, id: &ImageId) -> Result<HttpResponse, AdminError> {
    Ok(HttpResponse::Ok().json(site.trust.facts(id).await?))
}

/// A query parameter that may be sent once.
pub(super) fn parameter(request: &HttpRequest, name: &str) -> Result<Option<String>, AdminError> {
    let value = query::single(request, name, "Send it once.")?;
    Ok(value.map(std::borrow::Cow::into_owned))
}

pub(super) fn number<T: FromStr>(
    request: &HttpRequest,
    name: &str,
) -> Result<Option<T>, AdminError> {
    let Some(text) = parameter(request, name)? else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        AdminError::Bad(format!(
            "{name} is \"{}\", which is no whole number. Send one.",
            query::excerpt(&text)
        ))
    })
}

/// The shared readers of bodies and queries report errors of the public API; their messages fit here
/// too.
impl From<ApiError> for AdminError {
    fn from(error: ApiError) -> Self {
        let (_, message) = error.explain();
        Self::Bad(message)
    }
}
