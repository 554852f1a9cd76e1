-- Which soft quotas were exceeded, so that each is told of once a period. `most` is the limit in thousandths: another one is
-- exceeded anew.
CREATE TABLE quota_crossings (
    tenant_id {uuid} NOT NULL,
    meter TEXT NOT NULL,
    unit TEXT NOT NULL,
    start {time} NOT NULL,
    most {int} NOT NULL,
    PRIMARY KEY (tenant_id, meter, unit, start, most)
) {clustered};
CREATE INDEX quota_crossings_by_age ON quota_crossings (start);
