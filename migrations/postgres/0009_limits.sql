-- Limits that replicas share. Who asked, as a hash under a key of the day, and when nothing of it is counted any
-- more (the theoretical arrival time of the generic cell rate algorithm), in microseconds. Unlogged: a row for every
-- address that asks, worth nothing after a crash, needs no place in the log and no wait for the disk.
CREATE UNLOGGED TABLE rates (
    kind     TEXT NOT NULL,
    bucket   TEXT NOT NULL,
    clear_us BIGINT NOT NULL,
    PRIMARY KEY (kind, bucket)
);
CREATE INDEX rates_clear ON rates (clear_us);

-- How many free uploads were published that were begun on a day (UTC, counted from 1970), and those that are
-- under way: each counts until it is published, given back, or its time has passed.
CREATE TABLE free_days (
    day       BIGINT PRIMARY KEY NOT NULL,
    published BIGINT NOT NULL
);
CREATE TABLE free_uploads (
    id       TEXT PRIMARY KEY NOT NULL,
    day      BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);
CREATE INDEX free_uploads_day ON free_uploads (day, until_ms);
