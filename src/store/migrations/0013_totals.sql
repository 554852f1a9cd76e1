-- Rows lie where their key says: a tenant's month is a few neighbouring pages, and a total is found in one tree, not two.
ALTER TABLE usage_totals RENAME TO usage_totals_before;
CREATE TABLE usage_totals (
    tenant_id {uuid} NOT NULL,
    meter TEXT NOT NULL,
    unit {int} NOT NULL,
    start {time} NOT NULL,
    grp TEXT NOT NULL,
    writer {uuid} NOT NULL,
    n {int} NOT NULL,
    total {decimal} NOT NULL,
    low {decimal} NOT NULL,
    high {decimal} NOT NULL,
    last_at_ns {int} NOT NULL,
    last_arrival {int} NOT NULL,
    last_value {decimal} NOT NULL,
    PRIMARY KEY (tenant_id, meter, unit, start, grp, writer)
) {clustered};
INSERT INTO usage_totals (tenant_id, meter, unit, start, grp, writer, n, total, low, high, last_at_ns, last_arrival,
                          last_value)
    SELECT tenant_id, meter, unit, start, grp, writer, n, total, low, high, last_at_ns, last_arrival, last_value
    FROM usage_totals_before ORDER BY tenant_id, meter, unit, start, grp, writer;
DROP TABLE usage_totals_before;
