-- How many requests were asked to pay, and how many carried a payment that the ledger didn't know:
-- by UTC day (counted from 1970), tier and kind of client. `client` is one of a fixed set of names.
CREATE TABLE funnel (
    day        BIGINT NOT NULL,
    tier       TEXT NOT NULL,
    client     TEXT NOT NULL,
    challenged BIGINT NOT NULL,
    presented  BIGINT NOT NULL,
    PRIMARY KEY (day, tier, client)
);

-- The kind of client that sent the payment, as in `funnel`. Null: not known.
ALTER TABLE payments ADD COLUMN client TEXT;
-- The sales of a time, in their order.
CREATE INDEX payments_settled ON payments (settled_ms, id) WHERE state = 'settled';

-- Refunds of settled payments. A refund is due until the chain has shown its transfer. The row has
-- no foreign key: when the records of its payment are erased, `reason`, `transaction_hash` and
-- `log_index` are cleared, and the two hashes stay, so that no transfer refunds twice.
CREATE TABLE refunds (
    payment_id       TEXT PRIMARY KEY NOT NULL,
    network          TEXT NOT NULL,
    amount           TEXT NOT NULL,
    -- Whether the payer keeps what was bought.
    keeps_goods      BIGINT NOT NULL,
    reason           TEXT,
    due_ms           BIGINT NOT NULL,
    transaction_hash TEXT,
    log_index        BIGINT,
    -- SHA-256 of network, transaction and index of the log.
    transfer_hash    TEXT UNIQUE,
    refunded_ms      BIGINT
);
CREATE INDEX refunds_due ON refunds (due_ms) WHERE refunded_ms IS NULL;
