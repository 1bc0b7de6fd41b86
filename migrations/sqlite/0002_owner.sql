-- The wallet that owns an image: the payer of its upload, or the wallet of the API key that uploaded
-- it. Null: nobody signs in for it. On `owner_network`, a CAIP-2 id, the owner may be a contract,
-- whose address may belong to somebody else on another chain.
ALTER TABLE images ADD COLUMN owner TEXT;
ALTER TABLE images ADD COLUMN owner_network TEXT;

UPDATE images SET
    owner = (SELECT payer FROM payments WHERE payments.id = images.payment_id),
    owner_network = (SELECT network FROM payments WHERE payments.id = images.payment_id)
WHERE payment_id IS NOT NULL;

-- The images of a wallet, newest first.
CREATE INDEX images_owner ON images (owner, created_ms, id) WHERE owner IS NOT NULL;
