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

-- During an upgrade, servers that do not know these columns still insert images.
CREATE FUNCTION note_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT payer, network INTO NEW.owner, NEW.owner_network FROM payments WHERE id = NEW.payment_id;
    RETURN NEW;
END
$$;

CREATE TRIGGER images_owned BEFORE INSERT ON images FOR EACH ROW
WHEN (NEW.owner IS NULL AND NEW.payment_id IS NOT NULL)
EXECUTE FUNCTION note_owner();
