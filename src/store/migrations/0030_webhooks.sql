-- events: what happened, written in the transaction of the change that it tells of. A lane is a tenant, or the nil id for what is
-- the platform's own; within a lane `sequence` has no gap and goes with the order of commits.
CREATE TABLE outbox (
    event_id {uuid} PRIMARY KEY,
    lane {uuid} NOT NULL,
    sequence {int} NOT NULL,
    name TEXT NOT NULL,
    occurred_at {time} NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (lane, sequence)
) {strict};
CREATE INDEX outbox_by_age ON outbox (occurred_at);
CREATE TABLE outbox_lanes (
    lane {uuid} PRIMARY KEY,
    last {int} NOT NULL
) {clustered};

-- webhooks: who is told of events. Without a tenant it is the platform's, and told of everything.
CREATE TABLE webhooks (
    webhook_id {uuid} PRIMARY KEY,
    tenant_id {uuid},
    url TEXT NOT NULL,
    created_at {time} NOT NULL,
    disabled_at {time},
    disabled_reason TEXT,
    failing_since {time},
    failures {int} NOT NULL,
    not_before {time},
    tried_at {time} NOT NULL
) {strict};
CREATE INDEX webhooks_by_tenant ON webhooks (tenant_id);
CREATE TABLE webhook_events (
    webhook_id {uuid} NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (webhook_id, name)
) {clustered};
CREATE TABLE webhook_secrets (
    secret_id {uuid} PRIMARY KEY,
    webhook_id {uuid} NOT NULL,
    sealed {bytes} NOT NULL,
    signs_until {time}
) {strict};
CREATE INDEX webhook_secrets_by_webhook ON webhook_secrets (webhook_id);

-- No foreign keys: a change does not fail because somebody else deletes a webhook that is to hear of it.
CREATE TABLE webhook_deliveries (
    webhook_id {uuid} NOT NULL,
    lane {uuid} NOT NULL,
    sequence {int} NOT NULL,
    event_id {uuid} NOT NULL,
    attempts {int} NOT NULL,
    next_try_at {time} NOT NULL,
    settled_at {time},
    outcome TEXT,
    PRIMARY KEY (webhook_id, lane, sequence)
) {clustered};
CREATE INDEX webhook_deliveries_waiting ON webhook_deliveries (webhook_id, lane, sequence) WHERE settled_at IS NULL;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_try_at) WHERE settled_at IS NULL;
CREATE INDEX webhook_deliveries_by_event ON webhook_deliveries (event_id);
CREATE INDEX webhook_deliveries_settled ON webhook_deliveries (settled_at) WHERE settled_at IS NOT NULL;
CREATE TABLE webhook_attempts (
    attempt_id {uuid} PRIMARY KEY,
    webhook_id {uuid} NOT NULL,
    event_id {uuid} NOT NULL,
    name TEXT NOT NULL,
    number {int} NOT NULL,
    at {time} NOT NULL,
    took_ms {int} NOT NULL,
    status {int},
    error TEXT,
    outcome TEXT NOT NULL,
    next_try_at {time}
) {strict};
CREATE INDEX webhook_attempts_by_webhook ON webhook_attempts (webhook_id, attempt_id);
CREATE INDEX webhook_attempts_by_age ON webhook_attempts (at);
