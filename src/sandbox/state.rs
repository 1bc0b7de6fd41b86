//! The sandbox's chain in an SQLite database. All SQL of the sandbox is here.
//!
//! Rows are only added, each with its block, so that a read at a block needs no transaction: that state no longer
//! changes. Only [`State::reorganise`] removes blocks.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256, address, keccak256};
use alloy_sol_types::{SolEvent, SolValue};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::{Location, Refusal, SandboxError, Transfer};
use crate::evm::exact::{Authorization, Token};
use crate::pricing::networks::Network;
use crate::system::disk::create_private;
use crate::system::random::Randomness;

/// The initial balance of every account in atomic units: 100 play USDC.
const BIRTH_GIFT: u64 = 100_000_000;
/// The account that receives drained balances.
pub(super) const SINK: Address = address!("000000000000000000000000000000000000dEaD");
/// "play" in ASCII. It marks the file, so that no other database is used as a sandbox.
const APPLICATION_ID: i64 = 0x706c_6179;
const SCHEMA: &str = include_str!("schema.sql");
const WRITE: &str = "BEGIN IMMEDIATE";

/// The database of the chain.
#[derive(Debug)]
pub(super) struct State {
    pool: SqlitePool,
    chain_id: u64,
    recipient: Address,
}

/// A block without its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) number: u64,
    pub(super) hash: B256,
    pub(super) parent: B256,
    /// Unix seconds.
    pub(super) timestamp: u64,
}

/// A transaction and its block, which holds no other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mined {
    pub(super) hash: B256,
    pub(super) sender: Address,
    pub(super) block: Block,
}

/// An event of the token.
#[derive(Debug, Clone)]
pub(super) struct TokenLog {
    pub(super) transaction: Mined,
    pub(super) index: u64,
    pub(super) topics: [B256; 3],
    pub(super) data: Bytes,
}

/// What a transaction does to the token.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Executes an authorization. The caller has checked its signature.
    Authorized(Authorization),
    /// Marks a nonce as used, without a transfer.
    Cancel { payer: Address, nonce: B256 },
    /// A plain transfer by the holder.
    Send {
        from: Address,
        to: Address,
        value: U256,
    },
    /// A plain transfer of the holder's whole balance to [`SINK`].
    Drain { from: Address },
}

/// A filter for logs: a range of blocks and, for each topic, the values that match. `None` matches any value.
#[derive(Debug, Clone)]
pub(super) struct LogFilter {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) topics: [Option<Vec<B256>>; 3],
    pub(super) limit: u32,
}

impl State {
    /// Opens the chain, or begins a new one with a first block at `now_seconds`.
    pub(super) async fn open(
        location: &Location,
        network: &Network,
        now_seconds: u64,
        randomness: &Randomness,
    ) -> Result<Self, SandboxError> {
        let options = match location {
            Location::Memory => SqliteConnectOptions::new().in_memory(true),
            Location::File(path) => {
                create_parent(path)?;
                create_private(path).map_err(sqlx::Error::Io)?;
                SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .busy_timeout(Duration::from_secs(10))
            }
        };
        // One connection, because its queue is fairer than SQLite's busy handler, and a database in memory ends with
        // its connection.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.synchronous(SqliteSynchronous::Full))
            .await?;
        let recipient = begin_chain(&pool, location, network, now_seconds, randomness).await?;
        Ok(Self {
            pool,
            chain_id: network.chain_id,
            recipient,
        })
    }

    pub(super) fn recipient(&self) -> Address {
        self.recipient
    }

    /// The newest block. When it is at least a second old, an empty block is mined first, so that block time follows
    /// the clock.
    pub(super) async fn head(&self, now_seconds: u64) -> Result<Block, SandboxError> {
        let mut connection = self.pool.acquire().await?;
        let head = load_head(&mut connection).await?;
        drop(connection);
        if head.timestamp >= now_seconds {
            return Ok(head);
        }
        let mut transaction = self.pool.begin_with(WRITE).await?;
        let mut head = load_head(&mut transaction).await?;
        if head.timestamp < now_seconds {
            head = mine(&mut transaction, self.chain_id, head, now_seconds).await?;
        }
        transaction.commit().await?;
        Ok(head)
    }

    pub(super) async fn find_block(&self, number: u64) -> Result<Option<Block>, SandboxError> {
        let Ok(number) = i64::try_from(number) else {
            return Ok(None);
        };
        let row: Option<BlockRow> =
            sqlx::query_as("SELECT number, hash, parent, timestamp FROM blocks WHERE number = $1")
                .bind(number)
                .fetch_optional(&self.pool)
                .await?;
        row.map(block).transpose()
    }

    pub(super) async fn find_block_by_hash(
        &self,
        hash: B256,
    ) -> Result<Option<Block>, SandboxError> {
        let row: Option<BlockRow> =
            sqlx::query_as("SELECT number, hash, parent, timestamp FROM blocks WHERE hash = $1")
                .bind(hash.to_string())
                .fetch_optional(&self.pool)
                .await?;
        row.map(block).transpose()
    }

    /// The transaction in block `number`.
    pub(super) async fn find_transaction_in(
        &self,
        number: u64,
    ) -> Result<Option<Mined>, SandboxError> {
        let row: Option<MinedRow> = sqlx::query_as(
            "SELECT t.hash, t.sender, b.number, b.hash, b.parent, b.timestamp \
             FROM transactions t JOIN blocks b ON b.number = t.block WHERE t.block = $1",
        )
        .bind(row_number(number)?)
        .fetch_optional(&self.pool)
        .await?;
        row.map(mined).transpose()
    }

    pub(super) async fn find_transaction(&self, hash: B256) -> Result<Option<Mined>, SandboxError> {
        let row: Option<MinedRow> = sqlx::query_as(
            "SELECT t.hash, t.sender, b.number, b.hash, b.parent, b.timestamp \
             FROM transactions t JOIN blocks b ON b.number = t.block WHERE t.hash = $1",
        )
        .bind(hash.to_string())
        .fetch_optional(&self.pool)
        .await?;
        row.map(mined).transpose()
    }

    /// The balance of `account` at the end of block `at`.
    pub(super) async fn balance(&self, account: Address, at: u64) -> Result<U256, SandboxError> {
        let mut connection = self.pool.acquire().await?;
        balance(&mut connection, self.recipient, account, at).await
    }

    /// Whether the nonce was used or cancelled by the end of block `at`.
    pub(super) async fn is_nonce_used(
        &self,
        payer: Address,
        nonce: B256,
        at: u64,
    ) -> Result<bool, SandboxError> {
        let mut connection = self.pool.acquire().await?;
        is_nonce_used(&mut connection, payer, nonce, at).await
    }

    /// The logs that match, the oldest first, at most `filter.limit`.
    pub(super) async fn logs(&self, filter: &LogFilter) -> Result<Vec<TokenLog>, SandboxError> {
        let [topic0, topic1, topic2] = filter
            .topics
            .each_ref()
            .map(|wanted| wanted.as_ref().map(|values| json_array(values)));
        let rows: Vec<LogRow> = sqlx::query_as(LOGS)
            .bind(i64::try_from(filter.first).unwrap_or(i64::MAX))
            .bind(i64::try_from(filter.last).unwrap_or(i64::MAX))
            .bind(topic0)
            .bind(topic1)
            .bind(topic2)
            .bind(filter.limit)
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(token_log).collect()
    }

    /// All transfers to `recipient`, the oldest first, with the nonce of those by an authorization.
    pub(super) async fn transfers_to(
        &self,
        recipient: Address,
    ) -> Result<Vec<Transfer>, SandboxError> {
        let rows: Vec<(String, Option<String>, String, String)> = sqlx::query_as(TRANSFERS_TO)
            .bind(Token::Transfer::SIGNATURE_HASH.to_string())
            .bind(Token::AuthorizationUsed::SIGNATURE_HASH.to_string())
            .bind(recipient.into_word().to_string())
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter()
            .map(|(payer, nonce, value, transaction)| {
                Ok(Transfer {
                    payer: Address::from_word(parse("logs.topic1", &payer)?),
                    nonce: nonce
                        .map(|nonce| parse("logs.topic2", &nonce))
                        .transpose()?,
                    value: U256::from_be_bytes(parse::<B256>("logs.data", &value)?.0),
                    transaction: parse("transactions.hash", &transaction)?,
                })
            })
            .collect()
    }

    /// Checks whether `act` would be executed in the next block. Changes nothing.
    pub(super) async fn simulate(&self, act: &Act, now_seconds: u64) -> Result<(), Refusal> {
        let mut connection = self.pool.acquire().await.map_err(SandboxError::from)?;
        let head = load_head(&mut connection).await?;
        self.check(
            &mut connection,
            act,
            head.number,
            head.timestamp.max(now_seconds),
        )
        .await?;
        Ok(())
    }

    /// Executes `act` in a block of its own, durably, or rejects it and changes nothing.
    pub(super) async fn execute(
        &self,
        act: &Act,
        sender: Address,
        now_seconds: u64,
    ) -> Result<B256, Refusal> {
        // IMMEDIATE makes copies of one payment queue here: all but the first find the nonce used.
        let mut transaction = self
            .pool
            .begin_with(WRITE)
            .await
            .map_err(SandboxError::from)?;
        let head = load_head(&mut transaction).await?;
        let time = head.timestamp.max(now_seconds);
        let moved = self.check(&mut transaction, act, head.number, time).await?;
        let block = mine(&mut transaction, self.chain_id, head, time).await?;
        let hash = self
            .apply(&mut transaction, act, moved, sender, block)
            .await?;
        transaction.commit().await.map_err(SandboxError::from)?;
        Ok(hash)
    }

    /// Replaces the block of `transaction` and every later block by empty ones. Returns `false` when there is no such
    /// transaction.
    pub(super) async fn reorganise(&self, transaction: B256) -> Result<bool, SandboxError> {
        let mut tx = self.pool.begin_with(WRITE).await?;
        let first: Option<i64> =
            sqlx::query_scalar("SELECT block FROM transactions WHERE hash = $1")
                .bind(transaction.to_string())
                .fetch_optional(&mut *tx)
                .await?;
        let Some(first) = first else {
            return Ok(false);
        };
        let replaced: Vec<BlockRow> = sqlx::query_as(
            "SELECT number, hash, parent, timestamp FROM blocks WHERE number >= $1 ORDER BY number",
        )
        .bind(first)
        .fetch_all(&mut *tx)
        .await?;
        for sql in [
            "DELETE FROM logs WHERE block >= $1",
            "DELETE FROM authorizations WHERE block >= $1",
            "DELETE FROM balances WHERE block >= $1",
            "DELETE FROM transactions WHERE block >= $1",
            "DELETE FROM blocks WHERE number >= $1",
        ] {
            sqlx::query(sql).bind(first).execute(&mut *tx).await?;
        }
        let mut parent = None;
        for row in replaced {
            let old = block(row)?;
            let parent_hash = parent.unwrap_or(old.parent);
            // A number from the old block's hash takes the place of the chain id in the new hash, so that the new block
            // at the same height and time has another hash.
            let salt = old
                .hash
                .first_chunk()
                .copied()
                .map_or(0, u64::from_be_bytes);
            let new = insert_block(&mut tx, salt, old.number, parent_hash, old.timestamp).await?;
            parent = Some(new.hash);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The amount that `act` would transfer after block `at`, in a block with this timestamp.
    async fn check(
        &self,
        connection: &mut SqliteConnection,
        act: &Act,
        at: u64,
        timestamp: u64,
    ) -> Result<U256, Refusal> {
        let (from, value) = match act {
            Act::Authorized(authorization) => {
                let timestamp = U256::from(timestamp);
                // Both bounds are exclusive, as in the token's contract.
                if timestamp <= authorization.valid_after {
                    return Err(Refusal::NotYetValid);
                }
                if timestamp >= authorization.valid_before {
                    return Err(Refusal::Expired);
                }
                if is_nonce_used(connection, authorization.from, authorization.nonce, at).await? {
                    return Err(Refusal::NonceUsed);
                }
                (authorization.from, Some(authorization.value))
            }
            Act::Cancel { payer, nonce } => {
                if is_nonce_used(connection, *payer, *nonce, at).await? {
                    return Err(Refusal::NonceUsed);
                }
                return Ok(U256::ZERO);
            }
            Act::Send { from, value, .. } => (*from, Some(*value)),
            Act::Drain { from } => (*from, None),
        };
        let owned = balance(connection, self.recipient, from, at).await?;
        let value = value.unwrap_or(owned);
        if owned < value {
            Err(Refusal::InsufficientFunds)
        } else {
            Ok(value)
        }
    }

    /// Writes the effects of `act` into `block`. The caller has checked it.
    async fn apply(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        act: &Act,
        value: U256,
        sender: Address,
        block: Block,
    ) -> Result<B256, SandboxError> {
        let hash = keccak256((block.hash, sender, value).abi_encode());
        sqlx::query("INSERT INTO transactions (block, hash, sender) VALUES ($1, $2, $3)")
            .bind(row_number(block.number)?)
            .bind(hash.to_string())
            .bind(row_text(sender))
            .execute(&mut **transaction)
            .await?;
        let mut events = Vec::with_capacity(2);
        let transfer = match act {
            Act::Authorized(Authorization {
                from, to, nonce, ..
            }) => {
                events.push(nonce_event(
                    Token::AuthorizationUsed::SIGNATURE_HASH,
                    *from,
                    *nonce,
                ));
                use_nonce(transaction, *from, *nonce, block.number).await?;
                Some((*from, *to))
            }
            Act::Cancel { payer, nonce } => {
                let signature = Token::AuthorizationCanceled::SIGNATURE_HASH;
                events.push(nonce_event(signature, *payer, *nonce));
                use_nonce(transaction, *payer, *nonce, block.number).await?;
                None
            }
            Act::Send { from, to, .. } => Some((*from, *to)),
            Act::Drain { from } => Some((*from, SINK)),
        };
        if let Some((from, to)) = transfer {
            let topics = [
                Token::Transfer::SIGNATURE_HASH,
                from.into_word(),
                to.into_word(),
            ];
            events.push((topics, Bytes::from(value.abi_encode())));
            self.move_balance(transaction, from, to, value, block.number)
                .await?;
        }
        for (index, (topics, data)) in (0_i64..).zip(events) {
            insert_log(transaction, block.number, index, topics, &data).await?;
        }
        Ok(hash)
    }

    async fn move_balance(
        &self,
        connection: &mut SqliteConnection,
        from: Address,
        to: Address,
        value: U256,
        block: u64,
    ) -> Result<(), SandboxError> {
        // One after the other, so that a transfer to the same account changes nothing.
        let left = balance(connection, self.recipient, from, block)
            .await?
            .saturating_sub(value);
        set_balance(connection, from, block, left).await?;
        let gained = balance(connection, self.recipient, to, block)
            .await?
            .saturating_add(value);
        set_balance(connection, to, block, gained).await
    }
}

const LOGS: &str = "SELECT t.hash, t.sender, b.number, b.hash, b.parent, b.timestamp, \
        l.log_index, l.topic0, l.topic1, l.topic2, l.data \
    FROM logs l JOIN transactions t ON t.block = l.block JOIN blocks b ON b.number = l.block \
    WHERE l.block BETWEEN $1 AND $2 \
        AND ($3 IS NULL OR l.topic0 IN (SELECT value FROM json_each($3))) \
        AND ($4 IS NULL OR l.topic1 IN (SELECT value FROM json_each($4))) \
        AND ($5 IS NULL OR l.topic2 IN (SELECT value FROM json_each($5))) \
    ORDER BY l.block, l.log_index LIMIT $6";

const TRANSFERS_TO: &str = "SELECT l.topic1, used.topic2, l.data, t.hash \
    FROM logs l JOIN transactions t ON t.block = l.block \
    LEFT JOIN logs used ON used.block = l.block AND used.log_index = l.log_index - 1 \
        AND used.topic0 = $2 \
    WHERE l.topic0 = $1 AND l.topic2 = $3 ORDER BY l.block, l.log_index";

type BlockRow = (i64, String, String, i64);
type MinedRow = (String, String, i64, String, String, i64);
type LogRow = (
    String,
    String,
    i64,
    String,
    String,
    i64,
    i64,
    String,
    String,
    String,
    String,
);

fn create_parent(path: &Path) -> Result<(), SandboxError> {
    let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    else {
        return Ok(());
    };
    std::fs::create_dir_all(parent).map_err(|source| SandboxError::Directory {
        path: parent.to_owned(),
        source,
    })
}

/// Checks that the database is a sandbox of `network`, and initialises an empty one. Returns the recipient.
async fn begin_chain(
    pool: &SqlitePool,
    location: &Location,
    network: &Network,
    now_seconds: u64,
    randomness: &Randomness,
) -> Result<Address, SandboxError> {
    let mut transaction = pool.begin_with(WRITE).await?;
    let application_id: i64 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut *transaction)
        .await?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut *transaction)
        .await?;
    let chain_id = row_number(network.chain_id)?;
    if tables == 0 {
        let recipient = Address::from(randomness.bytes::<20>());
        sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
        sqlx::raw_sql(MARK).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO sandbox (only, chain_id, recipient) VALUES (1, $1, $2)")
            .bind(chain_id)
            .bind(row_text(recipient))
            .execute(&mut *transaction)
            .await?;
        insert_block(
            &mut transaction,
            network.chain_id,
            0,
            B256::ZERO,
            now_seconds,
        )
        .await?;
    } else if application_id != APPLICATION_ID {
        return Err(SandboxError::NotASandbox {
            location: location.clone(),
        });
    }
    let (stored_chain, recipient): (i64, String) =
        sqlx::query_as("SELECT chain_id, recipient FROM sandbox")
            .fetch_one(&mut *transaction)
            .await?;
    if stored_chain != chain_id {
        return Err(SandboxError::NotASandbox {
            location: location.clone(),
        });
    }
    transaction.commit().await?;
    parse("sandbox.recipient", &recipient)
}

/// Sets [`APPLICATION_ID`]. A pragma takes no bound values, so the number is written out.
const MARK: &str = "PRAGMA application_id = 0x706c6179";

async fn load_head(connection: &mut SqliteConnection) -> Result<Block, SandboxError> {
    let row: BlockRow = sqlx::query_as(
        "SELECT number, hash, parent, timestamp FROM blocks ORDER BY number DESC LIMIT 1",
    )
    .fetch_one(connection)
    .await?;
    block(row)
}

async fn mine(
    connection: &mut SqliteConnection,
    chain_id: u64,
    head: Block,
    timestamp: u64,
) -> Result<Block, SandboxError> {
    insert_block(connection, chain_id, head.number + 1, head.hash, timestamp).await
}

async fn insert_block(
    connection: &mut SqliteConnection,
    chain_id: u64,
    number: u64,
    parent: B256,
    timestamp: u64,
) -> Result<Block, SandboxError> {
    let hash = keccak256((chain_id, number, parent, timestamp).abi_encode());
    sqlx::query("INSERT INTO blocks (number, hash, parent, timestamp) VALUES ($1, $2, $3, $4)")
        .bind(row_number(number)?)
        .bind(hash.to_string())
        .bind(parent.to_string())
        .bind(row_number(timestamp)?)
        .execute(connection)
        .await?;
    Ok(Block {
        number,
        hash,
        parent,
        timestamp,
    })
}

async fn balance(
    connection: &mut SqliteConnection,
    recipient: Address,
    account: Address,
    at: u64,
) -> Result<U256, SandboxError> {
    let row: Option<String> = sqlx::query_scalar(
        "SELECT balance FROM balances WHERE account = $1 AND block <= $2 \
         ORDER BY block DESC LIMIT 1",
    )
    .bind(row_text(account))
    .bind(row_number(at)?)
    .fetch_optional(connection)
    .await?;
    match row {
        Some(balance) => parse("balances.balance", &balance),
        // The recipient and the sink begin with nothing, so that their balance is the sum of the transfers.
        None if account == recipient || account == SINK => Ok(U256::ZERO),
        None => Ok(U256::from(BIRTH_GIFT)),
    }
}

async fn set_balance(
    connection: &mut SqliteConnection,
    account: Address,
    block: u64,
    balance: U256,
) -> Result<(), SandboxError> {
    sqlx::query(
        "INSERT INTO balances (account, block, balance) VALUES ($1, $2, $3) \
         ON CONFLICT (account, block) DO UPDATE SET balance = excluded.balance",
    )
    .bind(row_text(account))
    .bind(row_number(block)?)
    .bind(balance.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

async fn is_nonce_used(
    connection: &mut SqliteConnection,
    payer: Address,
    nonce: B256,
    at: u64,
) -> Result<bool, SandboxError> {
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT block FROM authorizations WHERE payer = $1 AND nonce = $2 AND block <= $3",
    )
    .bind(row_text(payer))
    .bind(nonce.to_string())
    .bind(row_number(at)?)
    .fetch_optional(connection)
    .await?;
    Ok(row.is_some())
}

async fn use_nonce(
    connection: &mut SqliteConnection,
    payer: Address,
    nonce: B256,
    block: u64,
) -> Result<(), SandboxError> {
    sqlx::query("INSERT INTO authorizations (payer, nonce, block) VALUES ($1, $2, $3)")
        .bind(row_text(payer))
        .bind(nonce.to_string())
        .bind(row_number(block)?)
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert_log(
    connection: &mut SqliteConnection,
    block: u64,
    index: i64,
    topics: [B256; 3],
    data: &Bytes,
) -> Result<(), SandboxError> {
    let [event, first, second] = topics;
    sqlx::query(
        "INSERT INTO logs (block, log_index, topic0, topic1, topic2, data) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(row_number(block)?)
    .bind(index)
    .bind(event.to_string())
    .bind(first.to_string())
    .bind(second.to_string())
    .bind(data.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

fn nonce_event(signature: B256, payer: Address, nonce: B256) -> ([B256; 3], Bytes) {
    ([signature, payer.into_word(), nonce], Bytes::new())
}

fn block((number, hash, parent, timestamp): BlockRow) -> Result<Block, SandboxError> {
    Ok(Block {
        number: unsigned("blocks.number", number)?,
        hash: parse("blocks.hash", &hash)?,
        parent: parse("blocks.parent", &parent)?,
        timestamp: unsigned("blocks.timestamp", timestamp)?,
    })
}

fn mined(
    (hash, sender, number, block_hash, parent, timestamp): MinedRow,
) -> Result<Mined, SandboxError> {
    Ok(Mined {
        hash: parse("transactions.hash", &hash)?,
        sender: parse("transactions.sender", &sender)?,
        block: block((number, block_hash, parent, timestamp))?,
    })
}

fn token_log(row: LogRow) -> Result<TokenLog, SandboxError> {
    let (hash, sender, number, block_hash, parent, timestamp, index, t0, t1, t2, data) = row;
    Ok(TokenLog {
        transaction: mined((hash, sender, number, block_hash, parent, timestamp))?,
        index: unsigned("logs.log_index", index)?,
        topics: [
            parse("logs.topic0", &t0)?,
            parse("logs.topic1", &t1)?,
            parse("logs.topic2", &t2)?,
        ],
        data: parse("logs.data", &data)?,
    })
}

fn parse<T: FromStr>(column: &'static str, text: &str) -> Result<T, SandboxError> {
    text.parse().map_err(|_| SandboxError::Corrupt { column })
}

fn unsigned(column: &'static str, number: i64) -> Result<u64, SandboxError> {
    u64::try_from(number).map_err(|_| SandboxError::Corrupt { column })
}

fn row_number(number: u64) -> Result<i64, SandboxError> {
    i64::try_from(number).map_err(|_| SandboxError::Corrupt {
        column: "a number over 63 bits",
    })
}

/// Lower-case hex with 0x. `Display` of an address would write its checksum form.
fn row_text(address: Address) -> String {
    alloy_primitives::hex::encode_prefixed(address)
}

fn json_array(values: &[B256]) -> String {
    serde_json::json!(values).to_string()
}

#[cfg(test)]
mod tests;
