-- Images that are kept up to date with the URL that they were imported from.

-- The number of the content: 0 is what was uploaded or imported, and each replacement adds one. The
-- object of content n > 0 has the key of the image and `.v<n>`.
ALTER TABLE images ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
-- How often the image is compared with its origin. Null: never.
ALTER TABLE images ADD COLUMN refresh_ms BIGINT;
-- SHA-256 of the URL and of refresh_ms. Two imports with this hash ask for the same image.
ALTER TABLE images ADD COLUMN origin TEXT;
-- When the origin last confirmed or replaced the content, and when it last replaced it.
ALTER TABLE images ADD COLUMN refreshed_ms BIGINT;
ALTER TABLE images ADD COLUMN replaced_ms BIGINT;
-- The SHA-256 of content 0, once it was replaced. Receipts name it.
ALTER TABLE images ADD COLUMN first_sha256 TEXT;

-- What the server needs to compare an image with its origin. The row is written with the image, and
-- deleted with its objects.
CREATE TABLE refreshes (
    image_id      TEXT PRIMARY KEY NOT NULL,
    url           TEXT NOT NULL,
    -- `remove` or `keep`.
    metadata      TEXT NOT NULL,
    -- The size limit of the import.
    max_bytes     BIGINT NOT NULL,
    -- The validators of the last response, and the SHA-256 of the URL that sent them.
    etag          TEXT,
    last_modified TEXT,
    validated     TEXT,
    -- When the image is next compared, or until when a server that compares it has it to itself.
    -- Null: never again.
    next_ms       BIGINT,
    -- Failures since the last comparison that succeeded.
    failures      BIGINT NOT NULL DEFAULT 0,
    -- Objects may exist of the contents from `oldest` to `newest`.
    oldest        BIGINT NOT NULL DEFAULT 0,
    newest        BIGINT NOT NULL DEFAULT 0,
    -- When objects of other contents than the image's have to be deleted. Null: there are none.
    clean_ms      BIGINT,
    -- Whether the image is deleted. Then its objects are deleted once more at `clean_ms`, in case
    -- that a server wrote one meanwhile, and the row with them.
    is_gone       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX refreshes_due ON refreshes (next_ms) WHERE next_ms IS NOT NULL;
CREATE INDEX refreshes_unclean ON refreshes (clean_ms) WHERE clean_ms IS NOT NULL;

-- No server may serve replaced content from memory.
CREATE TRIGGER images_replaced AFTER UPDATE OF version ON images FOR EACH ROW
WHEN (OLD.state = 'live' AND NEW.version <> OLD.version)
EXECUTE FUNCTION note_withdrawal();
