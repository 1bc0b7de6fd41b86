-- What became of the metadata of the upload, such as `removed:location,camera` or `kept:c2pa`. Null: the image was
-- uploaded before this was noted.
ALTER TABLE images ADD COLUMN metadata TEXT;
