//! The statistics of `pixtoll stats` over the admin API.

use actix_web::{HttpRequest, HttpResponse};

use super::acts::number;
use super::error::AdminError;
use crate::accounting::stats::{MOST_DAYS, Stats};
use crate::http::Site;
use crate::trust::ActError;

/// The days of a request that names no number.
const DAYS: u32 = 30;

/// `GET /admin/api/stats?days=`: the funnel, uploads, sales and storage.
pub(super) async fn stats(site: Site, request: HttpRequest) -> Result<HttpResponse, AdminError> {
    let days = number(&request, "days")?.unwrap_or(DAYS);
    if days == 0 || days > MOST_DAYS {
        return Err(AdminError::Bad(format!(
            "days is {days}, and 1 to {MOST_DAYS} days are allowed. Send ?days= in that range."
        )));
    }
    let stats = Stats::load(&site.db, days, site.clock.now()).await;
    Ok(HttpResponse::Ok().json(stats.map_err(ActError::from)?))
}
