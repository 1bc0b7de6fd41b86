-- What a page can show before the image is loaded: its ThumbHash, base64, and its dominant colour,
-- as `#rrggbb`. Null: the image was uploaded before these were computed.
ALTER TABLE images ADD COLUMN thumbhash TEXT;
ALTER TABLE images ADD COLUMN dominant TEXT;

-- Variants that are stored beside their image. A row is written before its object, and deleted after
-- it. A missing object is made again, so copies and backups leave the objects out.
CREATE TABLE variants (
    image_id   TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    -- The variant's canonical parameters, such as `w320.webp`.
    name       TEXT NOT NULL,
    -- SHA-256 of the bytes, which also names the object.
    sha256     TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    width      BIGINT NOT NULL,
    height     BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    -- When the object was deleted. Another server may write the object of a young row afterwards, so
    -- the object of such a row is deleted twice.
    deleted_ms BIGINT,
    PRIMARY KEY (image_id, name)
);
CREATE INDEX variants_deleted ON variants (deleted_ms) WHERE deleted_ms IS NOT NULL;
