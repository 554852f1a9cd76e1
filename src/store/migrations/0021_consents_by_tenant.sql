-- A person allows a client what it may do in one tenant. What was allowed before named none, and counts for none: they are asked
-- once more.
DROP TABLE consents;
CREATE TABLE consents (
    user_id {uuid} NOT NULL,
    client_id {uuid} NOT NULL,
    tenant_id {uuid} NOT NULL,
    scope TEXT NOT NULL,
    granted_at {time} NOT NULL,
    PRIMARY KEY (user_id, client_id, tenant_id)
) {strict};
