-- The public halves of the keys that receipts and offers are signed with. One that is retired stays, so that
-- what it signed can be checked for as long as anybody wants to.
CREATE TABLE signing_keys (
    id            TEXT PRIMARY KEY NOT NULL,
    kind          TEXT NOT NULL,
    public_key    TEXT NOT NULL,
    first_used_ms BIGINT NOT NULL,
    retired_ms    BIGINT
);
