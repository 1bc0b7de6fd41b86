-- Where this database goes (`to`), or which one it is a copy of (`from`): see `pixtoll migrate`. The one table that
-- stays open while a database is moved, and is never copied.
CREATE TABLE moves (
    side        TEXT PRIMARY KEY NOT NULL,
    -- Of the move: the same on both sides.
    id          TEXT NOT NULL,
    -- The name that the moved database drew for itself.
    database_id TEXT NOT NULL,
    -- Host and name of the other one, never a password.
    place       TEXT NOT NULL,
    -- `moving` or `moved`; of a copy `copying`, `ready` or `open`.
    state       TEXT NOT NULL,
    -- How far a copy has come: the table, and the key of its last row as JSON.
    at_table    TEXT,
    at_key      TEXT,
    changed_ms  BIGINT NOT NULL
);
