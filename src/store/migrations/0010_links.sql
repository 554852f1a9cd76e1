-- identity: links that were sent to people, as keyed hashes. `user_id` may be nobody's: a reset for an unknown email does
-- the same work.
CREATE TABLE reset_links (
    token_hash {bytes} PRIMARY KEY,
    user_id {uuid} NOT NULL,
    created_at {time} NOT NULL,
    expires_at {time} NOT NULL,
    used_at {time}
) {strict};
CREATE INDEX reset_links_user ON reset_links (user_id);

-- onboarding: sign-ups whose email is not verified yet. Nothing else of them exists.
CREATE TABLE sign_ups (
    token_hash {bytes} PRIMARY KEY,
    request TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at {time} NOT NULL,
    expires_at {time} NOT NULL,
    used_at {time}
) {strict};

-- onboarding: invitations to a tenant.
CREATE TABLE invitations (
    invitation_id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL,
    role TEXT NOT NULL,
    token_hash {bytes} NOT NULL UNIQUE,
    invited_by TEXT NOT NULL,
    created_at {time} NOT NULL,
    expires_at {time} NOT NULL,
    accepted_at {time},
    revoked_at {time}
) {strict};
CREATE INDEX invitations_tenant ON invitations (tenant_id, invitation_id);
