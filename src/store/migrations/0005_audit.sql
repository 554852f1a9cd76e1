-- Who did what. Written with the act, never changed.
CREATE TABLE audit (
    audit_id {uuid} PRIMARY KEY,
    at {time} NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    tenant_id {uuid},
    subject TEXT NOT NULL,
    detail TEXT
) {strict};
CREATE INDEX audit_tenant ON audit (tenant_id, audit_id);
CREATE INDEX audit_subject ON audit (subject, audit_id);
