-- Images that stopped being public before their time, so that servers which hold them in memory forget them.
-- `written` grows from commit to commit; the times are those of the clock by which rows are erased again.
CREATE TABLE withdrawals (
    image_id     TEXT NOT NULL,
    written      BIGINT NOT NULL,
    withdrawn_ms BIGINT NOT NULL
);
CREATE INDEX withdrawals_written ON withdrawals (written);

-- What the reaper claims after its end isn't served from memory either, and isn't noted.
CREATE TRIGGER images_withdrawn AFTER UPDATE OF state, expires_ms, taken_back_ms ON images
WHEN OLD.state = 'live' AND (
    (NEW.state <> 'live'
        AND (NEW.reap_after_ms IS NULL OR OLD.expires_ms IS NULL OR NEW.reap_after_ms < OLD.expires_ms))
    OR (NEW.expires_ms IS NOT NULL AND (OLD.expires_ms IS NULL OR NEW.expires_ms < OLD.expires_ms))
    OR (NEW.taken_back_ms IS NOT NULL AND OLD.taken_back_ms IS NULL)
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

-- A payment that is frozen or reversed takes its images with it.
CREATE TRIGGER payments_withdrawn AFTER UPDATE OF state ON payments
WHEN OLD.state = 'settled' AND NEW.state <> 'settled'
BEGIN
    INSERT INTO withdrawals (image_id, written, withdrawn_ms)
    SELECT images.id, (SELECT COALESCE(MAX(written), 0) + 1 FROM withdrawals),
        CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
    FROM images WHERE images.payment_id = OLD.id AND images.state = 'live';
END;
