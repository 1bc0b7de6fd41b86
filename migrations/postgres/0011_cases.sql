-- What people reported. All reports of one image that nobody has decided yet are one case.
CREATE TABLE cases (
    id              TEXT PRIMARY KEY NOT NULL,
    image_id        TEXT NOT NULL,
    -- `open`, `upheld` or `dismissed`.
    state           TEXT NOT NULL,
    -- The gravest reason among the reports, and its rank: 0 is looked at first.
    reason          TEXT NOT NULL,
    rank            BIGINT NOT NULL,
    -- The wallet (EIP-55) that uploaded the image, for the rule on repeated infringement.
    wallet          TEXT,
    -- How many reports came in, and from how many networks (on one day, each counts once).
    reports         BIGINT NOT NULL,
    networks        BIGINT NOT NULL,
    opened_ms       BIGINT NOT NULL,
    decided_ms      BIGINT,
    decided_by      TEXT,
    decision        TEXT,
    -- When the uploader objected to a removal for copyright.
    countered_ms    BIGINT
);
CREATE UNIQUE INDEX cases_open ON cases (image_id) WHERE state = 'open';
CREATE INDEX cases_queue ON cases (rank, opened_ms) WHERE state = 'open';
CREATE INDEX cases_opened ON cases (opened_ms, id);
CREATE INDEX cases_wallet ON cases (wallet) WHERE wallet IS NOT NULL AND state = 'upheld';
CREATE INDEX cases_decided ON cases (decided_ms) WHERE decided_ms IS NOT NULL;

-- The reports and counter-notices of a case, with what their senders gave. `network` is a hash under
-- a key of the day, so that one network counts once; it is erased after two days.
CREATE TABLE reports (
    case_id     TEXT NOT NULL REFERENCES cases (id),
    number      BIGINT NOT NULL,
    kind        TEXT NOT NULL,
    reason      TEXT,
    details     TEXT NOT NULL,
    contact     TEXT,
    -- A statement made under penalty of perjury: a JSON object.
    statement   TEXT,
    network     TEXT,
    received_ms BIGINT NOT NULL,
    PRIMARY KEY (case_id, number)
);
CREATE INDEX reports_network ON reports (received_ms) WHERE network IS NOT NULL;
