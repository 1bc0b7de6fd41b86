//! The tools of `POST /mcp`. Each calls what the route of the same purpose calls.

use actix_web::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::super::Site;
use super::super::error::ApiError;
use super::super::sign_in::Attempt;
use super::super::{delete, images, list, tiers};
use super::definitions::{
    CHECK_IMAGE, CREATE_UPLOAD_LINK, DELETE_IMAGE, IMAGE_INFO, IMPORT_IMAGE, LIST_MY_IMAGES,
    LIST_TIERS, RENEW_IMAGE, UPLOAD_IMAGE,
};
use super::server::{Call, Returned, Tools, bad_arguments};
use crate::images::MOST_OWNED;
use crate::images::private::Access;
use crate::limits::Limited;
use crate::mcp::{arguments, plain};
use crate::model::format::Format;
use crate::model::ids::ImageId;
use crate::model::signed_link::SignedLink;
use crate::moving::Service;
use crate::x402::header::encode;
use crate::x402::siwx::SignedMessage;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoArguments {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InfoArguments {
    image: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CheckArguments {
    size_bytes: Option<u64>,
    content_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DeleteArguments {
    image: String,
    delete_token: Option<String>,
    sign_in: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ListArguments {
    sign_in: Option<Value>,
    limit: Option<u32>,
    after: Option<String>,
}

impl Tools {
    /// Runs a tool that exists.
    pub(super) async fn run(&self, call: Call) -> Result<Returned, ApiError> {
        match call.name.as_str() {
            LIST_TIERS => {
                let NoArguments {} = arguments(call.arguments).map_err(bad_arguments)?;
                Returned::free(&tiers::answer(&self.site))
            }
            CHECK_IMAGE => self.check(&arguments(call.arguments).map_err(bad_arguments)?),
            IMAGE_INFO => {
                let InfoArguments { image } = arguments(call.arguments).map_err(bad_arguments)?;
                self.info(&image_id(&self.site, &image)?, &access_by(&image))
                    .await
            }
            UPLOAD_IMAGE => self.upload(call).await,
            IMPORT_IMAGE => self.import(call).await,
            CREATE_UPLOAD_LINK => self.create_link(call).await,
            LIST_MY_IMAGES => {
                let sent = arguments(call.arguments).map_err(bad_arguments)?;
                self.list(&sent).await
            }
            RENEW_IMAGE => self.renew(call).await,
            DELETE_IMAGE => {
                self.delete(arguments(call.arguments).map_err(bad_arguments)?)
                    .await
            }
            // The caller has looked the tool up.
            other => Err(bad_arguments(format!(
                "There is no tool \"{}\".",
                plain(other, 40)
            ))),
        }
    }

    /// Which tiers take an image of this size and type.
    fn check(&self, sent: &CheckArguments) -> Result<Returned, ApiError> {
        let known = Format::ALL.map(Format::content_type);
        let media = sent.content_type.as_deref().map(str::trim);
        let is_image =
            media.is_none_or(|media| known.iter().any(|it| media.eq_ignore_ascii_case(it)));
        let table = self.site.tiers.now();
        let views: Vec<_> = table
            .iter()
            .map(|tier| {
                let mut view = match sent.size_bytes {
                    Some(bytes) => tiers::judged(&self.site, &table, tier, bytes),
                    None => tiers::view(&self.site, &table, tier),
                };
                view.accepted = Some(is_image && view.accepted.unwrap_or(true));
                view
            })
            .collect();
        let base = &self.site.config.http.base_url;
        Returned::free(&json!({
            "accepted": views.iter().any(|view| view.accepted == Some(true)),
            "contentTypes": known,
            "tiers": views,
            "note": "Only size and type were judged. The command in curl judges the file itself: its format, its pixels \
                and its metadata. It costs nothing and stores nothing.",
            "curl": format!("curl -T FILE '{base}/api/check/'"),
        }))
    }

    async fn info(&self, id: &ImageId, access: &Access) -> Result<Returned, ApiError> {
        match images::facts_of(&self.site, id, access).await {
            Ok(facts) => Returned::free(&facts),
            Err(error) => Err(self.missed(error)),
        }
    }

    async fn delete(&self, sent: DeleteArguments) -> Result<Returned, ApiError> {
        self.refuse_while_moving()?;
        let id = image_id(&self.site, &sent.image)?;
        if let Some(token) = sent.delete_token {
            let token = token.trim().to_ascii_lowercase();
            let deleted = delete::deleted(&self.site, vec![(id, token)], Vec::new()).await?;
            return Returned::free(&deleted);
        }
        let path = format!("/api/images/{id}");
        let attempt = self.attempt(Method::DELETE, sent.sign_in.as_ref())?;
        let signed_in = attempt.sign_in(&self.site, &delete::door(&path)).await?;
        let owned = delete::owned_by(&self.site, signed_in, vec![id]).await?;
        let deleted = delete::deleted(&self.site, Vec::new(), owned).await?;
        Returned::free(&deleted)
    }

    /// The images of the wallet that signs in.
    async fn list(&self, sent: &ListArguments) -> Result<Returned, ApiError> {
        let limit = sent.limit.unwrap_or(list::USUAL);
        if !(1..=MOST_OWNED).contains(&limit) {
            return Err(bad_arguments(format!(
                "limit is {limit}, and a page has from 1 to {MOST_OWNED} images. Send a whole number from 1 to {MOST_OWNED}."
            )));
        }
        let attempt = self.attempt(Method::GET, sent.sign_in.as_ref())?;
        let cursor = attempt.page(&self.site, sent.after.as_deref(), &list::DOOR);
        let page = list::page(&self.site, cursor.await?, limit).await?;
        Returned::free(&page)
    }

    /// An attempt to sign in with the message in an argument.
    fn attempt(&self, method: Method, message: Option<&Value>) -> Result<Attempt, ApiError> {
        let read = |message: &Value| {
            let decoded = match message {
                Value::String(text) => SignedMessage::decode(text.as_bytes()),
                document => SignedMessage::decode(encode(document).as_bytes()),
            };
            decoded.map_err(|error| bad_arguments(error.to_string()))
        };
        Ok(Attempt {
            client: self.caller.address,
            method,
            message: message.map(read).transpose()?,
        })
    }

    /// Refuses changes while the database is being moved, as [`super::super::moving`] does for routes.
    pub(super) fn refuse_while_moving(&self) -> Result<(), ApiError> {
        match self.site.moving.service() {
            Service::Full => Ok(()),
            Service::Reads | Service::Nothing => Err(ApiError::Moving),
        }
    }

    /// The error for an image that was not found, counted as the routes count it.
    pub(super) fn missed(&self, error: ApiError) -> ApiError {
        let is_miss = matches!(error, ApiError::NotFound);
        let counted: Result<(), Limited> = match self.caller.address {
            Some(address) if is_miss => self.site.limits.count_miss(address),
            _ => Ok(()),
        };
        counted.map_or_else(ApiError::Limited, |()| error)
    }
}

/// What a signed link in the argument shows of the caller's right to see the image.
pub(super) fn access_by(image: &str) -> Access {
    Access {
        link: SignedLink::in_link(image),
        is_owner: false,
    }
}

/// The id in an argument, which may be a link of this server.
pub(super) fn image_id(site: &Site, text: &str) -> Result<ImageId, ApiError> {
    let ours = [&site.config.http.base_url, &site.config.images.base_url];
    if let Ok(link) = Url::parse(text)
        && !ours
            .iter()
            .any(|ours| Url::parse(ours).is_ok_and(|it| it.origin() == link.origin()))
    {
        return Err(bad_arguments(format!(
            "image is a link of {}, which is another server. Send a link that this server returned, or the id of an image \
             here.",
            plain(&link.origin().ascii_serialization(), 80)
        )));
    }
    ImageId::in_link(text).ok_or_else(|| {
        bad_arguments(format!(
            "image is \"{}\", which is neither an image id nor a link of an image. Send the 12 letters and digits of the \
             id, or the link that the upload returned.",
            plain(text, 80)
        ))
    })
}
