//! `POST /api/claims`: a payer signs in with its wallet and receives what it paid for. Without a
//! signed message the response is a challenge to sign.

use std::time::Duration;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::BytesMut;
use futures_util::StreamExt;

use super::error::{ApiError, Code};
use super::sign_in::Door;
use super::views::{ClaimView, ClaimsAnswer};
use super::{Site, extract, images, links, paid, query, sign_in, tiers};
use crate::model::payment::{Payment, PaymentId};
use crate::payments::{Goods, Sold, Unreceived};
use crate::x402::siwx::{CLAIMS_PATH, MAX_MESSAGE_BYTES, SignedMessage};

/// The time limit for the body that holds a signed message.
const READ_TIME: Duration = Duration::from_secs(10);

/// The route at which payers sign in.
const DOOR: Door<'_> = Door {
    path: CLAIMS_PATH,
    statement: "Receive what this wallet paid for and did not receive. Signing in costs nothing.",
    instead: "The signed message may also be the body.",
};

/// `POST /api/claims`.
pub(super) async fn claim(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let claimed = receive(&site, &request, payload).await;
    claimed.map_err(|error| error.of(&request))
}

async fn receive(
    site: &Site,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    query::check(request, &[query::AFTER])?;
    let after = after(request)?;
    let checkout = site.checkout.as_ref().ok_or(ApiError::PaymentsOff)?;
    sign_in::may_try(site, request).await?;
    let message = read_message(request, payload).await?;
    let payer = sign_in::verify(site, request, message, &DOOR).await?;
    let unreceived = checkout
        .payments
        .unreceived(payer.wallet, payer.network, after.as_ref())
        .await
        .map_err(ApiError::Unclaimed)?;
    tracing::info!(
        payments = unreceived.purchases.len(),
        "a payer signed in and received what it had paid for"
    );
    Ok(HttpResponse::Ok().json(answer(site, unreceived)))
}

/// The page that the query asks for.
fn after(request: &HttpRequest) -> Result<Option<PaymentId>, ApiError> {
    let instead = "Send ?after= once, with `next` of the response before.";
    let Some(text) = query::single(request, query::AFTER, instead)? else {
        return Ok(None);
    };
    PaymentId::parse(&text).map(Some).ok_or_else(|| {
        let message = format!(
            "after is \"{}\", which is not a ledger id: 64 hexadecimal digits. {instead}",
            query::excerpt(&text)
        );
        ApiError::bad(Code::InvalidParameter, message)
    })
}

/// The signed message of a request, in the header or as the body. `None`: it has none.
async fn read_message(
    request: &HttpRequest,
    payload: Payload,
) -> Result<Option<SignedMessage>, ApiError> {
    if let Some(message) = extract::sign_in(request)? {
        return Ok(Some(message));
    }
    let read = tokio::time::timeout(READ_TIME, read_body(payload)).await;
    let body = read.map_err(|_| {
        bad("The body took longer to arrive than the limit of 10 seconds. Send the same request over a faster connection.")
    })??;
    // Clients of JSON APIs send `{}` where they mean nothing.
    let is_empty = body.iter().all(|byte| b"{} \t\r\n".contains(byte));
    if is_empty {
        return Ok(None);
    }
    let message = SignedMessage::parse(&body);
    message.map(Some).map_err(|error| bad(&error.to_string()))
}

async fn read_body(mut payload: Payload) -> Result<BytesMut, ApiError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk
            .map_err(|_| bad("The body ended before it was complete. Repeat the same request."))?;
        if body.len() + chunk.len() > MAX_MESSAGE_BYTES {
            return Err(bad(&format!(
                "The body is longer than the limit of {MAX_MESSAGE_BYTES} bytes. Send only the signed message."
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn bad(message: &str) -> ApiError {
    ApiError::bad(Code::InvalidBody, message)
}

fn answer(site: &Site, unreceived: Unreceived) -> ClaimsAnswer {
    let purchases = unreceived.purchases.into_iter();
    ClaimsAnswer {
        payments: purchases
            .map(|(payment, sold)| view(site, &payment, sold))
            .collect(),
        next: unreceived.next.map(|id| id.to_string()),
        open: unreceived.open,
    }
}

fn view(site: &Site, payment: &Payment, sold: Sold) -> ClaimView {
    let mut link = None;
    let (token, image) = match sold.goods {
        Goods::Image(image) => (None, Some(images::upload_answer(site, &image))),
        Goods::Renewed { .. } => (None, None),
        Goods::Link(bought) => {
            link = Some(links::answer(site, &bought));
            (None, None)
        }
        Goods::Token {
            token,
            expires_at,
            tier,
            uploads,
        } => {
            let token = paid::token_answer(site, &token, expires_at, tier, uploads);
            (Some(token), None)
        }
    };
    ClaimView {
        bought: payment.product.kind.as_str(),
        image,
        link,
        ledger_id: payment.id.to_string(),
        network: payment.network().caip2,
        nonce: payment.authorization.nonce.to_string(),
        price: tiers::price(payment.terms.offer.amount),
        settled_at: payment.settled_at.map(|at| at.to_string()),
        tier: payment.product.tier.clone(),
        token,
        transaction: sold.receipt.transaction,
    }
}
