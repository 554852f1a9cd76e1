-- How a tenant's billing periods follow each other, since when; the first row holds from the beginning. Before that, and without
-- any, they are calendar months in UTC.
CREATE TABLE billing_cadences (
    tenant_id {uuid} NOT NULL,
    since {time} NOT NULL,
    every TEXT NOT NULL,
    anchor TEXT NOT NULL,
    zone TEXT NOT NULL,
    PRIMARY KEY (tenant_id, since)
) {clustered};
