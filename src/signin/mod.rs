//! Sign-in with a wallet (x402 extension sign-in-with-x). A route asks the wallet to sign a
//! challenge that names the server, the route and what signing in does there. Each challenge signs
//! in once, on every server of the deployment.
//!
//! A plain wallet needs no chain, so it also signs in at a server that takes no payments. The
//! signature of a contract wallet is checked by its contract, through the network's node.

use std::net::IpAddr;
use std::sync::Arc;

use alloy_primitives::Address;
use url::Url;

use crate::db::{Db, DbError, signin as rows};
use crate::evm::chain::{Chain, Priority, Reading};
use crate::evm::exact::{self, PlainSignature};
use crate::keys::secrets::Keyring;
use crate::limits::{Limited, Limits};
use crate::pricing::networks::{self, Network};
use crate::system::clock::{Clock, Timestamp};
use crate::system::kill::kill_point;
use crate::system::random::Randomness;
use crate::x402::siwx::{ChallengeInfo, SignInChallenge, SignedMessage, VERSION};

mod cursor;
mod nonce;

pub use cursor::Cursor;

/// Signs wallets in.
#[derive(Debug)]
pub struct SignIn {
    db: Db,
    secrets: Keyring,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
    limits: Arc<Limits>,
    chains: Vec<WalletChain>,
    base_url: String,
    domain: String,
}

/// The parts of the server that signing in uses.
#[derive(Debug)]
pub struct SignInParts {
    /// The database, which remembers the nonces that signed in.
    pub db: Db,
    /// The master keys, from which nonces are made.
    pub secrets: Keyring,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of random bytes.
    pub randomness: Randomness,
    /// The rate limits.
    pub limits: Arc<Limits>,
    /// The networks on which contract wallets sign in. Empty: only plain wallets sign in, with the
    /// id of any known network.
    pub chains: Vec<WalletChain>,
}

/// A network on which contract wallets sign in.
#[derive(Debug, Clone)]
pub struct WalletChain {
    /// The network.
    pub network: &'static Network,
    /// Reads its chain.
    pub chain: Arc<dyn Chain>,
}

/// Why a wallet is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The message is not one that this server asked this wallet to sign here.
    #[error(
        "The sign-in was not accepted ({}). {} Nothing was lost: the same request without the signed message returns a new challenge to sign.",
        .0.reason(),
        .0
    )]
    Refused(MessageFault),
    /// A contract wallet signed, and the network's node did not answer. The message still signs in.
    #[error(
        "The network's node did not answer, so the contract wallet's signature could not be checked. Repeat the same request."
    )]
    NoNode,
    /// The client is over a rate limit. The message still signs in.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// The database did not answer.
    #[error("The database did not answer. Ask for a new challenge, and sign in again.")]
    Database(#[from] DbError),
}

/// What is wrong with a signed message, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum MessageFault {
    #[error("domain is not {0}, the host of this server.")]
    Domain(String),
    #[error("uri is not {0}, the URL of this route.")]
    Uri(String),
    #[error("statement is not \"{0}\", which says what signing in does here.")]
    Statement(String),
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

impl MessageFault {
    /// The reason, as the x402 extension spells it.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Domain(_) => "invalid_siwx_domain_mismatch",
            Self::Uri(_) => "invalid_siwx_uri_mismatch",
            Self::Version | Self::Statement(_) | Self::ControlCharacter | Self::Address => {
                "invalid_siwx_message"
            }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedIn {
    /// The wallet.
    pub wallet: Address,
    /// The only network on which the signature proves something: the address of a contract wallet
    /// may belong to somebody else on another chain. `None`: all networks, since the key of a plain
    /// wallet is the same everywhere.
    pub network: Option<&'static Network>,
}

impl SignIn {
    /// Creates the sign-in of the server with this origin.
    ///
    /// # Errors
    /// `base_url` is not the URL of a host.
    pub fn new(parts: SignInParts, base_url: &str) -> anyhow::Result<Self> {
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
            chains: parts.chains,
            base_url: base_url.to_owned(),
            domain,
        })
    }

    /// Makes a challenge to sign in at the route with this path, such as `/api/claims`. `statement`
    /// says what signing in does there, as the wallet shows it. The challenge is valid for five
    /// minutes, on every server of the deployment.
    pub fn challenge(&self, path: &str, statement: &str) -> SignInChallenge {
        let now = self.clock.now();
        let info = ChallengeInfo {
            domain: &self.domain,
            uri: &self.uri(path),
            statement,
            nonce: &nonce::make(self.secrets.current(), now, &self.randomness),
            issued_at: now,
            expires_at: now.plus(nonce::LIFETIME),
        };
        info.challenge(&self.networks())
    }

    /// Signs the signer of `message` in at the route with this path and statement. The message
    /// signs in once. Only the contract of a contract wallet needs the network, and `client`, the
    /// address whose limit that counts against.
    ///
    /// # Errors
    /// [`SignInError`].
    pub async fn verify(
        &self,
        message: &SignedMessage,
        path: &str,
        statement: &str,
        client: Option<IpAddr>,
    ) -> Result<SignedIn, SignInError> {
        let wallet = self
            .check(message, path, statement)
            .map_err(SignInError::Refused)?;
        let signed_in = self.check_signature(message, wallet, client).await?;
        kill_point!("signin.nonce.before");
        // The row is needed for as long as any server counts the nonce as valid.
        let until = self
            .clock
            .now()
            .plus(nonce::LIFETIME + 2 * nonce::CLOCK_SKEW);
        let is_first = rows::use_nonce(&self.db, &message.nonce, until).await?;
        kill_point!("signin.nonce.after");
        if is_first {
            Ok(signed_in)
        } else {
            Err(SignInError::Refused(MessageFault::Used))
        }
    }

    /// The text of a cursor in the list at this path.
    pub fn write_cursor(&self, path: &str, cursor: &Cursor) -> String {
        cursor.write(self.secrets.current(), path)
    }

    /// Reads a cursor in the list at this path. `None`: this deployment did not make it.
    pub fn read_cursor(&self, path: &str, text: &str) -> Option<Cursor> {
        Cursor::read(&self.secrets, path, text)
    }

    /// The URL of the route with this path.
    fn uri(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// The networks that a message may name.
    fn networks(&self) -> Vec<&'static Network> {
        if self.chains.is_empty() {
            networks::all()
        } else {
            self.chains.iter().map(|chain| chain.network).collect()
        }
    }

    /// Checks every field but the signature. Returns the wallet that the message names.
    fn check(
        &self,
        message: &SignedMessage,
        path: &str,
        statement: &str,
    ) -> Result<Address, MessageFault> {
        if message.domain != self.domain {
            return Err(MessageFault::Domain(self.domain.clone()));
        }
        let uri = self.uri(path);
        if message.uri != uri {
            return Err(MessageFault::Uri(uri));
        }
        if message.version != VERSION {
            return Err(MessageFault::Version);
        }
        let networks = self.networks();
        let is_known = |named| networks.contains(&named);
        if !message.is_eip191() || !message.network().is_some_and(is_known) {
            let known: Vec<String> = networks
                .iter()
                .map(|network| format!("{} with eip191", network.caip2))
                .collect();
            return Err(MessageFault::Chain(known.join(", ")));
        }
        if !message.fits_lines() {
            return Err(MessageFault::ControlCharacter);
        }
        // One path may take several methods, so the path alone doesn't say what the wallet allowed.
        if message.statement.as_deref() != Some(statement) {
            return Err(MessageFault::Statement(statement.to_owned()));
        }
        let wallet = message.wallet().ok_or(MessageFault::Address)?;
        let now = self.clock.now();
        check_times(message, now)?;
        if !nonce::is_valid(&self.secrets, &message.nonce, now) {
            return Err(MessageFault::Nonce);
        }
        Ok(wallet)
    }

    /// Checks the signature: of a plain wallet here, of a contract wallet by its contract
    /// (EIP-1271), which a request may ask for within the limit of unproven requests.
    async fn check_signature(
        &self,
        message: &SignedMessage,
        wallet: Address,
        client: Option<IpAddr>,
    ) -> Result<SignedIn, SignInError> {
        let refused = |error| Err(SignInError::Refused(error));
        let Some(signature) = message.signature() else {
            return refused(MessageFault::MalformedSignature);
        };
        let hash = message.hash();
        match exact::plain_signer(&hash, &signature) {
            PlainSignature::By(signer) if signer == wallet => {
                return Ok(SignedIn {
                    wallet,
                    network: None,
                });
            }
            PlainSignature::Malleable => return refused(MessageFault::Malleable),
            PlainSignature::By(_) | PlainSignature::None => {}
        }
        if let Some(client) = client {
            self.limits.count_unproven(client).await?;
        }
        let mut chains = self.chains.iter();
        let named = chains.find(|chain| Some(chain.network) == message.network());
        let Some(WalletChain { network, chain }) = named else {
            return refused(MessageFault::Signature);
        };
        // Sales come first.
        let chain = chain.read_for(Reading::of(Priority::Known));
        match chain.is_signed(wallet, hash, &signature).await {
            Ok(true) => Ok(SignedIn {
                wallet,
                network: Some(network),
            }),
            Ok(false) => refused(MessageFault::Signature),
            Err(error) => {
                tracing::warn!(%error, "the chain's node did not answer; a contract wallet could not sign in");
                Err(SignInError::NoNode)
            }
        }
    }
}

/// Checks the times of a message. The clock of the server that made the challenge may be ahead by
/// [`nonce::CLOCK_SKEW`].
fn check_times(message: &SignedMessage, now: Timestamp) -> Result<(), MessageFault> {
    let latest = now.plus(nonce::CLOCK_SKEW);
    let issued = Timestamp::parse(&message.issued_at).ok_or(MessageFault::IssuedAt(now))?;
    if issued > latest {
        return Err(MessageFault::Future(now));
    }
    if now >= issued.plus(nonce::LIFETIME) {
        return Err(MessageFault::IssuedAt(now));
    }
    if let Some(end) = &message.expiration_time {
        let end = Timestamp::parse(end).ok_or(MessageFault::Expired(now))?;
        if now >= end {
            return Err(MessageFault::Expired(now));
        }
    }
    if let Some(start) = &message.not_before {
        let start = Timestamp::parse(start).ok_or(MessageFault::NotYet(now))?;
        if start > latest {
            return Err(MessageFault::NotYet(now));
        }
    }
    Ok(())
}
