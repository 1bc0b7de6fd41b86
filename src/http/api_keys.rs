//! API keys: a wallet makes and manages them by sign-in (`/api/keys`), and each uploads in its name,
//! as a bearer token at `POST /api/upload` or in the place of the secret of an upload link.

use actix_web::http::Method;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::error::{ApiError, Code};
use super::intake::{Source, receive};
use super::paid::refuse_behind;
use super::payment_headers::has_payment;
use super::sign_in::sign_in;
use super::upload_limit::Limit;
use super::views::{ApiKeyAnswer, ApiKeysAnswer, KeyLimits, KeyUsage, NewKeyRequest};
use super::{Site, free, json_body, limits, links, query};
use crate::apikeys::{KeyChange, NewKey};
use crate::db::DbError;
use crate::db::limits::day_of;
use crate::db::uses::Through;
use crate::images::{Refusal, Taken, UploadError, refuse_spent};
use crate::model::api_key::{ApiKey, KeySecret};
use crate::model::owner::Owner;
use crate::pricing::tiers::{Tier, TierName};
use crate::signin::SignedIn;

const PATH: &str = "/api/keys";
const MAKE: &str = "Make an API key that uploads in the name of this wallet.";
const LIST: &str = "List the API keys of this wallet.";
const SUSPEND: &str = "Suspend this API key.";
const RESUME: &str = "Resume this API key.";
const REVOKE: &str = "Revoke this API key.";

/// The longest name of a key, in characters.
const LONGEST_NAME: usize = 64;
/// The longest body that describes a key, in bytes.
const LONGEST_BODY: usize = 4096;

/// `GET /api/keys` lists the keys of a wallet, `POST /api/keys` makes one.
pub(super) async fn collection(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    query::check(&request, &[])?;
    if *request.method() != Method::POST {
        let owner = owner(&sign_in(&site, &request, PATH, LIST).await?);
        let keys = site.api_keys.list(&owner).await.map_err(failed)?;
        let keys = keys.iter().map(|key| answer(&site, key, None)).collect();
        return Ok(HttpResponse::Ok().json(ApiKeysAnswer { keys }));
    }
    // The signed message is used up by a success, so the body is checked first.
    let new = read_new(&site, payload).await?;
    let owner = owner(&sign_in(&site, &request, PATH, MAKE).await?);
    let most = site.config.keys.per_wallet;
    let made = site.api_keys.make(owner, new, most).await;
    let (key, secret) = made.map_err(failed)?.ok_or_else(|| {
        let message = format!(
            "This wallet has {most} API keys, which is the limit. Revoke one with DELETE /api/keys/{{id}}; GET /api/keys lists them."
        );
        ApiError::bad(Code::TooManyKeys, message)
    })?;
    Ok(HttpResponse::Ok().json(answer(&site, &key, Some(&secret))))
}

/// `DELETE /api/keys/{id}`.
pub(super) async fn revoke(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    change(&site, &request, &id, "", REVOKE, KeyChange::Revoke).await
}

/// `POST /api/keys/{id}/suspend`.
pub(super) async fn suspend(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    change(
        &site,
        &request,
        &id,
        "/suspend",
        SUSPEND,
        KeyChange::Suspend,
    )
    .await
}

/// `POST /api/keys/{id}/resume`.
pub(super) async fn resume(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    change(&site, &request, &id, "/resume", RESUME, KeyChange::Resume).await
}

/// Signs in at the route of this key, and changes the key.
async fn change(
    site: &Site,
    request: &HttpRequest,
    id: &str,
    route: &str,
    statement: &str,
    change: KeyChange,
) -> Result<HttpResponse, ApiError> {
    query::check(request, &[])?;
    let is_id = id.len() == 16
        && id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_id {
        let message = "The path names no valid id of an API key. Send the 16 hexadecimal digits of the id, which GET /api/keys lists, not the key itself.";
        return Err(ApiError::bad(Code::InvalidParameter, message));
    }
    let path = format!("{PATH}/{id}{route}");
    let owner = owner(&sign_in(site, request, &path, statement).await?);
    let changed = site.api_keys.change(&owner, id, change).await;
    let key = changed.map_err(failed)?.ok_or_else(|| {
        let message = "This wallet has no API key with this id. GET /api/keys lists its keys.";
        ApiError::bad(Code::NotFound, message)
    })?;
    if key.revoked_at.is_some() && change != KeyChange::Revoke {
        return Err(UploadError::KeyRevoked.into());
    }
    Ok(HttpResponse::Ok().json(answer(site, &key, None)))
}

fn owner(signed_in: &SignedIn) -> Owner {
    Owner {
        wallet: signed_in.wallet,
        network: signed_in.network.map(|network| network.caip2.to_owned()),
    }
}

fn failed(error: DbError) -> ApiError {
    ApiError::Upload(error.into())
}

/// The response body that describes a key. `secret` is shown when the key is made.
fn answer(site: &Site, key: &ApiKey, secret: Option<&KeySecret>) -> ApiKeyAnswer {
    ApiKeyAnswer {
        id: key.id.clone(),
        key: secret.map(|secret| secret.reveal().to_owned()),
        wallet: key.wallet.to_checksum(None),
        name: key.name.clone(),
        created_at: key.created_at.to_string(),
        suspended_at: key.suspended_at.map(|at| at.to_string()),
        revoked_at: key.revoked_at.map(|at| at.to_string()),
        limits: KeyLimits {
            uploads_per_day: key.uploads_per_day,
        },
        usage: KeyUsage {
            uploads_today: key.uploads_on(day_of(site.clock.now())),
            uploads: key.uploads,
            bytes: key.bytes,
            last_used_at: key.last_used_at.map(|at| at.to_string()),
        },
    }
}

/// Reads what the wallet says of the key to make. An empty body says nothing.
async fn read_new(site: &Site, payload: Payload) -> Result<NewKey, ApiError> {
    let instead = "Send {\"name\": \"…\", \"uploadsPerDay\": n}, or no body.";
    let request: NewKeyRequest = json_body::read(payload, LONGEST_BODY, instead).await?;
    if let Some(name) = &request.name {
        let is_name =
            (1..=LONGEST_NAME).contains(&name.chars().count()) && !name.chars().any(is_unprintable);
        if !is_name {
            return Err(bad(format!(
                "name is empty, has more than {LONGEST_NAME} characters, or has a control or format character. Send 1 to \
                 {LONGEST_NAME} printable characters, or no name."
            )));
        }
    }
    let most = site.config.keys.uploads_per_day;
    let uploads_per_day = request.uploads_per_day.unwrap_or(most);
    if !(1..=most).contains(&uploads_per_day) {
        return Err(bad(format!(
            "uploadsPerDay is {uploads_per_day}, but a key may make 1 to {most} uploads a day. Send a whole number from 1 to {most}."
        )));
    }
    Ok(NewKey {
        name: request.name,
        uploads_per_day,
    })
}

/// Whether a character shows nothing, or changes how those beside it are shown: control and format
/// characters (Unicode categories Cc and Cf), and the separators of lines.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn bad(message: String) -> ApiError {
    ApiError::bad(Code::InvalidBody, message)
}

/// Stores an image by an API key: in the free tier, or against what its wallet bought of `tier`.
/// Counts the failures of the client.
pub(super) async fn upload(
    site: &Site,
    request: &HttpRequest,
    source: Source,
    secret: &KeySecret,
    tier: Option<&str>,
) -> Result<Taken, ApiError> {
    limits::may_fail(site, request)?;
    let uploaded = take(site, request, source, secret, tier).await;
    if let Err(error) = &uploaded {
        limits::count_failure(site, request, error);
    }
    uploaded.map_err(|error| error.of(request))
}

async fn take(
    site: &Site,
    request: &HttpRequest,
    source: Source,
    secret: &KeySecret,
    tier: Option<&str>,
) -> Result<Taken, ApiError> {
    if has_payment(request) {
        let message = "The request carries an API key and a payment, and only one of them is allowed. Send the request without the payment, which was not used now.";
        return Err(ApiError::bad(Code::ConflictingCredentials, message));
    }
    let key = site.api_keys.find_open(secret).await?;
    let tiers = site.tiers.now();
    if let Some(tier) = tier.filter(|name| !tiers.find(name).is_some_and(Tier::is_free)) {
        return take_bought(site, request, source, key, tier).await;
    }
    refuse_spent(&key, site.clock.now())?;
    let tier = tiers.free().ok_or(ApiError::UnknownTier {
        name: None,
        known: tiers.paid().map(|tier| tier.name.to_string()).collect(),
    })?;
    // The limits of free uploads hold beside the key's own, since anybody can make wallets
    // and keys.
    let attempt = limits::count_free(site, request).await;
    let mut attempt = attempt.map_err(|error| limits::refuse_free(site, request, error))?;
    let through = Some(Through::Key(key));
    let taken = free::take(site, request, source, tier, through, &mut attempt).await;
    if let Some(attempt) = attempt {
        attempt.give_back().await;
    }
    taken
}

/// Stores an image against a token or link of this tier that the key's wallet bought.
async fn take_bought(
    site: &Site,
    request: &HttpRequest,
    source: Source,
    key: ApiKey,
    tier: &str,
) -> Result<Taken, ApiError> {
    refuse_behind(site)?;
    let tier = TierName::parse(tier).map_err(|_| ApiError::UnknownTier {
        name: Some(query::excerpt(tier)),
        known: Vec::new(),
    })?;
    let name = tier.as_str();
    let bought = site.api_keys.find_bought(&key, name).await;
    let Some(bought) = bought.map_err(failed)? else {
        refuse_spent(&key, site.clock.now())?;
        return Err(links::ask_for(site, request, &tier).await);
    };
    // Grants of one tier may have different limits, if the operator changed the tier. The bytes of an
    // image that is stored already return it, whatever is left; other bytes must fit what is left,
    // or what can be bought now.
    let sold = site.tiers.now().find(name).map(|tier| tier.max_bytes);
    let most = bought.left.max(sold);
    let most = Limit {
        tier: name,
        max_bytes: most.unwrap_or(bought.largest),
    };
    let limit = Limit {
        tier: name,
        max_bytes: bought.largest.max(most.max_bytes),
    };
    site.images.has_room()?;
    let checked = receive(site, request, source, limit).await;
    let checked = checked.map_err(|error| limited(error, most))?;
    let bytes = checked.upload_bytes();
    match site.images.upload_by_key(key, name, checked).await {
        Err(UploadError::TokenUsed) if bytes > most.max_bytes => {
            Err(UploadError::from(most.refuse(bytes, false)).into())
        }
        Err(UploadError::TokenUsed) => Err(links::ask_for(site, request, &tier).await),
        uploaded => Ok(uploaded?),
    }
}

/// Names the limit of other bytes than those of stored images, where a body is too large.
fn limited(error: ApiError, most: Limit<'_>) -> ApiError {
    match error {
        ApiError::Upload(UploadError::Refused(Refusal::TooLarge {
            bytes, at_least, ..
        })) => UploadError::from(most.refuse(bytes, at_least)).into(),
        error => error,
    }
}
