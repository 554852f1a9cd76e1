-- What the webhook driver asked for: answered by a call that may come to any node, and long after the asking.
CREATE TABLE provisioning_requests (
    request_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL,
    isolation TEXT NOT NULL,
    -- apply or destroy.
    verb TEXT NOT NULL,
    asked_at {time} NOT NULL,
    answered_at {time},
    succeeded {bool},
    -- What was made, as JSON, sealed; or why it failed.
    sealed {bytes}
) {strict};

CREATE INDEX provisioning_requests_by_tenant ON provisioning_requests (tenant_id, isolation, verb);
