//! Claims: a payer signs in with its wallet (sign-in-with-x) and receives what it paid for and did
//! not receive (docs/payments.md, Claims). The signature is the last proof: it needs neither ticket
//! nor idempotency key, and works for payments that only the chain remembered.

use std::net::IpAddr;
use std::sync::Arc;

use alloy_primitives::Address;
use url::Url;

use crate::db::{Db, DbError, claims as rows};
use crate::evm::chain::{Priority, Reading};
use crate::evm::exact::{self, PlainSignature};
use crate::keys::secrets::Keyring;
use crate::limits::{Limited, Limits};
use crate::model::payment::PaymentId;
use crate::payments::access::Networks;
use crate::payments::{PayError, Payments, Unreceived};
use crate::pricing::networks::Network;
use crate::system::clock::{Clock, Timestamp};
use crate::system::kill::kill_point;
use crate::system::random::Randomness;
use crate::x402::siwx::{CLAIMS_PATH, ChallengeInfo, SignInChallenge, SignedMessage, VERSION};

mod nonce;

/// What signing in does, as the wallet shows it.
const STATEMENT: &str =
    "Receive what this wallet paid for and did not receive. Signing in costs nothing.";

/// Signs payers in, and returns what they did not receive.
#[derive(Debug)]
pub struct Claims {
    db: Db,
    secrets: Keyring,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
    limits: Arc<Limits>,
    networks: Networks,
    payments: Arc<Payments>,
    domain: String,
    uri: String,
}

/// The parts of the server that claims use.
#[derive(Debug)]
pub struct ClaimParts {
    /// The database.
    pub db: Db,
    /// The master keys, from which nonces are made.
    pub secrets: Keyring,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of random bytes.
    pub randomness: Randomness,
    /// The rate limits.
    pub limits: Arc<Limits>,
    /// The networks, on which contract wallets sign.
    pub networks: Networks,
    /// The payments.
    pub payments: Arc<Payments>,
}

/// Why a claim returned nothing. Nothing is lost by it: the payer signs in again.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The message is not one that this server asked this wallet to sign.
    #[error(
        "The sign-in was not accepted ({}). {} Nothing was lost: POST {CLAIMS_PATH} without a signature returns a new challenge to sign.",
        .0.reason(),
        .0
    )]
    Refused(SignInError),
    /// A contract wallet signed, and the network's node did not answer.
    #[error(
        "The network's node did not answer, so the contract wallet's signature could not be checked. Repeat the same request."
    )]
    NoNode,
    /// The client is over a rate limit.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// The database did not answer.
    #[error("The database did not answer. Ask for a new challenge, and sign in again.")]
    Database(#[from] DbError),
    /// The goods could not be read.
    #[error("What was paid for could not be read now. Ask for a new challenge, and sign in again.")]
    Unread(PayError),
}

/// What is wrong with a signed message, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum SignInError {
    #[error("domain is not {0}, the host of this server.")]
    Domain(String),
    #[error("uri is not {0}, the URL of this route.")]
    Uri(String),
    #[error("version is not \"{VERSION}\".")]
    Version,
    #[error("chainId and type are not one of: {0}.")]
    Chain(String),
    #[error("address is not an address with its checksum (EIP-55).")]
    Address,
    #[error(
        "A field has a line break or another control character, which the signed text can't hold."
    )]
    ControlCharacter,
    #[error("nonce was not made by this server within the last 5 minutes.")]
    Nonce,
    #[error("nonce was used before: each challenge signs in once.")]
    Used,
    #[error(
        "issuedAt is not a time (RFC 3339) within the last 5 minutes. The server's time is {0}."
    )]
    IssuedAt(Timestamp),
    #[error("issuedAt is later than the server's time, {0}.")]
    Future(Timestamp),
    #[error("expirationTime is not a time (RFC 3339) after the server's time, {0}.")]
    Expired(Timestamp),
    #[error("notBefore is not a time (RFC 3339) before the server's time, {0}.")]
    NotYet(Timestamp),
    #[error("signature is not hexadecimal digits after 0x.")]
    MalformedSignature,
    #[error(
        "signature has its s in the upper half, so that it could be made from another one. Send the form with the lower s (EIP-2)."
    )]
    Malleable,
    #[error(
        "signature is not of this message by this address. Sign the text of ERC-4361 with personal_sign (EIP-191)."
    )]
    Signature,
}

impl SignInError {
    /// The reason, as the x402 extension spells it.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Domain(_) => "invalid_siwx_domain_mismatch",
            Self::Uri(_) => "invalid_siwx_uri_mismatch",
            Self::Version | Self::ControlCharacter | Self::Address => "invalid_siwx_message",
            Self::Chain(_) => "invalid_siwx_unsupported_chain",
            Self::Nonce | Self::Used => "invalid_siwx_nonce",
            Self::IssuedAt(_) => "invalid_siwx_issued_at",
            Self::Future(_) => "invalid_siwx_issued_at_in_future",
            Self::Expired(_) => "invalid_siwx_expired",
            Self::NotYet(_) => "invalid_siwx_not_yet_valid",
            Self::MalformedSignature | Self::Malleable => "invalid_siwx_malformed_signature",
            Self::Signature => "invalid_siwx_signature",
        }
    }
}

/// The wallet that signed in, and the networks on which its signature counts.
#[derive(Debug, Clone, Copy)]
struct SignedIn {
    wallet: Address,
    /// The only network on which the signature proves something. `None`: all, since the key of a
    /// plain wallet is the same everywhere.
    network: Option<&'static Network>,
}

impl Claims {
    /// Creates the claims of the server with this origin.
    ///
    /// # Errors
    /// `base_url` is not the URL of a host.
    pub fn new(parts: ClaimParts, base_url: &str) -> anyhow::Result<Self> {
        let origin = Url::parse(base_url)?;
        let host = origin
            .host_str()
            .ok_or_else(|| anyhow::anyhow!("{base_url} has no host"))?;
        let domain = match origin.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            db: parts.db,
            secrets: parts.secrets,
            clock: parts.clock,
            randomness: parts.randomness,
            limits: parts.limits,
            networks: parts.networks,
            payments: parts.payments,
            domain,
            uri: format!("{base_url}{CLAIMS_PATH}"),
        })
    }

    /// The URL of the route to sign in at.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Makes a challenge. It is valid for five minutes, on every server of the deployment.
    pub fn challenge(&self) -> SignInChallenge {
        let now = self.clock.now();
        let networks: Vec<&'static Network> =
            self.networks.iter().map(|access| access.network).collect();
        let info = ChallengeInfo {
            domain: &self.domain,
            uri: &self.uri,
            statement: STATEMENT,
            nonce: &nonce::make(self.secrets.current(), now, &self.randomness),
            issued_at: now,
            expires_at: now.plus(nonce::LIFETIME),
        };
        info.challenge(&networks)
    }

    /// Returns what the signer of `message` paid for and did not receive: at most 100 payments,
    /// those whose ledger ids come after `after`. The message signs in once.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub async fn claim(
        &self,
        message: &SignedMessage,
        after: Option<&PaymentId>,
        client: Option<IpAddr>,
    ) -> Result<Unreceived, ClaimError> {
        let wallet = self.check(message).map_err(ClaimError::Refused)?;
        let signed_in = self.verify(message, wallet, client).await?;
        kill_point!("claims.nonce.before");
        // The row is needed for as long as any server counts the nonce as valid.
        let until = self
            .clock
            .now()
            .plus(nonce::LIFETIME + 2 * nonce::CLOCK_SKEW);
        let is_first = rows::use_nonce(&self.db, &message.nonce, until).await?;
        kill_point!("claims.nonce.after");
        if !is_first {
            return Err(ClaimError::Refused(SignInError::Used));
        }
        let unreceived = self
            .payments
            .unreceived(signed_in.wallet, signed_in.network, after)
            .await
            .map_err(|error| match error {
                PayError::Database(error) => ClaimError::Database(error),
                other => ClaimError::Unread(other),
            })?;
        tracing::info!(
            payments = unreceived.purchases.len(),
            "a payer signed in and received what it had paid for"
        );
        Ok(unreceived)
    }

    /// Checks every field but the signature. Returns the wallet that the message names.
    fn check(&self, message: &SignedMessage) -> Result<Address, SignInError> {
        if message.domain != self.domain {
            return Err(SignInError::Domain(self.domain.clone()));
        }
        if message.uri != self.uri {
            return Err(SignInError::Uri(self.uri.clone()));
        }
        if message.version != VERSION {
            return Err(SignInError::Version);
        }
        if !message.is_eip191() || self.network_of(message).is_none() {
            let known: Vec<String> = self
                .networks
                .iter()
                .map(|access| format!("{} with eip191", access.network.caip2))
                .collect();
            return Err(SignInError::Chain(known.join(", ")));
        }
        if !message.fits_lines() {
            return Err(SignInError::ControlCharacter);
        }
        let wallet = message.wallet().ok_or(SignInError::Address)?;
        let now = self.clock.now();
        check_times(message, now)?;
        if !nonce::is_valid(&self.secrets, &message.nonce, now) {
            return Err(SignInError::Nonce);
        }
        Ok(wallet)
    }

    /// The configured network that a message names.
    fn network_of(&self, message: &SignedMessage) -> Option<&'static Network> {
        let network = message.network()?;
        self.networks.find(network).map(|access| access.network)
    }

    /// Checks the signature: of a plain wallet here, of a contract wallet by its contract
    /// (EIP-1271), which a request may ask for within the limit of unproven requests.
    async fn verify(
        &self,
        message: &SignedMessage,
        wallet: Address,
        client: Option<IpAddr>,
    ) -> Result<SignedIn, ClaimError> {
        let refused = |error| Err(ClaimError::Refused(error));
        let Some(signature) = message.signature() else {
            return refused(SignInError::MalformedSignature);
        };
        let hash = message.hash();
        match exact::plain_signer(&hash, &signature) {
            PlainSignature::By(signer) if signer == wallet => {
                return Ok(SignedIn {
                    wallet,
                    network: None,
                });
            }
            PlainSignature::Malleable => return refused(SignInError::Malleable),
            PlainSignature::By(_) | PlainSignature::None => {}
        }
        if let Some(client) = client {
            self.limits.count_unproven(client).await?;
        }
        let access = message
            .network()
            .and_then(|network| self.networks.find(network));
        let Some(access) = access else {
            return refused(SignInError::Signature);
        };
        // Sales come first.
        let chain = access.chain.read_for(Reading::of(Priority::Known));
        match chain.is_signed(wallet, hash, &signature).await {
            Ok(true) => Ok(SignedIn {
                wallet,
                network: Some(access.network),
            }),
            Ok(false) => refused(SignInError::Signature),
            Err(error) => {
                tracing::warn!(%error, "the chain's node did not answer; a contract wallet could not sign in");
                Err(ClaimError::NoNode)
            }
        }
    }
}

/// Checks the times of a message. The clock of the server that made the challenge may be ahead by
/// [`nonce::CLOCK_SKEW`].
fn check_times(message: &SignedMessage, now: Timestamp) -> Result<(), SignInError> {
    let latest = now.plus(nonce::CLOCK_SKEW);
    let issued = Timestamp::parse(&message.issued_at).ok_or(SignInError::IssuedAt(now))?;
    if issued > latest {
        return Err(SignInError::Future(now));
    }
    if now >= issued.plus(nonce::LIFETIME) {
        return Err(SignInError::IssuedAt(now));
    }
    if let Some(end) = &message.expiration_time {
        let end = Timestamp::parse(end).ok_or(SignInError::Expired(now))?;
        if now >= end {
            return Err(SignInError::Expired(now));
        }
    }
    if let Some(start) = &message.not_before {
        let start = Timestamp::parse(start).ok_or(SignInError::NotYet(now))?;
        if start > latest {
            return Err(SignInError::NotYet(now));
        }
    }
    Ok(())
}
