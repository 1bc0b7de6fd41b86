//! Takes the image of an upload: from the body of the request, or from a URL that it names.

use actix_web::HttpRequest;
use actix_web::web::Payload;

use super::body::read_image;
use super::error::ApiError;
use super::upload_limit::Limit;
use super::{Site, limits};
use crate::images::Checked;
use crate::imports::{Import, ImportError};

/// Where the image of an upload is.
pub(super) enum Source {
    /// In the body, which is not read yet.
    Body(Payload),
    /// At a URL, from which nothing is fetched yet.
    Url(Import),
}

/// Receives and checks an image that nothing has to be paid for any more.
pub(super) async fn receive(
    site: &Site,
    request: &HttpRequest,
    source: Source,
    limit: Limit<'_>,
) -> Result<Checked, ApiError> {
    match source {
        Source::Body(payload) => {
            let arrived = read_image(site, request, payload, limit).await;
            let arrived = arrived.map_err(|error| error.of(request))?;
            Ok(limits::checked(site, request, arrived, limit).await??)
        }
        Source::Url(import) => {
            let obtained = import.obtain(limit.tier, limit.max_bytes).await;
            obtained.map_err(|error| ApiError::from(error).of(request))
        }
    }
}

impl From<ImportError> for ApiError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Upload(error) => error.into(),
            ImportError::Limited(error) => Self::Limited(error),
        }
    }
}
