-- tenants: who they are, their state and tier.
CREATE TABLE tenants (
    tenant_id {uuid} PRIMARY KEY,
    customer_name TEXT NOT NULL,
    external_id TEXT,
    tier TEXT NOT NULL,
    status TEXT NOT NULL,
    status_detail TEXT,
    revision {int} NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    deleted_at {time}
) {strict};
CREATE UNIQUE INDEX tenants_customer_name ON tenants (customer_name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX tenants_external_id ON tenants (external_id) WHERE deleted_at IS NULL;
CREATE INDEX tenants_updated_at ON tenants (updated_at);

-- Which tier a tenant had since when: what a bill of a past period needs.
CREATE TABLE tenant_tiers (
    tenant_id {uuid} NOT NULL REFERENCES tenants,
    since {time} NOT NULL,
    tier TEXT NOT NULL,
    PRIMARY KEY (tenant_id, since)
) {strict};

-- users: people and what they may do where.
CREATE TABLE users (
    user_id {uuid} PRIMARY KEY,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    platform_admin {bool} NOT NULL,
    created_at {time} NOT NULL
) {strict};
CREATE TABLE memberships (
    tenant_id {uuid} NOT NULL REFERENCES tenants,
    user_id {uuid} NOT NULL REFERENCES users,
    role TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at {time} NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) {strict};
CREATE INDEX memberships_user ON memberships (user_id);

-- identity: passwords, keys, sessions, machine clients.
CREATE TABLE credentials (
    user_id {uuid} PRIMARY KEY,
    password_hash TEXT NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    algorithm TEXT NOT NULL,
    public_jwk TEXT NOT NULL,
    sealed_private {bytes} NOT NULL,
    created_at {time} NOT NULL,
    retired_at {time}
) {strict};
CREATE TABLE sessions (
    session_id {uuid} PRIMARY KEY,
    user_id {uuid} NOT NULL,
    tenant_id {uuid},
    scope TEXT NOT NULL,
    created_at {time} NOT NULL,
    ended_at {time},
    end_reason TEXT
) {strict};
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_tenant ON sessions (tenant_id);
CREATE TABLE refresh_tokens (
    token_hash {bytes} PRIMARY KEY,
    session_id {uuid} NOT NULL REFERENCES sessions,
    issued_at {time} NOT NULL,
    expires_at {time} NOT NULL,
    used_at {time}
) {strict};
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE TABLE clients (
    client_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants,
    client_name TEXT NOT NULL,
    scope TEXT NOT NULL,
    secret_hash {bytes} NOT NULL,
    created_at {time} NOT NULL
) {strict};
CREATE INDEX clients_tenant ON clients (tenant_id);

CREATE TABLE revocations (
    subject TEXT PRIMARY KEY,
    revoked_at {time} NOT NULL
) {strict};

-- onboarding: sagas and how far each step came.
CREATE TABLE registrations (
    registration_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL,
    user_id {uuid} NOT NULL,
    email TEXT,
    customer_name TEXT NOT NULL,
    tier TEXT NOT NULL,
    status TEXT NOT NULL,
    notes TEXT NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE INDEX registrations_tenant ON registrations (tenant_id);
CREATE INDEX registrations_status ON registrations (status);
CREATE TABLE registration_steps (
    registration_id {uuid} NOT NULL REFERENCES registrations,
    position {int} NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts {int} NOT NULL,
    error TEXT,
    PRIMARY KEY (registration_id, position)
) {strict};

-- billing: accounts and versioned plans.
CREATE TABLE billing_accounts (
    account_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL UNIQUE,
    billing_address TEXT NOT NULL,
    currency TEXT NOT NULL,
    opened_at {time} NOT NULL,
    closed_at {time}
) {strict};
CREATE TABLE plans (
    tier TEXT NOT NULL,
    version {int} NOT NULL,
    effective_from {time} NOT NULL,
    body TEXT NOT NULL,
    created_at {time} NOT NULL,
    PRIMARY KEY (tier, version)
) {strict};
CREATE TABLE tenant_quotas (
    tenant_id {uuid} PRIMARY KEY,
    quotas TEXT NOT NULL,
    updated_at {time} NOT NULL
) {strict};

-- provisioning: what was made for whom.
CREATE TABLE infrastructure (
    infrastructure_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL UNIQUE,
    isolation TEXT NOT NULL,
    driver TEXT NOT NULL,
    location TEXT NOT NULL,
    created_at {time} NOT NULL
) {strict};

-- Places that were left and are still to be taken down.
CREATE TABLE infrastructure_leftovers (
    tenant_id {uuid} NOT NULL,
    isolation TEXT NOT NULL,
    driver TEXT NOT NULL,
    location TEXT NOT NULL,
    PRIMARY KEY (tenant_id, isolation, driver)
) {strict};

-- metering: totals, and which processes wrote journals, and how far each has gone into them.
CREATE TABLE journal_starts (
    node_id {uuid} NOT NULL,
    epoch {int} NOT NULL,
    boot {uuid} NOT NULL,
    started_at {time} NOT NULL,
    PRIMARY KEY (node_id, epoch)
) {strict};
CREATE TABLE journal_cursors (
    boot {uuid} PRIMARY KEY,
    seq {int} NOT NULL,
    hash {bytes} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
-- A writer (a process, by its boot nonce) owns its rows and replaces them. `unit`: 0 minute, 1 hour, 2 day, 3 month.
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
) {strict};

-- Meters of events; the stock meters are in the program.
CREATE TABLE meters (
    id {uuid} PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    event_type TEXT NOT NULL,
    aggregation TEXT NOT NULL,
    value_property TEXT,
    group_by TEXT NOT NULL,
    created_at {time} NOT NULL
) {strict};
-- `key` is the identity of (tenant, source, id); `arrival` orders what came at the same time.
CREATE TABLE events (
    key {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    at_ns {int} NOT NULL,
    arrival {int} NOT NULL,
    body TEXT NOT NULL,
    digest {bytes} NOT NULL,
    voided_at {time}
) {strict};
CREATE INDEX events_by_time ON events (tenant_id, type, at_ns);
CREATE INDEX events_by_id ON events (id);
-- Who took an event back, why, and what stands in its place.
CREATE TABLE usage_corrections (
    id {uuid} PRIMARY KEY,
    event_key {uuid} NOT NULL,
    replacement_key {uuid},
    reason TEXT NOT NULL,
    corrected_by TEXT NOT NULL,
    corrected_at {time} NOT NULL
) {strict};
-- What came to, or was taken out of, a month that was closed by then.
CREATE TABLE usage_adjustments (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL,
    meter TEXT NOT NULL,
    month {time} NOT NULL,
    grp TEXT NOT NULL,
    n {int} NOT NULL,
    total {decimal} NOT NULL,
    made_at {time} NOT NULL
) {strict};
CREATE INDEX usage_adjustments_by_month ON usage_adjustments (tenant_id, meter, month);

-- web: first answers to requests that carried an Idempotency-Key.
CREATE TABLE idempotency_keys (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    digest {bytes} NOT NULL,
    claimed_at {time} NOT NULL,
    answer TEXT,
    PRIMARY KEY (owner, key)
) {strict};
