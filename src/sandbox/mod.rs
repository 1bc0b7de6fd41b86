//! The sandbox: a facilitator and the JSON-RPC reads of a chain with play money, for development and tests.
//!
//! The chain has the chain id of Base Sepolia and one contract, a token with USDC's events. It checks signatures,
//! nonces, validity times and balances like the real one, and executes each authorization once. The money is worth
//! nothing, and every account begins with 100 USDC. The sandbox injects no faults; tests use a proxy for that.
//!
//! The chain is in `state`, the two HTTP interfaces are in `facilitator` and `rpc`.

mod facilitator;
mod rpc;
mod state;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpServer};
use alloy_primitives::{Address, B256, Bytes, Signature, U256, address};
use tokio::runtime::Handle;

use self::state::{Act, State};
use crate::evm::exact::Authorization;
use crate::pricing::networks::{self, Network};
use crate::system::clock::Clock;
use crate::system::random::Randomness;

/// The sender of the sandbox's transactions: "play money" in ASCII.
const SUBMITTER: Address = address!("00000000000000000000706c6179206d6f6e6579");

/// Where a sandbox keeps its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A database file. It and its directory are created if missing.
    File(PathBuf),
    /// In memory; it ends with the sandbox.
    Memory,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Memory => f.write_str("memory"),
        }
    }
}

/// Why a sandbox can't open, listen or answer.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The database failed.
    #[error("The sandbox's database failed.")]
    Database(#[from] sqlx::Error),
    /// A stored value is not one that the sandbox writes.
    #[error(
        "The sandbox's database is damaged: {column} can't be parsed. Remove its file to begin a new chain."
    )]
    Corrupt {
        /// Table and column.
        column: &'static str,
    },
    /// The file is another database.
    #[error(
        "{location} is a database, but not one of a sandbox of this chain. Choose another file."
    )]
    NotASandbox {
        /// The file.
        location: Location,
    },
    /// The directory of the file can't be created.
    #[error("The directory {} for the sandbox can't be created.", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The address is not a loopback address. The sandbox serves this machine only.
    #[error(
        "{address} is not a loopback address, and the sandbox listens on those only. Use one such as 127.0.0.1."
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The address is in use, or not one of this machine.
    #[error("The sandbox can't listen on {address}. Choose an address with a free port.")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// The table of networks lacks the one that the sandbox imitates.
    #[error("The network base-sepolia, which the sandbox imitates, is unknown.")]
    UnknownNetwork,
}

/// Why the token rejects a transaction. Nothing has happened then, except possibly with [`Refusal::Unavailable`].
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The signature is not by the payer, or not in the canonical form.
    #[error("the signature is not by the payer, or not in the form that the token accepts")]
    Signature,
    /// `validAfter` is not in the past.
    #[error("the authorization is not yet valid")]
    NotYetValid,
    /// `validBefore` is not in the future.
    #[error("the authorization has expired")]
    Expired,
    /// The nonce was used or cancelled before.
    #[error("the nonce is used")]
    NonceUsed,
    /// The payer's balance is lower than the value.
    #[error("the balance is too low")]
    InsufficientFunds,
    /// The sandbox itself failed.
    #[error(transparent)]
    Unavailable(#[from] SandboxError),
}

/// An executed transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The payer.
    pub payer: Address,
    /// The authorization's nonce; `None` for a plain transfer.
    pub nonce: Option<B256>,
    /// The amount in atomic units.
    pub value: U256,
    /// The hash of the transaction.
    pub transaction: B256,
}

/// A chain with play money. Clones share the same chain.
#[derive(Debug, Clone)]
pub struct Sandbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: State,
    clock: Arc<dyn Clock>,
    network: &'static Network,
    runtime: Handle,
}

impl Sandbox {
    /// Opens the chain at `location`, or begins a new one there. The servers' requests run in the tokio runtime of the
    /// caller, which must outlive them.
    ///
    /// # Errors
    /// [`SandboxError`], including a file that is another database.
    pub async fn open(
        location: Location,
        clock: Arc<dyn Clock>,
        randomness: &Randomness,
    ) -> Result<Self, SandboxError> {
        let network = networks::find("base-sepolia").ok_or(SandboxError::UnknownNetwork)?;
        let state = State::open(&location, network, seconds(&*clock), randomness).await?;
        tracing::info!(%location, "opened the sandbox; its money is play money");
        let runtime = Handle::current();
        Ok(Self(Arc::new(Inner {
            state,
            clock,
            network,
            runtime,
        })))
    }

    /// The recipient of payments when none is configured: a random address without a key, created with the chain.
    pub fn recipient(&self) -> Address {
        self.0.state.recipient()
    }

    /// The network that the chain imitates.
    pub fn network(&self) -> &'static Network {
        self.0.network
    }

    /// Serves the facilitator and the JSON-RPC on two loopback addresses; port 0 takes a free one. Must be called in a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`SandboxError::NotLoopback`] and [`SandboxError::Bind`].
    pub fn listen(
        &self,
        facilitator: SocketAddr,
        rpc: SocketAddr,
    ) -> Result<Listening, SandboxError> {
        let (facilitator_listener, facilitator_url) = bind(facilitator)?;
        let (rpc_listener, rpc_url) = bind(rpc)?;
        let handles = [
            self.serve(facilitator_listener, facilitator::routes)
                .map_err(|source| SandboxError::Bind {
                    address: facilitator,
                    source,
                })?,
            self.serve(rpc_listener, rpc::routes)
                .map_err(|source| SandboxError::Bind {
                    address: rpc,
                    source,
                })?,
        ];
        tracing::info!(facilitator_url, rpc_url, "the sandbox is listening");
        Ok(Listening {
            facilitator_url,
            rpc_url,
            handles,
        })
    }

    fn serve(
        &self,
        listener: TcpListener,
        routes: fn(&mut ServiceConfig),
    ) -> io::Result<ServerHandle> {
        let sandbox = web::Data::new(self.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(sandbox.clone())
                .wrap(DefaultHeaders::new().add(("X-Pixtoll-Sandbox", "play money")))
                .configure(routes)
        })
        .workers(1)
        .disable_signals()
        .listen(listener)?
        .run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(handle)
    }

    /// Executes a signed authorization and returns the hash of the transaction. Anybody who knows the authorization may
    /// do so, as on the real chain.
    ///
    /// # Errors
    /// [`Refusal`], as the token's contract would.
    pub async fn execute(
        &self,
        authorization: &Authorization,
        signature: &Bytes,
    ) -> Result<B256, Refusal> {
        if !self.is_signed_by_payer(authorization, signature) {
            return Err(Refusal::Signature);
        }
        self.submit(Act::Authorized(authorization.clone()), SUBMITTER)
            .await
    }

    /// Cancels a nonce in the payer's name.
    ///
    /// # Errors
    /// [`Refusal::NonceUsed`].
    pub async fn cancel(&self, payer: Address, nonce: B256) -> Result<B256, Refusal> {
        self.submit(Act::Cancel { payer, nonce }, payer).await
    }

    /// Transfers the payer's whole balance to another account.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn drain(&self, payer: Address) -> Result<B256, Refusal> {
        self.submit(Act::Drain { from: payer }, payer).await
    }

    /// Transfers `value` by a plain transfer, without an authorization.
    ///
    /// # Errors
    /// [`Refusal::InsufficientFunds`].
    pub async fn send(&self, from: Address, to: Address, value: U256) -> Result<B256, Refusal> {
        self.submit(Act::Send { from, to, value }, from).await
    }

    /// Simulates a reorganisation: replaces the block of a transaction and every later block by empty ones. Returns
    /// `false` when the chain has no such transaction.
    ///
    /// # Errors
    /// [`SandboxError`] when the database fails.
    pub async fn reorganise(&self, transaction: B256) -> Result<bool, SandboxError> {
        self.0.state.reorganise(transaction).await
    }

    /// All transfers to `recipient`, the oldest first.
    ///
    /// # Errors
    /// [`SandboxError`] when the database fails.
    pub async fn transfers_to(&self, recipient: Address) -> Result<Vec<Transfer>, SandboxError> {
        self.0.state.transfers_to(recipient).await
    }

    /// The present balance of `account`, in atomic units.
    ///
    /// # Errors
    /// [`SandboxError`] when the database fails.
    pub async fn balance(&self, account: Address) -> Result<U256, SandboxError> {
        let head = self.0.state.head(self.now_seconds()).await?;
        self.0.state.balance(account, head.number).await
    }

    /// Whether the token would execute the authorization in the next block.
    async fn simulate(&self, authorization: &Authorization) -> Result<(), Refusal> {
        self.0
            .state
            .simulate(&Act::Authorized(authorization.clone()), self.now_seconds())
            .await
    }

    async fn submit(&self, act: Act, sender: Address) -> Result<B256, Refusal> {
        self.0.state.execute(&act, sender, self.now_seconds()).await
    }

    /// Whether the payer signed the authorization. As strict as the token: 65 bytes, `v` 27 or 28, low `s`. Rejecting
    /// other encodings of a valid signature shows when a server forwards them without normalising.
    fn is_signed_by_payer(&self, authorization: &Authorization, signature: &Bytes) -> bool {
        let Ok(raw) = <&[u8; 65]>::try_from(signature.as_ref()) else {
            return false;
        };
        let [.., v] = raw;
        if !matches!(v, 27 | 28) {
            return false;
        }
        let Ok(signature) = Signature::from_raw_array(raw) else {
            return false;
        };
        let digest = authorization.digest(self.network());
        signature.normalize_s().is_none()
            && signature
                .recover_address_from_prehash(&digest)
                .is_ok_and(|signer| signer == authorization.from)
    }

    /// Runs the work of a request to its end in the runtime that opened the sandbox. A client that disconnects or a
    /// server that stops doesn't drop it in the middle, which would also close the database connection, and with it a
    /// chain in memory. `None` when that runtime has ended.
    async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.0.runtime.spawn(work).await.ok()
    }

    fn now_seconds(&self) -> u64 {
        seconds(&*self.0.clock)
    }
}

/// The two servers of a sandbox; dropping it stops them.
#[derive(Debug)]
pub struct Listening {
    /// The base URL of the facilitator, without a slash at the end.
    pub facilitator_url: String,
    /// The URL of the JSON-RPC endpoint.
    pub rpc_url: String,
    handles: [ServerHandle; 2],
}

impl Listening {
    /// Stops both servers. Responses in flight are lost, but their work is done.
    pub async fn stop(self) {
        for handle in &self.handles {
            handle.stop(false).await;
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        for handle in &self.handles {
            // `stop` has sent the command when it returns; its future only waits for the end.
            drop(handle.stop(false));
        }
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, String), SandboxError> {
    if !address.ip().is_loopback() {
        return Err(SandboxError::NotLoopback { address });
    }
    let failed = |source| SandboxError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let url = format!("http://{}", listener.local_addr().map_err(failed)?);
    Ok((listener, url))
}

fn seconds(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.now().seconds()).unwrap_or(0)
}

#[cfg(test)]
mod support {
    //! Helpers for the tests of the sandbox's modules.

    use alloy_signer::SignerSync;
    use alloy_signer_local::PrivateKeySigner;

    use super::*;
    use crate::system::clock::{ManualClock, Timestamp};

    /// The time at which the tests begin, in Unix seconds.
    pub(super) const START: u64 = 1_795_860_000;

    pub(super) fn clock() -> ManualClock {
        ManualClock::at(Timestamp::from_seconds(i64::try_from(START).unwrap()))
    }

    pub(super) async fn open() -> (Sandbox, ManualClock) {
        let clock = clock();
        let sandbox = Sandbox::open(
            Location::Memory,
            Arc::new(clock.clone()),
            &Randomness::seeded(1),
        )
        .await
        .unwrap();
        (sandbox, clock)
    }

    pub(super) fn listen(sandbox: &Sandbox) -> Listening {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        sandbox.listen(any, any).unwrap()
    }

    /// An HTTP client. reqwest is built without a default TLS provider and needs one even for http.
    pub(super) fn http() -> reqwest::Client {
        drop(rustls::crypto::ring::default_provider().install_default());
        reqwest::Client::builder().no_proxy().build().unwrap()
    }

    pub(super) struct Payer(PrivateKeySigner);

    impl Payer {
        pub(super) fn numbered(number: u8) -> Self {
            Self(PrivateKeySigner::from_bytes(&B256::repeat_byte(number)).unwrap())
        }

        pub(super) fn address(&self) -> Address {
            self.0.address()
        }

        /// A signed payment to the sandbox's recipient, valid for five minutes.
        pub(super) fn pays(
            &self,
            sandbox: &Sandbox,
            value: u64,
            nonce: u8,
        ) -> (Authorization, Bytes) {
            let authorization = Authorization {
                from: self.address(),
                to: sandbox.recipient(),
                value: U256::from(value),
                valid_after: U256::ZERO,
                valid_before: U256::from(START + 300),
                nonce: B256::repeat_byte(nonce),
            };
            let signature = self.sign(sandbox, &authorization);
            (authorization, signature)
        }

        pub(super) fn sign(&self, sandbox: &Sandbox, authorization: &Authorization) -> Bytes {
            let digest = authorization.digest(sandbox.network());
            Bytes::from(self.0.sign_hash_sync(&digest).unwrap().as_bytes().to_vec())
        }
    }
}

#[cfg(test)]
mod tests;
