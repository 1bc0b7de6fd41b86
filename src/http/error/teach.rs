//! What an error can say once the site is at hand: which tiers take an image that is too large for one, and where to claim
//! what was paid for.

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use super::super::Site;
use super::super::views::ErrorBody;
use super::{Action, ApiError, PayError, Refusal, UploadError};
use crate::pricing::tiers::{SizeText, TierTable};
use crate::x402::siwx::CLAIMS_PATH;

/// Adds the tiers that take the image to an error about its size, and the route for claims to an error that names it.
pub(in crate::http) async fn name_tiers<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, actix_web::Error> {
    let response = next.call(request).await?;
    let error = response.response().error();
    let error = error.and_then(actix_web::Error::as_error::<ApiError>);
    let site = response.request().app_data::<Site>();
    let taught = match (error, site) {
        (Some(error), Some(site)) => error
            .taught(site)
            .map(|Taught { hint, claims }| error.respond(hint.as_deref(), claims.as_deref())),
        _ => None,
    };
    Ok(match taught {
        Some(answer) => response.into_response(answer).map_into_right_body(),
        None => response.map_into_left_body(),
    })
}

/// What the site adds to an error.
#[derive(Debug, Default)]
struct Taught {
    /// One more sentence for the message.
    hint: Option<String>,
    /// The URL of the route to sign in at.
    claims: Option<String>,
}

impl ApiError {
    /// What the site can add to this error. `None`: nothing.
    fn taught(&self, site: &Site) -> Option<Taught> {
        if self.verdict().action == Action::Claim {
            return Some(Taught {
                claims: Some(format!("{}{CLAIMS_PATH}", site.config.http.base_url)),
                ..Taught::default()
            });
        }
        let (bytes, tier) = too_large(self)?;
        Some(Taught {
            hint: Some(tiers_for(&site.tiers.now(), bytes, tier)),
            ..Taught::default()
        })
    }

    /// The body of the error, with what the site adds to it, for answers without a status.
    pub(in crate::http) fn taught_body(&self, site: &Site) -> ErrorBody {
        let Taught { hint, claims } = self.taught(site).unwrap_or_default();
        self.body(hint.as_deref(), claims.as_deref())
    }
}

/// The size that was refused, at least, and the tier that refused it.
fn too_large(error: &ApiError) -> Option<(u64, &str)> {
    let upload = match error {
        ApiError::Unasked(error) => return too_large(error),
        ApiError::Upload(upload) => upload,
        ApiError::Unsold(PayError::Upload(upload)) => upload,
        ApiError::Pay {
            error: PayError::Upload(upload),
            ..
        } => upload,
        _ => return None,
    };
    match upload {
        UploadError::Refused(Refusal::TooLarge { bytes, tier, .. }) => Some((*bytes, tier)),
        _ => None,
    }
}

fn tiers_for(table: &TierTable, bytes: u64, refused_by: &str) -> String {
    let takers: Vec<String> = table
        .iter()
        .filter(|tier| tier.max_bytes >= bytes && tier.name.as_str() != refused_by)
        .map(|tier| {
            let (name, size) = (&tier.name, SizeText(tier.max_bytes));
            let (route, price) = if tier.is_free() {
                ("/api/free".to_owned(), "free".to_owned())
            } else {
                let price = tier.step(Some(bytes)).price_in_words();
                (format!("/api/upload/{name}"), price)
            };
            format!("{name} (POST {route}, up to {size}, {price})")
        })
        .collect();
    if takers.is_empty() {
        let largest = table.iter().map(|tier| tier.max_bytes).max().unwrap_or(0);
        return format!("No tier takes more than {}.", SizeText(largest));
    }
    format!("Or send it to a tier that takes it: {}.", takers.join(", "))
}
