-- Grows by one with whatever changes what a tenant owes: two that work it out at once do not both write.
ALTER TABLE billing_accounts ADD COLUMN revision {int} NOT NULL DEFAULT 0;
-- All periods before it have an invoice.
ALTER TABLE billing_accounts ADD COLUMN billed_through {time};
-- Tax rates and the like, as JSON.
ALTER TABLE billing_accounts ADD COLUMN terms TEXT;

CREATE TABLE invoices (
    invoice_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL,
    period_from {time} NOT NULL,
    period_to {time} NOT NULL,
    -- 1 while it is the invoice of its period; null once another takes its place.
    holds_period {int},
    status TEXT NOT NULL,
    settled_at {time},
    void_reason TEXT,
    entity TEXT,
    serial {int},
    number TEXT,
    issued_at {time},
    due_at {time},
    currency TEXT NOT NULL,
    total {int} NOT NULL,
    due {int} NOT NULL,
    paid {int} NOT NULL,
    credited {int} NOT NULL,
    -- What was done to the tenant because it is overdue, if that was looked at.
    pursued_at {time},
    document TEXT NOT NULL,
    drafted_at {time} NOT NULL
) {strict};
CREATE UNIQUE INDEX invoices_by_period ON invoices (tenant_id, period_from, holds_period);
CREATE UNIQUE INDEX invoices_by_number ON invoices (entity, serial);
CREATE INDEX invoices_by_tenant ON invoices (tenant_id, invoice_id);
CREATE INDEX invoices_drafts ON invoices (invoice_id) WHERE status = 'draft';
CREATE INDEX invoices_unpaid ON invoices (due_at) WHERE status = 'finalized';
CREATE INDEX invoices_overdue ON invoices (tenant_id) WHERE status = 'overdue';

-- What invoices that were issued have billed, by the month that it was used in.
CREATE TABLE invoice_lines (
    invoice_id {uuid} NOT NULL,
    line {int} NOT NULL,
    tenant_id {uuid} NOT NULL,
    month {time} NOT NULL,
    key TEXT NOT NULL,
    quantity {decimal} NOT NULL,
    unrounded {decimal} NOT NULL,
    amount {int} NOT NULL,
    PRIMARY KEY (invoice_id, line)
) {clustered};
CREATE INDEX invoice_lines_by_month ON invoice_lines (tenant_id, month);

CREATE TABLE invoice_series (
    entity TEXT NOT NULL,
    series TEXT NOT NULL,
    last {int} NOT NULL,
    PRIMARY KEY (entity, series)
) {clustered};

CREATE TABLE credit_notes (
    credit_note_id {uuid} PRIMARY KEY,
    invoice_id {uuid} NOT NULL,
    tenant_id {uuid} NOT NULL,
    entity TEXT NOT NULL,
    serial {int} NOT NULL,
    number TEXT NOT NULL,
    currency TEXT NOT NULL,
    net {int} NOT NULL,
    gross {int} NOT NULL,
    applied {int} NOT NULL,
    document TEXT NOT NULL,
    issued_at {time} NOT NULL
) {strict};
CREATE UNIQUE INDEX credit_notes_by_number ON credit_notes (entity, serial);
CREATE INDEX credit_notes_by_invoice ON credit_notes (invoice_id, credit_note_id);

CREATE TABLE payments (
    payment_id {uuid} PRIMARY KEY,
    invoice_id {uuid} NOT NULL,
    tenant_id {uuid} NOT NULL,
    reference TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount {int} NOT NULL,
    received_at {time} NOT NULL,
    recorded_at {time} NOT NULL
) {strict};
CREATE UNIQUE INDEX payments_by_reference ON payments (invoice_id, reference);

-- Money that a tenant has with us, and what was taken of it; a draw below zero gives back.
CREATE TABLE credits (
    credit_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL,
    currency TEXT NOT NULL,
    amount {int} NOT NULL,
    priority {int} NOT NULL,
    expires_at {time},
    reason TEXT NOT NULL,
    granted_at {time} NOT NULL
) {strict};
CREATE INDEX credits_by_tenant ON credits (tenant_id, credit_id);
CREATE TABLE credit_draws (
    draw_id {uuid} PRIMARY KEY,
    credit_id {uuid} NOT NULL,
    tenant_id {uuid} NOT NULL,
    invoice_id {uuid} NOT NULL,
    amount {int} NOT NULL,
    drawn_at {time} NOT NULL
) {strict};
CREATE INDEX credit_draws_by_credit ON credit_draws (credit_id, draw_id);
CREATE INDEX credit_draws_by_invoice ON credit_draws (invoice_id);

CREATE TABLE coupons (
    coupon_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL,
    name TEXT NOT NULL,
    percent {decimal},
    amount {int},
    -- How many invoices it holds for; null for all.
    periods {int},
    created_at {time} NOT NULL,
    ended_at {time}
) {strict};
CREATE INDEX coupons_by_tenant ON coupons (tenant_id, coupon_id);
CREATE TABLE coupon_uses (
    coupon_id {uuid} NOT NULL,
    invoice_id {uuid} NOT NULL,
    amount {int} NOT NULL,
    PRIMARY KEY (coupon_id, invoice_id)
) {clustered};
