-- Who may see an image: `public`, or `private` and then served by signed links alone. `viewer` is
-- the wallet (EIP-55) that may make links beside the owner. `link_serial` counts how often the
-- owner ended all links; a link holds for one serial.
ALTER TABLE images ADD COLUMN visibility TEXT NOT NULL DEFAULT 'public';
ALTER TABLE images ADD COLUMN viewer TEXT;
ALTER TABLE images ADD COLUMN link_serial BIGINT NOT NULL DEFAULT 0;
