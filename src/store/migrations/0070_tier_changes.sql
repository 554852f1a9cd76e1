-- A change of a tenant's tier, step by step, and who is at it.
CREATE TABLE tier_changes (
    change_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants,
    from_tier TEXT NOT NULL,
    to_tier TEXT NOT NULL,
    -- running, done, kept (done, and the old place is kept), undone
    status TEXT NOT NULL,
    undoing {bool} NOT NULL,
    actor TEXT NOT NULL,
    -- Where the tenant goes from and to, what was carried, and the steps, each as JSON.
    way TEXT NOT NULL,
    carried TEXT,
    steps TEXT NOT NULL,
    switched_at {time},
    -- Grows with each claim; who holds an older number has lost it.
    claims {int} NOT NULL,
    leased_until {time},
    next_try_at {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE UNIQUE INDEX tier_changes_running ON tier_changes (tenant_id) WHERE status = 'running';
CREATE INDEX tier_changes_due ON tier_changes (next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX tier_changes_tenant ON tier_changes (tenant_id, change_id);
