-- offboarding in steps, each written before it is acted on: who is at it, when it is taken up again, what is kept of the export.
CREATE TABLE offboardings (
    tenant_id {uuid} PRIMARY KEY REFERENCES tenants,
    actor TEXT NOT NULL,
    status TEXT NOT NULL,
    -- Whether the tenant was ever in use: one that was not owes nothing.
    used {bool} NOT NULL,
    -- Grows with each claim; who holds an older number has lost it.
    claims {int} NOT NULL,
    leased_until {time},
    next_try_at {time},
    -- Of which claim the pieces of the kept export are; null when none is kept.
    export_claim {int},
    export_until {time},
    -- Until when it is remembered who its people were, for an erasure to find what is about them.
    people_until {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE INDEX offboardings_due ON offboardings (next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX offboardings_exports ON offboardings (export_until) WHERE export_claim IS NOT NULL;
CREATE INDEX offboardings_people ON offboardings (people_until) WHERE people_until IS NOT NULL;
CREATE TABLE offboarding_steps (
    tenant_id {uuid} NOT NULL REFERENCES offboardings,
    position {int} NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts {int} NOT NULL,
    error TEXT,
    next_try_at {time},
    started_at {time},
    ended_at {time},
    PRIMARY KEY (tenant_id, position)
) {strict};
CREATE TABLE offboarding_people (
    tenant_id {uuid} NOT NULL,
    -- Null of somebody who was invited and never came.
    user_id {uuid},
    email_key TEXT NOT NULL,
    PRIMARY KEY (tenant_id, email_key)
) {strict};
-- The export, sealed, in pieces.
CREATE TABLE kept_exports (
    tenant_id {uuid} NOT NULL,
    claim {int} NOT NULL,
    number {int} NOT NULL,
    sealed {bytes} NOT NULL,
    PRIMARY KEY (tenant_id, claim, number)
) {strict};
-- Certificates of erasures, as they were signed.
CREATE TABLE erasures (
    subject {uuid} PRIMARY KEY,
    erased_at {time} NOT NULL,
    certificate TEXT NOT NULL
) {strict};

-- What an older version left in the middle begins anew after its suspension; what a registration takes back it ends itself.
INSERT INTO offboardings (tenant_id, actor, status, used, claims, next_try_at, created_at, updated_at)
    SELECT tenant_id, 'job:offboarding', 'running', TRUE, 0, updated_at, updated_at, updated_at FROM tenants t
    WHERE status = 'offboarding' AND NOT EXISTS
        (SELECT 1 FROM registrations r WHERE r.tenant_id = t.tenant_id AND r.undoing AND r.next_try_at IS NOT NULL);
INSERT INTO offboarding_steps (tenant_id, position, name, status, attempts)
    SELECT o.tenant_id, s.position, s.name, CASE s.position WHEN 0 THEN 'done' ELSE 'pending' END, 0
    FROM offboardings o CROSS JOIN (
        SELECT 0 AS position, 'suspend' AS name UNION ALL SELECT 1, 'final_invoice' UNION ALL SELECT 2, 'export'
        UNION ALL SELECT 3, 'infrastructure' UNION ALL SELECT 4, 'account' UNION ALL SELECT 5, 'people'
        UNION ALL SELECT 6, 'tombstone') s;
