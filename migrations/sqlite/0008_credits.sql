-- Transfers to us that the ledger lost and the chain kept: each is owed to its payer, once. `id` is that of
-- the payment (network, asset, payer, nonce); `claimed_by` that of the payment that was presented for it.
CREATE TABLE credits (
    id               TEXT PRIMARY KEY NOT NULL,
    network          TEXT NOT NULL,
    payer            TEXT NOT NULL,
    nonce            TEXT NOT NULL,
    pay_to           TEXT NOT NULL,
    amount           TEXT NOT NULL,
    transaction_hash TEXT NOT NULL,
    log_index        BIGINT NOT NULL,
    block            BIGINT NOT NULL,
    found_ms         BIGINT NOT NULL,
    claimed_by       TEXT,
    claimed_ms       BIGINT,
    -- What a person did about it instead, such as a refund.
    resolution       TEXT,
    resolved_ms      BIGINT
);
CREATE UNIQUE INDEX credits_claimed ON credits (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX credits_payer ON credits (payer, nonce);
CREATE INDEX credits_open ON credits (payer, amount) WHERE claimed_by IS NULL AND resolved_ms IS NULL;
CREATE INDEX credits_transaction ON credits (transaction_hash);
