-- What this database is: its mode, network, recipient, and the fingerprint of its key.
CREATE TABLE deployment (
    name  TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

-- Every offer that was made. An offer stays good for its timeout after it was last made, on every
-- replica and across a restart (payments.md, rule 7).
CREATE TABLE offers (
    id                  TEXT PRIMARY KEY NOT NULL,
    kind                TEXT NOT NULL,
    tier                TEXT NOT NULL,
    uses                BIGINT NOT NULL,
    network             TEXT NOT NULL,
    amount              TEXT NOT NULL,
    pay_to              TEXT NOT NULL,
    max_timeout_seconds BIGINT NOT NULL,
    keep_ms             BIGINT,
    max_bytes           BIGINT NOT NULL,
    confirmations       BIGINT NOT NULL,
    last_offered_ms     BIGINT NOT NULL
);

-- The ledger. One row per authorization: (network, asset, payer, nonce) is its identity.
CREATE TABLE payments (
    id                  TEXT PRIMARY KEY NOT NULL,
    network             TEXT NOT NULL,
    asset               TEXT NOT NULL,
    payer               TEXT NOT NULL,
    nonce               TEXT NOT NULL,
    digest              TEXT NOT NULL,
    signature           TEXT NOT NULL,
    valid_after         TEXT NOT NULL,
    valid_before        TEXT NOT NULL,
    state               TEXT NOT NULL,
    attempt             BIGINT NOT NULL,
    lease_until_ms      BIGINT NOT NULL,
    -- What is bought, and on what terms: judged by these for ever.
    kind                TEXT NOT NULL,
    tier                TEXT NOT NULL,
    uses                BIGINT NOT NULL,
    amount              TEXT NOT NULL,
    pay_to              TEXT NOT NULL,
    max_timeout_seconds BIGINT NOT NULL,
    keep_ms             BIGINT,
    max_bytes           BIGINT NOT NULL,
    confirmations       BIGINT NOT NULL,
    facilitator         TEXT NOT NULL,
    x402_version        BIGINT NOT NULL,
    request             TEXT NOT NULL,
    body_sha256         TEXT,
    image_id            TEXT,
    reason              TEXT,
    first_seen_ms       BIGINT NOT NULL,
    first_block         BIGINT NOT NULL,
    changed_ms          BIGINT NOT NULL,
    settle_called_ms    BIGINT,
    settled_ms          BIGINT,
    proven_by           TEXT,
    transaction_hash    TEXT,
    log_index           BIGINT,
    next_look_ms        BIGINT,
    looks               BIGINT NOT NULL,
    -- Why a person has to look at it although the money is settled, and what that person did.
    owed                TEXT,
    resolution          TEXT,
    resolved_ms         BIGINT,
    UNIQUE (network, asset, payer, nonce)
);
CREATE UNIQUE INDEX payments_log ON payments (network, transaction_hash, log_index)
    WHERE log_index IS NOT NULL;
CREATE INDEX payments_payer_nonce ON payments (payer, nonce);
CREATE INDEX payments_due ON payments (next_look_ms) WHERE next_look_ms IS NOT NULL;
CREATE INDEX payments_owed ON payments (settled_ms) WHERE owed IS NOT NULL;

-- Keyed hashes of what proves that a presentation comes from the payer (payments.md, rule 4).
CREATE TABLE payment_proofs (
    payment_id TEXT NOT NULL REFERENCES payments (id),
    kind       TEXT NOT NULL,
    hash       TEXT NOT NULL,
    expires_ms BIGINT,
    PRIMARY KEY (payment_id, kind, hash)
);
CREATE INDEX payment_proofs_expiry ON payment_proofs (expires_ms) WHERE expires_ms IS NOT NULL;

-- One id, one charge (payments.md, rule 11).
CREATE TABLE payment_ids (
    payer       TEXT NOT NULL,
    id_hash     TEXT NOT NULL,
    payment_id  TEXT NOT NULL REFERENCES payments (id),
    kind        TEXT NOT NULL,
    tier        TEXT NOT NULL,
    uses        BIGINT NOT NULL,
    body_sha256 TEXT,
    PRIMARY KEY (payer, id_hash)
);
CREATE INDEX payment_ids_payment ON payment_ids (payment_id);

-- What a settled payment bought. Published uploads are counted here.
CREATE TABLE grants (
    payment_id       TEXT PRIMARY KEY NOT NULL REFERENCES payments (id),
    kind             TEXT NOT NULL,
    tier             TEXT NOT NULL,
    uses             BIGINT NOT NULL,
    used             BIGINT NOT NULL,
    serial           BIGINT NOT NULL,
    token_hash       TEXT NOT NULL UNIQUE,
    token_expires_ms BIGINT NOT NULL,
    keep_ms          BIGINT,
    max_bytes        BIGINT NOT NULL,
    created_ms       BIGINT NOT NULL,
    CHECK (used >= 0 AND used <= uses)
);

-- Images. A pending one is reserved and not served; a live one is public until it expires.
CREATE TABLE images (
    id            TEXT PRIMARY KEY NOT NULL,
    state         TEXT NOT NULL,
    format        TEXT NOT NULL,
    size_bytes    BIGINT NOT NULL,
    width         BIGINT NOT NULL,
    height        BIGINT NOT NULL,
    sha256        TEXT NOT NULL,
    upload_sha256 TEXT NOT NULL,
    tier          TEXT NOT NULL,
    payment_id    TEXT REFERENCES payments (id),
    -- Only while pending: when the reservation lapses.
    reserved_until_ms BIGINT,
    created_ms    BIGINT NOT NULL,
    published_ms  BIGINT,
    expires_ms    BIGINT
);
CREATE INDEX images_payment ON images (payment_id) WHERE payment_id IS NOT NULL;
CREATE INDEX images_expiry ON images (expires_ms) WHERE expires_ms IS NOT NULL AND state = 'live';
CREATE INDEX images_pending ON images (created_ms) WHERE state = 'pending';
