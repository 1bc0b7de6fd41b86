-- API keys: secrets that upload in the name of a wallet. On `network`, a CAIP-2 id, the wallet is a
-- contract; null: it is a plain wallet. `uploads_on_day` counts the uploads of `day`, a UTC day
-- counted from 1970.
CREATE TABLE api_keys (
    id              TEXT PRIMARY KEY NOT NULL,
    secret_hash     TEXT NOT NULL UNIQUE,
    wallet          TEXT NOT NULL,
    network         TEXT,
    name            TEXT,
    uploads_per_day BIGINT NOT NULL,
    created_ms      BIGINT NOT NULL,
    suspended_ms    BIGINT,
    revoked_ms      BIGINT,
    day             BIGINT NOT NULL,
    uploads_on_day  BIGINT NOT NULL,
    uploads         BIGINT NOT NULL,
    bytes           BIGINT NOT NULL,
    last_used_ms    BIGINT
);
CREATE INDEX api_keys_wallet ON api_keys (wallet, created_ms);
CREATE INDEX api_keys_revoked ON api_keys (revoked_ms) WHERE revoked_ms IS NOT NULL;

-- The paid images of a wallet by the bytes that were uploaded: the same bytes again cost nothing.
CREATE INDEX images_same ON images (owner, upload_sha256)
    WHERE owner IS NOT NULL AND payment_id IS NOT NULL;
