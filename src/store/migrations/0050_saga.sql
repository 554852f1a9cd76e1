-- onboarding as a saga: what its steps work from until it ends, who is at it, and when it is taken up again.
ALTER TABLE registrations ADD COLUMN intent TEXT;
ALTER TABLE registrations ADD COLUMN request_key {bytes};
ALTER TABLE registrations ADD COLUMN undoing {bool} NOT NULL DEFAULT {false};
ALTER TABLE registrations ADD COLUMN founds {bool} NOT NULL DEFAULT {false};
ALTER TABLE registrations ADD COLUMN joined {bool} NOT NULL DEFAULT {false};
-- Grows with each claim; who holds an older number has lost it.
ALTER TABLE registrations ADD COLUMN claims {int} NOT NULL DEFAULT 0;
ALTER TABLE registrations ADD COLUMN leased_until {time};
ALTER TABLE registrations ADD COLUMN next_try_at {time};
CREATE INDEX registrations_due ON registrations (next_try_at) WHERE next_try_at IS NOT NULL;
CREATE UNIQUE INDEX registrations_key ON registrations (request_key) WHERE request_key IS NOT NULL;
ALTER TABLE registration_steps ADD COLUMN next_try_at {time};
ALTER TABLE registration_steps ADD COLUMN started_at {time};
ALTER TABLE registration_steps ADD COLUMN ended_at {time};
-- What an older version left unfinished had its facts, and waits for its infrastructure.
UPDATE registrations SET next_try_at = updated_at WHERE status = 'running';
INSERT INTO registration_steps (registration_id, position, name, status, attempts)
    SELECT registration_id, 4, 'activation',
           CASE status WHEN 'active' THEN 'done' WHEN 'compensated' THEN 'undone' ELSE 'pending' END,
           CASE status WHEN 'active' THEN 1 ELSE 0 END
    FROM registrations;

-- Whose people may join a tenant by their email's domain.
CREATE TABLE tenant_domains (
    tenant_id {uuid} NOT NULL REFERENCES tenants,
    domain TEXT NOT NULL,
    created_at {time} NOT NULL,
    PRIMARY KEY (tenant_id, domain)
) {strict};
