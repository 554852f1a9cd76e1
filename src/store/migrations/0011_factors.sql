-- identity: second factors. A secret is sealed under the key file; a code of a time step counts once.
CREATE TABLE totp_factors (
    user_id {uuid} PRIMARY KEY,
    sealed_secret {bytes} NOT NULL,
    confirmed_at {time},
    last_step {int} NOT NULL,
    created_at {time} NOT NULL
) {strict};
CREATE TABLE recovery_codes (
    user_id {uuid} NOT NULL,
    code_hash {bytes} NOT NULL,
    used_at {time},
    PRIMARY KEY (user_id, code_hash)
) {strict};
CREATE TABLE passkeys (
    passkey_id {uuid} PRIMARY KEY,
    user_id {uuid} NOT NULL,
    credential_id {bytes} NOT NULL UNIQUE,
    name TEXT NOT NULL,
    passkey TEXT NOT NULL,
    created_at {time} NOT NULL,
    used_at {time}
) {strict};
CREATE INDEX passkeys_user ON passkeys (user_id);
-- What a browser was asked to sign, sealed, until it answers; once.
CREATE TABLE passkey_challenges (
    secret_hash {bytes} PRIMARY KEY,
    purpose TEXT NOT NULL,
    user_id {uuid} NOT NULL,
    sealed_state {bytes} NOT NULL,
    expires_at {time} NOT NULL
) {strict};

-- A browser that gave the password and owes the second factor; it becomes another one when it has it.
CREATE TABLE pending_browsers (
    secret_hash {bytes} PRIMARY KEY,
    user_id {uuid} NOT NULL,
    expires_at {time} NOT NULL
) {strict};
-- By what a person proved who they are (RFC 8176), space-separated.
ALTER TABLE browsers ADD COLUMN amr TEXT;
ALTER TABLE sessions ADD COLUMN amr TEXT;
ALTER TABLE authorization_codes ADD COLUMN amr TEXT;
CREATE INDEX browsers_user ON browsers (user_id);
-- When a session's tokens were last renewed.
ALTER TABLE sessions ADD COLUMN renewed_at {time};
