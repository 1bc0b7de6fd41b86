//! Checks a payment that is new or is attempted again, before the facilitator is called. Local
//! checks come first, then the ledger, then the chain. None of them costs the client anything
//! (docs/payments.md, rules 2, 7 and 8).

use std::net::IpAddr;
use std::time::Duration;

use alloy_primitives::U256;

use super::access::NetworkAccess;
use super::reading::silent_node;
use super::recovery::Money;
use super::refusals;
use super::{Content, PayError, Payments, Presentation, Progress};
use crate::db::proofs;
use crate::evm::chain::{Block, Funds, Priority, Query, Reading, Verdict, judge};
use crate::evm::exact::Authorization;
use crate::images::{Refusal, UploadError};
use crate::model::payment::{
    LEASE, Payment, PaymentId, PaymentState, Product, ProductKind, Terms, unix_seconds,
};
use crate::pricing::networks::Network;
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;
use crate::x402::header::PaymentHeader;

/// The least time that must be left until `validBefore`: enough to verify and settle.
const LEAST_WINDOW: Duration = Duration::from_secs(8);
/// How much longer than the offer's timeout an authorization may be valid, since clocks differ.
const WINDOW_MARGIN: Duration = Duration::from_mins(1);
/// How long after `validBefore` the ledger keeps watching the chain for a transfer.
pub(super) const WATCH_MARGIN: Duration = Duration::from_mins(1);

/// Reasons for a rejection, as the x402 protocol spells them. Clients compare them.
pub(super) mod reasons {
    pub(crate) const NO_MATCH: &str = "No matching payment requirements";
    pub(crate) const RESOURCE: &str = "resource_mismatch";
    pub(crate) const VALUE: &str = "invalid_exact_evm_payload_authorization_value";
    pub(crate) const RECIPIENT: &str = "invalid_exact_evm_payload_recipient_mismatch";
    pub(crate) const VALID_BEFORE: &str = "invalid_exact_evm_payload_authorization_valid_before";
    pub(crate) const VALID_AFTER: &str = "invalid_exact_evm_payload_authorization_valid_after";
    pub(crate) const SIGNATURE: &str = "invalid_exact_evm_payload_signature";
    pub(crate) const FUNDS: &str = "insufficient_funds";
}

/// What a payer had on the chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct PayerBalance {
    /// The balance, in atomic units.
    pub(super) units: U256,
    /// A time before it was read.
    pub(super) read_at: Timestamp,
}

impl Payments {
    /// Checks a payment and writes it to the ledger, as a new one or as the next attempt of a known
    /// one. `None`: another row decides.
    pub(super) async fn admit(
        &self,
        presentation: &Presentation,
        known: Option<Payment>,
        progress: &mut Progress,
    ) -> Result<Option<(Payment, PayerBalance)>, PayError> {
        presentation.evidence.check_keys()?;
        // This comes before prices and windows: a second authorization under the same idempotency
        // key asks for what the first one bought, even if it is late or has another price. A 402
        // would lead its client to sign a third.
        if let Some(owner) = self.owner_of_secret_key(presentation).await? {
            progress.stand_for(owner);
            return Ok(None);
        }
        if self.is_sale_stopped() {
            return Err(PayError::Paused);
        }
        let bytes = self.size_of(presentation).await?;
        let terms = self.match_offer(presentation, bytes).await?;
        check_authorization(presentation, &terms, self.clock.now())?;
        check_body(presentation, &presentation.product, &terms)?;
        if let Some(image) = &presentation.product.target {
            self.check_renewal(image, &presentation.product.tier, &terms)
                .await?;
        }
        self.images.ready().await?;
        let reading = Reading::until(Priority::Sale, progress.ends.into_std());
        self.check_signature(presentation, &terms, reading).await?;
        let read_at = self.clock.now();
        let Some(funds) = self
            .check_nonce(presentation, &terms, known.as_ref(), reading)
            .await?
        else {
            return Ok(None);
        };
        // This comes before the balance: the payer may have spent it on the first payment.
        if let Some(owner) = self.owner_of_short_key(presentation, &terms).await? {
            progress.stand_for(owner);
            return Ok(None);
        }
        let authorization = &presentation.header.authorization;
        let needs = authorization.value;
        if funds.balance < needs {
            if let Some(client) = presentation.client {
                self.limits.count_refused_by_chain(client).await?;
            }
            let (payer, network) = (authorization.from, terms.offer.network);
            let detail = refusals::no_funds(payer, funds.balance, needs, network);
            return refuse(reasons::FUNDS, detail);
        }
        let balance = PayerBalance {
            units: funds.balance,
            read_at,
        };
        self.screen(presentation).await?;
        let name = self.access_for(&terms)?.facilitator.name();
        let row = self.draft(presentation, terms, funds.head, known.as_ref());
        let admitted = self.ledger.admit(&row, known.as_ref(), name).await?;
        progress.ledger_id = Some(row.id.clone());
        if !admitted {
            // A copy of this request recorded the payment first. Its row decides.
            return Ok(None);
        }
        if let Some(image) = known.and_then(|known| known.image_id) {
            self.images.discard(&image).await;
        }
        Ok(Some((row, balance)))
    }

    /// The facilitator and chain for these terms. An earlier offer may name a network that is no
    /// longer configured.
    pub(super) fn access_for(&self, terms: &Terms) -> Result<&NetworkAccess, PayError> {
        self.networks
            .find(terms.offer.network)
            .ok_or_else(|| PayError::Invalid {
                reason: reasons::NO_MATCH.to_owned(),
                detail: String::new(),
            })
    }

    /// The size of the image that the payment is for, in bytes. `None`: it is not known, or the
    /// image is refused later.
    async fn size_of(&self, presentation: &Presentation) -> Result<Option<u64>, PayError> {
        Ok(match (&presentation.product.target, presentation.sent()) {
            (Some(image), _) => {
                let image = self.images.find_live(image).await?;
                image.map(|image| image.size_bytes)
            }
            (None, Some(checked)) if presentation.product.kind == ProductKind::Upload => {
                Some(checked.upload_bytes())
            }
            (None, _) => None,
        })
    }

    /// The terms that the payment accepts: current ones, or ones that were offered recently. Terms
    /// for smaller images than that of `bytes` bytes are not accepted.
    async fn match_offer(
        &self,
        presentation: &Presentation,
        bytes: Option<u64>,
    ) -> Result<Terms, PayError> {
        let header = &presentation.header;
        let fits = |terms: &Terms| {
            header.network == Some(terms.offer.network)
                && header
                    .accepted
                    .as_ref()
                    .is_none_or(|accepted| terms.offer.is_accepted(accepted))
        };
        let resource_fits = header
            .resource_url
            .as_ref()
            .is_none_or(|url| *url == presentation.resource_url);
        if !resource_fits {
            let received: String = header
                .resource_url
                .iter()
                .flat_map(|url| url.chars())
                .take(200)
                .collect();
            let detail = format!(
                "resource.url is {received}; this route is {}. Ask this route for an offer and echo its resource.",
                presentation.resource_url
            );
            return refuse(reasons::RESOURCE, detail);
        }
        let mut known = self.catalog.terms(&presentation.product);
        let exact = |terms: &Terms| {
            fits(terms)
                && terms.offer.amount.as_u256() == header.authorization.value
                && terms.offer.pay_to == header.authorization.to
        };
        if let Some(amount) = header.amount() {
            let recent = self
                .catalog
                .recent_terms(&presentation.product, Some(amount));
            known.extend(recent.await?);
        }
        // A version 1 payment carries no offer, so the amount tells which one it accepts. Of
        // several with the same amount, the best for the payer counts, and of equal ones the
        // current one.
        let covers = |terms: &Terms| bytes.is_none_or(|bytes| bytes <= terms.max_bytes);
        let goods = |terms: &&Terms| (covers(terms), terms.keep, terms.max_bytes);
        let found = known
            .iter()
            .rev()
            .filter(|terms| exact(terms))
            .max_by_key(goods)
            .or_else(|| known.iter().find(|terms| fits(terms)));
        let Some(found) = found else {
            return refuse(reasons::NO_MATCH, refusals::no_offer(header, &known));
        };
        let needed = self.catalog.terms_for(&presentation.product, bytes);
        let needed = needed.iter().find(|terms| covers(terms));
        if let (Some(bytes), Some(needed), false) = (bytes, needed, covers(found)) {
            return refuse(reasons::VALUE, refusals::too_little(bytes, found, needed));
        }
        Ok(found.clone())
    }

    /// The other payment that was sent first under one of this request's idempotency keys, if that
    /// key is too long to be guessed. Only a request with a valid signature of the payer is
    /// answered: a key alone unlocks nothing.
    async fn owner_of_secret_key(
        &self,
        presentation: &Presentation,
    ) -> Result<Option<PaymentId>, PayError> {
        let header = &presentation.header;
        let hashes = presentation.evidence.secret_key_hashes(&self.secrets);
        let Some(network) = header.network.filter(|_| !hashes.is_empty()) else {
            return Ok(None);
        };
        if !header.is_signed {
            return Ok(None);
        }
        self.owner_of_key(presentation, network, hashes).await
    }

    /// The other payment that was sent first under one of this request's idempotency keys, of any
    /// length. Call it for a payment that the payer signed for this offer and that is not on the
    /// chain: nobody else can have it. A signature that was published, for another purchase or
    /// another seller, unlocks nothing with a key that was guessed.
    async fn owner_of_short_key(
        &self,
        presentation: &Presentation,
        terms: &Terms,
    ) -> Result<Option<PaymentId>, PayError> {
        if !presentation.evidence.has_short_key() {
            return Ok(None);
        }
        let hashes = presentation.evidence.key_hashes(&self.secrets);
        self.owner_of_key(presentation, terms.offer.network, hashes)
            .await
    }

    async fn owner_of_key(
        &self,
        presentation: &Presentation,
        network: &'static Network,
        hashes: Vec<String>,
    ) -> Result<Option<PaymentId>, PayError> {
        let authorization = &presentation.header.authorization;
        let own = PaymentId::of(network, authorization.from, authorization.nonce);
        let payer = authorization.from.to_string();
        let (product, body) = (&presentation.product, presentation.body_sha256());
        for hash in hashes {
            let owner = proofs::find_id_owner(&self.db, &payer, &hash, product, body).await?;
            match owner.filter(|owner| owner.payment_id != own) {
                Some(owner) if owner.same_purchase => return Ok(Some(owner.payment_id)),
                Some(_) => {
                    return Err(PayError::Conflict {
                        charged: Some(false),
                    });
                }
                None => {}
            }
        }
        Ok(None)
    }

    /// Checks the signature. One that recovers to the payer is valid. Any other may belong to a
    /// contract wallet, deployed or not, which the chain's node asks. The facilitator receives no
    /// payment whose signature was not accepted here (docs/payments.md, rule 8).
    async fn check_signature(
        &self,
        presentation: &Presentation,
        terms: &Terms,
        reading: Reading,
    ) -> Result<(), PayError> {
        let header = &presentation.header;
        let payer = header.authorization.from;
        if header.is_signed && header.network == Some(terms.offer.network) {
            return Ok(());
        }
        let digest = header.authorization.digest(terms.offer.network);
        if let Some(client) = presentation.client {
            self.limits.count_unproven(client).await?;
        }
        let chain = self.access_for(terms)?.chain.read_for(reading);
        match chain.is_signed(payer, digest, &header.signature).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let detail = refusals::wrong_signature(header, &digest, terms.offer.network);
                refuse(reasons::SIGNATURE, detail)
            }
            Err(error) => Err(silent_node(&error)),
        }
    }

    /// Checks that the nonce is unused on the chain, and reads the payer's balance. `None`: a row was
    /// created or changed meanwhile.
    async fn check_nonce(
        &self,
        presentation: &Presentation,
        terms: &Terms,
        known: Option<&Payment>,
        reading: Reading,
    ) -> Result<Option<Funds>, PayError> {
        let authorization = &presentation.header.authorization;
        if let Some(client) = presentation.client {
            self.limits.may_ask_chain(client)?;
        }
        kill_point!("chain.funds.before");
        let funds = self
            .access_for(terms)?
            .chain
            .read_for(reading)
            .funds(authorization.from, authorization.nonce)
            .await;
        kill_point!("chain.funds.after");
        let funds = funds.map_err(|error| silent_node(&error))?;
        if funds.nonce_used {
            if let Some(known) = known
                && self.ask_chain(known).await? == Money::Moved
            {
                return Ok(None);
            }
            // A copy of this request may have been recorded and settled since the ledger was read.
            if known.is_none()
                && self
                    .ledger
                    .find_presented(&presentation.header)
                    .await?
                    .is_some()
            {
                return Ok(None);
            }
            return Err(PayError::Known {
                charged: self.was_charged(presentation, terms, funds.head).await,
            });
        }
        Ok(Some(funds))
    }

    /// Checks whether an unknown payment that came too late has moved money. Its row may have been
    /// lost with a commit, so the client must not be told that nothing was charged while the chain
    /// shows the nonce as used.
    pub(super) async fn refuse_lost(
        &self,
        presentation: &Presentation,
        error: &PayError,
    ) -> Result<(), PayError> {
        let header = &presentation.header;
        let least = unix(self.clock.now().plus(LEAST_WINDOW));
        match error {
            PayError::Invalid { .. } if header.authorization.valid_before < least => {}
            PayError::NoImage => {}
            _ => return Ok(()),
        }
        match self.refuse_used(header, presentation.client).await {
            // A client over its rate limit is not told what the chain shows, and must not be told
            // that nothing was charged.
            Err(PayError::Limited(_)) => Err(PayError::Pending),
            refused => refused,
        }
    }

    /// Rejects a payment whose nonce is used on the chain: it may have moved money here, whatever
    /// the request asks for.
    ///
    /// # Errors
    /// [`PayError::Known`]; [`PayError::Pending`] when the chain does not answer;
    /// [`PayError::Limited`].
    pub async fn refuse_used(
        &self,
        header: &PaymentHeader,
        client: Option<IpAddr>,
    ) -> Result<(), PayError> {
        let authorization = &header.authorization;
        let Some(access) = header
            .network
            .and_then(|network| self.networks.find(network))
        else {
            return Ok(());
        };
        if !header.is_signed
            && let Some(client) = client
        {
            self.limits.count_unproven(client).await?;
        }
        if let Some(client) = client {
            self.limits.may_ask_chain(client)?;
        }
        let funds = access.chain.funds(authorization.from, authorization.nonce);
        let funds = funds.await.map_err(|error| {
            tracing::warn!(%error, "the chain's node did not answer; the payment waits");
            PayError::Pending
        })?;
        if funds.nonce_used {
            return Err(PayError::Known { charged: None });
        }
        if let Some(client) = client {
            self.limits.count_refused_by_chain(client).await?;
        }
        Ok(())
    }

    /// Whether a payment that the ledger does not know moved money to us. It buys nothing
    /// (docs/payments.md, rule 6), but the client is told whether it was charged. `None`: the chain
    /// can't tell.
    async fn was_charged(
        &self,
        presentation: &Presentation,
        terms: &Terms,
        head: Block,
    ) -> Option<bool> {
        let authorization = &presentation.header.authorization;
        let query = Query {
            network: terms.offer.network,
            payer: authorization.from,
            nonce: authorization.nonce,
            pay_to: terms.offer.pay_to,
            value: terms.offer.amount.as_u256(),
            valid_before: unix_seconds(authorization.valid_before),
            first_block: first_block(terms, head),
            confirmations: 0,
            transaction: None,
            finality: false,
        };
        let access = self.access_for(terms).ok()?;
        match judge(&query, &access.chain.evidence(&query).await.ok()?) {
            Verdict::Paid(_) => Some(true),
            Verdict::Void(_) => Some(false),
            Verdict::Unused | Verdict::Unclear => None,
        }
    }

    /// The row of a new payment, or of the next attempt of a known one.
    fn draft(
        &self,
        presentation: &Presentation,
        terms: Terms,
        head: Block,
        known: Option<&Payment>,
    ) -> Payment {
        let header = &presentation.header;
        let now = self.clock.now();
        let network = terms.offer.network;
        let authorization = header.authorization.clone();
        let next_look = unix_seconds(authorization.valid_before).plus(WATCH_MARGIN);
        let asked_in = self
            .networks
            .find(network)
            .map_or(header.version, |access| access.version_for(header.version));
        Payment {
            id: PaymentId::of(network, authorization.from, authorization.nonce),
            digest: authorization.digest(network),
            signature: header.signature.clone(),
            state: PaymentState::Received,
            attempt: known.map_or(1, |known| known.attempt + 1),
            lease_until: now.plus(LEASE),
            product: presentation.product.clone(),
            request: self.catalog.facilitator_request(
                header,
                asked_in,
                &presentation.product,
                &terms,
                &presentation.resource_url,
            ),
            version: header.version,
            client: presentation.client_kind,
            body_sha256: None,
            image_id: None,
            reason: None,
            first_seen: known.map_or(now, |known| known.first_seen),
            first_block: known.map_or_else(|| first_block(&terms, head), |known| known.first_block),
            transaction: None,
            settled_at: None,
            next_look: Some(next_look),
            looks: 0,
            missing: None,
            voided_at: None,
            terms,
            authorization,
        }
    }
}

/// The first block of the search for logs. It lies before the payment was first seen by the offer's
/// timeout and a margin, counting one block a second, which is faster than any supported chain.
fn first_block(terms: &Terms, head: Block) -> u64 {
    head.number
        .saturating_sub(terms.offer.max_timeout_seconds + WINDOW_MARGIN.as_secs())
}

/// Checks amount, recipient and window, which need no other service.
fn check_authorization(
    presentation: &Presentation,
    terms: &Terms,
    now: Timestamp,
) -> Result<(), PayError> {
    let authorization = &presentation.header.authorization;
    let offer = &terms.offer;
    if authorization.value != offer.amount.as_u256() {
        let detail = format!(
            "authorization.value is {}; the price is {}. Sign exactly that.",
            refusals::amount(authorization.value),
            refusals::amount(offer.amount.as_u256())
        );
        return refuse(reasons::VALUE, detail);
    }
    if authorization.to != offer.pay_to {
        let detail = format!(
            "authorization.to is {}; the recipient is {}. Sign a transfer to that address.",
            authorization.to, offer.pay_to
        );
        return refuse(reasons::RECIPIENT, detail);
    }
    check_window(authorization, offer.max_timeout_seconds, now)
}

/// Checks the window: `validAfter` lies in the past, and `validBefore` at least [`LEAST_WINDOW`]
/// and at most the offer's timeout plus [`WINDOW_MARGIN`] ahead.
fn check_window(
    authorization: &Authorization,
    timeout_seconds: u64,
    now: Timestamp,
) -> Result<(), PayError> {
    let longest = Duration::from_secs(timeout_seconds) + WINDOW_MARGIN;
    let (least, most) = (unix(now.plus(LEAST_WINDOW)), unix(now.plus(longest)));
    if authorization.valid_before < least || authorization.valid_before > most {
        let detail = format!(
            "authorization.validBefore is {} and the server's time is {}: it must be {} to {} seconds ahead. \
             Sign validBefore = now + {timeout_seconds}, the challenge's maxTimeoutSeconds.",
            authorization.valid_before,
            unix(now),
            LEAST_WINDOW.as_secs(),
            longest.as_secs(),
        );
        return refuse(reasons::VALID_BEFORE, detail);
    }
    if authorization.valid_after >= unix(now) {
        let detail = format!(
            "authorization.validAfter is {} and the server's time is {}: it must be earlier. \
             Sign validAfter = 0, or a time in the past.",
            authorization.valid_after,
            unix(now),
        );
        return refuse(reasons::VALID_AFTER, detail);
    }
    Ok(())
}

/// Checks that a direct upload carries an image that these terms accept, or a URL to fetch it from.
/// Other products need none.
pub(super) fn check_body(
    presentation: &Presentation,
    product: &Product,
    terms: &Terms,
) -> Result<(), PayError> {
    if product.kind != ProductKind::Upload {
        return Ok(());
    }
    let checked = match presentation.content() {
        Some(Content::Sent(Ok(checked))) => checked,
        Some(Content::Sent(Err(refusal))) => {
            return Err(UploadError::from(refusal.clone()).into());
        }
        // The size is known once the image is fetched.
        Some(Content::Linked(import)) => return Ok(import.check()?),
        None => return Err(UploadError::from(Refusal::NoFile).into()),
    };
    if checked.upload_bytes() > terms.max_bytes {
        let refusal = Refusal::TooLarge {
            bytes: checked.upload_bytes(),
            at_least: false,
            limit: terms.max_bytes,
            tier: product.tier.clone(),
        };
        return Err(UploadError::from(refusal).into());
    }
    Ok(())
}

/// A time in whole seconds since 1970, as authorizations count it.
fn unix(at: Timestamp) -> U256 {
    U256::from(u64::try_from(at.seconds()).unwrap_or(0))
}

fn refuse<T>(reason: &str, detail: String) -> Result<T, PayError> {
    let reason = reason.to_owned();
    Err(PayError::Invalid { reason, detail })
}
