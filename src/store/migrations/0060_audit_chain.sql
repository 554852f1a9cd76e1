-- From which address somebody acted, and what was there before and after, as JSON.
ALTER TABLE audit ADD COLUMN address TEXT;
ALTER TABLE audit ADD COLUMN before TEXT;
ALTER TABLE audit ADD COLUMN after TEXT;
-- The place in the chain, the hash of what may be personal, and the hash of all and of the entry before; null until it is sealed.
ALTER TABLE audit ADD COLUMN serial {int};
ALTER TABLE audit ADD COLUMN digest {bytes};
ALTER TABLE audit ADD COLUMN hash {bytes};
CREATE UNIQUE INDEX audit_serial ON audit (serial);
CREATE INDEX audit_unsealed ON audit (audit_id) WHERE serial IS NULL;
-- The end of the chain, and where what is kept of it begins.
CREATE TABLE audit_chain (
    id {int} PRIMARY KEY,
    serial {int} NOT NULL,
    hash {bytes} NOT NULL,
    forgotten_serial {int} NOT NULL,
    forgotten_hash {bytes} NOT NULL
) {strict};
-- only sqlite
INSERT INTO audit_chain VALUES (1, 0, zeroblob(32), 0, zeroblob(32));
-- A sealed entry stays as it is, but for what is personal, which can be taken out.
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit WHEN OLD.serial IS NOT NULL AND NOT (
    NEW.audit_id = OLD.audit_id AND NEW.at = OLD.at AND NEW.actor = OLD.actor AND NEW.action = OLD.action
    AND NEW.tenant_id IS OLD.tenant_id AND NEW.subject = OLD.subject AND NEW.serial = OLD.serial
    AND NEW.digest = OLD.digest AND NEW.hash = OLD.hash
    AND NEW.address IS NULL AND NEW.detail IS NULL AND NEW.before IS NULL AND NEW.after IS NULL)
BEGIN SELECT RAISE(ABORT, 'a sealed entry of the audit is not changed'); END;
-- only postgres
INSERT INTO audit_chain VALUES (1, 0, decode(repeat('00', 32), 'hex'), 0, decode(repeat('00', 32), 'hex'));
CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.serial IS NOT NULL AND NOT (
        NEW.audit_id = OLD.audit_id AND NEW.at = OLD.at AND NEW.actor = OLD.actor AND NEW.action = OLD.action
        AND NEW.tenant_id IS NOT DISTINCT FROM OLD.tenant_id AND NEW.subject = OLD.subject AND NEW.serial = OLD.serial
        AND NEW.digest = OLD.digest AND NEW.hash = OLD.hash
        AND NEW.address IS NULL AND NEW.detail IS NULL AND NEW.before IS NULL AND NEW.after IS NULL)
    THEN RAISE EXCEPTION 'a sealed entry of the audit is not changed';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION audit_stays();
-- both
