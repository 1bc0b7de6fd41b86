//! The content of an image for the operator's eyes.

use actix_web::body::SizedStream;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::web::{self, Payload};
use actix_web::{Error, HttpResponse};
use futures_util::stream;

use super::acts::Act;
use super::error::AdminError;
use crate::http::Site;
use crate::trust::ActError;
use crate::trust::find::image_id;

/// `POST /admin/api/images/{id}/view`: the bytes of an image in any state. It is an act, because the
/// log says who looked at what people uploaded, and why.
pub(super) async fn view(
    site: Site,
    id: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, AdminError> {
    let (id, act) = (image_id(&id)?, Act::read(payload).await?);
    let (image, object) = site.trust.view_content(&id, &act.by()?).await?;
    let length = object.size();
    let pieces = stream::try_unfold(object, async |mut object| {
        let piece = object.next().await.map_err(unreadable)?;
        Ok::<_, Error>(piece.map(|piece| (piece, object)))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, image.format.content_type()))
        // Wherever the bytes end up, they are a picture and nothing else.
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
        .insert_header((CONTENT_DISPOSITION, "inline"))
        .body(SizedStream::new(length, pieces)))
}

fn unreadable(error: crate::store::StoreError) -> Error {
    AdminError::from(ActError::from(error)).into()
}
