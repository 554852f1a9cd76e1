-- What was told of payments, so that nothing counts twice, and what came of it.
CREATE TABLE payment_events (
    source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT,
    tenant_id {uuid},
    invoice_id {uuid},
    received_at {time} NOT NULL,
    PRIMARY KEY (source, event_id)
) {clustered};
-- Whoever pays knows the number.
CREATE INDEX invoices_by_written_number ON invoices (number) WHERE number IS NOT NULL;
CREATE INDEX payment_events_by_time ON payment_events (received_at);
CREATE INDEX payment_events_by_invoice ON payment_events (invoice_id);
