-- Facts about the deployment, by name: mode, recipient, the fingerprint of its key, the database's
-- own name and its epoch, and the first block of each network.
CREATE TABLE deployment (
    name  TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

-- Every offer that a challenge made. An offer stays valid for its timeout after it was last made,
-- on every replica and across a restart (docs/payments.md, rule 7).
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

-- The ledger: one row for each authorization. (payer, nonce, network, asset) identifies it; payments
-- are looked up by the first two.
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
    -- The product and its terms. The payment is judged by these, whatever the configuration says
    -- later.
    kind                TEXT NOT NULL,
    tier                TEXT NOT NULL,
    uses                BIGINT NOT NULL,
    -- The image that a renewal is for.
    target              TEXT,
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
    -- When the reconciler or the auditor next asks the chain about this payment, and how often it
    -- has asked.
    next_look_ms        BIGINT,
    looks               BIGINT NOT NULL,
    -- The auditor: the block of the transfer; when checks do not find it, how many, since when and
    -- up to which block; and, once enough of them did not, why the operator has to decide.
    seen_block          BIGINT,
    missing_looks       BIGINT NOT NULL DEFAULT 0,
    missing_since_ms    BIGINT,
    missing_block       BIGINT,
    missing_reason      TEXT,
    -- When and why the operator voided a payment whose transfer is missing.
    voided_ms           BIGINT,
    void_note           TEXT,
    -- Why the operator has to act although the money is settled, and what the operator did.
    owed                TEXT,
    resolution          TEXT,
    resolved_ms         BIGINT,
    UNIQUE (payer, nonce, network, asset)
);
CREATE UNIQUE INDEX payments_log ON payments (network, transaction_hash, log_index)
    WHERE log_index IS NOT NULL;
CREATE INDEX payments_transfer ON payments (transaction_hash) WHERE transaction_hash IS NOT NULL;
-- What a payer has open, and what was settled last.
CREATE INDEX payments_payer_settled ON payments (payer, settled_ms);
CREATE INDEX payments_target ON payments (target) WHERE target IS NOT NULL;
CREATE INDEX payments_owed ON payments (settled_ms) WHERE owed IS NOT NULL;
-- The next payments of the reconciler, and those of the auditor.
CREATE INDEX payments_due ON payments (next_look_ms)
    WHERE next_look_ms IS NOT NULL AND state <> 'settled';
CREATE INDEX payments_audits ON payments (next_look_ms)
    WHERE next_look_ms IS NOT NULL AND state = 'settled';
CREATE INDEX payments_voided ON payments (voided_ms) WHERE voided_ms IS NOT NULL;
-- Payments that bought nothing: their rows are deleted when retention.records has passed.
CREATE INDEX payments_unpaid ON payments (changed_ms)
    WHERE state IN ('rejected', 'released', 'failed') AND next_look_ms IS NULL;

-- Keyed hashes of the values that prove that a request comes from the payer (docs/payments.md, rule
-- 4).
CREATE TABLE payment_proofs (
    payment_id TEXT NOT NULL REFERENCES payments (id),
    kind       TEXT NOT NULL,
    hash       TEXT NOT NULL,
    expires_ms BIGINT,
    PRIMARY KEY (payment_id, kind, hash)
);
CREATE INDEX payment_proofs_expiry ON payment_proofs (expires_ms) WHERE expires_ms IS NOT NULL;

-- Idempotency keys, as keyed hashes, and the product that each was used for. A key is charged once
-- (docs/payments.md, rule 11).
CREATE TABLE payment_ids (
    payer       TEXT NOT NULL,
    id_hash     TEXT NOT NULL,
    payment_id  TEXT NOT NULL REFERENCES payments (id),
    kind        TEXT NOT NULL,
    tier        TEXT NOT NULL,
    uses        BIGINT NOT NULL,
    target      TEXT,
    body_sha256 TEXT,
    PRIMARY KEY (payer, id_hash)
);
CREATE INDEX payment_ids_payment ON payment_ids (payment_id);

-- What a settled payment bought: `uses` uploads, of which `used` are published.
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
    -- The hash of the token before this one.
    replaced_hash    TEXT,
    -- When the operator voided the payment. From then on the grant buys nothing.
    voided_ms        BIGINT,
    CHECK (used >= 0 AND used <= uses)
);
CREATE INDEX grants_replaced ON grants (replaced_hash) WHERE replaced_hash IS NOT NULL;

-- What is left of a payment after its row was deleted: the hash of its identity, so that the
-- payment never buys anything again, and the hash of its transfer, so that `pixtoll ledger check`
-- can account for the money.
CREATE TABLE erased_payments (
    id            TEXT PRIMARY KEY NOT NULL,
    transfer_hash TEXT,
    erased_ms     BIGINT NOT NULL
);
CREATE INDEX erased_payments_transfer ON erased_payments (transfer_hash) WHERE transfer_hash IS NOT NULL;

-- The nonces of sign-in challenges that signed in, so that none signs in twice (docs/payments.md,
-- Claims).
CREATE TABLE used_nonces (
    nonce      TEXT PRIMARY KEY NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX used_nonces_expiry ON used_nonces (expires_ms);

-- Transfers to the recipient that look like sales and belong to no payment. Each waits until a
-- payment accounts for it or the operator accepts it.
CREATE TABLE orphans (
    network          TEXT NOT NULL,
    transaction_hash TEXT NOT NULL,
    log_index        BIGINT NOT NULL,
    amount           TEXT NOT NULL,
    found_ms         BIGINT NOT NULL,
    accepted_ms      BIGINT,
    note             TEXT,
    PRIMARY KEY (network, transaction_hash, log_index)
);
CREATE INDEX orphans_open ON orphans (found_ms) WHERE accepted_ms IS NULL;
CREATE INDEX orphans_transaction ON orphans (transaction_hash);

-- Images. A pending image is reserved and not served. A live image is public until it expires.
CREATE TABLE images (
    id                TEXT PRIMARY KEY NOT NULL,
    state             TEXT NOT NULL,
    format            TEXT NOT NULL,
    size_bytes        BIGINT NOT NULL,
    width             BIGINT NOT NULL,
    height            BIGINT NOT NULL,
    sha256            TEXT NOT NULL,
    upload_sha256     TEXT NOT NULL,
    -- What happened to the metadata of the upload, such as `removed:location,camera` or
    -- `kept:c2pa`. Null: unknown.
    metadata          TEXT,
    tier              TEXT NOT NULL,
    payment_id        TEXT REFERENCES payments (id),
    -- When the reservation lapses; only while pending.
    reserved_until_ms BIGINT,
    created_ms        BIGINT NOT NULL,
    published_ms      BIGINT,
    expires_ms        BIGINT,
    -- How many renewals of this image are being settled. Until they are, neither the reaper nor the
    -- owner can delete it.
    renewing          BIGINT NOT NULL DEFAULT 0,
    -- When a review began that keeps the image from the reaper and from its owner.
    held_ms           BIGINT,
    -- When the reaper next tries to delete the object, how often that failed, and when the object
    -- was seen to be gone.
    reap_after_ms     BIGINT,
    reap_failures     BIGINT NOT NULL DEFAULT 0,
    deleted_ms        BIGINT,
    -- How many changes the record beside the image's object lacks: the server died before writing
    -- it, or the store refused it.
    undescribed       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX images_payment ON images (payment_id) WHERE payment_id IS NOT NULL;
CREATE INDEX images_expiry ON images (expires_ms) WHERE expires_ms IS NOT NULL AND state = 'live';
CREATE INDEX images_pending ON images (created_ms) WHERE state = 'pending';
-- The free uploads of a day, which limits.free_per_day counts.
CREATE INDEX images_free ON images (published_ms) WHERE payment_id IS NULL AND published_ms IS NOT NULL;
CREATE INDEX images_deleting ON images (reap_after_ms) WHERE state = 'deleting';
CREATE INDEX images_discarded ON images (created_ms) WHERE state = 'discarded' AND deleted_ms IS NULL;
-- Rows to delete when retention.records has passed: by themselves, or together with their payment.
CREATE INDEX images_erasable ON images (deleted_ms)
    WHERE deleted_ms IS NOT NULL AND (payment_id IS NULL OR state = 'discarded');
CREATE INDEX images_deleted_paid ON images (deleted_ms)
    WHERE state = 'deleted' AND payment_id IS NOT NULL;
CREATE INDEX images_undescribed ON images (id) WHERE undescribed > 0;

-- The expiry and the tier of an image before and after each renewal. No expiry: kept for ever.
CREATE TABLE renewals (
    payment_id TEXT PRIMARY KEY NOT NULL REFERENCES payments (id),
    image_id   TEXT NOT NULL,
    from_ms    BIGINT NOT NULL,
    to_ms      BIGINT,
    from_tier  TEXT NOT NULL,
    to_tier    TEXT NOT NULL,
    renewed_ms BIGINT NOT NULL
);
CREATE INDEX renewals_image ON renewals (image_id, renewed_ms);

-- The public halves of the keys that sign receipts and offers. A retired key stays, so that its
-- signatures can be checked.
CREATE TABLE signing_keys (
    id            TEXT PRIMARY KEY NOT NULL,
    kind          TEXT NOT NULL,
    public_key    TEXT NOT NULL,
    first_used_ms BIGINT NOT NULL,
    retired_ms    BIGINT
);

-- Jobs that one server runs at a time: the holder of the lease and its end, the last run, the pause
-- before that run, until when the job runs slowly, and since when a clock that can't be believed
-- has stopped it.
CREATE TABLE jobs (
    name          TEXT PRIMARY KEY NOT NULL,
    holder        TEXT NOT NULL,
    until_ms      BIGINT NOT NULL,
    ran_ms        BIGINT,
    rest_ms       BIGINT,
    slow_until_ms BIGINT,
    stopped_ms    BIGINT
);

-- Rate limits that replicas share: a client, as a hash under a key of the day, and the time from
-- which none of its requests counts any more (the theoretical arrival time of the generic cell rate
-- algorithm), in microseconds.
CREATE TABLE rates (
    kind     TEXT NOT NULL,
    bucket   TEXT NOT NULL,
    clear_us BIGINT NOT NULL,
    PRIMARY KEY (kind, bucket)
);
CREATE INDEX rates_clear ON rates (clear_us);

-- How many free uploads that began on a day (UTC, counted from 1970) were published.
CREATE TABLE free_days (
    day       BIGINT PRIMARY KEY NOT NULL,
    published BIGINT NOT NULL
);
-- Free uploads that are under way. Each counts until it is published, given back, or its time has
-- passed.
CREATE TABLE free_uploads (
    id       TEXT PRIMARY KEY NOT NULL,
    day      BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);
CREATE INDEX free_uploads_day ON free_uploads (day, until_ms);

-- The state of a move of this database (`pixtoll migrate`): where it goes (side `to`), or which
-- database it is a copy of (side `from`). Only this table takes changes while the database is
-- moved. It is never copied.
CREATE TABLE moves (
    side        TEXT PRIMARY KEY NOT NULL,
    -- The id of the move, the same on both sides.
    id          TEXT NOT NULL,
    -- The name that the moved database drew for itself.
    database_id TEXT NOT NULL,
    -- Host and name of the other database, never a password.
    place       TEXT NOT NULL,
    -- `moving` or `moved`; of a copy `copying`, `ready` or `open`.
    state       TEXT NOT NULL,
    -- How far a copy has come: the table, and the key of its last row as JSON.
    at_table    TEXT,
    at_key      TEXT,
    changed_ms  BIGINT NOT NULL
);

-- Images that stopped being public before their expiry, so that each server drops them from its
-- memory. `written` grows from commit to commit. `withdrawn_ms` is by the clock of the database,
-- which also decides when these rows are deleted.
CREATE TABLE withdrawals (
    image_id     TEXT NOT NULL,
    written      BIGINT NOT NULL,
    withdrawn_ms BIGINT NOT NULL
);
CREATE INDEX withdrawals_written ON withdrawals (written);

-- An image that the reaper claims after its expiry is not noted: no server serves it from memory
-- any more.
CREATE TRIGGER images_withdrawn AFTER UPDATE OF state, expires_ms ON images
WHEN OLD.state = 'live' AND (
    (NEW.state <> 'live'
        AND (NEW.reap_after_ms IS NULL OR OLD.expires_ms IS NULL OR NEW.reap_after_ms < OLD.expires_ms))
    OR (NEW.expires_ms IS NOT NULL AND (OLD.expires_ms IS NULL OR NEW.expires_ms < OLD.expires_ms))
)
BEGIN
    INSERT INTO withdrawals (image_id, written, withdrawn_ms)
    SELECT OLD.id, COALESCE(MAX(written), 0) + 1, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
    FROM withdrawals;
END;

CREATE TRIGGER images_erased AFTER DELETE ON images WHEN OLD.state = 'live'
BEGIN
    INSERT INTO withdrawals (image_id, written, withdrawn_ms)
    SELECT OLD.id, COALESCE(MAX(written), 0) + 1, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
    FROM withdrawals;
END;
