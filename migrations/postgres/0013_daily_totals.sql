-- Payments that were refused before the ledger had a row for them, counted like `presented`.
ALTER TABLE funnel ADD COLUMN refused BIGINT NOT NULL DEFAULT 0;

-- What happened on each UTC day (counted from 1970), for the public proof. A day is counted from the
-- other tables once it is over, and never changed: the rows that it was counted from are erased later.
CREATE TABLE daily_totals (
    day        BIGINT PRIMARY KEY NOT NULL,
    challenged BIGINT NOT NULL,
    presented  BIGINT NOT NULL,
    refused    BIGINT NOT NULL,
    settled    BIGINT NOT NULL,
    expired    BIGINT NOT NULL,
    deleted    BIGINT NOT NULL
);
