-- Upload links that were paid for are grants of kind `link`. `days` is for how long one is valid.
ALTER TABLE payments ADD COLUMN days BIGINT;
ALTER TABLE payment_ids ADD COLUMN days BIGINT;
ALTER TABLE grants ADD COLUMN days BIGINT;
-- When the owner revoked the link. A new link of the same payment clears it.
ALTER TABLE grants ADD COLUMN revoked_ms BIGINT;

-- Upload links of the free tier. `used` of their `uses` uploads are published.
CREATE TABLE free_links (
    id          TEXT PRIMARY KEY NOT NULL,
    secret_hash TEXT NOT NULL UNIQUE,
    tier        TEXT NOT NULL,
    uses        BIGINT NOT NULL,
    used        BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    revoked_ms  BIGINT,
    CHECK (used >= 0 AND used <= uses)
);
CREATE INDEX free_links_expiry ON free_links (expires_ms);

-- The hashes of tokens and of secrets of links that another one has replaced. Such a token is no
-- proof of a lost commit.
CREATE TABLE replaced_secrets (
    hash       TEXT PRIMARY KEY NOT NULL,
    payment_id TEXT NOT NULL REFERENCES payments (id)
);
CREATE INDEX replaced_secrets_payment ON replaced_secrets (payment_id);
INSERT INTO replaced_secrets (hash, payment_id)
SELECT replaced_hash, payment_id FROM grants WHERE replaced_hash IS NOT NULL;
-- The free link that uploaded an image. The same bytes by the same link are that image again.
ALTER TABLE images ADD COLUMN free_link TEXT;
CREATE INDEX images_free_link ON images (free_link, upload_sha256) WHERE free_link IS NOT NULL;
