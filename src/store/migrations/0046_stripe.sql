-- Whether Stripe is left alone because it refused us, and from when on usage goes there. One row.
CREATE TABLE stripe_state (
    id {int} PRIMARY KEY,
    halted_at {time},
    halted_why TEXT,
    usage_since {time}
) {strict};
INSERT INTO stripe_state (id) VALUES (1);

-- A tenant's lane: what goes to Stripe about it goes in order, one call at a time.
CREATE TABLE stripe_tenants (
    tenant_id {uuid} PRIMARY KEY,
    -- The place of the last job.
    last {int} NOT NULL,
    -- What Stripe calls it, once it is known there.
    customer TEXT,
    -- Of what the last job about the customer says.
    digest {bytes},
    -- Whoever makes a call holds the lane until then.
    claimed_until {time},
    sent_at {time}
) {strict};

CREATE TABLE stripe_jobs (
    tenant_id {uuid} NOT NULL,
    sequence {int} NOT NULL,
    kind TEXT NOT NULL,
    -- What it is about: with its kind, there is one job about it.
    subject TEXT NOT NULL,
    -- How far it is.
    step {int} NOT NULL,
    -- What Stripe calls what was made.
    remote TEXT,
    -- Which idempotency key of the step is in use, and since when; null while the step was not tried.
    generation {int} NOT NULL,
    tried_at {time},
    -- 1 while it must be looked up whether the step was done.
    in_doubt {int} NOT NULL,
    attempts {int} NOT NULL,
    next_try_at {time} NOT NULL,
    error TEXT,
    parked_at {time},
    settled_at {time},
    outcome TEXT,
    created_at {time} NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
) {clustered};
CREATE UNIQUE INDEX stripe_jobs_by_subject ON stripe_jobs (kind, subject);
CREATE INDEX stripe_jobs_open ON stripe_jobs (tenant_id, sequence) WHERE settled_at IS NULL;
CREATE INDEX stripe_jobs_settled ON stripe_jobs (settled_at) WHERE settled_at IS NOT NULL;

-- Meter events: what an hour's events come to, but for the cancelled ones, is what Stripe has of it.
CREATE TABLE stripe_usage (
    tenant_id {uuid} NOT NULL,
    meter TEXT NOT NULL,
    hour {time} NOT NULL,
    revision {int} NOT NULL,
    -- Stripe's name of the meter's events.
    event TEXT NOT NULL,
    value {int} NOT NULL,
    sent_at {time},
    cancelled {int} NOT NULL,
    PRIMARY KEY (tenant_id, meter, hour, revision)
) {clustered};
CREATE INDEX stripe_usage_by_hour ON stripe_usage (hour);
