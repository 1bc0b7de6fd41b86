//! Asks the wallet of a request to sign in, and checks the signed message that it sends. Every route
//! that serves a wallet calls [`sign_in`].

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::Method;

use super::error::{ApiError, Code, SignInDemand};
use super::{Site, extract, limits, query};
use crate::moving::Service;
use crate::signin::{Cursor, SignedIn};
use crate::x402::siwx::SignedMessage;

/// What a client may send in place of a signed message where a delete token does as well.
pub(super) const OR_DELETE_TOKEN: &str =
    "Or send the deleteToken that the upload returned, in the header X-Delete-Token.";

/// What to send in place of a cursor that can't be used.
const CURSOR_INSTEAD: &str =
    "Send ?after= once, with `next` of the response before, or sign in without it.";

/// A route at which wallets sign in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Door<'a> {
    /// The path, with the id of the image or other object that the request is about, and without
    /// the query.
    pub(super) path: &'a str,
    /// What signing in does there, as the wallet shows it. The methods of one path have different
    /// statements.
    pub(super) statement: &'a str,
    /// What the client may send in place of a signed message, as a sentence. Empty: nothing.
    pub(super) instead: &'static str,
}

/// Signs the wallet of a request in at the route with this path. `statement` says what signing in
/// does there. See [`sign_in_at`].
///
/// # Errors
/// The challenge to sign, or what is wrong with the message.
pub(super) async fn sign_in(
    site: &Site,
    request: &HttpRequest,
    path: &str,
    statement: &str,
) -> Result<SignedIn, ApiError> {
    let door = Door {
        path,
        statement,
        instead: "",
    };
    sign_in_at(site, request, &door).await
}

/// Signs the wallet of a request in, by the message in its header `SIGN-IN-WITH-X`. The message
/// signs in once: a request that fails after this needs a new one.
///
/// # Errors
/// The challenge to sign, or what is wrong with the message.
pub(super) async fn sign_in_at(
    site: &Site,
    request: &HttpRequest,
    door: &Door<'_>,
) -> Result<SignedIn, ApiError> {
    may_try(site, request).await?;
    let message = extract::sign_in(request)?;
    verify(site, request, message, door).await
}

/// Counts a request to sign in, with or without a signed message. A database that has lost commits
/// knows neither every nonce nor every payment, so nobody signs in to it.
pub(super) async fn may_try(site: &Site, request: &HttpRequest) -> Result<(), ApiError> {
    // The nonce of the message is recorded, which a database that is being moved doesn't take.
    refuse_without_nonces(site)?;
    limits::count_payment(site, request).await
}

/// Refuses to sign anybody in while the database can't record nonces, or may have lost some.
fn refuse_without_nonces(site: &Site) -> Result<(), ApiError> {
    if site.moving.service() != Service::Full {
        return Err(ApiError::Moving);
    }
    if site.epoch.is_current() {
        Ok(())
    } else {
        Err(ApiError::Behind)
    }
}

/// An attempt to sign in that comes without an HTTP request of its own.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The client's address, for rate limits.
    pub(super) client: Option<IpAddr>,
    /// The method of the route at which a client without MCP signs in.
    pub(super) method: Method,
    /// The signed message.
    pub(super) message: Option<SignedMessage>,
}

impl Attempt {
    /// Counts the attempt, with or without a signed message.
    async fn count(&self, site: &Site) -> Result<(), ApiError> {
        refuse_without_nonces(site)?;
        match self.client {
            None => Ok(()),
            Some(address) => {
                let counted = site.limits.count_payment(address).await;
                counted.map_err(ApiError::Limited)
            }
        }
    }

    /// Signs the wallet in at this door. See [`sign_in_at`].
    ///
    /// # Errors
    /// The challenge to sign, or what is wrong with the message.
    pub(super) async fn sign_in(self, site: &Site, door: &Door<'_>) -> Result<SignedIn, ApiError> {
        self.count(site).await?;
        self.verify(site, door).await
    }

    /// The page of a wallet's list that `after` names. See [`page`].
    ///
    /// # Errors
    /// The challenge to sign, what is wrong with the message, or with the cursor.
    pub(super) async fn page(
        self,
        site: &Site,
        after: Option<&str>,
        door: &Door<'_>,
    ) -> Result<Cursor, ApiError> {
        let cursor = read_cursor(site, after, door)?;
        self.count(site).await?;
        self.continued(site, cursor, door).await
    }

    async fn verify(self, site: &Site, door: &Door<'_>) -> Result<SignedIn, ApiError> {
        let demand = || {
            Box::new(SignInDemand {
                challenge: site.sign_in.challenge(door.path, door.statement),
                method: self.method.clone(),
                instead: door.instead,
            })
        };
        let Some(message) = &self.message else {
            return Err(ApiError::SignInRequired(demand()));
        };
        let verified = site
            .sign_in
            .verify(message, door.path, door.statement, self.client);
        verified.await.map_err(|error| ApiError::SignIn {
            error: Box::new(error),
            demand: demand(),
        })
    }

    /// The page after `cursor`, with a sign-in where it needs one.
    async fn continued(
        self,
        site: &Site,
        cursor: Option<Cursor>,
        door: &Door<'_>,
    ) -> Result<Cursor, ApiError> {
        let now = site.clock.now();
        match cursor {
            Some(cursor) if self.message.is_none() && now < cursor.until => Ok(cursor),
            cursor => {
                let signed_in = self.verify(site, door).await?;
                let first = Cursor::first(signed_in, now);
                match cursor {
                    None => Ok(first),
                    Some(cursor) if cursor.signed_in.wallet == signed_in.wallet => {
                        Ok(first.at(cursor.position))
                    }
                    Some(_) => Err(bad_cursor("belongs to the list of another wallet")),
                }
            }
        }
    }
}

/// Checks a signed message. Without one, the error holds the challenge.
pub(super) async fn verify(
    site: &Site,
    request: &HttpRequest,
    message: Option<SignedMessage>,
    door: &Door<'_>,
) -> Result<SignedIn, ApiError> {
    let attempt = Attempt {
        client: extract::client_address(request, &site.config.http),
        method: request.method().clone(),
        message,
    };
    attempt.verify(site, door).await
}

/// The page of a wallet's list that a request asks for. The first page needs a sign-in. A page after
/// it needs none, within 10 minutes of the last sign-in; later, the cursor goes on with another one.
///
/// # Errors
/// The challenge to sign, what is wrong with the message, or with `?after=`.
pub(super) async fn page(
    site: &Site,
    request: &HttpRequest,
    door: &Door<'_>,
) -> Result<Cursor, ApiError> {
    let after = query::single(request, query::AFTER, CURSOR_INSTEAD)?;
    let cursor = read_cursor(site, after.as_deref(), door)?;
    may_try(site, request).await?;
    let attempt = Attempt {
        client: extract::client_address(request, &site.config.http),
        method: request.method().clone(),
        message: extract::sign_in(request)?,
    };
    attempt.continued(site, cursor, door).await
}

/// Reads a cursor of this door's list.
fn read_cursor(
    site: &Site,
    text: Option<&str>,
    door: &Door<'_>,
) -> Result<Option<Cursor>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let cursor = site.sign_in.read_cursor(door.path, text);
    let unknown = || bad_cursor("is not a cursor that this server made for this list");
    cursor.map(Some).ok_or_else(unknown)
}

fn bad_cursor(what: &str) -> ApiError {
    let message = format!("after {what}. {CURSOR_INSTEAD}");
    ApiError::bad(Code::InvalidParameter, message)
}
