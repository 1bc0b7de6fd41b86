-- How often what the record beside an image's object says has changed since it was last written. Records that a
-- process died before writing, or that the store wouldn't take, are found by it.
ALTER TABLE images ADD COLUMN undescribed BIGINT NOT NULL DEFAULT 0;

CREATE INDEX images_undescribed ON images (id) WHERE undescribed > 0;
