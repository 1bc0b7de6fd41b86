//! `/delete/{id}#token`: the page that deletes an image. It asks first, and a GET deletes nothing. The token stands in the
//! fragment, which the script of the page puts into the form; without a script, people paste it there.

use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use super::super::error::ApiError;
use super::super::{Site, delete, images, json_body};
use super::view::Picture;
use super::{Assets, Layout, field, fields, respond, uncached};
use crate::images::private::Access;
use crate::model::ids::ImageId;

/// The longest body of the form, in bytes.
const LONGEST_BODY: usize = 1024;
/// What a wrong body should be.
const FORM: &str = "Send the form of this page.";

#[derive(Template)]
#[template(path = "delete.html")]
struct Page<'a> {
    layout: Layout<'a>,
    id: String,
    /// The picture, where everybody may see the image.
    picture: Option<Picture>,
    /// What was typed, shown again after an error.
    token: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "deleted.html")]
struct Deleted<'a> {
    layout: Layout<'a>,
    id: String,
}

/// `GET` and `POST /delete/{id}`.
pub(super) async fn page(
    site: Site,
    assets: web::Data<Assets>,
    request: HttpRequest,
    id: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let id = ImageId::parse(&id).ok_or(ApiError::NotFound)?;
    if *request.method() != Method::POST {
        return asked(&site, &assets, &id, String::new(), None).await;
    }
    let mut token = String::new();
    let done = async {
        let body = json_body::whole(payload, LONGEST_BODY, FORM).await?;
        token = field(&fields(&body), "token").unwrap_or_default();
        let sent = token.to_ascii_lowercase();
        delete::deleted(&site, vec![(id.clone(), sent)], Vec::new()).await
    }
    .await;
    match done {
        Ok(_) => Ok(deleted(&site, &assets, &id)),
        Err(error) => asked(&site, &assets, &id, token, Some(&error)).await,
    }
}

/// The page that asks. Its answer does not depend on whether a private image exists.
async fn asked(
    site: &Site,
    assets: &Assets,
    id: &ImageId,
    token: String,
    error: Option<&ApiError>,
) -> Result<HttpResponse, ApiError> {
    let (status, error) = match error.map(|error| (error, error.explain())) {
        Some((ApiError::BadDeleteToken { .. }, (status, _))) => (status, Some(wrong_token())),
        Some((_, (status, message))) => (status, Some(message)),
        None => (StatusCode::OK, None),
    };
    let seen = images::facts_of(site, id, &Access::default()).await;
    let about = "Deletes an image for good, with the token that its upload returned.";
    let page = Page {
        layout: Layout::unlisted(site, assets, "Delete an image", about),
        id: id.to_string(),
        picture: seen.ok().map(|image| Picture::of(&image.facts)),
        token,
        error,
    };
    Ok(uncached(respond(site, status, &page)))
}

/// What is wrong with a token, for people.
fn wrong_token() -> String {
    "The token is not the one of this image, so nothing was deleted. Open the whole deletion link that the upload returned, \
     or paste the 40 letters and digits behind its #."
        .to_owned()
}

fn deleted(site: &Site, assets: &Assets, id: &ImageId) -> HttpResponse {
    let about = "The image is deleted.";
    let page = Deleted {
        layout: Layout::unlisted(site, assets, "Deleted", about),
        id: id.to_string(),
    };
    uncached(respond(site, StatusCode::OK, &page))
}
