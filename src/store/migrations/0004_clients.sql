-- Clients of people as well as of machines: a client may be every tenant's, and may have no secret.
ALTER TABLE clients RENAME TO clients_before;
DROP INDEX clients_tenant;
CREATE TABLE clients (
    client_id {uuid} PRIMARY KEY,
    tenant_id {uuid} REFERENCES tenants,
    client_name TEXT NOT NULL,
    scope TEXT NOT NULL,
    secret_hash {bytes},
    metadata TEXT NOT NULL,
    created_at {time} NOT NULL
) {strict};
INSERT INTO clients (client_id, tenant_id, client_name, scope, secret_hash, metadata, created_at)
    SELECT client_id, tenant_id, client_name, scope, secret_hash, '{"grant_types":["client_credentials"]}', created_at
    FROM clients_before;
DROP TABLE clients_before;
CREATE INDEX clients_tenant ON clients (tenant_id);

-- The client a sign-in is with; none for our own pages and JSON sign-in. When the person proved who they are.
ALTER TABLE sessions ADD COLUMN client_id {uuid};
ALTER TABLE sessions ADD COLUMN authenticated_at {time};

-- A person signed in to our pages with a browser.
CREATE TABLE browsers (
    secret_hash {bytes} PRIMARY KEY,
    user_id {uuid} NOT NULL,
    authenticated_at {time} NOT NULL,
    expires_at {time} NOT NULL
) {strict};

-- Authorization codes, as keyed hashes. The session is made when the code is redeemed, under the id that is noted here.
CREATE TABLE authorization_codes (
    code_hash {bytes} PRIMARY KEY,
    client_id {uuid} NOT NULL,
    session_id {uuid} NOT NULL,
    user_id {uuid} NOT NULL,
    tenant_id {uuid},
    redirect_uri TEXT NOT NULL,
    code_challenge TEXT,
    nonce TEXT,
    scope TEXT NOT NULL,
    authenticated_at {time} NOT NULL,
    expires_at {time} NOT NULL,
    used_at {time}
) {strict};

-- What a person has allowed a client.
CREATE TABLE consents (
    user_id {uuid} NOT NULL,
    client_id {uuid} NOT NULL,
    scope TEXT NOT NULL,
    granted_at {time} NOT NULL,
    PRIMARY KEY (user_id, client_id)
) {strict};
