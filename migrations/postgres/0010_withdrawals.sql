-- Images that stopped being public before their time, so that servers which hold them in memory forget them.
-- `written` is the number of the transaction: what has a lower one than every transaction that is still under way
-- was committed, or never will be. The times are those of the clock by which rows are erased again.
CREATE TABLE withdrawals (
    image_id     TEXT NOT NULL,
    written      BIGINT NOT NULL,
    withdrawn_ms BIGINT NOT NULL
);
CREATE INDEX withdrawals_written ON withdrawals (written);

CREATE FUNCTION note_withdrawal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO withdrawals (image_id, written, withdrawn_ms) VALUES
        (OLD.id, pg_current_xact_id()::text::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);
    PERFORM pg_notify('pixtoll_withdrawn', OLD.id);
    RETURN NULL;
END
$$;

-- What the reaper claims after its end isn't served from memory either, and isn't noted.
CREATE TRIGGER images_withdrawn AFTER UPDATE OF state, expires_ms, taken_back_ms ON images FOR EACH ROW
WHEN (OLD.state = 'live' AND (
    (NEW.state <> 'live'
        AND (NEW.reap_after_ms IS NULL OR OLD.expires_ms IS NULL OR NEW.reap_after_ms < OLD.expires_ms))
    OR (NEW.expires_ms IS NOT NULL AND (OLD.expires_ms IS NULL OR NEW.expires_ms < OLD.expires_ms))
    OR (NEW.taken_back_ms IS NOT NULL AND OLD.taken_back_ms IS NULL)
))
EXECUTE FUNCTION note_withdrawal();

CREATE TRIGGER images_erased AFTER DELETE ON images FOR EACH ROW WHEN (OLD.state = 'live')
EXECUTE FUNCTION note_withdrawal();

-- A payment that is frozen or reversed takes its images with it.
CREATE FUNCTION note_withdrawals_of_payment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO withdrawals (image_id, written, withdrawn_ms)
    SELECT id, pg_current_xact_id()::text::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint
    FROM images WHERE payment_id = OLD.id AND state = 'live';
    PERFORM pg_notify('pixtoll_withdrawn', id) FROM images WHERE payment_id = OLD.id AND state = 'live';
    RETURN NULL;
END
$$;

CREATE TRIGGER payments_withdrawn AFTER UPDATE OF state ON payments FOR EACH ROW
WHEN (OLD.state = 'settled' AND NEW.state <> 'settled')
EXECUTE FUNCTION note_withdrawals_of_payment();
