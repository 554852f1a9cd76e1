-- An event may be amended: what it said before is kept with the correction, in order. A row without `body` is a taking
-- back, which leaves the event as it is.
ALTER TABLE usage_corrections ADD COLUMN revision {int} NOT NULL DEFAULT 0;
ALTER TABLE usage_corrections ADD COLUMN body TEXT;
ALTER TABLE usage_corrections ADD COLUMN at_ns {int};
CREATE UNIQUE INDEX usage_corrections_by_event ON usage_corrections (event_key, revision);
