-- Blocks of content and wallets. `kind` is sha256, pdq or wallet; `source` is the list that the block
-- belongs to, or operator. Values are hex digits in lower case, and EIP-55 addresses.
CREATE TABLE blocks (
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    source     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    PRIMARY KEY (kind, value, source)
);
CREATE INDEX blocks_source ON blocks (source, kind, value);

-- How often the blocks changed. Servers keep the blocks in memory, and read them again when this
-- number is another one. No row: never.
CREATE TABLE block_changes (
    id      BIGINT PRIMARY KEY NOT NULL,
    version BIGINT NOT NULL
);
