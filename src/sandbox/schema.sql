-- The sandbox's chain. Rows are only added, so that the state at each block stays readable; only a reorganisation,
-- which tests cause, deletes rows. Hashes, addresses and topics are lower-case hex with 0x, amounts are decimal.
CREATE TABLE sandbox (
    only      INTEGER PRIMARY KEY CHECK (only = 1),
    chain_id  INTEGER NOT NULL,
    recipient TEXT    NOT NULL
) STRICT;

CREATE TABLE blocks (
    number       INTEGER PRIMARY KEY,
    hash         TEXT    NOT NULL UNIQUE,
    parent       TEXT    NOT NULL,
    timestamp    INTEGER NOT NULL
) STRICT;

-- A block holds one transaction or none.
CREATE TABLE transactions (
    block  INTEGER PRIMARY KEY REFERENCES blocks (number),
    hash   TEXT    NOT NULL UNIQUE,
    sender TEXT    NOT NULL
) STRICT;

-- Every event of the token has two indexed fields.
CREATE TABLE logs (
    block     INTEGER NOT NULL REFERENCES transactions (block),
    log_index INTEGER NOT NULL,
    topic0    TEXT    NOT NULL,
    topic1    TEXT    NOT NULL,
    topic2    TEXT    NOT NULL,
    data      TEXT    NOT NULL,
    PRIMARY KEY (block, log_index)
) STRICT;

-- Nonces that a transfer or a cancellation has used.
CREATE TABLE authorizations (
    payer TEXT    NOT NULL,
    nonce TEXT    NOT NULL,
    block INTEGER NOT NULL REFERENCES blocks (number),
    PRIMARY KEY (payer, nonce)
) STRICT, WITHOUT ROWID;

-- The balance of an account from this block on. An account without a row has its initial balance.
CREATE TABLE balances (
    account TEXT    NOT NULL,
    block   INTEGER NOT NULL REFERENCES blocks (number),
    balance TEXT    NOT NULL,
    PRIMARY KEY (account, block)
) STRICT, WITHOUT ROWID;
