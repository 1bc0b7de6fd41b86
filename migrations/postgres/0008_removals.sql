-- What operators did, by whom and why. Each entry holds the hash of the one before it and of its own
-- fields, so that a changed, deleted or moved entry shows (`pixtoll admin audit --verify`).
CREATE TABLE admin_log (
    number        BIGINT PRIMARY KEY NOT NULL,
    at_ms         BIGINT NOT NULL,
    actor         TEXT NOT NULL,
    act           TEXT NOT NULL,
    -- What the act was about: an image, a payment, a block or a list.
    subject       TEXT NOT NULL,
    reason        TEXT NOT NULL,
    -- A JSON object.
    details       TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    hash          TEXT NOT NULL
);
CREATE INDEX admin_log_subject ON admin_log (subject, number);
-- The number and the hash of the newest entry. Each append locks this one row.
CREATE TABLE admin_log_head (
    name   TEXT PRIMARY KEY NOT NULL,
    number BIGINT NOT NULL,
    hash   TEXT NOT NULL
);

-- Images that the operator removed (`images.state` is `removed` until one is restored or deleted).
CREATE TABLE removals (
    image_id         TEXT PRIMARY KEY NOT NULL,
    -- `policy`: the link answers 404; `legal`: it answers 451.
    ground           TEXT NOT NULL,
    reason           TEXT NOT NULL,
    removed_ms       BIGINT NOT NULL,
    -- Until when a hold preserves the content. After that it waits for a person's decision. Null: not
    -- held. `images.held_ms` is when the hold began.
    hold_until_ms    BIGINT,
    -- When the content was moved to the sealed prefix. Null: it is not there.
    sealed_ms        BIGINT,
    -- The report to an authority: the reference that it answered with, and when that was recorded.
    report_reference TEXT,
    reported_ms      BIGINT
);
CREATE INDEX removals_removed ON removals (removed_ms, image_id);
CREATE INDEX removals_held ON removals (hold_until_ms) WHERE hold_until_ms IS NOT NULL;
CREATE INDEX removals_sealed ON removals (sealed_ms) WHERE sealed_ms IS NOT NULL;
-- Removed images, for the reaper.
CREATE INDEX images_removed ON images (expires_ms) WHERE state = 'removed';
-- All images, newest first, for `pixtoll admin list`.
CREATE INDEX images_created ON images (created_ms, id);

-- Images that the CDN has to drop from its caches.
CREATE TABLE purges (
    image_id  TEXT PRIMARY KEY NOT NULL,
    -- The last part of the image's link: id and extension.
    file_name TEXT NOT NULL,
    asked_ms  BIGINT NOT NULL,
    -- When the CDN is next asked, or until when a server that asks it has the job to itself. Null: the
    -- CDN has confirmed the purge.
    next_ms   BIGINT,
    tries     BIGINT NOT NULL DEFAULT 0,
    purged_ms BIGINT,
    -- Why the last try failed.
    problem   TEXT
);
CREATE INDEX purges_due ON purges (next_ms) WHERE next_ms IS NOT NULL;
