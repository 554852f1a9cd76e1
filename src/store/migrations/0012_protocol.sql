-- Which browser a sign-in came out of, and which sign-in it was switched from.
ALTER TABLE browsers ADD COLUMN browser_id {uuid};
ALTER TABLE sessions ADD COLUMN browser_id {uuid};
ALTER TABLE sessions ADD COLUMN parent_id {uuid};
CREATE INDEX sessions_browser ON sessions (browser_id);
CREATE INDEX sessions_parent ON sessions (parent_id);

-- When the session's client is to be told that it is over; nothing when it need not be, or has been. This is the outbox of
-- back-channel logout: whoever ends a session has put it there.
ALTER TABLE sessions ADD COLUMN logout_due_at {time};
ALTER TABLE sessions ADD COLUMN logout_attempts {int};
CREATE INDEX sessions_logout_due ON sessions (logout_due_at) WHERE ended_at IS NOT NULL AND logout_due_at IS NOT NULL;

-- Whether the request for a code named its redirect URI; if so, its redemption must.
ALTER TABLE authorization_codes ADD COLUMN redirect_uri_given {bool};
ALTER TABLE authorization_codes ADD COLUMN browser_id {uuid};

-- Authorization requests that were pushed (RFC 9126), as forms. Taken once.
CREATE TABLE pushed_requests (
    request_hash {bytes} PRIMARY KEY,
    client_id {uuid} NOT NULL,
    params TEXT NOT NULL,
    expires_at {time} NOT NULL
) {strict};

-- Devices that wait for a person (RFC 8628).
CREATE TABLE device_grants (
    device_hash {bytes} PRIMARY KEY,
    user_code_hash {bytes} NOT NULL UNIQUE,
    client_id {uuid} NOT NULL,
    scope TEXT NOT NULL,
    status TEXT NOT NULL,
    user_id {uuid},
    tenant_id {uuid},
    browser_id {uuid},
    authenticated_at {time},
    amr TEXT,
    interval_s {int} NOT NULL,
    polled_at {time},
    expires_at {time} NOT NULL
) {strict};
-- Codes that a person entered and that were none.
CREATE TABLE device_guesses (
    user_id {uuid} PRIMARY KEY,
    misses {int} NOT NULL,
    since {time} NOT NULL
) {strict};

-- What lets somebody register clients (RFC 7591 section 3).
CREATE TABLE initial_access_tokens (
    token_id {uuid} PRIMARY KEY,
    token_hash {bytes} NOT NULL UNIQUE,
    tenant_id {uuid},
    uses_left {int} NOT NULL,
    expires_at {time} NOT NULL,
    created_at {time} NOT NULL
) {strict};
