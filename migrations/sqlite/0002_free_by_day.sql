-- The free uploads of a day are counted (limits.free_per_day).
CREATE INDEX images_free ON images (published_ms) WHERE payment_id IS NULL AND published_ms IS NOT NULL;
