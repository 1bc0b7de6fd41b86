-- When the object of an image was seen to be gone; when it is next tried; how often that failed. A held
-- image is touched by no reaper and no owner.
ALTER TABLE images ADD COLUMN deleted_ms BIGINT;
ALTER TABLE images ADD COLUMN reap_after_ms BIGINT;
ALTER TABLE images ADD COLUMN reap_failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE images ADD COLUMN held_ms BIGINT;
CREATE INDEX images_deleting ON images (reap_after_ms) WHERE state = 'deleting';
CREATE INDEX images_discarded ON images (created_ms) WHERE state = 'discarded' AND deleted_ms IS NULL;
-- Rows whose time is over once the records' time is: those that nothing else counts, and those that
-- go with their payment.
CREATE INDEX images_erasable ON images (deleted_ms)
    WHERE deleted_ms IS NOT NULL AND (payment_id IS NULL OR state = 'discarded');
CREATE INDEX images_deleted_paid ON images (deleted_ms)
    WHERE state = 'deleted' AND payment_id IS NOT NULL;
CREATE INDEX payments_unpaid ON payments (changed_ms)
    WHERE state IN ('rejected', 'released', 'failed') AND next_look_ms IS NULL;

-- What is left of a payment whose records are erased: the hash of its identity, which never buys
-- anything again, and the hash of its transfer, by which the ledger still accounts for the money.
CREATE TABLE erased_payments (
    id            TEXT PRIMARY KEY NOT NULL,
    transfer_hash TEXT,
    erased_ms     BIGINT NOT NULL
);
CREATE INDEX erased_payments_transfer ON erased_payments (transfer_hash) WHERE transfer_hash IS NOT NULL;

-- Work that one process does at a time: who holds it, when it was last done, how long it had rested
-- then, until when it is done slowly, and since when a clock that can't be believed has stopped it.
CREATE TABLE jobs (
    name          TEXT PRIMARY KEY NOT NULL,
    holder        TEXT NOT NULL,
    until_ms      BIGINT NOT NULL,
    ran_ms        BIGINT,
    rest_ms       BIGINT,
    slow_until_ms BIGINT,
    stopped_ms    BIGINT
);
