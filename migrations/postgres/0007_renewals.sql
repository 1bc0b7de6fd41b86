-- A payment for more time names its image. How many such payments are on their way to an image: while
-- there are any, neither the reaper nor its owner deletes it (payments.md, "The goods").
ALTER TABLE payments ADD COLUMN target TEXT;
ALTER TABLE payment_ids ADD COLUMN target TEXT;
ALTER TABLE images ADD COLUMN renewing BIGINT NOT NULL DEFAULT 0;
CREATE INDEX payments_target ON payments (target) WHERE target IS NOT NULL;

-- What each renewal did: the expiry and the tier before and after it; no expiry is for ever.
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
