-- What is not as it should be of tenants' infrastructure: open until it is mended, and kept for a while after.
CREATE TABLE drift (
    drift_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    found_at {time} NOT NULL,
    seen_at {time} NOT NULL,
    -- How many looks in a row found it.
    looks {int} NOT NULL,
    next_look_at {time} NOT NULL,
    repaired_at {time}
) {strict};
CREATE UNIQUE INDEX drift_open ON drift (tenant_id, kind) WHERE repaired_at IS NULL;
CREATE INDEX drift_due ON drift (next_look_at) WHERE repaired_at IS NULL;
CREATE INDEX drift_over ON drift (repaired_at) WHERE repaired_at IS NOT NULL;

-- How far the round by all tenants is; whoever takes the next ones holds the row.
CREATE TABLE drift_round (
    id {int} PRIMARY KEY,
    after {uuid},
    began_at {time},
    ended_at {time}
) {strict};
INSERT INTO drift_round (id) VALUES (1);

-- Whether a look found rows of the tenant at a place: what tells rows that are gone from rows that never were.
ALTER TABLE infrastructure_places ADD COLUMN kept_rows {bool} NOT NULL DEFAULT {false};
