-- What the auditor saw of a settled payment: the block of its transfer; and how often, since when and up
-- to which block the transfer was missing. Images that a payment lost when the chain took it back.
ALTER TABLE payments ADD COLUMN seen_block BIGINT;
ALTER TABLE payments ADD COLUMN missing_looks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN missing_since_ms BIGINT;
ALTER TABLE payments ADD COLUMN missing_block BIGINT;
ALTER TABLE images ADD COLUMN taken_back_ms BIGINT;

-- The reconciler and the auditor take turns with nobody: each finds its own rows.
DROP INDEX payments_due;
CREATE INDEX payments_due ON payments (next_look_ms)
    WHERE next_look_ms IS NOT NULL AND state NOT IN ('settled', 'frozen');
CREATE INDEX payments_audits ON payments (next_look_ms)
    WHERE next_look_ms IS NOT NULL AND state IN ('settled', 'frozen');
-- A payment that the chain took back goes like one that bought nothing.
DROP INDEX payments_unpaid;
CREATE INDEX payments_unpaid ON payments (changed_ms)
    WHERE state IN ('rejected', 'released', 'failed', 'reversed') AND next_look_ms IS NULL;
CREATE INDEX payments_transfer ON payments (transaction_hash) WHERE transaction_hash IS NOT NULL;

-- What was granted on a facilitator's word so far is looked up on the chain.
UPDATE payments SET next_look_ms = 0, looks = 0 WHERE state = 'settled' AND log_index IS NULL;
